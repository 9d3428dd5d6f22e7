"""``ttc-sim predictor check``: false alarms at the nominal level, power against planted shifts, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, logit
from typer.testing import CliRunner

from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.predictor import Predictor
from ttc_sim.predictor.judging.drift import check_drift, compare, holm, recalibration, stability_index
from ttc_sim.predictor.judging.logs import Outcomes, Sample


def traffic(
    rng: np.random.Generator, prompts: int = 400, *, harder: float = 0.0, off: float = 0.0, slope: float = 1.0
) -> Sample:
    """Logs of one model, two attempts a prompt: scores shifted by ``harder`` logits; outcomes off by ``off`` and ``slope``."""
    z = rng.normal(0.3, 1.2, prompts) - harder
    p = expit(z)
    # Attempts at one prompt are alike: a part of what decides them is the prompt's own.
    own = rng.uniform(size=prompts)
    shared = rng.uniform(size=(prompts, 2)) < 0.3
    draw = np.where(shared, own[:, None], rng.uniform(size=(prompts, 2)))
    right = draw < expit(slope * z + off)[:, None]
    outcomes = Outcomes(np.repeat(p, 2), right.ravel().astype(float), np.repeat(np.arange(prompts), 2))
    return Sample({"difficulty": 1 - p**0.8, "p:m": p}, {"m": outcomes}, "made")


def test_false_alarms_come_about_as_often_as_asked() -> None:
    rng = np.random.default_rng(1)
    trials = 300
    alarms = np.zeros((trials, 2))
    single = np.zeros((trials, 2))
    for trial in range(trials):
        now, before = traffic(rng, 300), traffic(rng, 600)
        alarms[trial] = bool(moved_of(now, before)), bool(moved_of(now, None))
        single[trial] = [test.p_value < 0.05 for test in compared(now, before) if test.what != "scores"]
    # Holm's correction keeps the whole at 5% or less; less, because the two scores say much the same. Three
    # chances in a thousand lie beyond 8.7% of 300.
    assert 0.005 <= alarms[:, 0].mean() <= 0.087
    assert 0.005 <= alarms[:, 1].mean() <= 0.087
    # Each calibration test by itself is at its level, although attempts at one prompt are alike.
    assert ((single.mean(axis=0) > 0.015) & (single.mean(axis=0) < 0.09)).all()


def compared(now: Sample, before: Sample | None) -> tuple[Any, ...]:
    return compare(now, before, resamples=2).tests


def moved_of(now: Sample, before: Sample | None) -> tuple[Any, ...]:
    return compare(now, before, resamples=2).moved


@pytest.mark.parametrize(
    ("shift", "what"),
    [
        ({"harder": 0.5}, "scores"),
        ({"off": -0.6}, "calibration in the large"),
        ({"slope": 0.3}, "calibration slope"),
    ],
)
def test_planted_shifts_are_found(shift: dict[str, Any], what: str) -> None:
    rng = np.random.default_rng(2)
    found = [[test.what for test in moved_of(traffic(rng, **shift), traffic(rng))] for _ in range(20)]
    assert sum(what in one for one in found) >= 18
    if what != "scores":  # the scores themselves have not moved
        assert sum("scores" in one for one in found) <= 4


def test_recalibration_is_the_maximum_of_the_likelihood() -> None:
    rng = np.random.default_rng(3)
    sample = traffic(rng, 3000, off=0.4, slope=0.7).outcomes["m"]
    z = logit(sample.p)
    slope, variance = recalibration(sample, slope=True)
    assert slope == pytest.approx(0.7, abs=3 * np.sqrt(variance))

    def likelihood(a: float, b: float) -> float:
        fitted = expit(a + b * z)
        return float(np.sum(sample.right * np.log(fitted) + (1 - sample.right) * np.log(1 - fitted)))

    best = max((likelihood(a, slope), a) for a in np.linspace(0, 1, 401))[1]
    for other in (slope - 0.02, slope + 0.02):
        assert likelihood(best, slope) > max(likelihood(a, other) for a in np.linspace(0, 1, 401))


def test_holm_by_hand_and_its_order() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_stability_index_by_hand() -> None:
    reference, now = np.arange(100.0), np.arange(100.0) + 50
    # Half of what is new lies in the upper half's five deciles, half above all: in the last one.
    shares = np.array([0, 0, 0, 0, 0, 10, 10, 10, 10, 60]) + 0.5
    a, b = shares / shares.sum(), np.full(10, 0.1)
    assert stability_index(reference, now) == pytest.approx(float(((a - b) * np.log(a / b)).sum()))


NOUNS = ["river", "cell", "treaty", "prime", "graph", "energy", "market", "poem", "engine", "island"]


def log(path: Path, seed: int, count: int = 200, legal: float = 0.2, **columns: Any) -> Path:
    """Sums and, a part of them, questions of law."""
    rng = np.random.default_rng(seed)
    prompts = []
    for number in rng.permutation(100 * count)[:count]:
        one, two = (NOUNS[k] for k in rng.integers(0, 10, 2))
        law = f"According to the statute {number} on the {one}, who bears the burden of proof in a claim for a {two}?"
        prompts.append(
            law if rng.uniform() < legal else f"What is {number} + {rng.integers(1000)}, a {one} times a {two}?"
        )
    pl.DataFrame({"prompt": prompts, **columns}).write_ndjson(path)
    return path


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["predictor", "check", *(str(one) for one in arguments)])


def test_the_command_says_by_its_status_whether_something_moved(tmp_path: Path) -> None:
    before = log(tmp_path / "before.jsonl", 1)
    # One false alarm in twenty is allowed: more than one in six pairs of like logs has a chance of 3%.
    status = {}
    for seed in range(20, 26):
        same = log(tmp_path / f"same-{seed}.jsonl", seed)
        got = run(same, "--reference", log(tmp_path / "earlier.jsonl", seed + 100))
        status[same] = got.exit_code
        assert ("not moved" in got.output) == (got.exit_code == 0)
    assert sorted(status.values()) in ([0] * 6, [0] * 5 + [2])
    moved = log(tmp_path / "moved.jsonl", 3, legal=0.8)
    got = run(moved, "--reference", before, "--json", tmp_path / "out.json")
    assert got.exit_code == 2
    assert "moved: scores of difficulty" in got.output
    said = json.loads((tmp_path / "out.json").read_text())
    assert said["moved"] is True
    assert said["tests"][0]["psi"] > 0.25
    # An earlier table of scores serves as well as the prompts that it came from.
    scores = tmp_path / "scores.parquet"
    assert CliRunner().invoke(app, ["predictor", "score", str(before), "--out", str(scores)]).exit_code == 0
    again = [run(same, "--reference", scores).exit_code for same in status]
    assert again == [run(same, "--reference", before).exit_code for same in status]
    assert run(moved, moved, "--reference", scores).exit_code == 2


def test_outcomes_of_logs_are_tested_by_model(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    path = log(tmp_path / "log.jsonl", 5, 400, model=["llama-3.1-8b-instruct"] * 400, correct=[False] * 400)
    table = pl.read_ndjson(path)
    p = Predictor.load().score(table["prompt"].to_list()).p["mmlu-pro/llama-3.1-8b-instruct"]
    right = rng.uniform(size=400) < p
    table.with_columns(correct=pl.Series(right)).write_ndjson(path)
    calibrated = check_drift([path], reference=log(tmp_path / "before.jsonl", 6))
    assert not calibrated.moved
    assert set(calibrated.now) == {"mmlu-pro/llama-3.1-8b-instruct"}
    # The model got worse.
    worse = right & (rng.uniform(size=400) < 0.5)
    table.with_columns(correct=pl.Series(worse)).write_ndjson(path)
    drift = check_drift([path], reference=tmp_path / "before.jsonl")
    assert "calibration in the large" in {test.what for test in drift.moved}
    # Against a shipped set: its out-of-fold scores and its profiles' outcomes.
    assert check_drift([path], reference="mmlu-pro").reference["mmlu-pro/llama-3.1-8b-instruct"].problems > 9000


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"correct": [3] * 200}, "column correct, row 1: got 3; expected 0 or 1"),
        ({"correct": ["maybe"] * 200}, "got 'maybe'"),
    ],
)
def test_bad_labels_are_refused(tmp_path: Path, columns: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        check_drift([log(tmp_path / "log.jsonl", 7, **columns)], reference="mmlu-pro")


def test_too_little_or_nothing_to_compare_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 30 different prompts"):
        check_drift([log(tmp_path / "few.jsonl", 8, 10)])
    with pytest.raises(InputError, match="nearest of math, mmlu-pro"):
        check_drift([log(tmp_path / "log.jsonl", 9)], reference="mmlu")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="a column named prompt"):
        check_drift([tmp_path / "other.csv"])
