"""What every comparison of measured with predicted times needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.scenario import LinearStepTime

ANY_STEP = LinearStepTime(base_s=1.0, per_prefill_token_s=0.0, per_sequence_s=0.0, per_kv_token_s=0.0)
"""Of pools whose step times are handed to the engine beside them."""


def pair(measured: float, predicted: float) -> dict[str, float | None]:
    """A figure measured and predicted, and the error in percent of the measured one; ``None`` where that is 0."""
    error = (predicted / measured - 1) * 100 if measured else None
    return {"measured": measured, "predicted": predicted, "error_percent": error}


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        InputError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise InputError(path, "file", str(path), "an existing file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(path, "file", str(error), "valid JSON") from None
