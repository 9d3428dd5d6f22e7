"""One point of a sweep: a scenario with some values changed, simulated, and what is kept for those that come after it."""

from __future__ import annotations

import pickle
import platform
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import numpy as np

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.threads import one_thread
from ttc_sim.policies import PerSource, Policy, check_sources
from ttc_sim.policies.responses import Response
from ttc_sim.scenario import Scenario, as_plain, with_changes
from ttc_sim.simulation.drawing import Draws, draw
from ttc_sim.simulation.expectations import expected_under
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.response_fit import with_responses
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize
from ttc_sim.sweeping.varying import Point
from ttc_sim.workload.expected import shares
from ttc_sim.workload.population import Population, load_population

Row = dict[str, Any]
"""Figures of one point by column; ``error``, where it could not be simulated, and ``notes``."""

_MAKERS = ("ttc-sim", "numpy", "scipy", "numba", "genai-prices")
_KEPT = 4  # of each kind: those of the points before
_MOST_REQUESTS = 200_000  # of all runs, whose random numbers are kept
T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """What all points have in common, and every process gets.

    Attributes:
        scenario: that they vary; requests: of each run, instead of the scenario's.
        population: of the scenario, so that no machine of a cluster needs its files; ``None`` without problems.
        made_with: versions of what the figures come from.
    """

    scenario: Scenario
    requests: int | None
    population: Population | None
    made_with: tuple[str, ...]


def versions() -> tuple[str, ...]:
    """Of what figures come from, as far as it is a matter of versions."""
    python = ".".join(platform.python_version_tuple()[:2])
    return (*(f"{name} {_installed(name)}" for name in _MAKERS), f"Python {python}")


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # run from its sources
        return "unknown"


_Numbers = dict[tuple[str, int, bool], F64]


@dataclass(frozen=True)
class _KeptDraws(Draws):
    """Draws whose numbers are kept for the points that come after."""

    kept: _Numbers = field(default_factory=dict, compare=False)

    def uniform(self, stream: str, width: int = 1) -> F64:
        return self._recall((stream, width, False), lambda: super(_KeptDraws, self).uniform(stream, width))

    def samples(self, stream: str, count: int, members: I64) -> F64:
        every = np.arange(len(self))
        return self._recall((stream, count, True), lambda: super(_KeptDraws, self).samples(stream, count, every))[
            members
        ]

    def _recall(self, key: tuple[str, int, bool], make: Callable[[], F64]) -> F64:
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]


class Simulator:
    """Simulates points one after another; what a point shares with those before it is not done again."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self._kept: dict[str, OrderedDict[Hashable, Any]] = {}
        self._one_at_a_time = threading.Lock()  # a worker of a cluster may have several threads
        if setting.population is not None:
            self._recall("population", _of_population(setting.scenario), lambda: setting.population)

    def model(self, point: Point) -> tuple[Model, Policy]:
        """The changed scenario with all that it names looked up, and its policy.

        Raises:
            InputError: the first thing wrong with it.
        """
        scenario = with_changes(self.setting.scenario, point)
        policy = scenario.parsed_policy()
        if policy is None:
            raise InputError(scenario.path, "policy", None, "a policy such as Always('small'), or a path `policy`")
        if isinstance(policy, PerSource):
            check_sources(policy.policies, scenario.workload.sources, scenario.path)
        policy.get_ready()
        return load_model(scenario, self._population(scenario)), policy

    @one_thread()
    def row(self, point: Point) -> Row:
        """Figures of a point, those of :func:`ttc_sim.simulate`; or why there are none."""
        with self._one_at_a_time:
            try:
                return figures(self._summary(point))
            except InputError as error:
                return {"error": str(error)}

    def _summary(self, point: Point) -> Summary:
        model, policy = self.model(point)
        model = self._with_responses(model, policy)
        runs = [run_once(model, policy, one) for one in self._draws(model)]
        return summarize(model, runs, expected=expected_under(model, policy, runs), parts=False)

    def _population(self, scenario: Scenario) -> Population | None:
        """That of a scenario without the responses that it may give; shares are the scenario's own."""
        if not scenario.workload.has_problems:
            return None
        found: Population = self._recall("population", _of_population(scenario), lambda: load_population(scenario))
        return replace(found, share=shares(scenario.workload, scenario.folder, scenario.path))

    def _draws(self, model: Model) -> list[Draws]:
        scenario, requests = model.scenario, self.setting.requests
        population = None if model.population is None else _of_population(scenario)
        key = (population, _key(scenario.workload, scenario.seed, scenario.replications))
        drawn: list[Draws] = self._recall(
            "draws", key, lambda: [draw(model, k, requests=requests) for k in range(scenario.replications)]
        )
        if any(one.parts or one.cut_by_run for one in drawn) or sum(map(len, drawn)) > _MOST_REQUESTS:
            return drawn
        # Whatever else changes: the numbers of a request follow from the seed alone.
        key = (scenario.seed, tuple(map(len, drawn)))
        kept = self._recall("numbers", key, lambda: defaultdict[int, _Numbers](dict))
        return [_KeptDraws(**vars(one), kept=kept[one.run]) for one in drawn]

    def _with_responses(self, model: Model, policy: Policy) -> Model:
        """As for a simulation; what is fitted does not depend on the policy that reads it."""
        if not policy.uses_responses or model.population is None or model.population.responses is not None:
            return model
        content = {key: one for key, one in as_plain(model.scenario).items() if key not in ("policy", "replications")}
        fitted = self._recall("responses", _key(content), lambda: _responses(model, policy))
        return replace(model, population=replace(model.population, responses=fitted))

    def _recall(self, kind: str, key: Hashable, make: Callable[[], T]) -> T:
        kept = self._kept.setdefault(kind, OrderedDict())
        if key not in kept:
            kept[key] = make()
        kept.move_to_end(key)
        while len(kept) > _KEPT:
            kept.popitem(last=False)
        found: T = kept[key]
        return found


