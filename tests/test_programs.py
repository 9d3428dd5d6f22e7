"""The programs that propose policies, against every solution there is."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from ttc_sim.optimizer.proposing import programs
from ttc_sim.optimizer.proposing.programs import Program
from ttc_sim.optimizer.proposing.strides import Strides
from ttc_sim.optimizer.proposing.walks import best_walk, every_walk

GROUPS, CHOICES = 3, 7


def random_program(seed: int, *, misses: bool, tight: float) -> Program:
    """One choice of each group, limits that two pools' replicas raise, and, with ``misses``, what they are missed by."""
    u = np.random.default_rng(seed)
    n, limits, pools = GROUPS * CHOICES, 3, 2
    most = np.hstack([u.random((limits, n)), -np.eye(limits) if misses else np.zeros((limits, 0))])
    return Program(
        cost=np.concatenate([0.02 * u.random(n) if misses else u.random(n), np.ones(limits * misses)]),
        choices=n,
        same=sparse.csr_array(
            np.hstack([np.kron(np.eye(GROUPS), np.ones(CHOICES)), np.zeros((GROUPS, limits * misses))])
        ),
        value=np.ones(GROUPS),
        most=sparse.csr_array(most),
        limit=tight * u.random(limits),
        room=u.random((limits, pools)) * (u.random((limits, pools)) < 0.6),
        usd=0.3 * u.random(pools) * (0.02 if misses else 1.0),
        sizes=((0, 1, 2, 4), (0, 1, 3)),
    )


def brute_force(program: Program) -> float:
    best = np.inf
    rows = program.most.toarray()[:, : program.choices]
    unit = -program.most.toarray()[:, program.choices :].sum(axis=1)
    for picked in itertools.product(range(CHOICES), repeat=GROUPS):
        at = [CHOICES * group + choice for group, choice in enumerate(picked)]
        for replicas in itertools.product(*program.sizes):
            over = rows[:, at].sum(axis=1) - program.limit - program.room @ np.array(replicas)
            if (unit == 0).all() and (over > 1e-9).any():
                continue
            value = (
                program.cost[at].sum() + program.usd @ np.array(replicas) + np.maximum(over, 0).sum() * (unit > 0).all()
            )
            best = min(best, float(value))
    return best


@pytest.mark.parametrize("misses", [False, True])
@pytest.mark.parametrize("tight", [0.3, 1.0, 3.0])
def test_programs_give_the_best_of_all_solutions(misses: bool, tight: float) -> None:
    feasible = 0
    for seed in range(12):
        program = random_program(seed, misses=misses, tight=tight)
        best, found = brute_force(program), program.best()
        if found is None:
            assert best == np.inf
            continue
        feasible += 1
        x, replicas = found
        assert set(np.round(x[: program.choices], 9)) <= {0.0, 1.0}
        assert (program.most @ x <= program.limits_at(replicas.astype(float)) + 1e-6).all()
        value = float(program.cost @ x + program.usd @ replicas)
        assert best - 1e-6 <= value <= best * (1 + 2 * program.gap) + 1e-6
    assert feasible


def random_strides(seed: int) -> Strides:
    """Of one source, three arms and two scores with five bands and three."""
    u = np.random.default_rng(seed)
    rows = [
        (0, k, a, b, arm)
        for k, bands in enumerate((5, 3))
        for a, b in itertools.combinations(range(bands + 1), 2)
        for arm in range(3)
    ]
    source, score, first, last, arm = np.array(rows).T
    up_to = np.concatenate([np.zeros((4, 2, 3, 1)), u.random((4, 2, 3, 5)).cumsum(axis=3)], axis=3)
    sums: Any = up_to[:, score, arm, last] - up_to[:, score, arm, first]
    edges = {(0, 0): np.arange(4.0), (0, 1): np.arange(2.0)}
    return Strides(
        scores=("x", "y"),
        source=source,
        score=score,
        first=first,
        last=last,
        arm=arm,
        correct=sums[0],
        cost=sums[1],
        timeout=sums[2],
        late=sums[3:],
        gpu_s=sums[3],
        share=(last - first) / np.array([5, 3])[score],
        edges=edges,
    )


def test_walks_are_all_that_there_are_and_the_best_of_them_is_that_of_the_program() -> None:
    strides = random_strides(0)
    walks = every_walk(strides, 3, 1)
    assert walks is not None
    # Of 5 bands: 3 arms, 4 places times 3 * 2 arms, 6 pairs of places times 3 * 2 * 2; of 3 bands 3, 2 * 6 and 12.
    assert [len(some) for some in walks] == [3 + 3, 24 + 12, 72 + 12]
    assert len({tuple(walk) for some in walks for walk in some.tolist()}) == sum(map(len, walks))
    assert every_walk(strides, 3, 1_000_000) is None
    for seed in range(20):
        strides = random_strides(seed)
        u = np.random.default_rng(1000 + seed)
        n = len(strides.arm)
        nodes: dict[tuple[int, int], Any] = {}
        for j in range(n):
            if strides.first[j]:
                nodes.setdefault((strides.score[j], strides.first[j]), np.zeros(n))[j] = -1
            if strides.last[j] < (5, 3)[strides.score[j]]:
                nodes.setdefault((strides.score[j], strides.last[j]), np.zeros(n))[j] = 1
        program = Program(
            cost=strides.cost,
            choices=n,
            same=sparse.csr_array(np.array([(strides.first == 0).astype(float), *nodes.values()])),
            value=np.array([1.0, *np.zeros(len(nodes))]),
            most=sparse.csr_array(np.array([np.ones(n), -strides.correct, strides.timeout])),
            limit=np.array([3.0, -2.0, 1.5 + u.random()]),
            room=np.array([[0.0], [0.0], [0.4]]),
            usd=np.array([0.2]),
            sizes=((0, 1, 2),),
        )
        walks = every_walk(strides, 3, program.combinations)
        assert walks is not None
        looked, solved = best_walk(program, walks), program.best()
        assert (looked is None) == (solved is None), seed
        if looked is not None and solved is not None:
            values = [float(program.cost @ x + program.usd @ replicas) for x, replicas in (looked, solved)]
            assert values[0] <= values[1] + 1e-9
            assert values[1] <= values[0] * (1 + 2 * program.gap) + 1e-6


@pytest.mark.parametrize("misses", [False, True])
def test_numbers_of_replicas_beyond_counting_are_part_of_the_program(
    misses: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(12):
        program = random_program(seed, misses=misses, tight=1.0)
        counted = program.best()
        with monkeypatch.context() as patched:
            patched.setattr(programs, "_MOST_COMBINATIONS", 0)
            at_once = program.best()
        assert (counted is None) == (at_once is None)
        if counted is not None and at_once is not None:
            values = [float(program.cost @ x + program.usd @ replicas) for x, replicas in (counted, at_once)]
            assert values[0] == pytest.approx(values[1], rel=2 * program.gap, abs=1e-6)
            x, replicas = at_once
            assert (program.most @ x <= program.limits_at(replicas.astype(float)) + 1e-6).all()
    many = replace(program, sizes=((0, 1),) * 40, usd=np.ones(40), room=np.zeros((3, 40)), limit=np.full(3, 99.0))
    found = many.best()
    assert found is not None
    assert not found[1].any()
