"""Lengths of requests drawn from plain laws or from a table."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.special import ndtri

from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.files.tables import find_column, read_table
from ttc_sim.measured.columns import as_tokens
from ttc_sim.scenario.lengths import Law, Lengths, LogNormal
from ttc_sim.workload.recorded import check_held, failed_requests, state_of, without_prompt
from ttc_sim.workload.traffic import Traffic

_Z95 = float(ndtri(0.95))
_LAWS = ("prompt_tokens", "output_tokens", "visible_tokens", "reasoning_tokens")


def with_lengths(lengths: Lengths, traffic: Traffic, seed: int, run: str, *, folder: Path, where: str) -> Traffic:
    """The traffic with lengths drawn for each request: the same for request ``i`` however many there are.

    Args:
        seed: of the draws; run: label of the independent run; folder: where a relative ``file`` starts; where: named in errors.

    Raises:
        InputError: the traffic carries lengths of its own; a file, column or number that cannot be.
    """
    if traffic.prompt_tokens is not None or traffic.visible_tokens is not None:
        raise InputError(where, "workload.lengths", "given", "nothing: the arrivals carry lengths of their own")
    n = len(traffic.arrival_s)
    u = uniforms(seed, f"lengths/{run}", n, len(_LAWS) + 1)
    read, notes = _table(lengths, folder)
    row = (u[:, -1] * len(next(iter(read.values())))).astype(np.int64) if read else None

    def drawn(name: str, least: int) -> I64 | None:
        law: Law | None = getattr(lengths, name)
        if law is None:
            return None
        if isinstance(law, str):
            assert row is not None
            return np.maximum(read[name][row], least)
        if isinstance(law, LogNormal):
            return _log_normal(law, u[:, _LAWS.index(name)])
        return np.full(n, max(law, least), dtype=np.int64)

    prompt, output = drawn("prompt_tokens", 1), drawn("output_tokens", 1)
    visible, hidden = drawn("visible_tokens", 0), drawn("reasoning_tokens", 0)
    assert prompt is not None
    if output is not None:
        if hidden is None:
            hidden = np.round((lengths.reasoning_share or 0.0) * output).astype(np.int64)
        hidden = np.minimum(hidden, output - 1)  # an answer has a token that can be seen
        visible = output - hidden
    assert visible is not None
    hidden = np.zeros_like(visible) if hidden is None else hidden
    visible = np.maximum(visible, np.where(hidden > 0, 0, 1))
    return replace(
        traffic,
        prompt_tokens=prompt,
        reasoning_tokens=hidden,
        visible_tokens=visible,
        notes=(*traffic.notes, *notes),
    )


def _log_normal(law: LogNormal, u: F64) -> I64:
    sigma = np.log(law.p95 / law.median) / _Z95
    tokens = np.round(law.median * np.exp(sigma * ndtri(u)))
    whole: I64 = np.clip(tokens, 1, MOST_TOKENS).astype(np.int64)
    return whole


def _table(lengths: Lengths, folder: Path) -> tuple[dict[str, I64], tuple[str, ...]]:
    if lengths.file is None:
        return {}, ()
    path = folder / lengths.file
    return _read(lengths, path, *state_of(path))


@lru_cache(maxsize=4)
def _read(lengths: Lengths, path: Path, changed_ns: int, size: int) -> tuple[dict[str, I64], tuple[str, ...]]:
    """Columns by quantity, of the rows that have an answer; read once for all runs as long as the file stays as it is."""
    table, columns = read_table(path), lengths.columns()
    read: dict[str, I64] = {}
    for name, column in columns.items():
        find_column(table, path, name, (column,))
        read[name] = as_tokens(table, path, column).to_numpy()
    if not len(table):
        raise InputError(path, "file", "no rows", "a row for each request")
    inside, hidden = read.get("output_tokens"), read.get("reasoning_tokens")
    if inside is not None and hidden is not None:
        check_held(path, (columns["reasoning_tokens"], hidden), (columns["output_tokens"], inside), "the lengths")
    # Nothing is left out where a part of the output is no column of the table.
    whole = [read.get(name) for name in ("output_tokens", "visible_tokens")]
    answered = next((part > 0 for part in whole if part is not None), np.ones(len(table), dtype=np.bool_))
    if hidden is not None and inside is None:
        answered = answered | (hidden > 0)
    if not answered.any():
        raise InputError(path, "output tokens", "0 in every row", "a row that was answered")
    said = [] if answered.all() else [f"{failed_requests(path, int(answered.sum()), len(table))}: left out"]
    read = {name: values[answered] for name, values in read.items()}
    empty = int((read["prompt_tokens"] == 0).sum()) if "prompt_tokens" in read else 0
    said += [without_prompt(path, empty, len(table))] if empty else []
    return read, tuple(said)
