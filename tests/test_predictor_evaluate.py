"""``ttc-sim predictor evaluate``: the data it takes, baselines, routers in a scenario, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import sparse
from typer.testing import CliRunner

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.files.tables import write_table
from ttc_sim.measured.problem_sets import load_problem_set
from ttc_sim.optimizer.routers import route_in_scenario
from ttc_sim.policies import Always
from ttc_sim.predictor import Predictor
from ttc_sim.predictor.judging.baselines import available, baselines, fit_logistic, folds_of
from ttc_sim.predictor.judging.card_figures import card_figures, training_rates
from ttc_sim.predictor.judging.evaluate import evaluate_predictor
from ttc_sim.predictor.judging.measured import data_models, heads_like, read_measured
from ttc_sim.predictor.judging.metrics import auroc
from ttc_sim.predictor.judging.shipped import shipped_scores
from ttc_sim.predictor.running.session import SHIPPED, Scores

WORDS = ["sum", "product", "integral", "river", "cell", "law", "treaty", "prime", "graph", "energy"]


def write(folder: Path, table: pl.DataFrame, name: str) -> Path:
    path = folder / name
    write_table(table, path)
    return path


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    """Problems whose first word says how hard they are, with one attempt of a weak and three of a strong model."""
    rng = np.random.default_rng(1)
    kind = rng.integers(0, len(WORDS), 300)
    prompts = [f"{WORDS[k]} question number {i} about {WORDS[rng.integers(10)]}" for i, k in enumerate(kind)]
    problems = pl.DataFrame({"id": range(300), "prompt": prompts, "category": [WORDS[k] for k in kind]})
    easy = 1 - kind / 10
    rows = [(i, "tiny", float(rng.uniform() < 0.8 * easy[i])) for i in range(300)]
    rows += [(i, "huge", float(rng.uniform() < 0.2 + 0.8 * easy[i])) for i in range(300) for _ in range(3)]
    attempts = pl.DataFrame(rows, schema=["id", "model", "correct"], orient="row")
    return write(tmp_path, problems, "problems.parquet"), write(tmp_path, attempts, "attempts.csv")


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["predictor", "evaluate", *(str(one) for one in arguments)], catch_exceptions=True)


def test_the_command_writes_what_it_promises(tables: tuple[Path, Path], tmp_path: Path) -> None:
    problems, attempts = tables
    out, plot = tmp_path / "figures.json", tmp_path / "plot.png"
    asked = ("--problems", problems, "--attempts", attempts, "--weak", "tiny", "--strong", "huge", "--resamples", 200)
    got = run(*asked, "--json", out, "--plot", plot)
    assert got.exit_code == 0, got.output
    figures = json.loads(out.read_text())
    assert set(figures["models"]) == {"tiny", "huge"}
    for one in figures["models"].values():
        for name in ("auroc", "brier", "brier_constant", "calibration_error"):
            assert one[name]["low"] <= one[name]["value"] <= one[name]["high"]
        assert one["head"] == "1 - difficulty"  # the shipped predictor knows neither
        assert "the data evaluated" in one["rate_from"]
        parts = one["by_novelty"]
        assert sum(part["problems"] for part in parts.values()) == one["problems"] == 300
        whole = sum(part["problems"] * (part["brier"]["value"] or 0) for part in parts.values()) / 300
        assert min(part["problems"] for part in parts.values()) < 20 or whole == pytest.approx(one["brier"]["value"])
    assert "familiar" in got.output
    for name in ("apgr", "cpt50", "cpt80", "oracle_gap"):
        router = figures["router"][name]
        assert router["low"] <= router["value"] <= router["high"]
    assert figures["router"]["routed_by"] == "difficulty"
    assert plot.read_bytes().startswith(b"\x89PNG")
    # Same seed, same bytes.
    assert run(*asked, "--json", tmp_path / "again.json").exit_code == 0
    assert (tmp_path / "again.json").read_bytes() == out.read_bytes()
    if available():
        assert set(figures["baselines"]) == {
            "constant_per_category",
            "prompt_length",
            "tfidf_logistic",
            "nearest_neighbours",
        }
        # The category says it all here; the length says nothing.
        area = {name: found["models"]["tiny"]["auroc"]["value"] for name, found in figures["baselines"].items()}
        assert area["constant_per_category"] > 0.75
        assert area["tfidf_logistic"] > 0.7
        assert area["prompt_length"] < 0.65


def test_repeated_attempts_count_as_the_share_that_was_right(tables: tuple[Path, Path]) -> None:
    data = read_measured(*tables)
    table = pl.read_csv(tables[1]).filter(pl.col("model") == "huge").group_by("id").agg(pl.col("correct").mean())
    expected = dict(table.iter_rows())
    assert data.share("huge") == pytest.approx([expected[int(key)] for key in data.problem])
    assert (data.tried["huge"] == 3).all()


def test_pairs_side_by_side_are_read_as_two_models(tmp_path: Path) -> None:
    table = pl.DataFrame(
        {
            "dataset": ["a", "a", "b"],
            "problem_id": ["1", "2", "1"],
            "prompt": ["x", "y", "z"],
            "weak_correct": [True, False, False],
            "strong_correct": [True, True, False],
        }
    )
    path = write(tmp_path, table, "pairs.parquet")
    data = read_measured(path, path)
    assert data.problem == ("a/1", "a/2", "b/1")
    assert data.share("weak").tolist() == [1, 0, 0]
    assert data.share("strong").tolist() == [1, 1, 0]
    assert len(read_measured(path, path, subset="b")) == 1


def test_models_are_found_by_the_datas_names_and_by_profiles() -> None:
    heads = Predictor.load().score(["x"]).p
    assert heads_like("llama-3.1-8b-instruct", heads) == ["mmlu-pro/llama-3.1-8b-instruct"]
    assert heads_like("sky-t1-math-corrupt-0.2-32b", heads) == ["math/sky-t1-32b"]
    assert heads_like("unheard-of", heads) == []
    known = ["llama-3.1-8b-instruct", "sky-t1-math-corrupt-0.2-32b", "other"]
    assert data_models("mmlu-pro/llama-3.1-8b-instruct", known) == ["llama-3.1-8b-instruct"]
    assert data_models("math/sky-t1-32b", known) == ["sky-t1-math-corrupt-0.2-32b"]


def test_the_constant_is_the_training_rate_where_the_card_names_it(tmp_path: Path) -> None:
    (tmp_path / "card.yaml").write_text(
        "heads:\n  p:mine: {rate: 0.25, auroc: 0.7}\nmetrics: {a: {other: {rate: 0.5}}}\n"
    )
    assert training_rates(tmp_path / "model.onnx") == {"mine": 0.25, "other": 0.5}
    assert training_rates(tmp_path / "elsewhere" / "model.onnx") == {}
    assert card_figures(SHIPPED)["mmlu-pro/llama-3.1-8b-instruct"]["brier"] < 0.25


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"correct": [2.0] * 4}, "column correct, row 1: got 2.0; expected 0 or 1"),
        ({"correct": ["maybe"] * 4}, "column correct, row 1: got 'maybe'; expected 0 or 1"),
        ({"correct": [1.0, None, 0.0, 1.0]}, "1 empty values"),
        ({"correct": [float("nan")] * 4}, "column correct, row 1: got nan"),
        ({"outcome": [1, 0, 1, 0]}, "a column named correct or is_correct or passed"),
        ({"id": ["p", "q", "p", "q"]}, "problems that stand in"),
    ],
)
def test_bad_tables_are_refused_in_one_line(tmp_path: Path, change: dict[str, list[Any]], says: str) -> None:
    problems = write(tmp_path, pl.DataFrame({"id": ["a", "b"], "prompt": ["x", "y"]}), "p.jsonl")
    table: dict[str, list[Any]] = {"id": ["a", "b"] * 2, "model": ["m", "m", "n", "n"], "correct": [1.0, 0.0, 1.0, 1.0]}
    if "outcome" in change:
        del table["correct"]
    attempts = write(tmp_path, pl.DataFrame({**table, **change}), "a.parquet")
    with pytest.raises(InputError) as refused:
        read_measured(problems, attempts)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_bad_questions_are_refused_in_one_line(tables: tuple[Path, Path], tmp_path: Path) -> None:
    def ask(**options: Any) -> str:
        with pytest.raises(InputError) as refused:
            evaluate_predictor(*tables, with_baselines=False, resamples=100, **options)
        assert "\n" not in str(refused.value)
        return str(refused.value)

    assert "another model than --weak" in ask(weak="tiny", strong="tiny")
    assert "both --weak and --strong" in ask(weak="tiny")
    for folder in (".", "/", ".."):
        assert ask(model=folder).startswith(f"{folder}: ")
    assert "PGR is undefined" in ask(weak="huge", strong="tiny")
    assert "'tiny' (nearest of huge, tiny)" in ask(weak="tinny", strong="huge")
    # Their keys are plain numbers, as MMLU-Pro's are, but not of its categories.
    assert "problems of a shipped problem set" in ask(out_of_fold=True)
    table = pl.read_csv(tables[1])
    split = table.filter((pl.col("model") == "tiny") == (pl.col("id") < 150))
    apart = write(tmp_path, split, "apart.csv")
    with pytest.raises(InputError, match="two models with attempts on the same problems"):
        evaluate_predictor(tables[0], apart, weak="tiny", strong="huge", with_baselines=False, resamples=100)
    empty = write(tmp_path, table.clear(), "empty.csv")
    with pytest.raises(InputError, match="at least one row"):
        evaluate_predictor(tables[0], empty)


def test_without_scikit_learn_the_baselines_are_skipped_and_said_so(
    tables: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ttc_sim.predictor.judging.baselines.available", lambda: False)
    report = evaluate_predictor(*tables, resamples=100)
    assert not report.baselines
    assert any("pip install 'ttc-sim[train]'" in note for note in report.notes)


def test_scores_without_novelty_are_not_split_by_it(tables: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    scored = Predictor.load().score(read_measured(*tables).prompt)
    novelty = np.where(np.arange(300) % 3 == 0, 0.5, 0.49)
    monkeypatch.setattr(Predictor, "score", lambda *_: replace(scored, novelty=novelty))
    parts = evaluate_predictor(*tables, with_baselines=False, resamples=100).models["huge"].by_novelty
    assert parts is not None
    assert {name: one.problems for name, one in parts.items()} == {"familiar": 200, "novel": 100}
    monkeypatch.setattr(Scores, "table", lambda self: pl.DataFrame({"difficulty": self.difficulty}))
    report = evaluate_predictor(*tables, with_baselines=False, resamples=100)
    assert report.models["huge"].by_novelty is None
    assert "by_novelty" not in report.as_json()["models"]["huge"]  # type: ignore[index]


# ---------------------------------------------------------------------------- baselines


def test_folds_keep_equal_texts_together_and_follow_the_seed() -> None:
    texts = [f"text {i % 400}" for i in range(1000)]
    fold = folds_of(texts, seed=1)
    assert (fold[:400] == fold[400:800]).all()
    assert np.bincount(fold).min() > 100
    assert (fold != folds_of(texts, seed=2)).any()


def test_logistic_regression_is_scikit_learns() -> None:
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed")
    rng = np.random.default_rng(3)
    dense = rng.uniform(size=(120, 30)) * (rng.uniform(size=(120, 30)) < 0.3)
    features = sparse.csr_matrix(dense)
    share = np.column_stack([rng.integers(0, 4, 120) / 3, rng.integers(0, 2, 120)])
    share[:20, 1] = np.nan
    weight, bias = fit_logistic(features, share, 2.0)
    for k in range(2):
        rows = np.flatnonzero(~np.isnan(share[:, k]))
        both = np.vstack([dense[rows], dense[rows]])
        fitted = linear.LogisticRegression(C=2.0, tol=1e-8, max_iter=1000).fit(
            both, np.repeat([1, 0], len(rows)), sample_weight=np.concatenate([share[rows, k], 1 - share[rows, k]])
        )
        assert weight[:, k] == pytest.approx(fitted.coef_[0], abs=0.02)
        assert bias[k] == pytest.approx(fitted.intercept_[0], abs=0.02)


def test_baselines_do_not_see_what_they_predict() -> None:
    if not available():
        pytest.skip("scikit-learn is not installed")
    rng = np.random.default_rng(4)
    prompts = [f"{i} {rng.integers(10**9)}" for i in range(200)]
    noise = {"m": rng.integers(0, 2, 200).astype(float)}
    for found in baselines(prompts, [""] * 200, noise, folds_of(prompts)).values():
        assert 0.3 < auroc(found["m"], noise["m"]) < 0.7  # in sample it would be near 1


def test_a_category_left_out_whole_gets_the_overall_rate() -> None:
    if not available():
        pytest.skip("scikit-learn is not installed")
    group = [WORDS[i % 10] for i in range(200)]
    right = np.array([float(i % 10 < 5) for i in range(200)])
    prompts = [f"{name} {i}" for i, name in enumerate(group)]
    fold = folds_of(group)
    found = baselines(prompts, group, {"m": right}, fold)["constant_per_category"]["m"]
    for k in np.unique(fold):
        assert found[fold == k] == pytest.approx(right[fold != k].mean())


# ---------------------------------------------------------------------------- measured data


def test_scores_out_of_fold_are_worse_than_those_of_problems_learnt_from(shared: Path) -> None:
    files = shared / "mmlu-pro" / "problems.parquet", shared / "mmlu-pro" / "attempts.parquet"
    asked = {"weak": "llama-3.1-8b-instruct", "strong": "mmlu-pro/llama-3.1-70b-instruct", "with_baselines": False}
    honest = evaluate_predictor(*files, out_of_fold=True, resamples=100, **asked)  # type: ignore[arg-type]
    learnt = evaluate_predictor(*files, resamples=100, **asked)  # type: ignore[arg-type]
    model = "llama-3.1-8b-instruct"
    assert honest.models[model].head == "mmlu-pro/llama-3.1-8b-instruct"
    assert honest.models[model].quality.auroc.high < learnt.models[model].quality.auroc.low
    parts = honest.models[model].by_novelty
    assert parts is not None
    scores = load_problem_set("mmlu-pro").problems.select("problem", "novelty", "p:mmlu-pro/llama-3.1-8b-instruct")
    outcomes = (
        pl.read_parquet(files[1]).filter(pl.col("model") == model).select("correct", problem=pl.col("problem_id"))
    )
    joined = scores.join(outcomes.cast({"problem": pl.String}), on="problem")
    for name, part in (
        ("familiar", joined.filter(pl.col("novelty") < 0.5)),
        ("novel", joined.filter(pl.col("novelty") >= 0.5)),
    ):
        found = parts[name]
        error = (part["p:mmlu-pro/llama-3.1-8b-instruct"] - part["correct"].cast(pl.Float64)) ** 2
        assert found.problems == len(part) > 400
        assert found.brier.low < found.brier.value < found.brier.high
        assert found.brier.value == pytest.approx(error.mean(), abs=1e-6)
    assert any("this is a training score" in note for note in learnt.notes)
    assert not any("training score" in note for note in honest.notes)
    assert honest.router is not None
    assert 0.5 < honest.router.routing.apgr.value < 0.7


def test_the_ends_of_a_router_are_the_two_models_alone(shared: Path) -> None:
    files = shared / "mmlu-pro" / "problems.parquet", shared / "mmlu-pro" / "attempts.parquet"
    scenario = ttc.load_scenario("qa-gateway").model_copy(update={"replications": 2})
    routed = route_in_scenario(
        scenario,
        *files,
        "llama-3.1-8b-instruct",
        "gemini-1.5-pro-002",
        scores=shipped_scores(),
        shares=(0.0, 0.5, 1.0),
    )
    assert (routed.weak_arm, routed.strong_arm) == ("llama-8b", "gemini")
    assert routed.curve is None  # a GPU pool has no price a request
    accuracy = [point.accuracy.value for point in routed.points]
    assert accuracy[0] < accuracy[1] < accuracy[2]
    assert [round(point.strong_share, 2) for point in routed.points] == [0, 0.5, 1]
    alone = ttc.simulate(scenario, Always("gemini")).summary()
    assert routed.points[-1].cost_usd_per_request.value == pytest.approx(alone.cost_usd_per_request.value, rel=0.02)
    assert routed.points[-1].latency_p95_s.value == pytest.approx(alone.latency_s["p95"].value, rel=0.05)
    with pytest.raises(InputError, match="a model that one of the arms serves"):
        route_in_scenario(scenario, *files, "mathstral-7b", "gemini-1.5-pro-002")


def test_the_routellm_pairs_run_as_they_are(shared: Path) -> None:
    pairs = shared / "routellm" / "responses.parquet"
    report = evaluate_predictor(
        pairs, pairs, weak="weak", strong="strong", subset="gsm8k", with_baselines=False, resamples=100
    )
    assert report.router is not None
    assert report.router.routing.strong.value > report.router.routing.weak.value
