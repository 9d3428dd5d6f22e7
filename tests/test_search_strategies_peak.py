"""Overthinking: where accuracy rises, peaks and falls with thinking, the peak is found, on easy problems and on hard ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from scipy.special import ndtri

from tests.test_optimum import api
from ttc_sim.base.draws import I64
from ttc_sim.base.errors import InputError
from ttc_sim.measured.profiles import load_profile
from ttc_sim.optimizer.planning import plan_model
from ttc_sim.optimizer.refining import CLOSE, expectations_of_space
from ttc_sim.optimizer.space import expanded_model
from ttc_sim.policies import DIFFICULTY
from ttc_sim.scenario import scenario_from_dict
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.model import Model, load_model

CARD = {"origin": "made up", "licence": "none", "date": "2026-11-26", "tokenizer": "none", "limits": "made up"}
PROBLEMS, ATTEMPTS, LONGEST = 60, 8, 40_000
MIDDLES = {"easy": (700.0, 2600.0), "hard": (4000.0, 14_000.0)}
"""Median tokens after which an answer is right, and after which it is talked out of again; both log-normal."""
SPREAD = 0.25


def quantiles(median: float, count: int) -> I64:
    """So many numbers that are log-normal as nearly as can be."""
    spread: I64 = np.exp(np.log(median) + SPREAD * ndtri((np.arange(count) + 0.5) / count)).astype(np.int64)
    return spread


def write(folder: Path) -> None:
    """A model that answers wrongly, rightly, and in the end wrongly again, asked on its way when it changed its mind."""
    own = folder / "thinker"
    own.mkdir()
    (folder / "problem_set.yaml").write_text(yaml.safe_dump({**CARD, "kind": "problems", "cluster": "problem"}))
    about = {**CARD, "kind": "model", "model": "thinker", "problem_set": "mine", "reasoning": "recorded"}
    (own / "profile.yaml").write_text(yaml.safe_dump(about))
    names = [f"{kind}-{k}" for kind in MIDDLES for k in range(PROBLEMS)]
    pl.DataFrame({"problem": names, "group": names, "subset": "all"}).with_columns(
        prompt_tokens=pl.lit(50, pl.Int32)
    ).write_parquet(folder / "problems.parquet")
    attempts: dict[str, list[Any]] = {"problem": [], "attempt": []}
    probes: dict[str, list[Any]] = {"problem": [], "attempt": [], "thinking_tokens": [], "correct": []}
    for kind, (right, wrong) in MIDDLES.items():
        count = PROBLEMS * ATTEMPTS
        # Which attempt changes its mind when is mixed up, so that problems of a kind are alike.
        begin, end = (
            np.random.default_rng(seed).permutation(quantiles(median, count))
            for seed, median in ((1, right), (2, wrong))
        )
        for k in range(count):
            name, attempt = f"{kind}-{k // ATTEMPTS}", k % ATTEMPTS
            attempts["problem"].append(name)
            attempts["attempt"].append(attempt)
            for tokens, correct in ((0, 0), (int(begin[k]), 1), (max(int(end[k]), int(begin[k]) + 1), 0)):
                probes["problem"].append(name)
                probes["attempt"].append(attempt)
                probes["thinking_tokens"].append(tokens)
                probes["correct"].append(correct)
    pl.DataFrame(attempts).with_columns(
        pl.col("attempt").cast(pl.Int16),
        prompt_tokens=pl.lit(50, pl.Int32),
        reasoning_tokens=pl.lit(LONGEST, pl.Int32),
        visible_tokens=pl.lit(20, pl.Int32),
        correct=pl.lit(False),
        truncated=pl.lit(False),
        answer=pl.lit(None, pl.String),
    ).write_parquet(own / "attempts.parquet")
    pl.DataFrame(probes).write_csv(own / "forced.csv")


def model_of(folder: Path, **changes: Any) -> Model:
    """Both kinds of problems, half of the requests each, told apart by a predicted difficulty."""
    raw: dict[str, Any] = {
        "name": "peak",
        "replications": 2,
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 2.0},
            "requests": 100,
            "sources": {"all": {"problem_set": "."}},
        },
        "deployments": {"web": api(1.0)},
        "arms": {"t": {"profile": "thinker", "deployment": "web", "strategy": "Single(on_cap='force_answer')"}},
        "search": {"bands": 4, "max_bands": 2, "scores": [DIFFICULTY], "caps": {"t": {"from": 100, "to": 25_000}}},
        "targets": {"maximize": "accuracy"},
        **changes,
    }
    whole = load_model(scenario_from_dict(raw, str(folder / "s.yaml")))
    assert whole.population is not None
    hard = np.char.startswith(whole.population.problem, "hard")
    spread = np.arange(len(hard)) / 10_000
    return load_model(whole.scenario, replace(whole.population, scores={DIFFICULTY: np.where(hard, 0.8, 0.2) + spread}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("peak")
    write(place)
    return place


def accuracy_of(folder: Path, caps: list[int]) -> dict[str, dict[int, float]]:
    """By brute force: accuracy on each kind of problems under each cap."""
    made = expect_arms(expanded_model(model_of(folder, search={"scores": [DIFFICULTY], "caps": {"t": caps}})))
    hard = np.char.startswith(made.population.problem, "hard")
    return {
        kind: dict(zip(caps, made.correct[:, here].mean(axis=1).tolist(), strict=True))
        for kind, here in (("easy", ~hard), ("hard", hard))
    }


def test_accuracy_over_the_cap_is_what_the_model_said_on_its_way(folder: Path) -> None:
    """At every cap it is the share that is right by then less the share that is wrong again, as they were made."""
    caps = [100, 500, 700, 1000, 2000, 2600, 6000, 14_000, 25_000]
    found, count = accuracy_of(folder, caps), PROBLEMS * ATTEMPTS
    for kind, (right, wrong) in MIDDLES.items():
        begin, end = np.sort(quantiles(right, count)), np.sort(quantiles(wrong, count))
        for cap, accuracy in found[kind].items():
            assert accuracy == pytest.approx(((begin <= cap).sum() - (end <= cap).sum()) / count, abs=1e-9), (kind, cap)
    uncapped = expect_arms(model_of(folder, search={}))
    assert (uncapped.correct == 0).all()


def test_the_peak_is_found_on_easy_and_on_hard_problems(folder: Path) -> None:
    # Of two log-normals with one spread, the difference is greatest halfway between the medians, on a logarithmic scale.
    peaks = {kind: float(np.sqrt(a * b)) for kind, (a, b) in MIDDLES.items()}
    grid = accuracy_of(folder, sorted({round(100 * 1.03**k) for k in range(187)}))
    best = {kind: max(found.values()) for kind, found in grid.items()}
    plan = plan_model(model_of(folder))
    names = tuple(plan.scenario.arms)
    population = model_of(folder).population
    assert population is not None
    requests = replace(population, responses=plan.scenario.responses).as_requests()
    arm = np.array(names)[plan.policy.choose(requests, names)]
    hard = np.char.startswith(population.problem, "hard")
    for kind, here in (("easy", ~hard), ("hard", hard)):
        (name,) = set(arm[here])
        cap = int(name.split("@")[1])
        assert peaks[kind] / CLOSE <= cap <= peaks[kind] * CLOSE, (kind, cap, peaks[kind])
        assert accuracy_of(folder, [cap])[kind][cap] >= best[kind] - 0.005
    assert plan.predicted.accuracy is not None
    assert plan.predicted.accuracy.value == pytest.approx(np.mean(list(best.values())), abs=0.02)


def test_a_single_cap_for_all_peaks_between(folder: Path) -> None:
    """Without a score to tell problems apart: as good as the best of a fine grid."""
    caps = sorted({round(100 * 1.03**k) for k in range(187)})
    grid = accuracy_of(folder, caps)
    best = max((grid["easy"][cap] + grid["hard"][cap]) / 2 for cap in caps)
    search = {"scores": [], "caps": {"t": {"from": 100, "to": 25_000}}}
    model = model_of(folder, search=search)
    assert model.scenario.targets is not None
    found = expectations_of_space(model, model.scenario.targets)
    assert (found.correct @ found.population.weight).max() >= best - 0.003


def test_more_waiting_than_is_good_is_not_planned() -> None:
    """Budget forcing that goes on and on loses right answers: of a range of least tokens none beyond the peak is taken."""
    raw: dict[str, Any] = {
        "name": "waiting",
        "workload": {
            "arrivals": {"process": "poisson", "rate_per_s": 2.0},
            "requests": 100,
            "sources": {"all": {"problem_set": "math", "subset": "aime24"}},
        },
        "deployments": {"web": api(1.0)},
        "arms": {"t": {"profile": "math/sky-t1-32b", "deployment": "web"}},
        "search": {
            "scores": [],
            "strategies": {"t": ["BudgetForcing(min_tokens='500..30000', extensions=8)"]},
        },
        "targets": {"maximize": "accuracy"},
    }
    model = load_model(scenario_from_dict(raw))
    assert model.scenario.targets is not None
    found = expectations_of_space(model, model.scenario.targets)
    grid = [f"BudgetForcing(min_tokens={round(500 * 1.25**k)}, extensions=8)" for k in range(19)]
    raw["search"]["strategies"]["t"] = grid
    fine = expect_arms(expanded_model(load_model(scenario_from_dict(raw))))
    over_all = fine.correct @ fine.population.weight
    assert 0 < int(over_all.argmax()) < len(grid) - 1  # it rises, peaks and falls
    assert (found.correct @ found.population.weight).max() >= over_all.max() - 0.002


# ------------------------------------------------------------------------------------------- answers asked for on the way


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("easy-0,99,10,1", r"forced.csv: row 1: got 'easy-0 attempt 99'; expected an attempt of the profile's"),
        ("nobody,0,10,1", r"forced.csv: row 1: got 'nobody attempt 0'; expected an attempt of the profile's"),
        ("easy-0,0,40001,1", r"thinking_tokens, row 1: got 40001; expected at most the 40,000 tokens"),
        ("easy-0,0,-1,1", r"column thinking_tokens, row 1: got -1\.0; expected a whole number of tokens, at least 0"),
        ("easy-0,0,10,maybe", r"column correct, row 1"),
        (
            "easy-0,0,10,1\neasy-0,0,10,0",
            r"got 'easy-0 attempt 0 after 10 tokens'; expected each place of an attempt once",
        ),
    ],
)
def test_answers_on_the_way_that_cannot_be_are_refused(tmp_path: Path, row: str, said: str) -> None:
    write(tmp_path)
    (tmp_path / "thinker" / "forced.csv").write_text(f"problem,attempt,thinking_tokens,correct\n{row}\n")
    with pytest.raises(InputError, match=said):
        load_profile(tmp_path / "thinker")


def test_answers_on_the_way_need_to_say_whose(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "thinker" / "forced.csv").write_text("problem,thinking_tokens,correct\neasy-0,5,1\n")
    with pytest.raises(InputError, match=r"expected a column attempt beside correct"):
        load_profile(tmp_path / "thinker")
