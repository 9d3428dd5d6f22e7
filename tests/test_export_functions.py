"""A plan as a function in Python and in TypeScript: routes are those of a simulation, whatever names and scores there are."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ttc_sim.base.errors import InputError
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports import export_plan
from ttc_sim.optimizer.plan import SavedPlan, load_plan
from ttc_sim.policies import Requests, choose_arms
from ttc_sim.policies.responses import Response
from ttc_sim.scenario import Scenario, load_scenario, scenario_from_dict
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.response_fit import with_responses

Ask = dict[str, Any]
Runner = Callable[[SavedPlan, Path, Sequence[Ask]], list[dict[str, Any] | None]]

_PYTHON = """
import json, sys
sys.path.insert(0, sys.argv[1])
from route import route
number = {"NaN": float("nan"), "inf": float("inf")}.get
for line in open(sys.argv[2], encoding="utf-8"):
    ask = json.loads(line)
    scores = {name: number(value, value) for name, value in ask["scores"].items()}
    try:
        print(json.dumps(route(ask["source"], scores, prompt_tokens=ask["prompt_tokens"])))
    except ValueError as error:
        print("null")
"""
_NODE = """
import { readFileSync } from "node:fs";
import { route } from "./route.mjs";
const number = (name, value) => value === "NaN" ? NaN : value === "inf" ? Infinity : value;
for (const line of readFileSync(process.argv[2], "utf-8").split("\\n").filter((one) => one)) {
  const ask = JSON.parse(line, number);
  try {
    console.log(JSON.stringify(route(ask.source, ask.scores, ask.prompt_tokens)));
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    console.log("null");
  }
}
"""


def _asked(folder: Path, asks: Sequence[Ask]) -> Path:
    path = folder / "asks.jsonl"
    path.write_text("".join(json.dumps(ask) + "\n" for ask in asks), encoding="utf-8")
    return path


def _told(command: Sequence[str | Path]) -> list[dict[str, Any] | None]:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def by_python(plan: SavedPlan, folder: Path, asks: Sequence[Ask]) -> list[dict[str, Any] | None]:
    """By the file alone: no site packages, and none of ours."""
    source = export_plan(plan, "python").files["route.py"]
    assert isinstance(source, str)
    assert source.isascii()
    (folder / "route.py").write_text(source)
    return _told([sys.executable, "-I", "-S", "-c", _PYTHON, folder, _asked(folder, asks)])


def without_types(source: str) -> str:
    """TypeScript of an export as JavaScript: its types stand in interfaces, in aliases, and as one name after a constant's."""
    source = re.sub(r"^export interface \w+[^{]*\{\n(  .*\n)*\}\n", "", source, flags=re.MULTILINE)
    source = re.sub(r"^(export )?type \w+ = .*;\n", "", source, flags=re.MULTILINE)
    return re.sub(r"^(export )?const (\w+): \w+ = ", r"\1const \2 = ", source, flags=re.MULTILINE)


def by_node(plan: SavedPlan, folder: Path, asks: Sequence[Ask]) -> list[dict[str, Any] | None]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node to run TypeScript's routes by")
    source = export_plan(plan, "typescript").files["route.ts"]
    assert isinstance(source, str)
    assert source.isascii()
    (folder / "route.mjs").write_text(without_types(source))
    (folder / "ask.mjs").write_text(_NODE)
    return _told([node, folder / "ask.mjs", _asked(folder, asks)])


LANGUAGES = pytest.mark.parametrize("told", [by_python, by_node])


def simulated(plan: SavedPlan, asks: Sequence[Ask]) -> list[str]:
    """Arms by the policy that a simulation asks, all requests of a source at once."""
    policy, arms = plan.scenario.parsed_policy(), list(plan.scenario.arms)
    assert policy is not None
    found = [""] * len(asks)
    for source in plan.scenario.workload.sources:
        rows = [row for row, ask in enumerate(asks) if ask["source"] == source]
        names = dict.fromkeys(name for row in rows for name in asks[row]["scores"])
        requests = Requests(
            arrival_s=np.zeros(len(rows)),
            source=np.zeros(len(rows), dtype=np.int64),
            sources=(source,),
            prompt_tokens=np.array([asks[row]["prompt_tokens"] for row in rows]),
            scores={name: np.array([asks[row]["scores"][name] for row in rows], dtype=np.float64) for name in names},
            responses=plan.scenario.responses,
        )
        for row, index in zip(
            rows, choose_arms(policy.for_source(source), requests, arms) if rows else [], strict=True
        ):
            found[row] = arms[index]
    return found


