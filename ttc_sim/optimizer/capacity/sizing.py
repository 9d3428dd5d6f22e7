"""``ttc_sim.capacity``: choices, bounds, search, and fresh runs of what it found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ttc_sim.base.arguments import count
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_WORKERS
from ttc_sim.base.progress import Progress, Step, Telling
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.base.threads import one_thread
from ttc_sim.base.workers import cpus
from ttc_sim.optimizer.capacity.autoscaling import Autoscalers
from ttc_sim.optimizer.capacity.beside import Beside, refuted
from ttc_sim.optimizer.capacity.bounds import Bounds
from ttc_sim.optimizer.capacity.hardware import Choice, Refused, choices_of, fewest_that_fail, with_autoscaling
from ttc_sim.optimizer.capacity.paying import apart_or_not
from ttc_sim.optimizer.capacity.result import Capacity, Fewer, Headroom, PoolPlan
from ttc_sim.optimizer.capacity.rules import count_after, rules_of, with_fewer
from ttc_sim.optimizer.capacity.searching import Search, Searched
from ttc_sim.optimizer.capacity.trying import Config, Trials, target_holds
from ttc_sim.optimizer.dropping import LIMITS_OF_MEMORY, drops_of
from ttc_sim.optimizer.plan import Plan, SavedPlan, planned_scenario
from ttc_sim.optimizer.promises import TargetVerdict, figures_in_brief, judge_targets
from ttc_sim.policies import Policy, parse_policy
from ttc_sim.scenario import GpuPool, PoolSearch, Scenario, Targets, as_scenario
from ttc_sim.scenario.robust import LEFT_ASIDE
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.over_time import OverTime
from ttc_sim.simulation.pooling import HOUR_S
from ttc_sim.simulation.provisioning import Provisioned
from ttc_sim.simulation.response_fit import with_responses
from ttc_sim.simulation.result import Result

_HOURS_UNASKED = 2000  # that are kept whether or not somebody asks for them
_MOST_FAILED = 5  # replicas that are taken away to see what may fail
_SECOND_THOUGHTS = 3  # plans that fresh runs may refute before the search is given up
_AS_NEAR = 1e-3  # of a bound: misses that differ by less are alike


@shows_progress()
@one_thread()
def capacity(
    scenario: Scenario | Plan | SavedPlan | str | Path,
    progress: Telling = None,
    *,
    hours: bool = False,
    workers: int | None = None,
    allow_code: AllowCode = False,
) -> Capacity:
    """Find the cheapest GPUs, parallelism, precision and number of replicas of every pool that meet the scenario's targets.

    The policy is the scenario's own; one that has a single arm needs none. What may be chosen is said in ``search``: ``pools`` and
    ``gpus`` (:class:`ttc_sim.scenario.PoolSearch`), or ``replicas``. Each choice of hardware has a lower bound by conservation of
    work (:mod:`ttc_sim.optimizer.capacity.bounds`); exact simulation of the scenario's runs, from the cheapest bound on, decides,
    and fresh runs verify. ``docs/capacity.md`` has the bound's proof.

    Args:
        scenario: with targets: itself, a plan, the file of either, or the name of a shipped scenario.
        progress: ``True`` shows how far it is and the time left, a function is told by lines, ``False`` is silent; left out, it is
            shown in an open notebook (:func:`ttc_sim.base.showing.telling`).
        hours: keep the plan's runs by hour however many there are; up to 2,000 hours they are kept anyway.
        workers: threads; as many as there are cores if left out. The result is the same whatever their number.
        allow_code: as for :func:`ttc_sim.load_scenario`.

    Raises:
        InputError: no targets, or such as any capacity meets for dropping requests; no policy though there are several arms; no GPU
            pool that requests are sent to; or nothing that can be tried for one.

    >>> found = capacity("reasoning-gateway")  # doctest: +SKIP
    """
    say = telling("capacity", progress)
    threads = cpus()
    if workers is not None:
        threads = count("capacity", "workers", workers, 1, MOST_WORKERS, "threads")
    given = _scenario_of(scenario, allow_code)
    policy, given = _policy_of(given)
    targets = _targets_of(given)
    if targets.robust is not None:
        say(LEFT_ASIDE)
    policy.get_ready()
    pools, refused = _choices(given)
    first = {name: choices[0].pool for name, choices in pools.items()}
    model = with_responses(load_model(given.model_copy(update={"deployments": {**given.deployments, **first}})), policy)
    runs = given.replications
    say(Step("drawing the requests"))
    trials = Trials(model, policy, pools, "simulate", runs, threads)
    used = trials.used()
    unused = tuple(name for name in pools if name not in used)
    for name in unused:
        if given.search.pools.get(name, PoolSearch()).autoscaling is not None:
            expected = f"none: nothing is sent to {name}, so there is nothing that it could save"
            raise InputError(given.path, f"search.pools.{name}.autoscaling", name, expected)
    pools = {name: choices for name, choices in pools.items() if name in used}
    if not pools:
        raise InputError(
            given.path, "policy", given.policy, "one that sends requests to a GPU pool: there is no other capacity"
        )
    _check_drops(given, targets, used)
    trials.pools = pools
    bounds = Bounds(trials)
    pools, too_small = _that_fit(given, targets, pools, bounds)
    trials.pools = pools
    refused = [one for one in (*refused, *too_small) if one.pool in used]
    for one in refused:
        say(f"not tried: {one.pool} on {one.name}: expected {one.reason}")
    say(Step("what no capacity can be less than"))
    least = {name: bounds.fewest(name, choices) for name, choices in pools.items()}
    search = Search(trials, least, given.search.gpus, say)
    fresh: Trials | None = None
    for _ in range(_SECOND_THOUGHTS):
        searched = search.run()
        config = searched.best or _nearest(search, searched, targets, say)
        fresh = fresh or Trials(model, policy, pools, "verify", runs, threads)
        say(Step("verifying on fresh runs", detail=search.named(config)))
        result = fresh.result(config, _interval_s(fresh, hours))
        verdicts = judge_targets(result.summary(), targets, model.population)
        say(Step("verifying on fresh runs", detail=figures_in_brief(result.summary())))
        status = _status(searched, verdicts)
        if searched.best is None or not refuted(verdicts):
            break
        search.refuted.add(config)
    assert fresh is not None
    fixed, saving = config, None  # of autoscaling
    rules = [name for name in pools if rules_of(given, name)]
    if rules and (searched.best is None or refuted(verdicts)):
        say("autoscaling is not tried: no fixed numbers meet the targets, and it never has more replicas than those")
    elif rules:
        say(Step("autoscaling"))
        beside = Beside(fresh, config, result, _interval_s(fresh, hours), targets)
        found = Autoscalers(given, trials, config, beside.verifies, say).run()
        if found.config != fixed:
            config, result = found.config, beside.results[found.config]
            verdicts = judge_targets(result.summary(), targets, model.population)
            status = _status(searched, verdicts)
            say(Step("autoscaling", detail=figures_in_brief(result.summary())))
        saving = beside.saving(found)
        refused += found.refused
    apart = {} if searched.best is None else apart_or_not(search, fixed, say)
    binding = _binding(search, fixed, targets) if status != "not met" else _missed(verdicts, trials, config)
    say(Step("what if replicas fail"))
    headroom = _headroom(given, fresh, config, targets)
    final = _written(given, pools, config)
    nothing = Provisioned(0.0, 0, 0.0, 0.0)  # of a pool that no fresh run sends anything to
    provided = {name: result.summary().provisioned.get(name, nothing) for name in pools}
    return Capacity(
        status=status,
        binding=binding,
        near_tie=status != "not met"
        and (bool(search.refuted) or _near(verdicts) or _one_fewer_may_do(search, config, fixed, headroom)),
        pools={
            name: PoolPlan(
                gpu=choices[k].gpu,
                tensor_parallel=choices[k].tensor_parallel,
                data_parallel=choices[k].pool.data_parallel,
                precision=choices[k].precision,
                option=choices[k].option,
                draft_tokens=choices[k].draft_tokens,
                replicas=replicas if choices[k].autoscaling is None else choices[k].pool.most_replicas,
                lower_bound=least[name][kind],
                usd_per_day=_usd(choices[k], replicas, provided[name].replicas),
                autoscaling=choices[k].autoscaling,
                provisioned_gpu_hours=provided[name].provisioned_gpu_hours,
                busy_gpu_hours=provided[name].busy_gpu_hours,
                prefill=choices[k].prefill,
                prefill_gpus=sum(choices[k].fixed_gpus.values()),
            )
            for (name, choices), (k, replicas), (kind, _) in zip(pools.items(), config, fixed, strict=True)
        },
        unused=unused,
        usd_per_day=sum(
            _usd(choices[k], replicas, provided[name].replicas)
            for (name, choices), (k, replicas) in zip(pools.items(), config, strict=True)
        ),
        lower_bound_usd_per_day=_least_usd(pools, least),
        scenario=final,
        result=result,
        verdicts=verdicts,
        headroom=headroom,
        autoscaling=saving,
        apart=apart,
        refused=tuple(refused),
        tried=searched.tried,
        ruled_out=searched.left,
        day=_day(result, hours),
    )


# ------------------------------------------------------------------------------------------------------- what is asked


def _scenario_of(given: object, allow_code: AllowCode) -> Scenario:
    if isinstance(given, (Plan, SavedPlan)):
        given = given.scenario
    if isinstance(given, (str, Path)):
        planned = planned_scenario(given, allow_code)
        given = given if planned is None else planned
    return as_scenario(given, "capacity", allow_code)  # type: ignore[arg-type]


def _policy_of(scenario: Scenario) -> tuple[Policy, Scenario]:
    """The scenario's policy, or always its only arm."""
    policy = scenario.parsed_policy()
    if policy is not None:
        return policy, scenario
    arms = [name for name, arm in scenario.arms.items() if arm.sources != []]
    if len(arms) != 1:
        expected = (
            f"a policy, since there are several arms ({', '.join(arms)}): `ttc-sim optimize --plan F` plans one, and "
            "`ttc-sim capacity F` takes that plan"
        )
        raise InputError(scenario.path, "policy", None, expected)
    notation = f"Always({arms[0]!r})"
    return parse_policy(notation), scenario.model_copy(update={"policy": notation})