def _responses(model: Model, policy: Policy) -> Mapping[str, Response] | None:
    fitted = with_responses(model, policy).population
    return None if fitted is None else fitted.responses


def _of_population(scenario: Scenario) -> Hashable:
    """What a population follows from, but for the shares of its sources."""
    arms = {
        name: (arm.profile, arm.sources, arm.fallback, scenario.parsed_strategy(name).other_arms)
        for name, arm in scenario.arms.items()
    }
    sources = {
        name: source.model_dump(exclude={"share", "priority", "arrivals"})
        for name, source in scenario.workload.sources.items()
    }
    generalize = None if scenario.targets is None else scenario.targets.generalize
    degraded = () if scenario.budget is None else scenario.budget.arms
    return _key(arms, sources, generalize, scenario.predictor, scenario.predictor_sha256, degraded)


def _key(*parts: object) -> Hashable:
    """Equal only for what is alike to the last part; never, for what cannot be told."""
    try:
        return pickle.dumps([as_plain(part) for part in parts])
    except (pickle.PicklingError, AttributeError, TypeError):  # of a user's own object
        return object()


# ------------------------------------------------------------------------------------------------------- figures


def figures(summary: Summary) -> Row:
    """Columns of a row, under the names that ``ttc-sim simulate --json`` has."""
    row: Row = {}
    times = {"latency": summary.latency_s, "ttft": summary.ttft_s, "tpot": summary.tpot_s}
    estimates: dict[str, Estimate | None] = {
        "accuracy": summary.accuracy,
        "cost_usd_per_request": summary.cost_usd_per_request,
        "cost_usd_per_day": summary.cost_usd_per_day,
        **{f"{kind}_{name}_s": one for kind, found in times.items() for name, one in found.items()},
        "goodput": summary.goodput,
        "timeout_rate": summary.timeout_rate,
        "rejected_rate": summary.rejected_rate,
        "failed_rate": summary.failed_rate,
        "unserved_rate": summary.unserved_rate,
        "cut_off_rate": summary.cut_off_rate,
        **{f"{name}_tokens_per_request": one for name, one in summary.tokens_per_request.items()},
    }
    for name, one in estimates.items():
        value, low, high = (None, None, None) if one is None else (one.value, one.low, one.high)
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    alone = (
        "cost_spread",
        "thinking_cost_share",
        "idle_thinking_cost_share",
        "reasoning_tokens_per_day",
        "longest_wait_s",
        "rate_per_s",
    )
    row |= {name: float(getattr(summary, name)) for name in alone}
    row |= {"verdict": summary.verdict, "requests": summary.requests, "runs": summary.runs}
    return {**row, "error": None, "notes": list(summary.notes)}


# ----------------------------------------------------------------------------------------- in a process of its own

_HERE: dict[str, Simulator] = {}
_MADE_ONCE = threading.Lock()  # of threads of one worker


def begin(setting: Setting) -> None:
    """Make ready to simulate points in this process."""
    _HERE.clear()
    _HERE[""] = Simulator(setting)


def carry_out(point: Point) -> Row:
    """Simulate a point in a process that was made ready."""
    return _HERE[""].row(point)


def carry_out_elsewhere(setting: Callable[[], Setting], name: str, point: Point) -> Row:
    """Simulate a point on a worker of a cluster, which may serve several sweeps; ``name`` is that of this one.

    Raises:
        InputError: other versions there, which would give other figures.
    """
    with _MADE_ONCE:
        if name not in _HERE:
            given = setting()
            if given.made_with != versions():
                expected = "the versions here: " + ", ".join(given.made_with)
                raise InputError("cluster", "versions", ", ".join(versions()), expected)
            _HERE.clear()
            _HERE[name] = Simulator(given)
        simulator = _HERE[name]
    return simulator.row(point)


__all__ = ["Row", "Setting", "Simulator", "begin", "carry_out", "carry_out_elsewhere", "versions"]
