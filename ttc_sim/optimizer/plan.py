"""A plan: the chosen policy, caps and capacity, what they promise, and what they were compared against."""

from __future__ import annotations

import datetime
import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ttc_sim.base.arguments import count, finite, location
from ttc_sim.base.consent import AllowCode, Code
from ttc_sim.base.display import Displayed
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.live import carried_out_live
from ttc_sim.files.documents import read_yaml
from ttc_sim.files.writing import write_atomically
from ttc_sim.measured.provenance import identify
from ttc_sim.optimizer.confidence_costs import ConfidenceCost
from ttc_sim.optimizer.gain import Gain
from ttc_sim.optimizer.health.assumed import aged
from ttc_sim.optimizer.health.check import Check, read_checks
from ttc_sim.optimizer.looking import Simulated
from ttc_sim.optimizer.novelty import Novelty
from ttc_sim.optimizer.predictor_worth import PredictorWorth
from ttc_sim.optimizer.promises import PROMISES, SHARES, TargetCheck, as_mapping, figures_in_brief, promises
from ttc_sim.optimizer.simpler import Tied
from ttc_sim.optimizer.worlds import Robustness
from ttc_sim.policies import Policy
from ttc_sim.predictor import Predictor
from ttc_sim.predictor.running.planned import planned_predictor
from ttc_sim.scenario import Scenario, Targets, find_scenario, read_mapping
from ttc_sim.scenario.tiers import chosen_of
from ttc_sim.simulation.summary import Summary

FORMAT = 3
READABLE = (1, 2, 3)
"""Plans of format 1 did not say which predictor they were made with, those of format 2 not with what confidence."""
_CONFIDENCE_BEFORE = 0.5  # of plans of the formats that do not say it


@dataclass(frozen=True)
class FrontierPoint:
    """A policy of the search space that no other one found beats in two figures at once, simulated as plans are verified.

    Attributes:
        axes: names of the two figures, such as ``cost_usd_per_request`` and ``accuracy``.
        seen: what simulation says of it, beside all targets.
    """

    axes: tuple[str, str]
    seen: Simulated

    @property
    def figures(self) -> dict[str, Estimate]:
        """The two figures with their intervals, and accuracy and cost where they are not among them."""
        found = {
            name: self.seen.summary.quantity(name)
            for name in dict.fromkeys((*self.axes, "accuracy", "cost_usd_per_request"))
        }
        return {name: figure for name, figure in found.items() if figure is not None}

    @property
    def accuracy(self) -> float:
        """Share of requests answered correctly in time; NaN where that is unknown."""
        return self.seen.summary.accuracy.value if self.seen.summary.accuracy is not None else math.nan

    @property
    def cost_usd_per_request(self) -> float:
        """GPU pools included."""
        return self.seen.summary.cost_usd_per_request.value

    @property
    def policy(self) -> Mapping[str, str] | str:
        """As scenarios write it."""
        policy = self.seen.model.scenario.policy
        assert policy is not None
        return policy

    @property
    def replicas(self) -> Mapping[str, int]:
        """Of the GPU pools in use."""
        return self.seen.summary.replicas

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            "accuracy": None if math.isnan(self.accuracy) else self.accuracy,
            "cost_usd_per_request": self.cost_usd_per_request,
            "policy": str(self.policy),
            "replicas": dict(self.replicas),
            "status": self.seen.status,
            "simulated": True,
            "figures": {name: as_mapping(figure) for name, figure in self.figures.items()},
        }


@dataclass(frozen=True)
class Alternative:
    """One kind of policy (``bands`` or ``utility``) at its best.

    Attributes:
        policy: per source; predicted: its figures; chosen: whether it is the plan's.
        status: ``"met"``, ``"nearest"``, or ``"within noise"``: simulated it is better than the plan, but by no more than noise on
            problems that neither was chosen on (:class:`ttc_sim.optimizer.gain.Gain`), so that it is not said to be.
        objective: the figure that is minimized or maximized.
    """

    policy: Mapping[str, str]
    status: str
    predicted: Summary
    chosen: bool
    objective: str

    def as_json(self) -> dict[str, object]:
        """Policy, status, and the figures that a plan can be held to; no objective that only seems better."""
        figures: dict[str, object] = {name: as_mapping(figure) for name, figure in promises(self.predicted).items()}
        if self.status == "within noise":
            figures[self.objective] = None
        return {"policy": dict(self.policy), "status": self.status, "chosen": self.chosen, **figures}


