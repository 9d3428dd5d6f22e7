"""Predictors with a text encoder: the graph against a plain reading of BERT, training, running, bad files."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save_file
from scipy.special import erf
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from typer.testing import CliRunner

from tests.test_predictor import KINDS, PROMPTS, sums
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.measured.folders import find_folder
from ttc_sim.measured.problem_sets import load_problem_set
from ttc_sim.measured.profiles import load_profile
from ttc_sim.policies import NOVEL
from ttc_sim.predictor import Predictor
from ttc_sim.predictor.judging.card_figures import card_path
from ttc_sim.predictor.judging.drift import check_drift
from ttc_sim.predictor.learning import embedding, encoding, network, text_encoder, train
from ttc_sim.predictor.learning.calibration import predict
from ttc_sim.predictor.learning.card import Origin, write_model
from ttc_sim.predictor.learning.data import read_training_set
from ttc_sim.predictor.learning.text_encoder import FILES, read_text_encoder, vectors_of
from ttc_sim.predictor.reading.tokens import MAX_TOKENS, Tokenizer
from ttc_sim.predictor.running.session import TIERS
from ttc_sim.scenario import load_scenario
from ttc_sim.workload.population import load_population

F64 = NDArray[np.float64]
WIDTH, INNER, LAYERS, HEADS, LONGEST = 16, 32, 2, 4, 512
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghijklmnopqrstuvwxyz0123456789", *(f"##{c}" for c in "0123456789"))


def in_8_bits(rng: np.random.Generator, rows: int, columns: int, by: int) -> NDArray[np.float32]:
    """Random weights that 8 bits hold exactly: every slice along the axis has a whole number of its scale, the largest 127."""
    whole = rng.integers(-127, 128, (rows, columns))
    first = (slice(None), 0) if by == 1 else (0, slice(None))
    whole[first] = 127
    scale = 2.0 ** rng.integers(-11, -9, rows if by == 1 else columns)  # powers of two: nothing is lost by them
    return np.asarray(whole * (scale[:, None] if by == 1 else scale), dtype=np.float32)


def write_bert(
    folder: Path, seed: int = 0, longest: int = LONGEST, known: int | None = None
) -> dict[str, NDArray[np.float32]]:
    """Files of a small BERT with random weights, and a tokenizer of letters, digits and a few words; the weights."""
    rng = np.random.default_rng(seed)
    words = [*WORDS, *(word for kind in KINDS for word in kind.replace(":", "").split())]
    vocabulary = {word: k for k, word in enumerate(dict.fromkeys(words))}
    weights = {
        "embeddings.word_embeddings.weight": in_8_bits(rng, known or len(vocabulary), WIDTH, 1) * 8,
        "embeddings.position_embeddings.weight": rng.normal(0, 0.1, (longest, WIDTH)).astype(np.float32),
        "embeddings.token_type_embeddings.weight": rng.normal(0, 0.1, (2, WIDTH)).astype(np.float32),
    }
    norms = ["embeddings.LayerNorm"]
    for k in range(LAYERS):
        name = f"encoder.layer.{k}."
        norms += [f"{name}attention.output.LayerNorm", f"{name}output.LayerNorm"]
        for part, out, into in (
            *((f"attention.self.{one}", WIDTH, WIDTH) for one in ("query", "key", "value")),
            ("attention.output.dense", WIDTH, WIDTH),
            ("intermediate.dense", INNER, WIDTH),
            ("output.dense", WIDTH, INNER),
        ):
            weights[f"{name}{part}.weight"] = in_8_bits(rng, out, into, 1) * 4
            weights[f"{name}{part}.bias"] = rng.normal(0, 0.3, out).astype(np.float32)
    for name in norms:
        weights[f"{name}.weight"] = rng.uniform(0.5, 1.5, WIDTH).astype(np.float32)
        weights[f"{name}.bias"] = rng.normal(0, 0.2, WIDTH).astype(np.float32)
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    config = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "pad_token_id": 0,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "layer_norm_eps": 1e-12,
    }
    (folder / "config.json").write_text(json.dumps(config))
    made = Library(models.WordPiece(vocabulary, unk_token="[UNK]"))  # a token of text
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.save(str(folder / "tokenizer.json"))
    return weights


def plain_bert(weights: dict[str, NDArray[np.float32]], ids: list[int]) -> F64:
    """The mean vector of one text, straight from the definition of BERT, a token and a head at a time, in float64."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}

    def norm(v: F64, name: str) -> F64:
        return np.asarray((v - v.mean()) / np.sqrt(v.var() + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"])

    def linear(v: F64, name: str) -> F64:
        return np.asarray(w[f"{name}.weight"] @ v + w[f"{name}.bias"])

    tables = [w[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")]
    x = [norm(tables[0][t] + tables[1][at] + tables[2][0], "embeddings.LayerNorm") for at, t in enumerate(ids)]
    size = WIDTH // HEADS
    for k in range(LAYERS):
        name = f"encoder.layer.{k}."
        q, key, value = ([linear(v, f"{name}attention.self.{one}") for v in x] for one in ("query", "key", "value"))
        after = []
        for at, own in enumerate(x):
            mixed = np.zeros(WIDTH)
            for head in range(HEADS):
                cut = slice(head * size, (head + 1) * size)
                score = np.exp([q[at][cut] @ other[cut] / np.sqrt(size) for other in key])
                mixed[cut] = sum(s * v[cut] for s, v in zip(score / score.sum(), value, strict=True))
            v = norm(own + linear(mixed, f"{name}attention.output.dense"), f"{name}attention.output.LayerNorm")
            wide = linear(v, f"{name}intermediate.dense")
            wide = wide * (1 + erf(wide / np.sqrt(2))) / 2
            after.append(norm(v + linear(wide, f"{name}output.dense"), f"{name}output.LayerNorm"))
        x = after
    return np.asarray(np.mean(x, axis=0))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    write_bert(folder)
    return folder


def test_the_graph_is_a_bert(tmp_path: Path) -> None:
    weights = write_bert(tmp_path / "bert", seed=5)
    encoder = read_text_encoder(tmp_path / "bert")
    prompts = ["count the beans", "", "x1y22z", "tell a tale of town " * 30, "Ünïcode 日本"]
    tokens = Tokenizer.of(encoder.tokenizer, "here")(prompts)
    found = vectors_of(encoder, prompts, 1, lambda _: None)
    for row, ids in enumerate(tokens.tolist()):
        assert found[row] == pytest.approx(plain_bert(weights, [t for t in ids if t]), abs=2e-4)
    # Neither the other prompts of a batch nor the number of workers matter, nor whether the files are packed.
    alone = np.vstack([vectors_of(encoder, [prompt], 1, lambda _: None) for prompt in prompts])
    assert found == pytest.approx(alone, abs=1e-5)
    with zipfile.ZipFile(tmp_path / "bert.zip", "w") as packed:
        for name in FILES:
            packed.write(tmp_path / "bert" / name, name)
    again = vectors_of(read_text_encoder(tmp_path / "bert.zip"), prompts, 2, lambda _: None)
    assert again.tobytes() == found.tobytes()


def test_of_long_prompts_both_ends_are_read(bert: Path) -> None:
    tokenizer = Tokenizer.of(read_text_encoder(bert).tokenizer, "here")
    short, long = "beans " * 3, "beans " * 400 + "root " * 127
    tokens = tokenizer([short, long])
    assert tokens.shape == (2, MAX_TOKENS)
    assert (tokens[0] > 0).sum() == 5
    both = tokenizer(["beans", "root"])
    assert set(tokens[1, 1:128].tolist()) == {int(both[0, 1])}
    assert set(tokens[1, 128:-1].tolist()) == {int(both[1, 1])}
    assert tokenizer(["a\ud800b"]).shape == (1, 5)  # a lone surrogate is one unknown character
    assert tokenizer([]).shape == (0, 1)


def test_what_was_read_before_an_interruption_is_not_read_again(
    tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_encoder, "_CHUNK", 16)
    monkeypatch.setattr("ttc_sim.base.progress._TOLD_EVERY_S", 0.0)
    encoder, prompts = read_text_encoder(bert), sums(4, 100, KINDS)[0]["prompt"].to_list()
    whole = vectors_of(encoder, prompts, 1, lambda _: None)
    said: list[str] = []

    def interrupting(line: str) -> None:
        said.append(line)
        if "64 of 100" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vectors_of(encoder, prompts, 1, interrupting, tmp_path / "kept")
    assert "64 of 100" in said[-1]
    again: list[str] = []
    assert vectors_of(encoder, prompts, 1, again.append, tmp_path / "kept").tobytes() == whole.tobytes()
    assert [line.split()[-4] for line in again] == ["64", "80", "96", "100"]
    # Other prompts, or another encoder, are not taken for these.
    write_bert(tmp_path / "other", seed=9)
    others = vectors_of(read_text_encoder(tmp_path / "other"), prompts, 1, again.append, tmp_path / "kept")
    assert np.abs(others - whole).max() > 0.01
    assert len(again) == 4 + 1 + 7


def run_train(folder: Path, bert: Path, out: str, workers: int) -> Any:
    files = ["--problems", str(folder / "p.csv"), "--attempts", str(folder / "a.csv"), "--encoder", str(bert)]
    more = ["--tier", "encoder", "--out", str(folder / out), "--workers", str(workers)]
    return CliRunner().invoke(app, ["predictor", "train", *files, *more])


def test_a_predictor_with_a_text_encoder(tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, table in zip(("p.csv", "a.csv"), sums(1, 200, KINDS), strict=True):
        table.write_csv(tmp_path / name)
    for out, workers in (("m.onnx", 1), ("again.onnx", 2)):
        got = run_train(tmp_path, bert, out, workers)
        assert got.exit_code == 0, got.output
    assert (tmp_path / "m.onnx").read_bytes() == (tmp_path / "again.onnx").read_bytes()
    assert not list(tmp_path.glob(".*partial*"))
    card = yaml.safe_load(card_path(tmp_path / "m.onnx").read_text())
    assert f"{WIDTH} dimensions of a frozen text encoder (2 layers of {WIDTH}" in card["model"]

    predictor = Predictor.load(tmp_path / "m.onnx", device="cpu")
    together = predictor.score(PROMPTS).table().to_numpy()
    alone = np.vstack([predictor.score([prompt]).table().to_numpy() for prompt in PROMPTS])
    assert together == pytest.approx(alone, rel=1e-3, abs=1e-5)
    rounded = Predictor.load(tmp_path / "m.onnx", device="cpu", half=True)
    assert rounded.half
    prompts = sums(2, 300, KINDS)[0]["prompt"].to_list()
    for model, p in predictor.score(prompts).p.items():
        moved = rounded.score(prompts).p[model] - p
        assert 0 < np.abs(moved).max() < 0.01
    assert len(predictor.score([]).table()) == 0

    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InputError, match=r"pip install 'ttc-sim\[encoder\]'"):
        Predictor.load(tmp_path / "m.onnx")


def test_the_graph_computes_what_was_trained(tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "RECIPES", (network.Recipe(16, 2, 0.2),))
    monkeypatch.setattr(network, "MEMBERS", 2)
    monkeypatch.setattr(embedding, "AXES", 8)
    for name, table in zip(("p.csv", "a.csv"), sums(3, 150, KINDS), strict=True):
        table.write_csv(tmp_path / name)
    sets, text = {"a": read_training_set(tmp_path / "p.csv", tmp_path / "a.csv")}, read_text_encoder(bert)
    trained = train.train(sets, text=text)
    write_model(tmp_path / "m.onnx", trained, sets, Origin("made up", "none"))
    prompts = [*sets["a"].prompts[:40], *PROMPTS]
    seen = trained.model.encoder(encoding.features_of(prompts, vectors_of(text, prompts, 1, lambda _: None)))
    scores = Predictor.load(tmp_path / "m.onnx", device="cpu").score(prompts)
    (expert,) = trained.model.experts
    assert expert.calibration is not None
    said = predict(expert.raw(seen), expert.calibration, expert.shrink)
    for k, head in enumerate(expert.heads):
        for kind in ("p", "tokens", "tokens_p50", "tokens_p90"):
            assert getattr(scores, kind)[head] == pytest.approx(getattr(said, kind)[:, k], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda at: (at / "config.json").unlink(), "config.json"),
        (lambda at: (at / "config.json").write_text("{"), "not JSON"),
        (lambda at: (at / "config.json").write_text('{"model_type": "gpt2"}'), "model_type"),
        (lambda at: (at / "model.safetensors").write_bytes(b"\x00" * 40), "weights of an encoder"),
        (lambda at: save_file({"a": np.zeros(2)}, at / "model.safetensors"), "embeddings.word_embeddings.weight"),
        (lambda at: (at / "tokenizer.json").write_text("{}"), "tokenizer.json of Hugging Face"),
        (lambda at: write_bert(at, longest=128), "position embeddings: got 128; expected at least 256"),
        (lambda at: write_bert(at, known=20), "word embeddings: got 20"),
    ],
)
def test_bad_encoders_are_named(tmp_path: Path, spoil: Any, said: str) -> None:
    write_bert(tmp_path / "bert")
    spoil(tmp_path / "bert")
    with pytest.raises(InputError, match=said):
        read_text_encoder(tmp_path / "bert")


def test_bad_commands_are_named(tmp_path: Path, bert: Path) -> None:
    for name, table in zip(("p.csv", "a.csv"), sums(1, 120, KINDS), strict=True):
        table.write_csv(tmp_path / name)
    files = ["--problems", str(tmp_path / "p.csv"), "--attempts", str(tmp_path / "a.csv"), "--encoder"]
    for extra, said in (
        ([str(bert)], "--tier encoder"),
        ([str(bert), "--tier", "huge"], "fast or encoder"),
        ([str(tmp_path / "none.zip"), "--tier", "encoder"], "none.zip"),
        ([str(tmp_path / "p.csv"), "--tier", "encoder"], "a folder, or a zip"),
    ):
        with pytest.raises(InputError, match=said):
            CliRunner().invoke(app, ["predictor", "train", *files, *extra], catch_exceptions=False)


# -------------------------------------------------------------------------------- the shipped one


def test_the_shipped_encoder_scores_anything() -> None:
    predictor, fast = Predictor.load("encoder", device="cpu"), Predictor.load("fast", device="cpu")
    assert predictor.heads == fast.heads
    scores = predictor.score(PROMPTS)
    for values in (scores.difficulty, *scores.p.values()):
        assert ((values > 0) & (values < 1)).all()
    assert TIERS["encoder"].stat().st_size < 48e6


def test_a_scenario_routes_by_the_scores_of_the_predictor_that_it_names(tmp_path: Path) -> None:
    scenario = load_scenario("qa-gateway")
    assert scenario.predictor == "fast"
    fast, encoder = (
        load_population(scenario.model_copy(update={"predictor": tier})).scores["difficulty"] for tier in TIERS
    )
    assert len(fast) == len(encoder)
    assert 0.8 < np.corrcoef(fast, encoder)[0, 1] < 0.999
    # A user's own problems may have scores by one predictor only.
    shipped = find_folder("math", "problem_set.yaml")
    shutil.copytree(shipped, tmp_path / "mine")
    (tmp_path / "mine" / "scores-encoder.parquet").unlink()
    assert "difficulty" in load_problem_set("mine", tmp_path).problems.columns
    with pytest.raises(InputError, match=r"scores-encoder\.parquet"):
        load_problem_set("mine", tmp_path, "encoder")


def test_logs_are_checked_against_the_scores_of_the_predictor_that_is_named(tmp_path: Path) -> None:
    sums(1, 120, KINDS)[0].write_ndjson(tmp_path / "log.jsonl")
    fast, encoder = (check_drift([tmp_path / "log.jsonl"], model=tier) for tier in TIERS)
    assert fast.origin == encoder.origin
    assert fast.moved
    assert encoder.moved
    before = [{test.of: test.reference for test in found.tests} for found in (fast, encoder)]
    assert before[0]["novelty"] != before[1]["novelty"]


@pytest.mark.parametrize("of", ["mmlu-pro", "reasoning-gym", "math"])
def test_the_shipped_encoder_is_worth_more_than_the_fast_model(of: str) -> None:
    """On problems that neither was trained on, by more than noise: problems are resampled."""
    tiers = [load_problem_set(of, None, tier).problems.filter(pl.col("novelty").is_not_null()) for tier in TIERS]
    fast, encoder = tiers
    assert fast["problem"].equals(encoder["problem"])
    gains = []
    for profile in (name.removeprefix("p:") for name in fast.columns if name.startswith("p:")):
        attempts = load_profile(profile).attempts.group_by("problem").agg(share=pl.col("correct").mean())
        share = fast.select("problem").join(attempts, on="problem", how="left", maintain_order="left")["share"]
        gains.append([((table[f"p:{profile}"] - share) ** 2).to_numpy() for table in tiers])
    gain = np.nanmean([fast_error - error for fast_error, error in gains], axis=0)
    rng = np.random.default_rng(0)
    means = [gain[rng.integers(0, len(gain), len(gain))].mean() for _ in range(1000)]
    assert np.quantile(means, 0.025) > 0


@pytest.mark.parametrize("tier", TIERS)
def test_one_in_twenty_new_problems_of_known_kinds_counts_as_novel(tier: str) -> None:
    for of in ("mmlu-pro", "reasoning-gym", "math"):
        novelty = load_problem_set(of, None, tier).problems["novelty"].drop_nulls().to_numpy()
        assert np.mean(novelty >= NOVEL) == pytest.approx(0.05, abs=0.01)
        assert 0.005 < np.mean(novelty == 1) < 0.02
