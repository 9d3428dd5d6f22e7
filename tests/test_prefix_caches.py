"""Prompts that branch off one another, in KV caches as servers have them; several requests that wait for one answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from tests.block_pool import compare_with_blocks
from tests.random_scenarios import (
    TIMES,
    Case,
    Times,
    differences,
    failing_scenario,
    scenario,
    with_followers,
    with_lives,
    with_tree,
)
from tests.test_engines_agree import run_compiled, run_watched
from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.base.prefix_tree import PrefixTree, beside_one_another
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.compiled.stretches import joined_stretches
from ttc_sim.engine.work import EngineResult, Work, single_stage
from ttc_sim.scenario import GpuPool, LinearStepTime
from ttc_sim.testing.engines import run_both
from ttc_sim.workload import Traffic
from ttc_sim.workload.checking import checked
from ttc_sim.workload.prefixes import shared_prefixes


def agree(case: Case, said: str) -> EngineResult:
    given = case.works, case.names, case.deployments, case.rule, case.until_s
    slow = reference.run(*given, tables=case.tables, following=case.following, outages=case.outages)
    assert differences(slow, run_compiled(case)) == [], said
    return slow


@pytest.mark.parametrize("times", TIMES)
def test_engines_agree_on_prompts_that_branch_off_one_another(times: Times) -> None:
    found = preempted = changed = 0
    for seed in range(60):
        case = with_tree(scenario(seed, times), seed, times)
        result = agree(case, f"with_tree(scenario({seed}, {times!r}), ...)")
        found += sum(int((cached > 0).sum()) for cached in result.cached_tokens)
        preempted += int(result.preemptions.sum())
        case = with_tree(with_lives(failing_scenario(seed, times), seed, times), seed, times)
        result = agree(case, f"with_tree(with_lives(failing_scenario({seed}, {times!r}), ...), ...)")
        changed += 0 if result.fleet is None else len(result.fleet.at_s)
    assert found > 15
    assert preempted > 0
    assert changed > 100


@pytest.mark.parametrize("times", TIMES)
def test_engines_agree_where_several_wait_for_one_answer(times: Times) -> None:
    for seed in range(50):
        case = with_followers(with_tree(scenario(seed, times), seed, times), seed, times)
        agree(case, f"with_followers(with_tree(scenario({seed}, {times!r}), ...), ...)")
        case = with_followers(with_lives(failing_scenario(seed, times), seed, times), seed, times)
        agree(case, f"with_followers(with_lives(failing_scenario({seed}, {times!r}), ...), ...)")


@pytest.mark.parametrize("times", TIMES)
def test_blocks_are_held_or_free_at_every_iteration(times: Times) -> None:
    for seed in range(20):
        run_watched(with_tree(scenario(seed, times), seed, times))


def pool(**changes: Any) -> GpuPool:
    step = LinearStepTime(base_s=0.02, per_prefill_token_s=1e-4, per_sequence_s=1e-4, per_kv_token_s=0.0)
    plain = {"kind": "gpu_pool", "replicas": 1, "usd_per_replica_hour": 1.0, "step_time": step, "max_num_seqs": 8}
    return GpuPool.model_validate({**plain, **changes})


def recorded(seed: int, n: int = 60) -> Work:
    """As a trace with ids of blocks has it, of prompts that often part and often end."""
    u = uniforms(seed, "recorded", n, 12)
    blocks = [[int(one * 2) for one in row[: 1 + int(row[-1] * 7)]] for row in u]
    size = (16, 24, 40, 64)[seed % 4]
    tree, prefix, tokens = shared_prefixes(blocks, np.full(n, size))
    # What comes after the last full block is its own; a whole number of blocks would be computed twice.
    prompt = np.array([size * len(ids) for ids in blocks]) + 1 + (u[:, 8] * 15).astype(np.int64)
    arrival_s = np.cumsum(-np.log(u[:, 9])) * (0.02, 0.1, 1.0)[seed % 3]
    work = single_stage(arrival_s, prompt, 1 + (u[:, 10] * 40).astype(np.int64), prefix_id=prefix)
    return replace(work, prefix_tokens=tokens, prefixes=tree)


def sessions(seed: int, count: int = 6, turns: int = 10) -> Work:
    """Turns that go on where the answer before ended, behind a head that all have in common; each fifth leaves one sub-agent."""
    u = uniforms(seed, "sessions", count * turns, 5)
    size = 1 + (u[:, :3] * (120, 40, 30)).astype(np.int64)
    parent, start, after, session = [-1], [0], [], []
    prompt, output = np.zeros(count * turns, dtype=np.int64), size[:, 1]
    node = np.zeros(count * turns, dtype=np.int64)
    for k in range(count * turns):
        turn, which = divmod(k, count)  # by turn, so that those before come first
        before = -1 if turn == 0 else k - count if k % 5 else k - count * (1 + turn // 2)
        parent.append(0 if before < 0 else int(node[before]))
        start.append(70 if before < 0 else int(prompt[before] + output[before]))
        node[k], prompt[k] = k + 1, start[-1] + size[k, 0]
        after.append(before)
        session.append(which)
    first = np.array(after) < 0
    arrival_s = np.where(first, np.cumsum(np.where(first, -np.log(u[:, 3]), 0.0)), np.nan)
    work = single_stage(arrival_s, prompt, output, prefix_id=node)
    return replace(
        work,
        prefix_tokens=prompt + output,
        prefixes=PrefixTree(np.array(parent), np.array(start)),
        after=np.array(after),
        think_s=-np.log(u[:, 4]) * (0.0, 0.3, 3.0)[seed % 3],
        session=np.array(session),
    )


@pytest.mark.parametrize("kind", ["recorded", "sessions"])
def test_what_is_found_is_what_a_servers_blocks_hold(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block by block as vLLM counts, hashes and evicts them, and its free blocks with them; under pressure, with preemption."""
    seen = compare_with_blocks(monkeypatch)
    preempted = short = 0
    for seed in range(24):
        work = recorded(seed) if kind == "recorded" else sessions(seed)
        longest = int((work.prompt_tokens + work.visible_tokens).max())
        memory = longest * (1, 2, 4, 30)[seed // 6] + 64
        given = pool(replicas=1 + seed % 2, kv_cache_tokens=memory, max_num_batched_tokens=(64, 256, 2048)[seed % 3])
        result = reference.run([work], ["pool"], [given])
        assert differences(result, compiled.run([work], ["pool"], [given])) == []
        assert (result.status == 0).all()
        preempted += int(result.preemptions.sum())
        endless = compiled.run([work], ["pool"], [given.model_copy(update={"kv_cache_tokens": None})])
        short += int(endless.cached_tokens[0].sum() > result.cached_tokens[0].sum())
    assert sum(seen) > 500
    assert preempted > 10
    assert short > 5


def served(
    prompt: list[int], node: list[int], tree: PrefixTree, tokens: list[int] | None = None, **limits: Any
) -> list[int]:
    """Prompt tokens found in the cache, of prompts that come one after another and are answered with one token each."""
    work = single_stage(
        np.linspace(0.0, 10.0 * len(prompt), len(prompt)),
        np.array(prompt),
        np.full(len(prompt), 1),
        prefix_id=np.array(node),
    )
    work = replace(work, prefixes=tree, prefix_tokens=None if tokens is None else np.array(tokens))
    return [int(one) for one in run_both([work], ["pool"], [pool(**limits)]).cached_tokens[0]]


def test_a_cache_by_hand() -> None:
    # A head of 40 tokens, which two go on from: blocks 0 and 1 are the head's, block 2 holds tokens of what follows too.
    tree = PrefixTree(np.array([-1, 0, 0]), np.array([0, 40, 40]))
    prompts, nodes = [100, 100, 100, 100, 40, 38], [1, 2, 1, 2, 0, 0]
    assert served(prompts, nodes, tree) == [0, 32, 96, 96, 32, 32]
    # Of a whole number of blocks the last one is computed again: its last token yields the next.
    assert served([96, 96], [1, 1], tree) == [0, 80]
    # No more is a prefix's than is said.
    assert served([100, 100], [1, 1], tree, [50, 100]) == [0, 48]
    # 10 blocks: the second prompt needs 7, of which 2 are the head's, and takes the last of the first one's own, from its end.
    assert served([100, 100, 100], [1, 2, 1], tree, kv_cache_tokens=160) == [0, 32, 80]
    assert served([100, 100, 100], [1, 2, 1], tree, kv_cache_tokens=112) == [0, 32, 32]
    # Of 15 blocks, who used a branch last keeps it; the third branch takes one of the other's, the last.
    three = PrefixTree(np.array([-1, 0, 0, 0]), np.array([0, 40, 40, 40]))
    assert served([100, 100, 100, 100, 100], [1, 2, 1, 3, 1], three, kv_cache_tokens=240) == [0, 32, 96, 32, 96]
    assert served([100, 100, 100, 100, 100], [1, 2, 1, 3, 2], three, kv_cache_tokens=240) == [0, 32, 96, 32, 80]


def test_what_was_generated_is_found_where_the_conversation_goes_on() -> None:
    # 50 tokens and 30 of answer, whose last is never computed: 4 blocks. The next turn computes the fifth, for all that go on.
    tree = PrefixTree(np.array([-1, 0, 0]), np.array([0, 80, 80]))
    work = single_stage(
        np.array([0.0, 10.0, 20.0]), np.array([50, 130, 130]), np.array([30, 30, 30]), prefix_id=np.arange(3)
    )
    work = replace(work, prefixes=tree, prefix_tokens=work.prompt_tokens + 30)
    assert run_both([work], ["pool"], [pool()]).cached_tokens[0].tolist() == [0, 64, 80]


def test_prefixes_that_have_nothing_in_common_need_no_tree() -> None:
    for seed in range(20):
        case = scenario(seed, "apart")
        count = max(int(work.prefix_id.max()) for work in case.works) + 1
        roots = [replace(work, prefixes=PrefixTree.of_roots(count)) for work in case.works]
        assert differences(run_compiled(case), run_compiled(replace(case, works=roots))) == []


def test_a_tree_of_turns_that_nobody_goes_on_from_changes_nothing() -> None:
    """A session of one turn is a request, however long the tree is that it stands in."""
    work = recorded(3)
    n = work.requests
    alone = replace(
        work, prefix_id=np.arange(n), prefixes=PrefixTree.of_roots(n), prefix_tokens=work.prompt_tokens + 40
    )
    plain = replace(work, prefix_id=np.full(n, -1), prefixes=None, prefix_tokens=None)
    for memory in (None, 1024):
        given = pool(kv_cache_tokens=memory, max_num_batched_tokens=64)
        one, other = (compiled.run([work], ["pool"], [given]) for work in (alone, plain))
        assert differences(one, other) == []


@pytest.mark.parametrize("balancer", ["session", "prefix", "round_robin", "least_kv"])
def test_a_tree_without_prompts_is_no_tree(balancer: str) -> None:
    """As of a trace whose requests name no blocks."""
    work = recorded(3)
    none = np.full(work.requests, -1)
    nobody = replace(work, prefix_id=none, prefixes=PrefixTree.of_roots(0), prefix_tokens=work.prompt_tokens)
    plain = replace(work, prefix_id=none, prefixes=None, prefix_tokens=None)
    given = pool(replicas=2, load_balancer=balancer)
    for run in (compiled.run, reference.run):
        one, other = (run([each], ["pool"], [given]) for each in (nobody, plain))
        assert differences(one, other) == []


def test_nothing_is_found_that_was_not_sent_before() -> None:
    for seed in range(6):
        work = sessions(seed)
        assert work.prefixes is not None
        result = compiled.run([work], ["pool"], [pool(load_balancer="round_robin", replicas=3)])
        for request in np.flatnonzero(result.cached_tokens[0]):
            path = work.prefixes.path(int(work.prefix_id[request]))
            found = path[-1] if work.prefixes.start[path[-1]] < result.cached_tokens[0][request] else path[-2]
            before = np.flatnonzero(result.started_s < result.started_s[request])
            assert any(found in work.prefixes.path(int(node)) for node in work.prefix_id[before])


def test_trees_beside_one_another_share_nothing() -> None:
    tree = PrefixTree(np.array([-1, 0]), np.array([0, 16]))
    both = beside_one_another([tree, PrefixTree.of_roots(0), tree])
    assert both.parent.tolist() == [-1, 0, -1, 2]
    assert [both.path(node) for node in (1, 3)] == [[0, 1], [2, 3]]
    assert both.deepest() == 2
    assert PrefixTree.of_roots(0).deepest() == 0


def test_several_that_wait_for_one_answer_come_when_they_have_thought() -> None:
    work = single_stage(np.zeros(5), np.full(5, 10), np.full(5, 3))
    after, think_s = np.array([-1, 0, 0, 1, 0]), np.array([0.0, 2.0, 0.5, 1.0, 0.5])
    result = run_both([replace(work, after=after, think_s=think_s)], ["pool"], [pool()])
    expected = np.where(after < 0, 0.0, result.finished_s[after] + think_s)
    assert result.arrival_s.tolist() == expected.tolist()
    assert (result.status == 0).all()


@pytest.mark.parametrize(
    ("parent", "start"), [([0], [0]), ([-1], [16]), ([-1, 0], [0, -1]), ([-1, -2], [0, 0]), ([-1], [])]
)
def test_what_is_no_tree_is_refused(parent: list[int], start: list[int]) -> None:
    tree = PrefixTree(np.array(parent), np.array(start, dtype=np.int64))
    work = replace(recorded(1), prefix_id=np.zeros(60, dtype=np.int64), prefixes=tree)
    for engine in (reference, compiled):
        with pytest.raises(ValueError, match="prefixes"):
            engine.run([work], ["pool"], [pool()])


def test_turns_are_looked_at_as_one_only_where_that_changes_nothing() -> None:
    """The reference engine looks at each; half of those that follow one another are one to the other engine."""
    joined = 0
    for seed in range(12):
        work = sessions(seed)
        assert work.prefixes is not None
        tree, goes = joined_stretches([work], work.prefixes)
        joined += int((goes != np.arange(len(goes))).sum())
        tree.check()
        longest = int((work.prompt_tokens + work.visible_tokens).max())
        limits = {"kv_cache_tokens": longest * (1, 2, 3, 30)[seed % 4] + 64, "timeout_s": (None, 2.0)[seed % 2]}
        given = pool(replicas=1 + seed % 3, load_balancer=("prefix", "session")[seed % 2], **limits)
        slow, fast = (engine.run([work], ["pool"], [given]) for engine in (reference, compiled))
        assert differences(slow, fast) == [], f"sessions({seed})"
    assert joined > 300
    # Who goes on from a turn without waiting for its answer may come before it; so may who is at it beside another.
    chain = PrefixTree(np.array([-1, 0, 1]), np.array([0, 32, 64]))
    three = single_stage(np.zeros(3), np.array([32, 64, 96]), np.ones(3, dtype=np.int64), prefix_id=np.arange(3))
    for after, one in (
        ([-1, 0, 1], [0, 0, 0]),
        ([-1, -1, 1], [0, 1, 1]),
        ([-1, 0, -1], [0, 1, 2]),
        ([-1, 0, 0], [0, 1, 2]),
    ):
        waits = replace(three, after=np.array(after), think_s=np.zeros(3))
        assert joined_stretches([waits], chain)[1].tolist() == one
    longer = replace(three, after=np.array([-1, 0, 1]), think_s=np.zeros(3), prefix_tokens=np.array([33, 64, 96]))
    assert joined_stretches([longer], chain)[1].tolist() == [0, 1, 1]
    # A turn that waits for a sub-agent, which waits for the turn before.
    aside = PrefixTree(np.array([-1, 0, -1]), np.array([0, 32, 0]))
    agent = replace(three, prefix_id=np.array([0, 2, 1]), after=np.array([-1, 0, 1]), think_s=np.zeros(3))
    assert joined_stretches([agent], aside)[1].tolist() == [0, 0, 2]
    twice = replace(three, after=np.array([-1, 0, 1]), think_s=np.zeros(3), prefix_id=np.array([0, 0, 2]))
    assert joined_stretches([twice], chain)[1].tolist() == [0, 1, 2]
    short = replace(three, after=np.array([-1, 0, 1]), think_s=np.zeros(3), prefix_tokens=np.array([32, 64, 60]))
    assert joined_stretches([short], chain)[1].tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", [recorded, sessions])
def test_a_balancer_that_looks_into_caches_sees_what_is_there(kind: Callable[[int], Work]) -> None:
    """In the midst of iterations that take blocks away, too; and finds more than one that looks at queues alone."""
    more = 0
    for seed in range(102, 120):
        work = kind(seed)
        longest = int((work.prompt_tokens + work.visible_tokens).max())
        memory = longest * (1, 2, 3, 30)[seed % 4] + 64
        limits = {"kv_cache_tokens": memory, "max_num_batched_tokens": (64, 256, 2048)[seed % 3]}
        given = pool(replicas=1 + seed % 4, load_balancer="prefix", **limits)
        slow, fast = (engine.run([work], ["pool"], [given]) for engine in (reference, compiled))
        assert differences(slow, fast) == [], f"{kind.__name__}({seed})"
        levels = [engine.run([work], ["pool"], [given], interval_s=1.0).levels_s for engine in (reference, compiled)]
        assert levels[0] is not None
        assert levels[1] is not None
        np.testing.assert_allclose(levels[0], levels[1], rtol=1e-9, atol=1e-9)
        blind = compiled.run([work], ["pool"], [given.model_copy(update={"load_balancer": "least_outstanding"})])
        more += int(fast.cached_tokens[0].sum() > blind.cached_tokens[0].sum())
    assert more > 8


def test_a_balancer_that_looks_into_caches_by_hand() -> None:
    # One head of 320 tokens and three replicas. The first request warms one; all that are more than the head's third go there.
    tree = PrefixTree.of_roots(1)
    prompt = np.array([320, 330, 1000, 1100, 330])
    work = single_stage(np.linspace(0.0, 0.004, 5), prompt, np.full(5, 200), prefix_id=np.zeros(5, dtype=np.int64))
    work = replace(work, prefixes=tree, prefix_tokens=np.full(5, 320))
    result = run_both([work], ["pool"], [pool(replicas=3, load_balancer="prefix")])
    # 320 of 1,000 are more than 30%, of 1,100 not: that one goes where nobody is.
    assert result.cached_tokens[0].tolist() == [0, 320, 320, 0, 320]


def test_a_balancer_that_looks_into_caches_goes_by_load_where_it_is_far_apart() -> None:
    """64 may be unfinished beyond those of the idlest; so the 66th of a burst goes elsewhere."""
    n = 200
    arrival_s, tokens = np.full(n + 1, 5.0), np.full(n + 1, 50)
    arrival_s[0], tokens[0] = 0.0, 1
    both = single_stage(arrival_s, np.full(n + 1, 400), tokens, prefix_id=np.zeros(n + 1, dtype=np.int64))
    result = run_both([both], ["pool"], [pool(replicas=2, load_balancer="prefix", max_num_seqs=256)])
    # Those that went to the cold one: the first computes the head, the others find it.
    assert (result.cached_tokens[0] == 0).sum() == 2
    assert np.flatnonzero(result.cached_tokens[0][1:] == 0).tolist() == [65]


def turns() -> Traffic:
    """An agent's first request, and two sub-agents that wait for its answer; as a process of a user's own may make them."""
    zeros = np.zeros(3, dtype=np.int64)
    return Traffic(
        np.array([0.0, np.nan, np.nan]),
        zeros,
        np.array([100, 150, 150]),
        zeros,
        zeros + 9,
        np.array([0, 1, 2]),
        1.0,
        after=np.array([-1, 0, 0]),
        think_s=np.array([0.0, 1.0, 1.0]),
        prefix_tokens=np.array([109, 150, 150]),
        prefixes=PrefixTree(np.array([-1, 0, 0]), np.array([0, 109, 109])),
        session=zeros,
        turn=np.array([0, 1, 0]),
        reused_tokens=np.array([0, 109, 109]),
    )


def test_a_users_own_process_may_give_turns_that_wait_together_and_what_they_have_in_common() -> None:
    mine = turns()
    got = checked(mine, 3, "mine", carries_lengths=True)
    assert got.prefixes is not None
    for one, other in ((got, mine), (got.prefixes, mine.prefixes)):
        for field in fields(one):
            given = getattr(other, field.name)
            if isinstance(given, np.ndarray):
                np.testing.assert_array_equal(getattr(one, field.name), given, err_msg=field.name)
    assert got.after is not None
    work = single_stage(got.arrival_s, np.array([100, 150, 150]), np.full(3, 9), prefix_id=np.array([0, 1, 2]))
    more = {name: getattr(got, name) for name in ("after", "think_s", "prefix_tokens", "prefixes", "session")}
    result = run_both([replace(work, **more)], ["pool"], [pool()])
    assert result.cached_tokens[0].tolist() == [0, 96, 96]
    assert (result.arrival_s[1:] == result.finished_s[0] + 1.0).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"prefixes": [0, 1]}, "prefixes: got 'list'; expected a PrefixTree"),
        (
            {"prefixes": PrefixTree(np.array([-1, 1, 0]), np.array([0, 9, 9]))},
            r"prefixes.parent\[1\]: got 1; .* an earlier node",
        ),
        ({"prefixes": PrefixTree(np.array([-1, 0, 0]), np.array([0, 9, -9]))}, r"prefixes.start\[2\]: got -9"),
        (
            {"prefixes": PrefixTree(np.array([-1, -1, 0]), np.array([0, 9, 9]))},
            r"prefixes.start\[1\]: got 9; expected 0",
        ),
        ({"prefixes": PrefixTree(np.array([-1, 0]), np.array([0, 9, 9]))}, "prefixes.start"),
        ({"prefixes": PrefixTree.of_roots(2)}, r"prefix_id\[2\]: got 2; expected a node of prefixes"),
        ({"prefix_id": None, "prefix_tokens": None}, "prefixes: got 'given'; expected 'prefix_id'"),
        ({"session": None}, "session: got None; expected given too: session, turn and reused_tokens belong together"),
        (
            {"reused_tokens": np.array([0, 151, 0])},
            r"reused_tokens\[1\]: got 151; expected at most the tokens of the prompt",
        ),
        ({"turn": np.array([0, -1, 0])}, r"turn\[1\]: got -1"),
        ({"session": np.array([0.5, 1, 1])}, "session"),
        ({"after": np.array([-1, 0, 3])}, r"after\[2\]: got 3"),
    ],
)
def test_turns_that_cannot_be_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        checked(replace(turns(), **change), 3, "mine", carries_lengths=True)
