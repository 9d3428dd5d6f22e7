"""One call of a model as a log has it, before anything is decided about what its numbers mean."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import polars as pl

from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.measured.importing.values import (
    KEEP_ANSWER,
    as_count,
    as_number,
    as_text,
    as_truth,
    block_ids,
    estimated_tokens,
    hash_of,
    thinking_and_answer,
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
        reason: why the answer ended (``stop``, ``length``, ...); truncated: whether it was stopped at a limit, where the log
            says so itself.
        first_token_s, latency_s: seconds.
        text: the prompt; answer_text: the answer, where nothing counts its tokens: they are estimated, and it is forgotten; the
            same holds of thinking_text, which stands beside the answer. Of an answer with ``</think>`` in it, what comes before is
            the thinking.
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
    truncated: Any = None
    first_token_s: Any = None
    latency_s: Any = None
    text: str | None = None
    answer_text: str | None = None
    thinking_text: str | None = None
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
    "call": pl.Int32(),
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
    "truncated": pl.Boolean(),
    "attempt": pl.Float64(),
    "label": pl.String(),
    "answer": pl.String(),
    "hash_ids": pl.List(pl.UInt64()),
    "blocks_hash": pl.Int64(),
    "block_tokens": pl.Int64(),
    "left_out": pl.String(),
    "said": pl.String(),
}
"""Columns of what is spooled: a call each, and where it stands (``call`` counts those of one row); ``left_out`` is why one is
no request, ``said`` the value that made it so."""


def as_rows(calls: Iterable[tuple[int, Call]], file: int, *, decimal: str = ".") -> pl.DataFrame:
    """Calls as columns of :data:`ROWS`; one whose numbers cannot be is left out, with the reason.

    Args:
        calls: number of the row in its file, from 1, and what it says; file: number of the file.
        decimal: mark before the decimals of numbers that stand as text.
    """
    numbered = list(calls)
    statuses = [call.status for _, call in numbered]
    reasons = [call.left_out for _, call in numbered]
    said = [None if call.left_out is None else as_text(call.label, 80) for _, call in numbered]
    # Nothing else is read of what is left out.
    read = [call if call.left_out is None else _NOTHING for _, call in numbered]
    made: dict[str, Sequence[Any]] = {}
    for name in COUNTS:
        counts = _column(read, name)
        if counts is None:
            continue
        for k, value in enumerate(counts):
            if value is None or (type(value) is int and 0 <= value <= MOST_TOKENS):
                continue
            counts[k] = count = as_count(value, decimal)
            if count is not None and 0 <= count <= MOST_TOKENS:
                continue
            if count is None and isinstance(value, str) and value.strip().lower() in NOTHING:
                continue
            expected = "no whole number of tokens" if (count or 0) <= 0 else f"more than {MOST_TOKENS:,} tokens"
            counts[k], reasons[k], said[k], read[k] = None, f"{name} is {expected}", as_text(value, 80), _NOTHING
        made[name] = counts
    if any(read[k] is _NOTHING for k, (_, call) in enumerate(numbered) if call.left_out is None):
        for name, column in made.items():
            made[name] = [None if call is _NOTHING else count for count, call in zip(column, read, strict=True)]
    for name in SECONDS:
        if (values := _column(read, name)) is not None:
            made[name] = [as_number(value, decimal) for value in values]
    for name in TEXTS:
        if (values := _column(read, name)) is not None:
            made[name] = [as_text(value, MOST_LETTERS) for value in values]
    made |= _times(read) | _keys(read, decimal) | _answers(read, decimal) | _texts(read, made)
    rows = [row for row, _ in numbered]
    made |= {"file": [file] * len(read), "row": rows, "call": _repeated(rows)}
    made |= {"status": statuses, "left_out": reasons, "said": said}
    frame = pl.DataFrame(made, schema={name: kind for name, kind in ROWS.items() if name in made})
    blocks = _blocks(read)
    rest = (pl.lit(None, dtype=kind).alias(name) for name, kind in ROWS.items() if name not in made)
    return frame.with_columns(rest).with_columns(blocks).select(list(ROWS))


def _repeated(rows: Sequence[int]) -> list[int]:
    """How many equal ones stand right before each."""
    made: list[int] = []
    for row, before in zip(rows, [None, *rows], strict=False):
        made.append(made[-1] + 1 if row == before else 0)
    return made


def _column(calls: Sequence[Call], name: str) -> list[Any] | None:
    """A field of all calls; ``None`` if no call has it, which is so of most fields of most formats."""
    values = list(map(attrgetter(name), calls))
    return values if values.count(None) < len(values) else None


def _times(calls: Sequence[Call]) -> dict[str, Sequence[Any]]:
    at = _column(calls, "at")
    if at is None:
        return {}
    number = [isinstance(one, (int, float)) and not isinstance(one, bool) for one in at]
    return {
        "at": [float(one) if yes and abs(one) < 1e300 else None for one, yes in zip(at, number, strict=True)],
        "at_text": [None if yes else as_text(one, 64) for one, yes in zip(at, number, strict=True)],
    }


def _keys(calls: Sequence[Call], decimal: str) -> dict[str, Sequence[Any]]:
    made: dict[str, Sequence[Any]] = {}
    if (keys := _column(calls, "key")) is not None:
        made["key"] = [None if key is None or key == "" else hash_of(as_text(key, None) or "") for key in keys]
    if (turns := _column(calls, "turn")) is not None:
        numbers = [as_count(turn, decimal) for turn in turns]
        made["turn"] = [number if number is not None and abs(number) <= _MOST_TURNS else None for number in numbers]
    return made


def _answers(calls: Sequence[Call], decimal: str) -> dict[str, Sequence[Any]]:
    made: dict[str, Sequence[Any]] = {}
    readers: dict[str, Callable[[Any], Any]] = {
        "attempt": partial(as_number, decimal=decimal),
        "truncated": as_truth,
        "label": lambda value: as_text(value, 64),
        "answer": kept_answer,
    }
    for name, reader in readers.items():
        if (values := _column(calls, name)) is not None:
            made[name] = [reader(value) for value in values]
    return made


def _texts(calls: Sequence[Call], counted: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """Prompts, what tells them apart, and tokens estimated from texts where nothing counts them."""
    n = len(calls)
    none: Sequence[Any] = [None] * n
    estimated: list[int | None] = [None if call is _NOTHING else 0 for call in calls]
    made: dict[str, Sequence[Any]] = {"estimated": estimated}
    if (texts := _column(calls, "text")) is not None:
        made["text"], made["text_hash"] = texts, [None if text is None else hash_of(text) for text in texts]
        prompts = list(counted.get("prompt", none))
        for k, text in enumerate(texts):
            if text is not None and prompts[k] is None:
                prompts[k], estimated[k] = estimated_tokens(text), PROMPT_ESTIMATED
        made["prompt"] = prompts
    answers, thinking = _column(calls, "answer_text"), _column(calls, "thinking_text")
    if answers is None and thinking is None:
        return made
    columns = {name: list(counted.get(name, none)) for name in ("output", "visible", "reasoning")}
    for k, (answer, thought) in enumerate(zip(answers or none, thinking or none, strict=True)):
        if answer is not None and columns["output"][k] is None and columns["visible"][k] is None:
            if thought is None and columns["reasoning"][k] is None:
                thought, answer = thinking_and_answer(answer)
            columns["output" if thought is None else "visible"][k] = estimated_tokens(answer)
            estimated[k] = (estimated[k] or 0) | OUTPUT_ESTIMATED
        if thought is not None and columns["reasoning"][k] is None:
            columns["reasoning"][k], estimated[k] = estimated_tokens(thought), (estimated[k] or 0) | REASONING_ESTIMATED
    made |= columns
    return made


def _blocks(calls: Sequence[Call]) -> list[pl.Series]:
    import pyarrow as pa

    if (given := _column(calls, "hash_ids")) is None:
        return []
    ids = [None if one is None else block_ids(one) for one in given]
    # Many times faster than by lists of Python's.
    column = pl.Series("hash_ids", pa.array(ids, pa.large_list(pa.uint64())), dtype=ROWS["hash_ids"])
    marks = [None if one is None else hash(tuple(one)) for one in ids]
    sizes = [None if call.hash_ids is None else call.block_tokens for call in calls]
    return [
        column,
        pl.Series("blocks_hash", marks, dtype=ROWS["blocks_hash"]),
        pl.Series("block_tokens", sizes, dtype=ROWS["block_tokens"]),
    ]


_NOTHING = Call()
_MOST_TURNS = 2**62
PROMPT_ESTIMATED, OUTPUT_ESTIMATED, REASONING_ESTIMATED = 1, 2, 4
"""Marks in the column ``estimated``: tokens that nobody counted."""
NOTHING = frozenset({"", "null", "none", "nan", "na", "n/a", "-", "nil", "\\n"})
"""What stands in tables where nothing is meant, in lower case."""
MOST_LETTERS = 256
"""Of a name: longer ones are cut."""


def kept_answer(answer: Any) -> str | None:
    """An answer for votes: a short one as it is, of a long one (it may hold anything) what tells it from others."""
    text = as_text(answer, None)
    if text is None or len(text) <= KEEP_ANSWER:
        return text
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


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
