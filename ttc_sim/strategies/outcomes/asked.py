"""Budgets that are only asked for: what a prompt or an effort level asks is not what the model uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError


@dataclass(frozen=True)
class ResponseCurve:
    """Tokens used over tokens asked for, straight between measured points on logarithmic axes and flat beyond them.

    Attributes:
        asked: ascending tokens asked for; used: mean tokens used.
        origin: where it was measured.

    >>> int(O1_MINI.used_tokens(16)), int(O1_MINI.used_tokens(2048))
    (363, 11104)
    """

    asked: tuple[float, ...]
    used: tuple[float, ...]
    origin: str

    def __post_init__(self) -> None:
        if len(self.asked) != len(self.used) or len(self.asked) < 2:
            raise InputError("ResponseCurve", "used", len(self.used), "as many as asked, at least two")
        if min(*self.asked, *self.used) <= 0 or any(np.diff(self.asked) <= 0):
            raise InputError("ResponseCurve", "asked", self.asked, "ascending numbers of tokens above 0")

    def used_tokens(self, asked: float | F64) -> F64:
        """Mean tokens used when so many are asked for."""
        x, y = np.log(np.array(self.asked)), np.log(np.array(self.used))
        tokens: F64 = np.exp(np.interp(np.log(asked), x, y))
        return tokens

    def to_ask(self, used: float) -> float:
        """Least tokens to ask for, so that so many are used on average.

        Raises:
            InputError: more than the model uses whatever it is asked for.
        """
        x, y = np.log(np.array(self.asked)), np.maximum.accumulate(np.log(np.array(self.used)))
        if np.log(used) > y[-1]:
            raise InputError("ResponseCurve", "used", used, f"at most {max(self.used):.0f} tokens, all it ever used")
        return float(np.exp(np.interp(np.log(used), y, x)))


O1_MINI = ResponseCurve(
    (16, 32, 64, 128, 256, 512, 1024, 2048),
    (363, 420, 471, 1106, 2194, 5355, 8668, 11104),
    "o1-mini on AIME 2024 (hughbzhang/o1_inference_scaling_laws)",
)
