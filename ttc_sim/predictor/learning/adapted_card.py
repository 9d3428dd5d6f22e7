"""What came of adapting a predictor, and what its card says of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttc_sim.measured.provenance import ScoredBy
from ttc_sim.predictor.judging.card_figures import read_card
from ttc_sim.predictor.learning.card import written_card
from ttc_sim.predictor.learning.shifting import COMMON, GATE, TOKEN_VARIANCE, VARIANCE, LeftOut

METHOD = (
    "near the examples, log-odds of a right answer and logarithms of output tokens are shifted: by a Gaussian process over the "
    f"likeness of prompts, shared by the graded models, and by a shift of each model's own (prior variance {VARIANCE:g} each, of "
    f"tokens {TOKEN_VARIANCE:g}). Not at all where something trained on is nearer than every example, in full where an example is "
    f"nearer by a cosine of {GATE:g}; not at all where the text has less than {COMMON[0]:g} times as much in common with the "
    f"examples as nine tenths of them have with each other, in full from {COMMON[1]:g} times. Where nothing moves, scores have the "
    "bits that they had. Novelty is what it was"
)
WHOSE = (
    "metrics and scores on this card are of the predictor before it was adapted, and hold where it says what that said"
)


@dataclass(frozen=True)
class Learnt:
    """What examples of one task type came to.

    Attributes:
        task_type: its name; examples: different prompts; attempts: at them.
        models: heads that were graded; one_sided: those of them with right or with wrong attempts alone.
        counted: heads whose output tokens were counted.
        familiar: examples like what the predictor was trained on: of a novelty below 0.5.
        repeated: examples that lie where one of an earlier adaptation does.
        judged: the examples, each by a shift that was learnt without it.
        shift: of the log-odds at the examples, mean over them and the graded models; token_factor: mean factor on tokens there.
    """

    task_type: str
    examples: int
    attempts: int
    models: tuple[str, ...]
    one_sided: tuple[str, ...]
    counted: tuple[str, ...]
    familiar: int
    repeated: int
    judged: LeftOut
    shift: float
    token_factor: float

    def as_json(self) -> dict[str, object]:
        """Plain mapping, rounded as cards are."""
        judged = self.judged
        return {
            "examples": self.examples,
            "attempts": self.attempts,
            "models": list(self.models),
            **({"one_outcome_only": list(self.one_sided)} if self.one_sided else {}),
            "familiar_examples": self.familiar,
            **({"examples_repeated": self.repeated} if self.repeated else {}),
            "examples_left_out_in_turn": {
                "brier_before": round(judged.before, 4),
                "brier_after": round(judged.after, 4),
                "gate_open": round(judged.opened, 4),
            },
            "mean_shift_of_log_odds": round(self.shift, 4),
            **({"mean_factor_on_tokens": round(self.token_factor, 4)} if self.counted else {}),
        }


@dataclass(frozen=True)
class Adapted:
    """An adapted predictor.

    Attributes:
        base: that it was made of; made: what it is now; times: how often it was adapted, this time included.
        learnt: by task type; unchanged: heads that were not graded; notes: what else a reader must know.
    """

    base: ScoredBy
    made: ScoredBy
    times: int
    learnt: tuple[Learnt, ...]
    unchanged: tuple[str, ...]
    notes: tuple[str, ...]


def adapted_card(base: Path, adapted: Adapted, data: str, licence: str) -> str:
    """The card of an adapted predictor: its base's, and under ``adapted`` what was done the first, second ... time.

    Args:
        base: file of the predictor that was adapted; data: where the examples come from, and their licence.

    Raises:
        InputError: the base's card is no YAML.
    """
    card: dict[str, Any] = dict(read_card(base) or {"model": "no card stood beside the predictor that was adapted"})
    entry = {
        "of": adapted.base.name,
        "of_sha256": adapted.base.sha256,
        "data": data,
        "licence_of_data": licence,
        "method": METHOD,
        "whose_figures": WHOSE,
        "task_types": {one.task_type: one.as_json() for one in adapted.learnt},
        "models_unchanged": list(adapted.unchanged),
        "notes": list(adapted.notes),
    }
    before = card.pop("adapted", None)
    times = {**(before if isinstance(before, dict) else {}), adapted.times: entry}
    return written_card({"adapted": times, **card})


__all__ = ["Adapted", "Learnt", "adapted_card"]
