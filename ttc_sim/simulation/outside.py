"""Which pools of a run lie outside of what was measured: a GPU, a kind of model, a batch, a context."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ttc_sim.scenario import GpuPool, LayerStepTime, PhysicsStepTime
from ttc_sim.serving.catalogue import kind_of
from ttc_sim.serving.measured_ranges import Outside, beyond, outside
from ttc_sim.serving.physics import ARCHITECTURES, load_architecture
from ttc_sim.serving.pools import served_by
from ttc_sim.serving.step_time import StepTable


class Reached(NamedTuple):
    """How far a run went on a pool.

    Attributes:
        sequences: in a replica's batch, in the mean over the time it was busy.
        context_tokens: of the longest sequence, prompt and answer together.
    """

    sequences: int
    context_tokens: int


def outside_measured(
    name: str, pool: GpuPool, table: StepTable | None, reached: Sequence[Reached], folder: Path
) -> list[Outside]:
    """What of a pool lies outside of what was measured; nothing is said of step times that are typed in, or a user's own.

    Args:
        name: of the pool; ``table``: its step times.
        reached: by run; empty where nothing was served, and nothing is said.
        folder: that relative paths in the scenario start from.
    """
    if not reached:
        return []
    sequences, context = (max(values) for values in zip(*reached, strict=True))
    if pool.max_model_len is not None:  # longer ones are refused, or end there
        context = min(context, pool.max_model_len)
    if pool.step_time is None:
        return outside(name, str(pool.gpu), kind_of(served_by(pool, folder).model), sequences, context)
    if isinstance(pool.step_time, PhysicsStepTime):
        shape = ARCHITECTURES.get(pool.step_time.model) or load_architecture(folder / pool.step_time.model)
        kind = "experts" if shape.experts else "dense"
        return outside(name, f"{pool.step_time.gpu.lower()}_sxm", kind, sequences, context)
    if isinstance(pool.step_time, LayerStepTime) and table is not None and len(table.sequences) > 1:
        return beyond(name, sequences, context, int(table.sequences[-1]), int(table.kv[-1]), "in its profile")
    return []


def in_a_line(found: Sequence[Outside]) -> list[str]:
    """A line on all that lies outside; none if nothing does."""
    return [f"outside of what was measured: {'; '.join(one.in_words() for one in found)}"] if found else []
