"""Scores beside the quantiles that a card keeps: never more alarms than the full test would give, and real shifts found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.stats import ks_2samp

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.predictor.judging.card_figures import card_scores
from ttc_sim.predictor.judging.drift import compare, stability_index
from ttc_sim.predictor.judging.logs import Sample
from ttc_sim.predictor.judging.score_quantiles import CardScores, Quantiles, from_card, kolmogorov_smirnov, to_card

Draw = Callable[[np.random.Generator, int], F64]


def continuous(rng: np.random.Generator, count: int) -> F64:
    return rng.beta(2, 3, count)


def clipped(rng: np.random.Generator, count: int) -> F64:
    """Like novelty of strange traffic: half of it at 1."""
    return np.minimum(rng.gamma(4, 0.25, count), 1)


def few_values(rng: np.random.Generator, count: int) -> F64:
    """A training rate that most prompts get, on the edge between two rounded values, and a few others."""
    return rng.choice([0.12345, 0.12344, 0.43925, 0.9], p=[0.1, 0.1, 0.6, 0.2], size=count)


def from_file(scores: F64, folder: Path) -> Quantiles:
    """As another process reads them from the card."""
    card = {"scores": {"data": to_card({"difficulty": scores, "novelty": scores})}}
    (folder / "m.card.yaml").write_text(yaml.safe_dump(card))
    return card_scores(folder / "m.onnx")["data"].scores["novelty"]


def through(scores: F64) -> Quantiles:
    card = {"scores": {"data": to_card({"difficulty": scores, "novelty": scores})}}
    return from_card(card, Path("m.card.yaml"))["data"].scores["novelty"]


@pytest.mark.parametrize("draw", [continuous, clipped, few_values])
def test_false_alarms_come_at_most_as_often_as_asked(draw: Draw) -> None:
    rng = np.random.default_rng(1)
    trials = 300
    alarms = dict.fromkeys(((100, 40), (500, 300), (4000, 1000)), 0)
    for problems, prompts in alarms:
        for _ in range(trials):
            before, now = draw(rng, problems), draw(rng, prompts)
            known = through(before)
            # Scores come back from the graph in single precision.
            p_value = kolmogorov_smirnov(known, now.astype(np.float32).astype(np.float64))
            alarms[problems, prompts] += int(p_value < 0.05)
            assert p_value >= ks_2samp(before, now, method="asymp").pvalue - 1e-9
    # Of 300 trials at 5%, three standard deviations above are 26.
    assert max(alarms.values()) <= 26, alarms
    if draw is continuous:  # conservative, not blind
        assert sum(alarms.values()) >= 3, alarms


@pytest.mark.parametrize(("draw", "shift"), [(continuous, 0.08), (continuous, -0.08), (clipped, -0.12)])
def test_a_shift_is_found_nearly_as_often_as_by_the_full_test(draw: Draw, shift: float) -> None:
    rng = np.random.default_rng(2)
    found, full = 0, 0
    for _ in range(100):
        before, now = draw(rng, 1000), np.clip(draw(rng, 300) + shift, 0, 1)
        found += int(kolmogorov_smirnov(through(before), now) < 0.05)
        full += int(ks_2samp(before, now, method="asymp").pvalue < 0.05)
    assert full >= 90
    assert found >= full - 8


def test_more_at_the_clipped_end_is_found() -> None:
    rng = np.random.default_rng(3)
    before = np.minimum(rng.gamma(4, 0.1, 1000), 1)  # 1% at 1
    now = np.where(rng.uniform(size=200) < 0.3, 1.0, np.minimum(rng.gamma(4, 0.1, 200), 1))
    known = through(before)
    assert kolmogorov_smirnov(known, now) < 1e-4
    assert kolmogorov_smirnov(known, np.minimum(rng.gamma(4, 0.1, 200), 1)) > 0.05
    assert stability_index(known, now) > 0.25


@pytest.mark.parametrize("draw", [continuous, clipped, few_values])
def test_the_stability_index_is_the_samples_own(draw: Draw, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    before, now = np.round(draw(rng, 2000), 4), np.round(draw(rng, 500) * 0.9, 4)
    known = from_file(before, tmp_path)
    assert stability_index(known, now) == pytest.approx(stability_index(before, now), abs=1e-4)
    assert known.mean == pytest.approx(before.mean(), abs=1e-4)
    assert known.problems == 2000


def test_all_scores_of_a_card_are_compared_together() -> None:
    rng = np.random.default_rng(5)
    before = CardScores({name: through(continuous(rng, 800)) for name in ("difficulty", "novelty")}, 800, "a card")
    same = Sample({name: continuous(rng, 400) for name in ("difficulty", "novelty")}, {}, "made")
    found = compare(same, before)
    assert [test.of for test in found.tests] == ["difficulty", "novelty"]
    assert (found.reference_prompts, found.origin, found.moved) == (800, "a card", ())
    moved = Sample({**same.scores, "novelty": continuous(rng, 400) + 0.15}, {}, "made")
    assert [test.of for test in compare(moved, before).moved] == ["novelty"]


def test_a_card_without_quantiles_has_none_and_a_broken_one_is_named(tmp_path: Path) -> None:
    assert from_card({"heads": {}}, tmp_path) == from_card(None, tmp_path) == from_card("text", tmp_path) == {}
    good = to_card({name: np.linspace(0, 1, 200) for name in ("difficulty", "novelty")})
    assert from_card({"scores": {"a": good}}, tmp_path)["a"].prompts == 200
    novelty = good["novelty"]
    assert isinstance(novelty, dict)
    for bad in (
        [1],
        {"a": 3},
        {"a": {**good, "problems": "many"}},
        {"a": {key: value for key, value in good.items() if key != "difficulty"}},
        {"a": {**good, "novelty": {**novelty, "share": novelty["share"][:-1]}}},
        {"a": {**good, "novelty": {**novelty, "at_most": novelty["at_most"][::-1]}}},
    ):
        with pytest.raises(
            InputError, match=r"scores: got .* expected quantiles as `ttc-sim predictor train` writes them"
        ):
            from_card({"scores": bad}, tmp_path / "m.card.yaml")
