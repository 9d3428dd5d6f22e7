"""When a verifier pays, and when it loses: accuracy and dollars over the number of samples, in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.strategies.outcomes.choosing import chance_by_auroc, chance_by_rates
from ttc_sim.strategies.outcomes.repeated import AGREE, Alike, Repeated, vote_chance


@dataclass(frozen=True)
class VerifierCurve:
    """Accuracy over the number of samples, over problems.

    Attributes:
        n: (k,) samples; best_of: (k,) accuracy with the verifier; vote: with a majority vote; pass_at: with a perfect verifier.
        cost_usd: (k,) per request, with the verifier.
    """

    n: I64
    best_of: F64
    vote: F64
    pass_at: F64
    cost_usd: F64

    @property
    def gain_per_usd(self) -> F64:
        """(k,) accuracy gained over one sample without a verifier, per dollar more; 0 at one sample."""
        more = self.cost_usd - self.cost_usd[0]
        gain: F64 = np.divide(self.best_of - self.pass_at[0], more, out=np.zeros(len(more)), where=more > 0)
        return gain

    @property
    def loses_at(self) -> int | None:
        """First number of samples at which one more made the verifier's pick worse; ``None`` if none does."""
        worse = np.flatnonzero(np.diff(self.best_of) < -1e-12)
        return int(self.n[worse[0] + 1]) if len(worse) else None

    @property
    def beaten_by_vote_at(self) -> int | None:
        """First number of samples at which a majority vote, which needs no verifier, is more accurate."""
        better = np.flatnonzero(self.vote > self.best_of + 1e-9)
        return int(self.n[better[0]]) if len(better) else None

    def worth(self, usd_per_right_answer: float) -> int:
        """Number of samples with the highest value of right answers less cost."""
        return int(self.n[np.argmax(self.best_of * usd_per_right_answer - self.cost_usd)])


def verifier_curve(
    accuracy: float | Repeated,
    *,
    auroc: float | None = None,
    tpr: float | None = None,
    fpr: float | None = None,
    n: Sequence[int] = tuple(range(1, 65)),
    agree: float = AGREE,
    usd_per_sample: float = 1.0,
    usd_per_verification: float = 0.0,
) -> VerifierCurve:
    """What best-of-n with a verifier comes to.

    Args:
        accuracy: chance that a sample is right: the same for all problems, or over problems.
        auroc: of the verifier; or its rates ``tpr`` and ``fpr``: see :class:`ttc_sim.strategies.BestOfN`.
        n: numbers of samples, ascending, the first 1.
        agree: chance that two wrong answers are the same, for the vote.
        usd_per_sample: of one sample; usd_per_verification: of verifying one.

    Raises:
        InputError: a probability outside of 0 to 1, or not exactly one kind of verifier.

    >>> curve = verifier_curve(0.3, auroc=0.5, n=[1, 2, 4])
    >>> curve.best_of.round(3).tolist(), curve.cost_usd.tolist()
    ([0.3, 0.3, 0.3], [1.0, 2.0, 4.0])
    """
    for name, value in (("accuracy", accuracy), ("auroc", auroc), ("tpr", tpr), ("fpr", fpr), ("agree", agree)):
        if value is not None and not isinstance(value, Repeated) and not 0 <= value <= 1:
            raise InputError("verifier_curve", name, value, "a number from 0 to 1")
    if (auroc is None) == (tpr is None) or (tpr is None) != (fpr is None):
        raise InputError("verifier_curve", "auroc", auroc, "either auroc, or tpr and fpr")
    law = accuracy if isinstance(accuracy, Repeated) else Alike(float(accuracy))
    best, vote, passed = [], [], []
    for count in n:
        right = law.right_of(count)
        if auroc is not None:
            chance = chance_by_auroc(auroc, count)
        else:
            assert tpr is not None
            assert fpr is not None
            chance = chance_by_rates(tpr, fpr, count)
        best.append(float(right @ chance))
        vote.append(vote_chance(law, agree, count))
        passed.append(law.pass_at(count))
    counts = np.array(n, dtype=np.int64)
    cost = counts.astype(np.float64) * (usd_per_sample + usd_per_verification)
    return VerifierCurve(counts, np.array(best), np.array(vote), np.array(passed), cost)
