"""Measured load stages of servers, which the physics model's coefficients are fitted to; see the file for their origin."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ttc_sim.serving.physics import ARCHITECTURES, GPUS, DecodeStep

FILE = Path(__file__).with_name("measured_stages.json")


class MeasuredStage(NamedTuple):
    """What a server did under a steady load of prompts that it found in its cache.

    Attributes:
        model: as the measurement names it.
        step: mean state of the batch, and seconds of an iteration.
        first_token_s: mean seconds to the first token.
    """

    model: str
    step: DecodeStep
    first_token_s: float


@cache
def shipped_stages() -> tuple[MeasuredStage, ...]:
    """Those that ship with the project: 15 stages of 8 H100 servers."""
    rows = json.loads(FILE.read_text(encoding="utf-8"))["stages"]
    return tuple(
        MeasuredStage(
            row["model"],
            DecodeStep(
                ARCHITECTURES[row["model"]],
                GPUS[row["gpu"]],
                row["tensor_parallel"],
                row["precision"],
                row["sequences"],
                row["kv_tokens"],
                row["seconds"],
            ),
            row["first_token_s"],
        )
        for row in rows
    )
