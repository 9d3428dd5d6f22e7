"""Strategies: how test-time compute is spent on one request.

A strategy is a small frozen dataclass that a user writes as ``BestOfN(n=8, auroc=0.8)``, in YAML, on the command line and in
Python alike. What it does to tokens and correctness is in :mod:`ttc_sim.outcomes`, vectorised over all requests.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from ttc_sim import notation
from ttc_sim.errors import InputError

OnCap: TypeAlias = Literal["truncate", "force_answer"]
MOST_SAMPLES = 1024


def _whole(where: str, field: str, value: object, least: int, most: float, what: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        allowed = f"from {least} to {most:g}" if math.isfinite(most) else f"at least {least}"
        raise InputError(where, field, value, f"a whole number of {what}, {allowed}")


def _share(where: str, field: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InputError(where, field, value, "a number from 0 to 1")


def _check_cap(where: str, cap: int | None, on_cap: str) -> None:
    if cap is not None:
        _whole(where, "cap", cap, 1, math.inf, "output tokens")
    if on_cap not in ("truncate", "force_answer"):
        raise InputError(where, "on_cap", on_cap, "'truncate' or 'force_answer'")


def _check_sample(where: str, of: object, cap: int | None) -> None:
    if of is not None and not isinstance(of, (Single, BudgetForcing)):
        raise InputError(where, "of", of, "Single(...) or BudgetForcing(...)")
    if of is not None and cap is not None:
        raise InputError(where, "cap", cap, "the cap in 'of', which says what each sample does")


@dataclass(frozen=True)
class Single:
    """One attempt, with an optional cap on its output tokens (reasoning and visible together).

    Args:
        cap: most output tokens, or ``None`` for the model's own limit.
        on_cap: what happens to an attempt that would be longer: ``"truncate"`` stops it without an answer;
            ``"force_answer"`` ends the thinking at the cap and has it answer from there.

    >>> Single(cap=4096)
    Single(cap=4096)
    """

    cap: int | None = None
    on_cap: OnCap = "truncate"

    def __post_init__(self) -> None:
        _check_cap("Single", self.cap, self.on_cap)

    def __repr__(self) -> str:
        return _short(self)


@dataclass(frozen=True)
class BudgetForcing:
    """One chain of thought, made longer or shorter (s1, arXiv 2501.19393).

    Args:
        min_tokens: where the model would stop thinking before so many tokens, "Wait" is appended and it goes on.
        cap: most tokens of thinking; then the answer is forced. ``None`` for the model's own limit.
        extensions: most times that "Wait" is appended.

    >>> BudgetForcing(2000, cap=8000, extensions=2)
    BudgetForcing(min_tokens=2000, cap=8000, extensions=2)
    """

    min_tokens: int = 0
    cap: int | None = None
    extensions: int = 1

    def __post_init__(self) -> None:
        _check_cap("BudgetForcing", self.cap, "force_answer")
        _whole("BudgetForcing", "min_tokens", self.min_tokens, 0, math.inf, "tokens of thinking")
        _whole("BudgetForcing", "extensions", self.extensions, 0, 64, "times to go on")
        if self.cap is not None and self.min_tokens > self.cap:
            raise InputError("BudgetForcing", "min_tokens", self.min_tokens, f"at most the cap, {self.cap}")

    def __repr__(self) -> str:
        return _short(self)


@dataclass(frozen=True)
class MajorityVote:
    """``n`` parallel attempts; the most frequent answer wins.

    Args:
        n: attempts per request.
        cap, on_cap: as for :class:`Single`, for each attempt.
        ties: ``"random"`` among the most frequent answers, or ``"shortest"``: the one that the shortest attempt gave.
        stop_early: cancel the rest as soon as the outcome is decided (``True``), or as soon as the leading answer is ahead
            with this probability (adaptive consistency, arXiv 2305.11860).
        of: what each attempt does, instead of a cap.

    >>> MajorityVote(n=5, of=BudgetForcing(cap=4096))
    MajorityVote(n=5, of=BudgetForcing(cap=4096))
    """

    n: int
    cap: int | None = None
    on_cap: OnCap = "truncate"
    ties: Literal["random", "shortest"] = "random"
    stop_early: bool | float = False
    of: Single | BudgetForcing | None = None

    def __post_init__(self) -> None:
        _whole("MajorityVote", "n", self.n, 1, MOST_SAMPLES, "attempts")
        _check_cap("MajorityVote", self.cap, self.on_cap)
        _check_sample("MajorityVote", self.of, self.cap)
        if self.ties not in ("random", "shortest"):
            raise InputError("MajorityVote", "ties", self.ties, "'random' or 'shortest'")
        if not isinstance(self.stop_early, bool):
            _share("MajorityVote", "stop_early", self.stop_early)

    def __repr__(self) -> str:
        return _short(self)


@dataclass(frozen=True)
class BestOfN:
    """``n`` parallel attempts; a verifier picks one.

    The verifier is given by its ``auroc`` (its scores of right and of wrong answers are normal, with equal variance), by its
    rates ``tpr`` and ``fpr`` (it accepts or refuses; one of the accepted is taken, or any if there is none), or by
    ``scores=True`` (scores that the profile carries).

    Args:
        n: attempts per request.
        auroc: chance that a right answer scores higher than a wrong one, 0 to 1.
        tpr: chance that a right answer is accepted; fpr: that a wrong one is.
        scores: use the ``verifier_score`` of the profile's attempts.
        verifier: deployment that the verifier runs on, once per attempt; free and at once if left out.
        verifier_tokens: output tokens of one verification; its prompt is the request's and the attempt's visible tokens.
        cap, on_cap, of: as for :class:`MajorityVote`.

    >>> BestOfN(n=8, auroc=0.8)
    BestOfN(n=8, auroc=0.8)
    """

    n: int
    auroc: float | None = None
    tpr: float | None = None
    fpr: float | None = None
    scores: bool = False
    verifier: str | None = None
    verifier_tokens: int = 1
    cap: int | None = None
    on_cap: OnCap = "truncate"
    of: Single | BudgetForcing | None = None

    def __post_init__(self) -> None:
        _whole("BestOfN", "n", self.n, 1, MOST_SAMPLES, "attempts")
        _whole("BestOfN", "verifier_tokens", self.verifier_tokens, 1, math.inf, "output tokens")
        _check_cap("BestOfN", self.cap, self.on_cap)
        _check_sample("BestOfN", self.of, self.cap)
        for field in ("auroc", "tpr", "fpr"):
            if getattr(self, field) is not None:
                _share("BestOfN", field, getattr(self, field))
        ways = [self.auroc is not None, self.tpr is not None or self.fpr is not None, self.scores]
        if sum(ways) != 1 or (self.tpr is None) != (self.fpr is None):
            raise InputError("BestOfN", "verifier", repr(self), "one of auroc=..., tpr=... and fpr=..., scores=True")

    def __repr__(self) -> str:
        return _short(self)


@dataclass(frozen=True)
class Cascade:
    """One strategy after another, until a judge accepts the answer; the last one's answer is final.

    Args:
        stages: strategies on the arm's own model, or names of other arms of the scenario, cheapest first.
        tpr: chance that the judge accepts a right answer; fpr: that it accepts a wrong one.
        judge: deployment that the judge runs on; free and at once if left out.
        judge_tokens: output tokens of one judgement; its prompt is the request's and the answer's visible tokens.

    >>> Cascade(stages=[Single(cap=512), Single()], tpr=0.9, fpr=0.2).stages[0]
    Single(cap=512)
    """

    stages: tuple[Strategy | str, ...]
    tpr: float
    fpr: float
    judge: str | None = None
    judge_tokens: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.stages, (list, tuple)) or len(self.stages) < 2:
            raise InputError("Cascade", "stages", self.stages, "a list of at least two strategies or names of arms")
        object.__setattr__(self, "stages", tuple(self.stages))
        for stage in self.stages:
            if not isinstance(stage, (str, Single, BudgetForcing, MajorityVote, BestOfN)):
                raise InputError("Cascade", "stages", stage, "strategies (no cascades) or names of arms")
        _share("Cascade", "tpr", self.tpr)
        _share("Cascade", "fpr", self.fpr)
        _whole("Cascade", "judge_tokens", self.judge_tokens, 1, math.inf, "output tokens")

    def __repr__(self) -> str:
        return _short(self)


@dataclass(frozen=True)
class UserStrategy:
    """A user's own: ``file.py:function`` with a function from a :class:`ttc_sim.outcomes.Trial` to its ``Outcome``."""

    where: str
    function: Any

    def __repr__(self) -> str:
        return self.where


