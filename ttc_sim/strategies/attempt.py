"""One attempt: ended at a cap, or made longer or shorter; and several of them, for strategies that choose among attempts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Self, TypeGuard, cast

from ttc_sim.base.arguments import whole
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.strategies.kind import Strategy
from ttc_sim.strategies.outcomes import OnCap, Outcome, Samples, Trial

MOST_SAMPLES = 1024


class _OneAttempt(Strategy):
    """A single attempt with a cap of its own."""

    cap: int | None

    def carry_out(self, trial: Trial) -> Outcome:
        """One sample of each request."""
        assert isinstance(self, (Single, BudgetForcing))
        made = samples(trial, 1, self)
        return Outcome.of(made, made.correct[:, 0])

    @property
    def attempt_cap(self) -> int | None:
        """The cap."""
        return self.cap

    @property
    def takes_cap(self) -> bool:
        """It does."""
        return True

    def with_cap(self, cap: int | None) -> Self:
        """The same attempt under another cap."""
        capped: Self = dataclasses.replace(cast(Any, self), cap=cap)
        return capped


@dataclass(frozen=True, repr=False)
class Single(_OneAttempt):
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
        check_cap("Single", self.cap, self.on_cap)


@dataclass(frozen=True, repr=False)
class BudgetForcing(_OneAttempt):
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
        check_cap("BudgetForcing", self.cap, "force_answer")
        whole("BudgetForcing", "min_tokens", self.min_tokens, 0, MOST_TOKENS, "tokens of thinking")
        whole("BudgetForcing", "extensions", self.extensions, 0, 64, "times to go on")
        if self.cap is not None and self.min_tokens > self.cap:
            raise InputError("BudgetForcing", "min_tokens", self.min_tokens, f"at most the cap, {self.cap}")


class SeveralAttempts(Strategy):
    """Base of strategies that choose among attempts, each like ``of`` or, without it, ``Single(cap, on_cap)``."""

    cap: int | None
    on_cap: OnCap
    of: Single | BudgetForcing | None

    @property
    def attempt(self) -> Single | BudgetForcing:
        """What each attempt does."""
        return self.of or Single(self.cap, self.on_cap)

    @property
    def attempt_cap(self) -> int | None:
        """The cap of each attempt."""
        return self.attempt.cap

    @property
    def takes_cap(self) -> bool:
        """It does."""
        return True

    def with_cap(self, cap: int | None) -> Self:
        """The same, each attempt under another cap."""
        changes = {"cap": cap} if self.of is None else {"of": self.of.with_cap(cap)}
        capped: Self = dataclasses.replace(cast(Any, self), **changes)
        return capped


def samples(trial: Trial, n: int, of: Single | BudgetForcing) -> Samples:
    """``n`` attempts of each request."""
    if isinstance(of, Single):
        return trial.samples(n, of.cap, of.on_cap)
    return trial.samples(n, of.cap, "force_answer", min_tokens=of.min_tokens, extensions=of.extensions)


def is_attempt(strategy: object) -> TypeGuard[Single | BudgetForcing]:
    """Whether it is one attempt and nothing else: neither another strategy nor a class of one's own that carries out otherwise."""
    kinds = (Single, BudgetForcing)
    return isinstance(strategy, kinds) and type(strategy).carry_out in [kind.carry_out for kind in kinds]


def check_cap(where: str, cap: int | None, on_cap: str) -> None:
    """Refuse a cap, or what is done at it, that cannot be."""
    if cap is not None:
        whole(where, "cap", cap, 1, MOST_TOKENS, "output tokens")
    if not isinstance(on_cap, str) or on_cap not in ("truncate", "force_answer"):
        raise InputError(where, "on_cap", on_cap, "'truncate' or 'force_answer'")


def check_sample(where: str, of: object, cap: int | None) -> None:
    """Refuse what cannot be a single attempt, or a cap beside it."""
    if of is not None and not is_attempt(of):
        raise InputError(where, "of", of, "Single(...) or BudgetForcing(...)")
    if of is not None and cap is not None:
        raise InputError(where, "cap", cap, "the cap in 'of', which says what each sample does")
