"""Traffic without problems, as a population that a proposer can sum over: its rows are requests with the lengths they came with.

What is "right" of a request there is that no cap cuts its answer off: nothing is known of accuracy, and nothing here makes any up.
The rows only propose. What is proposed is simulated on the traffic itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError
from ttc_sim.policies import PROMPT_TOKENS, Policy
from ttc_sim.policies.turns import Turns
from ttc_sim.simulation.drawing import draw, turns_of
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.shortening import with_summaries
from ttc_sim.strategies.outcomes import Attempts
from ttc_sim.workload import Traffic, with_lengths
from ttc_sim.workload.population import Population

SOURCE = "traffic"
"""The one source of a workload that names none."""
_MOST_RUNS = 16  # whose requests are summed over
_MOST_ROWS = 4000  # more say no more of the means that a proposal rests on
_MOST_TURNS = 20_000  # of sessions, which are few for as many requests


def as_population(model: Model, policy: Policy | None = None) -> Model:
    """The model with requests of its traffic as the population, by whose sums policies are proposed.

    Args:
        policy: that may have contexts of sessions made shorter: the requests as they are then, summaries among them.

    Raises:
        InputError: requests without lengths, or no arm that they may be sent to.
    """
    scenario = model.scenario
    prompt, hidden, visible, turns = _lengths(model, policy)
    rows, zeros = len(prompt), np.zeros(len(prompt), dtype=np.int64)
    everyone = set(scenario.workload.sources)
    kept_from = {arm.name: scenario.arms[arm.name].sources for arm in model.arms}
    offered = {
        name: (SOURCE,) if kept is None or (kept and everyone <= set(kept)) else () for name, kept in kept_from.items()
    }
    if not any(offered.values()):
        expected = "an arm that requests may be sent to: all have 'sources: []'"
        if any(kept_from.values()):
            expected = (
                "an arm that all sources may be sent to: traffic without problems is planned for by one policy for all"
            )
        raise InputError(scenario.path, "arms", list(offered), expected)
    attempts = Attempts(
        name=SOURCE,
        start=np.arange(rows + 1, dtype=np.int64),
        prompt_tokens=prompt,
        reasoning_tokens=hidden,
        visible_tokens=visible,
        correct=np.ones(rows, dtype=np.bool_),
        answer=None,
        reasoning_known=True,
    )
    population = Population(
        sources=(SOURCE,),
        share=np.ones(1),
        problem=np.arange(rows).astype(np.str_),
        group=np.full(rows, SOURCE),
        source=zeros,
        cluster=np.arange(rows, dtype=np.int64),
        prompt_tokens=prompt,
        scores={PROMPT_TOKENS: prompt.astype(np.float64)},
        attempts={SOURCE: attempts},
        offered=offered,
        notes=(),
        turns=turns,
        costs=None if turns is None else model.arm_costs,
    )
    arms = tuple(
        replace(arm, attempts=_as_long(attempts, arm.turn_tokens), sources=offered[arm.name]) for arm in model.arms
    )
    return replace(model, population=population, arms=arms)


def _as_long(attempts: Attempts, times: float) -> Attempts:
    """The same with answers so many times as long, as an arm makes turns of sessions; what that adds to later prompts is left to
    the simulation."""
    if times == 1.0:
        return attempts
    hidden, visible = (np.rint(part * times) for part in (attempts.reasoning_tokens, attempts.visible_tokens))
    visible = np.maximum(visible, hidden == 0)
    return replace(attempts, reasoning_tokens=hidden.astype(np.int64), visible_tokens=visible.astype(np.int64))


def _lengths(model: Model, policy: Policy | None) -> tuple[I64, I64, I64, Turns | None]:
    """Prompt, reasoning and visible tokens of requests such as will come: of many more than a run has, where they are drawn; and
    which turns of sessions they are, if they are any, one session after another."""
    scenario, workload = model.scenario, model.scenario.workload
    if workload.lengths is not None and not workload.sources:
        drawn = Traffic.of(np.zeros(_MOST_ROWS), 1.0)
        folder, where = scenario.folder, scenario.path
        traffics = [with_lengths(workload.lengths, drawn, scenario.seed, "rows", folder=folder, where=where)]
    else:
        traffics = [draw(model, 0, purpose="rows").traffic]
        each = max(len(traffics[0].arrival_s), 1)
        wanted = _MOST_ROWS if traffics[0].session is None else _MOST_TURNS
        runs = 1 if workload.is_replay else min(-(-wanted // each), _MOST_RUNS)
        traffics += [draw(model, k, purpose="rows").traffic for k in range(1, runs)]
        if policy is not None:
            traffics = [with_summaries(model, policy, draw(model, k, purpose="rows")).traffic for k in range(runs)]
    parts = []
    for one in traffics:
        if one.prompt_tokens is None or one.visible_tokens is None:
            expected = "a trace or clients that carry token lengths, or workload.lengths"
            raise InputError(scenario.path, "workload.arrivals", "no lengths", expected)
        hidden = np.zeros_like(one.visible_tokens) if one.reasoning_tokens is None else one.reasoning_tokens
        parts.append(np.stack([one.prompt_tokens, hidden, one.visible_tokens]))
    whole = np.concatenate(parts, axis=1)
    turns = turns_of(traffics[0])
    if turns is not None:  # as they follow one another: what a policy makes of a turn may depend on those before
        rows = np.arange(min(whole.shape[1], _MOST_TURNS))
        return whole[0, rows], whole[1, rows], whole[2, rows], _joined(traffics).taken(rows)
    rows = np.arange(count := min(whole.shape[1], _MOST_ROWS)) * whole.shape[1] // count
    return whole[0, rows], whole[1, rows], whole[2, rows], None


def _joined(traffics: Sequence[Traffic]) -> Turns:
    """Turns of all runs, as sessions of one."""
    found, at, sessions = list[Turns](), 0, 0
    for one in map(turns_of, traffics):
        assert one is not None
        session = np.where(one.session < 0, -1, one.session + sessions)
        found.append(replace(one, session=session, after=np.where(one.after < 0, -1, one.after + at)))
        at, sessions = at + len(session), int(session.max(initial=sessions - 1)) + 1
    known = [one.name for one in fields(Turns) if all(getattr(part, one.name) is not None for part in found)]
    return Turns(**{name: np.concatenate([getattr(part, name) for part in found]) for name in known})