Strategy: TypeAlias = Single | BudgetForcing | MajorityVote | BestOfN | Cascade | UserStrategy

STRATEGIES: dict[str, type] = {
    "Single": Single,
    "BudgetForcing": BudgetForcing,
    "MajorityVote": MajorityVote,
    "BestOfN": BestOfN,
    "Cascade": Cascade,
}


def _short(strategy: Any) -> str:
    """The call without what is left at its default."""
    said = []
    for field in dataclasses.fields(strategy):
        value = getattr(strategy, field.name)
        if field.default is dataclasses.MISSING or value != field.default:
            said.append(f"{field.name}={list(value) if isinstance(value, tuple) else value!r}")
    return f"{type(strategy).__name__}({', '.join(said)})"


def parse_strategy(
    text: str, *, where: str = "strategy", field: str = "strategy", folder: str | Path = "."
) -> Strategy:
    """Read the one notation of strategies.

    Args:
        text: a call, or ``file.py:function`` for the user's own.
        where: the file, and ``field`` the key, that an error names.
        folder: that a user's file is looked up from.

    >>> parse_strategy("MajorityVote(n=3, cap=2048)")
    MajorityVote(n=3, cap=2048)
    """
    if notation.names_function(text):
        return UserStrategy(text, notation.load_function(text, folder, where=where, field=field))
    made = notation.parse(text, STRATEGIES, where=where, field=field)
    if not isinstance(made, tuple(STRATEGIES.values())):
        raise InputError(where, field, text, "a strategy such as Single(cap=4096) or MajorityVote(n=3)")
    return cast(Strategy, made)


