"""What fewer attempts would have said: figures for several samples from some of a profile's attempts, beside those from all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.base.errors import InputError
from ttc_sim.strategies import MajorityVote, carry_out
from ttc_sim.strategies.outcomes import Attempts, seeded_trial

_LEAST = 8


@dataclass(frozen=True)
class Foretold:
    """One figure for ``of`` samples.

    Attributes:
        predicted: from ``kept`` attempts at each problem; doubt: its standard error, as far as it is one of what is fitted.
        seen: from all ``of`` attempts.
    """

    kept: int
    of: int
    predicted: float
    doubt: float
    seen: float


def thinned(attempts: Attempts, kept: int, of: int) -> tuple[Attempts, Attempts]:
    """The first ``kept``, and the first ``of``, attempts at each problem that has so many.

    Raises:
        InputError: no problem has so many attempts.
    """
    able = np.flatnonzero(attempts.count >= of)
    if not len(able):
        raise InputError(attempts.name, "attempts", int(attempts.count.max(initial=0)), f"a problem with at least {of}")
    zero = np.zeros(len(able), dtype=np.int64)
    return attempts.between(able, zero, zero + kept), attempts.between(able, zero, zero + of)


def foretell(attempts: Attempts, kept: int, of: int = 3, *, seed: int = 1, draws: int = 60_000) -> dict[str, Foretold]:
    """Figures for ``of`` samples from ``kept`` attempts at each problem, beside those from ``of`` attempts.

    Args:
        attempts: of a profile; problems with fewer than ``of`` are left out.
        kept: attempts that are looked at, below ``of``.
        draws: requests drawn in all.

    Returns:
        ``pass_at_2`` (if ``of`` is more than 2), ``pass_at``: share of problems solved at least once; ``vote``, where answers were
        recorded: accuracy of a majority vote; ``longest``: mean tokens of the longest; ``tokens``: of one sample.

    >>> from ttc_sim.measured.aligning import align
    >>> from ttc_sim.measured.profiles import load_profile
    >>> profile = load_profile("math/maj-example")
    >>> found = foretell(align(profile, profile.attempts["problem"].unique().sort()), kept=4, of=8)
    >>> abs(found["pass_at"].predicted - found["pass_at"].seen) < 0.02
    True
    """
    few, every = thinned(attempts, kept, of)
    seen = _figures(every, of, seed, draws, 0.0)
    predicted, less, more = (_figures(few, of, seed, draws, by) for by in (0.0, -1.0, 1.0))
    return {
        name: Foretold(kept, of, predicted[name], abs(more[name] - less[name]) / 2, value)
        for name, value in seen.items()
    }


def _figures(attempts: Attempts, n: int, seed: int, draws: int, doubted: float) -> dict[str, float]:
    problems = len(attempts.count)
    owner = np.repeat(np.arange(problems), max(_LEAST, -(-draws // problems)))
    trial = replace(seeded_trial(attempts, owner, seed, "foretell"), doubted=doubted)
    samples = trial.samples(n)
    found = {"pass_at_2": float(samples.correct[:, :2].any(axis=1).mean())} if n > 2 else {}
    found["pass_at"] = float(samples.correct.any(axis=1).mean())
    if attempts.answer is not None:
        found["vote"] = float(carry_out(MajorityVote(n), trial).correct.mean())
    found["longest"] = float(samples.tokens.max(axis=1).mean())
    found["tokens"] = float(samples.tokens.mean())
    return found
