"""One run: draws, policy, work, engine, bill."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError
from ttc_sim.engine import compiled, reference
from ttc_sim.policies import LiveRule, Load, Policy, Requests, choose_arms, choose_live, rule_of
from ttc_sim.simulation.billing import Run, bill_run
from ttc_sim.simulation.carrying import carry
from ttc_sim.simulation.drawing import Draws, as_requests
from ttc_sim.simulation.model import Model

_LOG = logging.getLogger("ttc_sim")


def run_once(model: Model, policy: Policy, draws: Draws) -> Run:
    """Carry one run out: policy, work, engine, bill."""
    requests = as_requests(model, draws)
    live = _live_route(policy, requests, model.arm_names)
    if live is None:
        arm = choose_arms(policy, requests, model.arm_names)
        _check_offered(model, requests, arm)
        offers = [carry(model, draws, arm)]
    else:
        offers = [carry(model, draws, np.full(len(draws), a, dtype=np.int64)) for a in range(len(model.arms))]
    works = [offer.work for offer in offers]
    servers = model.deployment_names, model.deployments
    if live is None or isinstance(live, LiveRule):
        result = compiled.run(works, *servers, live, tables=model.step_tables)
    else:
        _LOG.info(
            "the policy is a Python function that looks at live load: run by the reference engine, which is slower"
        )
        result = reference.run(works, *servers, live, tables=model.step_tables)
    picked = np.zeros(len(draws), dtype=np.int64)
    if live is not None:
        arm = picked = result.arm.astype(np.int64)
        _check_offered(model, requests, arm)
    return bill_run(model, draws, requests, arm, offers, picked, result)


def _live_route(
    policy: Policy, requests: Requests, arms: Sequence[str]
) -> LiveRule | Callable[[int, Load], int] | None:
    """How the engine chooses arms as requests arrive, if the policy looks at live load."""
    if not policy.looks_at_load:
        return None
    rule = rule_of(policy, requests, arms)
    if rule is not None:
        return rule
    return lambda index, load: choose_live(policy, requests, index, arms, load)


def _check_offered(model: Model, requests: Requests, arm: I64) -> None:
    """A policy may only send a request to an arm that was measured on its source's problems."""
    if model.population is None:
        return
    for index, item in enumerate(model.arms):
        for source in np.unique(requests.source[arm == index]):
            name = requests.sources[int(source)]
            if name not in item.sources:
                able = [other.name for other in model.arms if name in other.sources]
                expected = f"an arm whose profile was measured on source {name}: " + ", ".join(able)
                raise InputError(model.scenario.path, "policy", item.name, expected)
