"""Everything a user can say: the scenario, one YAML file, validated.

Units stand in the names: seconds, tokens, US dollars. Shares and probabilities are 0 to 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ttc_sim.errors import InputError, nearest
from ttc_sim.policies import POLICIES, Policy, parse_policy
from ttc_sim.strategies import Strategy, parse_strategy

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class Model(BaseModel):
    """Base of all parts of a scenario: unknown keys and values of the wrong type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


# ---------------------------------------------------------------------------------------------------- workload


class Poisson(Model):
    """Independent arrivals at a constant rate."""

    process: Literal["poisson"]
    rate_per_s: Positive


class Renewal(Model):
    """Independent Gamma or Weibull gaps between arrivals, with a given coefficient of variation (1 is Poisson)."""

    process: Literal["gamma", "weibull"]
    rate_per_s: Positive
    cv: Annotated[float, Field(gt=0, le=50)]


class Step(Model):
    """One step of a piecewise-constant rate."""

    duration_s: Positive
    rate_per_s: NonNegative


class Piecewise(Model):
    """A day's shape: rates that hold for a while each, then start over. ``cv`` other than 1 makes it bursty."""

    process: Literal["piecewise"]
    steps: Annotated[list[Step], Field(min_length=1)]
    cv: Annotated[float, Field(gt=0, le=50)] = 1.0


class Clients(Model):
    """A measured mixture of clients, each with its own rate, burstiness and lengths over time (ServeGen).

    Args:
        traffic: name of a traffic profile, such as ``servegen-r1``.
        rate_per_s: total mean rate to scale to over the whole measured span; the measured one if left out.
        start_s: where in the measured day to start.
    """

    process: Literal["clients"]
    traffic: str
    rate_per_s: Positive | None = None
    start_s: NonNegative = 0.0


class ClosedLoop(Model):
    """A fixed number of users, each of whom sends the next request when the last is answered.

    Args:
        users: how many.
        think_s: mean seconds, exponential, between an answer and the next request, and before the first.
    """

    process: Literal["closed_loop"]
    users: Annotated[int, Field(ge=1)]
    think_s: NonNegative = 0.0


class Columns(Model):
    """Names of the columns of a recorded trace in CSV."""

    arrival: str
    prompt_tokens: str | None = None
    reasoning_tokens: str | None = None
    output_tokens: str | None = None


class Trace(Model):
    """A recorded trace, replayed. ``rate_per_s`` stretches or squeezes its time axis to that mean rate."""

    process: Literal["trace"]
    file: str
    format: Literal["azure", "mooncake", "csv"]
    columns: Columns | None = None
    rate_per_s: Positive | None = None


Arrivals = Annotated[Poisson | Renewal | Piecewise | Clients | ClosedLoop | Trace, Field(discriminator="process")]


class Source(Model):
    """One stream of requests, as a gateway tells them apart (route, application, caller).

    Args:
        problem_set: the problems its requests are drawn from, uniformly.
        subset: keep only problems of this subset, or of these.
        share: weight of the stream among all requests.
        priority: 0 is most urgent; for GPU pools that schedule by priority.
    """

    problem_set: str
    subset: str | list[str] | None = None
    share: Annotated[float, Field(gt=0)] = 1.0
    priority: Annotated[int, Field(ge=0, le=7)] = 0


class Workload(Model):
    """What arrives: an arrival process and, per source, problems.

    Without ``sources`` the lengths come from the trace or the clients, and nothing is known of accuracy.
    """

    arrivals: Arrivals
    requests: Annotated[int, Field(ge=1, le=100_000_000)]
    sources: dict[str, Source] = {}


# -------------------------------------------------------------------------------------------------- deployments


class Price(Model):
    """US dollars per million tokens: from a maintained price table, from the scenario, or both (the scenario wins).

    Args:
        provider: provider's name in the ``genai-prices`` table, with ``model``; ``on`` fixes the day (``YYYY-MM-DD``).
        reasoning_usd_per_mtok: hidden reasoning tokens; billed as output unless given.
    """

    provider: str | None = None
    model: str | None = None
    on: str | None = None
    input_usd_per_mtok: NonNegative | None = None
    cached_input_usd_per_mtok: NonNegative | None = None
    reasoning_usd_per_mtok: NonNegative | None = None
    output_usd_per_mtok: NonNegative | None = None


class Latency(Model):
    """A log-normal time: its median and 95th percentile; constant if only the median is given."""

    median_s: Positive
    p95_s: Positive | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Latency:
        if self.p95_s is not None and self.p95_s < self.median_s:
            raise ValueError(f"p95_s {self.p95_s} must be at least median_s {self.median_s}")
        return self


