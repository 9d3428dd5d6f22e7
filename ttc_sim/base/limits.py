"""The most of anything that can be counted: beyond it a number is a slip, and sums of it no longer fit. And the most that a file
may be: beyond it reading it would take all memory, or a day."""

from __future__ import annotations

import math
import os

from ttc_sim.base.errors import InputError

MOST_TOKENS = 100_000_000
"""Tokens of one prompt or of one answer. All samples of a request, and all requests of a run, still add up within 64 bits."""

MOST_REQUESTS = 100_000_000
"""Requests of a run, users of a closed loop, calls in progress or waiting."""

MOST_KV_TOKENS = 10**12
"""Tokens of a replica's KV cache."""

MOST_IN_BATCH = 1_000_000
"""Sequences, or tokens, of a replica's batch: step times are tabulated up to it."""

MOST_REPLICAS = 10_000
"""Replicas of a pool."""

MOST_GPUS = 1024
"""GPUs of one replica."""

LEAST_RATE, MOST_RATE = 1e-9, 1e9
"""Requests per second: from one in thirty years to more than the world sends, so that times stay finite."""

MOST_VARIATION = 50
"""Coefficient of variation of gaps between requests. Beyond it a handful of gaps takes all of the time: a run of any length that
can be simulated says nothing of the rate."""

MOST_AMOUNT = 1e15
"""Seconds, or US dollars: thirty million years, so that products and squares of them stay finite."""

MOST_WORKERS = 256
"""Processes at work side by side."""

MOST_SEED = 2**32 - 1
"""Of what libraries draw, which take no more."""

MOST_DIGITS = 1000
"""Digits of a number in a file, in a notation or on the command line: the widest float has 309 before its point."""

MOST_NESTED = 200
"""Levels of lists, mappings and calls inside one another, whatever TTC_SIM_MAX_DEPTH says: Python itself goes no deeper safely."""

ADJUSTABLE: dict[str, tuple[float, str]] = {
    "TTC_SIM_MAX_DOCUMENT_MB": (16, "MB of a YAML or JSON file"),
    "TTC_SIM_MAX_NODES": (200_000, "values in a YAML file, what an alias (*name) stands for counted each time"),
    "TTC_SIM_MAX_DEPTH": (64, "levels of lists, mappings or calls inside one another"),
    "TTC_SIM_MAX_TABLE_GB": (8, "GB that a table takes once it is read"),
    "TTC_SIM_MAX_LINE_MB": (64, "MB of one line of a CSV or JSONL file"),
    "TTC_SIM_MAX_COLUMNS": (10_000, "columns of a table"),
    "TTC_SIM_MAX_MODEL_GB": (4, "GB of an ONNX file, or of a text encoder's files"),
    "TTC_SIM_MAX_EXPANSION": (500, "bytes that a byte of a packed file becomes, of what becomes more than 256 MB"),
}
"""What a file may be or become before it is refused, by the environment variable that sets another limit: its default, and of what
it is. Generous for what people write and measure; they keep a file that somebody sent from taking all memory or a day."""

FREE_OF_EXPANSION = 256_000_000
"""Bytes that any file may become, however well it is packed."""


def most(variable: str) -> float:
    """The limit that an environment variable sets, or its default.

    Raises:
        InputError: it is set to something else than a number above 0.

    >>> most("TTC_SIM_MAX_DEPTH")
    64.0
    """
    default, what = ADJUSTABLE[variable]
    said = os.environ.get(variable, "").strip()
    try:
        limit = float(said[:MOST_DIGITS]) if said else float(default)
    except ValueError:
        limit = math.nan
    if not (limit > 0):
        raise InputError("environment", variable, said, f"a number above 0: {what}")
    return limit


def at_most(variable: str) -> str:
    """The limit as errors say it, and how to raise it."""
    return (
        f"at most {most(variable):,.12g} {ADJUSTABLE[variable][1]}; environment variable {variable} sets another limit"
    )
