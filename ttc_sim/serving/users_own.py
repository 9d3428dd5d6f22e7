"""A user's own step times: built, and refused where no server could run on them."""

from __future__ import annotations

import math
from itertools import product
from pathlib import Path

import numpy as np

from ttc_sim.base.arrays import numbers, refuse
from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError, users_code
from ttc_sim.base.plugins import called
from ttc_sim.scenario import StepTime
from ttc_sim.serving.step_time import StepTable, step_seconds

FAR = 1_000_000
"""Tokens of context at which no step may take less than no time: a table goes on beyond its last knots."""


def own_table(settings: StepTime, max_tokens: int, max_sequences: int, folder: Path) -> StepTable:
    """The table that a user's own settings make.

    Raises:
        InputError: they failed, or what they returned is no table of that size, or one by which a step takes no time.
    """
    where = called(type(settings))
    with users_code(where, "table", f"a StepTable of {max_tokens} tokens and {max_sequences} sequences"):
        made = settings.table(max_tokens, max_sequences, folder)
    return checked(made, max_tokens, max_sequences, where)


def checked(made: object, max_tokens: int, max_sequences: int, where: str, far: int = FAR) -> StepTable:
    """A table as it is said to be (:class:`ttc_sim.serving.step_time.StepTable`), of so many tokens and sequences.

    Args:
        far: tokens of context up to which every step must take time.

    Raises:
        InputError: it is not, a time is negative or not finite, or some step would take no time.
    """
    if not isinstance(made, StepTable):
        raise InputError(where, "table", made, "a StepTable, as ttc_sim.serving.step_time.step_table makes it")
    if (made.verified, made.advance) != (1, 1.0):
        expected = "1, and advance 1: what speculative decoding makes of it follows from the pool"
        raise InputError(where, "table: verified", made.verified, expected)
    chunks, contexts, sequences, kv = (
        _knots(where, name, getattr(made, name)) for name in ("chunks", "contexts", "sequences", "kv")
    )
    grid = (len(chunks), len(contexts), len(sequences), len(kv))
    if max(grid) > 1 and min(grid) < 2:
        raise InputError(
            where, "table: attention_s", f"{grid} knots", "at least two knots of each kind, or one of each"
        )

    def part(name: str, *shape: int) -> F64:
        values = np.ascontiguousarray(numbers(where, f"table: {name}", getattr(made, name), shape))
        refuse(where, f"table: {name}", values, ~(np.isfinite(values) & (values >= 0)), "finite seconds, at least 0")
        return values

    table = StepTable(
        base_s=_seconds(where, "base_s", made.base_s),
        per_kv_s=_seconds(where, "per_kv_s", made.per_kv_s),
        per_pair_s=_seconds(where, "per_pair_s", made.per_pair_s),
        dense_s=part("dense_s", max_tokens + 1),
        prefill_s=part("prefill_s", max_tokens + 1),
        decode_s=part("decode_s", max_sequences + 1),
        sampled_s=part("sampled_s", max_sequences + 1),
        chunks=chunks,
        contexts=contexts,
        sequences=sequences,
        kv=kv,
        attention_s=part("attention_s", *grid),
        decode_attention_s=part("decode_attention_s", max_sequences + 1, len(kv)),
        ranks=made.ranks,
        shared_s=part("shared_s", made.ranks * max_tokens + 1 if made.ranks > 1 else 1),
    )
    _takes_time(table, max_tokens, max_sequences, where, far)
    return table


def _seconds(where: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.floating)) or not 0 <= value < math.inf:
        raise InputError(where, f"table: {name}", value, "finite seconds, at least 0")
    return float(value)


def _knots(where: str, name: str, value: object) -> F64:
    count = len(value) if isinstance(value, np.ndarray) and value.ndim == 1 else 1
    knots = np.ascontiguousarray(numbers(where, f"table: {name}", value, (count,)))
    if not len(knots) or knots[0] != 0 or not np.isfinite(knots).all() or (np.diff(knots) <= 0).any():
        raise InputError(where, f"table: {name}", knots.tolist(), "finite knots that ascend from 0")
    return knots


def _takes_time(table: StepTable, max_tokens: int, max_sequences: int, where: str, far: int) -> None:
    """A step that does something takes time, however long the context: the clock of a server must go on, and never back."""
    expected = "an iteration that takes time"
    count = np.arange(max_sequences + 1)
    decode_s = table.base_s + table.per_kv_s * count + table.dense_s[count] + table.decode_s + table.sampled_s
    decode_s += [np.interp(1.0, table.kv, row) for row in table.decode_attention_s]
    refuse(where, "table: decoding sequences", decode_s, (decode_s <= 0) & (count > 0), expected)
    tokens = np.arange(max_tokens + 1)
    prefill_s = table.base_s + table.dense_s + table.prefill_s + table.per_pair_s * tokens**2 / 2
    prefill_s += np.interp(tokens, table.chunks, table.attention_s[:, 0, 0, 0])
    refuse(where, "table: prompt tokens", prefill_s, (prefill_s <= 0) & (tokens > 0), expected)
    if table.attention_s.size == 1:
        return
    # Beyond the last knots a table goes on along its last segments, which must not lead below 0.
    batch = min(max_sequences, max_tokens - 1)
    contexts, lengths = (sorted({1.0, float(knots[-1]), float(far)}) for knots in (table.contexts, table.kv))
    for prefill, decoding in ((0, 1), (0, max_sequences), (1, 0), (max_tokens, 0), (max_tokens - batch, batch)):
        for context, kv in product(contexts, lengths):
            pairs = prefill * (context + prefill / 2)
            seconds = step_seconds(table, prefill, pairs, decoding, int(kv * decoding), decoding)
            if not 0 < seconds < math.inf:
                step = f"{prefill} prompt tokens after {context:.0f}, {decoding} sequences of {kv:.0f} tokens"
                raise InputError(where, f"table: {step}", seconds, expected)


__all__ = ["FAR", "checked", "own_table"]
