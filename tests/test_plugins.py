"""Strategies, policies, step times and arrivals of a user's own: found by name, and one clear line for what is wrong with them."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaml

import ttc_sim as ttc
from tests.packages import install, site
from tests.test_scenario import GOOD
from ttc_sim.base.consent import called_by
from ttc_sim.base.errors import InputError
from ttc_sim.base.notation import parse
from ttc_sim.base.plugins import REGISTRIES, Registry
from ttc_sim.cli import main
from ttc_sim.measured.importing import IMPORTERS
from ttc_sim.policies import POLICIES, Policy
from ttc_sim.scenario import Arrivals, Poisson, StepTime, scenario_from_dict
from ttc_sim.scenario.base import Model
from ttc_sim.scenario.deployments import STEP_TIMES
from ttc_sim.scenario.traffic import ARRIVALS
from ttc_sim.serving.pools import pool_table
from ttc_sim.serving.step_time import step_table
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import load_model
from ttc_sim.strategies import STRATEGIES, MajorityVote, Single, Strategy, UserStrategy, parse_strategy
from ttc_sim.strategies.outcomes import Outcome
from ttc_sim.workload import Traffic, generate

__all__ = ["site"]

STRATEGY = """
from dataclasses import dataclass, replace
import numpy as np
from ttc_sim.strategies import Strategy
from ttc_sim.strategies.outcomes import Outcome

@dataclass(frozen=True)
class Mine(Strategy):
    n: int = 2

    def carry_out(self, trial):
        samples = trial.samples(self.n)
        made = Outcome.of(samples, samples.correct.any(axis=1))
        return made
"""
POLICY = """
from dataclasses import dataclass
import numpy as np
from ttc_sim.policies import Policy

@dataclass(frozen=True)
class Mine(Policy):
    arm: str = "small"

    def choose(self, requests, arms):
        chosen = np.full(len(requests), arms.index(self.arm))
        return chosen
"""
LIVE = """
from dataclasses import dataclass
import numpy as np
from ttc_sim.policies import LiveRule, Policy

@dataclass(frozen=True)
class Mine(Policy):
    @property
    def looks_at_load(self):
        return True

    def choose_one(self, requests, index, arms, load=None):
        return load.in_progress["pool"] % 2
"""
STEP_TIME = """
import numpy as np
from ttc_sim.scenario import StepTime
from ttc_sim.serving.step_time import StepTable, step_table

class Mine(StepTime):
    seconds: float = 0.02

    def table(self, max_tokens, max_sequences, folder):
        made = step_table(max_tokens, max_sequences, base_s=self.seconds)
        return made
"""
ARRIVALS_FILE = """
from dataclasses import replace
import numpy as np
from pydantic import field_validator
from ttc_sim.base.draws import uniforms
from ttc_sim.scenario import Arrivals
from ttc_sim.workload import Traffic

class Mine(Arrivals):
    rate_per_s: float = 2.0

    def generate(self, requests, seed, run, folder, where):
        times = np.cumsum(-np.log(uniforms(seed, f"mine/{run}", requests)[:, 0])) / self.rate_per_s
        made = Traffic(times, np.zeros(requests, dtype=np.int64), None, None, None, None, self.rate_per_s)
        return made
