"""A predictor that takes a few graded examples into account: what moves, what does not, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars as pl
import pytest
import yaml
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit, logit
from typer.testing import CliRunner

from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.files.writing import write_atomically
from ttc_sim.measured.provenance import identify, said_by
from ttc_sim.predictor import Predictor, Scores
from ttc_sim.predictor.judging.card_figures import adapted_from, card_figures, card_path, card_scores
from ttc_sim.predictor.judging.evaluate import evaluate_predictor
from ttc_sim.predictor.learning import network, train
from ttc_sim.predictor.learning.adapting import adapt
from ttc_sim.predictor.learning.card import Origin, write_model
from ttc_sim.predictor.learning.data import read_training_set
from ttc_sim.predictor.learning.embedding import counts_of, scale
from ttc_sim.predictor.learning.graded import read_examples
from ttc_sim.predictor.learning.shifted_graph import landmarks, with_outputs
from ttc_sim.predictor.learning.shifting import Graded, Part, Shift, in_common, learn_shift, left_out, spread_of
from ttc_sim.predictor.reading.features import BUCKETS, featurize_rows
from ttc_sim.predictor.running.planned import planned_predictor
from ttc_sim.predictor.running.session import PER_MODEL, SHIPPED
from ttc_sim.scenario import load_scenario

MAVERICK, MISTRAL = "reasoning-gym/llama-4-maverick", "reasoning-gym/mistral-small-3.1-24b-instruct"
CHANCE = {MAVERICK: 0.9, MISTRAL: 0.6}
ELSEWHERE = [
    "What is 2 + 2?",
    "",
    "日本の首都はどこですか",
    "Find all real x with x^2 - 5x + 6 = 0.",
    "x" * 40_000,
    "Which of the following is a noble gas?\nA. Oxygen\nB. Argon\nC. Iron\nD. Chlorine",
]
GOLDEN = 0.6180339887498949  # its multiples lie evenly between whole numbers
SIGNS = ("owl", "reed", "eye", "jackal", "scarab", "ankh", "lotus", "ibis")


def tablet(k: int) -> str:
    """A prompt of a kind that the shipped predictor has never seen."""
    rng = np.random.default_rng(k)
    line = " ".join(rng.choice(SIGNS, 12))
    return f"Transliterate this hieroglyphic tablet, sign by sign, into consonants.\nTablet {k}: {line}\nWrite consonants only."


def riddle(k: int) -> str:
    rng = np.random.default_rng(k)
    return f"Knit pattern, row {k}: k{rng.integers(1, 9)} p{rng.integers(1, 9)} yo ssk. How many stitches remain after casting off?"


def graded(prompts: list[str], seed: int = 0, models: dict[str, float] = CHANCE) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Problems, and one attempt of each model at each, as many right as they should be; answers longer than is usual."""
    rng = np.random.default_rng(seed)
    keys = [f"t{k}" for k in range(len(prompts))]
    rows = [
        {
            "id": key,
            "model": model,
            "correct": int((k * GOLDEN + 0.1) % 1 < p),
            "output_tokens": int(rng.integers(4000, 6000)),
        }
        for k, key in enumerate(keys)
        for model, p in models.items()
    ]
    return pl.DataFrame({"id": keys, "prompt": prompts}), pl.DataFrame(rows)


def adapted(
    folder: Path, problems: pl.DataFrame, attempts: pl.DataFrame, model: str | Path = "fast", out: str = "m"
) -> Any:
    problems.write_parquet(folder / "p.parquet")
    attempts.write_parquet(folder / "a.parquet")
    return adapt(model, folder / "p.parquet", folder / "a.parquet", folder / f"{out}.onnx")


@pytest.fixture(scope="module")
def plain() -> Predictor:
    return Predictor.load("fast", device="cpu")


