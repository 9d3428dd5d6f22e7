"""Work of some of the requests, and of several works together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import I64
from ttc_sim.engine.work import Work


def gathered(work: Work, request: I64, stages: tuple[I64, I64] | None = None) -> Work:
    """The work of these requests, each any number of times; whom they wait for is left out.

    Args:
        stages: positions of their stages and where each request's begin, if they are known by now.
    """
    at, stage_start = stretches(work.stage_start, request) if stages is None else stages
    samples, sample_start = stretches(work.sample_start, at)

    def of(values: NDArray[Any] | None, at: I64) -> Any:
        return None if values is None else values[at]

    return Work(
        arrival_s=work.arrival_s[request],
        stage_start=stage_start,
        deployment=work.deployment[at],
        prompt_tokens=work.prompt_tokens[at],
        prefix_id=work.prefix_id[at],
        sample_start=sample_start,
        reasoning_tokens=work.reasoning_tokens[samples],
        visible_tokens=work.visible_tokens[samples],
        first_token_s=work.first_token_s[samples],
        per_token_s=work.per_token_s[samples],
        backoff=work.backoff[request],
        prefix_tokens=of(work.prefix_tokens, at),
        needed=of(work.needed, at),
        priority=of(work.priority, request),
        breaks=of(work.breaks, at),
        again_s=None if work.again_s is None else work.again_s[:, :, samples],
        prefixes=work.prefixes,
        session=of(work.session, request),
        calls=of(work.calls, at),
    )


def joined(works: Sequence[Work]) -> Work:
    """One after another, as if they were the work of other requests; whom they wait for is left out."""

    def all_of(name: str, axis: int = 0) -> Any:
        parts = [getattr(work, name) for work in works]
        return None if parts[0] is None else np.concatenate(parts, axis=axis)

    def starts(name: str) -> I64:
        sizes = np.concatenate([np.diff(getattr(work, name)) for work in works])
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    needed = None
    if any(work.needed is not None for work in works):
        needed = np.concatenate([np.diff(one.sample_start) if one.needed is None else one.needed for one in works])
    calls = None
    if any(work.calls is not None for work in works):
        calls = np.concatenate([np.ones_like(one.deployment) if one.calls is None else one.calls for one in works])
    of_each = ("arrival_s", "backoff", "priority", "session")
    of_stages = ("deployment", "prompt_tokens", "prefix_id", "prefix_tokens", "breaks")
    of_samples = ("reasoning_tokens", "visible_tokens", "first_token_s", "per_token_s")
    return Work(
        stage_start=starts("stage_start"),
        sample_start=starts("sample_start"),
        needed=needed,
        calls=calls,
        again_s=all_of("again_s", axis=2),
        prefixes=works[0].prefixes,
        **{name: all_of(name) for name in (*of_each, *of_stages, *of_samples)},
    )


def stretches(start: I64, chosen: I64) -> tuple[I64, I64]:
    """Positions of the stretches ``start[i]:start[i + 1]`` of those chosen, one after another, and where each begins."""
    if np.array_equal(start, np.arange(len(start))):  # a position each
        return chosen, np.arange(len(chosen) + 1)
    size = np.diff(start)[chosen]
    begins = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    return np.repeat(start[:-1][chosen] - begins[:-1], size) + np.arange(begins[-1]), begins


__all__ = ["gathered", "joined", "stretches"]
