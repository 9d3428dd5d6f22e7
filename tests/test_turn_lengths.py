"""Arms whose turns are longer or shorter than those that were recorded, and what that leaves in later prompts of a session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import ttc_sim as ttc
from tests.test_session_accuracy import agent, scenario
from ttc_sim.base.errors import InputError
from ttc_sim.base.prefix_tree import PrefixTree
from ttc_sim.engine import compiled, reference
from ttc_sim.policies import Always, Threshold
from ttc_sim.simulation.drawing import Draws, draw
from ttc_sim.simulation.model import Model, load_model
from ttc_sim.simulation.offering import offer
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.turn_lengths import chosen, lengthened
from ttc_sim.workload import Traffic

PROMPT, OUTPUT, ASKED = 1000, 200, 300


def two(tmp_path: Path, times: float, **changed: Any) -> Model:
    """Sessions of prompts of 1,000, 1,500, 2,000, ... tokens with answers of 200, on a plain arm and a wordy one."""
    arrivals = {"turns": 4, "prompt": PROMPT, "output": OUTPUT, "asked": ASKED, **changed.pop("arrivals", {})}
    return load_model(
        scenario(
            tmp_path,
            {"plain": None, "wordy": None},
            arrivals=arrivals,
            workload__requests=40,
            arms__wordy={"deployment": "wordy", "turn_tokens": times, **changed},
        )
    )


def tokens(model: Model, policy: Any) -> pl.DataFrame:
    return run_once(model, policy, draw(model, 0)).table(model)


def test_what_an_arm_adds_stays_in_later_prompts(tmp_path: Path) -> None:
    table = tokens(two(tmp_path, 1.5), Always("wordy"))
    assert table["visible_tokens"].to_list() == [300] * 40
    assert table["prompt_tokens"].to_list() == [PROMPT + t * (OUTPUT + 100 + ASKED) for t in range(4)] * 10
    shorter = tokens(two(tmp_path, 0.25), Always("wordy"))
    assert shorter["visible_tokens"].to_list() == [50] * 40
    assert shorter["prompt_tokens"].to_list() == [PROMPT + t * (50 + ASKED) for t in range(4)] * 10
    plain = tokens(two(tmp_path, 1.5), Always("plain"))
    assert plain["prompt_tokens"].to_list() == [PROMPT + t * (OUTPUT + ASKED) for t in range(4)] * 10


def test_only_what_the_arm_that_answered_adds_stays(tmp_path: Path) -> None:
    """The first turn goes to the wordy arm, all others to the plain one: its 100 tokens stay in every later prompt."""
    policy = Threshold(at=PROMPT + 1, below="wordy", above="plain", score="prompt_tokens")
    table = tokens(two(tmp_path, 1.5), policy)
    assert table["arm"].to_list() == ["wordy", "plain", "plain", "plain"] * 10
    assert table["visible_tokens"].to_list() == [300, 200, 200, 200] * 10
    assert table["prompt_tokens"].to_list() == [PROMPT, *(PROMPT + t * (OUTPUT + ASKED) + 100 for t in (1, 2, 3))] * 10


def test_a_policy_sees_prompts_as_long_as_the_turns_before_made_them(tmp_path: Path) -> None:
    """An edge between 2,000 and 2,200: the third prompt is beyond it only after two wordy answers, 2,200 tokens long."""
    policy = Threshold(at=2100, below="wordy", above="plain", score="prompt_tokens")
    model = two(tmp_path, 1.5)
    table = tokens(model, policy)
    assert table["arm"].to_list() == ["wordy", "wordy", "plain", "plain"] * 10
    assert table["prompt_tokens"].to_list() == [1000, 1600, 2200, 2700] * 10
    _, seen, arm = chosen(model, policy, draw(model, 0))
    assert seen.prompt_tokens.tolist() == table["prompt_tokens"].to_list()
    np.testing.assert_array_equal(policy.choose(seen, model.arm_names), arm)


def test_times_of_one_change_no_byte_and_are_not_looked_at(tmp_path: Path) -> None:
    model = two(tmp_path, 1.0)
    draws = draw(model, 0)
    assert not model.turns_vary
    assert lengthened(model, draws, np.ones(len(draws), dtype=np.int64)) is draws


def test_a_cap_cuts_longer_answers_and_what_it_cuts_stays_in_no_prompt(tmp_path: Path) -> None:
    table = tokens(two(tmp_path, 1.5, strategy="Single(cap=250)"), Always("wordy"))
    assert table["visible_tokens"].to_list() == [250] * 40
    assert table["prompt_tokens"].to_list() == [PROMPT + t * (250 + ASKED) for t in range(4)] * 10
    # One that cuts the recorded answers too leaves the prompts as they were recorded.
    table = tokens(two(tmp_path, 1.5, strategy="Single(cap=100)"), Always("wordy"))
    assert table["prompt_tokens"].to_list() == [PROMPT + t * (OUTPUT + ASKED) for t in range(4)] * 10


def drawn(model: Model, traffic: Traffic) -> Draws:
    return Draws(1, 0, "test", traffic.with_ends(), None)


def turns(
    prompt: list[int], output: list[int], reused: list[int], turn: list[int] | None = None, **more: Any
) -> Traffic:
    """One session, its requests one after another."""
    n = len(prompt)
    return Traffic(
        arrival_s=np.array([0.0, *[np.nan] * (n - 1)]),
        client=np.zeros(n, dtype=np.int64),
        prompt_tokens=np.array(prompt),
        reasoning_tokens=None,
        visible_tokens=np.array(output),
        rate_per_s=1.0,
        after=np.arange(-1, n - 1),
        think_s=np.zeros(n),
        session=np.zeros(n, dtype=np.int64),
        turn=np.arange(n) if turn is None else np.array(turn),
        reused_tokens=np.array(reused),
        **{"prefix_id": None, **more},
    )


def prompts_of(model: Model, traffic: Traffic, arm: int = 1) -> list[int]:
    found = lengthened(model, drawn(model, traffic), np.full(len(traffic.arrival_s), arm, dtype=np.int64)).traffic
    assert found.prompt_tokens is not None
    return [int(tokens) for tokens in found.prompt_tokens]


def test_a_context_made_shorter_loses_what_was_added(tmp_path: Path) -> None:
    model = two(tmp_path, 2.0)
    # Third turn: only the first 300 tokens (tools and system prompt) are left of what was sent, and a summary.
    found = prompts_of(model, turns([1000, 1400, 600, 900], [100, 100, 100, 100], [0, 1100, 300, 700]))
    assert found == [1000, 1500, 600, 1000]


def test_who_goes_back_behind_an_answer_does_not_have_it(tmp_path: Path) -> None:
    model = two(tmp_path, 2.0)
    # The third turn asks the second again: same prompt, whose answer is not in it; the fourth goes on from there.
    found = prompts_of(model, turns([1000, 1400, 1400, 1900], [100, 100, 150, 100], [0, 1100, 1400, 1550]))
    assert found == [1000, 1500, 1500, 1900 + 100 + 150]


def test_a_sub_agent_begins_with_nothing_that_was_added(tmp_path: Path) -> None:
    model = two(tmp_path, 2.0)
    # Turns of the agent: 0, 1, then a sub-agent's 0, 1, then the agent's 2.
    found = prompts_of(
        model,
        turns([1000, 1400, 500, 700, 1900], [100, 100, 50, 50, 100], [0, 1100, 400, 550, 1500], turn=[0, 1, 0, 1, 2]),
    )
    assert found == [1000, 1500, 500, 750, 1900 + 200]


def test_what_was_kept_of_an_answer_is_at_most_what_the_prompt_grew_by(tmp_path: Path) -> None:
    """Thinking that was recorded with the answer and sent no more: 500 tokens are answered, and the prompt grows by 250."""
    model = two(tmp_path, 2.0)
    assert prompts_of(model, turns([1000, 1250, 1500], [500, 100, 100], [0, 1000, 1300])) == [1000, 1500, 1850]


def test_prompts_known_in_blocks_hold_the_answers_before_them(tmp_path: Path) -> None:
    """An answer of 10 tokens ends before the next block of 64 does."""
    model = two(tmp_path, 3.0)
    assert prompts_of(model, turns([1000, 1050, 1100], [10, 10, 10], [0, 960, 1024])) == [1000, 1070, 1140]


def test_what_changed_early_in_a_context_leaves_the_answers_in_it(tmp_path: Path) -> None:
    """The third prompt differs from the second from its 300th token on, and still grows: as where a file that was read changed."""
    model = two(tmp_path, 2.0)
    found = prompts_of(model, turns([1000, 1400, 1800, 2200], [100, 100, 100, 100], [0, 1100, 300, 1900]))
    assert found == [1000, 1500, 2000, 2500]


def tree_of_chain(prompt: list[int], output: list[int]) -> dict[str, Any]:
    """Each prompt's node goes on to the end of its answer; the next one's follows it."""
    n = len(prompt)
    ends = [p + o for p, o in zip(prompt, output, strict=True)]
    return {
        "prefix_id": np.arange(n),
        "prefix_tokens": np.array([*ends[:-1], prompt[-1]]),
        "prefixes": PrefixTree(np.arange(-1, n - 1), np.array([0, *ends[:-1]])),
    }


@pytest.mark.parametrize("times", [1.5, 0.3, 4.0])
def test_prefix_trees_move_with_what_stands_before(tmp_path: Path, times: float) -> None:
    """Every prompt begins with the whole of the one before and its answer, before and after."""
    model = two(tmp_path, times)
    prompt, output = [1000, 1400, 1800], [100, 137, 50]
    reused = [0, 1100, 1537]
    traffic = turns(prompt, output, reused, **tree_of_chain(prompt, output))
    found = lengthened(model, drawn(model, traffic), np.ones(3, dtype=np.int64)).traffic
    assert found.prompt_tokens is not None
    assert found.visible_tokens is not None
    assert found.prefixes is not None
    assert found.prefix_tokens is not None
    assert found.reused_tokens is not None
    found.prefixes.check()
    answered = np.rint(np.array(output) * times).astype(int)
    np.testing.assert_array_equal(found.visible_tokens, answered)
    ends = found.prompt_tokens + answered
    np.testing.assert_array_equal(found.prefixes.start, [0, *ends[:-1]])
    np.testing.assert_array_equal(found.prefix_tokens, [*ends[:-1], found.prompt_tokens[-1]])
    np.testing.assert_array_equal(found.reused_tokens, [0, *ends[:-1]])


def test_random_sessions_keep_prompts_that_can_be(tmp_path: Path) -> None:
    """Recorded sessions of the shipped agent, answered by arms that write a third, or three times as much, at random."""
    rng = np.random.default_rng(3)
    for times in (0.3, 3.0):
        raw = scenario(
            tmp_path, {"plain": None, "wordy": None}, arms__wordy={"deployment": "wordy", "turn_tokens": times}
        )
        starts = {"process": "poisson", "rate_per_s": 0.1}
        workload = {"arrivals": {"process": "sessions", "sessions": "coding-agent", "starts": starts}, "requests": 3000}
        of = raw.model_copy(update={"workload": type(raw.workload).model_validate(workload)})
        model = load_model(of)
        draws = draw(model, 0)
        arm = rng.integers(0, 2, len(draws))
        was, now = draws.traffic, lengthened(model, draws, arm).traffic
        assert was.prompt_tokens is not None
        assert was.visible_tokens is not None
        assert now.prompt_tokens is not None
        assert now.visible_tokens is not None
        assert now.prefixes is not None
        assert now.prefix_id is not None
        assert now.prefix_tokens is not None
        assert now.reused_tokens is not None
        now.prefixes.check()
        assert now.prompt_tokens.min() >= 1
        assert (now.prompt_tokens >= now.prefixes.start[now.prefix_id]).all()
        assert (now.prefix_tokens >= now.prefixes.start[now.prefix_id]).all()
        assert (now.prefix_tokens <= now.prompt_tokens + now.visible_tokens).all()
        assert (now.reused_tokens <= now.prompt_tokens).all()
        grew = now.prompt_tokens - was.prompt_tokens
        assert (np.sign(grew) * np.sign(times - 1) >= 0).all()
        # Most of what was added by the turns before stays: recorded sessions are seldom made shorter.
        most = sum_before(was.session, now.visible_tokens - was.visible_tokens)
        assert (np.abs(grew) <= np.abs(most)).all()
        assert grew.sum() / most.sum() > 0.3
        # What a turn sent before ends where its node begins, by the turn's own answers and by those of the turn before it.
        assert was.prefixes is not None
        assert was.reused_tokens is not None
        at = (was.prefixes.start[was.prefix_id] == was.reused_tokens) & (was.reused_tokens > 0)
        off = now.prefixes.start[now.prefix_id[at]] - now.reused_tokens[at]
        assert at.mean() > 0.9
        assert not off.any()
        offers = offer(model, draws, arm)  # the engines take it
        offers.works[0].prefixes.check()  # type: ignore[union-attr]


def sum_before(session: Any, more: Any) -> Any:
    """What all turns of the session before each added."""
    total = np.cumsum(more) - more
    first = np.unique(session, return_index=True)[1]
    return total - total[first][session]


def test_both_engines_serve_turns_as_long_as_arms_make_them(tmp_path: Path) -> None:
    model = two(tmp_path, 1.5)
    draws = draw(model, 0)
    arm = np.arange(len(draws)) % 2
    works = offer(model, draws, arm).works
    one = reference.run(works, model.deployment_names, model.deployments, tables=model.step_tables)
    other = compiled.run(works, model.deployment_names, model.deployments, tables=model.step_tables)
    np.testing.assert_array_equal(one.finished_s, other.finished_s)
    assert works[0].visible_tokens.tolist() == [200, 300, 200, 300] * 10


def test_a_longer_session_costs_what_its_tokens_do(tmp_path: Path) -> None:
    """By hand: four turns of 1,000, 1,600, 2,200 and 2,800 tokens read at $1 and 300 written at $4 a million each."""
    summary = ttc.simulate(two(tmp_path, 1.5).scenario, "Always('wordy')").summary()
    usd = (1000 + 1600 + 2200 + 2800) * 1e-6 + 4 * 300 * 4e-6
    assert summary.cost_usd_per_request.value == pytest.approx(usd / 4)


def test_where_it_cannot_be_simulated_it_is_refused(tmp_path: Path) -> None:
    of = two(tmp_path, 1.5).scenario
    with pytest.raises(InputError, match=r"arms\.wordy\.turn_tokens.*live load"):
        ttc.simulate(of, "LeastLoaded(arms=['plain', 'wordy'])")
    both = scenario(tmp_path, {"a": None, "b": None})
    same = {"a": {"deployment": "a", "turn_tokens": 2.0}, "b": {"deployment": "b", "turn_tokens": 2.0}}
    alike = scenario(tmp_path, {"a": None, "b": None}, arms=same)
    found, plain = (ttc.simulate(one, "LeastLoaded(arms=['a', 'b'])").records for one in (alike, both))
    assert found["visible_tokens"].sum() == 2 * plain["visible_tokens"].sum()
    with pytest.raises(InputError, match=r"arms\.wordy\.turn_tokens.*falls back"):
        load_model(
            scenario(
                tmp_path,
                {"plain": None, "wordy": None},
                arms={
                    "plain": {"deployment": "plain", "fallback": "wordy"},
                    "wordy": {"deployment": "wordy", "turn_tokens": 2.0},
                },
            )
        )
    for wrong in (0, -1.0, True, "", float("nan"), 1e9):
        with pytest.raises(InputError, match=r"arms\.wordy\.turn_tokens.*a number above 0"):
            two(tmp_path, wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="only turns of sessions"):
        scenario(
            tmp_path,
            {"a": None},
            workload__arrivals={"process": "poisson", "rate_per_s": 1.0},
            workload__lengths={"prompt_tokens": 10, "output_tokens": 10},
            arms__a={"deployment": "a", "turn_tokens": 2.0},
        )


def test_the_ratio_of_two_agents_turns_is_measured(tmp_path: Path) -> None:
    long = agent(tmp_path, "long", {"a": [1], "b": [0]}, turns=[10, 20], output_tokens=[3000, 6000])
    short = agent(tmp_path, "short", {"a": [1], "b": [0]}, turns=[10, 10], output_tokens=[1500, 1500])
    of = scenario(
        tmp_path,
        {"long": None},
        arms__long={"deployment": "long", "profile": long, "turn_tokens": short},
    )
    assert load_model(of).arms[0].turn_tokens == pytest.approx(2.0)
    result = ttc.simulate(of)
    assert set(result.records["visible_tokens"]) == {40}
    said = "arm long writes 2 times as many output tokens a turn as were recorded, as long does beside short"
    assert said in result.summary().notes
    none = agent(tmp_path, "none", {"c": [1]}, turns=[1], output_tokens=[1])
    with pytest.raises(InputError, match="instances that none ran too"):
        load_model(
            scenario(tmp_path, {"long": None}, arms__long={"deployment": "long", "profile": long, "turn_tokens": none})
        )
    with pytest.raises(InputError, match="an agent profile of the arm's own"):
        scenario(tmp_path, {"long": None}, arms__long={"deployment": "long", "turn_tokens": short})


def test_a_pool_finds_longer_prompts_in_its_cache(tmp_path: Path) -> None:
    """Every prompt is found again up to the end of the answer before it, but for the end of a block of 16 tokens."""
    pool = {
        "kind": "gpu_pool",
        "replicas": 1,
        "usd_per_replica_hour": 1.0,
        "max_num_seqs": 8,
        "kv_cache_tokens": 100_000,
        "prefix_caching": True,
        "step_time": {"base_s": 0.01, "per_prefill_token_s": 1e-5, "per_sequence_s": 1e-4, "per_kv_token_s": 0.0},
    }
    model = load_model(
        scenario(
            tmp_path,
            {"a": None},
            arrivals={"turns": 3, "prompt": 100, "output": 20, "asked": 30},
            workload__requests=3,
            deployments={"a": pool},
            arms__a={"deployment": "a", "turn_tokens": 2.0},
        )
    )
    traffic = turns([100, 150, 200], [20, 20, 20], [0, 120, 170], **tree_of_chain([100, 150, 200], [20, 20, 20]))
    draws = drawn(model, traffic)
    work = offer(model, draws, np.zeros(3, dtype=np.int64)).works
    result = compiled.run(work, model.deployment_names, model.deployments, tables=model.step_tables)
    assert work[0].prompt_tokens.tolist() == [100, 170, 240]
    assert result.cached_tokens[0].tolist() == [0, 140 // 16 * 16 - 16 * (140 % 16 == 0), 210 // 16 * 16]