def cap_of(strategy: Strategy) -> int | None:
    """The cap on each attempt, if the strategy has one."""
    inner = getattr(strategy, "of", None)
    cap: int | None = getattr(strategy if inner is None else inner, "cap", None)
    return cap


def can_cap(strategy: Strategy) -> bool:
    """Whether the optimizer may set a cap on it."""
    return not isinstance(strategy, (Cascade, UserStrategy))


def with_cap(strategy: Strategy, cap: int | None) -> Strategy:
    """The same strategy under another cap."""
    if isinstance(strategy, (Cascade, UserStrategy)):
        raise InputError("strategy", "cap", repr(strategy), "a strategy whose attempts have a cap")
    if isinstance(strategy, (MajorityVote, BestOfN)) and strategy.of is not None:
        return dataclasses.replace(strategy, of=dataclasses.replace(strategy.of, cap=cap))
    return dataclasses.replace(strategy, cap=cap)


def stage_names(strategy: Strategy) -> tuple[str, ...]:
    """Arms that a cascade names."""
    return tuple(stage for stage in strategy.stages if isinstance(stage, str)) if isinstance(strategy, Cascade) else ()


def verifiers(strategy: Strategy) -> tuple[str, ...]:
    """Deployments that verifiers and judges of a strategy run on."""
    if isinstance(strategy, BestOfN):
        return () if strategy.verifier is None else (strategy.verifier,)
    if not isinstance(strategy, Cascade):
        return ()
    inner = [name for stage in strategy.stages if not isinstance(stage, str) for name in verifiers(stage)]
    return (*inner, *(() if strategy.judge is None else (strategy.judge,)))


def votes(strategy: Strategy) -> bool:
    """Whether the outcome depends on which answers are the same."""
    return isinstance(strategy, MajorityVote) or (
        isinstance(strategy, Cascade) and any(isinstance(stage, MajorityVote) for stage in strategy.stages)
    )


def uses_scores(strategy: Strategy) -> bool:
    """Whether a verifier's scores must be in the profile."""
    if isinstance(strategy, Cascade):
        return any(not isinstance(stage, str) and uses_scores(stage) for stage in strategy.stages)
    return isinstance(strategy, BestOfN) and strategy.scores


def check_cascades(arms: Mapping[str, Strategy], where: str) -> None:
    """Arms that cascades name must be there, and must not lead back to themselves.

    Raises:
        InputError: an unknown arm, or a cascade of cascades.
    """
    for name, strategy in arms.items():
        for named in stage_names(strategy):
            if named not in arms:
                raise InputError(where, f"arms.{name}.strategy", named, "an arm of the scenario: " + ", ".join(arms))
            if isinstance(arms[named], Cascade):
                expected = "arms that are not cascades themselves: a cascade may not lead back to itself"
                raise InputError(where, f"arms.{name}.strategy", named, expected)
