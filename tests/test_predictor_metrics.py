"""Figures of forecasters and routers: against brute force, scikit-learn, RouteLLM's published definition, and simulation."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.predictor.judging.metrics import (
    Auroc,
    Bootstrap,
    Brier,
    auroc,
    brier,
    brier_by_part,
    calibration_error,
    compared,
    quality,
)
from ttc_sim.predictor.judging.routing import Curve, area, dollars, least_share, routing

scores = st.lists(st.sampled_from([0.05, 0.2, 0.2001, 0.5, 0.9]), min_size=2, max_size=30)


def by_pairs(p: F64, share: F64) -> float:
    """Every right outcome against every wrong one, weighted, ties half."""
    wins = pairs = 0.0
    for a in range(len(p)):
        for b in range(len(p)):
            weight = share[a] * (1 - share[b])
            pairs += weight
            wins += weight * (1.0 if p[a] > p[b] else 0.5 if p[a] == p[b] else 0.0)
    return wins / pairs


@given(scores, st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_auroc_counts_pairs(given_p: list[float], seed: int) -> None:
    p = np.array(given_p)
    share = np.random.default_rng(seed).integers(0, 4, len(p)) / 3
    if 0 < share.sum() < len(p):
        assert auroc(p, share) == pytest.approx(by_pairs(p, share))


def test_auroc_and_brier_are_scikit_learns() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(1)
    p = np.round(rng.uniform(size=500), 2)
    right = (rng.uniform(size=500) < p).astype(float)
    assert auroc(p, right) == pytest.approx(metrics.roc_auc_score(right, p))
    assert brier(p, right) == pytest.approx(metrics.brier_score_loss(right, p))


def test_calibration_error_by_hand() -> None:
    p = np.array([0.1, 0.1, 0.6, 0.8])
    # One bin: |0.4 - 0.5|. Two bins: (0.1 against 0) and (0.7 against 1), half each.
    right = np.array([0.0, 0.0, 1.0, 1.0])
    assert calibration_error(p, right, bins=1) == pytest.approx(0.1)
    assert calibration_error(p, right, bins=2) == pytest.approx(0.5 * 0.1 + 0.5 * 0.3)
    # Equal predictions share a bin, wherever its edge would fall: 0.3 predicted, 0.3 came.
    assert calibration_error(np.full(10, 0.3), np.array([1.0] * 3 + [0.0] * 7), bins=5) == pytest.approx(0.0)


def resample_by_loops(cluster: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.concatenate([np.repeat(np.flatnonzero(cluster == c), k) for c, k in enumerate(counts)])


def test_resampled_figures_are_those_of_the_resampled_problems() -> None:
    rng = np.random.default_rng(2)
    cluster = rng.integers(0, 12, 60)
    cluster[:12] = np.arange(12)
    p, share = np.round(rng.uniform(size=60), 1), rng.integers(0, 3, 60) / 2
    (weights,) = Bootstrap(cluster, resamples=20, seed=3).blocks()
    assert weights.shape == (20, 60)
    for row in weights:
        counts = [int(row[np.flatnonzero(cluster == c)[0]]) for c in range(12)]
        assert sum(counts) == 12
        rows = resample_by_loops(cluster, np.array(counts))
        assert Auroc(p, share)(row[None])[0] == pytest.approx(auroc(p[rows], share[rows]))
        assert Brier(p, share)(row[None])[0] == pytest.approx(brier(p[rows], share[rows]))


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(4)
    n, trials = 400, 100
    # The truth of a forecaster whose probabilities are right: from a very large sample.
    large = rng.beta(2, 2, 400_000)
    right = (rng.uniform(size=len(large)) < large).astype(float)
    truth = auroc(large, right), brier(large, right)
    covered = np.zeros((trials, 3))
    for trial in range(trials):
        p = rng.beta(2, 2, n)
        found = quality(p, (rng.uniform(size=n) < p).astype(float), Bootstrap(np.arange(n), 200, trial))
        covered[trial, 0] = found.auroc.low <= truth[0] <= found.auroc.high
        covered[trial, 1] = found.brier.low <= truth[1] <= found.brier.high
        covered[trial, 2] = found.calibration_error.low <= 1e-3  # the truth is 0
    # 100 intervals of 95%: fewer than 87% of them would be a chance of one in a thousand.
    assert (covered[:, :2].mean(axis=0) >= 0.87).all()
    assert covered[:, 2].mean() >= 0.93


def test_clusters_widen_intervals() -> None:
    rng = np.random.default_rng(5)
    task = np.repeat(np.arange(40), 50)
    p = rng.beta(0.5, 0.5, 40)[task]
    right = (rng.uniform(size=2000) < rng.beta(1, 1, 40)[task]).astype(float)
    alone = quality(p, right, Bootstrap(np.arange(2000), 300)).brier
    tasks = quality(p, right, Bootstrap(task, 300)).brier
    assert tasks.high - tasks.low > 3 * (alone.high - alone.low)


def test_compared_says_who_is_better_and_by_how_much() -> None:
    rng = np.random.default_rng(6)
    p = rng.uniform(size=1500)
    right = (rng.uniform(size=1500) < p).astype(float)
    found, gain = compared({"knows": p, "guesses": rng.uniform(size=1500)}, right, Bootstrap(np.arange(1500), 300))
    assert gain["guesses"].low > 0
    assert gain["guesses"].value == pytest.approx(found["knows"].auroc.value - found["guesses"].auroc.value)
    assert found["knows"] == quality(p, right, Bootstrap(np.arange(1500), 300))


# ---------------------------------------------------------------------------- routers


def routellm(score: F64, weak: F64, strong: F64, bins: int) -> tuple[float, float, float]:
    """RouteLLM's figures by loops, as its evaluation computes them: thresholds at quantiles of the score; at or above one,
    the strong model answers (at the last, only above); areas by trapezoids; CPT by interpolation."""
    thresholds = [float(np.quantile(score, k / bins)) for k in range(bins + 1)]
    points = []
    for k, threshold in enumerate(thresholds):
        calls = right = 0.0
        for i in range(len(score)):
            to_strong = score[i] >= threshold if k < bins else score[i] > threshold
            calls += to_strong
            right += strong[i] if to_strong else weak[i]
        points.append((calls / len(score), right / len(score)))
    points.sort()
    low, high = float(np.mean(weak)), float(np.mean(strong))
    pgr = [(c, (a - low) / (high - low)) for c, a in points]
    apgr = sum((c2 - c1) * (a1 + a2) / 2 for (c1, a1), (c2, a2) in itertools.pairwise(pgr))
    cpt = []
    for wanted in (0.5, 0.8):
        for (c1, a1), (c2, a2) in itertools.pairwise(pgr):
            if a2 >= wanted:
                cpt.append(c1 + (wanted - a1) / (a2 - a1) * (c2 - c1))
                break
    return apgr, cpt[0], cpt[1]


def pair(seed: int, n: int = 200) -> tuple[F64, F64, F64]:
    rng = np.random.default_rng(seed)
    hard = rng.uniform(size=n)
    weak = (rng.uniform(size=n) > hard).astype(float)
    strong = rng.binomial(3, 1 - hard**3) / 3
    return hard + rng.normal(0, 0.3, n), weak, strong


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("bins", [10, 37])
def test_router_figures_are_routellms(seed: int, bins: int) -> None:
    score, weak, strong = pair(seed)
    share, pgr = Curve(score, weak, strong, grid=bins)(np.ones((1, len(score))))
    got = area(share, pgr)[0], least_share(share, pgr, 0.5)[0], least_share(share, pgr, 0.8)[0]
    assert got == pytest.approx(routellm(score, weak, strong, bins))


def test_every_score_a_threshold_is_the_limit_of_finer_quantiles() -> None:
    score, weak, strong = pair(9)
    found = routing(score, weak, strong, Bootstrap(np.arange(200), 50))
    assert (found.apgr.value, found.cpt50.value, found.cpt80.value) == pytest.approx(
        routellm(score, weak, strong, 199), abs=5e-3
    )


def test_a_perfect_router_has_no_gap_and_no_router_beats_the_oracle() -> None:
    score, weak, strong = pair(10)
    boot = Bootstrap(np.arange(200), 100)
    perfect = routing(strong - weak, weak, strong, boot)
    assert perfect.oracle_gap.value == perfect.oracle_gap.low == perfect.oracle_gap.high == 0.0
    assert (perfect.accuracy == perfect.oracle).all()
    for other in (score, -score, weak, np.zeros(200)):
        assert routing(other, weak, strong, boot).oracle_gap.low >= 0


def test_lots_reach_half() -> None:
    _, weak, strong = pair(11, 4000)
    lots = np.random.default_rng(12).uniform(size=4000)
    found = routing(lots, weak, strong, Bootstrap(np.arange(4000), 400))
    assert found.apgr.low <= 0.5 <= found.apgr.high
    # A router that cannot tell requests apart is exactly a straight line.
    blind = routing(np.zeros(4000), weak, strong, Bootstrap(np.arange(4000), 50))
    assert blind.apgr.value == pytest.approx(0.5)
    assert (blind.cpt50.value, blind.cpt80.value) == pytest.approx((0.5, 0.8))


def test_dollars_follow_the_calls() -> None:
    score, _, _ = pair(13)
    cheap, dear = np.full(200, 0.001), np.linspace(0.01, 0.03, 200)
    curve = dollars(score, cheap, dear)
    assert curve[0] == pytest.approx(0.001)
    assert curve[-1] == pytest.approx(dear.mean())
    first = np.argsort(-score, kind="stable")[:100]
    assert curve[10] == pytest.approx((0.001 * 100 + dear[first].sum()) / 200)


def test_a_strong_model_that_is_not_better_is_refused() -> None:
    score, weak, strong = pair(14)
    with pytest.raises(InputError, match="PGR is undefined"):
        routing(score, strong, weak, Bootstrap(np.arange(200), 10))


def test_ten_thousand_problems_a_thousand_times_take_seconds() -> None:
    score, weak, strong = pair(15, 10_000)
    boot = Bootstrap(np.arange(10_000), 1000)
    start = time.perf_counter()
    quality(1 / (1 + np.exp(-score)), weak, boot)
    routing(score, weak, strong, boot)
    assert time.perf_counter() - start < 30  # about 4 on a free core


def test_brier_scores_of_parts_are_those_of_the_parts_alone() -> None:
    rng = np.random.default_rng(6)
    p, share = rng.uniform(size=300), rng.integers(0, 2, 300).astype(float)
    part = rng.uniform(size=300) < 0.3
    parts = {"part": part, "rest": ~part, "few": np.arange(300) < 5, "none": np.zeros(300, dtype=bool)}
    found = brier_by_part(p, share, parts, Bootstrap(np.arange(300), 400), rate=0.4, fewest=20)
    assert {name: one.problems for name, one in found.items()} == {
        "part": part.sum(),
        "rest": 300 - part.sum(),
        "few": 5,
        "none": 0,
    }
    assert found["part"].brier.value == pytest.approx(brier(p[part], share[part]))
    assert found["part"].brier_constant.value == pytest.approx(brier(np.full(part.sum(), 0.4), share[part]))
    # The interval is that of a mean of so many losses.
    loss = Brier(p[part], share[part]).loss
    half = 1.96 * loss.std() / np.sqrt(part.sum())
    assert found["part"].brier.high - found["part"].brier.value == pytest.approx(half, rel=0.2)
    assert found["part"].brier.value - found["part"].brier.low == pytest.approx(half, rel=0.2)
    assert np.isnan([found[name].brier.value for name in ("few", "none")]).all()
    # A part of one cluster cannot be resampled: it has a figure, and no interval.
    alone = brier_by_part(p, share, {"part": part}, Bootstrap(part.astype(np.int64), 50), rate=0.4)["part"].brier
    assert alone.value == pytest.approx(loss.mean())
    assert np.isnan([alone.low, alone.high]).all()
