"""Both engines on the same work."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ttc_sim.engine import compiled, reference
from ttc_sim.engine.work import EngineResult, Work
from ttc_sim.policies import LiveRule
from ttc_sim.scenario import Api, GpuPool
from ttc_sim.serving.step_time import StepTable


def run_both(
    works: Sequence[Work],
    names: Sequence[str],
    deployments: Sequence[Api | GpuPool],
    rule: LiveRule | None = None,
    tables: Sequence[StepTable | None] | None = None,
) -> EngineResult:
    """What both engines say; arguments as for :func:`ttc_sim.engine.reference.run`.

    Raises:
        AssertionError: they do not say the same.
    """
    slow = reference.run(works, names, deployments, rule, tables=tables)
    fast = compiled.run(works, names, deployments, rule, tables=tables)
    assert_same(slow, fast)
    return fast


def assert_same(one: EngineResult, other: EngineResult) -> None:
    """Counts are equal, and times but for rounding."""
    for field in dataclasses.fields(EngineResult):
        pair = [getattr(result, field.name) for result in (one, other)]
        for a, b in zip(*(part if isinstance(part, tuple) else (part,) for part in pair), strict=True):
            if np.asarray(a).dtype.kind == "f":
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12, err_msg=field.name)
            else:
                np.testing.assert_array_equal(a, b, err_msg=field.name)


__all__ = ["assert_same", "run_both"]