ODD = ['it\'s "$(reboot)"', "two\nlines\\", "__proto__", "constructor", "ünï\u2028\U0001f600", "class"]
API = {
    "kind": "api",
    "first_token": {"median_s": 0.5},
    "per_token": {"median_s": 0.01},
    "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0},
}
RESPONSE = {
    "features": ["1", "logit difficulty", "log prompt_tokens", "log tokens:a b", "within 900 a b", "novelty"],
    "ranges": [(1, 1), (-4, 4), (0, 9), (0, 12), (0, 1), (0, 1)],
    "correct": [1.0, -0.8, 0.05, -0.1, 0.7, -0.3],
    "seconds": [0.1, 0.2, 0.1, 0.3, -0.5, 0.2],
    "api_cost_usd": [-9.0, 0.5, 0.1, 0.4, -0.2, 0.1],
}
DEAR = {
    **RESPONSE,
    "correct": [2.0, -0.2, 0.05, -0.05, 0.2, 0.1],
    "api_cost_usd": None,
    "gpu_s": [-1.0, 0.6, 0.1, 0.3, -0.1, 0.1],
    "gpu_usd_per_s": 0.0008,
}


def odd_plan(**changes: Any) -> SavedPlan:
    arms = {
        name: {"profile": "x", "deployment": name, "strategy": strategy}
        for name, strategy in zip(
            ODD,
            [
                "Single(cap=150)",
                "Single()",
                "MajorityVote(n=3, of=BudgetForcing(10, cap=90))",
                f"Cascade(stages=[Single(cap=50), {ODD[5]!r}], tpr=0.9, fpr=0.1, judge={ODD[0]!r})",
                "Single(cap=500, on_cap='force_answer')",
                "BestOfN(n=2, auroc=0.8)",
            ],
            strict=True,
        )
    }
    arms[ODD[0]]["fallback"] = [ODD[1], ODD[2]]  # type: ignore[assignment]
    raw = {
        "name": 'a"""\n*/ plan',
        "workload": {
            "arrivals": {"process": "even", "rate_per_s": 5.0},
            "requests": 300,
            "sources": {name: {"problem_set": "set"} for name in ODD},
        },
        "deployments": dict.fromkeys(ODD, API),
        "arms": arms,
        "policy": {
            ODD[0]: f"Banded(edges=[0.2, 0.5], arms={[ODD[0], ODD[1], ODD[2]]!r})",
            ODD[1]: f"Threshold(at=100, below={ODD[0]!r}, above={ODD[3]!r}, score='prompt_tokens')",
            ODD[2]: f"Always({ODD[4]!r})",
            ODD[3]: f"Banded(edges=[-1e-300, 0.1], arms={[ODD[2], ODD[3], ODD[2]]!r}, score='p:__proto__')",
            ODD[4]: "Utility(price_of_accuracy=0.01, price_of_second=0.0001)",
            ODD[5]: f"Threshold(at=0.3, below={ODD[2]!r}, above={ODD[5]!r}, score='toString')",
        },
        "responses": {
            ODD[3]: {**RESPONSE, "sources": [ODD[4]]},
            ODD[0]: {**DEAR, "sources": [ODD[4], ODD[0]]},
            ODD[5]: {**DEAR, "correct": [9.0] * 6, "sources": [ODD[0]]},
        },
        **changes,
    }
    return SavedPlan(scenario_from_dict(raw), {}, "met")


