"""How long one iteration of a continuous-batching server takes.

Every model (linear, measured per layer, physics) becomes one :class:`StepTable`, which both engines read with the same
functions: the reference engine calls them as they stand, the compiled engine compiles them.

For a fixed number of decoding sequences the time of a decode iteration is piecewise linear in the KV tokens that they
attend to. That is what lets the compiled engine leap over iterations without an error.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba.extending import register_jitable

from ttc_sim.base.draws import F64, I64
from ttc_sim.scenario import LinearStepTime


class StepTable(NamedTuple):
    """Seconds of one iteration, as a sum of parts.

    ``base_s + dense_s[all tokens] + prefill_s[prefill tokens] + decode_s[decoding sequences] + sampled_s[tokens that the LM head
    is computed for] + per_kv_s * KV tokens of the decoding sequences + per_pair_s * pairs of prefill tokens and the tokens they
    attend to + attention``

    ``attention`` is interpolated (multilinear; beyond the last knots along their last segment) in
    ``attention_s`` over prefill tokens, their context, decoding sequences, and KV tokens per decoding sequence.

    Attributes:
        base_s: seconds of every iteration.
        per_kv_s: seconds per KV token that the decoding sequences attend to.
        per_pair_s: seconds per pair of a prefill token and a token before it, itself counted half.
        dense_s: (most tokens in a batch + 1,) by prefill and decode tokens together.
        prefill_s: (most tokens in a batch + 1,) by prefill tokens.
        decode_s: (most sequences in a batch + 1,) by decoding sequences.
        sampled_s: (most sequences in a batch, ``verified`` times, + 1,) by decoding sequences, each ``verified`` times, and prompts
            that the iteration completes.
        chunks, contexts, sequences, kv: ascending knots of ``attention_s``, the first of each 0.
        attention_s: (chunks, contexts, sequences, kv) seconds; of size 1 if there is none.
        decode_attention_s: (most sequences in a batch + 1, kv) seconds of an iteration without prefill.
        ranks: data-parallel servers that step together, each with a batch of its own; all of the above is of one of them.
        shared_s: (ranks * most tokens in a batch + 1,) by tokens of all ranks together: what they do in common, on top of what
            the slowest of them takes alone; of size 1 if there is nothing. See :mod:`ttc_sim.engine.ranks`.
        verified: tokens that are computed of each decoding sequence, draft tokens and one more.
        advance: tokens that a decoding sequence gets of an iteration, in the mean.
        apart: of the replicas that take prompts in, where those are others.
        frontend_s, prompt_token_s, pipeline_steps: seconds, seconds for each token of the prompt, and iterations, by which answers
            are with their clients later than the iteration that made them ends, first tokens as last ones (:func:`behind_s`).
    """

    base_s: float
    per_kv_s: float
    per_pair_s: float
    dense_s: F64
    prefill_s: F64
    decode_s: F64
    sampled_s: F64
    chunks: F64
    contexts: F64
    sequences: F64
    kv: F64
    attention_s: F64
    decode_attention_s: F64
    ranks: int = 1
    shared_s: F64 = np.zeros(1)
    verified: int = 1
    advance: float = 1.0
    apart: StepTable | None = None
    frontend_s: float = 0.0
    prompt_token_s: float = 0.0
    pipeline_steps: float = 0.0


def step_table(
    max_tokens: int,
    max_sequences: int,
    *,
    base_s: float = 0.0,
    per_kv_s: float = 0.0,
    per_pair_s: float = 0.0,
    dense_s: F64 | None = None,
    prefill_s: F64 | None = None,
    decode_s: F64 | None = None,
    sampled_s: F64 | None = None,
    attention: tuple[F64, F64, F64, F64, F64] | None = None,
    ranks: int = 1,
    shared_s: F64 | None = None,
) -> StepTable:
    """Put a table together; parts left out take no time.

    Args:
        max_tokens: most tokens in a batch, prefill and decode together.
        max_sequences: most sequences in a batch.
        base_s, per_kv_s, per_pair_s, dense_s, prefill_s, decode_s, sampled_s: see :class:`StepTable`.
        attention: knots of prefill tokens, context, sequences and KV tokens per sequence, and seconds over all of them.
        ranks, shared_s: of servers that step together, see :class:`StepTable`.

    Raises:
        ValueError: a part of the wrong length, a time that is negative or not finite, or knots that do not ascend from 0.
    """

    def part(values: F64 | None, size: int, name: str) -> F64:
        values = np.zeros(size) if values is None else np.ascontiguousarray(values, dtype=np.float64)
        if values.shape != (size,):
            raise ValueError(f"{name} has {values.shape} values where {size} were expected")
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ValueError(f"{name} has a value that is negative or not finite")
        return values

    if attention is None:
        zero = np.zeros(1)
        knots, seconds = [zero, zero, zero, zero], np.zeros((1, 1, 1, 1))
        decode = np.zeros((max_sequences + 1, 1))
    else:
        knots = [np.ascontiguousarray(one, dtype=np.float64) for one in attention[:4]]
        seconds = np.ascontiguousarray(attention[4], dtype=np.float64)
        if any(one[0] != 0 or (np.diff(one) <= 0).any() or len(one) < 2 for one in knots):
            raise ValueError("knots of the attention table must ascend from 0")
        if seconds.shape != tuple(len(one) for one in knots):
            raise ValueError(f"attention table is {seconds.shape}, its knots say {tuple(len(one) for one in knots)}")
        if not (np.isfinite(seconds).all() and (seconds >= 0).all()):
            raise ValueError("attention table has a value that is negative or not finite")
        decode = np.empty((max_sequences + 1, len(knots[3])))
        for count in range(max_sequences + 1):
            i, w = _find(knots[2][None, None], 0, 0, len(knots[2]), float(count))
            decode[count] = (1 - w) * seconds[0, 0, i] + w * seconds[0, 0, i + 1]
    return StepTable(
        base_s=float(base_s),
        per_kv_s=float(per_kv_s),
        per_pair_s=float(per_pair_s),
        dense_s=part(dense_s, max_tokens + 1, "dense_s"),
        prefill_s=part(prefill_s, max_tokens + 1, "prefill_s"),
        decode_s=part(decode_s, max_sequences + 1, "decode_s"),
        sampled_s=part(sampled_s, max_sequences + 1, "sampled_s"),
        chunks=knots[0],
        contexts=knots[1],
        sequences=knots[2],
        kv=knots[3],
        attention_s=seconds,
        decode_attention_s=decode,
        ranks=ranks,
        shared_s=part(shared_s, ranks * max_tokens + 1 if ranks > 1 else 1, "shared_s"),
    )


def evenly_shared(table: StepTable) -> StepTable:
    """The table of one of the ranks that step together, where all of them have as many tokens: for estimates.

    >>> table = step_table(2, 2, base_s=1.0, ranks=3, shared_s=np.arange(7.0))
    >>> step_seconds(evenly_shared(table), 0, 0.0, 2, 10, 2)
    7.0
    """
    if table.ranks == 1:
        return table
    return table._replace(dense_s=table.dense_s + table.shared_s[:: table.ranks], ranks=1, shared_s=np.zeros(1))


def flat_where_falling(
    attention: tuple[F64, F64, F64, F64, F64],
) -> tuple[F64, F64, F64, F64, F64]:
    """Measured knots and seconds with one more knot on each axis along which times fall at the end, as noise may have it.

    Beyond the last knots a table goes on along its last segments, and would lead below 0. Between the knots nothing changes;
    beyond, what falls stays the same, and what rises goes on.
    """
    knots, seconds = list(attention[:4]), attention[4]
    for axis in range(4):
        along = np.moveaxis(seconds, axis, -1)
        more = along[..., -1] - along[..., -2]
        if (more < 0).any():
            knots[axis] = np.append(knots[axis], 2 * knots[axis][-1] - knots[axis][-2])
            beyond = (along[..., -1] + np.maximum(more, 0.0))[..., None]
            seconds = np.moveaxis(np.concatenate([along, beyond], axis=-1), -1, axis)
    return knots[0], knots[1], knots[2], knots[3], np.ascontiguousarray(seconds)


def linear_table(model: LinearStepTime, max_tokens: int, max_sequences: int) -> StepTable:
    """Step time linear in prefilled tokens, decoding sequences and their KV tokens.

    >>> model = LinearStepTime(base_s=0.02, per_prefill_token_s=1e-4, per_sequence_s=5e-5, per_kv_token_s=0.0)
    >>> round(step_seconds(linear_table(model, 512, 16), 100, 0.0, 10, 5000, 10), 6)
    0.0305
    """
    return step_table(
        max_tokens,
        max_sequences,
        base_s=model.base_s,
        per_kv_s=model.per_kv_token_s,
        prefill_s=model.per_prefill_token_s * np.arange(max_tokens + 1, dtype=np.float64),
        decode_s=model.per_sequence_s * np.arange(max_sequences + 1, dtype=np.float64),
    )


class StepTables(NamedTuple):
    """The tables of several pools, one after another along the first axis of every field, padded to the same size.

    ``knots`` (pools, 4, longest) and ``counts`` (pools, 4) are the knots of chunks, contexts, sequences and KV; a
    count of 0 says that there is no attention table.
    """

    base_s: F64
    per_kv_s: F64
    per_pair_s: F64
    dense_s: F64
    prefill_s: F64
    decode_s: F64
    sampled_s: F64
    knots: F64
    counts: I64
    attention_s: F64
    decode_attention_s: F64
    verified: I64
    shared_s: F64


@lru_cache(maxsize=1)
def no_steps() -> StepTable:
    """Of what takes no steps: an API endpoint."""
    return step_table(1, 1)


_STACKED: OrderedDict[tuple[int, ...], tuple[tuple[StepTable, ...], StepTables]] = OrderedDict()
_MOST_STACKED = 16


def stack_tables(tables: Sequence[StepTable]) -> StepTables:
    """Put tables behind one another, as :func:`seconds_at` reads them: nobody writes into what was made of the same ones before."""
    same = tuple(id(table) for table in tables)
    found = _STACKED.get(same)
    if found is None:
        found = tuple(tables), _stacked(tables)  # tables that are kept keep their ids
        _STACKED[same] = found
        while len(_STACKED) > _MOST_STACKED:
            _STACKED.popitem(last=False)
    return found[1]


def _stacked(tables: Sequence[StepTable]) -> StepTables:
    def stacked(parts: Sequence[F64]) -> F64:
        shape = np.max([part.shape for part in parts], axis=0)
        out = np.zeros((len(parts), *shape))
        for row, part in zip(out, parts, strict=True):
            row[tuple(slice(0, size) for size in part.shape)] = part
        return out

    axes = [(table.chunks, table.contexts, table.sequences, table.kv) for table in tables]
    longest = max(len(knots) for table in axes for knots in table)

    def alone(name: str) -> F64:
        return np.array([getattr(table, name) for table in tables], dtype=np.float64)

    def rows(name: str) -> F64:
        return stacked([getattr(table, name) for table in tables])

    known = [table.attention_s.size > 1 for table in tables]
    return StepTables(
        base_s=alone("base_s"),
        per_kv_s=alone("per_kv_s"),
        per_pair_s=alone("per_pair_s"),
        dense_s=rows("dense_s"),
        prefill_s=rows("prefill_s"),
        decode_s=rows("decode_s"),
        sampled_s=rows("sampled_s"),
        knots=np.array([[np.pad(knots, (0, longest - len(knots))) for knots in table] for table in axes]),
        counts=np.array([[len(knots) if any_ else 0 for knots in ax] for any_, ax in zip(known, axes, strict=True)]),
        attention_s=rows("attention_s"),
        decode_attention_s=rows("decode_attention_s"),
        verified=np.array([table.verified for table in tables], dtype=np.int64),
        shared_s=rows("shared_s"),
    )


def step_seconds(
    table: StepTable, prefill_tokens: int, pairs: float, decoding: int, kv_tokens: float, sampled: int
) -> float:
    """Seconds of one iteration; of ranks that step together, where all of them do the same.

    Args:
        table: of the server.
        prefill_tokens: prompt tokens taken in.
        pairs: pairs of those tokens and the tokens they attend to: a chunk of ``c`` tokens after a context of ``p`` has
            ``c * (p + c / 2)``.
        decoding: sequences that decode.
        kv_tokens: KV tokens that those sequences attend to.
        sampled: sequences that yield a token: the decoding ones and the prompts completed.
    """
    tables = stack_tables([evenly_shared(table)])
    return float(seconds_at(tables, 0, prefill_tokens, pairs, decoding, kv_tokens, sampled))


def full_batch_seconds(table: StepTable, prompt_tokens: F64, output_tokens: F64, sequences: int) -> F64:
    """Seconds of one server that a request takes up when it shares it with others like it.

    An estimate: the engines say what really happens.

    Args:
        table: of the server.
        prompt_tokens, output_tokens: of each request, any shape.
        sequences: in the batch; at most those of the table.
    """
    prefill = prefill_seconds(table, prompt_tokens, np.zeros_like(prompt_tokens), sequences)
    return prefill + decode_seconds(table, prompt_tokens, output_tokens, sequences)


def prefill_seconds(table: StepTable, prompt_tokens: F64, cached_tokens: F64, sequences: int) -> F64:
    """Seconds of one server that taking in a prompt adds, beside so many sequences that decode; arrays of any shape.

    The prompt is taken in in chunks as large as the others allow, or where nobody decodes (``apart``); what is found in the cache
    is attended to, not computed.
    """
    table = evenly_shared(table)
    table, sequences = (table, sequences) if table.apart is None else (table.apart, 0)
    most = len(table.dense_s) - 1
    chunk = max(most - sequences * table.verified, 1)
    per_token = (table.dense_s[most] - table.dense_s[most - chunk] + table.prefill_s[chunk]) / chunk

    def attend(tokens: F64) -> F64:
        alone = _along(table.chunks, table.attention_s[:, 0, 0, 0], np.minimum(tokens, chunk))
        chunks = np.maximum(tokens / chunk, 1.0)
        return np.asarray(table.per_pair_s * tokens**2 / 2 + alone * chunks * (1 + chunks) / 2)

    seconds: F64 = (prompt_tokens - cached_tokens) * per_token + attend(prompt_tokens)
    return seconds - np.where(cached_tokens > 0, attend(cached_tokens), 0.0) if np.any(cached_tokens) else seconds


def decode_seconds(table: StepTable, prompt_tokens: F64, output_tokens: F64, sequences: int) -> F64:
    """Seconds of one server that generating takes: of each iteration a sequence bears one part in ``sequences``, which are
    taken to be as long as it is; arrays of any shape."""
    table, held = evenly_shared(table), prompt_tokens + output_tokens / 2
    tokens = sequences * table.verified
    step_s = table.base_s + table.dense_s[tokens] + table.decode_s[sequences] + table.sampled_s[tokens]
    step_s = step_s + table.per_kv_s * sequences * held + _along(table.kv, table.decode_attention_s[sequences], held)
    seconds: F64 = output_tokens / table.advance * step_s / sequences
    return seconds


def _along(knots: F64, values: F64, at: F64) -> F64:
    """Straight between knots and, beyond the last, along the last segment."""
    if len(knots) < 2:
        return np.zeros_like(at)
    low = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(knots) - 2)
    share = (at - knots[low]) / (knots[low + 1] - knots[low])
    out: F64 = (1 - share) * values[low] + share * values[low + 1]
    return out


@register_jitable  # type: ignore[untyped-decorator]
def _find(knots: F64, which: int, axis: int, count: int, value: float) -> tuple[int, float]:
    """Segment of a value and its place in it, from 0 to 1; above 1 beyond the last knot."""
    low, high = 0, count - 1
    while high - low > 1:
        middle = (low + high) // 2
        if knots[which, axis, middle] <= value:
            low = middle
        else:
            high = middle
    start = knots[which, axis, low]
    return low, (value - start) / (knots[which, axis, low + 1] - start)


@register_jitable  # type: ignore[untyped-decorator]
def seconds_at(
    tables: StepTables, which: int, prefill_tokens: int, pairs: float, decoding: int, kv_tokens: float, sampled: int
) -> float:
    """Seconds of one iteration by table ``which``; the rest as for :func:`step_seconds`."""
    verified = decoding * tables.verified[which]
    seconds: float = (
        tables.base_s[which]
        + tables.dense_s[which, prefill_tokens + verified]
        + tables.prefill_s[which, prefill_tokens]
        + tables.decode_s[which, decoding]
        + tables.sampled_s[which, sampled - decoding + verified]
        + tables.per_kv_s[which] * kv_tokens
        + tables.per_pair_s[which] * pairs
    )
    if tables.counts[which, 0] == 0:
        return seconds
    knots, counts = tables.knots, tables.counts
    per_sequence = kv_tokens / decoding if decoding else 0.0
    k, wk = _find(knots, which, 3, counts[which, 3], per_sequence)
    if prefill_tokens == 0:
        row = tables.decode_attention_s
        seconds += (1 - wk) * row[which, decoding, k] + wk * row[which, decoding, k + 1]
        return seconds
    # Chunks of several prompts count as one with the same number of pairs.
    context = max(pairs / prefill_tokens - prefill_tokens / 2, 0.0)
    c, wc = _find(knots, which, 0, counts[which, 0], float(prefill_tokens))
    p, wp = _find(knots, which, 1, counts[which, 1], context)
    s, ws = _find(knots, which, 2, counts[which, 2], float(decoding))
    for corner in range(16):
        dc, dp, ds, dk = corner & 1, (corner >> 1) & 1, (corner >> 2) & 1, corner >> 3
        weight = (wc if dc else 1 - wc) * (wp if dp else 1 - wp) * (ws if ds else 1 - ws) * (wk if dk else 1 - wk)
        if weight != 0.0:
            seconds += weight * tables.attention_s[which, c + dc, p + dp, s + ds, k + dk]
    return seconds


@register_jitable  # type: ignore[untyped-decorator]
def decode_line(tables: StepTables, which: int, decoding: int, kv_tokens: float) -> tuple[float, float]:
    """The line on which decode iterations of so many sequences lie, from so many KV tokens on.

    Returns:
        Seconds per further KV token, and the number of KV tokens at which the line ends (infinity if it does not).
    """
    slope: float = tables.per_kv_s[which]
    count = tables.counts[which, 3]
    if count == 0:
        return slope, np.inf
    k, _ = _find(tables.knots, which, 3, count, kv_tokens / decoding)
    row, knots = tables.decode_attention_s, tables.knots
    rise = row[which, decoding, k + 1] - row[which, decoding, k]
    slope += rise / ((knots[which, 3, k + 1] - knots[which, 3, k]) * decoding)
    return slope, (knots[which, 3, k + 1] * decoding if k + 2 < count else np.inf)


def iterations_on_line(kv_tokens: float, more: float, kv_end: float) -> int:
    """Decode iterations from so many KV tokens on, each with so many more of them, that begin on a line that ends there."""
    return 1 << 60 if kv_end == np.inf else max(int((kv_end - kv_tokens) / more), 0) + 1


def behind_s(waits_s: float, pipeline_steps: float, took_s: float, iterations: int) -> float:
    """Seconds by which an answer comes later than its last iteration ends, of so many that took so long together.

    What is around the loop (HTTP, tokeniser) or in its pipeline (a batch is decided on an iteration ahead) takes seconds,
    ``waits_s``, and iterations, here of the mean length of those since the answer began to be decoded. One of a single token
    shows none.

    >>> behind_s(0.005, 1.5, 2.0, 100), behind_s(0.005, 1.5, 0.0, 0)
    (0.034999999999999996, 0.005)
    """
    return waits_s + (pipeline_steps * took_s / iterations if iterations > 0 else 0.0)


def line_seconds(first_s: float, more_s: float, iterations: int) -> float:
    """Seconds of so many iterations, each ``more_s`` longer than the one before.

    >>> line_seconds(1.0, 0.5, 3)
    4.5
    """
    return iterations * first_s + more_s * (iterations * (iterations - 1) / 2)
