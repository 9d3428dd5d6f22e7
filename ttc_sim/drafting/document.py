"""The scenario's file: every line that a user may want to change says where it comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from ttc_sim.base.errors import cut
from ttc_sim.base.plain import plain
from ttc_sim.drafting.endpoints import Api, Pool
from ttc_sim.drafting.timing import ASSUMED, Timing
from ttc_sim.scenario import Price
from ttc_sim.scenario.gpu_prices import GPU_PRICES
from ttc_sim.scenario.schema import MODELINE

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}  # that YAML 1.1 takes for something else
_LONGEST = 220


@dataclass(frozen=True)
class Source:
    """A stream of requests: its key, the subset of the problems that it is drawn from, and its requests in the log."""

    key: str
    subset: str | None = None
    requests: int | None = None


@dataclass(frozen=True)
class Arrivals:
    """What arrives: the log's own times, or so many a second.

    Attributes:
        trace: whether the log's times are replayed.
        rate_per_s: the log's mean, or what is assumed; why: of that, in words.
        requests: of a run; rows: of the log.
    """

    trace: bool
    rate_per_s: float
    why: str
    requests: int
    rows: int


@dataclass(frozen=True)
class Figures:
    """What sending everything to one arm comes to."""

    accuracy: float | None
    cost_usd: float
    p95_s: float


@dataclass(frozen=True)
class Draft:
    """A scenario as far as it is known.

    Attributes:
        origin: of the data, in words; left_out: lines on what is not in it.
        arms: by model, what its arm, its profile and its deployment are called.
        problem_set: ``None`` for traffic alone; lengths: the file that its lengths are drawn from, if it is not replayed.
        predictor: that the problems' scores are by; routing: on that, in words.
        caps: by arm; replicas: by arm on GPUs.
        policy: arm that ``ttc-sim simulate`` sends everything to.
        figures: by arm; targets: with a remark each.
    """

    name: str
    origin: str
    left_out: tuple[str, ...]
    arms: Mapping[str, str]
    endpoints: Mapping[str, Api | Pool]
    problem_set: str | None
    lengths: str | None
    sources: Sequence[Source]
    arrivals: Arrivals
    predictor: str | None
    routing: str
    caps: Mapping[str, Sequence[int | None]]
    replicas: Mapping[str, int]
    policy: str
    figures: Mapping[str, Figures]
    targets: Mapping[str, tuple[float | str, str]]

    def priced(self, model: str) -> str:
        """What a model's answers are paid by, in words."""
        endpoint = self.endpoints[model]
        if isinstance(endpoint, Pool):
            replicas = self.replicas[self.arms[model]]
            return f"{endpoint.model} on {endpoint.tensor_parallel} {endpoint.gpu} a replica, {replicas} of them"
        return endpoint.origin


def scenario_text(draft: Draft) -> str:
    """The YAML."""
    lines = [
        MODELINE,
        *_comment(f"Made by `ttc-sim scenario init` from {draft.origin}."),
        "# What is assumed, because the log does not say it, is called so: put your own figures there.",
        *(line for said in draft.left_out for line in _comment(f"- {said}")),
        "",
        f"name: {scalar(draft.name)}",
        "seed: 1                  # the same seed gives the same figures",
        "replications: 5          # independent runs behind each interval",
        "",
        "workload:",
        *_workload(draft),
        "",
        *([*_comment(draft.routing)] if draft.routing else []),
        *([f"predictor: {scalar(draft.predictor)}"] if draft.predictor is not None else []),
        *([""] if draft.routing else []),
        "deployments:",
    ]
    for model, arm in draft.arms.items():
        endpoint = draft.endpoints[model]
        lines += _api(model, arm, endpoint) if isinstance(endpoint, Api) else _pool(model, arm, endpoint, draft)
    lines += ["", "arms:                    # what a request can be sent to: a strategy on a deployment"]
    for arm in draft.arms.values():
        profile = "" if draft.problem_set is None else f"profile: {scalar(f'{draft.problem_set}/{arm}')}, "
        lines.append(f"  {scalar(arm)}: {{{profile}deployment: {scalar(arm)}}}")
    if draft.problem_set is not None:
        first = plain(next(iter(draft.arms.values())))
        lines.append(
            f"  # also other strategies on a deployment, such as three-votes: {{profile: {draft.problem_set}/{first},"
        )
        lines.append(f"  #   deployment: {first}, strategy: MajorityVote(n=3)}}")
    banded = "prompt length" if draft.problem_set is None else "how hard requests are predicted to be"
    lines += [
        "",
        "# What `ttc-sim simulate` runs; `ttc-sim optimize` looks for a better one in the search space below.",
        f"policy: {scalar(f'Always({draft.policy!r})')}",
        "",
        "search:",
        f"  bands: 8               # by {banded}: more are finer, and take longer",
    ]
    if draft.caps:
        lines.append(
            "  caps:                  # most output tokens of an answer, to choose from; null: as long as it likes"
        )
        lines += [
            f"    {scalar(arm)}: [{', '.join('null' if c is None else str(c) for c in caps)}]"
            for arm, caps in draft.caps.items()
        ]
    if draft.replicas:
        lines.append("  replicas:              # numbers of servers to choose from")
        lines += [f"    {scalar(arm)}: [{', '.join(map(str, _around(n)))}]" for arm, n in draft.replicas.items()]
    lines += _targets(draft)
    return "\n".join(lines) + "\n"


def scalar(text: str) -> str:
    """A text as YAML holds it, in quotes unless it needs none."""
    if _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=10**9)).strip()


def figure(value: float, digits: int = 3) -> str:
    """A number in so many digits, as YAML 1.1 reads it."""
    shown = f"{value:.{digits}g}"
    return f"{value:.12f}".rstrip("0").rstrip(".") if "e" in shown and value >= 1e-9 else shown