class Retry(Model):
    """What a client does on 429: wait ``base_s * 2**attempt``, at most ``max_s``, times a jitter of 0.5 to 1.5."""

    retries: Annotated[int, Field(ge=0, le=100)] = 6
    base_s: Positive = 1.0
    max_s: Positive = 60.0


class Api(Model):
    """An API endpoint: prices, limits, latency.

    Args:
        first_token: time from the accepted request to the first generated token, reasoning included.
        per_token: time per further generated token of one request.
        requests_per_minute: token-bucket limit; likewise ``tokens_per_minute`` (prompt and output together).
        concurrency: most requests in progress at once.
        timeout_s: the client gives up so long after the request was made; what was generated is billed all the same.
    """

    kind: Literal["api"]
    price: Price
    first_token: Latency
    per_token: Latency
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    concurrency: Annotated[int, Field(ge=1)] | None = None
    timeout_s: Positive | None = None
    retry: Retry = Retry()


class LinearStepTime(Model):
    """Seconds of one iteration: base + per prompt token prefilled + per sequence decoding + per KV token attended to."""

    base_s: NonNegative
    per_prefill_token_s: NonNegative
    per_sequence_s: NonNegative
    per_kv_token_s: NonNegative

    @model_validator(mode="after")
    def _takes_time(self) -> LinearStepTime:
        if self.base_s + self.per_sequence_s <= 0:
            raise ValueError("base_s and per_sequence_s cannot both be 0: a decode step would take no time")
        if self.base_s + self.per_prefill_token_s <= 0:
            raise ValueError("base_s and per_prefill_token_s cannot both be 0: taking in a prompt would take no time")
        return self


class GpuPool(Model):
    """Replicas of a continuous-batching server.

    Args:
        replicas: how many.
        load_balancer: which replica a request goes to: in turn, the one with the fewest unfinished sequences, the one with the
            least KV cache in use or waited for, or by session (the conversation's, so that its prefix is found again).
        usd_per_replica_hour: price of one replica, busy or idle, while the policy uses the pool.
        max_num_seqs: most sequences in one replica's batch.
        max_num_batched_tokens: most tokens, prefill and decode together, in one iteration.
        kv_cache_tokens: that one replica's KV cache holds, in blocks of 16; without limit if left out.
        prefix_caching: find prompts again that another request, or an earlier turn, has left in the KV cache.
        scheduling: who waits first and is preempted last: who came first, or the lowest priority number of the source.
        queue_limit: sequences that may wait at one replica beyond a full batch; further requests are rejected.
        timeout_s: the client gives up so long after the request was made; the server then stops working on it.
    """

    kind: Literal["gpu_pool"]
    replicas: Annotated[int, Field(ge=1, le=10_000)]
    usd_per_replica_hour: NonNegative
    step_time: LinearStepTime
    max_num_seqs: Annotated[int, Field(ge=1)] = 256
    max_num_batched_tokens: Annotated[int, Field(ge=1)] = 2048
    kv_cache_tokens: Annotated[int, Field(ge=16)] | None = None
    prefix_caching: bool = True
    load_balancer: Literal["round_robin", "least_outstanding", "least_kv", "session"] = "least_outstanding"
    scheduling: Literal["fcfs", "priority"] = "fcfs"
    queue_limit: Annotated[int, Field(ge=0)] | None = None
    timeout_s: Positive | None = None

    @model_validator(mode="after")
    def _batch_fits(self) -> GpuPool:
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens {self.max_num_batched_tokens} must be at least max_num_seqs {self.max_num_seqs}"
            )
        return self


Deployment = Annotated[Api | GpuPool, Field(discriminator="kind")]


# --------------------------------------------------------------------------------- arms, search space, targets


class Arm(Model):
    """A strategy on a deployment: one thing a request can be sent to.

    Args:
        profile: measured behaviour of the model that the deployment serves; may be left out when the workload's
            trace carries the lengths.
        strategy: such as ``Single(cap=4096)`` or ``MajorityVote(n=3)``.
        sources: offer the arm only to these sources; by default to every source whose problems its profile covers.
    """

    profile: str | None = None
    deployment: str
    strategy: str = "Single()"
    sources: list[str] | None = None

    def parsed(self, where: str, name: str) -> Strategy:
        """The strategy as an object."""
        return parse_strategy(self.strategy, where=where, field=f"arms.{name}.strategy")


