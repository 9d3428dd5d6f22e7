"""A runtime where something goes wrong, what it tries on purpose, its log, and what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ttc_sim as ttc
from tests.routing import runtime_of, saved_plan
from tests.test_runtime import PROMPTS, UTILITY, scenario, write_problems
from tests.test_runtime_at_work import BOTH, POOL, THRESHOLD, started
from ttc_sim.base.errors import InputError
from ttc_sim.base.shipped import PREDICTORS
from ttc_sim.predictor import Predictor
from ttc_sim.simulation.result import simulate


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_problems(tmp_path_factory.mktemp("world"))


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


def test_a_policy_that_needs_no_scores_is_asked_without_them(
    world: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    by_length = "Banded(edges=[100], arms=['weak', 'strong@500'], score='prompt_tokens')"
    runtime = started(world, by_length, fallback_arm="weak")
    monkeypatch.setattr(Predictor, "score", lambda self, prompts: _raises(None))
    decision = runtime.route("x", "hard", prompt_tokens=101)
    assert [one for one in caplog.records if "out of memory" in one.message]
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
    for k in range(1800):
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
    assert runtime.route("x", "hard").arms == ("weak@150", "weak")
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


def test_an_arm_that_was_not_measured_on_a_source_is_no_arm_for_it(world: Path) -> None:
    """A simulation refuses to send requests there, and so does a runtime that has the problems at hand."""
    (world / "part").mkdir()
    card = (world / "weak" / "profile.yaml").read_text()
    (world / "part" / "profile.yaml").write_text(card.replace("weak", "part"))
    easy = pl.read_parquet(world / "set" / "problems.parquet").filter(pl.col("subset") == "easy")["problem"]
    attempts = pl.read_parquet(world / "weak" / "attempts.parquet")
    attempts.filter(pl.col("problem").is_in(easy.implode())).write_parquet(world / "part" / "attempts.parquet")
    (world / "part.py").write_text("def choose(request):\n    return 'part'\n")
    arms = {name: {"profile": name, "deployment": "cheap"} for name in ("weak", "part")}
    plan = saved_plan(world / "plan.yaml", scenario(world, "part.py:choose", arms=arms))
    with pytest.raises(InputError, match="an arm whose profile was measured on source hard: weak"):
        ttc.simulate(ttc.load_plan(plan, allow_code=True).scenario)
    with pytest.raises(InputError, match="an arm that is offered to source hard: weak"):
        runtime_of(plan, allow_code=True)
    with pytest.raises(InputError, match="an arm whose profile was measured on source hard: weak"):
        started(world, "Threshold(at=0.4, below='weak', above='part')", changes={"arms": arms})
    policy = {"easy": "Always('part')", "hard": "Always('weak')"}
    runtime = started(world, policy, changes={"arms": arms}, explore=0.5, seed=1)
    assert [runtime.route("x", source).arms for source in BOTH] == [("weak", "part"), ("weak",)]
