"""A plan at work beside its promise: what is kept raises no alarm, and what breaks is found and named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ttc_sim as ttc
from tests.simulated_logs import every_arm, logged
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.cli.ending import carry_out
from ttc_sim.deploying.monitoring.causes import Causes, Table, accuracy_parts, cost_parts, find_causes
from ttc_sim.deploying.monitoring.cells import GRADED, RIGHT, USD, N, bands_of, counted
from ttc_sim.deploying.monitoring.figures import measured
from ttc_sim.deploying.monitoring.keeping import Asked, Clock, all_asked, judge
from ttc_sim.deploying.monitoring.moved import compared
from ttc_sim.deploying.monitoring.plainly import plainly
from ttc_sim.deploying.monitoring.reference import Reference, as_planned
from ttc_sim.deploying.monitoring.scores import scores_read
from ttc_sim.deploying.monitoring.served import COMPLETED, FAILED, TIMED_OUT, Served, of_runs
from ttc_sim.deploying.monitoring.todays import as_it_is
from ttc_sim.optimizer.plan import SavedPlan, load_plan, write_plan
from ttc_sim.reporting.monitoring import in_words
from ttc_sim.simulation.result import simulate

DAY, HOUR = 86400.0, 3600.0
SCORES = ("difficulty", "p:reasoning-gym/llama-4-maverick")
CAPPED = "Single(cap=4096)"
SCENARIO: dict[str, Any] = {
    "name": "at work",
    "replications": 2,
    "workload": {
        "arrivals": {"process": "poisson", "rate_per_s": 0.02},
        "requests": 3000,
        "sources": {
            "everyday": {"problem_set": "reasoning-gym", "subset": "reasoning-gym-easy", "share": 0.75},
            "research": {"problem_set": "reasoning-gym", "subset": "reasoning-gym-hard", "share": 0.25},
        },
    },
    "deployments": {
        name: {
            "kind": "api",
            "price": {"input_usd_per_mtok": price / 4, "output_usd_per_mtok": price},
            "first_token": {"median_s": 0.6, "p95_s": 1.5},
            "per_token": {"median_s": 0.015, "p95_s": 0.03},
            "timeout_s": 120,
        }
        for name, price in (("small-api", 0.6), ("large-api", 2.4))
    },
    "arms": {
        "small": {"profile": "reasoning-gym/llama-4-maverick", "deployment": "small-api", "strategy": CAPPED},
        "large": {"profile": "reasoning-gym/deepseek-r1", "deployment": "large-api", "strategy": CAPPED},
    },
    "policy": "Threshold(at=0.6, below='large', above='small', score='p:reasoning-gym/llama-4-maverick')",
    "search": {"bands": 3, "max_bands": 2},
    "targets": {"minimize": "cost", "accuracy": 0.5, "latency_p95_s": 100, "timeout_rate": 0.05},
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, SavedPlan]:
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    scenario = ttc.scenario_from_dict(SCENARIO, str(path.with_name("scenario.yaml")))
    write_plan(path, scenario, "met", (), simulate(scenario).summary(), {})
    return path, load_plan(path)


@pytest.fixture(scope="module")
def planned(saved: tuple[Path, SavedPlan]) -> Reference:
    return as_planned(saved[1])


@pytest.fixture(scope="module")
def came(saved: tuple[Path, SavedPlan]) -> Served:
    """Other requests of the plan's own kind, on their days."""
    result = simulate(ttc.with_changes(saved[1].scenario, {"seed": 9}), requests=8000, replications=1)
    served = of_runs(result.model, result.runs)
    return replace(served, scores={name: served.scores[name] for name in SCORES})