class Search(Model):
    """What the optimizer may choose from.

    Args:
        scores: predictions to route by, each tried; all that the problem sets carry if left out.
        bands: quantile bands of a score offered to the program, per source.
        max_bands: most bands, per source, in the plan's policy, so that a person can read it.
        caps: per arm, the caps to choose from (``null`` is uncapped); the arm's own cap if not named.
        replicas: per GPU pool, the numbers of replicas to choose from; the deployment's own if not named.
        utilization: most that a GPU pool may be loaded in a proposed plan, as a share of its full-batch throughput.
    """

    scores: list[str] | None = None
    bands: Annotated[int, Field(ge=1, le=100)] = 16
    max_bands: Annotated[int, Field(ge=1, le=100)] = 4
    caps: dict[str, Annotated[list[Annotated[int, Field(ge=1)] | None], Field(min_length=1)]] = {}
    replicas: dict[str, Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]] = {}
    utilization: Annotated[float, Field(gt=0, le=1)] = 0.8


class Targets(Model):
    """What must hold, and what to make best of.

    Args:
        minimize: ``cost``, under ``accuracy`` and latency targets; or
        maximize: ``accuracy``, under cost and latency targets.
        accuracy: least share of requests answered correctly in time.
        cost_usd_per_request: most US dollars per request.
        latency_p50_s: and the like: most seconds that half, 95 or 99 percent of requests may take.
        timeout_rate: most requests that may time out or be rejected.
    """

    minimize: Literal["cost"] | None = None
    maximize: Literal["accuracy"] | None = None
    accuracy: Share | None = None
    cost_usd_per_request: Positive | None = None
    latency_p50_s: Positive | None = None
    latency_p95_s: Positive | None = None
    latency_p99_s: Positive | None = None
    timeout_rate: Share | None = None

    @model_validator(mode="after")
    def _one_objective(self) -> Targets:
        if (self.minimize is None) == (self.maximize is None):
            raise ValueError("exactly one of 'minimize: cost' and 'maximize: accuracy' must be given")
        if self.minimize == "cost" and self.accuracy is None:
            raise ValueError("'minimize: cost' needs an 'accuracy' target: without one the cheapest arm always wins")
        if self.maximize == "accuracy" and self.accuracy is not None:
            raise ValueError("'maximize: accuracy' takes no 'accuracy' target")
        return self


class Scenario(Model):
    """Workload, deployments, arms, policy or search space, and targets.

    Args:
        seed: of every draw; the same seed gives the same bytes.
        replications: independent runs behind each interval.
        policy: one policy for all sources, or one per source; see :mod:`ttc_sim.policies`. A user's own function is
            ``file.py:function``.
    """

    name: str
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 1
    replications: Annotated[int, Field(ge=2, le=1000)] = 5
    workload: Workload
    deployments: Annotated[dict[str, Deployment], Field(min_length=1)]
    arms: Annotated[dict[str, Arm], Field(min_length=1)]
    policy: str | dict[str, str] | None = None
    search: Search = Search()
    targets: Targets | None = None
    # Where the file stands; relative paths in it start there.
    path: Annotated[str, Field(exclude=True)] = "scenario"

    @property
    def folder(self) -> Path:
        """Folder that relative paths in the scenario start from."""
        return Path(self.path).resolve().parent

    def parsed_policy(self) -> Policy | None:
        """The policy as an object; ``None`` if the scenario names none."""
        if self.policy is None:
            return None
        return parse_policy(self.policy, where=self.path, field="policy", folder=self.folder)


