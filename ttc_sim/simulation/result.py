"""What a simulation gives back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ttc_sim.base.arguments import count, finite
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.display import Displayed, in_short
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_REQUESTS
from ttc_sim.base.progress import Telling, counted
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.base.threads import one_thread
from ttc_sim.policies import PerSource, Policy, PolicyLike, as_policy, check_sources
from ttc_sim.scenario import MOST_REPLICATIONS, Scenario, as_scenario, with_changes
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expected_under
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.over_time import By, Intervals, OverTime, run_again
from ttc_sim.simulation.pooling import HOUR_S
from ttc_sim.simulation.response_fit import with_responses
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Result(Displayed):
    """Runs of one policy.

    Attributes:
        model: what was run; policy: the policy; runs: independent runs of it.
    """

    model: Model
    policy: Policy
    runs: tuple[Run, ...]

    @cached_property
    def records(self) -> pl.DataFrame:
        """One row per request of every run: times in seconds, tokens, US dollars, status."""
        return pl.concat([run.table(self.model) for run in self.runs])

    def summary(self) -> Summary:
        """Figures with 95% intervals."""
        return self._summary

    @cached_property
    @one_thread()
    def _summary(self) -> Summary:
        return summarize(self.model, self.runs, expected=expected_under(self.model, self.policy, self.runs))

    def over_time(self, interval_s: float = HOUR_S, by: By = "all") -> pl.DataFrame:
        """A row for each interval of the clock, in the mean of the runs; the last one may be cut short (``partial``).

        Of the requests that arrived in it: ``arrivals``, ``timed_out``, ``rejected``, ``goodput`` (null where the targets have no
        ``slo``), percentiles of time to first token, per token and latency (null where there are none), tokens and accuracy; those
        sum to the whole run's. Where anything may go wrong also ``failed``, ``errors`` and ``outage_errors``, ``error_retries``,
        ``timeout_retries`` and with those after a 429 all ``retries``, ``fallbacks``, ``lost_tokens`` and ``lost_usd``: by the
        arrival of their request. Of the servers in the meantime, whoever they serve: ``running`` and ``waiting``, sequences in the
        mean (of an endpoint: calls, and those to be made again after a 429), ``kv_tokens`` in use and their ``kv_share`` of the
        cache, ``utilisation`` (of a pool: share of its replicas' time with anything to do; of an endpoint: of its concurrency), and
        of a pool ``replicas`` that are provided, starting or draining too, and ``provisioned_gpu_hours``: GPUs times hours paid.
        Where the scenario has a budget, also requests ``degraded``, ``queued`` and ``refused``, and ``spent_usd``, which the budget
        of all, or of a source, counted in the interval as calls ended.
        ``usd``: of pools by the time that they are paid for, of calls by the arrival of their request; of a source, what its
        requests are billed.

        Args:
            interval_s: seconds of each interval, from 0 on the clock of the arrivals.
            by: ``all``; ``deployment``: a row for each of them too, with the requests that have a stage there; or ``source``.

        Raises:
            InputError: no seconds above 0, so few that there are too many intervals, or another ``by``.

        >>> result = simulate("qa-gateway", "Always('llama-70b')", requests=1500, replications=1)
        >>> minutes = result.over_time(60)
        >>> minutes["arrivals"].sum(), minutes["arrivals"][0] < minutes["arrivals"][2]
        (1500.0, True)
        """
        if by not in ("all", "deployment", "source"):
            raise InputError("over_time", "by", by, "all, deployment or source")
        return self._intervals(interval_s).over_time(by)

    def plot_over_time(self, interval_s: float = HOUR_S) -> Figure:
        """A matplotlib figure of :meth:`over_time`: arrivals, queue, what is running, KV cache, percentiles."""
        return self.tables_over_time(interval_s).plot()

    def tables_over_time(self, interval_s: float = HOUR_S) -> OverTime:
        """All three tables of :meth:`over_time`."""
        found = self._intervals(interval_s)
        return OverTime(
            float(interval_s), found.over_time("all"), found.over_time("deployment"), found.over_time("source")
        )

    @one_thread()
    def _intervals(self, interval_s: float) -> Intervals:
        if not (finite(interval_s) and interval_s > 0):
            raise InputError("over_time", "interval_s", interval_s, "seconds above 0")
        interval_s = float(interval_s)
        kept = [run.timeline for run in self.runs]
        timelines = [
            one if one is not None and one.interval_s == interval_s else run_again(self.model, run, interval_s)
            for one, run in zip(kept, self.runs, strict=True)
        ]
        return Intervals(self.model, self.runs, timelines)

    def __repr__(self) -> str:
        runs = "1 run" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        least, most = (some(len(run.arm) for run in self.runs) for some in (min, max))
        requests = (
            "1 request" if most == 1 else f"{most:,} requests" if least == most else f"{least:,} to {most:,} requests"
        )
        return f"<Result: {in_short(self.policy)} on {self.model.scenario.name}, {runs} of {requests}>"


@shows_progress()
@one_thread()
def simulate(
    scenario: Scenario | str | Path,
    policy: PolicyLike | None = None,
    *,
    replications: int | None = None,
    requests: int | None = None,
    progress: Telling = None,
    interval_s: float | None = None,
    allow_code: AllowCode = False,
) -> Result:
    """Run a policy on the scenario's workload.

    Args:
        scenario: what to simulate: itself, its file, or the name of a shipped one.
        policy: instead of the scenario's own: itself, its notation, one of these for each source, or a function of a request
            (and of the live load, if it takes two arguments) that returns the name of an arm. ``file.py:function`` is looked up
            from the current folder, and must lie there.
        replications: independent runs, 1 to 1,000, instead of the scenario's own number; requests: of each run, instead of the
            scenario's number or duration.
        progress: ``True`` shows how far it is and the time left, a function is told by lines, ``False`` is silent; left out, it is
            shown in an open notebook (:func:`ttc_sim.base.showing.telling`).
        interval_s: record what :meth:`Result.over_time` needs for intervals of so many seconds while running; for any other it runs
            the engine again.
        allow_code: whether functions in files that the policy and the arms that are used name may run, beside what the scenario
            was given; ``"remember"`` allows those that run from now on. See :func:`ttc_sim.load_scenario`.

    Raises:
        InputError: an argument of another kind or out of its range, a scenario that is wrong since it was changed in Python,
            neither the scenario nor the call names a policy, or the policy names an arm or source that is not there.

    >>> result = simulate("reasoning-gateway", "Always('maverick')", requests=500, replications=2)
    >>> result
    <Result: Always(arm='maverick') on reasoning-gateway, 2 runs of 500 requests>
    >>> result.summary().accuracy.low < 0.5 < result.summary().accuracy.high
    True
    """
    scenario = as_scenario(scenario, "simulate", allow_code)
    runs = scenario.replications
    if replications is not None:
        runs = count("simulate", "replications", replications, 1, MOST_REPLICATIONS, "runs")
    if requests is not None:
        requests = count("simulate", "requests", requests, 1, MOST_REQUESTS, "requests")
        scenario = with_changes(scenario, {"workload.requests": requests})
    if interval_s is not None and not (finite(interval_s) and interval_s > 0):
        raise InputError("simulate", "interval_s", interval_s, "seconds above 0")
    say = telling("simulate", progress)
    chosen = scenario.parsed_policy() if policy is None else as_policy(policy, where="simulate", allow_code=allow_code)
    if chosen is None:
        raise InputError(
            scenario.path, "policy", None, "a policy such as Always('small'), or `ttc-sim optimize` to find one"
        )
    if isinstance(chosen, PerSource):
        check_sources(chosen.policies, scenario.workload.sources, scenario.path)
    for name in chosen.arm_names():
        if name not in scenario.arms:
            raise InputError(scenario.path, "policy", name, "one of the arms " + ", ".join(scenario.arms))
    chosen.get_ready()
    model = with_responses(load_model(scenario), chosen)
    done = []
    for k in counted(range(runs), say, "simulating", "runs"):
        every_s = None if interval_s is None else float(interval_s)
        done.append(run_once(model, chosen, draw(model, k), every_s))
    return Result(model=model, policy=chosen, runs=tuple(done))