def _targets_of(scenario: Scenario) -> Targets:
    targets = scenario.targets
    if targets is None or not targets.asked():
        expected = "targets that capacity must meet, such as {latency_p95_s: 30} or {ttft_p95_s: 2, every_hour: true}"
        given = None if targets is None else targets.model_dump(exclude_none=True, exclude_defaults=True)
        raise InputError(scenario.path, "targets", given, expected)
    return targets


def _check_drops(scenario: Scenario, targets: Targets, used: Sequence[str]) -> None:
    """Where requests may be given up and nothing speaks against it, the fewest replicas would be best for losing most of them."""
    keys = {one.key for one in targets.asked() if one.source is None}
    if keys & {"timeout_rate", "goodput", "accuracy"}:
        return
    latency = [one.bound for one in targets.asked() if one.percentile is not None and one.percentile[0] == "latency"]
    for name in used:
        item = scenario.deployments[name]
        # What breaks does so however many replicas there are.
        ways = drops_of(item, (*LIMITS_OF_MEMORY, "errors", "failures"))
        gives_up_s = min((one for one in (item.timeout_s, item.deadline_s) if one is not None), default=math.inf)
        if any(bound < gives_up_s for bound in latency):
            ways.pop("timed_out_rate", None)  # who gives up is late
        for target, key in ways.items():
            if target not in keys:
                raise InputError(scenario.path, f"targets.{target}", None, _limit(name, key, _DROPPED[target]))


