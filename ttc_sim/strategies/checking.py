"""What a user's own strategy says of itself and returned, looked at before anything is computed from it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from ttc_sim.base.arrays import refuse, truth_values, whole_numbers
from ttc_sim.base.errors import InputError
from ttc_sim.strategies.outcomes import Outcome, Stage, Trial


def checked(
    made: object,
    trial: Trial,
    where: str,
    *,
    deployments: Collection[str] | None = None,
    arms: Collection[str] | None = None,
) -> Outcome:
    """What a strategy returned, if it is an outcome of the trial's requests.

    Args:
        where: the strategy, as errors name it.
        deployments: that stages may name, and ``arms``; whatever they like if left out.

    Raises:
        InputError: something else was returned.
    """
    m = len(trial)
    if not isinstance(made, Outcome):
        raise InputError(where, "strategy", type(made).__name__, f"an Outcome of {m} requests")
    correct = truth_values(where, "strategy: correct", made.correct, (m,))
    stages = made.stages
    if not isinstance(stages, tuple) or not stages or not all(isinstance(one, Stage) for one in stages):
        raise InputError(where, "strategy: stages", stages, "a tuple of at least one Stage")
    found = []
    for number, stage in enumerate(stages):
        field = f"strategy: stages[{number}]"
        found.append(_checked_stage(stage, m, where, field))
        for name, known, declared in ((stage.deployment, deployments, "verifiers"), (stage.arm, arms, "other_arms")):
            if name is not None and known is not None and name not in known:
                raise InputError(where, field, name, f"a name that the strategy's {declared} have")
    idle = ~np.any([one.runs for one in found], axis=0)
    refuse(where, "strategy: runs", idle, idle, "every request to run at least one stage")
    return Outcome(tuple(found), correct)


def _checked_stage(stage: Stage, m: int, where: str, field: str) -> Stage:
    visible = np.asarray(stage.visible_tokens)
    n = visible.shape[1] if visible.ndim == 2 else 1
    if n < 1:
        raise InputError(where, f"{field}.visible_tokens", f"shape {visible.shape}", "at least one sample")
    runs = truth_values(where, f"{field}.runs", stage.runs, (m,))
    prompt = whole_numbers(where, f"{field}.prompt_tokens", stage.prompt_tokens, (m,))
    visible = whole_numbers(where, f"{field}.visible_tokens", stage.visible_tokens, (m, n))
    reasoning = whole_numbers(where, f"{field}.reasoning_tokens", stage.reasoning_tokens, (m, n))
    needed = whole_numbers(where, f"{field}.needed", stage.needed, (m,))
    refuse(where, f"{field}.prompt_tokens", prompt, runs & (prompt < 1), "at least 1 token")
    for name, tokens in (("visible_tokens", visible), ("reasoning_tokens", reasoning)):
        refuse(where, f"{field}.{name}", tokens, tokens < 0, "at least 0 tokens")
    total = visible + reasoning
    refuse(
        where, f"{field}: output tokens", total, runs[:, None] & (total < 1), "at least 1 token of a sample that runs"
    )
    refuse(where, f"{field}.needed", needed, (needed < 1) | (needed > n), f"from 1 to the stage's {n} samples")
    return replace(
        stage, runs=runs, prompt_tokens=prompt, visible_tokens=visible, reasoning_tokens=reasoning, needed=needed
    )
