"""Have a predictor's scores or its calibration moved since the data that it is known to fit?

Scores: recent prompts' scores against a reference's, by the two-sample Kolmogorov-Smirnov test (at some of its quantiles, where
a card is all that is known of the reference); how far they moved is said as the population stability index (PSI) over the
reference's deciles, where by custom less than 0.1 is small and more than 0.25 is large. Calibration, where outcomes are known
(Cox, 1958, "Two further applications of a model for binary regression"): outcomes are regressed on the logit of the predicted
probability, and intercept (slope held at 1: calibration in the large) and slope are compared with the reference's, by Wald tests
whose variances allow for repeated attempts at one prompt. All p-values together are corrected by Holm's method: if nothing has
moved, the chance of an alarm is at most ``alpha``, however many scores are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import expit, logit, ndtr
from scipy.stats import ks_2samp

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.threads import one_thread
from ttc_sim.files.opening import is_file
from ttc_sim.measured.folders import list_profiles
from ttc_sim.policies import DIFFICULTY, NOVELTY
from ttc_sim.predictor import Predictor
from ttc_sim.predictor.judging.card_figures import card_figures, card_scores
from ttc_sim.predictor.judging.logs import Outcomes, Sample, join, read_log, shipped_sample
from ttc_sim.predictor.judging.metrics import Bootstrap, Quality, clusters_of, quality
from ttc_sim.predictor.judging.score_quantiles import DIGITS, CardScores, Quantiles, kolmogorov_smirnov
from ttc_sim.predictor.running.session import is_tier, model_path

FEWEST = 30
"""Prompts, and outcomes of a model, below which nothing is tested."""
FIRM = 1000
"""Problems in training from which on scores in a card were found to be like the predictor's own (docs/predictor-evaluation.md)."""
ALPHA = 0.05
_LEARNT = (
    "scores of the shipped problems are those of models that have not seen them: prompts that the shipped predictor was trained "
    "on get surer ones, and seem to have moved"
)
_EDGE = 1e-4  # a probability nearer to 0 or 1 than this would make one outcome outweigh all others


@dataclass(frozen=True)
class Test:
    """One comparison.

    Attributes:
        what: ``scores``, ``calibration in the large`` or ``calibration slope``; of: the score or the model.
        reference, now: mean score, intercept in logits, or slope.
        psi: population stability index; ``None`` for calibration.
        p_value: of this test alone; adjusted: by Holm's method over all.
    """

    what: str
    of: str
    reference: float
    now: float
    psi: float | None
    p_value: float
    adjusted: float = float("nan")


@dataclass(frozen=True)
class Drift:
    """What :func:`check_drift` found; ``now`` and ``reference`` hold Brier score, AUROC and calibration error by model."""

    tests: tuple[Test, ...]
    alpha: float
    prompts: int
    reference_prompts: int
    origin: str
    now: Mapping[str, Quality]
    reference: Mapping[str, Quality]
    notes: tuple[str, ...]

    @property
    def moved(self) -> tuple[Test, ...]:
        """Tests that found something."""
        return tuple(test for test in self.tests if test.adjusted < self.alpha)

    @property
    def verdict(self) -> str:
        """One line."""
        if not self.moved:
            return f"not moved: none of {len(self.tests)} comparisons differs at the {self.alpha:.0%} level, all taken together"
        parts = [f"{test.what} of {test.of}" for test in self.moved]
        return "moved: " + ", ".join(parts)

    def as_json(self) -> dict[str, object]:
        """Plain mapping for JSON."""
        return {
            "moved": bool(self.moved),
            "verdict": self.verdict,
            "alpha": self.alpha,
            "prompts": self.prompts,
            "reference": {"origin": self.origin, "prompts": self.reference_prompts},
            "tests": [{**asdict(test), "moved": test.adjusted < self.alpha} for test in self.tests],
            "calibration": {
                model: {
                    when: {name: asdict(getattr(found, name)) for name in ("auroc", "brier", "calibration_error")}
                    for when, found in (("now", found), ("reference", self.reference.get(model)))
                    if found is not None
                }
                for model, found in self.now.items()
            },
            "notes": list(self.notes),
        }


