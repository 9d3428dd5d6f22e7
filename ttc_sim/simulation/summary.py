"""What one policy comes to: figures with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base import intervals
from ttc_sim.base.draws import F64
from ttc_sim.base.estimates import Estimate
from ttc_sim.engine.spending import QUEUE
from ttc_sim.engine.work import FAILED, REJECTED, TIMED_OUT
from ttc_sim.scenario import Api, GpuPool
from ttc_sim.scenario.targets import USD
from ttc_sim.serving.measured_ranges import Outside
from ttc_sim.serving.prices import TokenPrices
from ttc_sim.simulation.billing import Run
from ttc_sim.simulation.budget_figures import BudgetReport, budget_report, notes_of
from ttc_sim.simulation.ending import notes_of_ended
from ttc_sim.simulation.model import Model
from ttc_sim.simulation.outside import in_a_line, outside_measured
from ttc_sim.simulation.pooling import UNKNOWN, Asked, Part, Pooled, ratio
from ttc_sim.simulation.provisioning import Provisioned, busy_of_both
from ttc_sim.simulation.refusing import notes_of_refused
from ttc_sim.simulation.session_accuracy import SessionAccuracy, notes_on_sessions, session_accuracy
from ttc_sim.simulation.session_figures import (
    CacheFigures,
    SessionFigures,
    cache_figures,
    notes_on_length,
    session_figures,
)
from ttc_sim.simulation.shortening import notes_of_summaries, summaries_share
from ttc_sim.simulation.standing import Verdict, over_runs, worst


@dataclass(frozen=True)
class AttemptFigures:
    """What became of attempts that were not answered, and what they cost: each figure a mean over all requests.

    Attributes:
        errors: attempts that broke or found an endpoint down; outage_errors: those of them by an outage.
        refused_retries: attempts made again after a 429 or a full queue; error_retries, timeout_retries: after an error, a timeout.
        fallbacks: how often a further arm took over.
        lost_tokens: prompt and output tokens of attempts that broke or were made again, and of arms that a fallback came after;
            lost_usd: their part of the bill.
    """

    errors: Estimate
    outage_errors: Estimate
    refused_retries: Estimate
    error_retries: Estimate
    timeout_retries: Estimate
    fallbacks: Estimate
    lost_tokens: Estimate
    lost_usd: Estimate


@dataclass(frozen=True)
class Summary:
    """What one policy comes to.

    Intervals are 95%. Those of accuracy and cost hold for new problems like the measured ones: of new task types, where the problem
    set's card says that its task types are a sample (``cluster: group``), else of new problems.

    Attributes:
        accuracy: share of requests answered correctly in time; ``None`` where accuracy is unknown. Of sessions the share whose last
            answer is right, by agent profiles.
        cost_usd_per_request: API bill, fixed fees, and the bill of the GPU pools in use; cost_usd_per_day: at ``rate_per_s``.
        same_types: ``accuracy`` and ``cost_usd_per_request`` with the narrower intervals that hold for new problems of the very
            task types that were measured; empty where the others do already.
        latency_s: ``mean``, ``p50``, ``p90``, ``p95``, ``p99`` of requests answered or timed out (a timed-out one counts
            the time it waited); ttft_s: the same to the first generated token; tpot_s: for each after it, in the mean of a request.
            Of a request that timed out the token that it waited for counts as come when it gave up.
        open_ended: percentiles of latency for which there are too few problems, requests or runs: where the interval ends is not
            measured, but 0 or the longest possible (the timeout, or infinity).
        tokens_per_request: ``prompt``, ``reasoning``, ``visible``, ``output``.
        goodput: share of requests answered that met all of their service-level objectives (``slo`` of the scenario's targets) at
            once; ``None`` without any.
        asked: by name, the figure of each target, and of what is made best of; no figure of those on accuracy and cost, which have
            theirs elsewhere.
        timeout_rate: share timed out; rejected_rate: share rejected; failed_rate: share whose server broke; unserved_rate: all of
            these.
        attempts: what became of attempts that were not answered; ``None`` where nothing breaks and nobody asks again.
        cut_off_rate: share answered in part, up to a cap; ``None`` with problems, where such an answer is a wrong one.
        cost_spread: 99th percentile over median of the cost of a request.
        thinking_cost_share: part of the bill that is for hidden reasoning tokens.
        idle_thinking_cost_share: part of the bill for thinking on after the answer stood, in expectation.
        reasoning_tokens_per_day: at ``rate_per_s``.
        per_arm: by arm; per_source: by source; per_band: by band of predicted difficulty. Each adds up to the figures of all.
        replicas: per GPU pool in use, the most at any one time; provisioned: in the mean of the runs, how many over the time that
            is paid for, and GPU-hours provided and busy.
        verdict: ``stable``, ``backlogged`` (fell behind, and caught up within the run) or ``overloaded``: the worst of the
            deployments'; longest_wait_s: longest time that a request waited to be begun.
        verdicts: both by deployment.
        queue_growth_per_s: by deployment that is overloaded, requests per second by which those who wait for it grow in number over
            the second half of the arrivals.
        rate_per_s: requests per second that are served: of the arrivals, or fewer where a pool fell behind.
        requests: of a run, in the mean of the runs; duration_s: that each lasts, where that was asked for and not their number.
        fees_usd_per_day: by endpoint in use that has one, its fixed fee.
        replay: nothing in the runs is random: another one would come out the same.
        budget: what hard budgets a day came to; ``None`` without any.
        prices: by endpoint that requests may have come to.
        sessions: what sessions come to; ``None`` without any. caches: by deployment, what was found of prompts; empty where nothing
            was.
        summaries_share: part of the requests that ask for summaries, as the policy has contexts of sessions made shorter.
        session_accuracy: what stands behind ``accuracy`` where that is of sessions; ``None`` elsewhere.
        outside_measured: what of pools lies outside of what was measured (:mod:`ttc_sim.serving.measured_ranges`).
    """

    accuracy: Estimate | None
    cost_usd_per_request: Estimate
    cost_usd_per_day: Estimate
    same_types: Mapping[str, Estimate]
    latency_s: Mapping[str, Estimate]
    ttft_s: Mapping[str, Estimate]
    tpot_s: Mapping[str, Estimate]
    goodput: Estimate | None
    asked: Mapping[str, Asked]
    open_ended: tuple[str, ...]
    tokens_per_request: Mapping[str, Estimate]
    timeout_rate: Estimate
    rejected_rate: Estimate
    failed_rate: Estimate
    unserved_rate: Estimate
    cut_off_rate: Estimate | None
    cost_spread: float
    thinking_cost_share: float
    idle_thinking_cost_share: float
    reasoning_tokens_per_day: float
    per_arm: Mapping[str, Part]
    per_source: Mapping[str, Part]
    per_band: Mapping[str, Part]
    replicas: Mapping[str, int]
    provisioned: Mapping[str, Provisioned]
    verdict: str
    longest_wait_s: float
    verdicts: Mapping[str, Verdict]
    queue_growth_per_s: Mapping[str, float]
    rate_per_s: float
    requests: int
    runs: int
    replay: bool
    problems: int
    notes: tuple[str, ...]
    duration_s: float | None = None
    attempts: AttemptFigures | None = None
    budget: BudgetReport | None = None
    fees_usd_per_day: Mapping[str, float] = field(default_factory=dict)
    prices: Mapping[str, TokenPrices] = field(default_factory=dict)
    sessions: SessionFigures | None = None
    caches: Mapping[str, CacheFigures] = field(default_factory=dict)
    session_accuracy: SessionAccuracy | None = None
    summaries_share: float = 0.0
    outside_measured: tuple[Outside, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Plain mapping for JSON."""
        figures = {name: (self.quantity(name), one.hour) for name, one in self.asked.items()}
        asked = {
            name: {**asdict(UNKNOWN if figure is None else figure), "hour": hour}
            for name, (figure, hour) in figures.items()
        }
        found = {**asdict(self), "asked": asked, "per_arm": {name: one.as_json() for name, one in self.per_arm.items()}}
        for parts in ("per_source", "per_band"):
            found[parts] = {name: one.as_json() for name, one in getattr(self, parts).items()}
        found["prices"] = {name: one.as_json() for name, one in self.prices.items()}
        if self.budget is None:
            del found["budget"]
        else:
            found["budget"] = self.budget.as_json()
        if self.attempts is None:  # where nothing can go wrong there is nothing to say of it
            del found["attempts"]
            if not self.failed_rate.value:
                del found["failed_rate"]
        if not self.fees_usd_per_day:
            del found["fees_usd_per_day"]
        for name in ("sessions", "caches"):
            if not found[name]:
                del found[name]
        if not self.summaries_share:
            del found["summaries_share"]
        if self.session_accuracy is None:
            del found["session_accuracy"]
        found["outside_measured"] = [asdict(one) for one in self.outside_measured]
        return found

    def quantity(self, target: str) -> Estimate | None:
        """The figure that a target of that name is about; ``None`` if it is unknown.

        Args:
            target: keys that lead to it below ``targets``: ``latency_p95_s``, or ``sources.chat.accuracy``.
        """
        asked = self.asked.get(target)
        if asked is not None and asked.figure is not None:
            return asked.figure
        key = target
        if target.startswith("sources."):
            source, _, key = target.removeprefix("sources.").rpartition(".")
            return self._of_source(source, key)
        if key == "accuracy":
            return self.accuracy
        if key in ("cost_usd_per_request", "cost_usd_per_day"):
            return self.cost_usd_per_request if key == "cost_usd_per_request" else self.cost_usd_per_day
        if key in ("timeout_rate", "timed_out_rate", "rejected_rate", "failed_rate"):
            names = {
                "timeout_rate": self.unserved_rate,
                "timed_out_rate": self.timeout_rate,
                "failed_rate": self.failed_rate,
            }
            return names.get(key, self.rejected_rate)
        if key in ("cut_off_rate", "goodput"):
            return self.cut_off_rate if key == "cut_off_rate" else self.goodput
        if key == "accuracy_per_usd":
            return None  # worked out where it is asked for alone
        time, _, part = key.removesuffix("_s").partition("_")
        return {"latency": self.latency_s, "ttft": self.ttft_s, "tpot": self.tpot_s}[time][part]

    def _of_source(self, source: str, key: str) -> Estimate | None:
        """Accuracy or cost of a source: as the summary has them by now."""
        part = self.per_source.get(source)
        if part is None:
            return UNKNOWN
        if key == "accuracy":
            return part.accuracy
        per_day = part.share * self.rate_per_s * 86400
        return part.cost_usd_per_request.scaled(per_day if key == "cost_usd_per_day" else 1.0)


def summarize(
    model: Model, runs: Sequence[Run], *, expected: Mapping[str, F64] | None = None, parts: bool = True
) -> Summary:
    """Figures of one policy from independent runs of it.

    Args:
        model: what was run.
        runs: at least one.
        expected: for a policy that looks at a request's problem alone: per problem of the population, its ``arm`` and, over its
            measured attempts, the expectation of ``correct``, ``api_cost_usd``, ``prompt``, ``reasoning`` and ``visible`` tokens
            (:meth:`ttc_sim.simulation.expectations.Expectations.under`). The runs then only have to say what the queue changes
            (timeouts, rejections, the bill of pools), which takes the draws' own noise out of the figures.
        parts: whether to work out the figures of each arm, source and band too, which takes as long as all others together.
    """
    return summarize_pooled(Pooled(model, runs, expected), parts=parts)


def summarize_pooled(pooled: Pooled, *, parts: bool = True) -> Summary:
    """The same of requests that stand side by side already."""
    model, runs = pooled.model, pooled.runs
    everyone, population = pooled.all, model.population
    requests, lasts_s = sum(len(run.arm) for run in runs), runs[0].draws.traffic.lasts_s
    rate_per_s = served_per_s(runs)
    accuracy, cost = pooled.accuracy(everyone), pooled.cost_usd(everyone)
    cost_usd = intervals.mean(cost.value, cost.variance)
    same = {}
    if pooled.whole_types:
        same = {"cost_usd_per_request": intervals.mean(cost.value, cost.same_types)}
        same |= {} if accuracy is None else {"accuracy": accuracy[1]}
    tokens = {name: intervals.mean(found.value, found.variance) for name, found in pooled.tokens_of(everyone).items()}
    positive = pooled.cost[pooled.cost > 0]
    spread = float(np.quantile(positive, 0.99) / np.quantile(positive, 0.5)) if len(positive) else 1.0
    verdicts = over_runs([run.standings for run in runs])
    overall = worst(verdicts)
    beyond = _outside(model, runs)
    latency_s, budgets, of_turns = pooled.times("latency"), budget_report(pooled), session_figures(pooled)
    ended, instances = pooled.ended, model.instances
    of_sessions = None if ended is None or instances is None else session_accuracy(ended, len(instances))
    targets = model.scenario.targets
    asked = () if targets is None else targets.asked()
    stand_elsewhere = {*(one.name for one in asked), "accuracy", *USD}
    made_best = [] if targets is None else [name for name in targets.made_best if name not in stand_elsewhere]
    slo_of_all = targets is not None and all(targets.slo_of(name) for name in runs[0].requests.sources)
    return Summary(
        accuracy=None if accuracy is None else accuracy[0],
        cost_usd_per_request=cost_usd,
        cost_usd_per_day=usd_per_day(pooled, cost_usd, rate_per_s),
        same_types=same,
        latency_s=latency_s,
        ttft_s=pooled.times("ttft"),
        tpot_s=pooled.times("tpot"),
        goodput=None if pooled.good is None or not slo_of_all else pooled.goodput(everyone.requests),
        asked={
            **{one.name: pooled.asked(one) for one in asked},
            **{name: pooled.made_best(name) for name in made_best},
        },
        open_ended=pooled.open_ended.get("latency", ()),
        tokens_per_request=tokens,
        timeout_rate=pooled.rate(TIMED_OUT),
        rejected_rate=pooled.rate(REJECTED),
        failed_rate=pooled.rate(FAILED),
        unserved_rate=pooled.rate(TIMED_OUT, REJECTED, FAILED),
        cut_off_rate=pooled.cut_off_rate(),
        cost_spread=spread,
        thinking_cost_share=ratio(pooled.thinking_cost, pooled.cost),
        idle_thinking_cost_share=ratio(pooled.idle_cost, pooled.cost),
        reasoning_tokens_per_day=tokens["reasoning"].value * rate_per_s * 86400,
        per_arm=pooled.arms() if parts else {},
        per_source=pooled.sources() if parts else {},
        per_band=pooled.bands() if parts else {},
        replicas={name: max(run.replicas.get(name, 0) for run in runs) for run in runs for name in run.replicas},
        provisioned={name: _mean_provisioned(name, runs) for run in runs for name in run.provisioned},
        verdict=overall.verdict,
        longest_wait_s=overall.longest_wait_s,
        verdicts=verdicts,
        queue_growth_per_s=queue_growth(model, runs),
        rate_per_s=rate_per_s,
        requests=round(requests / len(runs)),
        runs=len(runs),
        replay=pooled.replay,
        problems=0 if population is None else len(population),
        # With problems the lengths are theirs, whatever a trace says of its own.
        notes=(
            *model.notes,
            *(runs[0].draws.traffic.notes if population is None else ()),
            *notes_on_sessions(model, runs, of_sessions, known=accuracy is not None),
            *_of_replicas(model, runs),
            *_of_budgets(budgets, runs),
            *notes_of_ended(runs),
            *notes_of_summaries(runs),
            *notes_of_refused(model, runs),
            *_of_caches(model, runs),
            *notes_on_length(pooled, of_turns),
            *in_a_line(beyond),
        ),
        duration_s=lasts_s,
        attempts=attempt_figures(pooled),
        budget=budgets,
        fees_usd_per_day={name: 24 * usd for run in runs for name, usd in run.fees_usd_per_hour.items()},
        prices=_prices(pooled),
        sessions=of_turns,
        caches=cache_figures(pooled),
        session_accuracy=None if accuracy is None else of_sessions,
        summaries_share=summaries_share(runs),
        outside_measured=beyond,
    )


def _prices(pooled: Pooled) -> dict[str, TokenPrices]:
    """Of the endpoints that requests may have come to, fallbacks and what a budget degrades to among them."""
    model = pooled.model
    scenario, names = model.scenario, model.arm_names
    sent = {names[v] for v in np.unique(pooled.arm)}
    if (budget := scenario.budget) is not None:
        sent |= set(budget.arms)
    arms = {other for name in sent for other in scenario.path_of(name)}
    reached = frozenset().union(*(model.reached_by(model.arms[names.index(name)]) for name in arms))
    found = zip(model.deployment_names, model.prices, strict=True)
    return {name: one for name, one in found if one is not None and name in reached}


def served_per_s(runs: Sequence[Run]) -> float:
    """Requests per second that are served: so many over the time that they take, run by run."""
    requests = sum(len(run.arm) for run in runs)
    weight = [len(run.arm) * len(runs) / requests for run in runs]
    return len(runs) / sum(part / run.rate_per_s for part, run in zip(weight, runs, strict=True))


def _outside(model: Model, runs: Sequence[Run]) -> tuple[Outside, ...]:
    """Of all pools, what lies outside of what was measured."""
    found: list[Outside] = []
    for d, (name, item) in enumerate(zip(model.deployment_names, model.deployments, strict=True)):
        if isinstance(item, GpuPool):
            reached = [run.reached[name] for run in runs if name in run.reached]
            found += outside_measured(name, item, model.step_tables[d], reached, model.scenario.folder)
    return tuple(found)


def _of_caches(model: Model, runs: Sequence[Run]) -> list[str]:
    """A line on endpoints' caches that have nothing to find."""
    named = [
        name for name, item in model.scenario.deployments.items() if isinstance(item, Api) and item.cache is not None
    ]
    draws = runs[0].draws
    if not named or (draws.row is None and draws.traffic.prefix_id is not None):
        return []
    return [f"cache of {' and '.join(named)} finds nothing: the prompts of these requests have nothing in common"]


def usd_per_day(pooled: Pooled, usd_per_request: Estimate, rate_per_s: float) -> Estimate:
    """US dollars a day, of so many requests per second."""
    if pooled.runs[0].draws.traffic.lasts_s is None:
        return usd_per_request.scaled(rate_per_s * 86400)
    return pooled.usd_per_day(rate_per_s)


def attempt_figures(pooled: Pooled) -> AttemptFigures | None:
    """Of all runs; ``None`` where the engine had nothing to write down."""
    kept = [run.result.attempts for run in pooled.runs]
    known = [one for one in kept if one is not None]
    if len(known) < len(kept):
        return None

    def mean(values: Sequence[NDArray[Any]]) -> Estimate:
        return pooled.per_request(np.concatenate(values).astype(np.float64))

    return AttemptFigures(
        errors=mean([one.errors for one in known]),
        outage_errors=mean([one.outage_errors for one in known]),
        refused_retries=mean([run.result.retries for run in pooled.runs]),
        error_retries=mean([one.error_retries for one in known]),
        timeout_retries=mean([one.timeout_retries for one in known]),
        fallbacks=mean([one.fallbacks for one in known]),
        lost_tokens=mean([run.lost_tokens for run in pooled.runs]),
        lost_usd=mean([run.lost_usd for run in pooled.runs]),
    )


def _mean_provisioned(name: str, runs: Sequence[Run]) -> Provisioned:
    """In the mean of the runs that used the pool."""
    used = [run.provisioned[name] for run in runs if name in run.provisioned]
    return Provisioned(
        replicas=float(np.mean([one.replicas for one in used])),
        most_replicas=max(one.most_replicas for one in used),
        provisioned_gpu_hours=float(np.mean([one.provisioned_gpu_hours for one in used])),
        busy_gpu_hours=float(np.mean([one.busy_gpu_hours for one in used])),
    )


_FEW_FAILURES = 10  # over all runs, in expectation: fewer vary too much between them


def _of_replicas(model: Model, runs: Sequence[Run]) -> list[str]:
    """Where runs cover no whole cycles of a pool's schedule, whose bill is then that of some hours, or hardly any failures."""
    notes = []
    for name in dict.fromkeys(name for run in runs for name in run.provisioned):
        pool = model.scenario.deployments[name]
        assert isinstance(pool, GpuPool)
        scaled, failing = pool.autoscaling, pool.failures
        if pool.prefill is not None:
            shares = busy_of_both(pool, model.deployment_names.index(name), [run.result for run in runs])
            notes.append(
                f"{name}: of {pool.servers:,} replicas {pool.prefill.replicas:,} for prefill, {shares[0]:.0%} of the runs busy, and"
                f" {pool.replicas:,} for decode, {shares[1]:.0%} busy"
            )
        if failing is not None and failing.mtbf_h is not None:
            hours = sum(run.provisioned[name].replicas * run.paid_s for run in runs if name in run.provisioned) / 3600
            if hours < _FEW_FAILURES * failing.mtbf_h:
                notes.append(
                    f"a replica of {name} fails every {failing.mtbf_h:g} h, and all runs together have {hours:.3g} h of replicas: "
                    "they say little of failures; longer ones, or given failures, say more"
                )
        if scaled is None or len(scaled.schedule or ()) < 2:
            continue
        cycles = float(np.mean([run.paid_s for run in runs])) / scaled.changes[2]
        if abs(cycles - round(cycles)) > 0.02 * cycles:
            notes.append(
                f"the schedule of {name} starts over after {scaled.changes[2] / 3600:g} h, and a run covers {cycles:.2g} times "
                "that: what is said of a day is said of those hours"
            )
    return notes


def _of_budgets(budgets: BudgetReport | None, runs: Sequence[Run]) -> list[str]:
    """Where runs cover less than a day of a budget, and where requests waited for one to end."""
    if budgets is None:
        return []
    queued = [float((run.result.spending.done & QUEUE > 0).sum()) for run in runs if run.result.spending is not None]
    return notes_of(budgets, float(np.mean(queued)))


def queue_growth(model: Model, runs: Sequence[Run]) -> dict[str, float]:
    """Requests per second by which those that wait for an overloaded deployment grow in number over the second half of arrivals.

    The mean over runs; where timeouts and full queues hide them they do not grow.
    """
    verdicts = over_runs([run.standings for run in runs])
    means = {
        name: float(np.mean([run.standings[name].growth_per_s if name in run.standings else 0.0 for run in runs]))
        for name in model.deployment_names
        if name in verdicts and verdicts[name].verdict == "overloaded"
    }
    return {name: value for name, value in means.items() if value > 0}
