"""The predictor of a plan, asked about one prompt at a time; where it fails, why."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from ttc_sim.base.arguments import location
from ttc_sim.base.errors import InputError
from ttc_sim.predictor import Predictor
from ttc_sim.predictor.running.planned import planned_predictor
from ttc_sim.predictor.running.session import PER_MODEL
from ttc_sim.scenario import Scenario

_LOG = logging.getLogger("ttc_sim")
WHOLE = ("difficulty", "novelty")
"""Scores that are of a prompt, and of no model."""


class Scorer:
    """Scores prompts by a plan's predictor.

    Args:
        scenario: of the plan; given, other: as for :func:`ttc_sim.predictor.running.planned.planned_predictor`.
        may_fail: whether it may be missing, or another one: no prompt has scores then.

    Attributes:
        missing: why no prompt has scores; ``None`` where they have.
        notes: what is to be said of it.

    Raises:
        InputError: it is missing or another one, and may not be.
    """

    def __init__(self, scenario: Scenario, given: str | Path | None, *, other: bool, may_fail: bool) -> None:
        if given is not None:
            location("runtime", "predictor", given, "an ONNX file, 'fast' or 'encoder'")
        self.missing: str | None = None
        self._predictor: Predictor | None = None
        try:
            file, self.notes = planned_predictor(scenario, given, other=other)
            self._predictor = Predictor.load(file)
        except InputError as error:
            if not may_fail:
                raise
            self.missing = str(error)
            self.notes = (f"no request has scores: {error}",)
            _LOG.warning("no request has scores: %s", error)

    def score(self, prompt: str) -> tuple[dict[str, float], str | None]:
        """Scores by name, as a table of them has them; or none, and why in a line. It may be called from any thread."""
        if self._predictor is None:
            return {}, self.missing
        try:
            found = self._predictor.score([prompt])
            whole = {name: float(np.float32(getattr(found, name)[0])) for name in WHOLE}
            by_model = {
                f"{kind}:{model}": float(np.float32(values[0]))
                for kind in PER_MODEL
                for model, values in getattr(found, kind).items()
            }
        except Exception as error:  # whatever it is: requests go on
            return {}, " ".join(f"the predictor failed: {type(error).__name__}: {error}".split())
        return {**whole, **by_model}, None


__all__ = ["WHOLE", "Scorer"]
