"""What every step-time model keeps."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from ttc_sim.base.draws import uniforms
from ttc_sim.scenario import GpuPool, StepTime
from ttc_sim.scenario.base import Model
from ttc_sim.serving.pools import pool_table
from ttc_sim.serving.step_time import StepTable, step_seconds
from ttc_sim.serving.users_own import checked, own_table
from ttc_sim.testing.engines import run_both
from ttc_sim.testing.examples import pool_of, work_of, written_and_read

LIMITS = ((1, 1), (16, 16), (2048, 256), (8192, 1024))  # tokens and sequences of a batch
POINTS = 300


class StepTimeConformance:
    """Tests of :attr:`step_time`, as a scenario has it.

    Attributes:
        folder: that relative paths in the settings start from.
        rises_with: what an iteration never gets shorter with: ``prefill`` tokens, their ``context``, decoding ``sequences``, and
            ``kv`` tokens of each. Leave out what was measured to be otherwise.

    >>> from ttc_sim.scenario import LinearStepTime
    >>> class TestLinear(StepTimeConformance):
    ...     step_time = LinearStepTime(base_s=0.01, per_prefill_token_s=1e-4, per_sequence_s=0.0, per_kv_token_s=1e-7)
    >>> TestLinear().test_both_engines_agree()
    """

    step_time: ClassVar[Model]
    folder: ClassVar[str | Path] = "."
    rises_with: ClassVar[Sequence[str]] = ("prefill", "context", "sequences", "kv")

    def pool(self, max_tokens: int, max_sequences: int, **changes: object) -> GpuPool:
        """A pool with these step times."""
        limits = {"max_num_batched_tokens": max_tokens, "max_num_seqs": max_sequences}
        return pool_of(step_time=self.step_time, **limits, **changes)

    def test_tables_fit_their_limits(self) -> None:
        """For the smallest batch and for large ones: every part of its length, finite and never negative, and steps take time."""
        for limits in LIMITS:
            checked(self._table(*limits), *limits, type(self).__name__)

    def test_every_step_takes_time(self) -> None:
        """Whatever is in the batch, and however long its context."""
        tokens, sequences = 2048, 256
        table = self._table(tokens, sequences)
        for step in _steps(tokens, sequences):
            seconds = _seconds(table, *step)
            assert 0 < seconds < np.inf, f"{_said(*step)} take {seconds} s"

    def test_more_takes_no_less(self) -> None:
        """More of anything in :attr:`rises_with` makes no iteration shorter."""
        tokens, sequences = 2048, 256
        table = self._table(tokens, sequences)
        more = uniforms(0, "more", POINTS)[:, 0]
        for step, u in zip(_steps(tokens, sequences), more, strict=True):
            prefill, context, decoding, kv = step
            room = tokens - prefill - decoding
            larger = {
                "prefill": (prefill + int(u * room), context, decoding, kv) if prefill else step,
                "context": (prefill, context + int(u * 20_000), decoding, kv) if prefill else step,
                "sequences": (prefill, context, decoding + int(u * min(room, sequences - decoding)), kv),
                "kv": (prefill, context, decoding, kv + int(u * 20_000)),
            }
            before = _seconds(table, *step)
            for name in self.rises_with:
                after = _seconds(table, *larger[name])
                shorter = f"{_said(*larger[name])} take {after} s, {_said(*step)} {before} s"
                assert after >= before * (1 - 1e-9), shorter

    def test_same_settings_same_table(self) -> None:
        """Nothing is random, and nothing is remembered but the settings and the files that they name."""
        pool = self.pool(512, 64)
        other = pool.model_copy(update={"step_time": copy.deepcopy(pool.step_time)})
        first, *others = (tuple(_fresh(one, self.folder)) for one in (pool, pool, other))
        for again in others:
            np.testing.assert_equal(again, first)

    def test_settings_survive_a_file(self) -> None:
        """A plan writes its pools down; read back, they are the same."""
        pool = self.pool(512, 64)
        settings = pool.step_time
        if settings is None:
            return  # named by a model and a GPU
        written_and_read(settings)

    def test_both_engines_agree(self) -> None:
        """Equal times on random work: one leaps over iterations along the table's lines, the other goes through each."""
        for tokens, sequences, cache, busy in ((16, 16, None, 3.0), (256, 8, 2048, 30.0), (2048, 64, None, 30.0)):
            pool = self.pool(tokens, sequences, kv_cache_tokens=cache)
            work = work_of(np.cumsum(-np.log(uniforms(0, "arrivals", 40)[:, 0])) / busy, f"work/{tokens}")
            run_both([work], ["pool"], [pool], tables=[pool_table(pool, self.folder)])

    def _table(self, max_tokens: int, max_sequences: int) -> StepTable:
        return pool_table(self.pool(max_tokens, max_sequences), self.folder)


def _fresh(pool: GpuPool, folder: str | Path) -> StepTable:
    """Made anew, not looked up among those made before."""
    if isinstance(pool.step_time, StepTime):
        return own_table(pool.step_time, pool.max_num_batched_tokens, pool.max_num_seqs, Path(folder))
    return pool_table(pool, folder)


def _steps(max_tokens: int, max_sequences: int) -> list[tuple[int, int, int, int]]:
    """Prompt tokens, the context before them, decoding sequences and KV tokens of each."""
    u = uniforms(0, "steps", POINTS, 5)
    decoding = (u[:, 0] ** 2 * (max_sequences + 1)).astype(np.int64)
    prefill = np.where(u[:, 1] < 0.4, 0, u[:, 2] ** 2 * (max_tokens - decoding)).astype(np.int64)
    decoding = np.where((prefill == 0) & (decoding == 0), 1, decoding)
    context, kv = ((1 + 100_000 ** u[:, k]).astype(np.int64) for k in (3, 4))
    return [(int(p), int(c), int(d), int(k)) for p, c, d, k in zip(prefill, context, decoding, kv, strict=True)]


def _seconds(table: StepTable, prefill: int, context: int, decoding: int, kv: int) -> float:
    return step_seconds(table, prefill, prefill * (context + prefill / 2), decoding, kv * decoding, decoding)


def _said(prefill: int, context: int, decoding: int, kv: int) -> str:
    return f"{prefill} prompt tokens after {context} and {decoding} sequences of {kv} tokens"


__all__ = ["StepTimeConformance"]