_DROPPED = {"timed_out_rate": "time out", "rejected_rate": "be rejected"}


def _limit(name: str, key: str, what: str) -> str:
    return (
        f"most requests that may {what}, such as 0.01: deployment {name} may drop some by its {key}, and without a limit (this, "
        "timeout_rate or goodput) the fewest replicas would do"
    )


def _choices(scenario: Scenario) -> tuple[dict[str, list[Choice]], list[Refused]]:
    pools: dict[str, list[Choice]] = {}
    refused: list[Refused] = []
    for name, item in scenario.deployments.items():
        if isinstance(item, GpuPool):
            pools[name], more = choices_of(scenario, name)
            refused += more
    if not pools:
        raise InputError(
            scenario.path, "deployments", list(scenario.deployments), "a GPU pool: only those have replicas"
        )
    return pools, refused


def _that_fit(
    scenario: Scenario, targets: Targets, pools: Mapping[str, list[Choice]], bounds: Bounds
) -> tuple[dict[str, list[Choice]], list[Refused]]:
    """Choices whose KV cache holds the longest request; others would reject it, and no percentile counts that."""
    if {one.key for one in targets.asked() if one.source is None} & {
        "timeout_rate",
        "rejected_rate",
        "goodput",
        "accuracy",
    }:
        return dict(pools), []
    kept: dict[str, list[Choice]] = {}
    refused = []
    for name, choices in pools.items():
        kept[name] = []
        for one in choices:
            over = bounds.too_long(name, one)
            if over is None:
                kept[name].append(one)
                continue
            longest, limit = over
            reason = f"a KV cache that holds the longest request of {longest:,} tokens; its own holds {limit:,}. A target of "
            reason += "rejected_rate would say how many may be rejected"
            refused.append(Refused(name, one.name, reason))
        if not kept[name]:
            first = refused[-1]
            raise InputError(scenario.path, f"deployments.{name}", first.name, first.reason)
    return kept, refused