"""
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "strategies": (STRATEGY, {"arms.small.strategy": "Mine()"}),
    "policies": (POLICY, {"policy": "Mine()"}),
    "live": (LIVE, {"policy": "Mine()"}),
    "step_times": (STEP_TIME, {"deployments.pool.step_time": {"kind": "Mine"}}),
    "arrivals": (ARRIVALS_FILE, {"workload.arrivals": {"process": "Mine"}}),
}


def scenario_with(changes: Mapping[str, Any]) -> dict[str, Any]:
    raw = copy.deepcopy(GOOD)
    raw["policy"] = "Always('small')"
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = raw
        for key in parents:
            place = place[key]
        place[last] = value
    return raw


def add(site: Path, kind: str, text: str, *, name: str = "Mine", value: str = "mine:Mine", package: str = "x") -> None:
    group = f"ttc_sim.{'policies' if kind == 'live' else kind}"
    install(site, package, {f"{value.partition(':')[0]}.py": text}, {group: {name: value}})


def simulate(folder: Path, changes: Mapping[str, Any], capsys: Any, monkeypatch: Any) -> tuple[int, str]:
    """Status and what was said of a simulation on the command line."""
    (folder / "mine.yaml").write_text(yaml.safe_dump(scenario_with(changes)))
    monkeypatch.setattr(sys, "argv", ["ttc-sim", "simulate", "mine.yaml", "--requests", "6", "--replications", "2"])
    monkeypatch.chdir(folder)
    try:
        main()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    return status, capsys.readouterr().err


# --------------------------------------------------------------------------------------------------- found and used


@pytest.mark.parametrize("kind", KINDS)
def test_an_installed_package_is_used_by_name(site: Path, kind: str, capsys: Any, monkeypatch: Any) -> None:
    text, changes = KINDS[kind]
    add(site, kind, text)
    status, said = simulate(site, changes, capsys, monkeypatch)
    assert status == 0, said


def test_nothing_is_imported_before_it_is_named(site: Path) -> None:
    for kind in REGISTRIES:
        add(site, kind, "raise RuntimeError('imported')", value=f"one_of_{kind}:Mine", package=kind)
    scenario = ttc.load_scenario("qa-gateway")
    assert scenario.parsed_policy() is not None
    scenario_from_dict(GOOD)
    # A slip lists what there is without a look at it.
    for changes in (
        {"arms.small.strategy": "Mein()"},
        {"policy": "Min('small')"},
        {"deployments.pool.step_time": {"kind": "min"}},
        {"workload.arrivals": {"process": "min"}},
    ):
        with pytest.raises(InputError, match="Mine"):
            scenario_from_dict(scenario_with(changes))
    assert not [name for name in sys.modules if name.startswith("one_of_")]
    with pytest.raises(InputError, match="imported"):
        scenario_from_dict(scenario_with({"arms.small.strategy": "Mine()"}))


def test_a_scenario_with_plugins_is_written_and_read(site: Path) -> None:
    changes: dict[str, Any] = {}
    for kind, (text, said) in KINDS.items():
        if kind != "live":
            changes |= said
            install(site, kind, {f"of_{kind}.py": text}, {f"ttc_sim.{kind}": {"Mine": f"of_{kind}:Mine"}})
    scenario = scenario_from_dict(scenario_with(changes))
    written = yaml.safe_dump(scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True))
    again = scenario_from_dict(yaml.safe_load(written))
    assert again == scenario
    first, second = (ttc.simulate(one, requests=30, replications=1).records for one in (scenario, again))
    assert first.equals(second)
    # Unlike the shipped kinds in each of the four.
    plain = ttc.simulate(scenario_from_dict(scenario_with({})), requests=30, replications=1).records
    assert (plain["latency_s"] != first["latency_s"]).all()
    assert (plain["arrival_s"] != first["arrival_s"]).all()


def test_shipped_forms_are_written_as_before() -> None:
    raw = copy.deepcopy(GOOD)
    raw["workload"]["arrivals"] = {"process": "gamma", "rate_per_s": 1.0, "cv": 2.0}
    scenario = scenario_from_dict(raw)
    dumped = scenario.model_dump(mode="json", exclude_none=True)
    assert dumped["workload"]["arrivals"] == raw["workload"]["arrivals"]
    assert dumped["deployments"]["pool"]["step_time"] == raw["deployments"]["pool"]["step_time"]


@dataclass(frozen=True)
class Debate(Strategy):
    n: int = 3

    def carry_out(self, trial: Any) -> Any:
        return MajorityVote(self.n).carry_out(trial)


@dataclass(frozen=True)
class Everywhere(Policy):
    def choose(self, requests: Any, arms: Any) -> Any:
        return np.arange(len(requests)) % len(arms)


class Slow(StepTime):
    kind: Literal["slow"] = "slow"
    seconds: list[float]

    def table(self, max_tokens: int, max_sequences: int, folder: Path) -> object:
        return step_table(max_tokens, max_sequences, base_s=sum(self.seconds))


class Wave(Model):
    height: float


class Waves(Arrivals):
    process: Literal["waves"] = "waves"
    waves: list[Wave]

    def generate(self, requests: int, seed: int, run: str, folder: Path, where: str) -> object:
        times, nobody = np.arange(requests, dtype=np.float64) * self.waves[0].height, np.zeros(requests, dtype=np.int64)
        return Traffic(times, nobody, None, None, None, None, 1 / self.waves[0].height)


def test_classes_of_a_notebook_are_registered(site: Path) -> None:
    for made in (Debate, Everywhere, Slow, Waves):
        assert ttc.register(made) is made
        ttc.register(made)  # a cell is run twice
    assert parse_strategy("Debate(n=5)") == Debate(5)
    assert repr(parse_strategy("Cascade(stages=[Single(), Debate()], tpr=0.9, fpr=0.1)")).count("Debate(n=3)") == 1
    raw = scenario_with(
        {
            "arms.small.strategy": "Debate()",
            "policy": "Everywhere()",
            "deployments.pool.step_time": {"kind": "slow", "seconds": [0.25, 0.25]},
            "workload.arrivals": {"process": "waves", "waves": [{"height": 1000.0}]},
        }
    )
    result = ttc.simulate(scenario_from_dict(raw), requests=20, replications=1)
    assert result.records["arm"].to_list() == ["small", "large"] * 10
    small = result.records.filter(result.records["arm"] == "small")
    assert small["arrival_s"].to_list() == [2000.0 * k for k in range(10)]
    # Alone on its server, the first iteration of a prompt of less than a batch takes half a second.
    assert small["ttft_s"].to_list() == pytest.approx([0.5] * 10)


def test_lists_in_settings_are_no_hindrance_and_tables_are_made_once(site: Path) -> None:
    made: list[float] = []

    class Counted(Slow):
        kind: Literal["counted"] = "counted"  # type: ignore[assignment]

        def table(self, max_tokens: int, max_sequences: int, folder: Path) -> object:
            made.append(sum(self.seconds))
            return super().table(max_tokens, max_sequences, folder)

    ttc.register(Counted)
    seconds = [0.5]
    for at in (seconds, [0.5], [0.7], [0.5]):
        scenario = scenario_from_dict(scenario_with({"deployments.pool.step_time": {"kind": "counted", "seconds": at}}))
        table = pool_table(scenario.deployments["pool"])  # type: ignore[arg-type]
        assert table.base_s == at[0]
    assert made == [0.5, 0.7]
    # What was changed in place is not what was looked up before.
    pool = scenario.deployments["pool"]
    pool.step_time.seconds[0] = 0.9  # type: ignore[union-attr]
    assert pool_table(pool).base_s == 0.9  # type: ignore[arg-type]
    assert made == [0.5, 0.7, 0.9]


# ------------------------------------------------------------------------------------------------------ bad packages


def edited(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


BROKEN: list[tuple[str, str, str, list[str]]] = [
    *((kind, "", "1 / 0", ["x: ttc_sim.", "ZeroDivisionError", "mine:Mine to be imported"]) for kind in KINDS),
    ("strategies", "", "import sys; sys.exit(3)", ["x: ", "SystemExit: 3", "imported"]),
    ("strategies", "", "import nowhere", ["x: ", "ModuleNotFoundError", "nowhere"]),
    ("strategies", "", "Other = 1", ["x: ", "AttributeError", "imported"]),
    *((kind, "", "Mine = 5", ["x: ttc_sim.", "got 5", "a class that inherits from ttc_sim."]) for kind in KINDS),
    ("strategies", "", "def Mine(): pass", ["x: ", "function Mine", "ttc_sim.strategies.kind.Strategy"]),
    ("strategies", "", POLICY, ["x: ", "mine.Mine", "ttc_sim.strategies.kind.Strategy"]),
    ("policies", "", STRATEGY, ["x: ", "mine.Mine", "ttc_sim.policies.policy.Policy"]),
    ("step_times", "", ARRIVALS_FILE, ["x: ", "mine.Mine", "ttc_sim.scenario.deployments.StepTime"]),
    ("arrivals", "", STEP_TIME, ["x: ", "mine.Mine", "ttc_sim.scenario.traffic.Arrivals"]),
    ("strategies", "@dataclass(frozen=True)\n", "", ["x: ", "mine.Mine", "a frozen dataclass"]),
    ("strategies", "(frozen=True)", "", ["x: ", "mine.Mine", "a frozen dataclass"]),
    ("policies", "@dataclass(frozen=True)\n", "", ["x: ", "mine.Mine", "a frozen dataclass"]),
    # Constructors and settings.
    ("strategies", "n: int = 2", "n: int", ["mine.yaml: arms.small.strategy: Mine", "the arguments n"]),
    (
        "strategies",
        "    def carry",
        "    def __post_init__(self): {}['a']\n\n    def carry",
        ["mine.yaml: arms.small.strategy: mine.Mine", "KeyError: 'a'", "arguments"],
    ),
    (
        "policies",
        "    def choose",
        "    def __post_init__(self): raise SystemExit(4)\n\n    def choose",
        ["mine.Mine", "SystemExit"],
    ),
    (
        "policies",
        "    def choose",
        "    def __new__(cls): return 5\n\n    def choose",
        ["policy: got 'Mine()'", "a policy"],
    ),
    (
        "arrivals",
        "    def generate",
        "    @field_validator('process')\n    @classmethod\n    def odd(cls, value): return 1 / 0\n\n    def generate",
        ["mine.yaml: workload.arrivals: mine.Mine: settings", "ZeroDivisionError", "settings"],
    ),
    ("arrivals", "rate_per_s: float = 2.0", "rate: float", ["mine.yaml: workload.arrivals.rate", "to be given"]),
    ("step_times", "seconds: float = 0.02", "kind: int = 3", ["deployments.pool.step_time.kind", "'Mine'", "integer"]),
    # What they say of themselves.
    (
        "strategies",
        "    def carry",
        "    @property\n    def verifiers(self): return 'judge'\n\n    def carry",
        ["mine.yaml: arms.small.strategy: mine.Mine.verifiers", "'judge'", "a tuple of names"],
    ),
    (
        "policies",
        "    def choose",
        "    def arm_names(self): return [self.arms]\n\n    def choose",
        ["mine.yaml: policy: mine.Mine.arm_names", "AttributeError", "a tuple of names"],
    ),
    # Methods that fail, and what they return.
    ("strategies", "return made", "return 1 / 0", ["mine.Mine: carry_out", "ZeroDivisionError"]),
    ("strategies", "def carry_out", "def carry", ["mine.Mine: carry_out", "needs a method carry_out"]),
    ("strategies", "return made", "return None", ["mine.Mine: strategy", "NoneType", "an Outcome of 6 requests"]),
    ("strategies", "return made", "return Outcome(made.stages, made.correct[:2])", ["correct", "(2,)", "(6,)"]),
    ("strategies", "return made", "return Outcome(made.stages, made.correct * np.nan)", ["correct", "float64"]),
    (
        "strategies",
        "return made",
        "return Outcome(made.stages, made.correct.tolist())",
        ["correct", "an array of truth"],
    ),
    ("strategies", "return made", "return Outcome((), made.correct)", ["stages", "at least one Stage"]),
    (
        "strategies",
        "return made",
        "return Outcome((replace(made.stages[0], visible_tokens=made.stages[0].visible_tokens * 1.5),), made.correct)",
        ["mine.Mine: strategy: stages[0].visible_tokens", "float64", "whole numbers of shape (6, 2)"],
    ),
    (
        "strategies",
        "return made",
        "return Outcome((replace(made.stages[0], needed=made.stages[0].needed + 1),), made.correct)",
        ["stages[0].needed[0]", "got 3", "from 1 to the stage's 2 samples"],
    ),
    (
        "strategies",
        "return made",
        "return Outcome((replace(made.stages[0], deployment='api'),), made.correct)",
        ["mine.Mine: strategy: stages[0]", "'api'", "verifiers"],
    ),
    ("policies", "return chosen", "return 1 / 0", ["mine.Mine: choose", "ZeroDivisionError"]),
    ("policies", "def choose", "def chose", ["mine.Mine: choose", "needs a method choose"]),
    ("policies", "return chosen", "return None", ["mine.Mine: choose", "None", "whole numbers of shape (6,)"]),
    ("policies", "return chosen", "return chosen[:1]", ["mine.Mine: choose", "(1,)", "(6,)"]),
    ("policies", "return chosen", "return chosen * np.nan", ["mine.Mine: choose", "float64", "whole numbers"]),
    ("policies", "return chosen", "return chosen + 1", ["mine.Mine: choose[0]", "got 2", "an index into 2 arms"]),
    ("policies", "return chosen", "return chosen - 2", ["mine.Mine: choose[0]", "got -1", "an index into 2 arms"]),
    ("live", "% 2", "/ 0", ["mine.Mine: choose_one, request 0", "ZeroDivisionError"]),
    ("live", "% 2", "+ 7", ["mine.Mine: choose_one, request 0", "got 7", "an index into 2 arms"]),
    ("live", "% 2", "+ 0.5", ["mine.Mine: choose_one, request 0", "got 0.5", "an index"]),
    (
        "live",
        "    def choose_one",
        "    def live_rule(self, requests, arms): return 'overflow'\n\n    def choose_one",
        ["mine.Mine: live_rule", "'overflow'", "a LiveRule"],
    ),
    (
        "live",
        "    def choose_one",
        "    def live_rule(self, requests, arms): return LiveRule('overflow', np.zeros((1, 2), int))\n\n    def choose_one",
        ["mine.Mine: live_rule: arms", "(1, 2)", "(6, 2)"],
    ),
    ("step_times", "return made", "return 1 / 0", ["mine.Mine: table", "ZeroDivisionError"]),
    ("step_times", "return made", "return made.dense_s", ["mine.Mine: table", "a StepTable"]),
    ("step_times", "max_sequences, base_s", "3, base_s", ["mine.Mine: table: decode_s", "(4,)", "(257,)"]),
    ("step_times", "base_s=self.seconds", "dense_s=np.ones(3)", ["mine.Mine: table", "dense_s has (3,)"]),
    ("step_times", "return made", "return made._replace(base_s=np.nan)", ["table: base_s", "nan", "finite seconds"]),
    ("step_times", "return made", "return made._replace(decode_s=made.decode_s - 1)", ["decode_s[0]", "got -1.0"]),
    ("step_times", "base_s=self.seconds", "base_s=0.0", ["decoding sequences[1]", "got 0.0", "takes time"]),
    ("step_times", "base_s=self.seconds", "decode_s=np.ones(257)", ["prompt tokens[1]", "got 0.0", "takes time"][1:]),
    ("step_times", "return made", "return made._replace(kv=np.array([1.0, 2.0]))", ["table: kv", "ascend from 0"]),
    ("arrivals", "return made", "return 1 / 0", ["workload.arrivals: mine.Mine.generate", "ZeroDivisionError"]),
    ("arrivals", "return made", "return times", ["mine.Mine.generate: traffic", "ndarray", "a Traffic of 6 requests"]),
    ("arrivals", "return made", "return replace(made, arrival_s=times[1:])", ["arrival_s", "(5,)", "(6,)"]),
    ("arrivals", "return made", "return replace(made, arrival_s=times * np.nan)", ["arrival_s[0]", "nan", "seconds"]),
    ("arrivals", "return made", "return replace(made, arrival_s=-times)", ["arrival_s[0]", "at least 0"]),
    ("arrivals", "return made", "return replace(made, arrival_s=times[::-1].copy())", ["arrival_s[1]", "in order"]),
    ("arrivals", "return made", "return replace(made, rate_per_s=0.0)", ["rate_per_s", "got 0.0", "above 0"]),
    ("arrivals", "return made", "return replace(made, rate_per_s=None)", ["rate_per_s", "None", "above 0"]),
    ("arrivals", "return made", "return replace(made, client=times)", ["client", "float64", "whole numbers"]),
    (
        "arrivals",
        "return made",
        "return replace(made, prompt_tokens=made.client + 1)",
        ["prompt_tokens", "carries_lengths"],
    ),
    (
        "arrivals",
        "return made",
        "return replace(made, after=np.full(requests, -1), think_s=times * np.nan)",
        ["think_s[0]", "nan"],
    ),
    (
        "arrivals",
        "return made",
        "return replace(made, after=np.arange(requests), think_s=times)",
        ["after[0]", "earlier"],
    ),
]


@pytest.mark.parametrize(("kind", "old", "new", "names"), BROKEN)
def test_what_is_wrong_with_a_package_is_one_line(
    site: Path, kind: str, old: str, new: str, names: list[str], capsys: Any, monkeypatch: Any
) -> None:
    text, changes = KINDS[kind]
    add(site, kind, edited(text, old, new) if old else new)
    status, said = simulate(site, changes, capsys, monkeypatch)
    lines = [line for line in said.splitlines() if not line.startswith("run ")]
    assert status == 1, said
    assert len(lines) == 1, said
    assert lines[0].startswith("error: "), said
    for name in names:
        assert name in lines[0]


@pytest.mark.parametrize(
    ("kind", "name", "changes"),
    [
        ("strategies", "Single", {"arms.small.strategy": "Single()"}),
        ("policies", "Always", {"policy": "Always('small')"}),
        ("arrivals", "poisson", {"workload.arrivals": {"process": "poisson", "rate_per_s": 1.0}}),
    ],
)
def test_a_name_that_is_shipped_is_refused(
    site: Path, kind: str, name: str, changes: dict[str, Any], capsys: Any, monkeypatch: Any
) -> None:
    add(site, kind, KINDS[kind][0], name=name, package="their-package")
    status, said = simulate(site, changes, capsys, monkeypatch)
    assert status == 1
    assert f"their-package: ttc_sim.{kind}: got '{name}'; expected a name that is free" in said


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "live"])
def test_a_name_that_two_packages_give_is_refused(site: Path, kind: str, capsys: Any, monkeypatch: Any) -> None:
    text, changes = KINDS[kind]
    add(site, kind, text, value="one:Mine", package="one")
    add(site, kind, text, value="other:Mine", package="other")
    status, said = simulate(site, changes, capsys, monkeypatch)
    assert status == 1
    assert f"one and other: ttc_sim.{kind}: got 'Mine'; expected one package" in said
    assert {"one", "other"}.isdisjoint(sys.modules)


def test_one_class_that_two_packages_name_is_one(site: Path) -> None:
    add(site, "strategies", STRATEGY, package="one")
    add(site, "strategies", STRATEGY, package="other")
    assert repr(parse_strategy("Mine(n=4)")) == "Mine(n=4)"


def test_a_strategy_goes_by_its_class_name(site: Path) -> None:
    add(site, "strategies", STRATEGY, name="mine")
    with pytest.raises(InputError, match="'Mine', the name of the class"):
        parse_strategy("mine()")


def test_settings_go_by_the_name_that_they_say(site: Path) -> None:
    text = edited(ARRIVALS_FILE, "rate_per_s: float", "process: Literal['waves'] = 'waves'\n    rate_per_s: float")
    add(site, "arrivals", "from typing import Literal\n" + text)
    with pytest.raises(InputError, match=r"'waves', the 'process' of mine\.Mine"):
        scenario_from_dict(scenario_with({"workload.arrivals": {"process": "Mine"}}))


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"workload.arrivals": {"process": "waves", "wave": []}}, ["workload.arrivals", "'wave'", "'waves'"]),
        ({"workload.arrivals": {"process": "waves", "waves": [{"hight": 1}]}}, ["arrivals.waves.0", "'height'"]),
        ({"workload.arrivals": {"process": "waves", "waves": 3}}, ["workload.arrivals.waves", "got 3", "list"]),
        ({"workload.arrivals": {"process": "wave"}}, ["workload.arrivals.process", "'wave'", "'waves'"]),
        ({"workload.arrivals": {"waves": []}}, ["workload.arrivals.process", "nothing", "to be given"]),
        ({"workload.arrivals": "waves"}, ["workload.arrivals", "'waves'", "a mapping"]),
        ({"deployments.pool.step_time": {"kind": "slow"}}, ["pool.step_time.seconds", "to be given"]),
        ({"deployments.pool.step_time": {"kind": "slow", "second": 1}}, ["pool.step_time", "'second'", "'seconds'"]),
        ({"deployments.pool.step_time": {"kind": "slo", "seconds": []}}, ["step_time.kind", "'slo'", "'slow'"]),
        ({"deployments.pool.step_time": {"kind": ["slow"]}}, ["step_time.kind", "['slow']", "'slow'"]),
        ({"deployments.pool.step_time": 0.1}, ["deployments.pool.step_time", "0.1", "a mapping"]),
    ],
)
def test_a_wrong_setting_is_named_as_for_shipped_kinds(site: Path, changes: dict[str, Any], names: list[str]) -> None:
    ttc.register(Waves)
    ttc.register(Slow)
    with pytest.raises(InputError) as caught:
        scenario_from_dict(scenario_with(changes), "mine.yaml")
    line = str(caught.value)
    assert line.startswith("mine.yaml: ")
    assert "\n" not in line
    for name in names:
        assert name in line


def test_a_kind_where_there_is_none_is_explained(site: Path) -> None:
    linear = {"kind": "linear", **GOOD["deployments"]["pool"]["step_time"]}
    with pytest.raises(InputError, match="told apart by their other keys"):
        scenario_from_dict(scenario_with({"deployments.pool.step_time": linear}))


def test_what_cannot_be_registered(site: Path) -> None:
    @dataclass(frozen=True)
    class Mine(Strategy):
        pass

    class Loose(Policy):
        pass

    add(site, "strategies", STRATEGY, package="theirs")
    for made, name, says in (
        (5, None, "a class that inherits from Strategy, Policy, StepTime, Arrivals or Importer"),
        (dict, None, "a class that inherits from Strategy, Policy, StepTime, Arrivals or Importer"),
        (Strategy, None, "a class that inherits from"),
        (Single, None, "Single comes with ttc-sim"),
        (Mine, None, "theirs gives it"),
        (Debate, "Other", "'Debate', the name of the class"),
        (Loose, None, "a frozen dataclass"),
        (Waves, "tides", "'waves', the 'process' of"),
    ):
        with pytest.raises(InputError, match=says):
            ttc.register(made, name)  # type: ignore[arg-type]
    ttc.register(Debate)
    other = type("Debate", (Strategy,), {"__module__": "elsewhere"})
    with pytest.raises(InputError, match=r"test_plugins\.Debate is registered"):
        ttc.register(dataclass(frozen=True)(other))


def test_a_shipped_class_may_stand_higher_in_the_order_of_imports(site: Path) -> None:
    (site / "higher.py").write_text("class Kind:\n    pass\n")
    try:
        kinds: Registry[object] = Registry("things", object, {"kind": "higher:Kind"}, key="kind")
        assert list(kinds) == ["kind"]
        assert "higher" not in sys.modules
        assert kinds["kind"].__name__ == "Kind"
    finally:
        del REGISTRIES["things"]
    assert {STRATEGIES.group, POLICIES.group, STEP_TIMES.group, ARRIVALS.group, IMPORTERS.group} == {
        f"ttc_sim.{kind}" for kind in REGISTRIES
    }


@dataclass(frozen=True)
class LuckyOfTwo(Single):
    """Made of an attempt, but not one."""

    def carry_out(self, trial: Any) -> Any:
        samples = trial.samples(2, self.cap)
        lucky = trial.draw("luck", 1)[:, 0] < 0.5
        return Outcome.of(samples, np.where(lucky, samples.correct.any(axis=1), samples.correct.all(axis=1)))


def test_a_strategy_made_of_an_attempt_is_not_taken_for_one(site: Path) -> None:
    ttc.register(LuckyOfTwo)
    scenario = scenario_from_dict(scenario_with({"arms.small.strategy": "LuckyOfTwo()"}))
    expected = expect_arms(load_model(scenario))
    once = expect_arms(load_model(scenario_from_dict(scenario_with({}))))
    # Two attempts of each request, with a draw of its own.
    assert expected.visible[0].mean() == pytest.approx(2 * once.visible[0].mean(), rel=0.05)
    with pytest.raises(InputError, match=r"of: got LuckyOfTwo\(.*expected Single"):
        parse_strategy("MajorityVote(n=3, of=LuckyOfTwo())")
    traffic = {"arrivals": {"process": "clients", "traffic": "servegen-r1"}, "requests": 20}
    raw = scenario_with({"workload": traffic, "arms": {"small": {"deployment": "pool", "strategy": "LuckyOfTwo()"}}})
    raw.pop("targets")  # of accuracy, of which nothing is known here
    with pytest.raises(InputError, match=r"got .LuckyOfTwo.*expected Single\(\) without a profile"):
        load_model(scenario_from_dict(raw))


@dataclass(frozen=True)
class Asks(Strategy):
    """Hands its requests to another arm."""

    arm: str

    @property
    def other_arms(self) -> tuple[str, ...]:
        return (self.arm,)

    def carry_out(self, trial: Any) -> Any:
        strategy, other = trial.others[self.arm]
        return strategy.carry_out(other).only(np.ones(len(trial), dtype=np.bool_), self.arm)


class EveryOther(Poisson):
    """Made of a shipped process, but not one."""

    process: Literal["every_other"] = "every_other"  # type: ignore[assignment]

    def generate(self, requests: int, seed: int, run: str, folder: Path, where: str) -> object:
        both = Poisson(process="poisson", rate_per_s=2 * self.rate_per_s)
        times = generate(both, 2 * requests, seed, folder=folder, where=where, run=run).arrival_s[1::2]
        return Traffic.of(times, self.rate_per_s)


def test_arrivals_made_of_a_shipped_process_are_not_taken_for_it(site: Path) -> None:
    ttc.register(EveryOther)
    scenario = scenario_from_dict(scenario_with({"workload.arrivals": {"process": "every_other", "rate_per_s": 2.0}}))
    gaps = np.diff(ttc.simulate(scenario, requests=4000, replications=1).runs[0].requests.arrival_s)
    # Every second of Poisson arrivals: gaps are Erlang, of half the variance.
    assert gaps.mean() == pytest.approx(0.5, rel=0.05)
    assert gaps.std() / gaps.mean() == pytest.approx(0.5**0.5, rel=0.05)


def test_arms_may_not_lead_back_to_one_another(site: Path) -> None:
    ttc.register(Asks)
    raw = scenario_with({"arms.small.strategy": "Asks('large')"})
    records = ttc.simulate(scenario_from_dict(raw), requests=20, replications=1).records
    assert (records["cost_usd"].to_numpy() > 0).all()  # of the endpoint
    for asked in ("Asks('small')", "Asks('large')"):
        raw["arms"]["large"]["strategy"] = asked
        with pytest.raises(InputError, match="may not lead back"):
            scenario_from_dict(raw)


def test_a_function_may_only_name_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from ttc_sim.strategies import Single\n"
        "from ttc_sim.strategies.outcomes import reading\n\n"
        "def judged(trial):\n"
        "    made = Single().carry_out(trial)\n"
        "    return made.then([reading('nowhere', made.prompt_tokens, 1, 5, made.stages[0].runs)], made.correct)\n"
    )
    raw = scenario_with({"arms.small.strategy": "own.py:judged"})
    with pytest.raises(InputError, match=r"arms\.small\.strategy: got 'nowhere'; expected one of api, pool"):
        ttc.simulate(scenario_from_dict(raw, str(tmp_path / "s.yaml")), requests=20, replications=1, allow_code=True)


# ------------------------------------------------------------------------------------------------------ the notation


@dataclass(frozen=True)
class Odd:
    a: int
    b: int = 2
    made: int = 0

    def __post_init__(self) -> None:
        if self.a > self.b:  # text beside a number raises TypeError
            raise InputError("Odd", "a", self.a, "at most b")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Odd()", "the arguments a"),
        ("Odd(a='x')", "TypeError"),
        ("Odd(5)", "Odd: a: got 5; expected at most b"),
        ("Odd(1, 2, 3, 4)", "at most 3 arguments"),
        ("Odd(a={[]: 1})", "numbers, text, lists"),
        ("Odd(" * 5000, "a call such as"),
        ("Odd(c=1)", "one of a, b, made"),
    ],
)
def test_calls_that_cannot_be_read(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text, {"Odd": Odd}, where="here", field="thing")
    assert says in str(caught.value)


def test_a_file_may_hold_dataclasses(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "from ttc_sim.strategies import Single\n\n"
        "@dataclass\nclass Limits:\n    cap: int = 5\n\n"
        "def brief(trial):\n    return Single(Limits().cap).carry_out(trial)\n\n"
    )
    brief = parse_strategy("mine.py:brief", folder=tmp_path, allow_code=True)
    assert isinstance(brief, UserStrategy)
    assert callable(called_by(brief.function))
    (tmp_path / "ends.py").write_text("import sys\nsys.exit()\n")
    with pytest.raises(InputError, match="SystemExit"):
        called_by(parse_strategy("ends.py:brief", folder=tmp_path, allow_code=True).function)  # type: ignore[attr-defined]
