"""One run: draws, policy, work, engine, bill."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.errors import InputError
from ttc_sim.engine import reference
from ttc_sim.engine.work import Down, EngineResult, Work, pick_live
from ttc_sim.policies import LiveRule, Load, Policy, Requests, choose_for, choose_live, rule_of
from ttc_sim.scenario import ClosedLoop
from ttc_sim.simulation.billing import Run, bill_run
from ttc_sim.simulation.drawing import Draws, as_requests, draw
from ttc_sim.simulation.ending import as_sent
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.offering import Offers, check_offered, offer, offer_all, run_offers, until_known
from ttc_sim.simulation.turn_lengths import chosen
from ttc_sim.workload import Traffic

_LOG = logging.getLogger("ttc_sim")


def run_once(model: Model, policy: Policy, draws: Draws, interval_s: float | None = None) -> Run:
    """Carry one run out: policy, work, engine, bill.

    Args:
        interval_s: keep the run in intervals of so many seconds too (:attr:`ttc_sim.simulation.billing.Run.timeline`).
    """
    draws = as_sent(model, policy, draws)
    if draws.cut_by_run:
        draws = _sent_in_time(model, policy, draws)
    return _run(model, policy, draws, interval_s)


def _sent_in_time(model: Model, policy: Policy, draws: Draws) -> Draws:
    """The requests that users send before a run ends, of more that they would send if it went on.

    What is sent after a moment changes nothing that is sent before it, so that those to be kept show in a run with all of them.
    """
    workload, lasts_s = model.scenario.workload, draws.traffic.lasts_s
    assert lasts_s is not None
    while True:
        in_time = _run(model, policy, draws, None).result.arrival_s < lasts_s
        if not in_time.any():
            expected = "a longer one: nothing arrives in it"
            raise InputError(model.scenario.path, "workload.duration", workload.duration, expected)
        after = draws.traffic.after
        assert after is not None
        last = np.zeros(len(draws), dtype=np.bool_)  # of those that were drawn for each user
        for process, part in zip(workload.processes, draws.parts or (None,), strict=True):
            if isinstance(process.begins, ClosedLoop):
                last[slice(None) if part is None else part.at] = True
        last[after[after >= 0]] = False
        if not (in_time & last).any():
            kept = draws.taken(np.flatnonzero(in_time))
            notes = (*kept.traffic.notes, *_left_out(draws.traffic, in_time, str(workload.duration)))
            return replace(kept, traffic=replace(kept.traffic, notes=notes))
        draws = draw(model, draws.run, purpose=draws.purpose, rounds=2 * draws.rounds)
        draws = as_sent(model, policy, draws)


def _left_out(traffic: Traffic, in_time: NDArray[np.bool_], duration: str) -> tuple[str, ...]:
    """A line on turns that come too late, which are not like the others: prompts grow."""
    if traffic.session is None:
        return ()
    of = traffic.session >= 0
    begun = np.isin(traffic.session, traffic.session[of & in_time]) & of
    late = int((begun & ~in_time).sum())
    if not late:
        return ()
    share = late / int(begun.sum())
    said = f"{late:,} turns of the sessions that begin within {duration} ({share:.0%}) would come after it and are left out: "
    return (f"{said}those that count are earlier ones, whose prompts are shorter; a longer run leaves fewer out",)


def _run(model: Model, policy: Policy, draws: Draws, interval_s: float | None) -> Run:
    requests = as_requests(model, draws)
    live = rule_of(policy, requests, model.arm_names) if policy.looks_at_load else None
    if not policy.looks_at_load:
        draws, requests, arm = chosen(model, policy, draws)
        check_offered(model, requests, arm)
        offers = offer(model, draws, arm)
    else:
        offers = offer_all(model, draws)
    works = offers.works
    if live is not None or not policy.looks_at_load:
        result = run_offers(model, draws, works, offers.following, offers.budgets, live, interval_s)
    else:
        _LOG.info(
            "live load is looked at by a Python function, or in different ways for different sources: run by the reference "
            "engine, which is slower"
        )
        route = _route(model, policy, requests, works)
        servers = model.deployment_names, model.deployments
        given: dict[str, Any] = {"tables": model.step_tables, "interval_s": interval_s}
        given |= {"following": offers.following, "budgets": offers.budgets, "failure_times": draws.failure_times}

        def by_reference(outages: list[Down | None] | None) -> EngineResult:
            return reference.run(works, *servers, route, outages=outages, **given)

        result = until_known(model, draws, by_reference)
    if policy.looks_at_load:
        arm = offers.arm_of(offers.chosen(result))
        check_offered(model, requests, arm)
    ready = deployments_ready(policy, live, requests, model.arm_names, offers)
    return bill_run(model, draws, requests, arm, offers, result, ready, interval_s)


def deployments_ready(
    policy: Policy, live: LiveRule | None, requests: Requests, arms: Sequence[str], offers: Offers
) -> set[int]:
    """Deployments that requests might have been sent to by live load, or as a fallback, whether any was or not."""
    if not policy.looks_at_load:
        able = {0} if offers.following is not None else set()
    elif live is not None:
        able = set(np.unique(live.arms).tolist())
    else:  # what a policy does not name beforehand may be any arm
        looking = [one for one in _by_source(policy, requests).values() if one.looks_at_load]
        able = {arms.index(name) for one in looking for name in one.arm_names() or arms}
    if offers.budgets is not None:
        able |= set(np.unique(offers.budgets.to).tolist()) - {-1}
    new = able
    while offers.following is not None and new:
        new = set(np.unique(offers.following[:, sorted(new)]).tolist()) - able - {-1}
        able = able | new
    return {d for a in able for d in np.unique(offers.works[a].deployment).tolist()}


def _route(model: Model, policy: Policy, requests: Requests, works: Sequence[Work]) -> Callable[[int, Load], int]:
    """How the reference engine chooses arms as requests arrive: for each source by its own policy."""
    by_source = {
        source: _route_of(model, one, requests, works, requests.source == source)
        for source, one in _by_source(policy, requests).items()
    }
    return lambda index, load: by_source[int(requests.source[index])](index, load)


def _by_source(policy: Policy, requests: Requests) -> dict[int, Policy]:
    """The policy of each source that sends requests."""
    return {source: policy.for_source(requests.sources[source]) for source in np.unique(requests.source).tolist()}


def _route_of(
    model: Model, policy: Policy, requests: Requests, works: Sequence[Work], here: NDArray[np.bool_]
) -> Callable[[int, Load], int]:
    """The same for the requests ``here``, which share a policy."""
    names, arms = model.deployment_names, model.arm_names
    if not policy.looks_at_load:
        chosen = np.zeros(len(requests), dtype=np.int64)
        chosen[here] = choose_for(policy, requests, arms, here)
        return lambda index, _: int(chosen[index])
    rule = rule_of(policy, requests, arms)
    if rule is None:
        return lambda index, load: choose_live(policy, requests, index, arms, load)

    def by_rule(index: int, load: Load) -> int:
        choices = rule.arms[index]
        at = np.array([works[arm].deployment[works[arm].stage_start[index]] for arm in choices])
        waiting, in_progress = (
            np.array([counts[name] for name in names], dtype=np.int64) for counts in (load.waiting, load.in_progress)
        )
        most = np.array([load.capacity[name] for name in names])
        overflow = rule.kind == "overflow"
        return int(choices[pick_live(overflow, rule.limit, len(at), at, waiting, in_progress, most)])

    return by_rule