@dataclass(frozen=True)
class Plan(Displayed):
    """The answer of :func:`ttc_sim.optimize`.

    Attributes:
        status: ``"met"`` if all targets hold with the confidence that was asked for, else ``"nearest"``: the nearest plan to
            targets that cannot all hold.
        binding: targets that cannot hold together with the others; empty when met.
        scenario: complete: arms with their caps, replicas, and the chosen policy.
        predicted: figures from independent runs on fresh seeds, corrected for having chosen on the same problems.
        checks: every target beside its figure.
        baselines: by name, figures of other policies on the same requests.
        frontier: what two figures cost each other, those of ``targets.frontier`` or cost and accuracy; no point of it is beaten in
            both by another, the plan, or a baseline that keeps the other targets. :meth:`at` makes a plan of one.
        optimism: how much better the choice looked on the problems it was made on than on problems kept from it; already
            taken off ``predicted``.
        alternatives: ``bands`` and ``utility``, each at its best; the plan is one of them.
        gain: of ``utility`` over ``bands``, see :func:`ttc_sim.optimizer.gain.gain_of`.
        worth: what a perfect predictor, and none, would reach.
        novelty: share of the traffic that the predictor has seen nothing like; ``None`` where that is not scored.
        confidence_costs: what holding the targets with more confidence costs, or with less: the best plan for each.
        highest_confidence: chance with which all targets hold, each for itself, under the surest plan that was found.
        tied: policies that hold all targets and cannot be told from the best, the plan among them; empty where it stands alone.
        health: checks of the plan, in words (:mod:`ttc_sim.optimizer.health`).
        robust: of a plan for several worlds at once, what it comes to in each; ``None`` of one for the scenario as it is.

    Of traffic without problems nothing is known of accuracy: ``optimism``, and a ``frontier`` not asked for, are empty there,
    ``gain`` and ``worth`` are ``None``, and ``alternatives`` are ``one arm``, ``prompt length`` and ``live load``, as far as there
    is a choice.
    """

    status: str
    binding: tuple[str, ...]
    scenario: Scenario
    predicted: Summary
    checks: tuple[TargetCheck, ...]
    baselines: Mapping[str, Summary]
    frontier: tuple[FrontierPoint, ...]
    optimism: Mapping[str, float]
    alternatives: Mapping[str, Alternative]
    gain: Gain | None
    worth: PredictorWorth | None
    novelty: Novelty | None
    confidence_costs: tuple[ConfidenceCost, ...]
    highest_confidence: float
    tied: tuple[Tied, ...] = ()
    health: tuple[Check, ...] = ()
    robust: Robustness | None = None

    @property
    def policy(self) -> Policy:
        """The chosen policy."""
        policy = self.scenario.parsed_policy()
        assert policy is not None
        return policy

    def at(self, point: int) -> Plan:
        """The plan that a point of the frontier is, by its number from 1 on, beside the same baselines and targets.

        What is said of the search alone (what confidence costs, kinds of policy beside each other, a predictor's worth) is of the
        plan that was searched for, and not of this one.

        Raises:
            InputError: no point of that number.
        """
        if not self.frontier:
            raise InputError(
                "Plan.at", "point", point, "a plan with a frontier: this one has none, as nothing is traded"
            )
        number = count("Plan.at", "point", point, 1, len(self.frontier), "a point of the frontier")
        seen = self.frontier[number - 1].seen
        digest = {"predictor_sha256": self.scenario.predictor_sha256}
        return replace(
            self,
            status=seen.status,
            binding=tuple(check.name for check in seen.checks if not check.holds),
            scenario=seen.model.scenario.model_copy(update=digest),
            predicted=replace(seen.summary, notes=tuple(dict.fromkeys((*seen.summary.notes, *self.predicted.notes)))),
            checks=seen.checks,
            optimism=seen.optimism.as_json() if self.optimism else {},
            alternatives={},
            gain=None,
            worth=None,
            confidence_costs=(),
        )

    def as_of(self, day: datetime.date) -> Plan:
        """The same plan, with the age of its prices and profiles judged as of a day; without, it says nothing of any."""
        return replace(self, health=aged(self.health, day))

    def as_json(self) -> dict[str, object]:
        """Plain mapping for JSON: the summary's keys, and status, policy, baselines, frontier, ..."""
        return {
            "status": self.status,
            "binding": list(self.binding),
            "policy": self.scenario.policy,
            **self._chosen(),
            **self.predicted.as_json(),
            "targets": [check.as_json() for check in self.checks],
            "confidence_costs": [one.as_json() for one in self.confidence_costs],
            "highest_confidence": self.highest_confidence,
            "tied": [one.as_json() for one in self.tied],
            "health": [one.as_json() for one in self.health],
            "baselines": {name: summary.as_json() for name, summary in self.baselines.items()},
            "frontier": [point.as_json() for point in self.frontier],
            "optimism": dict(self.optimism),
            "alternatives": {name: one.as_json() for name, one in self.alternatives.items()},
            "utility_gain": None if self.gain is None else self.gain.as_json(),
            "predictor": None if self.worth is None else self.worth.as_json(),
            "novelty": None if self.novelty is None else asdict(self.novelty),
            **({} if self.robust is None else {"robust": self.robust.as_json()}),
        }

    def _chosen(self) -> dict[str, object]:
        """Tier and concurrency by deployment, where there were any to choose from."""
        search = self.scenario.search
        found = chosen_of(search.tiers, search.concurrency, self.scenario.deployments)
        return {"configuration": found} if found else {}

    def __repr__(self) -> str:
        met = "meets its targets" if self.status == "met" else f"nearest, misses {', '.join(self.binding)}"
        return f"<Plan for {self.scenario.name}: {met}; {figures_in_brief(self.predicted)}>"

    def _of_problems(self) -> dict[str, object]:
        """What a saved plan says of its problems; of traffic without any that nothing is known of accuracy."""
        if self.predicted.accuracy is None:
            return {"accuracy": None}
        found: dict[str, object] = {"optimism": dict(self.optimism)}
        if self.gain is not None and self.worth is not None:
            found |= {"utility_gain": self.gain.as_json(), "predictor": self.worth.as_json()}
        return found

    def saved(self) -> SavedPlan:
        """What is read back of it once it is saved."""
        return SavedPlan(
            scenario=self.scenario, promised=promises(self.predicted), status=self.status, health=self.health
        )

    def save(self, path: str | Path) -> None:
        """Write the plan as YAML, all at once; :func:`load_plan` reads it back.

        Raises:
            InputError: no place for it: see :func:`check_beside_code`.
        """
        path = location("Plan.save", "path", path, "a file to write to")
        more = {
            "confidence_costs": [one.as_json() for one in self.confidence_costs],
            "highest_confidence": self.highest_confidence,
            **self._of_problems(),
            **({} if self.novelty is None else {"novelty": asdict(self.novelty)}),
            **({"tied": [one.as_json() for one in self.tied]} if self.tied else {}),
            **({"health": [one.as_json() for one in self.health]} if self.health else {}),
            **({} if self.robust is None else {"robust": self.robust.as_json()}),
        }
        write_plan(path, self.scenario, self.status, self.binding, self.predicted, more)


