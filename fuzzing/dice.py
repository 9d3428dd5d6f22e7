"""Choices of a case, all from its seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """Throws one after another; the same seed, the same throws."""

    def __init__(self, kind: str, seed: int) -> None:
        self.random = random.Random(f"{kind}/{seed}")

    def of(self, options: Sequence[T]) -> T:
        """One of them."""
        return self.random.choice(options)

    def whole(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return self.random.randint(low, high)

    def chance(self, share: float) -> bool:
        """True so often."""
        return self.random.random() < share

    def few(self, most: int = 5) -> int:
        """1, more rarely more."""
        return min(1 + int(self.random.expovariate(1.0)), most)

    def bytes(self, count: int) -> bytes:
        """Random ones."""
        return self.random.randbytes(count)