@pytest.fixture(scope="module")
def ten(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped predictor, adapted from the command line to ten tablets; the file."""
    folder = tmp_path_factory.mktemp("ten")
    problems, attempts = graded([tablet(k) for k in range(10)])
    problems.write_csv(folder / "p.csv")
    attempts.write_ndjson(folder / "a.jsonl")
    files = [
        "--problems",
        str(folder / "p.csv"),
        "--attempts",
        str(folder / "a.jsonl"),
        "--out",
        str(folder / "m.onnx"),
    ]
    got = CliRunner().invoke(app, ["predictor", "adapt", *files, "--origin", "our desk", "--licence", "CC0-1.0"])
    assert got.exit_code == 0, got.output
    assert "examples, each left out in turn" in got.output
    return folder / "m.onnx"


def same(a: Scores, b: Scores, models: tuple[str, ...]) -> bool:
    """To the last bit."""
    per_model = all(
        getattr(a, kind)[model].tobytes() == getattr(b, kind)[model].tobytes() for kind in PER_MODEL for model in models
    )
    return per_model and a.novelty.tobytes() == b.novelty.tobytes()


def test_only_what_is_like_the_examples_moves_and_only_for_models_that_were_graded(ten: Path, plain: Predictor) -> None:
    after = Predictor.load(ten, device="cpu")
    assert after.heads == plain.heads
    assert after.rates == plain.rates
    a, b = plain.score(ELSEWHERE), after.score(ELSEWHERE)
    assert same(a, b, plain.heads)
    assert a.difficulty.tobytes() == b.difficulty.tobytes()
    new = [tablet(k) for k in range(100, 140)]
    a, b = plain.score(new), after.score(new)
    assert same(a, b, tuple(set(plain.heads) - set(CHANCE)))
    for model, p in CHANCE.items():
        assert (np.abs(b.p[model] - p) < 0.6 * np.abs(a.p[model] - p)).all()
        for kind in ("tokens", "tokens_p50", "tokens_p90"):
            assert getattr(b, kind)[model] == pytest.approx(
                getattr(a, kind)[model] * (b.tokens[model] / a.tokens[model]), rel=1e-5
            )
        assert np.abs(np.log(b.tokens_p50[model] / 5000)).max() < np.abs(np.log(a.tokens_p50[model] / 5000)).min() / 2
    # Difficulty is the expected share of wrong answers: it moves with the chances that moved, if only by the weight of their set.
    gain = sum(b.p[model] - a.p[model] for model in CHANCE) / 11
    assert np.sign(a.difficulty - b.difficulty).tolist() == np.sign(gain).tolist()
    assert (np.abs(a.difficulty - b.difficulty) <= np.abs(gain) + 1e-6).all()
    # One by one or together; the empty prompt among them.
    mixed = ["", *new[:3], "x"]
    alone = pl.concat([after.score([prompt]).table() for prompt in mixed])
    assert after.score(mixed).table().to_numpy() == pytest.approx(alone.to_numpy(), rel=1e-4, abs=1e-6)
    assert len(after.score([]).table()) == 0


def test_more_examples_say_more(tmp_path: Path, plain: Predictor) -> None:
    new = [tablet(k) for k in range(200, 280)]

    def off(predictor: Predictor) -> float:
        scores = predictor.score(new)
        return float(np.mean([(scores.p[model] - p) ** 2 for model, p in CHANCE.items()]))

    found = [off(plain)]
    for count in (5, 10, 40):
        problems, attempts = graded([tablet(k) for k in range(count)], seed=1)
        adapted(tmp_path, problems, attempts)
        found.append(off(Predictor.load(tmp_path / "m.onnx", device="cpu")))
    assert found == sorted(found, reverse=True)
    assert found[-1] < found[0] / 20


def seen(file: Path, prompts: list[str], folder: Path) -> tuple[dict[str, NDArray[np.float64]], Any]:
    """All that a predictor says of prompts, and where they lie in it."""
    made = onnx.load(str(file))
    at = landmarks(made, file)
    (folder / "seen.onnx").write_bytes(with_outputs(made, [at.points, at.known]))
    names = ["p", "tokens", "tokens_p50", "tokens_p90", at.points, at.known]
    return Predictor.load(folder / "seen.onnx", device="cpu").outputs(prompts, names), at


def words_of(prompts: Sequence[str], at: Any) -> sparse.csr_matrix:
    return scale(counts_of(featurize_rows(prompts)), at.idf)


def test_the_graph_computes_the_shifts_of_several_types(tmp_path: Path, plain: Predictor) -> None:
    """Types of different sizes; where two gates are open, each counts by its part."""
    kinds = {"tablets": [tablet(k) for k in range(9)], "tablets too": [tablet(k) for k in range(50, 56)]}
    kinds["knitting"] = [riddle(k) for k in range(5)]
    prompts = [prompt for some in kinds.values() for prompt in some]
    problems, attempts = graded(prompts, seed=2)
    problems = problems.with_columns(task=pl.Series([name for name, some in kinds.items() for _ in some]))
    attempts = attempts.filter((pl.col("model") == MAVERICK) | (pl.col("id").str.slice(1).cast(pl.Int64) < 9))
    adapted(tmp_path, problems, attempts)
    asked = [*(tablet(k) for k in range(300, 305)), *(riddle(k) for k in range(300, 305)), *ELSEWHERE]
    before, at = seen(SHIPPED, asked, tmp_path)
    groups, notes = read_examples(tmp_path / "p.parquet", tmp_path / "a.parquet", plain.heads)
    assert notes == ()
    assert [(group.task_type, len(group.prompts)) for group in groups] == [
        ("knitting", 5),
        ("tablets", 9),
        ("tablets too", 6),
    ]
    known = before[at.known].max(axis=1)
    gates, chances, lengths = [], [], []
    for group in groups:
        found, _ = seen(SHIPPED, list(group.prompts), tmp_path)
        spread = spread_of(found["tokens_p50"], found["tokens_p90"])
        known_here = found[at.known].max(axis=1)
        z = logit(found["p"])
        shift = learn_shift(
            Graded(
                found[at.points],
                known_here,
                words_of(group.prompts, at),
                z,
                group.share,
                np.log(found["tokens_p50"]),
                spread,
                group.log_mean,
            )
        )
        likeness = shift.likeness(before[at.points])
        gates.append(shift.gate(likeness, known, words_of(asked, at)))
        chances.append(shift.chance(likeness))
        lengths.append(shift.tokens(likeness))
    together = np.maximum(np.sum(gates, axis=0), 1)
    assert together.max() > 1.9  # tablets are of two types here
    by = [np.einsum("tn,tnh->nh", np.array(gates) / together, np.array(part)) for part in (chances, lengths)]
    after = Predictor.load(tmp_path / "m.onnx", device="cpu").score(asked)
    for k, model in enumerate(plain.heads):
        assert after.p[model] == pytest.approx(expit(logit(before["p"][:, k]) + by[0][:, k]), abs=1e-5)
        for kind in ("tokens", "tokens_p50", "tokens_p90"):
            assert getattr(after, kind)[model] == pytest.approx(before[kind][:, k] * np.exp(by[1][:, k]), rel=1e-4)


# ------------------------------------------------------------------------------------- the shift


def some_examples(count: int, models: int, seed: int) -> Graded:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 6)) + 1
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    share = rng.integers(0, 3, (count, models)) / 2
    log_mean = rng.normal(6, 1, (count, models))
    share[0, 0] = log_mean[1, 0] = np.nan
    z, spread = rng.normal(size=(count, models)), rng.uniform(0.3, 1, (count, models))
    return Graded(
        points,
        np.zeros(count),
        sparse.csr_matrix((count, BUCKETS)),
        z,
        share,
        np.full((count, models), 5.0),
        spread,
        log_mean,
    )


def test_the_shift_is_the_likeliest_under_the_prior() -> None:
    """Against the same posterior written out over all observations at once, with nothing shared or whitened."""
    examples = some_examples(7, 3, seed=4)
    new = some_examples(5, 3, seed=5).points
    shift = learn_shift(examples)

    def prior(a: NDArray[np.float64], b: NDArray[np.float64], variance: float, own: bool) -> NDArray[np.float64]:
        """Covariance of (example, model) pairs, models within examples."""
        shared = 1 + a @ b.T + (np.eye(len(a)) if own else 0)
        return variance * (np.kron(shared, np.ones((3, 3))) + np.kron(np.ones(shared.shape), np.eye(3)))

    keep = ~np.isnan(examples.share).ravel()
    y, z = examples.share.ravel()[keep], examples.logit.ravel()[keep]
    k = prior(examples.points, examples.points, 1.0, own=True)[np.ix_(keep, keep)]
    across = prior(new, examples.points, 1.0, own=False)[:, keep]

    def loss(weights: NDArray[np.float64]) -> float:
        f = k @ weights
        return float(np.sum(np.logaddexp(0, z + f) - y * (z + f)) + weights @ f / 2)

    weights = minimize(loss, np.zeros(len(y)), method="BFGS", options={"gtol": 1e-9}).x
    shrunk = 1 / np.sqrt(1 + np.pi / 8)
    assert shift.chance(shift.likeness(new)).ravel() == pytest.approx(shrunk * (across @ weights), abs=1e-4)

    keep = ~np.isnan(examples.log_mean).ravel()
    off = (examples.log_mean - examples.log_tokens).ravel()[keep]
    noise = np.diag(examples.log_spread.ravel()[keep] ** 2)
    k = prior(examples.points, examples.points, 0.25, own=True)[np.ix_(keep, keep)]
    expected = prior(new, examples.points, 0.25, own=False)[:, keep] @ np.linalg.solve(k + noise, off)
    assert shift.tokens(shift.likeness(new)).ravel() == pytest.approx(expected, abs=1e-8)


def test_examples_that_come_out_as_predicted_move_nothing() -> None:
    examples = some_examples(6, 2, seed=6)
    shift = learn_shift(replace(examples, share=expit(examples.logit), log_mean=examples.log_tokens))
    for part in (shift.chance, shift.tokens):
        assert np.abs(part(shift.likeness(examples.points))).max() < 1e-9
    assert left_out(replace(examples, share=np.round(expit(examples.logit)))).before < 0.25


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_right_or_wrong_answers_alone_move_by_a_finite_amount_and_more_of_them_by_more(right: float) -> None:
    found = []
    for count in (1, 5, 50, 500):
        one = some_examples(2, 2, seed=7)
        many = one.rows(np.ones(count, dtype=np.int64))
        shift = learn_shift(replace(many, share=np.full((count, 2), right), log_mean=np.full((count, 2), np.nan)))
        found.append(float(np.abs(shift.chance(shift.likeness(one.points[1:]))).mean()))
        assert (np.sign(shift.chance(shift.likeness(one.points[1:]))) == (1 if right else -1)).all()
        assert not shift.tokens.graded.any()
    assert found == sorted(found)
    assert found[-1] < 10


def test_the_gate_is_shut_where_something_known_is_nearer_and_where_the_text_has_little_in_common() -> None:
    nothing = Part(np.zeros(2), 0.0, np.array([0.3, 0.0]), np.array([1.0, 0.0]))
    likeness = np.array([[0.5, 0.6], [0.5, 0.2], [0.9, 0.1], [0.3, 0.35]])
    assert nothing(likeness)[:, 1].tolist() == [0, 0, 0, 0]
    shift = Shift(np.zeros((2, 3)), np.array([0.4, 0.0], dtype=np.float32), 0.4, nothing, nothing)
    same = sparse.csr_matrix(np.array([[1.0, 0.0]] * 4))
    assert shift.gate(likeness, np.array([0.6, 0.45, 0.7, 0.9]), same).tolist() == pytest.approx([0, 0.5, 1, 0])
    less = sparse.csr_matrix(np.array([[0.0, 1.0], [0.25, 1.0], [0.375, 1.0], [0.5, 1.0]]))
    assert shift.gate(likeness, np.full(4, -0.5), less).tolist() == pytest.approx([0, 0, 0.5, 1], abs=1e-6)
    # Words and byte strings are of length 1 each: a text has 1 in common with itself.
    texts = sparse.csr_matrix(np.array([[1.0, 0, 1, 0], [1.0, 0, 0, 1], [0, 1.0, 1, 0]]))
    assert in_common(texts) == pytest.approx(np.quantile([0.5, 0.25, 0.25], 0.1))
    assert in_common(texts[:1]) == 1


def test_what_is_like_nothing_at_all_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A predictor of little knowledge: nearly everything is nearer to the examples than to what it knows."""
    monkeypatch.setattr(train, "RECIPES", (network.Recipe(8, 1, 0.2),))
    monkeypatch.setattr(network, "MEMBERS", 1)
    counts = [f"count the beans of {k} and {k % 7} now" for k in range(150)]
    problems, attempts = graded(counts, models={"a": 0.5, "b": 0.4})
    problems.write_csv(tmp_path / "p.csv")
    attempts.write_csv(tmp_path / "a.csv")
    sets = {"data": read_training_set(tmp_path / "p.csv", tmp_path / "a.csv")}
    write_model(tmp_path / "own.onnx", train.train(sets), sets, Origin("made up", "none"))
    problems, attempts = graded([tablet(k) for k in range(5)], models={"a": 1.0, "b": 0.0})
    adapted(tmp_path, problems, attempts, tmp_path / "own.onnx")
    before, after = (Predictor.load(tmp_path / name, device="cpu") for name in ("own.onnx", "m.onnx"))
    others = [*ELSEWHERE, *counts[:9], riddle(1), "A poem about the sea, please."]
    assert same(before.score(others), after.score(others), ("a", "b"))
    a, b = before.score([tablet(9)]), after.score([tablet(9)])
    assert b.p["a"] > a.p["a"]
    assert b.p["b"] < a.p["b"]


# ------------------------------------------------------------------------------------- files


def test_the_same_examples_give_the_same_bytes_in_any_order_and_under_any_key(ten: Path, tmp_path: Path) -> None:
    problems, attempts = graded([tablet(k) for k in range(10)])
    adapted(tmp_path, problems[::-1], attempts.sample(fraction=1, shuffle=True, seed=3))
    assert (tmp_path / "m.onnx").read_bytes() == ten.read_bytes()
    # A prompt that stands there twice is one example, with all attempts.
    twice = pl.concat([problems, problems.with_columns(pl.col("id") + "b")])
    half = attempts.with_columns(pl.col("id") + "b")
    done = adapted(tmp_path, twice, pl.concat([attempts, half]))
    assert (tmp_path / "m.onnx").read_bytes() == ten.read_bytes()
    assert done.learnt[0].examples == 10
    assert done.learnt[0].attempts == 40


def test_the_card_says_what_was_done_and_the_file_is_what_the_plan_will_name(ten: Path) -> None:
    card = yaml.safe_load(card_path(ten).read_text())
    said = card["adapted"][1]
    assert (said["of"], said["of_sha256"]) == ("fast", identify("fast").sha256)
    assert (said["data"], said["licence_of_data"]) == ("our desk", "CC0-1.0")
    one = said["task_types"]["examples"]
    assert (one["examples"], one["attempts"], one["models"]) == (10, 20, sorted(CHANCE))
    figures = one["examples_left_out_in_turn"]
    assert figures["brier_after"] < figures["brier_before"]
    assert len(said["models_unchanged"]) == 22
    before = yaml.safe_load(card_path(SHIPPED).read_text())
    assert {key: value for key, value in card.items() if key != "adapted"} == before
    # What reads cards finds in this one what it found before.
    assert adapted_from(ten) == ["fast"]
    assert card_figures(ten) == card_figures(SHIPPED)
    assert list(card_scores(ten)) == list(card_scores(SHIPPED))
    # A plan that was made with another is not carried out with it unasked; scores by it say whose they are.
    plan = load_scenario("qa-gateway")
    with pytest.raises(InputError, match="the predictor that the plan was made with"):
        planned_predictor(plan, ten)
    assert planned_predictor(plan, ten, other=True)[0] == ten
    pl.DataFrame({"prompt": [tablet(1)]}).write_csv(ten.with_name("new.csv"))
    scores = ten.with_name("scores.parquet")
    words = ["predictor", "score", str(ten.with_name("new.csv")), "--model", str(ten), "--out", str(scores)]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert said_by(scores) == identify(ten)


def test_what_was_adapted_is_adapted_again(ten: Path, tmp_path: Path) -> None:
    problems, attempts = graded([riddle(k) for k in range(8)], seed=3, models={MAVERICK: 0.0, MISTRAL: 0.0})
    done = adapted(tmp_path, problems, attempts.drop("output_tokens"), ten, "again")
    assert done.base.sha256 == identify(ten).sha256
    assert done.made.sha256 == identify(tmp_path / "again.onnx").sha256
    assert any("no output tokens" in note for note in done.notes)
    assert list(yaml.safe_load((tmp_path / "again.card.yaml").read_text())["adapted"]) == [1, 2]
    first, second = Predictor.load(ten, device="cpu"), Predictor.load(tmp_path / "again.onnx", device="cpu")
    tablets, riddles = [tablet(k) for k in range(400, 410)], [riddle(k) for k in range(400, 410)]
    assert same(first.score([*tablets, *ELSEWHERE]), second.score([*tablets, *ELSEWHERE]), first.heads)
    a, b = first.score(riddles), second.score(riddles)
    assert (b.p[MAVERICK] < a.p[MAVERICK] / 2).all()
    assert b.tokens[MAVERICK].tobytes() == a.tokens[MAVERICK].tobytes()
    # Nothing but what comes of them counts twice.
    problems, attempts = graded([tablet(k) for k in range(10)])
    done = adapted(tmp_path, problems, attempts, tmp_path / "again.onnx", "third")
    assert done.learnt[0].repeated == 10
    assert any("counts twice" in note for note in done.notes)


def test_a_report_says_that_its_predictor_was_adapted(ten: Path) -> None:
    problems, attempts = graded([tablet(k) for k in range(500, 530)])
    problems.write_csv(ten.with_name("p500.csv"))
    attempts.write_csv(ten.with_name("a500.csv"))
    files = ten.with_name("p500.csv"), ten.with_name("a500.csv")
    before, after = (evaluate_predictor(*files, model=model, with_baselines=False) for model in (SHIPPED, ten))
    assert any("was adapted" in note for note in after.notes)
    assert not any("was adapted" in note for note in before.notes)
    for model in CHANCE:
        assert after.models[model].quality.brier.value < before.models[model].quality.brier.value


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p, a: (p, a.with_columns(model=pl.lit("llama-4-mavrick"))), "nearest of|one of"),
        (lambda p, a: (p.head(4), a), "examples: got 4; expected at least 5"),
        (lambda p, a: (p.with_columns(prompt=pl.lit("one")), a), "examples: got 1; expected at least 5"),
        (lambda p, a: (p.drop("prompt"), a), "column for prompt"),
        (lambda p, a: (p, a.drop("correct")), "column for correct"),
        (lambda p, a: (p, a.with_columns(correct=pl.lit(2))), "0 or 1"),
        (lambda p, a: (p, a.with_columns(output_tokens=pl.lit(-3))), "whole number of tokens"),
        (lambda p, a: (p, a.with_columns(id=pl.lit("other"))), "keys of the problems"),
        (
            lambda p, a: (
                pl.DataFrame({"id": [f"t{k}" for k in range(501)], "prompt": [tablet(k) for k in range(501)]}),
                pl.DataFrame({"id": [f"t{k}" for k in range(501)]}).with_columns(model=pl.lit(MAVERICK), correct=1),
            ),
            "examples: got 501; expected at most 500",
        ),
    ],
)
def test_bad_examples_are_named_and_nothing_is_written(tmp_path: Path, change: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        adapted(tmp_path, *change(*graded([tablet(k) for k in range(6)])))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.parquet", "p.parquet"]


def test_a_type_with_few_examples_is_left_out_and_said_so(tmp_path: Path) -> None:
    problems, attempts = graded([*(tablet(k) for k in range(6)), riddle(1)])
    done = adapted(tmp_path, problems.with_columns(task=pl.Series(["tablets"] * 6 + ["knitting"])), attempts)
    assert [one.task_type for one in done.learnt] == ["tablets"]
    assert "knitting is left out: 1 of at least 5 different prompts" in done.notes


def test_a_column_for_each_model_and_shares_will_do(tmp_path: Path) -> None:
    """One file for both; a prompt in two types; nothing said of tokens; keys that are numbers."""
    wide = pl.DataFrame(
        {
            "id": range(12),
            "prompt": [tablet(k) for k in (*range(6), *range(6))],
            "category": ["tablets"] * 6 + ["also tablets"] * 6,
            "llama-4-maverick_correct": [1.0, 0.5, 1.0, 1.0, 0.25, 1.0] * 2,
            f"{MISTRAL}_correct": [0, 0, 0, 0, 0, 0] * 2,
        }
    )
    done = adapted(tmp_path, wide, wide)
    assert [(one.task_type, one.models, one.one_sided) for one in done.learnt] == [
        (name, (MAVERICK, MISTRAL), (MISTRAL,)) for name in ("also tablets", "tablets")
    ]
    assert not any(one.counted for one in done.learnt)
    assert any("no output tokens" in note for note in done.notes)
    before, after = (Predictor.load(name, device="cpu").score([tablet(77)]) for name in ("fast", tmp_path / "m.onnx"))
    assert after.p[MAVERICK] > before.p[MAVERICK]
    assert after.p[MISTRAL] < before.p[MISTRAL] + 0.1
    assert after.tokens[MAVERICK] == before.tokens[MAVERICK]


def test_bad_files_are_named(tmp_path: Path, ten: Path) -> None:
    problems, attempts = graded([tablet(k) for k in range(6)])
    with pytest.raises(InputError, match=r"ending in \.onnx"):
        adapt("fast", tmp_path / "p.csv", tmp_path / "a.csv", tmp_path / "m.bin")
    with pytest.raises(InputError, match="which this command reads"):
        adapt(ten, ten, ten, ten)
    with pytest.raises(InputError, match="existing ONNX file"):
        adapted(tmp_path, problems, attempts, tmp_path / "none.onnx")
    # A graph with the right inputs and outputs that measures no novelty.
    made = onnx.load(str(SHIPPED))
    for node in made.graph.node:
        if node.op_type == "ReduceMax":
            node.op_type = "ReduceMin"
    write_atomically(tmp_path / "other.onnx", made.SerializeToString())
    with pytest.raises(InputError, match="one search for the nearest training prompt"):
        adapted(tmp_path, problems, attempts, tmp_path / "other.onnx")
    made = onnx.load(str(ten))
    next(item for item in made.metadata_props if item.key == "adapted").value = "99999999999"
    write_atomically(tmp_path / "other.onnx", made.SerializeToString())
    with pytest.raises(InputError, match="'99999999999'; expected 1: so often"):
        adapted(tmp_path, problems, attempts, tmp_path / "other.onnx")
    assert not (tmp_path / "m.onnx").exists()