def _comment(text: str) -> list[str]:
    return [f"# {cut(plain(text), _LONGEST)}"] if text else []


def _workload(draft: Draft) -> list[str]:
    arrivals = draft.arrivals
    if arrivals.trace:
        lines = [
            "  arrivals:",
            "    process: trace       # the log's own times",
            "    file: traffic.parquet",
            "    format: traffic",
            f"    # rate_per_s: {figure(arrivals.rate_per_s)}    # the log's mean; another one squeezes or stretches its times",
        ]
        first = "the log's" if arrivals.requests == arrivals.rows else f"the first of the log's {arrivals.rows:,}"
        first = f"the log's {arrivals.rows:,}, over and over" if arrivals.requests > arrivals.rows else first
        lines.append(f"  requests: {arrivals.requests}         # of a run: {first}")
    else:
        lines = [
            f"  arrivals: {{process: poisson, rate_per_s: {figure(arrivals.rate_per_s)}}}   # {plain(arrivals.why)}",
            f"  requests: {arrivals.requests}         # of a run",
        ]
    if draft.problem_set is None:
        lines.append("  # Nothing is known of right and wrong: how long requests are is the log's own.")
        if draft.lengths is None:
            return lines
        columns = "".join(f", {kind}_tokens: {kind}_tokens" for kind in ("prompt", "reasoning", "visible"))
        return [
            *lines,
            f"  lengths: {{file: {draft.lengths}{columns}}}   # as one of the log's {arrivals.rows:,} each",
        ]
    lines.append("  sources:               # streams of requests, by their shares")
    shared = sum(one.requests or 0 for one in draft.sources)
    for one in draft.sources:
        subset = "" if one.subset is None else f", subset: {scalar(one.subset)}"
        if one.requests is None:
            lines.append(f"    {scalar(one.key)}: {{problem_set: {scalar(draft.problem_set)}{subset}}}")
            continue
        said = f"# {one.requests:,} of the log's requests that have problems"
        share = figure(one.requests / shared, 4)
        lines.append(
            f"    {scalar(one.key)}: {{problem_set: {scalar(draft.problem_set)}{subset}, share: {share}}}   {said}"
        )
    return lines


def _api(model: str, arm: str, api: Api) -> list[str]:
    timing: Timing = api.timing
    return [
        f"  {scalar(arm)}:" + _named(model, arm),
        "    kind: api",
        f"    price: {{{_price(api.price)}}}   # {plain(api.origin)}",
        f"    first_token: {_latency(timing.first_token)}   # {timing.first_from}",
        f"    per_token: {_latency(timing.per_token)}   # {timing.per_from}",
        *_latency_from(timing),
        "    # requests_per_minute: 500    # limits of your account: tokens_per_minute and concurrency likewise",
        "    # timeout_s: 120              # when your client gives up",
    ]


def _latency_from(timing: Timing) -> list[str]:
    """Where both times come from the log, so that nobody takes them for assumed."""
    if ASSUMED.first_from in (timing.first_from, timing.per_from):
        return []
    return [f"    latency_from: {scalar(timing.first_from)}"]


def _pool(model: str, arm: str, pool: Pool, draft: Draft) -> list[str]:
    listed = GPU_PRICES[pool.gpu]
    experts = ["    expert_parallel: true"] if pool.expert_parallel else []
    return [
        f"  {scalar(arm)}:" + _named(model, arm),
        "    kind: gpu_pool",
        f"    replicas: {draft.replicas.get(arm, 1)}",
        f"    model: {scalar(pool.model)}",
        f"    gpu: {scalar(pool.gpu)}",
        f"    tensor_parallel: {pool.tensor_parallel}   # the fewest of these GPUs that hold it",
        *experts,
        f"    # usd_per_replica_hour: {figure(pool.tensor_parallel * listed.usd_per_hour)}   # "
        f"the list price of {listed.on}, {listed.origin}: put yours",
        "    # timeout_s: 120              # when your client gives up",
    ]


def _named(model: str, arm: str) -> str:
    return "" if model == arm else f"   # {cut(plain(model), 120)}"


def _price(price: Price) -> str:
    if price.provider is not None:
        return f'provider: {scalar(price.provider)}, model: {scalar(str(price.model))}, "on": "{price.on}"'
    given = (price.input_usd_per_mtok, price.output_usd_per_mtok)
    return ", ".join(
        f"{kind}_usd_per_mtok: {figure(usd or 0.0, 12)}" for kind, usd in zip(("input", "output"), given, strict=True)
    )


def _latency(times: tuple[float, float]) -> str:
    median, p95 = times
    high = "" if float(figure(p95)) <= float(figure(median)) else f", p95_s: {figure(p95)}"
    return f"{{median_s: {figure(median)}{high}}}"


def _around(replicas: int) -> list[int]:
    """Numbers of servers to choose from."""
    return sorted({max(replicas // 2, 1), replicas, replicas + max(replicas // 2, 1), 2 * replicas})


def _targets(draft: Draft) -> list[str]:
    if not draft.targets:
        return []
    lines = ["", "# Everything to one arm would come to:"]
    for arm, found in draft.figures.items():
        right = "" if found.accuracy is None else f"{found.accuracy:.1%} right, "
        lines += _comment(
            f"  {arm}: {right}${figure(1000 * found.cost_usd)} per 1,000 requests, 95% within {figure(found.p95_s)} s"
        )
    lines.append("targets:                 # set from these: put your own")
    return lines + [
        f"  {key}: {value if isinstance(value, str) else figure(value, 6)}   # {why}"
        for key, (value, why) in draft.targets.items()
    ]


__all__ = ["Arrivals", "Draft", "Figures", "Source", "figure", "scalar", "scenario_text"]
