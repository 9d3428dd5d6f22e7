"""A runtime at work: what it expects, live load, threads, what it falls back on, what it tries on purpose, and its log."""

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
from ttc_sim.base.shipped import PREDICTORS
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
            "arrivals": {"process": "poisson", "rate_per_s": 0.8},
            "requests": 2000,
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
    assert seconds[weak].mean() == pytest.approx(latency[weak].mean(), rel=0.1)
    assert seconds[~weak].mean() == pytest.approx(latency[~weak].mean(), rel=0.1)
    alone_s = 0.01 + 0.001  # a token of a request that has the pool to itself
    tokens = np.array([one.tokens for one in rows])
    assert seconds[weak].mean() > 1.05 * alone_s * tokens[weak].mean(), "others share the pool"


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_names_its_own_requests(world: Path) -> None:
    runtime = started(world, "Always('weak')")
    runtime.sent("cheap", 3)
    mine = runtime.route("x", "easy").request
    reading, writing = os.pipe()
    runtime._lock.acquire()  # as another thread may hold it just then, which is not there in the child
    child = os.fork()
    if child == 0:
        try:
            said = runtime.route("x", "easy").request, runtime.counts["routed"], runtime.load.in_progress["cheap"]
            os.write(writing, json.dumps(said).encode())
        finally:
            os._exit(0)
    runtime._lock.release()
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


# ------------------------------------------------------------------------------------------------- falling back


def _raises(found: Any) -> Any:
    raise RuntimeError("out of\nmemory")


def _nan(found: Any) -> Any:
    raise InputError("predictor", "p", "no number for prompt 1", "a number for every prompt")


@pytest.mark.parametrize("how", [_raises, _nan, lambda found: None])
@pytest.mark.parametrize("given", [None, "strong@500", {"easy": "weak", "hard": "strong"}])
def test_where_the_predictor_fails_a_stated_arm_takes_over(
    world: Path, monkeypatch: pytest.MonkeyPatch, how: Any, given: Any
) -> None:
    runtime = started(world, THRESHOLD, fallback_arm=given, explore=0.5, seed=1)
    before = Predictor.score
    monkeypatch.setattr(
        Predictor, "score", lambda self, prompts: (how if prompts[0][:1] == "!" else lambda x: x)(before(self, prompts))
    )
    usual = {source: usual_arm(world, source) for source in BOTH}
    for source in BOTH:
        wanted = usual[source] if given is None else given if isinstance(given, str) else given[source]
        assert runtime.fallback_arms[source] == wanted
        if given is None:
            assert any(f"requests of {source} fall back on {wanted}" in note for note in runtime.notes)
        decision = runtime.route("! What is 2 + 2?", source)
        assert (decision.arm, decision.propensity, decision.policy_arm, decision.arms) == (wanted, 1.0, None, ())
        assert decision.fell_back is not None
        assert "predictor" in decision.fell_back
        assert "\n" not in decision.fell_back
        assert decision.scores == {}
        assert decision.predicted.chance is None
        assert runtime.route("What is 2 + 2?", source).fell_back is None
    assert (runtime.counts["fell back"], runtime.counts["predictor failed"], runtime.counts["routed"]) == (2, 2, 4)


def usual_arm(world: Path, source: str) -> str:
    records = simulate(scenario(world, THRESHOLD)).records.filter(pl.col("source") == source)
    return str(records["arm"].value_counts(sort=True)["arm"][0])