def random_asks(count: int) -> list[Ask]:
    rng = np.random.default_rng(3)
    edges = [
        0.2,
        0.5,
        0.1,
        0.3,
        -1e-300,
        0.0,
        1.0,
        *(float(np.nextafter(edge, way)) for edge in (0.2, 0.5, 0.3) for way in (0, 1)),
    ]
    asks: list[Ask] = []
    for k in range(count):
        score = edges[k % len(edges)] if k < 12 * len(edges) else float(np.float32(rng.uniform(-0.1, 1.1)))
        tokens = sorted(np.exp(rng.uniform(-1, 10, 3)).tolist())
        scores = {"difficulty": score, "p:__proto__": score, "toString": score, "novelty": float(rng.uniform())}
        scores |= dict(zip(("tokens_p50:a b", "tokens:a b", "tokens_p90:a b"), tokens, strict=True))
        asks.append(
            {"source": ODD[(k // len(edges)) % len(ODD)], "scores": scores, "prompt_tokens": int(rng.integers(1, 200))}
        )
    return [*asks, *({**ask, "prompt_tokens": near} for ask in asks[-6 * len(edges) :: 7] for near in (99, 100, 101))]


@LANGUAGES
def test_odd_names_and_scores_at_thresholds_go_where_a_simulation_sends_them(told: Runner, tmp_path: Path) -> None:
    plan, asks = odd_plan(), random_asks(1500)
    routes, expected = told(plan, tmp_path, asks), simulated(plan, asks)
    assert [route and route["arm"] for route in routes] == expected
    assert set(expected) == set(ODD)
    by_utility = [arm for ask, arm in zip(asks, expected, strict=True) if ask["source"] == ODD[4]]
    assert min(by_utility.count(ODD[0]), by_utility.count(ODD[3])) > 20, "a choice that tells nothing"
    served = {route["arm"]: route for route in routes if route is not None}
    assert {arm: route["max_tokens"] for arm, route in served.items()} == dict(
        zip(ODD, [150, None, None, None, None, None], strict=True)
    )
    assert all(route["deployment"] == arm for arm, route in served.items())
    assert served[ODD[0]]["fallbacks"] == [ODD[1], ODD[2]]
    assert served[ODD[2]]["strategy"]["of"] == {"kind": "BudgetForcing", "min_tokens": 10, "cap": 90, "extensions": 1}
    assert served[ODD[3]]["strategy"]["stages"] == [{"kind": "Single", "cap": 50, "on_cap": "truncate"}, ODD[5]]


@LANGUAGES
@pytest.mark.parametrize("score", ["difficulty", "tokens_p90:a b", "tokens:a b", "novelty"])
def test_utilities_turn_where_a_simulation_turns(told: Runner, score: str, tmp_path: Path) -> None:
    """Both sides of where the best arm changes, a hundred-millionth apart."""
    plan = odd_plan()
    asks = [{**ask, "source": ODD[4]} for ask in random_asks(300)[-100:]]
    below, above = ([at] * len(asks) for at in ((0.01, 0.99) if score in ("difficulty", "novelty") else (1.5, 1500.0)))

    def at(values: list[float]) -> list[Ask]:
        return [{**ask, "scores": {**ask["scores"], score: value}} for ask, value in zip(asks, values, strict=True)]

    begin, end = simulated(plan, at(below)), simulated(plan, at(above))
    for _ in range(60):
        middle = [(low + high) / 2 for low, high in zip(below, above, strict=True)]
        same = [one == other for one, other in zip(simulated(plan, at(middle)), begin, strict=True)]
        below = [m if stays else low for m, stays, low in zip(middle, same, below, strict=True)]
        above = [high if stays else m for m, stays, high in zip(middle, same, above, strict=True)]
    turns = [k for k in range(len(asks)) if begin[k] != end[k]]
    assert len(turns) >= 3
    near = [(below[k] * (1 - 1e-8), above[k] * (1 + 1e-8)) for k in range(len(asks))]
    for side, expected in ((0, begin), (1, end)):
        routes = told(plan, tmp_path, at([pair[side] for pair in near]))
        assert [(routes[k] or {}).get("arm") for k in turns] == [expected[k] for k in turns]


@LANGUAGES
def test_what_no_simulation_could_route_is_refused_and_what_is_not_needed_may_be_missing(
    told: Runner, tmp_path: Path
) -> None:
    good = random_asks(1)[0]
    banded, length, always, weighed = ({**good, "source": ODD[k]} for k in (0, 1, 2, 4))

    def scored(ask: Ask, **scores: Any) -> Ask:
        return {**ask, "scores": {**ask["scores"], **scores}}

    refused = [scored(banded, difficulty=bad) for bad in ("NaN", "inf", "0.3", True)]
    refused += [{**banded, "scores": {}}, {**length, "prompt_tokens": None}, scored(length, prompt_tokens="NaN")]
    refused += [scored(weighed, **{"tokens:a b": "NaN"}), {**weighed, "prompt_tokens": None}]
    refused += [{**always, "source": source} for source in ("", "toString", "hasOwnProperty", None)]
    taken = [
        {**always, "scores": {}, "prompt_tokens": None},
        {**length, "scores": {}},
        {**banded, "prompt_tokens": None},
    ]
    # A score of that name counts instead of the prompt's length, as for a policy.
    taken.append({**length, "scores": {"prompt_tokens": 5.0}, "prompt_tokens": 500})
    routes = told(odd_plan(), tmp_path, [*refused, *taken])
    assert routes[: len(refused)] == [None] * len(refused)
    arms = [route and route["arm"] for route in routes[len(refused) :]]
    assert arms == [ODD[4], simulated(odd_plan(), [length])[0], simulated(odd_plan(), [banded])[0], ODD[0]]


def shipped(name: str, policy: Any = None) -> tuple[SavedPlan, list[Ask], list[str]]:
    """A plan of a shipped scenario, some of its problems as requests, and the arms that a simulation sends them to."""
    scenario = load_scenario(name)
    if policy is not None:
        scenario = scenario.model_copy(update={"policy": policy})
    model, chosen = load_model(scenario), scenario.parsed_policy()
    assert chosen is not None
    model = with_responses(model, chosen)
    assert model.population is not None
    requests = model.population.as_requests()
    arms = [list(scenario.arms)[index] for index in choose_arms(chosen, requests, list(scenario.arms))]
    rows = range(0, len(requests), 1 + len(requests) // 600)
    asks = [
        {
            "source": requests.sources[requests.source[row]],
            "scores": {score: float(values[row]) for score, values in requests.scores.items()},
            "prompt_tokens": int(requests.prompt_tokens[row]),
        }
        for row in rows
    ]
    responses = None if requests.responses is None else dict(requests.responses)
    planned = scenario.model_copy(update={"responses": responses})
    return SavedPlan(planned, {}, "met"), asks, [arms[row] for row in rows]


SHIPPED: list[tuple[str, Any]] = [
    ("qa-gateway", None),
    ("competition-maths", None),
    (
        "reasoning-gateway",
        {
            "everyday": "Utility(price_of_accuracy=0.01, price_of_second=0.00001)",
            "research": "Banded(edges=[0.2, 0.5], arms=['maverick', 'r1', 'mistral'], score='p:reasoning-gym/claude-sonnet-4')",
        },
    ),
]


@pytest.mark.parametrize(("name", "policy"), SHIPPED)
@LANGUAGES
def test_shipped_problems_go_where_a_simulation_sends_them(
    told: Runner, name: str, policy: Any, tmp_path: Path
) -> None:
    plan, asks, arms = shipped(name, policy)
    assert len(asks) >= 40
    assert len(set(arms)) > 1
    assert [route and route["arm"] for route in told(plan, tmp_path, asks)] == arms


@LANGUAGES
def test_live_requests_go_where_the_runtime_sends_them(told: Runner, tmp_path: Path) -> None:
    plan, _, _ = shipped(*SHIPPED[2])
    capped = {
        name: arm.model_copy(update={"fallback": "mistral"})
        for name, arm in plan.scenario.arms.items()
        if name != "mistral"
    }
    voting = capped["r1"].model_copy(update={"strategy": "MajorityVote(n=3, cap=700)"})
    scenario = plan.scenario.model_copy(update={"arms": {**plan.scenario.arms, **capped, "r1": voting}})
    content = scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    made_from = os.path.relpath(scenario.path, tmp_path)
    file = tmp_path / "plan.yaml"
    file.write_text(json.dumps({"ttc_sim_plan": 1, "promised": {}, "made_from": made_from, "scenario": content}))
    saved = load_plan(file)
    runtime = saved.runtime()
    prompts = [
        text * (1 + k % 3)
        for k in range(8)
        for text in (f"What is {k} + 1? ", "Prove it, and colour all graphs. ", "Sort: b a. ")
    ]
    decided = [runtime.route(prompt, source) for prompt in prompts for source in scenario.workload.sources]
    live = [{"source": one.source, "scores": dict(one.scores), "prompt_tokens": one.prompt_tokens} for one in decided]
    assert len({one.arm for one in decided}) > 1
    for one, route in zip(decided, told(saved, tmp_path, live), strict=True):
        assert route is not None
        assert (route["arm"], route["deployment"], route["max_tokens"]) == (one.arm, one.deployment, one.max_tokens)
        assert (tuple(route["fallbacks"]), route["strategy"]["kind"]) == (one.fallbacks, type(one.strategy).__name__)


def test_types_are_checked_where_there_is_a_compiler(tmp_path: Path) -> None:
    compiler = shutil.which("tsc")
    if compiler is None:
        pytest.skip("there is no tsc to check types by")
    body = {"__proto__": 1, "a": [None, {"b": "\u2028"}]}
    endpoint = Endpoint(url="http://localhost:1/v1", model="m", body=body)
    made = export_plan(odd_plan(), "typescript", {ODD[0]: endpoint}).files["route.ts"]
    assert isinstance(made, str)
    (tmp_path / "route.ts").write_text(made)
    command = [
        compiler,
        "--strict",
        "--noUncheckedIndexedAccess",
        "--noEmit",
        "--target",
        "es2020",
        "--module",
        "es2020",
        str(tmp_path / "route.ts"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_endpoints_stand_beside_routes() -> None:
    body = {"__proto__": {"x": 1}, "top_k": 3}
    endpoint = Endpoint(url="http://localhost:1/v1", model='m"', key_env="KEY", body=body)
    plan = odd_plan(policy=f"Always({ODD[2]!r})")
    for to, file, literal in (("python", "route.py", ascii('m"')), ("typescript", "route.ts", json.dumps('m"'))):
        made = export_plan(plan, to, {ODD[2]: endpoint}).files[file]
        assert isinstance(made, str)
        assert literal in made
    assert '["__proto__"]: {"x": 1}' in made, "a literal's key of that name is no property"
    for bad in (float("nan"), b"\xff", {1, 2}):
        with pytest.raises(InputError, match=r"endpoints: .*\.body: got .*; expected what JSON can hold"):
            export_plan(plan, "python", {ODD[2]: endpoint.model_copy(update={"body": {"x": bad}})})


def test_what_functions_cannot_do_is_listed(tmp_path: Path) -> None:
    said = "\n".join(export_plan(odd_plan(), "python").not_expressed)
    for part in (
        "3 attempts, of which the most frequent answer is taken",
        "one stage after another until an answer is accepted",
        "answers are accepted by the judge",
        "2 attempts, of which one is taken",
        "thinking ends at 500 tokens and the answer is forced",
        "does not answer",
        "asked again up to 6 times",
    ):
        assert part in said, part
    assert "output tokens an attempt" not in said
    live = odd_plan(policy={**dict.fromkeys(ODD, f"Always({ODD[1]!r})"), ODD[0]: f"LeastLoaded({[ODD[4], ODD[1]]!r})"})
    for to in ("python", "typescript"):
        lines = export_plan(live, to).not_expressed
        assert f"source {ODD[0]}: all requests go to arm {ODD[4]}, as while nothing waits" in lines
        assert any("looks at what is on its way" in line for line in lines)
    routes = by_python(live, tmp_path, [{"source": ODD[0], "scores": {}, "prompt_tokens": None}])
    assert [route and route["arm"] for route in routes] == [ODD[4]]


@pytest.mark.parametrize("to", ["python", "typescript"])
def test_python_of_ones_own_and_utilities_without_responses_are_refused(to: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def choose(request):\n    return 'class'\n")
    raw = odd_plan().scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    own = {**raw, "policy": "own.py:choose"}
    made = SavedPlan(scenario_from_dict(own, str(tmp_path / "s.yaml"), allow_code=True), {}, "met")
    with pytest.raises(
        InputError, match=r"scenario\.policy of source .*expected Always, Threshold, .* Python of your own"
    ):
        export_plan(made, to)
    utility = {"policy": "Utility(price_of_accuracy=1)", "responses": None}
    with pytest.raises(
        InputError, match=r"scenario\.policy of source .*; expected the responses that it was planned with"
    ):
        export_plan(odd_plan(**utility), to)


def test_ranges_must_be_numbers() -> None:
    endless = Response.model_validate({**RESPONSE, "sources": [ODD[4]], "ranges": [(1, float("inf"))] * 6})
    plan = odd_plan()
    scenario: Scenario = plan.scenario.model_copy(update={"responses": {ODD[3]: endless}})
    with pytest.raises(
        InputError, match=r"responses\.__?.*ranges|responses\..*\.ranges: got .*; expected finite numbers"
    ):
        export_plan(SavedPlan(scenario, {}, "met"), "python")