def clock(served: Served, standing: float = 0.0) -> Clock:
    last = float(served.at_s[-1])
    return Clock((*(DAY * k for k in range(1, int(last // DAY) + 1)), last), HOUR, standing)


def broken(served: Served, plan: SavedPlan) -> set[str]:
    found = judge(served, all_asked(plan.promised, plan.scenario), plan.scenario, clock(served))
    return {one.asked.name for one in found if one.verdict == "broken"}


def traced(served: Served, plan: SavedPlan, planned: Reference) -> dict[str, Causes]:
    promised = {name: figure.value for name, figure in plan.promised.items()}
    return {one.figure: one for one in find_causes(served, planned, promised, HOUR, float(served.at_s[-1]))}


def dearer(now: Served) -> Served:
    return replace(now, usd=np.where(now.arm == 1, 1.8 * now.usd, now.usd))


def longer(now: Served) -> Served:
    more = np.where(now.arm == 1, now.reasoning, 0.0)
    return replace(now, reasoning=now.reasoning + more, usd=now.usd + more * 2.4e-6)


def more_calls(now: Served) -> Served:
    again = np.where(now.arm == 1, 1.9, 1.0)
    every = {name: getattr(now, name) * again for name in ("calls", "prompt", "cached", "reasoning", "visible", "usd")}
    return replace(now, **every)


def slower(now: Served) -> Served:
    late = np.where(now.answered & (now.arm == 1), 3.0, 1.0)
    return replace(now, latency_s=now.latency_s * late)


def wronger(now: Served) -> Served:
    wrong = (now.arm == 1) & (np.arange(len(now)) % 2 == 0)
    return replace(now, correct=np.where(wrong & ~np.isnan(now.correct), 0.0, now.correct))


def harder(now: Served) -> Served:
    """Of the easy source the easiest half is gone."""
    score = now.scores["difficulty"]
    easy = (now.source == 0) & (score < np.median(score[now.source == 0]))
    return now.taken(~easy)


def other_mix(now: Served) -> Served:
    return now.taken((now.source == 1) | (np.arange(len(now)) % 6 == 0))


def dropped(now: Served) -> Served:
    out = (now.arm == 1) & (np.arange(len(now)) % 4 == 0)
    return replace(now, status=np.where(out, TIMED_OUT, now.status), latency_s=np.where(out, 120.0, now.latency_s))


def test_what_is_kept_raises_no_alarm(saved: tuple[Path, SavedPlan], planned: Reference, came: Served) -> None:
    plan = saved[1]
    judged = judge(came, all_asked(plan.promised, plan.scenario), plan.scenario, clock(came))
    assert {one.verdict for one in judged} <= {"kept", "open", "better"}
    assert sum(one.verdict == "kept" for one in judged) >= len(judged) - 2
    for one in judged:
        assert one.realized.low <= one.realized.value <= one.realized.high
        assert len(one.looks) == len(clock(came).looks_s)
    for figure, causes in traced(came, plan, planned).items():
        assert in_words(causes).startswith("No assumption"), figure
    edges = tuple(DAY * k for k in range(int(came.at_s[-1] // DAY) + 2))
    found = compared(came, planned, edges, HOUR)
    assert {one.what.split()[0] for one in found} == {"prompt", "score", "output", "mix", "arrivals"}
    assert not any(one.moved for one in found)
    assert as_it_is(came, planned, planned.rate_per_s).said == ()


@pytest.mark.parametrize(
    ("breaks", "names", "figure", "cause", "differs"),
    [
        (dearer, {"cost_usd_per_request"}, "cost_usd_per_request", "prices of large", "prices of large-api times 1.8"),
        (longer, {"cost_usd_per_request"}, "cost_usd_per_request", "output tokens of large", "deepseek-r1 are 1."),
        (more_calls, {"cost_usd_per_request"}, "cost_usd_per_request", "calls of large", ""),
        (slower, {"latency_p50_s", "latency_p95_s"}, "", "", "further tokens of large-api take 3"),
        (wronger, {"accuracy"}, "accuracy", "right answers of large", ""),
        (dropped, {"timeout_rate", "latency_p95_s"}, "accuracy", "answers that did not come of large", ""),
        (other_mix, set(), "accuracy", "mix of sources", "from research instead of"),
        (harder, set(), "cost_usd_per_request", "scores of prompts", ""),
    ],
)  # fmt: skip
def test_what_breaks_is_found_and_named(
    saved: tuple[Path, SavedPlan],
    planned: Reference,
    came: Served,
    breaks: Callable[[Served], Served],
    names: set[str],
    figure: str,
    cause: str,
    differs: str,
) -> None:
    now = breaks(came)
    assert names <= broken(now, saved[1])
    causes = traced(now, saved[1], planned)
    if figure:
        said = in_words(causes[figure])
        assert cause in said
        first = next(one for one in causes[figure].parts if one.more_than_noise)
        assert said.index(cause) == said.index("noise: ") + 7, first
    assert any(differs in one for one in (*as_it_is(now, planned, 0.02).said, ""))


def test_drift_is_named(planned: Reference, came: Served) -> None:
    edges = tuple(DAY * k for k in range(int(came.at_s[-1] // DAY) + 2))

    def moved(now: Served) -> set[tuple[str, str]]:
        return {(one.what, one.of) for one in compared(now, planned, edges, HOUR) if one.moved}

    assert ("output tokens", "large") in moved(longer(came))
    assert ("output tokens", "small") not in moved(longer(came))
    assert {("mix of sources", "everyday"), ("mix of sources", "research")} <= moved(other_mix(came))
    found = moved(harder(came))
    assert ("score difficulty", "everyday") in found
    assert ("score difficulty", "research") not in found
    assert ("prompt tokens", "everyday") in moved(replace(came, told=2 * came.told))
    assert ("arrivals", "a second") in moved(came.taken(np.arange(len(came)) % 2 == 0))


def test_false_alarms_of_whole_logs(saved: tuple[Path, SavedPlan], planned: Reference) -> None:
    """Figures that are kept exactly, and what comes as it was planned: of many logs of a week hardly one raises any alarm."""
    plain = plainly(planned.served)
    truth = {
        "accuracy": plain.accuracy.value,
        "cost_usd_per_request": plain.usd,
        "timeout_rate": plain.timed_out,
        "latency_p95_s": plain.latency_p95_s,
    }
    asked = [Asked(name, name, None, "target", value, value, value) for name, value in truth.items()]
    alarms = drifts = 0
    for k in range(30):
        rng = np.random.default_rng(k)
        sent = 2000
        now = planned.served.taken(rng.integers(0, len(planned.served), sent))
        hours = rng.choice(7 * 24, sent, p=(w := rng.dirichlet(np.full(7 * 24, 2.0))) / w.sum())  # in bursts
        now = replace(now, at_s=np.sort((hours + rng.uniform(size=sent)) * HOUR), problem=np.full(sent, -1))
        now = replace(now, scores={name: now.scores[name] for name in SCORES})
        alarms += any(one.verdict == "broken" for one in judge(now, asked, saved[1].scenario, clock(now)))
        found = compared(now, planned, tuple(DAY * day for day in range(8)), HOUR)
        drifts += any(one.moved for one in found if one.what != "arrivals")
    assert alarms <= 4  # of 30; with a chance of 5% each, more come once in a hundred times
    assert drifts <= 4


# ------------------------------------------------------------------------------------------------------ parts that add up


def random_table(rng: np.random.Generator, empty: float) -> Table:
    """Cells of two sources, two bands, three arms, of which many are empty, and some without grades."""
    shape = (2, 2, 3, 2)
    n = rng.integers(1, 40, shape) * (rng.uniform(size=shape) > empty)
    answered = np.floor(n * rng.uniform(0, 1.2, shape)).clip(0, n)
    graded = np.floor(answered * rng.uniform(-0.3, 1.2, shape)).clip(0, answered)
    money = [n * rng.uniform(0, 2, shape) for _ in range(4)]
    return np.stack([n, *money, answered, graded, np.floor(graded * rng.uniform(0, 1, shape))], axis=-1)


@pytest.mark.parametrize("seed", range(40))
def test_parts_add_up_whatever_came(seed: int) -> None:
    rng = np.random.default_rng(seed)
    now, then = random_table(rng, rng.uniform(0, 0.9)), random_table(rng, rng.uniform(0, 0.9))
    now[0, 0, 0, 0] = then[1, 1, 1, 0] = [3, 3, 1, 2, 4, 2, 1, 1]
    then[..., GRADED] = then[..., 5]  # all that the plan's simulation answers is known
    arms = ("a", "b", "c")
    cost = cost_parts(now, then, arms, ("x", "y", "x"))
    assert all(np.isfinite(list(cost.values())))
    assert {of for what, of in cost if what == "prices"} == {"x", "y"}
    means = [float(one[..., USD].sum() / one[..., N].sum()) for one in (now, then)]
    assert sum(cost.values()) == pytest.approx(means[0] - means[1], abs=1e-9)
    accuracy = accuracy_parts(now, then, arms)
    assert all(np.isfinite(list(accuracy.values())))
    share = float(now[..., 5].sum() / now[..., N].sum() * now[..., RIGHT].sum() / now[..., GRADED].sum())
    assert sum(accuracy.values()) == pytest.approx(share - float(then[..., RIGHT].sum() / then[..., N].sum()), abs=1e-9)


def test_parts_of_a_log_add_up_to_the_realized_figures(
    saved: tuple[Path, SavedPlan], planned: Reference, came: Served
) -> None:
    rng = np.random.default_rng(1)
    now = replace(came, correct=np.where(rng.uniform(size=len(came)) < 0.3, came.correct, np.nan))
    now = wronger(dearer(longer(other_mix(now))))
    causes = traced(now, saved[1], planned)
    values, counts = now.right()
    for figure, realized in (("cost_usd_per_request", now.usd.mean()), ("accuracy", values.sum() / counts.sum())):
        one = causes[figure]
        assert one.realized == pytest.approx(realized, rel=1e-9)
        assert one.promised + sum(part.by.value for part in one.parts) == pytest.approx(realized, rel=1e-9)
        assert one.difference == pytest.approx(realized - saved[1].promised[figure].value, rel=1e-9)


def test_a_bill_at_the_plans_prices_is_all_prompt_and_output(planned: Reference, came: Served) -> None:
    table = counted(came, bands_of(planned.served, came), planned.prices, np.zeros(len(came), dtype=np.int64), 1)
    tokens = came.prompt * np.where(came.arm == 0, 0.15, 0.6) + came.output * np.where(came.arm == 0, 0.6, 2.4)
    whole = came.status == COMPLETED
    assert came.usd[whole] == pytest.approx(tokens[whole] / 1e6, rel=1e-9)
    assert table[..., USD].sum() == pytest.approx(came.usd.sum(), rel=1e-12)
    assert table[..., 2:4].sum() == pytest.approx(came.usd.sum(), rel=1e-9)


# ------------------------------------------------------------------------------------------------------- figures by hand


def test_figures_of_a_few_requests_by_hand(saved: tuple[Path, SavedPlan], came: Served) -> None:
    few = replace(
        came.taken(np.arange(6)),
        at_s=np.array([10.0, 20.0, 30.0, 40.0, 50.0, 60.0]),
        status=np.array([COMPLETED, COMPLETED, COMPLETED, COMPLETED, TIMED_OUT, FAILED]),
        latency_s=np.array([1.0, 2.0, 3.0, 4.0, 120.0, 0.5]),
        first_token_s=np.array([0.5, 0.6, np.nan, 1.0, np.nan, np.nan]),
        usd=np.array([1.0, 2.0, 3.0, 4.0, 5.0, 0.0]),
        correct=np.array([1.0, 0.0, np.nan, np.nan, 0.0, 0.0]),
    )
    plain = plainly(few)
    assert plain.usd == 2.5
    assert (plain.latency_p50_s, plain.latency_p95_s) == (3.0, 120.0)  # the one that failed counts in none
    assert (plain.ttft_p50_s, plain.ttft_p95_s) == (0.6, 120.0)  # an answer without any token has no first one
    assert (plain.timed_out, plain.failed, plain.unanswered) == (1 / 6, 1 / 6, 1 / 3)
    # Half of the answers are graded, of these half are right; and a third of all got none.
    assert plain.accuracy.value == pytest.approx(2 / 3 * 1 / 2)
    assert plain.graded == 2
    scenario = saved[1].scenario
    late = measured(few, "latency_p50_s", scenario, 3.0)
    assert not isinstance(late, str)
    assert late.requests == 5
    assert measured(few, "cut_off_rate", scenario, 0.1) == "not in the log"


def test_pools_are_paid_by_the_hour(saved: tuple[Path, SavedPlan], came: Served) -> None:
    """What a request costs is its calls and its part of the hours, and half as many requests pay twice as much for those."""
    scenario = saved[1].scenario
    usd_per_s = 0.00004
    for now in (came, came.taken(np.arange(len(came)) % 2 == 0)):
        hours = float(now.at_s[-1] - now.at_s[0]) * len(now) / (len(now) - 1)
        each = now.usd.mean() + usd_per_s * hours / len(now)
        asked = [Asked(name, name, None, "target", *[1.0] * 3) for name in ("cost_usd_per_request", "cost_usd_per_day")]
        request, day = judge(now, asked, scenario, clock(now, usd_per_s))
        assert request.realized.value == pytest.approx(each, rel=1e-9)
        assert day.realized.value == pytest.approx(each * len(now) / hours * DAY, rel=1e-9)
        for one in (request, day):
            assert one.realized.low < one.realized.value < one.realized.high
            assert one.realized.high < 1.3 * one.realized.value
    apart = Asked("sources.everyday.cost_usd_per_request", "cost_usd_per_request", "everyday", "target", *[1.0] * 3)
    assert judge(came, [apart], scenario, clock(came, usd_per_s))[0].verdict == "unknown"
    assert judge(came, [apart], scenario, clock(came))[0].verdict == "kept"


# ------------------------------------------------------------------------------------------------------------- from files


@pytest.fixture(scope="module")
def lines(saved: tuple[Path, SavedPlan]) -> list[dict[str, Any]]:
    path, plan = saved
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    every = every_arm(ttc.with_changes(plan.scenario, {"seed": 9}), 3000)
    lines = logged(every, graded=0.3, plan=digest).lines
    return [
        {**line, "scores": {name: line["scores"][name] for name in SCORES}} if "scores" in line else line
        for line in lines
    ]


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def ran(*words: object) -> int:
    import typer

    return carry_out(typer.main.get_command(app), ["monitor", *map(str, words)])


def test_the_command_says_what_is_kept_and_what_is_not(
    saved: tuple[Path, SavedPlan], lines: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = written(tmp_path / "kept.jsonl", lines)
    assert ran(saved[0], kept, "--no-replan", "--json", tmp_path / "f.json", "--plot", tmp_path / "f.png") == 0
    shown = capsys.readouterr().out
    assert "900 of" not in shown
    assert "answers are graded" in shown
    assert "expected to be as hard as the others" in shown
    figures = json.loads((tmp_path / "f.json").read_text())
    usd = [line["usd"] for line in lines if "ttc_sim_outcome" in line]
    cost = next(one for one in figures["judged"] if one["name"] == "cost_usd_per_request")
    assert cost["realized"]["value"] == pytest.approx(np.mean(usd), rel=1e-12)
    assert figures["broken"] == []
    assert (tmp_path / "f.png").stat().st_size > 20_000
    twice = [{**line, "usd": 2 * line["usd"]} if "ttc_sim_outcome" in line else line for line in lines]
    assert ran(saved[0], written(tmp_path / "dear.jsonl", twice), "--no-replan") == 2
    shown = capsys.readouterr().out
    assert "Broken for sure: cost_usd_per_request." in shown
    assert "prices of large-api times 2" in shown


def test_what_replanning_would_save(tmp_path: Path) -> None:
    """Where the large model has become ten times as dear, a new plan sends less to it, and both see the same traffic."""
    raw = {
        **SCENARIO,
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 0.02},
            "requests": 500,
            "sources": {"contest": {"problem_set": "math", "subset": ["aime24", "amc23", "math500"]}},
        },
        "arms": {
            "small": {"profile": "math/sky-t1-32b-short", "deployment": "small-api"},
            "large": {"profile": "math/qwen2.5-14b-instruct", "deployment": "large-api"},
        },
        "policy": "Threshold(at=0.5, below='small', above='large')",
        "targets": {"minimize": "cost", "accuracy": 0.62, "latency_p95_s": 100, "timeout_rate": 0.05},
    }
    scenario = ttc.scenario_from_dict(raw, str(tmp_path / "scenario.yaml"))
    write_plan(tmp_path / "plan.yaml", scenario, "met", (), simulate(scenario).summary(), {})
    lines = logged(every_arm(ttc.with_changes(scenario, {"seed": 9}), 2000), graded=0.3).lines
    dear = [
        {**line, "usd": 10 * line["usd"]} if "ttc_sim_outcome" in line and line["arm"] == "large" else line
        for line in lines
    ]
    found = ttc.monitor(tmp_path / "plan.yaml", written(tmp_path / "dear.jsonl", dear), other_plan=True)
    assert "prices of large-api times 10" in found.differs
    assert not isinstance(found.replanned, str)
    saves = found.replanned.saves_usd_per_day
    assert saves.difference.high < 0
    # What the plan costs today by simulation is what the log says that it does.
    realized = found.usd_per_day
    assert realized == pytest.approx(found.realized.usd * found.rates_per_s[0] * DAY, rel=1e-12)
    assert saves.before.low < realized < saves.before.high
    assert saves.before.value == pytest.approx(realized, rel=0.3)
    assert found.replanned.compared["accuracy"].after.value > 0.62
    assert saves.difference.value == pytest.approx(saves.after.value - saves.before.value, rel=1e-9)


def test_odd_logs(saved: tuple[Path, SavedPlan], lines: list[dict[str, Any]], tmp_path: Path) -> None:
    path = saved[0]
    one = [line for line in lines if line["request"] == lines[0]["request"]]
    found = ttc.monitor(path, written(tmp_path / "one", one))
    assert {x.verdict for x in found.judged} <= {"open", "unknown"}
    assert found.replanned == "too few requests to plan by: 1, where it takes 200"
    assert found.plot() is not None
    at_once = [{**line, "at": lines[0]["at"]} if "at" in line else line for line in lines[:1200]]
    assert isinstance(ttc.monitor(path, written(tmp_path / "once", at_once)).replanned, str)
    with pytest.raises(InputError, match="expected a decision whose end is known"):
        ttc.monitor(path, written(tmp_path / "open", [line for line in lines[:40] if "ttc_sim_decision" in line]))
    with pytest.raises(InputError, match="in those days"):
        ttc.monitor(path, tmp_path / "one", until="2020-01-01")
    with pytest.raises(InputError, match="until: got '2026-01-01'"):
        ttc.monitor(path, tmp_path / "one", since="2026-02-01", until="2026-01-01")
    with pytest.raises(InputError, match="since: got 'yesterday'"):
        ttc.monitor(path, tmp_path / "one", since="yesterday")
    with pytest.raises(InputError, match="every: got 1"):
        ttc.monitor(path, tmp_path / "one", every=1)
    given: tuple[Any, ...] = (None, 3, [])
    for nothing in given:
        with pytest.raises(InputError, match="monitor: logs"):
            ttc.monitor(path, nothing)
    with pytest.raises(InputError, match="monitor: plan"):
        ttc.monitor(None, tmp_path / "one")  # type: ignore[arg-type]
    other = [{**line, "plan": "ffffffffffff"} if "plan" in line else line for line in lines[:400]]
    with pytest.raises(InputError, match="plan: got 'ffffffffffff'"):
        ttc.monitor(path, written(tmp_path / "other", other))
    assert len(ttc.monitor(path, tmp_path / "other", other_plan=True, replan=False).periods) == 1


def test_what_has_no_outcome_is_on_its_way_or_lost(
    saved: tuple[Path, SavedPlan], lines: list[dict[str, Any]], tmp_path: Path
) -> None:
    decided = [line for line in lines if "ttc_sim_decision" in line]
    gone = {decided[0]["request"], decided[1]["request"], decided[-1]["request"]}
    rest = [line for line in lines if "ttc_sim_decision" in line or line["request"] not in gone]
    found = ttc.monitor(saved[0], written(tmp_path / "log", rest[::-1]), replan=False)
    assert found.realized.requests == len(decided) - 3
    assert any("still on their way when the log ended: 1," in note for note in found.notes)
    assert any("every client has given up: 2, lost" in note for note in found.notes)
    days = ttc.monitor(saved[0], tmp_path / "log", replan=False, since="2026-11-02", until="2026-11-02")
    assert days.periods[0].figures.requests == days.realized.requests
    assert [one.begins_s % DAY for one in days.periods] == [0.0]
    assert days.realized.requests == sum(
        one["at"].startswith("2026-11-02") and one["request"] not in gone for one in decided
    )


def test_scores_that_no_policy_reads_are_not_judged() -> None:
    """Lines of requests that are tried on purpose hold every score, dozens of them."""
    scenario = ttc.load_scenario("reasoning-gateway")
    sources, read = tuple(scenario.workload.sources), "p:reasoning-gym/llama-4-maverick"
    known = ["difficulty", "novelty", read, "p:reasoning-gym/o3-mini", "tokens:reasoning-gym/o3-mini"]
    assert scores_read(scenario, sources, known) == {"difficulty", "novelty", read}
    mixed = {
        "everyday": "Always('r1')",
        "research": f"Threshold(at=0.3, below='r1', above='maverick', score='{known[3]}')",
    }
    other = scenario.model_copy(update={"policy": mixed})
    assert scores_read(other, sources, known) == {"difficulty", "novelty", known[3]}
    assert scores_read(other, sources, known[:3]) == set(known[:3])
