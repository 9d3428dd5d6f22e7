"""A runtime at work: what it expects of requests, why, live load, threads and processes."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ttc_sim as ttc
from tests.routing import runtime_of, saved_plan
from tests.test_runtime import PROMPTS, UTILITY, scenario, write_problems
from ttc_sim.base.errors import InputError
from ttc_sim.deploying import Runtime
from ttc_sim.deploying.decisions import Decision
from ttc_sim.predictor import Predictor
from ttc_sim.simulation.result import simulate

THRESHOLD = "Threshold(at=0.4, below='weak', above='strong@500')"
BOTH = ("easy", "hard")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_problems(tmp_path_factory.mktemp("world"))


def started(world: Path, policy: Any, *, allow_code: bool = False, changes: Any = None, **options: Any) -> Runtime:
    plan = saved_plan(world / "plan.yaml", scenario(world, policy, **(changes or {})))
    return runtime_of(plan, allow_code=allow_code, **options)


def same(one: Decision) -> tuple[Any, ...]:
    """What does not differ from one asking to the next."""
    return (one.source, one.arm, one.strategy, one.max_tokens, one.scores, one.predicted, one.why, one.fell_back)


# ---------------------------------------------------------------------------------------------- what is expected


@pytest.mark.parametrize("arm", ["weak", "weak@150"])
def test_over_all_problems_what_is_predicted_comes_to_what_was_measured(world: Path, arm: str) -> None:
    """By hand, from the attempts: shares right, tokens, bills and seconds of the three attempts at each problem."""
    sources = {"easy": {"problem_set": "set", "subset": ["easy", "hard"]}}
    workload = {"arrivals": {"process": "even", "rate_per_s": 5.0}, "requests": 20, "sources": sources}
    arms = {name: {"profile": "weak", "deployment": "cheap"} for name in ("weak", "weak@150")}
    arms["weak@150"]["strategy"] = "Single(cap=150)"
    runtime = started(world, f"Always({arm!r})", changes={"workload": workload, "arms": arms})
    found = [runtime.route(prompt).predicted for prompt in PROMPTS]
    attempts = pl.read_parquet(world / "weak" / "attempts.parquet")
    cap = 150 if arm == "weak@150" else 10**6
    tokens = np.minimum(attempts["visible_tokens"].to_numpy(), cap)
    right = attempts["correct"].to_numpy() & (attempts["visible_tokens"].to_numpy() <= cap)
    usd = (0.1 * attempts["prompt_tokens"].to_numpy() + 0.5 * tokens) / 1e6
    wanted = {"chance": right.mean(), "tokens": tokens.mean(), "usd": usd.mean()}
    wanted["seconds"] = (0.5 + 0.01 * (tokens - 1)).mean()
    for name, mean in wanted.items():
        assert np.mean([getattr(one, name) for one in found]) == pytest.approx(mean, rel=1e-4), name
    # Harder ones are expected to come out right less often: the weak model's chance falls by difficulty.
    hard = np.argsort(Predictor.load().score(PROMPTS).difficulty)
    chance = np.array([one.chance for one in found])[hard]
    assert chance[:10].mean() > chance[-10:].mean() + 0.02


POOL = {
    "kind": "gpu_pool",
    "replicas": 1,
    "usd_per_replica_hour": 3.6,
    "max_num_seqs": 4,
    "step_time": {"base_s": 0.01, "per_prefill_token_s": 1e-5, "per_sequence_s": 1e-3, "per_kv_token_s": 0.0},
}


def test_of_a_pool_the_seconds_and_the_share_of_its_bill_are_those_of_the_plan(world: Path) -> None:
    api = {"kind": "api", "first_token": {"median_s": 0.5}, "per_token": {"median_s": 0.01}}
    changes = {
        "deployments": {
            "cheap": POOL,
            "dear": {**api, "price": {"input_usd_per_mtok": 2.0, "output_usd_per_mtok": 10.0}},
        },
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 2.2},
            "requests": 4000,
            "sources": {name: {"problem_set": "set", "subset": name} for name in BOTH},
        },
    }
    middle = float(pl.read_parquet(world / "set" / "scores.parquet")["difficulty"].median())  # type: ignore[arg-type]
    planned = scenario(world, f"Threshold(at={middle}, below='weak', above='strong@500')", **changes)
    runtime = runtime_of(saved_plan(world / "plan.yaml", planned))
    records = simulate(planned).records
    by_problem: dict[tuple[str, str], Any] = {}
    for problem, source in records.select("problem", "source").unique().iter_rows():
        by_problem[problem, source] = runtime.route(PROMPTS[int(problem[1:])], source).predicted
    rows = [by_problem[key] for key in records.select("problem", "source").iter_rows()]
    usd, seconds = (np.array([getattr(one, name) for one in rows]) for name in ("usd", "seconds"))
    weak = (records["arm"] == "weak").to_numpy()
    assert 0.2 < weak.mean() < 0.9
    assert usd.mean() == pytest.approx(float(records["cost_usd"].mean()), rel=0.05)  # type: ignore[arg-type]
    latency = records["latency_s"].to_numpy()
    assert seconds[weak].mean() == pytest.approx(latency[weak].mean(), rel=0.15)
    assert seconds[~weak].mean() == pytest.approx(latency[~weak].mean(), rel=0.1)
    alone_s = 0.01 + 0.001  # a token of a request that has the pool to itself
    tokens = np.array([one.tokens for one in rows])
    assert seconds[weak].mean() > 1.4 * alone_s * tokens[weak].mean(), "others share the pool, and wait for it"


@pytest.mark.parametrize("policy", [UTILITY, THRESHOLD])
def test_without_the_problems_requests_are_routed_alike_and_less_is_said(
    world: Path, tmp_path: Path, policy: Any
) -> None:
    planned = scenario(world, policy)
    there = runtime_of(saved_plan(world / "plan.yaml", planned))
    alone = runtime_of(saved_plan(tmp_path / "plan.yaml", planned))
    said = [note for note in alone.notes if "predicted" in note]
    assert len(said) == 1
    assert "set" in said[0]
    for prompt in PROMPTS:
        one, other = there.route(prompt, "hard"), alone.route(prompt, "hard")
        assert (one.arm, one.max_tokens, one.why) == (other.arm, other.max_tokens, other.why)
        assert one.predicted.tokens is not None
        assert other.predicted.tokens is None
        for name in ("chance", "usd", "seconds"):
            left = getattr(one.predicted, name) if policy == UTILITY else None
            assert getattr(other.predicted, name) == left


def test_why_is_said_in_a_line(world: Path) -> None:
    easy = float(np.float32(Predictor.load().score(PROMPTS[:1]).difficulty[0]))
    for at, sign, word in ((easy + 1e-5, "<", "below the threshold -> weak"), (easy, ">=", "not below")):
        said = started(world, f"Threshold(at={at}, below='weak', above='strong@500')").route(PROMPTS[0], "easy").why
        name, value, given, edge, rest = said.replace(":", "").split(" ", 4)
        assert (name, given) == ("difficulty", sign)
        assert word in rest
        # In as many digits as it takes to see that it is so.
        assert (float(value) < float(edge)) == (sign == "<")
    bands = "Banded(edges=[0.1, 0.9], arms=['weak@150', 'weak', 'strong@500'])"
    assert started(world, bands).route(PROMPTS[1], "easy").why.startswith("0.1 <= difficulty 0.")
    worth = started(world, UTILITY).route(PROMPTS[1], "hard")
    assert f"at a chance of {worth.predicted.chance:.2f} to be right; next " in worth.why
    for runtime in (started(world, "Always('weak')"), started(world, "LeastLoaded(arms=['weak', 'strong@500'])")):
        assert "\n" not in runtime.route("x", "easy").why


# ------------------------------------------------------------------------------------------------------ live load


@pytest.mark.parametrize(
    ("policy", "alike"),
    [
        ("LeastLoaded(arms=['weak', 'strong@500'])", 1.0),
        ("looks.py:choose", 1.0),
        # Clients that wait for their next try are not let in the moment that there is room, so that some wait a little longer.
        ("Overflow(arms=['weak', 'strong@500'], waiting=2)", 0.97),
        ({"easy": "Overflow(arms=['weak', 'strong@500'], waiting=2)", "hard": "Always('weak')"}, 0.97),
    ],
)
def test_by_live_load_requests_go_where_a_simulation_sends_them(world: Path, policy: Any, alike: float) -> None:
    """Every request of a run again, in the order of its events: each is told as it is sent, and as it ends."""
    (world / "looks.py").write_text(
        "def choose(request, load):\n"
        "    busy = load.in_progress['cheap'] + load.waiting['cheap'] > load.capacity['cheap'] + 1\n"
        "    return 'strong@500' if busy else 'weak'\n"
    )
    api = {"kind": "api", "price": {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.5}}
    api |= {"first_token": {"median_s": 0.5, "p95_s": 2.0}, "per_token": {"median_s": 0.01, "p95_s": 0.02}}
    retry = {"retries": 100, "base_s": 0.001, "max_s": 0.05}
    changes = {
        "deployments": {"cheap": {**api, "concurrency": 3, "retry": retry}, "dear": POOL},
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 1.5},
            "requests": 400,
            "sources": {name: {"problem_set": "set", "subset": name} for name in BOTH},
        },
    }
    planned = scenario(world, policy, **changes)
    plan = saved_plan(world / "plan.yaml", planned)
    records = ttc.simulate(ttc.load_plan(plan, allow_code=True).scenario).records
    runtime = runtime_of(plan, allow_code=True)
    events = []
    for row in records.iter_rows(named=True):
        events += [(row["arrival_s"], 0, row), (row["finished_s"], 1, row)]
    same_arm = []
    for _, ended, row in sorted(events, key=lambda event: event[:2]):
        deployment = planned.arms[row["arm"]].deployment
        if ended:
            runtime.ended(deployment)
        else:
            same_arm.append(runtime.route(PROMPTS[int(row["problem"][1:])], row["source"]).arm == row["arm"])
            runtime.sent(deployment)
    assert np.mean(same_arm) >= alike
    assert 0.05 < (records["arm"] == "weak").mean() < 0.95  # type: ignore[operator]
    assert sum(runtime.load.in_progress.values()) == 0


def test_load_is_what_was_sent_and_has_not_ended(world: Path) -> None:
    """By hand, for calls that come and go at random, at an endpoint with room for two and one without a limit."""
    api = {"kind": "api", "first_token": {"median_s": 0.5}, "per_token": {"median_s": 0.01}}
    api["price"] = {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.5}
    changes = {"deployments": {"cheap": {**api, "concurrency": 2}, "dear": api}}
    overflow = started(world, "Overflow(arms=['weak', 'strong@500'], waiting=3)", changes=changes)
    least = started(world, "LeastLoaded(arms=['weak', 'strong@500'])", changes=changes)
    rng, count = np.random.default_rng(5), {"cheap": 0, "dear": 0}
    for _ in range(300):
        name, more = ("cheap", "dear")[rng.integers(2)], int(rng.integers(1, 4))
        if rng.random() < 0.4:
            count[name] += more
            for runtime in (overflow, least):
                runtime.sent(name, more)
        elif count[name] >= more:
            count[name] -= more
            for runtime in (overflow, least):
                runtime.ended(name, more)
        waiting = max(count["cheap"] - 2, 0)
        assert overflow.load.waiting == {"cheap": waiting, "dear": 0}
        assert overflow.load.in_progress == {"cheap": min(count["cheap"], 2), "dear": count["dear"]}
        assert overflow.route("x", "easy").arm == ("weak" if waiting < 3 else "strong@500")
        # An endpoint without a limit is never loaded.
        assert least.route("x", "easy").arm == ("strong@500" if count["cheap"] else "weak")


def test_an_arm_is_as_loaded_as_what_its_first_call_goes_to(world: Path) -> None:
    """As in a simulation: a cascade that begins with another arm begins where that one runs."""
    arms = {
        "weak@150": {"profile": "weak", "deployment": "cheap", "strategy": "Single(cap=150)"},
        "both": {
            "profile": "strong",
            "deployment": "dear",
            "strategy": "Cascade(stages=['weak@150', Single()], tpr=0.9, fpr=0.1)",
        },
        "strong": {"profile": "strong", "deployment": "dear"},
    }
    runtime = started(world, "LeastLoaded(arms=['both', 'strong'])", changes={"arms": arms})
    for deployment, arm in (("cheap", "strong"), ("dear", "both")):
        runtime.sent(deployment)
        assert runtime.route("x", "easy").arm == arm
        runtime.ended(deployment)
    assert runtime.route("x", "easy").deployment == "dear"


def test_what_is_on_its_way_is_told_in_words_that_are_checked(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    runtime = started(world, "LeastLoaded(arms=['weak', 'strong@500'])")
    for wrong, field in (("chaep", "deployment"), (None, "deployment")):
        with pytest.raises(InputError, match=field):
            runtime.sent(wrong)  # type: ignore[arg-type]
    for calls in (0, -1, 1.5, True, "1"):
        with pytest.raises(InputError, match="calls: got"):
            runtime.sent("cheap", calls)  # type: ignore[arg-type]
    for _ in range(101):
        runtime.route("x", "easy")
    assert [one.message for one in caplog.records if "nobody has called runtime.sent" in one.message]
    runtime.ended("cheap")
    assert runtime.counts["ended without being sent"] == 1
    runtime.sent("cheap", 5)
    assert runtime.load.in_progress["cheap"] == 5
    assert runtime.route("x", "easy").arm == "strong@500"


# --------------------------------------------------------------------------------------------- threads and processes


@pytest.mark.parametrize("policy", [UTILITY, THRESHOLD, "counts.py:choose"])
def test_many_threads_decide_as_one_does(world: Path, tmp_path: Path, policy: Any) -> None:
    (world / "counts.py").write_text(
        "asked = []\n"
        "def choose(request):\n"
        "    before = len(asked)\n"
        "    asked.append(request.index)\n"
        "    assert len(asked) == before + 1\n"
        "    return 'weak' if request.difficulty < 0.4 else 'strong@500'\n"
    )
    runtime = started(world, policy, allow_code=True, log=tmp_path / "log.jsonl")
    asked = [(prompt, source) for prompt in PROMPTS for source in BOTH] * 6
    one_by_one = [same(runtime.route(*one)) for one in asked]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda one: runtime.route(*one), asked))
    assert [same(one) for one in together] == one_by_one
    assert runtime.counts["routed"] == 2 * len(asked)
    assert runtime.counts["fell back"] == 0
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert len({line["request"] for line in lines}) == len(lines) == 2 * len(asked)
    arms = Counter(line["arm"] for line in lines)
    assert all(runtime.counts[f"to {arm}"] == count for arm, count in arms.items())


def test_coroutines_may_ask(world: Path) -> None:
    runtime = started(world, THRESHOLD)

    async def ask(prompt: str) -> Decision:
        await asyncio.sleep(0)
        return runtime.route(prompt, "easy")

    async def all_of_them() -> list[Decision]:
        return await asyncio.gather(*map(ask, PROMPTS))

    assert [same(one) for one in asyncio.run(all_of_them())] == [same(runtime.route(p, "easy")) for p in PROMPTS]


def test_threads_may_start_at_once(world: Path) -> None:
    """The first to route compiles and loads what the others wait for."""
    runtime = started(world, THRESHOLD)
    barrier, found = threading.Barrier(6), list[str]()

    def ask() -> None:
        barrier.wait()
        found.append(runtime.route(PROMPTS[3], "hard").arm)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_names_its_own_requests(world: Path) -> None:
    runtime = started(world, "Always('weak')")
    runtime.sent("cheap", 3)
    mine = runtime.route("x", "easy").request
    reading, writing = os.pipe()
    runtime._tally._lock.acquire()  # as another thread may hold it just then, which is not there in the child
    child = os.fork()
    if child == 0:
        try:
            said = runtime.route("x", "easy").request, runtime.counts["routed"], runtime.load.in_progress["cheap"]
            os.write(writing, json.dumps(said).encode())
        finally:
            os._exit(0)
    runtime._tally._lock.release()
    os.close(writing)
    with os.fdopen(reading) as pipe:
        request, routed, on_its_way = json.loads(pipe.read())
    os.waitpid(child, 0)
    assert request.split("-")[0] != mine.split("-")[0]
    assert (routed, on_its_way) == (1, 0)


def test_it_takes_milliseconds(world: Path) -> None:
    """The bound is wide, for machines with others at work; ``python -m benchmarks.runtime`` measures it."""
    runtime = started(world, UTILITY)
    taken = []
    for prompt in PROMPTS * 5:
        start = time.thread_time()
        runtime.route(prompt, "hard")
        taken.append(time.thread_time() - start)
    assert np.median(taken) < 0.015