def write_plan(
    path: Path, scenario: Scenario, status: str, binding: Sequence[str], predicted: Summary, more: Mapping[str, object]
) -> None:
    """Write a plan as YAML, all at once.

    Args:
        scenario: complete; status: ``"met"`` or ``"nearest"``.
        predicted: figures that it promises; more: what else is known of it.

    Raises:
        InputError: no place for it: see :func:`check_beside_code`.
    """
    check_beside_code(scenario, path)
    files = {one.named_file: one.sha256 for one in scenario.functions_in_files()}
    origin = os.path.relpath(Path(scenario.path).resolve(), path.resolve().parent)
    raw = {
        "ttc_sim_plan": FORMAT,
        "status": status,
        "binding": list(binding),
        "promised": {name: as_mapping(figure) for name, figure in promises(predicted).items()},
        "measured_on": {"problems": predicted.problems, "notes": list(predicted.notes)},
        **more,
        "made_from": origin,
        **({"code_sha256": files} if files else {}),
        "scenario": scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True),
    }
    write_atomically(path, yaml.safe_dump(raw, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True))


@dataclass(frozen=True)
class SavedPlan:
    """A plan read back from its file: the scenario with its policy, what was promised, and notes on what was assumed.

    ``health`` is the checks that it was saved with; none of a plan from before there were any. ``file`` is where it was read from,
    ``sha256`` what that held; ``None`` of a plan in memory.
    """

    scenario: Scenario
    promised: Mapping[str, Estimate]
    status: str
    notes: tuple[str, ...] = ()
    health: tuple[Check, ...] = ()
    file: str | None = field(default=None, compare=False)
    sha256: str | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"<SavedPlan for {self.scenario.name}: {self.status}>"

    def load_predictor(self, predictor: str | Path | None = None, *, other: bool = False) -> Predictor:
        """The predictor that the plan was made with, to route requests by it.

        Args:
            predictor: where its ONNX file stands now, if elsewhere; other: take it even if it is another one.

        Raises:
            InputError: no such file, or another predictor than the plan's.
        """
        return Predictor.load(planned_predictor(self.scenario, predictor, other=other)[0])

    def runtime(
        self,
        *,
        endpoints: object = None,
        predictor: str | Path | None = None,
        other_predictor: bool = False,
        log: str | Path | None = None,
        explore: float = 0.0,
        seed: int | None = None,
        fallback_arm: str | Mapping[str, str] | None = None,
        most_sessions: int = 20_000,
        manner: object = None,
    ) -> Any:
        """The plan at work on live requests: a :class:`ttc_sim.deploying.Runtime`, which says what the arguments are.

        Raises:
            InputError: a plan in memory, one that cannot be carried out, or an argument that cannot be.
        """
        return carried_out_live(
            self,
            endpoints=endpoints,
            predictor=predictor,
            other_predictor=other_predictor,
            log=log,
            explore=explore,
            seed=seed,
            fallback_arm=fallback_arm,
            most_sessions=most_sessions,
            manner=manner,
        )