# ------------------------------------------------------------------------------------------------------- what is found


def _status(searched: Searched, verdicts: Sequence[TargetVerdict]) -> str:
    if searched.best is None or any(one.met is False for one in verdicts):
        return "not met"
    return "met" if all(one.met for one in verdicts) else "unknown"


def _nearest(search: Search, searched: Searched, targets: Targets, say: Progress) -> Config:
    """Where nothing holds: what misses by the least, on as few replicas as that takes."""
    tops = searched.tops or search.most_of_each()
    if not tops:
        scenario = search.trials.model.scenario
        expected = "more GPUs: the fewest replicas of all pools together take more than there are"
        raise InputError(scenario.path, "search.gpus", scenario.search.gpus, expected)
    missed = {config: _miss(search.trials, config, targets) for config in dict.fromkeys(tops)}
    best = min(missed, key=lambda one: (missed[one], search.usd_per_day(one)))
    say(f"nothing meets the targets; nearest so far: {search.named(best)}")
    low, high = 0.0, 1.0  # parts of its replicas that are too few, and that do as well
    while max(count for _, count in best) * (high - low) > 1:
        middle = (low + high) / 2
        fewer = tuple((k, max(1, math.ceil(middle * count))) for k, count in best)
        as_near = _allowed(search, fewer) and _miss(search.trials, fewer, targets) <= missed[best] + _AS_NEAR
        low, high = (low, middle) if as_near else (middle, high)
    fewer = tuple((k, max(1, math.ceil(high * count))) for k, count in best)
    return fewer if _allowed(search, fewer) else best


def _allowed(search: Search, config: Config) -> bool:
    return all(n in choices[k].numbers for choices, (k, n) in zip(search.choices, config, strict=True))


def _miss(trials: Trials, config: Config, targets: Targets) -> float:
    """Largest relative miss of a target on times or shares."""
    values = trials.values(config)
    misses = [0.0]
    for one in targets.asked():
        if one.name in values and not target_holds(one, values[one.name]):
            miss = abs(values[one.name] - one.bound) / max(abs(one.bound), 1e-9)
            misses.append(math.inf if math.isnan(miss) else miss)
    return max(misses)


def _missed(verdicts: Sequence[TargetVerdict], trials: Trials, config: Config) -> tuple[str, ...]:
    """Targets that the nearest plan misses: on fresh runs or, where chance hides it there, on those of the search."""
    named = [
        one.name
        for one in verdicts
        if not (one.realized.value >= one.asked if one.at_least else one.realized.value <= one.asked)
    ]
    if not named:
        values = trials.values(config)
        named = [one.name for one in trials.asked if not target_holds(one, values[one.name])]
    return tuple(named)


def _binding(search: Search, config: Config, targets: Targets) -> tuple[str, ...]:
    """Targets that one replica fewer of a pool misses."""
    named: dict[str, None] = {}
    for pool, (k, replicas) in enumerate(config):
        numbers = [n for n in search.choices[pool][k].numbers if n < replicas]
        if not numbers:
            continue
        fewer = tuple((k, numbers[-1]) if at == pool else one for at, one in enumerate(config))
        values = search.trials.values(fewer)
        missed = [one.name for one in search.trials.asked if not target_holds(one, values[one.name])]
        if not missed and not search.trials.look([fewer])[0]:
            missed = [one.name for one in targets.asked() if one.key == "accuracy"]
        named |= dict.fromkeys(missed)
    return tuple(named)