@one_thread()
def check_drift(
    logs: Sequence[str | Path],
    *,
    reference: str | Path | None = None,
    model: str | Path | None = None,
    alpha: float = ALPHA,
) -> Drift:
    """Compare recent logs with a reference.

    Args:
        logs: tables (Parquet, CSV or JSONL) of requests: a prompt, and where known ``model`` and ``correct``.
        reference: an earlier log, an earlier table of scores that ``ttc-sim predictor score`` wrote, or the name of a
            shipped problem set. If left out: the shipped sets together for the shipped predictor; for another one, scores are
            compared with the quantiles in its card, and calibration with perfect calibration. A card of several training
            sets has no such quantiles: it knows each set's own scores, and the predictor says how hard and how novel a
            prompt is by the set nearest to it.
        model: ONNX file, or ``"fast"`` or ``"encoder"`` of the shipped ones; the fast one if left out.
        alpha: chance of a false alarm, over all comparisons.

    Raises:
        InputError: tables that cannot be used, or too little in them to test anything.
    """
    predictor = Predictor.load(model)
    notes: list[str] = []
    now = join([read_log(path, predictor, notes) for path in logs])
    if now.prompts < FEWEST:
        raise InputError(logs[0], "prompts", now.prompts, f"at least {FEWEST} different prompts")
    before = _reference(reference, predictor, model, notes)
    found = compare(now, before, alpha=alpha, notes=notes)
    card = card_figures(model_path(model))
    from_card = [
        f"{head}: by the predictor's card, {', '.join(f'{name} {card[head][name]:.3f}' for name in card[head])}"
        for head in found.now
        if head in card
    ]
    found = replace(found, notes=(*found.notes, *from_card))
    if not found.tests:
        expected = "--reference (earlier scores or logs), or a model and its outcomes in the logs"
        raise InputError(logs[0], "reference", None, expected)
    return found