def test_a_policy_that_needs_no_scores_is_asked_without_them(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_length = "Banded(edges=[100], arms=['weak', 'strong@500'], score='prompt_tokens')"
    runtime = started(world, by_length, fallback_arm="weak")
    monkeypatch.setattr(Predictor, "score", lambda self, prompts: _raises(None))
    decision = runtime.route("x", "hard", prompt_tokens=101)
    assert (decision.arm, decision.fell_back, decision.policy_arm) == ("strong@500", None, "strong@500")
    assert (runtime.counts["predictor failed"], runtime.counts["fell back"]) == (1, 0)


def test_a_predictor_that_is_not_there_is_refused_unless_an_arm_is_to_take_over(
    world: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (world / "own.onnx").write_bytes(PREDICTORS["fast"].read_bytes())
    planned = scenario(world, THRESHOLD)
    plan = saved_plan(world / "plan.yaml", planned)
    (world / "cut.onnx").write_bytes(PREDICTORS["fast"].read_bytes()[:1000])
    for file in ("nowhere.onnx", "cut.onnx"):
        with pytest.raises(InputError, match=file):
            runtime_of(plan, predictor=world / file)
        runtime = runtime_of(plan, predictor=world / file, fallback_arm="weak@150")
        assert [note for note in runtime.notes if file in note]
        decision = runtime.route("x", "easy")
        assert decision.arm == "weak@150"
        assert file in str(decision.fell_back)
    for wrong in ("wae", "strong", 5, {"easy": "weak"}, {"easy": "weak", "hard": "weak", "all": "weak"}):
        with pytest.raises(InputError, match="fallback_arm"):
            runtime_of(plan, fallback_arm=wrong)


def test_where_ones_own_policy_fails_a_stated_arm_takes_over(world: Path) -> None:
    (world / "fails.py").write_text(
        "def choose(request):\n"
        "    return {1: 'weak', 101: 'strong', 102: 'nothing'}.get(request.prompt_tokens) or 1 / 0\n"
    )
    runtime = started(world, "fails.py:choose", allow_code=True, fallback_arm="weak@150")
    assert runtime.route("x", "easy", prompt_tokens=1).fell_back is None
    # 'strong' is not offered to easy requests; an arm that is not there; and an error.
    for tokens, said in ((101, "offered to source easy"), (102, "nothing"), (103, "ZeroDivisionError")):
        decision = runtime.route("x", "easy", prompt_tokens=tokens)
        assert decision.arm == "weak@150"
        assert said in str(decision.fell_back)
    assert (runtime.counts["policy failed"], runtime.counts["fell back"]) == (3, 3)


# ---------------------------------------------------------------------------------------------- trying on purpose


def test_what_is_tried_on_purpose_is_tried_as_often_as_is_said(world: Path) -> None:
    runtime = started(world, THRESHOLD, explore=0.3, seed=7)
    again = started(world, THRESHOLD, explore=0.3, seed=7)
    plain = started(world, THRESHOLD)
    found = []
    for k in range(3000):
        prompt, source = PROMPTS[k % len(PROMPTS)], BOTH[k % 3 > 1]
        found.append(runtime.route(prompt, source))
        if k < 200:
            assert again.route(prompt, source).arm == found[-1].arm
            assert plain.route(prompt, source).arm == found[-1].policy_arm
    offered = {"easy": {"weak", "weak@150", "strong@500"}, "hard": {"weak", "weak@150", "strong@500", "strong"}}
    for source in BOTH:
        here = [one for one in found if one.source == source]
        count = len(offered[source])
        assert all(set(one.arms) == offered[source] for one in here)
        for one in here:
            wanted = 0.7 * (one.arm == one.policy_arm) + 0.3 / count
            assert one.propensity == pytest.approx(wanted)
        share = np.mean([one.arm != one.policy_arm for one in here])
        wanted = 0.3 * (count - 1) / count
        assert abs(share - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / len(here))
        # Inverse propensities: each arm's requests stand for all of them.
        for arm in offered[source]:
            weight = [(one.arm == arm) / one.propensity for one in here]
            assert np.mean(weight) == pytest.approx(1.0, abs=4 * np.std(weight) / np.sqrt(len(here)))
    tried = [one for one in found if one.arm != one.policy_arm]
    assert runtime.counts["explored"] == len(tried)
    assert all("tried on purpose" in one.why for one in tried)
    assert started(world, THRESHOLD, explore=1).route("x", "easy").propensity == pytest.approx(1 / 3)
    assert plain.route("x", "easy").propensity == 1.0
    for wrong in (-0.1, 1.1, "much", float("nan"), True):
        with pytest.raises(InputError, match="explore"):
            started(world, THRESHOLD, explore=wrong)
    for wrong in (-1, 1.5, "x"):
        with pytest.raises(InputError, match="seed"):
            started(world, THRESHOLD, seed=wrong)


def test_nothing_is_tried_where_nothing_runs(world: Path) -> None:
    """A plan does not pay for a pool that it does not use."""
    api = {"kind": "api", "first_token": {"median_s": 0.5}, "per_token": {"median_s": 0.01}}
    price = {"input_usd_per_mtok": 0.1, "output_usd_per_mtok": 0.5}
    changes = {"deployments": {"cheap": {**api, "price": price}, "dear": POOL}}
    runtime = started(world, "Always('weak')", changes=changes, explore=0.5, seed=1)
    assert runtime.route("x", "hard").arms == ("weak", "weak@150")
    assert [note for note in runtime.notes if note.startswith("not tried: ") and "strong@500" in note]


# ------------------------------------------------------------------------------------------------------- the log


def test_the_log_holds_decisions_and_no_text(world: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = tmp_path / "log.jsonl"
    runtime = started(world, UTILITY, log=log)
    decision = runtime.route("the secret of our kitchen", "easy", session="s1")
    assert json.loads(log.read_text()) == decision.as_line()
    assert "kitchen" not in log.read_text()
    assert decision.session == "s1"
    log.rename(tmp_path / "log.jsonl.1")  # as a rotation does
    assert runtime.log({"ttc_sim_grade": 1, "request": decision.request, "correct": True})
    assert len(log.read_text().splitlines()) == 1
    with pytest.raises(InputError, match="log"):
        runtime.log({"usd": float("nan")})
    for nowhere in (tmp_path, tmp_path / "no" / "log", 5):
        with pytest.raises(InputError, match="log"):
            started(world, UTILITY, log=nowhere)
    assert not started(world, UTILITY).log({"a": 1})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device here")
def test_a_log_that_cannot_be_written_stops_no_request(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    runtime = started(world, THRESHOLD, log="/dev/full")
    assert [runtime.route("x", "easy").arm for _ in range(3)]
    assert runtime.counts["lines lost"] == 3
    assert len([one for one in caplog.records if "are lost" in one.message]) == 1


def test_a_line_that_was_cut_short_spoils_no_other(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = started(world, THRESHOLD, log=tmp_path / "log.jsonl")
    whole = os.write
    monkeypatch.setattr(os, "write", lambda file, text: whole(file, text[:10]))
    assert not runtime.log({"first": "a long line"})
    monkeypatch.undo()
    assert runtime.log({"second": 2})
    assert (tmp_path / "log.jsonl").read_text().splitlines()[1:] == ['{"second":2}']


# ------------------------------------------------------------------------------------------------------- refusals


def test_what_cannot_be_carried_out_is_refused(world: Path) -> None:
    (world / "mine.py").write_text("def debate(trial):\n    raise RuntimeError('not to be run')\n")
    arms = {
        "weak": {"profile": "weak", "deployment": "cheap"},
        "own": {"profile": "strong", "deployment": "dear", "strategy": "mine.py:debate"},
    }
    expected = r"scenario\.arms\.own\.strategy: got 'mine\.py:debate'; expected a strategy that comes with ttc-sim"
    with pytest.raises(InputError, match=expected):
        started(world, "Threshold(at=0.4, below='weak', above='own')", changes={"arms": arms}, allow_code=True)
    # One that no request goes to does not matter, unless any may be tried on purpose.
    assert started(world, "Always('weak')", changes={"arms": arms}).route("x", "easy").arm == "weak"
    with pytest.raises(InputError, match=expected):
        started(world, "Always('weak')", changes={"arms": arms}, explore=0.1)
    plan = ttc.load_plan(saved_plan(world / "plan.yaml", scenario(world, THRESHOLD)))
    with pytest.raises(InputError, match="read from its file"):
        ttc.SavedPlan(plan.scenario, {}, "met").runtime()
    with pytest.raises(InputError, match="an arm that is offered to source easy"):
        started(world, "Always('strong')")
    runtime = plan.runtime()
    wrong: dict[str, Any]
    for wrong, field in (
        ({"prompt": 5}, "prompt"),
        ({"session": 5}, "session"),
        ({"prompt_tokens": -1}, "prompt_tokens"),
    ):
        with pytest.raises(InputError, match=field):
            runtime.route(**{"prompt": "x", "source": "easy", **wrong})
    endpoint = {"cheap": {"url": "http://localhost:1/v1", "model": "m"}}
    with pytest.raises(InputError, match=r"endpoints\.cheap"):
        plan.runtime(endpoints=endpoint)
    with pytest.raises(InputError, match="endpoints: got 'chaep'"):
        plan.runtime(endpoints={"chaep": None})


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
