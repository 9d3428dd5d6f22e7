"""One call of a model as a log has it, before anything is decided about what its numbers mean."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import polars as pl

from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.measured.importing.values import (
    KEEP_ANSWER,
    as_count,
    as_seconds,
    as_text,
    block_ids,
    estimated_tokens,
    hash_of,
)


@dataclass(slots=True)
class Call:
    """What a log says of one call of a model; ``None`` is what it does not say.

    Counts are as the log has them: whether ``reasoning`` is a part of ``output``, and ``cached`` one of ``prompt``, is decided
        later, for
    all rows of a model at once, with ``total`` as evidence (:mod:`~ttc_sim.measured.importing.counts`).

    Attributes:
        key: what names the call in the log (request or response id), by which rows that were written twice are found.
        at: when it came: a number (unit decided later, or by the importer's ``time_unit``), or a time as text or number of text.
        source: route, application or team; model: as the log calls it.
        session: conversation; turn: its number in it.
        prompt, cached, cache_write, output, reasoning, visible, total: tokens.
        status: ``ok``, ``failed`` (an error, refused by a limit), ``partial`` (the stream broke off) or ``retry`` (asked again
            later).
        reason: why the answer ended (``stop``, ``length``, ...).
        first_token_s, latency_s: seconds.
        text: the prompt; answer_text: the answer, where nothing counts its tokens: they are estimated, and it is forgotten.
        problem, subset, group: key, dataset and task type of what was asked, where answers are graded.
        attempt: its number; label: the grade as it stands; answer: what was answered.
        hash_ids: ids of the prompt's blocks, from the first on; block_tokens: tokens of a block.
        left_out: why this row is no call at all, in a few words; nothing else of it is read then.
    """

    key: Any = None
    at: Any = None
    source: Any = None
    model: Any = None
    session: Any = None
    turn: Any = None
    prompt: Any = None
    cached: Any = None
    cache_write: Any = None
    output: Any = None
    reasoning: Any = None
    visible: Any = None
    total: Any = None
    status: str = "ok"
    reason: Any = None
    first_token_s: Any = None
    latency_s: Any = None
    text: str | None = None
    answer_text: str | None = None
    problem: Any = None
    subset: Any = None
    group: Any = None
    attempt: Any = None
    label: Any = None
    answer: Any = None
    hash_ids: Sequence[Any] | None = None
    block_tokens: int | None = None
    left_out: str | None = None


COUNTS = ("prompt", "cached", "cache_write", "output", "reasoning", "visible", "total")
SECONDS = ("first_token_s", "latency_s")
TEXTS = ("source", "model", "session", "reason", "problem", "subset", "group")

ROWS: dict[str, pl.DataType] = {
    "file": pl.Int32(),
    "row": pl.Int64(),
    "key": pl.UInt64(),
    "at": pl.Float64(),
    "at_text": pl.String(),
    **{name: pl.String() for name in TEXTS},
    "turn": pl.Int64(),
    **{name: pl.Int64() for name in COUNTS},
    "status": pl.String(),
    **{name: pl.Float64() for name in SECONDS},
    "text": pl.String(),
    "text_hash": pl.UInt64(),
    "estimated": pl.Int8(),
    "attempt": pl.Float64(),
    "label": pl.String(),
    "answer": pl.String(),
    "hash_ids": pl.List(pl.UInt64()),
    "blocks_hash": pl.Int64(),
    "block_tokens": pl.Int64(),
    "left_out": pl.String(),
    "said": pl.String(),
}
"""Columns of what is spooled: a call each, and where it stands; ``left_out`` is why one is no request, ``said`` the value that
made it so."""


def as_rows(calls: Iterable[tuple[int, Call]], file: int, *, decimal: str = ".") -> pl.DataFrame:
    """Calls as columns of :data:`ROWS`; one whose numbers cannot be is left out, with the reason.

    Args:
        calls: number of the row in its file, from 1, and what it says; file: number of the file.
        decimal: mark before the decimals of numbers that stand as text.
    """
    made: dict[str, list[Any]] = {name: [] for name in ROWS}
    for row, call in calls:
        found = _row(call, decimal)
        found["file"], found["row"] = file, row
        for name, values in made.items():
            values.append(found.get(name))
    return pl.DataFrame(made, schema=ROWS)


def _row(call: Call, decimal: str) -> dict[str, Any]:
    found: dict[str, Any] = {"left_out": call.left_out, "status": call.status}
    if call.left_out is not None:
        return found
    for name in COUNTS:
        value = getattr(call, name)
        if value is None:
            continue
        count = as_count(value, decimal)
        if count is None or not 0 <= count <= MOST_TOKENS:
            if count is None and isinstance(value, str) and value.strip().lower() in NOTHING:
                continue
            expected = (
                "no whole number of tokens" if count is None or count < 0 else f"more than {MOST_TOKENS:,} tokens"
            )
            return {"left_out": f"{name} is {expected}", "said": as_text(value, 80), "status": call.status}
        found[name] = count
    for name in SECONDS:
        found[name] = as_seconds(getattr(call, name), decimal)
    for name in TEXTS:
        found[name] = as_text(getattr(call, name), MOST_LETTERS)
    at = call.at
    if isinstance(at, (int, float)) and not isinstance(at, bool):
        found["at"] = float(at) if abs(at) < 1e300 else None
    elif at is not None:
        found["at_text"] = as_text(at, 64)
    found["key"] = None if call.key is None or call.key == "" else hash_of(as_text(call.key, None) or "")
    turn = as_count(call.turn, decimal)
    found["turn"] = turn if turn is not None and abs(turn) <= _MOST_TURNS else None
    if call.text is not None:
        found["text"], found["text_hash"] = call.text, hash_of(call.text)
    found["estimated"] = 0
    if found.get("prompt") is None and call.text is not None:
        found["prompt"], found["estimated"] = estimated_tokens(call.text), PROMPT_ESTIMATED
    if call.answer_text is not None and found.get("output") is None and found.get("visible") is None:
        found["output"], found["estimated"] = estimated_tokens(call.answer_text), found["estimated"] | OUTPUT_ESTIMATED
    found["attempt"] = as_seconds(call.attempt, decimal)
    found["label"] = as_text(call.label, 64)
    found["answer"] = kept_answer(call.answer)
    if call.hash_ids is not None:
        ids = block_ids(call.hash_ids)
        found["hash_ids"], found["blocks_hash"], found["block_tokens"] = ids, hash(tuple(ids)), call.block_tokens
    return found


PROMPT_ESTIMATED, OUTPUT_ESTIMATED = 1, 2
"""Marks in the column ``estimated``: tokens that nobody counted."""
NOTHING = frozenset({"", "null", "none", "nan", "na", "n/a", "-", "nil", "\\n"})
"""What stands in tables where nothing is meant, in lower case."""
_MOST_TURNS = 2**62
MOST_LETTERS = 256
"""Of a name: longer ones are cut."""


def kept_answer(answer: Any) -> str | None:
    """An answer for votes: a short one as it is, of a long one (it may hold anything) what tells it from others."""
    text = as_text(answer, None)
    if text is None or len(text) <= KEEP_ANSWER:
        return text
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def field_names() -> tuple[str, ...]:
    """Of a :class:`Call`."""
    return tuple(one.name for one in fields(Call))


def find(record: Mapping[str, Any], *path: str) -> Any:
    """What stands at a path of keys, or ``None``.

    >>> find({"usage": {"prompt_tokens": 7}}, "usage", "prompt_tokens")
    7
    """
    at: Any = record
    for key in path:
        if not isinstance(at, Mapping):
            return None
        at = at.get(key)
    return at
