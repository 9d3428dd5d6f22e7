"""Speculative decoding: both engines, closed forms, and what a scenario may say of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.random_scenarios import TIMES, Case, Dice, Times, differences, failing_scenario, with_lives
from tests.random_scenarios import scenario as random_case
from ttc_sim import capacity, load_plan, simulate
from ttc_sim.base.errors import InputError
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.replica import Replica
from ttc_sim.engine.speculation import drafts_of
from ttc_sim.engine.work import COMPLETED, REJECTED, EngineResult, Work
from ttc_sim.optimizer.capacity.bounds import longest_of, needs_of, prices_of, shares_blocks
from ttc_sim.scenario import GpuPool, scenario_from_dict
from ttc_sim.scenario.acceptance_lengths import ACCEPTANCE_LENGTHS
from ttc_sim.serving.drafting import drafting_by_batch, note_on_drafts
from ttc_sim.serving.pools import pool_table
from ttc_sim.serving.speculation import speculative_table
from ttc_sim.serving.step_time import StepTable, step_seconds, step_table
from ttc_sim.testing.engines import run_both


def speculating(case: Case, seed: int, times: Times) -> Case:
    """The same with pools that speculate."""
    dice = Dice(seed, times, "speculation")
    deployments, tables = list(case.deployments), list(case.tables)
    for at, item in enumerate(deployments):
        if not isinstance(item, GpuPool):
            continue
        drafted = dice.of(0, 1, 1, 2, 3, 4, 7, 12)
        # Mostly halves: then times of the grid stay on it.
        length = dice.of(1.0, drafted + 1.0, min(1.5, drafted + 1), round(1 + dice.whole(0, 100 * drafted) / 100, 2))
        said = {"draft_tokens": drafted, "acceptance_length": length}
        said |= (
            {"draft_s": dice.when((0.0, 0.00137), (0.0, 0.25), (0.0, 0.1))}
            if dice.of(True, True, False)
            else {"draft_share": 0.25}
        )
        given = item.model_dump(exclude={"max_num_batched_tokens", "kv_cache_tokens"})
        room = item.max_num_batched_tokens - item.max_num_seqs
        pool = GpuPool.model_validate(
            {
                **given,
                "speculative": said,
                "max_num_batched_tokens": item.max_num_seqs * (drafted + 1) + room,
                "kv_cache_tokens": None if item.kv_cache_tokens is None else item.kv_cache_tokens + 32 * dice.of(0, 1),
            }
        )
        deployments[at], table = pool, tables[at]
        if table is not None:
            tables[at] = _enlarged(table, pool)
    return replace(case, deployments=deployments, tables=tables)


def _enlarged(table: StepTable, pool: GpuPool) -> StepTable:
    assert pool.speculative is not None
    plain = step_table(
        pool.max_num_batched_tokens,
        pool.max_num_seqs * (pool.speculative.draft_tokens + 1),
        base_s=table.base_s,
        attention=(table.chunks, table.contexts, table.sequences, table.kv, table.attention_s),
    )
    return speculative_table(plain, pool.speculative, pool.max_num_seqs)


CROWDED = (46, 59, 75, 98, 114, 136, 139, 157, 164, 177, 211, 212, 239, 248)
"""Seeds of scenarios in which blocks run out."""


@pytest.mark.parametrize("times", TIMES)
def test_engines_agree(times: Times) -> None:
    """Byte for byte, in plenty and where blocks run out, with preemptions, timeouts, cancelled samples and failing replicas."""
    preempted = 0
    for seed in (*range(40), *CROWDED):
        case = [random_case, failing_scenario][seed % 2](seed, times)
        case = speculating(with_lives(case, seed, times) if seed % 3 == 0 else case, seed, times)
        given = case.works, case.names, case.deployments, case.rule, case.until_s
        slow = reference.run(*given, tables=case.tables, following=case.following, outages=case.outages)
        fast = compiled.run(*given, case.tables, following=case.following, outages=case.outages)
        assert differences(slow, fast) == [], f"seed {seed}, {times}"
        preempted += int(slow.preemptions.sum())
    assert preempted > 10


def pool(**changes: Any) -> dict[str, Any]:
    """Iterations that weights bound up to 64 tokens, and that grow with every further one."""
    step = {"base_s": 0.02, "per_prefill_token_s": 1e-4, "per_sequence_s": 1e-4, "per_kv_token_s": 0.0}
    given = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0, "step_time": step, "max_num_seqs": 64}
    return {**given, **changes}


def work_of(prompt: int, outputs: Sequence[int], arrival_s: Sequence[float] | None = None) -> Work:
    """Requests of one stage and sample each, all of the same prompt length, and nothing in common."""
    n = len(outputs)
    return Work(
        arrival_s=np.zeros(n) if arrival_s is None else np.array(arrival_s),
        stage_start=np.arange(n + 1),
        deployment=np.zeros(n, dtype=np.int64),
        prompt_tokens=np.full(n, prompt),
        prefix_id=np.full(n, -1),
        sample_start=np.arange(n + 1),
        reasoning_tokens=np.zeros(n, dtype=np.int64),
        visible_tokens=np.array(outputs),
        first_token_s=np.zeros(n),
        per_token_s=np.zeros(n),
        backoff=np.zeros((n, 0)),
    )


def ran(given: dict[str, Any], work: Work) -> EngineResult:
    return run_both([work], ["pool"], [GpuPool.model_validate(given)])


@pytest.mark.parametrize("length", [1.0, 1.37, 2.0, 2.5, 3.99, 5.0])
@pytest.mark.parametrize("output", [1, 2, 3, 16, 17, 257, 1000])
def test_steps_of_one_answer_by_hand(length: float, output: int) -> None:
    """A first token with the prompt, and then as many steps as ``output - 1`` tokens take at ``length`` each; no token too many."""
    said = {"draft_tokens": 4, "acceptance_length": length, "draft_s": 0.003}
    got = ran(pool(speculative=said), work_of(100, [output]))
    steps = math.ceil((output - 1) / Fraction(str(length)))
    first_s = 0.02 + 100 * 1e-4
    step_s = 0.02 + 0.003 + 1e-4 + 4 * 1e-4
    assert got.first_token_s[0] == pytest.approx(first_s)
    assert got.finished_s[0] == pytest.approx(first_s + steps * step_s)
    assert got.generated_tokens[0].tolist() == [output]


def test_time_per_token_of_a_full_batch_is_that_of_the_step_over_the_acceptance_length() -> None:
    """On the operators of a GPU: each decoding sequence passes all its verified tokens through the dense layers and the LM head."""
    given = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0, "max_num_seqs": 32}
    given["step_time"] = {"model": "meta-llama/Llama-3.1-70B-Instruct", "gpu": "H100", "tensor_parallel": 4}
    said = {"draft_tokens": 3, "acceptance_length": 2.4, "draft_s": 0.002}
    got = ran({**given, "speculative": said}, work_of(64, [1201] * 32))
    plain = pool_table(GpuPool.model_validate({**given, "max_num_seqs": 128}))
    held = 64 + 1 + 600  # tokens of a sequence half way
    by_hand = step_seconds(plain, 0, 0.0, 128, 0, 128) + 32 * held * plain.per_kv_s + 0.002
    per_token_s = (got.finished_s - got.first_token_s) / 1200
    assert per_token_s.mean() == pytest.approx(by_hand / 2.4, rel=5e-3)


@pytest.mark.parametrize("caching", [True, False])
def test_accepting_nothing_at_no_cost_is_plain_decoding(caching: bool) -> None:
    """And ``draft_tokens: 0`` is, byte for byte, whatever else is said."""
    work = work_of(50, [1, 40, 300, 7], [0.0, 0.1, 0.1, 2.0])
    plain = pool(prefix_caching=caching)
    plain["step_time"]["per_prefill_token_s"] = 0.0
    free = {**plain, "speculative": {"draft_tokens": 3, "acceptance_length": 1.0, "draft_s": 0.0}}
    none = {**plain, "speculative": {"draft_tokens": 0, "profile": "qwen3.5_mtp", "thinking": True, "draft_share": 0.5}}
    assert differences(ran(plain, work), ran(free, work)) == []
    assert differences(ran(plain, work), ran(none, work)) == []


def test_more_accepted_is_never_later_and_more_drafted_never_sooner() -> None:
    work = work_of(200, [50, 400, 31, 900, 5, 77])
    by_length = [
        ran(pool(speculative={"draft_tokens": 4, "acceptance_length": one, "draft_s": 0.001}), work).finished_s
        for one in (1.0, 1.5, 2.25, 3.0, 5.0)
    ]
    assert all((later <= sooner + 1e-12).all() for sooner, later in pairwise(by_length))
    by_drafted = [
        ran(pool(speculative={"draft_tokens": k, "acceptance_length": 2.0, "draft_share": 0.1}), work).finished_s
        for k in (1, 2, 4, 8)
    ]
    assert all((more > fewer).all() for fewer, more in pairwise(by_drafted))


def test_blocks_are_those_of_verified_and_drafted_tokens() -> None:
    """At its last step the answer holds room for all of it but its last token, and for two drafts: so much must fit, or nothing."""
    said = {"draft_tokens": 4, "acceptance_length": 2.5, "draft_s": 0.0}
    prompt, output = 20, 21
    least = prompt + output - 1 + 2 * 4  # 48: three blocks
    assert ran(pool(speculative=said, kv_cache_tokens=least), work_of(prompt, [output])).status[0] == COMPLETED
    assert ran(pool(speculative=said, kv_cache_tokens=least - 16), work_of(prompt, [output])).status[0] == REJECTED
    assert ran(pool(kv_cache_tokens=least), work_of(prompt, [output + 8])).status[0] == COMPLETED


def test_no_run_is_shorter_than_its_work() -> None:
    """The bounds of capacity beside what random runs took, as for plain decoding."""
    nearest = 0.0
    for times, seed in product(TIMES, range(25)):
        case = speculating(random_case(seed, times), seed, times)
        work = case.works[0]
        got = compiled.run([work], case.names, case.deployments, tables=case.tables)
        for d, item in enumerate(case.deployments):
            if not isinstance(item, GpuPool):
                continue
            needs, answered = needs_of(work, d, item), got.status == COMPLETED
            tokens = [one[answered].sum() for one in (needs.prompt, needs.generated, needs.kv)]
            longest = max(int(longest_of(work, d).max()), 1)
            for price in prices_of(case.tables[d] or pool_table(item), item, longest, shares_blocks(work)):
                seconds = float(np.dot(tokens, [price.prompt, price.generated, price.kv]))
                assert seconds <= got.busy_s[d] * (1 + 1e-9)
                nearest = max(nearest, seconds / max(got.busy_s[d], 1e-9))
    assert nearest > 0.8


# ------------------------------------------------------------------------------------------------------ choosing draft tokens


def chat(**changes: Any) -> dict[str, Any]:
    drafts = {"draft_tokens": 2, "profile": "kimik2.5_eagle3", "thinking": False, "draft_share": 0.05}
    return {
        "name": "chat",
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 4.0},
            "requests": 300,
            "lengths": {"prompt_tokens": 200, "output_tokens": {"median": 150, "p95": 400}},
        },
        "deployments": {"pool": pool(speculative=drafts)},
        "arms": {"arm": {"deployment": "pool"}},
        "policy": "Always('arm')",
        "replications": 2,
        "targets": {"latency_p95_s": 6.0},
        "search": {"pools": {"pool": {"draft_tokens": [0, 1, 2, 3, 8], "replicas": [1, 2, 3, 4]}}},
        **changes,
    }


@pytest.mark.parametrize("target_s", [3.6, 4.3])
def test_capacity_takes_as_few_replicas_as_any_number_of_draft_tokens_allows(target_s: float) -> None:
    """Every number of draft tokens simulated with every number of replicas."""
    raw = chat(targets={"latency_p95_s": target_s})
    found = capacity(scenario_from_dict(raw))
    chosen = found.pools["pool"]

    def p95_s(drafted: int, replicas: int) -> float:
        deployments = chat()["deployments"]
        deployments["pool"]["replicas"] = replicas
        deployments["pool"]["speculative"]["draft_tokens"] = drafted
        return simulate(scenario_from_dict(chat(deployments=deployments))).summary().latency_s["p95"].value

    holds = {(k, n): p95_s(k, n) <= target_s for k, n in product([0, 1, 2, 3, 8], [1, 2])}
    fewest = min(n for (_, n), met in holds.items() if met)
    assert chosen.replicas == fewest
    assert holds[chosen.draft_tokens, chosen.replicas]
    pool_of_plan = found.scenario.deployments["pool"]
    assert isinstance(pool_of_plan, GpuPool)
    assert chosen.as_json()["draft_tokens"] == chosen.draft_tokens == drafts_of(pool_of_plan)


def test_what_does_not_fit_into_an_iteration_is_not_tried_and_said() -> None:
    raw = chat()
    raw["deployments"]["pool"]["max_num_batched_tokens"] = 64 * 4
    refused = capacity(scenario_from_dict(raw)).refused
    assert [one.name for one in refused] == ["pool, 8 draft tokens"]
    assert "max_num_batched_tokens 256 must be at least 576" in refused[0].reason


def test_fewer_draft_tokens_pay_the_fuller_the_batch() -> None:
    """On an H100, by the measured acceptance of EAGLE-3: many at a batch of 1, few once verification is bound by computing."""
    given = pool(max_num_seqs=512, max_num_batched_tokens=8192)
    given["step_time"] = {"model": "meta-llama/Llama-3.1-8B", "gpu": "H100"}
    given["speculative"] = {"draft_tokens": 2, "profile": "kimik2.5_eagle3", "thinking": "off", "draft_share": 0.05}
    found = drafting_by_batch(GpuPool.model_validate(given), [1, 8, 64, 256, 512], 300)
    best = [one.best for one in found]
    assert best == sorted(best, reverse=True)
    assert best[0] >= 4 > 1 >= best[-1]
    gains = [round(one.gain, 9) for one in found]
    assert gains == sorted(gains, reverse=True)
    assert found[-1].per_token_s.keys() == set(range(9))


# ------------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("said", "field", "words"),
    [
        ({"draft_tokens": 4, "acceptance_length": 5.01, "draft_s": 0}, "acceptance_length", "at most 5"),
        ({"draft_tokens": 0, "acceptance_length": 2.5, "draft_s": 0}, "acceptance_length", "at most 1"),
        ({"draft_tokens": 4, "acceptance_length": 0.9, "draft_s": 0}, "acceptance_length", "a number from 1 to 17"),
        ({"draft_tokens": 4, "acceptance_length": 2.505, "draft_s": 0}, "acceptance_length", "hundredths"),
        ({"draft_tokens": 4, "acceptance_length": {4: 5.5}, "draft_s": 0}, "acceptance_length.4", "at most 5"),
        ({"draft_tokens": 3, "acceptance_length": {4: 2.5}, "draft_s": 0}, "draft_tokens", "one of 4"),
        ({"draft_tokens": 9, "profile": "qwen3.5_mtp", "thinking": True, "draft_s": 0}, "draft_tokens", "one of 1, 2"),
        ({"draft_tokens": 4, "profile": "qwen3.5_mtq", "thinking": True, "draft_s": 0}, "profile", "qwen3.5_mtp"),
        ({"draft_tokens": 4, "profile": "qwen3.5_mtp", "draft_s": 0}, "thinking", "measured both ways"),
        ({"draft_tokens": 4, "profile": "glm5.2_mtp", "thinking": False, "draft_s": 0}, "thinking", "not measured"),
        ({"draft_tokens": 4, "acceptance_length": 2.0, "draft_s": 0, "thinking": True}, "", "no thinking without"),
        (
            {"draft_tokens": 4, "acceptance_length": 2.0, "draft_s": 0, "draft_share": 0.1},
            "",
            "draft_s and draft_share",
        ),
        ({"draft_tokens": 4, "draft_s": 0}, "", "acceptance_length or profile"),
        ({"draft_tokens": 4, "acceptance_length": 2.0, "draft_s": {2: 0.1}}, "draft_tokens", "one of 2"),
        ({"draft_tokens": -1, "acceptance_length": 2.0, "draft_s": 0}, "draft_tokens", "0"),
        ({"draft_token": 4}, "", "draft_tokens"),
        ({"draft_tokens": 4, "acceptance_length": "2.0", "draft_s": 0}, "acceptance_length", "a number from 1 to 17"),
        ({"draft_tokens": 4, "acceptance_length": {0: 1.0}, "draft_s": 0}, "acceptance_length", "from 1 to 16"),
        ({"draft_tokens": 4, "acceptance_length": {4: None}, "draft_s": 0}, "acceptance_length.4", "a number from 1"),
        ({"draft_tokens": 4, "acceptance_length": 2.0, "draft_s": -1}, "draft_s", "a number from 0"),
        ({"draft_tokens": 4, "acceptance_length": 2.0, "draft_s": math.nan}, "draft_s", "a number from 0"),
    ],
)
def test_one_line_says_what_is_wrong(said: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        scenario_from_dict(chat(deployments={"pool": pool(speculative=said)}, search={}))
    assert caught.value.field == ".".join(filter(None, ["deployments.pool.speculative", field]))
    assert words in caught.value.expected
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("drafts", "drafted", "words"),
    [
        (None, [1], "speculative of deployments.pool"),
        ({"draft_tokens": 2, "acceptance_length": 2.0, "draft_s": 0.1}, [0, 2, 3], "acceptance_length by number"),
        ({"draft_tokens": 2, "profile": "glm5.2_mtp", "draft_s": 0.1}, [2, 3], "draft_s by number"),
        ({"draft_tokens": 2, "profile": "glm5.2_mtp", "draft_share": 0.1}, [2, 9], "one of 1, 2, 3"),
        ({"draft_tokens": 2, "profile": "glm5.2_mtp", "draft_share": 0.1}, [2, 2], "once"),
    ],
)
def test_draft_tokens_of_which_nothing_is_known_are_not_chosen_from(
    drafts: dict[str, Any] | None, drafted: list[int], words: str
) -> None:
    given = pool() if drafts is None else pool(speculative=drafts)
    search = {"pools": {"pool": {"draft_tokens": drafted}}}
    with pytest.raises(InputError) as caught:
        scenario_from_dict(chat(deployments={"pool": given}, search=search))
    assert caught.value.field.startswith("search.pools.pool.draft_tokens")
    assert words in caught.value.expected


def test_shipped_acceptance_is_what_was_measured(shared: Path) -> None:
    measured = yaml.safe_load((shared / "spec-decode" / "acceptance_lengths.yaml").read_text())
    assert measured.keys() == ACCEPTANCE_LENGTHS.keys()
    for name, tables in measured.items():
        one = ACCEPTANCE_LENGTHS[name]
        expected = {key.removeprefix("thinking_"): tuple(by.values()) for key, by in tables[one.model].items()}
        assert dict(one.by_thinking) == expected


def test_a_plan_keeps_what_was_said(tmp_path: Path) -> None:
    """Lengths by number of draft tokens too, whose keys are texts in a file of JSON."""
    drafts = {"draft_tokens": 2, "acceptance_length": {1: 1.7, 2: 2.25}, "draft_s": {1: 0.001, 2: 0.002}}
    raw = chat(deployments={"pool": pool(speculative=drafts)})
    raw["search"]["pools"]["pool"]["draft_tokens"] = [0, 1, 2]
    found = capacity(scenario_from_dict(raw))
    found.save(tmp_path / "plan.json")
    again = simulate(load_plan(tmp_path / "plan.json").scenario).summary()
    assert again.latency_s["p95"].value == simulate(found.scenario).summary().latency_s["p95"].value


def test_figures_say_what_they_rest_on() -> None:
    notes = simulate(scenario_from_dict(chat())).summary().notes
    said = "pool verifies 2 draft tokens a step and gets 2.33 tokens of it in the mean, as kimi-k2.5-nvfp4 does"
    assert any(note.startswith(said) for note in notes)
    plain = simulate(scenario_from_dict(chat(deployments={"pool": pool()}, search={}))).summary().notes
    assert not any("draft" in note for note in plain)


@pytest.mark.parametrize("times", TIMES)
def test_every_iteration_holds_its_blocks_and_takes_what_the_table_says(times: Times) -> None:
    """Counted in the reference engine, at every iteration; and no answer has a token too many."""
    for seed in (*range(12), *CROWDED[:6]):
        case = speculating(random_case(seed, times), seed, times)
        tables = {
            id(one): table or pool_table(one)
            for one, table in zip(case.deployments, case.tables, strict=True)
            if isinstance(one, GpuPool)
        }

        ends: dict[int, float] = {}

        def look(replica: Replica, tables: dict[int, StepTable] = tables, ends: dict[int, float] = ends) -> None:
            pool, drafts = replica.pool, drafts_of(replica.pool)
            assert sum(replica.batch.values()) <= pool.max_num_batched_tokens
            own = sum(one.blocks - one.shared for one in replica.running)
            chains = {id(chain): chain for one in replica.running for chain, _ in one.chains}
            assert own + sum(one.end - one.start for one in chains.values()) == replica.kv.total - replica.kv.free
            decoding = [one for one in replica.batch if not one.prefilling]
            for one in decoding:
                assert replica.batch[one] == drafts + 1
                assert one.blocks == -(-(one.length + 2 * drafts) // 16)
                assert one.generated < one.output
                yielded = math.floor(one.steps * Fraction(str(pool.speculative.length if pool.speculative else 1)))
                assert one.length - one.began_at == yielded
            now_s, table = float(replica.recorder.env.now), tables[id(pool)]
            if not replica.batch:
                assert now_s == pytest.approx(ends[id(replica)], rel=1e-12)
                return
            filling = [(one, tokens) for one, tokens in replica.batch.items() if one.prefilling]
            ends[id(replica)] = now_s + step_seconds(
                table,
                sum(tokens for _, tokens in filling),
                sum(tokens * (one.computed + tokens / 2) for one, tokens in filling),
                len(decoding),
                sum((one.began_at + one.steps * table.advance for one in decoding), 0.0),
                len(decoding) + sum(int(one.computed + tokens == one.length) for one, tokens in filling),
            )

        got = reference.run(case.works, case.names, case.deployments, case.rule, case.until_s, look, case.tables)
        for work, generated in zip(case.works, got.generated_tokens, strict=True):
            assert (generated <= work.reasoning_tokens + work.visible_tokens).all()
            if work.needed is None and case.rule is None:
                owner = np.repeat(np.arange(work.requests), np.diff(work.stage_start))
                whole = np.repeat(got.status[owner] == COMPLETED, np.diff(work.sample_start))
                assert (generated == work.reasoning_tokens + work.visible_tokens)[whole].all()


def test_levels_over_time_are_those_of_the_other_engine() -> None:
    for times, seed in product(TIMES, (*range(6), *CROWDED[:4])):
        case = speculating(random_case(seed, times), seed, times)
        for interval_s in (0.37, 5.0):
            given = case.works, case.names, case.deployments, case.rule
            slow = reference.run(*given, tables=case.tables, interval_s=interval_s).levels_s
            fast = compiled.run(*given, tables=case.tables, interval_s=interval_s).levels_s
            assert slow is not None
            assert fast is not None
            np.testing.assert_allclose(slow, fast, rtol=1e-9, atol=1e-7)


def test_what_drafting_takes_is_assumed_and_said() -> None:
    """One layer and the LM head of Llama-3.1-70B are 3% of its weights, of Llama-3.1-8B 9%: 5% lies between."""
    layer, head, whole = 855_654_400, 128_256 * 8192, 70_553_706_496
    assert 0.02 < (layer + head) / whole < 0.03
    layer, head, whole = 218_112_000, 128_256 * 4096, 8_030_261_248
    assert 0.09 < (layer + head) / whole < 0.1
    said = {"draft_tokens": 3, "acceptance_length": 2.5}
    assumed, given = (GpuPool.model_validate(pool(speculative=one)) for one in (said, {**said, "draft_share": 0.05}))
    np.testing.assert_array_equal(pool_table(assumed).decode_s, pool_table(given).decode_s)
    assert "assumed to take 5%" in str(note_on_drafts("pool", assumed))
    assert "assumed" not in str(note_on_drafts("pool", given))