_KEYS = (
    *("ttc_sim_plan", "status", "binding", "promised", "measured_on", "optimism", "utility_gain", "predictor"),
    *(
        "confidence_costs",
        "highest_confidence",
        "accuracy",
        "novelty",
        "tied",
        "health",
        "robust",
        "made_from",
        "code_sha256",
        "scenario",
    ),
)


def _promised(raw: dict[object, Any], path: Path, targets: Targets | None) -> dict[str, Estimate]:
    """Figures that a plan can be held to, as they stand in its file."""
    asked = {} if targets is None else {target.name: target for target in targets.asked()}
    made_best = () if targets is None else targets.made_best
    known = dict.fromkeys((*PROMISES, *asked, *made_best))
    found = {}
    for name, figure in raw.items():
        if name not in known:
            raise InputError(path, "promised", name, nearest(str(name), known))
        if not isinstance(figure, dict) or set(figure) != {"value", "low", "high"}:
            raise InputError(path, f"promised.{name}", figure, "value, low and high")
        share = asked[name].is_share if name in asked else name in (*SHARES, "goodput")
        most = 1.0 if share else math.inf
        for key, number in figure.items():
            open_ended = key == "high" and number == most == math.inf  # too few problems to bound it
            if not open_ended and not (finite(number) and 0 <= number <= most):
                limited = "from 0 to 1" if most == 1 else "at least 0"
                raise InputError(path, f"promised.{name}.{key}", number, f"a finite number, {limited}")
        if not figure["low"] <= figure["value"] <= figure["high"]:
            raise InputError(path, f"promised.{name}", figure, "a value from low to high")
        found[name] = Estimate(*(float(figure[key]) for key in ("value", "low", "high")))
    return found


def check_beside_code(scenario: Scenario, plan: Path) -> None:
    """A plan says itself where its scenario stood, so code that it names must stand in the plan's own folder, or below.

    Raises:
        InputError: it would not.
    """
    for one in scenario.functions_in_files():
        if not one.file.is_relative_to(plan.resolve().parent):
            expected = (
                f"a file in {one.file.parent} or above it: {one.field} runs {one.said}, which must not lie elsewhere"
            )
            raise InputError(plan, "file", str(plan), expected)