@one_thread()
def compare(
    now: Sample,
    before: Sample | CardScores | None,
    *,
    alpha: float = ALPHA,
    notes: Sequence[str] = (),
    resamples: int = 400,
) -> Drift:
    """Test all that two samples have in common; without a reference, calibration against perfect calibration.

    Args:
        before: the reference; outcomes too, if it is a sample.
        notes: to pass on; resamples: for the intervals of Brier score, AUROC and calibration error, which no test rests on.
    """
    tests, said = [], list(notes)
    if before is not None and before.prompts >= FEWEST:
        used = {f"p:{model}" for model in now.outcomes}
        common = [name for name in now.scores if name in before.scores]
        shown = [name for name in common if name in (DIFFICULTY, NOVELTY) or name in used]
        tests += [_moved_scores(name, before.scores[name], now.scores[name]) for name in shown]
    outcomes = before.outcomes if isinstance(before, Sample) else {}
    quality_now, quality_before = {}, {}
    for model, found in now.outcomes.items():
        if len(found.p) < FEWEST or len(np.unique(found.right)) < 2:
            said.append(f"{model}: {len(found.p)} outcomes, or all alike: its calibration is not tested")
            continue
        earlier = outcomes.get(model)
        if earlier is not None and (len(earlier.p) < FEWEST or len(np.unique(earlier.right)) < 2):
            earlier = None
        if earlier is None:
            said.append(f"{model}: no earlier outcomes; its calibration is compared with perfect calibration")
        else:
            quality_before[model] = _quality(earlier, resamples)
        quality_now[model] = _quality(found, resamples)
        tests += _moved_calibration(model, earlier, found)
    adjusted = holm([test.p_value for test in tests])
    return Drift(
        tests=tuple(Test(**{**asdict(test), "adjusted": p}) for test, p in zip(tests, adjusted, strict=True)),
        alpha=alpha,
        prompts=now.prompts,
        reference_prompts=0 if before is None else before.prompts,
        origin="perfect calibration" if before is None else before.origin,
        now=quality_now,
        reference=quality_before,
        notes=tuple(dict.fromkeys(said)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values by Holm's step-down method: valid whatever the dependence between the tests.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    raised = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    out = np.empty(len(p_values))
    out[order] = np.minimum(np.maximum.accumulate(raised), 1.0)
    return [float(value) for value in out]


def stability_index(reference: F64 | Quantiles, now: F64) -> float:
    """Population stability index over the reference's deciles: sum of (a - b) ln(a / b) over the shares of the bins.

    Half a count is added to every bin, so that an empty one does not make it infinite.

    >>> stability_index(np.arange(100.0), np.arange(100.0))
    0.0
    """
    known = reference if isinstance(reference, Quantiles) else Quantiles.of(reference)
    edges, up_to = known.deciles()
    counts = np.diff(np.round(np.concatenate([[0.0], up_to, [1.0]]) * known.problems))
    here = np.bincount(np.searchsorted(edges, now, side="left"), minlength=len(edges) + 1)
    was, is_now = ((part + 0.5) / (part + 0.5).sum() for part in (counts, here))
    return float(((is_now - was) * np.log(is_now / was)).sum())


def recalibration(found: Outcomes, *, slope: bool) -> tuple[float, float]:
    """Intercept (``slope`` false, the slope held at 1) or slope of outcomes on the predicted logit, and its variance.

    By Newton's method; the variance is the sandwich over prompts, which repeated attempts and shares leave valid.
    """
    z = logit(np.clip(found.p, _EDGE, 1 - _EDGE))
    design = np.stack([np.ones_like(z), z], axis=1) if slope else np.ones((len(z), 1))
    offset = np.zeros_like(z) if slope else z
    beta = np.array([0.0, 1.0]) if slope else np.zeros(1)
    for _ in range(50):
        fitted = expit(offset + (design * beta).sum(axis=1))
        weight = np.maximum(fitted * (1 - fitted), 1e-9)
        hessian = np.einsum("ni,nj->ij", design, design * weight[:, None]) + 1e-9 * np.eye(len(beta))
        step = np.linalg.solve(hessian, (design * (found.right - fitted)[:, None]).sum(axis=0))
        beta = beta + np.clip(step, -2, 2)
        if float(np.abs(step).max()) < 1e-10:
            break
    score = design * (found.right - expit(offset + (design * beta).sum(axis=1)))[:, None]
    prompts = int(found.prompt.max()) + 1
    by_prompt = np.stack([np.bincount(found.prompt, column, prompts) for column in score.T], axis=1)
    inverse = np.linalg.inv(hessian)
    variance = inverse @ np.einsum("ni,nj->ij", by_prompt, by_prompt) @ inverse
    return float(beta[-1]), float(variance[-1, -1])


def _moved_scores(name: str, before: F64 | Quantiles, now: F64) -> Test:
    if isinstance(before, Quantiles):
        mean, p_value = before.mean, kolmogorov_smirnov(before, now)
        psi = stability_index(before, np.round(now, DIGITS))
    else:
        mean, p_value = float(before.mean()), float(ks_2samp(before, now, method="asymp").pvalue)
        psi = stability_index(before, now)
    return Test("scores", name, mean, float(now.mean()), psi, p_value)


def _moved_calibration(model: str, before: Outcomes | None, now: Outcomes) -> list[Test]:
    tests = []
    for what, slope in (("calibration in the large", False), ("calibration slope", True)):
        ideal = (1.0 if slope else 0.0), 0.0
        (was, was_var), (is_now, now_var) = (
            ideal if sample is None else recalibration(sample, slope=slope) for sample in (before, now)
        )
        z = (is_now - was) / np.sqrt(max(was_var + now_var, 1e-12))
        tests.append(Test(what, model, was, is_now, None, float(2 * ndtr(-abs(z)))))
    return tests


def _quality(found: Outcomes, resamples: int) -> Quality:
    return quality(found.p, found.right, Bootstrap(clusters_of(found.prompt), resamples))


def _reference(
    reference: str | Path | None, predictor: Predictor, model: str | Path | None, notes: list[str]
) -> Sample | CardScores | None:
    sets = list_profiles(card_file="problem_set.yaml")
    if reference is None and not is_tier(model):
        return _by_card(model_path(model), notes)
    if reference is None:
        notes.append(f"no --reference: the shipped problem sets {', '.join(sets)} together stand for earlier traffic")
        notes.append(_LEARNT)
        return join([shipped_sample(name, model) for name in sets])
    if str(reference) in sets:
        if not is_tier(model):
            raise InputError(
                "check", "--reference", str(reference), "a file: shipped scores are the shipped predictors'"
            )
        notes.append(_LEARNT)
        return shipped_sample(str(reference), model)
    if not is_file(reference):
        raise InputError(
            "check", "--reference", str(reference), f"an existing file, or {nearest(str(reference), sets)}"
        )
    return read_log(reference, predictor, notes)


def _by_card(model: Path, notes: list[str]) -> CardScores | None:
    known = card_scores(model)
    if len(known) == 1:
        (found,) = known.values()
        notes.append(
            "no --reference: scores are compared with the quantiles in the predictor's card, of problems that it was trained "
            "without; prompts that it was trained on get surer scores, and seem to have moved"
        )
        if found.prompts < FIRM:
            notes.append(
                f"the card's scores are of {found.prompts:,} problems: on fewer than about {FIRM:,}, models trained without a part "
                "of them differ so much from the predictor that its scores may seem moved when they are not"
            )
        return found
    why = f"; its card has quantiles of {len(known)} training sets, each by itself" if known else ""
    notes.append(f"no --reference: scores are not compared, only calibration, with perfect calibration{why}")
    return None


__all__ = ["ALPHA", "Drift", "Test", "check_drift", "compare", "holm", "recalibration"]
