"""What a scenario assumes and cannot know, each as a dial: what it changes, and the range in which it may well lie."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from scipy.special import ndtr, ndtri

from ttc_sim.assumptions.resampling import WORLDS, resampled
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_VARIATION
from ttc_sim.optimizer.whatif.paths import Base, multiple
from ttc_sim.optimizer.whatif.ready import Effect, ready_made, with_auroc
from ttc_sim.scenario import Api, GpuPool, Latency
from ttc_sim.scenario.traffic import Arrivals, Piecewise, Poisson, Renewal
from ttc_sim.serving.step_time import StepTable
from ttc_sim.simulation.model import Model
from ttc_sim.strategies import BestOfN, Cascade, Strategy

_WHERE = "sensitivity"
PROBLEMS, NO_PREDICTOR, MIX = "problems", "predictor-none", "mix"


@dataclass(frozen=True)
class Moved(Effect):
    """As :class:`ttc_sim.optimizer.whatif.ready.Effect`; ``model``: what changes in what is looked up."""

    model: Callable[[Model], Model] | None = None


@dataclass(frozen=True)
class Range:
    """Values that an assumption may take, from ``low`` to ``high``, and why."""

    low: float
    high: float
    why: str


@dataclass(frozen=True)
class Dial:
    """An assumption.

    Attributes:
        name: of it, also in ranges; what: it is, in words.
        neutral: its value in the scenario as it stands.
        usual: its range unless another is asked for; ``None`` where there is nothing to choose.
        factor: whether values multiply what stands there: halved is then as far off as doubled.
        least, most: values that it can have.
        move: what a value changes, the scenario being the base's; raises an :class:`InputError` where there is nothing to change.
        source: that it is about; ``None``: all.
    """

    name: str
    what: str
    neutral: float
    usual: Range | None
    factor: bool
    least: float
    most: float
    move: Callable[[Base, float], Effect]

    def at(self, base: Base, value: float) -> Effect | None:
        """What a value changes; ``None`` for that of the scenario."""
        return None if value == self.neutral else self.move(base, value)

    def between(self, end: float, part: float) -> float:
        """The value at some part, 0 to 1, of the way from that of the scenario to another; as it is printed."""
        if part == 1:
            return end
        if self.factor:
            return float(f"{self.neutral * (end / self.neutral) ** part:.12g}")
        return float(f"{self.neutral + part * (end - self.neutral):.12g}")

    def within(self, low: float, high: float, unit: float) -> float:
        """The value at some part, 0 to 1, of a range: even in its logarithm for a factor."""
        if self.name == PROBLEMS:
            return float(min(int(low + unit * (high + 1 - low)), int(high)))
        if self.factor:
            return float(f"{low * (high / low) ** unit:.12g}")
        return float(f"{low + unit * (high - low):.12g}")

    def shown(self, value: float) -> str:
        """A value in words."""
        if self.name == NO_PREDICTOR:
            return "none"
        return f"x{value:.4g}" if self.factor else f"{value:+.4g}" if self.least < 0 else f"{value:.4g}"


def dials_of(base: Base) -> list[Dial]:
    """All that there are for a scenario, whether they apply or not."""
    return [*_ALL, *_mixes(base)]


def _refused(name: str, expected: str) -> InputError:
    return InputError(_WHERE, name, "nothing to change", expected)


# ------------------------------------------------------------------------------------------------------------ traffic


def _ready(name: str) -> Callable[[Base, float], Effect]:
    """A ready-made variation of ``whatif`` by a factor."""

    def move(base: Base, value: float) -> Effect:
        effect = ready_made(name, f"{value!r}x", _WHERE, base, base.scenario, replan=False)
        whole = {path: max(round(now), 1) for path, now in effect.changes.items() if path.endswith(".users")}  # type: ignore[call-overload]
        return replace(effect, changes={**effect.changes, **whole})

    return move


def _processes(base: Base) -> dict[str, Arrivals]:
    streams = base.scenario.workload.streams
    return {
        stream.field + ("" if stream.arrivals.begins is stream.arrivals else ".starts"): stream.arrivals.begins
        for stream in streams
    }


def _burstiness(base: Base, value: float) -> Effect:
    changes: dict[str, object] = {}
    for path, process in _processes(base).items():
        if isinstance(process, (Renewal, Piecewise)):
            changes[f"{path}.cv"] = multiple(float(process.cv), value)
        elif isinstance(process, Poisson):
            # At a coefficient of variation of 1 these are Poisson's own gaps, by the same draws.
            changes |= {f"{path}.process": "gamma", f"{path}.cv": value}
    if not changes:
        raise _refused(
            "burstiness", "arrivals whose gaps have a law: poisson, gamma, weibull or piecewise; these have none"
        )
    worst = max(cv for path, cv in changes.items() if path.endswith(".cv"))  # type: ignore[type-var]
    if isinstance(worst, float) and worst > MOST_VARIATION:
        raise _refused("burstiness", f"less: no coefficient of variation may be more than {MOST_VARIATION}")
    return Effect(changes)


def _mixes(base: Base) -> list[Dial]:
    """One for each source that shares its arrivals with others; of two, what the one has more the other has less."""
    sharing = [name for name, one in base.scenario.workload.sources.items() if one.arrivals is None]
    usual = Range(0.5, 2.0, "who sends what is a forecast too: half or twice the odds")

    def dial(source: str, name: str, what: str) -> Dial:
        return Dial(name, what, 1.0, usual, True, 0.0, math.inf, lambda base, value: _mix(base, source, value))

    if len(sharing) < 2:
        return [dial("", MIX, "odds that a request is of one source and not of another")]
    named = sharing[:1] if len(sharing) == 2 else sharing
    return [dial(name, f"{MIX}:{name}", f"odds that a request is of {name}") for name in named]


def _mix(base: Base, source: str, value: float) -> Effect:
    sources = base.scenario.workload.sources
    if not source:
        raise _refused(MIX, "two sources or more that share arrivals, and so have shares of them")
    return Effect({f"workload.sources.{source}.share": float(f"{sources[source].weight * value:.12g}")})


# ------------------------------------------------------------------------------------------------- prices and speeds


def _prices(base: Base, value: float) -> Effect:
    if not any(one is not None and not one.free for one in base.model.prices):
        raise _refused("prices", "an API endpoint that is paid by the token: there is none")

    def dearer(model: Model) -> Model:
        return replace(model, prices=tuple(None if one is None else one.times(value) for one in model.prices))

    return Moved({}, model=dearer)


def _gpu_prices(base: Base, value: float) -> Effect:
    pools = {name: one for name, one in base.scenario.deployments.items() if isinstance(one, GpuPool)}
    if not any(one.hourly_usd for one in pools.values()):
        raise _refused("gpu-prices", "a GPU pool that is paid by the hour: there is none")
    usd = {f"{name}.{key}": one for name, pool in pools.items() for key, one in pool.hourly_prices.items()}
    return Effect({f"deployments.{path}": float(f"{one * value:.12g}") for path, one in usd.items()})


def _speed(key: str) -> Callable[[Base, float], Effect]:
    """Of API endpoints: the median and the 95th percentile, each so many times as long."""

    def move(base: Base, value: float) -> Effect:
        changes: dict[str, object] = {}
        for name, served in base.scenario.deployments.items():
            if isinstance(served, Api):
                law: Latency = getattr(served, key)
                path = f"deployments.{name}.{key}"
                changes[f"{path}.median_s"] = float(f"{law.median_s * value:.12g}")
                if law.p95_s is not None:
                    changes[f"{path}.p95_s"] = float(f"{law.p95_s * value:.12g}")
        if not changes:
            raise _refused(key, "an API endpoint: there is none")
        return Effect(changes)

    return move


def _limits(base: Base, value: float) -> Effect:
    changes: dict[str, object] = {}
    for name, served in base.scenario.deployments.items():
        if not isinstance(served, Api):
            continue
        for key, now in served.rate_limits.items():
            changes[f"deployments.{name}.{key}"] = float(f"{now * value:.12g}")
        if served.concurrency is not None:
            changes[f"deployments.{name}.concurrency"] = max(round(served.concurrency * value), 1)
    if not changes:
        raise _refused("rate-limits", "an API endpoint with limits of its rate or concurrency: there is none")
    return Effect(changes)


def _step_time(base: Base, value: float) -> Effect:
    if all(one is None for one in base.model.step_tables):
        raise _refused("step-time", "a GPU pool: there is none")

    def slower(model: Model) -> Model:
        return replace(
            model, step_tables=tuple(None if one is None else _longer(one, value) for one in model.step_tables)
        )

    return Moved({}, model=slower)


def _longer(table: StepTable, factor: float) -> StepTable:
    """Every part of an iteration so many times as long; the knots stay where they are."""
    seconds = [name for name in table._fields if name.endswith("_s")]
    longer = table._replace(**{name: factor * getattr(table, name) for name in seconds})
    return longer if table.apart is None else longer._replace(apart=_longer(table.apart, factor))


# -------------------------------------------------------------------------------- problems, predictors and verifiers


def _predictor(kind: str) -> Callable[[Base, float], Effect]:
    def move(base: Base, value: float) -> Effect:
        said = kind if kind == "none" else f"{kind}:{value!r}"
        return ready_made("predictor", said, _WHERE, base, base.scenario, replan=False)

    return move


def _verifier(base: Base, value: float) -> Effect:
    changes: dict[str, object] = {}
    for name in base.scenario.arms:
        strategy = base.scenario.parsed_strategy(name)
        other = with_separation(strategy, value)
        if repr(other) != repr(strategy):
            changes[f"arms.{name}.strategy"] = repr(other)
    if not changes:
        raise _refused(
            "verifier", "an arm with a verifier or judge that is given by its auroc or its rates: there is none"
        )
    return Effect(changes)


def with_separation(strategy: Strategy, factor: float) -> Strategy:
    """The same strategy with verifiers and judges whose scores of right and wrong answers lie so many times as far apart.

    By the binormal model with equal variances they are d' = sqrt(2) z(AUROC) standard deviations apart (Green and Swets 1966); at 0
    a judge guesses.

    >>> from ttc_sim.strategies import BestOfN
    >>> round(with_separation(BestOfN(n=4, auroc=0.8), 2.0).auroc, 3)
    0.954
    """
    if isinstance(strategy, Cascade):
        judged = with_auroc(strategy, _apart(float(ndtri(strategy.tpr) - ndtri(strategy.fpr)), factor))
        assert isinstance(judged, Cascade)
        inner = tuple(with_separation(one, factor) if isinstance(one, Strategy) else one for one in strategy.stages)
        return replace(judged, stages=inner)
    if isinstance(strategy, BestOfN) and strategy.auroc is not None:
        return with_auroc(strategy, _apart(math.sqrt(2) * float(ndtri(strategy.auroc)), factor))
    if isinstance(strategy, BestOfN) and strategy.tpr is not None and strategy.fpr is not None:
        return with_auroc(strategy, _apart(float(ndtri(strategy.tpr) - ndtri(strategy.fpr)), factor))
    return strategy


_FARTHEST = 6.0  # standard deviations: of a perfect one, whose scores are without end apart


def _apart(distance: float, factor: float) -> float:
    """AUROC of scores that are so many times as far apart."""
    return float(ndtr(factor * min(max(distance, -_FARTHEST), _FARTHEST) / math.sqrt(2)))


def _problems(base: Base, value: float) -> Effect:
    if base.model.population is None:
        raise _refused(PROBLEMS, "problems behind the requests: there are none")
    seed = base.scenario.seed
    return Effect({}, population=lambda population: resampled(population, int(value), seed))


# ------------------------------------------------------------------------------------------------------------------ all


def _factor(name: str, what: str, low: float, high: float, why: str, move: Callable[[Base, float], Effect]) -> Dial:
    return Dial(name, what, 1.0, Range(low, high, why), True, 0.0, math.inf, move)


_OPEN = "how fast an endpoint answers changes with the hour, and the scenario's figure is mostly assumed"
_ALL = (
    _factor("traffic", "requests", 0.67, 1.5, "a forecast that is off by half, either way", _ready("traffic")),
    _factor(
        "burstiness",
        "variation of the gaps between arrivals",
        0.5,
        2.0,
        "measured clients differ by more than that (servegen-r1)",
        _burstiness,
    ),
    _factor(
        "lengths",
        "output tokens",
        0.8,
        1.25,
        "another version of a model, or other prompts, by a quarter",
        _ready("lengths"),
    ),
    _factor(
        "thinking",
        "thinking tokens",
        0.67,
        1.5,
        "between versions of a model, and its settings of effort, thinking changes most",
        _ready("thinking"),
    ),
    _factor(
        "prices",
        "prices of API endpoints",
        0.5,
        1.25,
        "half, as for batches; a quarter more, as at a dearer provider",
        _prices,
    ),
    _factor(
        "gpu-prices",
        "prices of GPU pools",
        0.67,
        1.5,
        "reserved for long on the one side, on demand on the other",
        _gpu_prices,
    ),
    _factor("first-token", "times to the first token of API endpoints", 0.5, 2.0, _OPEN, _speed("first_token")),
    _factor("per-token", "times per further token of API endpoints", 0.67, 1.5, _OPEN, _speed("per_token")),
    _factor(
        "step-time",
        "times of an iteration of GPU pools",
        0.8,
        1.25,
        "beside measured servers they are 5 to 15% off, at times more (docs/gpus.md)",
        _step_time,
    ),
    _factor(
        "rate-limits",
        "limits of rate and concurrency of API endpoints",
        0.5,
        2.0,
        "the tiers beside the one that is assumed",
        _limits,
    ),
    Dial(
        "predictor-noise",
        "what is left of the correlation of the predictor's scores (noise:R)",
        1.0,
        Range(0.7, 1.0, "on other traffic a predictor knows less, never more"),
        False,
        0.0,
        1.0,
        _predictor("noise"),
    ),
    Dial(
        "predictor-drift",
        "log-odds of being hard that the predictor adds (drift:D)",
        0.0,
        Range(-0.7, 0.7, "all looks half or twice as likely to be hard, in odds"),
        False,
        -30.0,
        30.0,
        _predictor("drift"),
    ),
    Dial(
        NO_PREDICTOR,
        "no predictor: every request has the mean of each score",
        0.0,
        None,
        False,
        0.0,
        1.0,
        _predictor("none"),
    ),
    _factor(
        "verifier",
        "distance between a verifier's scores of right and of wrong answers",
        0.75,
        1.25,
        "a verifier is measured on few answers, and not on this traffic",
        _verifier,
    ),
    Dial(
        PROBLEMS,
        "which problems happened to be measured",
        0.0,
        Range(1, WORLDS, "they are a sample: as many drawn anew, with replacement"),
        False,
        1,
        WORLDS,
        _problems,
    ),
)

__all__ = ["MIX", "NO_PREDICTOR", "PROBLEMS", "Dial", "Moved", "Range", "dials_of", "with_separation"]
