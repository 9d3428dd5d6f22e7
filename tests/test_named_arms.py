"""Arms that other arms' strategies name: where they can be used, and what a search over their caps leaves of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ttc_sim as ttc
from tests.test_optimum import MAVERICK, MISTRAL, api, asking, small
from ttc_sim.base.errors import InputError
from ttc_sim.optimizer.new_problems import _with_sources_present
from ttc_sim.optimizer.plan import load_plan
from ttc_sim.optimizer.planning import plan_model
from ttc_sim.optimizer.space import expand_arms
from ttc_sim.scenario import Scenario, scenario_from_dict
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import load_model

CLAUDE = "reasoning-gym/claude-sonnet-4"  # measured on the easy problems alone
SOURCES = {
    name: {"problem_set": "reasoning-gym", "subset": f"reasoning-gym-{name}", "share": 0.5} for name in ("easy", "hard")
}


def arms(caps: list[int | None], cap: int | None, named: str = MISTRAL, **of_named: Any) -> dict[str, Any]:
    """A cascade that names another arm, of which the caps are to be searched."""
    single = "Single()" if cap is None else f"Single(cap={cap})"
    return {
        "deployments": {"web": api(1.0), "large": api(4.0)},
        "arms": {
            "first": {"profile": named, "deployment": "web", "strategy": single, **of_named},
            "both": {
                "profile": MAVERICK,
                "deployment": "large",
                "strategy": "Cascade(stages=['first', Single()], tpr=0.8, fpr=0.1)",
            },
        },
        "search": {"bands": 3, "max_bands": 2, "scores": ["difficulty"], "caps": {"first": caps}},
    }


def scenario(**changes: Any) -> Scenario:
    workload = {"arrivals": {"process": "poisson", "rate_per_s": 4.0}, "requests": 300, "sources": SOURCES}
    return scenario_from_dict({"name": "named", "replications": 2, "workload": workload, **changes})


@pytest.mark.parametrize(
    ("caps", "cap", "offered", "behind"),
    [
        ([512, 2048], 1024, {"first@512", "first@2048"}, True),
        ([512, 2048], None, {"first@512", "first@2048"}, True),
        ([512, 1024], 1024, {"first@512", "first"}, False),
        ([512, None], None, {"first@512", "first"}, False),
        ([512, None], 1024, {"first@512", "first@uncapped"}, True),
    ],
)
def test_an_arm_that_another_names_stays_what_it_is(
    caps: list[int | None], cap: int | None, offered: set[str], behind: bool
) -> None:
    expanded = expand_arms(scenario(**arms(caps, cap)))
    assert {name for name, arm in expanded.arms.items() if arm.sources != []} == {*offered, "both"}
    assert expanded.parsed_strategy("first").attempt_cap == cap
    assert (expanded.arms["first"].sources == []) == behind


def test_a_plan_with_such_an_arm_is_carried_out_as_planned(tmp_path: Path) -> None:
    """The first stage keeps its own cap, and nothing else comes to it."""
    model = small(**arms([256, 512], 1024))
    plan = plan_model(asking(model, minimize="cost", accuracy=0.34))
    assert plan.status == "met"
    assert not any("first" in name and "@" not in name for name in plan.baselines)
    assert set(plan.predicted.per_arm) <= {"both", "first@256", "first@512"}
    cascade, alone = plan.baselines["always-large"], small(**{**arms([256], 1024), "search": {}})
    expectations = expect_arms(alone)
    accuracy = expectations.correct[alone.arm_names.index("both")] @ expectations.population.weight
    assert cascade.accuracy is not None
    assert cascade.accuracy.value == pytest.approx(accuracy, abs=1e-9)
    plan.save(tmp_path / "plan.yaml")
    assert load_plan(tmp_path / "plan.yaml").scenario.arms["first"].sources == []


def test_a_cascade_is_offered_where_all_its_stages_were_measured() -> None:
    """What was never measured on a source's problems would be made up there."""
    parts = arms([512], None, named=CLAUDE)
    for policy, where in (("Always('both')", None), ("Always('both')", ["hard"])):
        made = {**parts, "search": {}, "policy": policy}
        made["arms"]["both"]["sources"] = where
        with pytest.raises(InputError, match=r"hard.*claude-sonnet-4" if where else "expected an arm.*"):
            ttc.simulate(scenario(**made))
    del made["arms"]["both"]["sources"]
    made["arms"]["other"] = {"profile": MAVERICK, "deployment": "large"}
    made["policy"] = {"easy": "Always('both')", "hard": "Always('other')"}
    model = load_model(scenario(**made))
    assert model.population is not None
    assert model.population.offered["both"] == ("easy",)
    easy = model.population.source == 0
    assert (np.diff(model.population.attempts[CLAUDE].start)[easy] > 0).all()


def test_an_arm_for_others_alone() -> None:
    parts = {**arms([512], None, sources=[]), "search": {}}
    summary = ttc.simulate(scenario(**parts, policy="Always('both')")).summary()
    assert summary.accuracy is not None
    with pytest.raises(InputError, match=r"policy.*first"):
        ttc.simulate(scenario(**parts, policy="Always('first')"))
    parts["arms"]["both"]["strategy"] = "Single()"
    with pytest.raises(InputError, match=r"arms\.first\.sources.*nothing would ever come to it"):
        ttc.simulate(scenario(**parts, policy="Always('both')"))


def test_no_word_of_what_was_not_measured_where_an_arm_was_kept_from_a_source() -> None:
    parts = {**arms([512], None), "search": {}}
    parts["arms"]["both"] = {"profile": MAVERICK, "deployment": "large", "sources": ["easy"]}
    model = load_model(scenario(**parts))
    assert not any("not offered" in note for note in model.notes)


def test_a_source_of_several_subsets_keeps_those_that_new_problems_have() -> None:
    whole = ttc.load_scenario("competition-maths")
    (name,) = whole.workload.sources
    subsets = whole.workload.sources[name].subset
    assert isinstance(subsets, list)
    narrowed, notes = _with_sources_present(whole, pl.DataFrame({"subset": subsets[:1] * 3}), "new")
    assert narrowed.workload.sources[name].subset == subsets[:1]
    assert len(notes) == 1
    assert subsets[1] in notes[0]
    same, notes = _with_sources_present(whole, pl.DataFrame({"subset": subsets}), "new")
    assert same == whole
    assert notes == []