def load_scenario(path: str | Path) -> Scenario:
    """Read and check a scenario, given by file or by the name of a shipped one.

    Raises:
        InputError: the first thing wrong with it: file, key, value, and what was expected.

    >>> load_scenario("reasoning-gateway").name
    'reasoning-gateway'
    """
    found = find_scenario(path)
    try:
        raw = yaml.safe_load(found.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark is not None else "file"
        raise InputError(path, line, getattr(error, "problem", str(error)), "valid YAML in UTF-8") from None
    if not isinstance(raw, dict):
        raise InputError(path, "file", type(raw).__name__, "a mapping with the keys of a scenario")
    return scenario_from_dict(raw, str(found))


def find_scenario(path: str | Path) -> Path:
    """The file itself, or the shipped scenario of that name."""
    given = Path(path)
    if given.is_file():
        return given
    for folder in shipped_folders("scenarios"):
        candidate = folder / f"{given}.yaml"
        if candidate.is_file():
            return candidate
    shipped = sorted({item.stem for folder in shipped_folders("scenarios") for item in folder.glob("*.yaml")})
    raise InputError(path, "file", str(path), "an existing scenario file, or " + nearest(str(given), shipped))


def shipped_folders(kind: str) -> list[Path]:
    """Where shipped data of a kind (``profiles``, ``scenarios``) may stand: in the wheel, or in the checkout."""
    package = Path(__file__).parent
    return [folder for folder in (package / "_shipped" / kind, package.parent / kind) if folder.is_dir()]


def scenario_from_dict(raw: dict[str, Any], path: str = "scenario") -> Scenario:
    """Check a scenario given as a plain mapping; ``path`` is the file that errors name."""
    if "path" in raw:
        raise InputError(path, "path", raw["path"], nearest("path", set(Scenario.model_fields) - {"path"}))
    try:
        scenario = Scenario.model_validate({**raw, "path": path})
    except ValidationError as error:
        raise _first_error(path, error) from None
    _check_references(scenario)
    return scenario


def _first_error(path: str, error: ValidationError) -> InputError:
    # An unknown key is the likeliest slip and the cause of "missing" errors beside it, so it is named first.
    details = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")[0]
    # Pydantic puts the tag of a union, such as "api", after the place where the union stands.
    tag_at = 2 if details["loc"][:1] == ("deployments",) or details["loc"][:2] == ("workload", "arrivals") else None
    location = [str(part) for at, part in enumerate(details["loc"]) if at != tag_at]
    field = ".".join(location) or "scenario"
    kind = details["type"]
    if kind == "extra_forbidden":
        return InputError(path, ".".join(location[:-1]) or "scenario", location[-1], _known_keys(details["loc"]))
    if kind == "missing":
        return InputError(path, field, "nothing", "this key to be given")
    message = details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return InputError(path, field, details["input"], message)


def _known_keys(location: tuple[int | str, ...]) -> str:
    """Names of the keys allowed where an unknown one was found, nearest first."""
    tagged: dict[str, type[BaseModel]] = {
        "poisson": Poisson,
        "gamma": Renewal,
        "weibull": Renewal,
        "piecewise": Piecewise,
        "clients": Clients,
        "closed_loop": ClosedLoop,
        "trace": Trace,
        "api": Api,
        "gpu_pool": GpuPool,
    }
    plain: dict[str, type[BaseModel]] = {
        "workload": Workload,
        "steps": Step,
        "columns": Columns,
        "sources": Source,
        "price": Price,
        "first_token": Latency,
        "per_token": Latency,
        "retry": Retry,
        "step_time": LinearStepTime,
        "arms": Arm,
        "search": Search,
        "targets": Targets,
    }
    model: type[BaseModel] = Scenario
    for part in location[:-1]:
        model = tagged.get(str(part)) or plain.get(str(part)) or model
    return nearest(str(location[-1]), set(model.model_fields) - {"path"})


def _check_references(scenario: Scenario) -> None:
    """Names used in one part of the scenario must be defined in another."""
    path = scenario.path
    sources = scenario.workload.sources
    for name, arm in scenario.arms.items():
        if arm.deployment not in scenario.deployments:
            raise InputError(
                path, f"arms.{name}.deployment", arm.deployment, nearest(arm.deployment, scenario.deployments)
            )
        arm.parsed(path, name)
        for source in arm.sources or []:
            if source not in sources:
                raise InputError(path, f"arms.{name}.sources", source, nearest(source, sources))
        if arm.profile is None and sources:
            raise InputError(
                path, f"arms.{name}.profile", None, "a profile, since the workload has sources of problems"
            )
        if arm.profile is not None and not sources:
            raise InputError(
                path, f"arms.{name}.profile", arm.profile, "workload.sources, which say what problems arrive"
            )
    if not sources and scenario.workload.arrivals.process not in ("clients", "trace"):
        raise InputError(path, "workload.sources", {}, "sources, or arrivals that carry lengths (clients or trace)")
    for name in scenario.search.caps:
        if name not in scenario.arms:
            raise InputError(path, "search.caps", name, nearest(name, scenario.arms))
    pools = {name for name, deployment in scenario.deployments.items() if isinstance(deployment, GpuPool)}
    for name in scenario.search.replicas:
        if name not in pools:
            raise InputError(path, "search.replicas", name, nearest(name, pools))
    if isinstance(scenario.policy, dict):
        for source in scenario.policy:
            if source not in sources:
                raise InputError(path, "policy", source, nearest(source, sources))
        for source in sources:
            if source not in scenario.policy:
                raise InputError(path, f"policy.{source}", "nothing", "a policy for every source")
    policy = scenario.parsed_policy()
    for named in policy.arm_names() if policy is not None else ():
        if named not in scenario.arms:
            raise InputError(path, "policy", named, nearest(named, scenario.arms))


__all__ = [
    "POLICIES",
    "Api",
    "Arm",
    "Clients",
    "Columns",
    "GpuPool",
    "Latency",
    "LinearStepTime",
    "Piecewise",
    "Poisson",
    "Price",
    "Renewal",
    "Retry",
    "Scenario",
    "Search",
    "Source",
    "Step",
    "Targets",
    "Trace",
    "Workload",
    "find_scenario",
    "load_scenario",
    "scenario_from_dict",
    "shipped_folders",
]
