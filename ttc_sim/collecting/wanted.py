"""The attempts that are wanted, in the order in which they are asked for and in that of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.collecting.journal import Key
from ttc_sim.collecting.prompts import Prompt

MOST_ATTEMPTS = 10_000_000
"""Of one table: they stand in memory."""


@dataclass(frozen=True)
class Attempt:
    """An answer that is wanted."""

    prompt: Prompt
    cap: int | None
    number: int

    @property
    def key(self) -> Key:
        """What the journal calls it."""
        return (self.prompt.problem, self.cap, self.number)


def parse_caps(text: str) -> list[int | None]:
    """Caps as the command line has them.

    Raises:
        InputError: something else than tokens, or ``none``.

    >>> parse_caps("1024,none")
    [1024, None]
    """
    found: list[int | None] = []
    for word in text.split(","):
        word = word.strip()
        if word.lower() != "none" and not (word.isascii() and word.isdigit() and len(word) < 20):
            raise InputError("collect", "--caps", word, "output tokens, or none, as in 1024,4096,none")
        found.append(None if word.lower() == "none" else int(word))
    return checked_caps(found)


def checked_caps(caps: Sequence[int | None]) -> list[int | None]:
    """Caps that can be asked for.

    Raises:
        InputError: none, one twice, or one that is no number of tokens.
    """
    for cap in caps:
        if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or not 1 <= cap <= MOST_TOKENS):
            raise InputError("collect", "--caps", cap, f"output tokens, from 1 to {MOST_TOKENS:,}, or none")
    if not caps or len(set(caps)) < len(caps):
        twice = next((cap for cap in caps if list(caps).count(cap) > 1), None)
        raise InputError(
            "collect", "--caps", "none" if caps and twice is None else twice, "at least one cap, each once"
        )
    return list(caps)


def wanted_attempts(prompts: Sequence[Prompt], caps: Sequence[int | None], samples: int) -> list[Attempt]:
    """All of them, in the order of the table: by prompt, cap and number.

    Raises:
        InputError: they are too many.
    """
    if len(prompts) * len(caps) * samples > MOST_ATTEMPTS:
        asked = f"{len(prompts):,} prompts, {len(caps)} caps, {samples:,} samples"
        raise InputError("collect", "attempts", asked, f"at most {MOST_ATTEMPTS:,} attempts")
    return [Attempt(prompt, cap, k) for prompt in prompts for cap in caps for k in range(samples)]


def in_order_of_asking(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The first sample of every prompt before the second of any: what a budget is enough for covers all prompts alike."""
    return sorted(attempts, key=lambda one: one.number)


__all__ = ["Attempt", "checked_caps", "in_order_of_asking", "parse_caps", "wanted_attempts"]