def load_plan(path: str | Path, *, allow_code: AllowCode = False) -> SavedPlan:
    """Read a plan that :meth:`Plan.save` wrote. Nothing of it is run.

    Args:
        path: of the file.
        allow_code: whether functions in files that the plan names may run once they are used, as for
            :func:`ttc_sim.load_scenario`. The files must lie in the plan's folder or below, and be those that it was made with.

    Raises:
        InputError: not a plan, of another format, with a key or a figure that no plan has, or a file that is another one now.
    """
    path = location("load_plan", "path", path, "a plan's file")
    raw: Any = read_yaml(path, expected="an existing plan file")
    if not isinstance(raw, dict) or raw.get("ttc_sim_plan") not in READABLE:
        got = raw.get("ttc_sim_plan") if isinstance(raw, dict) else type(raw).__name__
        raise InputError(
            path, "ttc_sim_plan", got, f"a plan of format {FORMAT} or before, as `ttc-sim optimize --plan` writes it"
        )
    for key in raw:
        if key not in _KEYS:
            raise InputError(path, "plan", key, nearest(str(key), _KEYS))
    if raw.get("status", "met") not in ("met", "nearest"):
        raise InputError(path, "status", raw.get("status"), "met or nearest")
    if not isinstance(raw.get("promised"), dict):
        raise InputError(path, "promised", raw.get("promised"), "figures with value, low and high")
    if raw.get("accuracy") is not None:
        expected = "null, as of traffic without problems: what is promised of any stands below 'promised'"
        raise InputError(path, "accuracy", raw["accuracy"], expected)
    if not isinstance(raw.get("scenario"), dict):
        raise InputError(path, "scenario", raw.get("scenario"), "the scenario that was planned")
    # Paths in the scenario start where the scenario stood, not where the plan stands.
    made_from = raw.get("made_from", path.name)
    if not isinstance(made_from, str):
        raise InputError(path, "made_from", made_from, "the scenario's file, from the plan's folder")
    home = location(path, "made_from", path.resolve().parent / made_from, "the scenario's file, from the plan's folder")
    said = raw["scenario"]
    if raw["ttc_sim_plan"] < FORMAT and isinstance(said.get("targets"), dict):
        said = {**said, "targets": {"confidence": _CONFIDENCE_BEFORE, **said["targets"]}}
    scenario = read_mapping(said, os.path.normpath(home), Code(allow_code, (path.resolve().parent,)))
    promised = _promised(raw["promised"], path, scenario.targets)
    unsaid = _check_code(scenario, raw.get("code_sha256", {}), path)
    if scenario.policy is None:
        raise InputError(path, "scenario.policy", None, "the policy that was planned")
    notes: tuple[str, ...] = tuple(
        f"the plan does not say what {name} held when it was made: taken to be as it is" for name in unsaid
    )
    if raw["ttc_sim_plan"] == 1 and scenario.predictor_sha256 is None:
        said = f"the plan does not say which predictor it was made with: taken to be {identify(scenario.predictor_at)}"
        notes = (*notes, said)
    health = read_checks(raw.get("health", []), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return SavedPlan(scenario, promised, str(raw.get("status")), notes, health, str(path), digest)


def planned_scenario(path: str | Path, allow_code: AllowCode = False) -> Scenario | None:
    """What a plan's file holds, with its policy and capacity; ``None`` if it is none, but a scenario's."""
    raw = read_yaml(find_scenario(path), expected="a scenario")
    if not isinstance(raw, dict) or "ttc_sim_plan" not in raw:
        return None
    return load_plan(path, allow_code=allow_code).scenario


def _check_code(scenario: Scenario, recorded: object, path: Path) -> list[str]:
    """Refuse code that has changed since the plan was made; names of the files that it says nothing of."""
    if not isinstance(recorded, dict) or not all(isinstance(digest, str) for digest in recorded.values()):
        raise InputError(path, "code_sha256", recorded, "the SHA-256 of each file that the plan runs, by its name")
    files = {one.named_file: one.sha256 for one in scenario.functions_in_files()}
    for name, now in files.items():
        if recorded.get(name, now) != now:
            expected = (
                f"{recorded[name]}: the file has changed since the plan was made, whose figures are of the former"
            )
            raise InputError(path, f"code_sha256.{name}", now, expected)
    return [name for name in files if name not in recorded]
