"""What every comparison of measured with predicted times needs."""

from __future__ import annotations

from ttc_sim.scenario import LinearStepTime

ANY_STEP = LinearStepTime(base_s=1.0, per_prefill_token_s=0.0, per_sequence_s=0.0, per_kv_token_s=0.0)
"""Of pools whose step times are handed to the engine beside them."""


def pair(measured: float, predicted: float) -> dict[str, float | None]:
    """A figure measured and predicted, and the error in percent of the measured one; ``None`` where that is 0."""
    error = (predicted / measured - 1) * 100 if measured else None
    return {"measured": measured, "predicted": predicted, "error_percent": error}
