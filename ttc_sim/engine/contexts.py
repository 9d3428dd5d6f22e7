"""What a server's context leaves of prompts and answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ttc_sim.base.draws import I64
from ttc_sim.engine.kv_cache import BLOCK, UNLIMITED
from ttc_sim.engine.work import Work
from ttc_sim.scenario import Api, GpuPool

_NEVER_FITS = 2 * BLOCK * UNLIMITED
"""Tokens of an answer that no KV cache holds: a server refuses its request for good, as it does one that is too long."""


def within_context(work: Work, deployments: Sequence[Api | GpuPool]) -> Work:
    """The work as pools with a ``max_model_len`` carry it out: answers end there, and prompts that leave no room are refused.

    As vLLM 0.19 does (``InputProcessor._validate_prompt_len``, ``check_stop``): a prompt must be shorter than ``max_model_len``,
    and an answer ends where both together are as long. What a client asks for as ``max_tokens`` is taken to be no more than that.
    """
    most = np.array(
        [_UNBOUNDED if (found := context_of(item)) is None else found for item in deployments], dtype=np.int64
    )
    if (most == _UNBOUNDED).all():
        return work
    each = work.prompt_tokens if work.calls is None else -(-work.prompt_tokens // work.calls)
    room = most[work.deployment] - each
    width = np.diff(work.sample_start)
    if not (np.repeat(room, width) < work.reasoning_tokens + work.visible_tokens).any():
        return work
    left = np.repeat(room, width)
    hidden, shown = ended_at(work.reasoning_tokens, work.visible_tokens, left)
    return replace(work, reasoning_tokens=hidden, visible_tokens=np.where(left < 1, _NEVER_FITS, shown))


_UNBOUNDED = 1 << 60


def ended_at(reasoning: I64, visible: I64, room: I64) -> tuple[I64, I64]:
    """Reasoning and visible tokens of answers that end after so many of both."""
    hidden = np.minimum(reasoning, np.maximum(room, 0))
    return hidden, np.minimum(visible, np.maximum(room, 0) - hidden)


def context_of(item: Api | GpuPool) -> int | None:
    """Most tokens of a prompt and its answer at a deployment; ``None`` where nothing is known of that."""
    return item.max_model_len if isinstance(item, GpuPool) else None


__all__ = ["context_of", "ended_at", "within_context"]
