"""Requests that servers refuse, because their prompts leave no room for an answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ttc_sim.engine.contexts import context_of
from ttc_sim.engine.work import REJECTED
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.model import Model


def notes_of_refused(model: Model, runs: Sequence[Run]) -> list[str]:
    """A line for each pool whose context is too short for prompts that came to it."""
    at = np.array([arm.deployment for arm in model.arms], dtype=np.int64)
    found = []
    for d, (name, item) in enumerate(zip(model.deployment_names, model.deployments, strict=True)):
        context = context_of(item)
        if context is None:
            continue
        here = [at[run.answered_by] == d for run in runs]
        refused = sum(
            int((mine & (run.result.status == REJECTED) & (run.requests.prompt_tokens >= context)).sum())
            for mine, run in zip(here, runs, strict=True)
        )
        if refused:
            came = sum(int(mine.sum()) for mine in here)
            found.append(
                f"{refused:,} of {came:,} requests that come to {name} are rejected: their prompts leave no room for an answer in "
                f"its context of {context:,} tokens (max_model_len)"
            )
    return found


__all__ = ["notes_of_refused"]
