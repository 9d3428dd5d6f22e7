"""How well what is fitted to some of a profile's attempts foretells the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttc_sim.base.errors import InputError
from ttc_sim.base.threads import one_thread
from ttc_sim.measured.aligning import align
from ttc_sim.measured.profiles import Profile
from ttc_sim.strategies import MajorityVote, carry_out
from ttc_sim.strategies.outcomes import seeded_trial
from ttc_sim.strategies.outcomes.repeated import Repeated, agreement, fit_repeated, silent_share, vote_chance

_LEAST_PROBLEMS = 20


@dataclass(frozen=True)
class Group:
    """Problems of which so many of the attempts fitted to were right.

    Attributes:
        right: of ``fitted`` attempts; problems: how many there are.
        predicted: chance that a held-back attempt is right; seen: share that was; noise: standard error of it.
    """

    right: int
    fitted: int
    problems: int
    predicted: float
    seen: float
    noise: float


@dataclass(frozen=True)
class ProfileCheck:
    """Half of each problem's attempts against the other half.

    Attributes:
        problems: with at least two attempts; model: fitted to the first half.
        groups: by how many of the first half were right.
        pass_at, vote: predicted and seen on all attempts, for as many samples as problems have attempts.
        length_ratio: held-back output tokens over those fitted to, medians, of ``right`` and of ``wrong`` attempts.
        agreement: chance that two wrong answers agree; ``None`` if answers were not recorded.
    """

    problems: int
    model: Repeated
    groups: tuple[Group, ...]
    samples: int
    pass_at: tuple[float, float]
    vote: tuple[float, float] | None
    length_ratio: dict[str, float]
    agreement: float | None


@one_thread()
def check_parametric(profile: Profile) -> ProfileCheck:
    """Fit to the first half of each problem's attempts, and look at the rest.

    Raises:
        InputError: too few problems with more than one attempt.
    """
    attempts = align(profile, profile.attempts["problem"].unique().sort())
    several = np.flatnonzero(attempts.count >= 2)
    if len(several) < _LEAST_PROBLEMS:
        expected = f"at least {_LEAST_PROBLEMS} problems with two attempts or more"
        raise InputError(profile.name, "attempts", len(several), expected)
    count = attempts.count[several]
    half = (count + 1) // 2
    first, rest = attempts.between(several, np.zeros_like(half), half), attempts.between(several, half, count)
    model = fit_repeated(first.right, first.count)
    predicted = model.given(first.right, first.count, 1)[:, 1]
    seen = rest.right / rest.count
    groups = []
    for fitted in np.unique(first.count):
        for right in range(int(fitted) + 1):
            here = (first.count == fitted) & (first.right == right)
            if here.any():
                p, tries = float(predicted[here].mean()), int(rest.count[here].sum())
                noise = float(np.sqrt(max(p * (1 - p), 1e-9) / tries))
                groups.append(Group(right, int(fitted), int(here.sum()), p, float(seen[here].mean()), noise))
    samples = int(np.median(count))
    full = np.flatnonzero(count >= samples)
    every = attempts.between(several[full], np.zeros(len(full), dtype=np.int64), np.full(len(full), samples))
    vote = None
    if attempts.answer is not None:
        trial = seeded_trial(every, np.repeat(np.arange(len(full)), 50))
        vote = (
            vote_chance(model, agreement(first), samples, silent_share(first)),
            float(carry_out(MajorityVote(samples), trial).correct.mean()),
        )
    tokens = [part.reasoning_tokens + part.visible_tokens for part in (first, rest)]
    ratio = {}
    for name, right in (("right", True), ("wrong", False)):
        kinds = [t[part.correct == right] for t, part in zip(tokens, (first, rest), strict=True)]
        if all(len(kind) for kind in kinds):
            ratio[name] = float(np.median(kinds[1]) / max(np.median(kinds[0]), 1))
    return ProfileCheck(
        problems=len(several),
        model=model,
        groups=tuple(groups),
        samples=samples,
        pass_at=(model.pass_at(samples), float((every.right > 0).mean())),
        vote=vote,
        length_ratio=ratio,
        agreement=None if attempts.answer is None else agreement(attempts),
    )
