"""Small random scenarios, from a seed: endpoints that keep prompts, of a random tree, and limit input and output tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.random_scenarios import Case, Dice, Times, _api, _failing
from ttc_sim.base.draws import I64, uniforms
from ttc_sim.base.prefix_tree import PrefixTree
from ttc_sim.engine.work import Work
from ttc_sim.scenario import Api, ApiCache, GpuPool


def random_tree(seed: int, most: int, longest: int) -> tuple[PrefixTree, I64]:
    """A tree, and where the tokens of each node end; some nodes have none, some branch off before their parent ends."""
    u = uniforms(seed, "tree", most, 3)
    parent: list[int] = []
    start: list[int] = []
    end: list[int] = []
    for k in range(1 + int(u[0, 2] * most)):
        above = -1 if u[k, 0] < 0.3 else int(u[k, 0] * k) if k else -1
        parent.append(above)
        back = int(u[k, 2] * 6) if u[k, 2] < 0.5 else 0
        start.append(0 if above < 0 else max(end[above] - back, start[above]))
        end.append(start[-1] + int(u[k, 1] ** 2 * longest))
    return PrefixTree(np.array(parent, dtype=np.int64), np.array(start, dtype=np.int64)), np.array(end, dtype=np.int64)


def with_caches(case: Case, seed: int, times: Times) -> Case:
    """Its pools are endpoints; all have caches, but for a few, and some limits of tokens."""
    dice = Dice(seed, times, "caches")
    longest = dice.of(10, 40, 150)
    tree, ends = random_tree(seed, dice.of(1, 3, 12), longest)
    fails = any(work.breaks is not None or work.again_s is not None for work in case.works)
    deployments: list[Api | GpuPool] = [
        _with_cache(dice, _as_endpoint(dice, item, fails), longest) for item in case.deployments
    ]
    flat = dice.of(False, False, True)
    works = [_with_prefixes(seed, arm, work, tree, ends, flat) for arm, work in enumerate(case.works)]
    return replace(case, deployments=deployments, works=works, tables=[None] * len(deployments))


def _as_endpoint(dice: Dice, item: Api | GpuPool, fails: bool) -> Api:
    if isinstance(item, Api):
        return item
    made = _failing(dice, _api(dice)) if fails else _api(dice)
    assert isinstance(made, Api)
    return made


def _with_cache(dice: Dice, item: Api, longest: int) -> Api:
    kind = dice.of("automatic", "breakpoints")
    given = {
        "kind": kind,
        "min_tokens": dice.of(0, 1, longest // 8, longest // 2),
        "ttl_s": dice.when((0.217, 2.391, 50.0), (0.25, 2.0, 50.0), (0.3, 1.1, 50.0)),
        "keeps_output": dice.of(True, False),
        "reads_count": dice.of(True, False),
    }
    given |= {"step_tokens": dice.of(1, 3, 8)} if kind == "automatic" else {"breakpoints": dice.of(1, 2, 3, 4)}
    limits = {
        "input_tokens_per_minute": dice.of(None, None, 5.0 * longest, 60.0 * longest),
        "output_tokens_per_minute": dice.of(None, None, 200.0, 2000.0),
        "limit_window_s": dice.of(10, 60),
    }
    cache = dice.of(*[ApiCache.model_validate(given)] * 4, None)
    return item.model_copy(update={**limits, "cache": cache})


def _with_prefixes(seed: int, arm: int, work: Work, tree: PrefixTree, ends: I64, flat: bool) -> Work:
    """At random nodes, each prompt or answer ending somewhere in it; some share nothing."""
    stages = len(work.deployment)
    u = uniforms(seed, f"prefixes{arm}", stages, 4)
    node = (u[:, 0] * len(tree)).astype(np.int64)
    start = np.zeros(len(tree), dtype=np.int64) if flat else tree.start
    room = np.maximum(ends - start, 0)
    shared = start[node] + (u[:, 1] * (room[node] + 1)).astype(np.int64)
    # Prompts of their own length, or of what they share: a little more, or a little less where the answer is shared too.
    prompt = np.where(
        u[:, 2] < 0.3, work.prompt_tokens, np.maximum(shared + ((u[:, 2] - 0.7) * 20).astype(np.int64), 1)
    )
    return replace(
        work,
        prefix_id=np.where(u[:, 3] < 0.1, -1, node),
        prefix_tokens=shared,
        prompt_tokens=prompt,
        prefixes=None if flat else tree,
    )
