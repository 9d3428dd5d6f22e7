"""The step times that a GPU pool of a scenario names."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from ttc_sim.scenario import GpuPool, LayerStepTime, LinearStepTime, PhysicsStepTime
from ttc_sim.serving.gpu_profile import load_gpu_profile
from ttc_sim.serving.physics import ARCHITECTURES, load_architecture, physics_table
from ttc_sim.serving.step_time import StepTable, linear_table


def pool_table(pool: GpuPool, folder: str | Path = ".") -> StepTable:
    """Step times of a pool's replicas.

    Args:
        pool: of the scenario.
        folder: that relative paths in the scenario start from.

    Raises:
        InputError: files that are missing or cannot be read, or a name that is not known.
    """
    return _table(pool.step_time, pool.max_num_batched_tokens, pool.max_num_seqs, Path(folder))


# An optimizer looks the same few up again and again.
@lru_cache(maxsize=64)
def _table(
    given: LinearStepTime | LayerStepTime | PhysicsStepTime, max_tokens: int, max_sequences: int, folder: Path
) -> StepTable:
    if isinstance(given, LinearStepTime):
        return linear_table(given, max_tokens, max_sequences)
    if isinstance(given, LayerStepTime):
        profile = folder / given.gpu_profile
        return load_gpu_profile(profile, given.tensor_parallel, max_tokens, max_sequences, host_s=given.host_s)
    shape = ARCHITECTURES.get(given.model) or load_architecture(folder / given.model)
    return physics_table(shape, given.gpu, given.tensor_parallel, given.precision, max_tokens, max_sequences)