def _headroom(scenario: Scenario, trials: Trials, config: Config, targets: Targets) -> dict[str, Headroom]:
    by_name = {one.name: one for one in targets.asked()}
    found = {}
    for pool, (name, (k, replicas)) in enumerate(zip(trials.pools, config, strict=True)):
        fewer: list[Fewer] = []
        one = trials.pools[name][k]
        most = replicas if one.autoscaling is None else one.pool.most_replicas
        for failed in range(1, min(most - fewest_that_fail(one.pool), _MOST_FAILED) + 1):
            entry = k, replicas - failed
            if one.autoscaling is not None:
                left_of_it = with_fewer(one.autoscaling, failed)
                start = count_after(left_of_it, replicas)
                trials.pools[name].append(with_autoscaling(scenario, name, one, left_of_it, start))
                entry = len(trials.pools[name]) - 1, start
            left = tuple(entry if at == pool else other for at, other in enumerate(config))
            figures = trials.values(left)
            missed = tuple(key for key, value in figures.items() if not target_holds(by_name[key], value))
            fewer.append(Fewer(failed, most - failed, figures, missed))
            if missed:
                break
        held = [each.failed for each in fewer if not each.missed]
        found[name] = Headroom(max(held, default=0), tuple(fewer))
    return found


def _near(verdicts: Sequence[TargetVerdict]) -> bool:
    """Whether a bound lies inside an interval; one that is open for want of requests says nothing of that."""
    return any(one.met is None and math.isfinite(one.realized.high - one.realized.low) for one in verdicts)


def _one_fewer_may_do(search: Search, config: Config, fixed: Config, headroom: Mapping[str, Headroom]) -> bool:
    """Whether on fresh runs a pool does with one fewer that could have been chosen, though the search's runs took it."""
    return any(
        entry == (k, replicas) and headroom[name].may_fail > 0 and replicas - 1 in choices[k].numbers
        for name, choices, entry, (k, replicas) in zip(search.pools, search.choices, config, fixed, strict=True)
    )


def _least_usd(pools: Mapping[str, Sequence[Choice]], least: Mapping[str, Sequence[int]]) -> float:
    """What no fixed numbers can be cheaper than: of each pool the cheapest bound. Autoscaling, tried later, has none."""
    return sum(
        min(one.usd_per_day * bound + one.fixed_usd_per_day for one, bound in zip(choices, least[name], strict=False))
        for name, choices in pools.items()
    )


def _written(scenario: Scenario, pools: Mapping[str, Sequence[Choice]], config: Config) -> Scenario:
    """The scenario with what was chosen."""
    chosen = {
        name: choices[k].written.model_copy(update={"replicas": replicas})
        for (name, choices), (k, replicas) in zip(pools.items(), config, strict=True)
    }
    search = scenario.search
    for name, one in chosen.items():  # whose numbers are no longer those of a fixed size
        if one.autoscaling is not None and name in search.replicas:
            numbers = {"replicas": sorted(set(search.replicas[name]))}
            searched = search.pools.get(name, PoolSearch()).model_copy(update=numbers)
            left = {other: given for other, given in search.replicas.items() if other != name}
            search = search.model_copy(update={"replicas": left, "pools": {**search.pools, name: searched}})
        if one.kv_transfer is not None and name in search.pools:  # which the pool now says itself
            searched = search.pools[name].model_copy(update={"kv_transfer": None})
            search = search.model_copy(update={"pools": {**search.pools, name: searched}})
    return scenario.model_copy(update={"deployments": {**scenario.deployments, **chosen}, "search": search})


def _usd(choice: Choice, replicas: int, provided: float) -> float:
    """Dollars a day: of a fixed number, or of what autoscaling provides in the mean."""
    return choice.usd_per_day * (replicas if choice.autoscaling is None else provided) + choice.fixed_usd_per_day


def _interval_s(trials: Trials, hours: bool) -> float | None:
    """Hours, if they are wanted or few; of users who wait for answers nobody knows beforehand how many there will be."""
    lasts_s = max(float(one.draws.traffic.arrival_s.max()) for one in trials.ready)
    return HOUR_S if hours or lasts_s <= _HOURS_UNASKED * HOUR_S else None


def _day(result: Result, hours: bool) -> OverTime | None:
    lasts_s = max(run.result.end_s for run in result.runs)
    return result.tables_over_time(HOUR_S) if hours or lasts_s <= _HOURS_UNASKED * HOUR_S else None
