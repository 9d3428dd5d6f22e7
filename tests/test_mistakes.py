"""Mistakes of many kinds, each of which ends in one line of ours: arguments, plans, targets, columns, shapes of models, graphs."""

from __future__ import annotations

import copy
import datetime
import json
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from tests.test_reading import line_of
from ttc_sim import load_plan, optimize
from ttc_sim.base.errors import InputError
from ttc_sim.base.shipped import PREDICTORS
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.work import single_stage
from ttc_sim.fidelity.measured_run import load_run
from ttc_sim.files.documents import read_yaml
from ttc_sim.files.tables import read_table
from ttc_sim.measured.building import build_profile
from ttc_sim.measured.problem_sets import load_problem_set
from ttc_sim.measured.problem_tables import read_problem_tables
from ttc_sim.measured.profiles import load_profile
from ttc_sim.measured.traffic import load_traffic
from ttc_sim.policies import (
    Always,
    Banded,
    LeastLoaded,
    Overflow,
    PerSource,
    Policy,
    Threshold,
    Utility,
    parse_policy,
)
from ttc_sim.predictor import Predictor
from ttc_sim.predictor.judging.logs import read_log
from ttc_sim.predictor.running.stream import read_batches
from ttc_sim.scenario import Columns, GpuPool, LinearStepTime, Scenario, Trace, load_scenario, scenario_from_dict
from ttc_sim.serving.physics import architecture_from, load_architecture
from ttc_sim.serving.step_time import flat_where_falling, step_seconds, step_table
from ttc_sim.strategies import BestOfN, BudgetForcing, Cascade, MajorityVote, Single, Strategy, parse_strategy
from ttc_sim.workload.traces import replay

# ---------------------------------------------------------------------------- constructors and notation


def one_line(error: InputError) -> None:
    """As it is shown, whatever the value is."""
    assert len(str(error).splitlines()) == 1


class Untouchable:
    """Neither shows itself nor compares."""

    def __repr__(self) -> str:
        raise RuntimeError

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = None  # type: ignore[assignment]


ODD: list[Any] = [
    *(None, 0, -1, 5, 1.5, True, "x", "", b"x", math.nan, math.inf, 10**5000, 1e300, 1e-320, 1j, ..., "\0", "x" * 9999),
    *([], ["a"], [["a"]], [1], [None], [math.nan, 1.0], [10**400], [0.5, "a"], ("a", "b"), {}, {"a": 1}, {5: 3}, {"a"}),
    *(object(), Untouchable(), np.zeros(3), np.zeros((2, 2)), np.float64(0.5), np.int64(3), np.bool_(True), int, len),
    *(pl.Series([1]), pl.DataFrame({"a": [1]}), range(3), iter([1]), Single(), Always("a")),
]
MADE: list[tuple[type, dict[str, Any]]] = [
    (Always, {"arm": "a"}),
    (Threshold, {"at": 0.5, "below": "a", "above": "b", "score": "difficulty"}),
    (Banded, {"edges": [0.5], "arms": ["a", "b"], "score": "difficulty"}),
    (Overflow, {"arms": ["a", "b"], "waiting": 3}),
    (LeastLoaded, {"arms": ["a", "b"]}),
    (Utility, {"price_of_accuracy": 0.1, "price_of_second": 0.1}),
    (PerSource, {"policies": {"s": Always("a")}}),
    (Single, {"cap": 5, "on_cap": "truncate"}),
    (BudgetForcing, {"min_tokens": 1, "cap": 5, "extensions": 1}),
    (MajorityVote, {"n": 3, "cap": 5, "on_cap": "truncate", "ties": "random", "stop_early": False}),
    (MajorityVote, {"n": 3, "of": Single()}),
    (BestOfN, {"n": 3, "auroc": 0.8, "verifier": "v", "verifier_tokens": 1, "cap": 5, "on_cap": "truncate"}),
    (BestOfN, {"n": 3, "tpr": 0.8, "fpr": 0.1, "of": Single()}),
    (BestOfN, {"n": 3, "scores": True}),
    (Cascade, {"stages": [Single(5), Single()], "tpr": 0.9, "fpr": 0.1, "judge": "j", "judge_tokens": 1}),
]


@pytest.mark.parametrize(("kind", "usual"), MADE)
def test_arguments_of_any_kind_are_taken_or_refused(kind: type[Policy] | type[Strategy], usual: dict[str, Any]) -> None:
    parse: Callable[[str], object] = parse_policy if issubclass(kind, Policy) else parse_strategy
    assert kind(**usual)
    for name in usual:
        for value in ODD:
            try:
                made = kind(**{**usual, name: value})
            except InputError as error:
                one_line(error)
                continue
            if kind is not PerSource:  # what is taken can be written down and read back
                assert repr(parse(repr(made))) == repr(made).replace("('a', 'b')", "['a', 'b']")


@pytest.mark.parametrize(
    "text",
    [
        "Cascade(stages=[" * 400 + "Single()",
        "(" * 2000,
        "Single(" * 2000 + ")" * 2000,
        "Always(" + "[" * 70 + "]" * 70 + ")",
        "-" * 90_000 + "1",
        "not " * 20_000 + "1",
        "a" + ".a" * 40_000,
        "1+" * 40_000 + "1",
        "x" * 2_000_000,
        "Single(cap=" + "9" * 5000 + ")",
        "Single(cap=0x" + "f" * 5000 + ")",
        "Utility(1e400)",
        "Threshold(at=1e400, below='a', above='b')",
        "Threshold(at=-1e400, below='a', above='b')",
        "Always(['a'])",
        "Threshold(below=['a'], at=0.5, above='b')",
        "Threshold(at=0.5, below='a', above='b', score=5)",
        "Always(1if 1else 2)",
        "f'{1}'()",
        "Always(**{'arm': 'a'})",
        "Always(*['a'])",
        "Single(cap={})",
        "\0",
        "Always('\\ud800'",
    ],
)
def test_notation_of_any_length_and_depth_ends_in_a_line(text: str, recwarn: pytest.WarningsRecorder) -> None:
    line_of(lambda: parse_policy(text))
    line_of(lambda: parse_strategy(text))
    assert not recwarn.list


# ---------------------------------------------------------------------------- targets and plans


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    """A scenario with little to choose from."""
    scenario = load_scenario("competition-maths")
    raw = copy.deepcopy(read_yaml(scenario.path))
    raw["workload"]["requests"], raw["replications"] = 60, 2
    raw["search"] = {"bands": 2, "caps": {"thinker-32b": [4096, None]}, "replicas": {}}
    assert isinstance(raw, dict)
    return raw


def _with_targets(small: dict[str, Any], **targets: Any) -> Scenario:
    return scenario_from_dict({**small, "targets": targets}, load_scenario("competition-maths").path)


@pytest.mark.parametrize(
    ("targets", "missed"),
    [
        ({"maximize": "accuracy", "cost_usd_per_request": 1e-9}, {"cost_usd_per_request"}),
        ({"maximize": "accuracy", "cost_usd_per_request": 5e-324}, {"cost_usd_per_request"}),
        ({"maximize": "accuracy", "latency_p95_s": 1e-300}, {"latency_p95_s"}),
        ({"minimize": "cost", "accuracy": 1.0, "cost_usd_per_request": 1e-12}, {"accuracy", "cost_usd_per_request"}),
    ],
)
def test_targets_that_nothing_meets_end_in_the_nearest_plan(
    small: dict[str, Any], targets: dict[str, Any], missed: set[str]
) -> None:
    plan = optimize(_with_targets(small, **targets))
    assert plan.status == "nearest"
    assert set(plan.binding) == missed
    if "cost_usd_per_request" in missed:  # nearest is what costs least: the small model
        assert plan.policy.for_source("contest") == Always("instruct-14b")


@pytest.fixture(scope="module")
def plan_file(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan, saved."""
    path = tmp_path_factory.mktemp("plan") / "plan.yaml"
    optimize(_with_targets(small, maximize="accuracy")).save(path)
    load_plan(path)
    return path


@pytest.mark.parametrize(
    ("at", "value", "said"),
    [
        (("promised", "accuracy", "value"), math.nan, "promised.accuracy.value: got nan; expected a finite number"),
        (("promised", "accuracy", "high"), math.inf, "promised.accuracy.high: got inf"),
        (("promised", "accuracy", "high"), 1.5, "from 0 to 1"),
        (("promised", "latency_p95_s", "value"), -1.0, "at least 0"),
        (("promised", "latency_p95_s", "value"), "fast", "got 'fast'"),
        (("promised", "latency_p95_s", "value"), True, "got True"),
        (("promised", "latency_p95_s", "value"), 10**400, "promised.latency_p95_s.value"),
        (("promised", "latency_p95_s", "low"), 1e9, "a value from low to high"),
        (("promised", "latency_p95_s"), [1, 2], "value, low and high"),
        (("promised", "beauty"), {"value": 1, "low": 1, "high": 1}, "got 'beauty'"),
        (("promised",), "much", "figures with value"),
        (("colour",), "green", "plan: got 'colour'"),
        (("status",), "perhaps", "met or nearest"),
        (("made_from",), 5, "made_from"),
        (("made_from",), "x" * 300, "made_from"),
        (("scenario",), [], "the scenario that was planned"),
    ],
)
def test_plans_that_no_one_made_are_refused(plan_file: Path, at: tuple[str, ...], value: Any, said: str) -> None:
    raw = read_yaml(plan_file)
    place = raw
    for key in at[:-1]:
        place = place[key]
    place[at[-1]] = value
    other = plan_file.with_name("other.yaml")
    text = yaml.safe_dump(raw)
    other.write_text(text)
    assert said in line_of(lambda: load_plan(other))


# ---------------------------------------------------------------------------- columns of every kind

COLUMNS: dict[str, Callable[[int], pl.Series]] = {
    "lists": lambda n: pl.Series([[1]] * n),
    "empty lists": lambda n: pl.Series([[]] * n),
    "lists of lists": lambda n: pl.Series([[["a"]]] * n),
    "arrays": lambda n: pl.Series([[1, 2]] * n, dtype=pl.Array(pl.Int64, 2)),
    "records": lambda n: pl.Series([{"a": 1}] * n),
    "bytes": lambda n: pl.Series([b"x"] * n),
    "times": lambda n: pl.Series([datetime.datetime(2026, 1, 1)] * n),
    "dates": lambda n: pl.Series([datetime.date(2026, 1, 1)] * n),
    "durations": lambda n: pl.Series([datetime.timedelta(1)] * n),
    "hours": lambda n: pl.Series([datetime.time(1)] * n),
    "categories": lambda n: pl.Series(["a"] * n, dtype=pl.Categorical),
    "decimals": lambda n: pl.Series([Decimal("1.5")] * n),
    "128 bits": lambda n: pl.Series([10**30] * n, dtype=pl.Int128),
    "64 bits": lambda n: pl.Series([2**64 - 1] * n, dtype=pl.UInt64),
    "nothing": lambda n: pl.Series([None] * n),
    "truth": lambda n: pl.Series([True] * n),
    "texts": lambda n: pl.Series(["x"] * n),
    "no number": lambda n: pl.Series([math.nan] * n),
    "infinity": lambda n: pl.Series([math.inf] * n),
    "below 0": lambda n: pl.Series([-1] * n),
    "digits": lambda n: pl.Series(["9" * 400] * n),
}
CARD = "origin: o\nlicence: l\ndate: '2026'\ntokenizer: t\nlimits: l\n"
_N = 24
ATTEMPTS = pl.DataFrame(
    {
        "problem": [f"p{k // 2}" for k in range(_N)],
        "attempt": [k % 2 for k in range(_N)],
        "prompt_tokens": [50] * _N,
        "reasoning_tokens": range(100, 100 + _N),
        "visible_tokens": [20] * _N,
        "correct": [k % 3 == 0 for k in range(_N)],
        "truncated": [False] * _N,
        "answer": [str(k % 5) for k in range(_N)],
        "verifier_score": [k / _N for k in range(_N)],
    }
)
PROBLEMS = pl.DataFrame(
    {"problem": [f"p{k}" for k in range(12)], "prompt": ["why?"] * 12, "subset": ["s"] * 12, "task": ["g"] * 12}
)
TRIES = pl.DataFrame(
    {
        "problem": [f"p{k % 12}" for k in range(_N)],
        "model": ["a", "b"] * 12,
        "correct": [1, 0, 1] * 8,
        "output_tokens": [50] * _N,
        "reasoning_tokens": [5] * _N,
        "prompt_tokens": [9] * _N,
        "truncated": [False] * _N,
        "answer": ["a"] * _N,
        "subset": ["s"] * _N,
    }
)


def _profile(table: pl.DataFrame, folder: Path) -> None:
    (folder / "profile.yaml").write_text(f"{CARD}model: m\nreasoning: recorded\n")
    table.write_parquet(folder / "attempts.parquet")
    load_profile(folder)


def _built(table: pl.DataFrame, folder: Path) -> None:
    table.write_parquet(folder / "t.parquet")
    card: dict[str, object] = {**yaml.safe_load(CARD), "model": "m"}
    build_profile(read_table(folder / "t.parquet"), folder / "t.parquet", "x", card)


def _tables(problems: pl.DataFrame, tries: pl.DataFrame, folder: Path) -> None:
    problems.write_parquet(folder / "p.parquet")
    tries.write_parquet(folder / "a.parquet")
    for with_tokens in (False, True):
        read_problem_tables(folder / "p.parquet", folder / "a.parquet", with_tokens=with_tokens)


def _problem_set(problems: pl.DataFrame, scores: pl.DataFrame, folder: Path) -> None:
    (folder / "problem_set.yaml").write_text(f"{CARD}cluster: problem\n")
    problems.write_parquet(folder / "problems.parquet")
    scores.write_parquet(folder / "scores.parquet")
    load_problem_set(folder)


def _traffic(arrivals: pl.DataFrame, lengths: pl.DataFrame, folder: Path) -> None:
    (folder / "traffic.yaml").write_text(CARD)
    arrivals.write_parquet(folder / "arrivals.parquet")
    lengths.write_parquet(folder / "lengths.parquet")
    load_traffic(str(folder))


def _trace(table: pl.DataFrame, folder: Path, form: Any = "csv") -> None:
    # A name of its own: traces are read once.
    name = f"{abs(hash(str(table.schema)))}.parquet"
    table.write_parquet(folder / name)
    columns = Columns(arrival="t", prompt_tokens="p", output_tokens="o") if form == "csv" else None
    replay(Trace(process="trace", file=name, format=form, columns=columns), 30, folder=folder)


def _forced(table: pl.DataFrame, folder: Path) -> None:
    _profile(ATTEMPTS, folder)
    (folder / "forced.csv").write_text(table.select(pl.all().map_elements(str, pl.String)).write_csv())
    load_profile(folder)


SET = pl.DataFrame(
    {"problem": ["a", "b"], "subset": ["s"] * 2, "group": ["g"] * 2, "prompt_tokens": [5, 6], "extra": [1, 2]}
)
SCORES = pl.DataFrame({"problem": ["a", "b"], "difficulty": [0.1, 0.2], "p:x": [0.5, 0.5], "tokens:x": [9.0, 9.0]})
ARRIVALS = pl.DataFrame(
    {
        "client": [0, 0],
        "t_start_s": [0.0, 60.0],
        "rate_per_s": [1.0, 2.0],
        "iat_family": ["Gamma"] * 2,
        "iat_shape": [1.0, 1.0],
    }
)
LENGTHS = pl.DataFrame(
    {
        "client": [0] * 3,
        "window_start_s": [0.0] * 3,
        "field": ["input_tokens", "output_tokens", "reason_ratio"],
        "value": [5.0, 5.0, 0.5],
        "probability": [1.0] * 3,
    }
)
TRACE = pl.DataFrame({"t": [0.5 * k for k in range(8)], "p": [10] * 8, "o": [5] * 8})
MOONCAKE = pl.DataFrame(
    {"timestamp": range(8), "input_length": [900] * 8, "output_length": [5] * 8, "hash_ids": [[1, 2]] * 8}
)
READ: dict[str, tuple[pl.DataFrame, Callable[[pl.DataFrame, Path], None]]] = {
    "profile": (ATTEMPTS, _profile),
    "attempts": (ATTEMPTS, _built),
    "problems": (PROBLEMS, lambda table, folder: _tables(table, TRIES, folder)),
    "tries": (TRIES, lambda table, folder: _tables(PROBLEMS, table, folder)),
    "problem set": (SET, lambda table, folder: _problem_set(table, SCORES, folder)),
    "scores": (SCORES, lambda table, folder: _problem_set(SET, table, folder)),
    "arrivals": (ARRIVALS, lambda table, folder: _traffic(table, LENGTHS, folder)),
    "lengths": (LENGTHS, lambda table, folder: _traffic(ARRIVALS, table, folder)),
    "trace": (TRACE, _trace),
    "mooncake": (MOONCAKE, lambda table, folder: _trace(table, folder, "mooncake")),
    "logged scores": (
        pl.DataFrame(
            {"difficulty": [0.1, 0.9], "p:x": [0.5, 0.4], "correct": [1, 0], "model": ["x"] * 2, "id": [1, 2]}
        ),
        lambda table, folder: _logged(table, folder),
    ),
}


def _logged(table: pl.DataFrame, folder: Path) -> None:
    table.write_parquet(folder / "log.parquet")
    read_log(folder / "log.parquet", _NO_PREDICTOR, [])


_NO_PREDICTOR: Any = None  # scores that were logged need none


@pytest.mark.parametrize("table", READ)
@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_of_any_kind_are_read_or_refused(table: str, kind: str, tmp_path: Path) -> None:
    usual, read = READ[table]
    read(usual, tmp_path)
    for column in usual.columns:
        try:
            read(usual.with_columns(COLUMNS[kind](len(usual)).alias(column)), tmp_path)
        except InputError as error:
            one_line(error)  # which of them are refused is for others to test


def test_logged_scores_are_named_by_their_row(tmp_path: Path) -> None:
    for value in (1.5, -0.1, math.nan, None):
        with pytest.raises(InputError, match=r"column p:x, row 2: got .*; expected a number from 0 to 1"):
            _logged(pl.DataFrame({"difficulty": [0.1, 0.9], "p:x": [0.5, value]}), tmp_path)


def test_keys_join_by_their_text(tmp_path: Path) -> None:
    problems = pl.DataFrame({"problem": range(12), "prompt": ["why?"] * 12})
    tries = TRIES.drop("subset").with_columns(problem=pl.Series([str(k % 12) for k in range(_N)]))
    _tables(problems, tries, tmp_path)
    made = read_problem_tables(tmp_path / "p.parquet", tmp_path / "a.parquet", with_tokens=False)
    assert len(made.attempts) == _N
    other = tries.with_columns(problem=pl.Series([float(k % 12) for k in range(_N)]))
    assert "keys of the problems" in line_of(lambda: _tables(problems, other, tmp_path))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_truth_values_beside_prompts(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"t.{ending}"
    if ending == "csv":
        path.write_text("prompt,right\n" + "x,TRUE\ny,FALSE\nz,\n" * 3)
    else:
        table = pl.DataFrame({"prompt": ["x", "y", "z"] * 3, "right": [True, False, None] * 3})
        table.write_parquet(path) if ending == "parquet" else table.write_ndjson(path)
    assert [one.beside["right"].to_list() for one in read_batches(str(path), None)] == [[True, False, None] * 3]


def test_later_rows_of_another_kind_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    for first, later, said in (
        ("TRUE", "maybe", "true or false"),
        ("1", "x", "whole numbers"),
        ("1.5", "x", "numbers"),
    ):
        path.write_text("prompt,k\n" + f"x,{first}\n" * 600 + f"y,{later}\n")
        assert f"column k, row 601: got '{later}'; expected {said}" in line_of(
            lambda: list(read_batches(str(path), None))
        )


# ---------------------------------------------------------------------------- shapes of models, and graphs

SHAPE = {
    "num_hidden_layers": 32,
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}


@pytest.mark.parametrize("key", [*SHAPE, "head_dim", "num_experts"])
def test_shapes_of_models_are_whole_numbers(key: str, tmp_path: Path) -> None:
    wrong: list[Any] = ["32", "many", -1, 1.5, True, [32], {}, 10**30, math.inf]
    for value in wrong:
        assert key in line_of(lambda value=value: architecture_from({**SHAPE, key: value}, "config.json", "file"))  # type: ignore[misc]
    if key in ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "intermediate_size"):
        for missing in ({k: v for k, v in SHAPE.items() if k != key}, {**SHAPE, key: None}):
            (tmp_path / "config.json").write_text(json.dumps(missing))
            assert f"no {key}" in line_of(lambda: load_architecture(tmp_path / "config.json"))
        assert key in line_of(lambda: architecture_from({**SHAPE, key: 0}, "config.json", "file"))
    assert architecture_from(SHAPE, "config.json", "file").head_dim == 128


def test_more_heads_or_experts_than_there_are() -> None:
    for changed in ({"num_key_value_heads": 64}, {"num_experts": 4, "num_experts_per_tok": 8}, {"hidden_size": 16}):
        line_of(lambda changed=changed: architecture_from({**SHAPE, **changed}, "config.json", "file"))  # type: ignore[misc]
    assert "num_experts_per_tok" in line_of(lambda: architecture_from({**SHAPE, "num_experts": 4}, "c.json", "file"))


onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def graph() -> Any:
    """The shipped predictor."""
    return onnx.load(PREDICTORS["fast"])


def _loaded(graph: Any, folder: Path, **metadata: str | None) -> None:
    made = onnx.ModelProto()
    made.CopyFrom(graph)
    kept = {one.key: one.value for one in made.metadata_props}
    kept = {key: value for key, value in {**kept, **metadata}.items() if value is not None}
    onnx.helper.set_model_props(made, kept)
    onnx.save(made, folder / "m.onnx")
    Predictor.load(folder / "m.onnx", device="cpu")


@pytest.mark.parametrize("key", ["heads", "rates"])
@pytest.mark.parametrize("value", [None, "", "x", "[", "{}", "[]", "5", "[1]", '["a"]', "[NaN]", "[" * 5000, "null"])
def test_metadata_of_a_graph_that_is_damaged(graph: Any, tmp_path: Path, key: str, value: str | None) -> None:
    assert f"metadata {key}" in line_of(lambda: _loaded(graph, tmp_path, **{key: value})).replace("rates", key)


def test_files_that_are_no_graph(graph: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.onnx"
    whole = PREDICTORS["fast"].read_bytes()
    for content in (b"", b"hello", bytes(100), whole[:1000], whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert "a readable ONNX model" in line_of(lambda: Predictor.load(path, device="cpu"))
    onnx.save_model(graph, tmp_path / "apart.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    assert "weights in other files" in line_of(lambda: Predictor.load(tmp_path / "apart.onnx", device="cpu"))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("value", "more", "said"),
    [
        (0.5, 0, ""),
        (0.5, 1, "of shape"),
        (math.nan, 0, "numbers from 0 to 1"),
        (-1.0, 0, "numbers from 0 to 1"),
        (2.0, 0, "0 to 1"),
    ],
)
def test_graphs_that_say_something_else_than_chances(
    graph: Any, tmp_path: Path, value: float, more: int, said: str
) -> None:
    from onnx import TensorProto, helper, numpy_helper

    heads = len(json.loads({one.key: one.value for one in graph.metadata_props}["heads"])) + more
    nodes, outputs = [], []
    for name in ("p", "tokens", "tokens_p50", "tokens_p90", "difficulty", "novelty"):
        shape = (1, heads) if name in ("p", "tokens", "tokens_p50", "tokens_p90") else (1,)
        constant = numpy_helper.from_array(np.full(shape, value, dtype=np.float32), f"{name} value")
        nodes.append(helper.make_node("Constant", [], [name], value=constant))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    inputs = [one for one in graph.graph.input if one.name in ("ids", "values", "surface")]
    made = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    made.metadata_props.extend(graph.metadata_props)
    if said:
        assert said in line_of(lambda: _loaded(made, tmp_path))
    else:
        _loaded(made, tmp_path)


# ---------------------------------------------------------------------------- measured runs, step times, clocks


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"arrival_time": "soon"}, "line 1: got 'soon'; expected a finite number as arrival_time"),
        ({"arrival_time": True}, "arrival_time"),
        ({"arrival_time": 1e300}, "arrival_time"),
        ({"output_toks": [5]}, "output_toks"),
    ],
)
def test_measured_requests_of_another_kind(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    row = {"arrival_time": 0.0, "input_toks": 5, "output_toks": 5, "queued_ts": 0.0, "first_token_ts": 1.0}
    (tmp_path / "requests.jsonl").write_text(json.dumps({**row, "last_token_ts": 2.0, **change}))
    kwargs = {"max_num_seqs": 8, "max_num_batched_tokens": 512}
    (tmp_path / "meta.json").write_text(json.dumps({"engine_kwargs": kwargs}))
    assert said in line_of(lambda: load_run(tmp_path))
    (tmp_path / "requests.jsonl").write_text(json.dumps({**row, "last_token_ts": 2.0}))
    load_run(tmp_path)
    wrong: list[Any] = [[], 5, {"engine_kwargs": []}, {"engine_kwargs": {**kwargs, "tensor_parallel_size": 0}}]
    for meta in wrong:
        (tmp_path / "meta.json").write_text(json.dumps(meta))
        assert "meta.json" in line_of(lambda: load_run(tmp_path))


def test_times_that_fall_at_the_end_never_fall_below_nothing() -> None:
    knots = [np.array([0.0, 8.0, 16.0]), np.array([0.0, 64.0]), np.array([0.0, 2.0, 4.0]), np.array([0.0, 50.0, 100.0])]
    seconds = np.ones((3, 2, 3, 3))
    seconds[..., 1], seconds[..., 2] = 3.0, 2.0  # falls with KV
    seconds[:, :, 2] -= 0.9  # and with sequences
    seconds[2] -= 0.05  # and with the chunk
    measured = step_table(512, 64, base_s=1e-3, attention=(*knots, seconds))  # type: ignore[arg-type]
    table = step_table(512, 64, base_s=1e-3, attention=flat_where_falling((*knots, seconds)))  # type: ignore[arg-type]
    assert step_seconds(measured, 0, 0.0, 2, 1000, 2) < 0
    # Between and at the knots as measured, beyond the last as at the last.
    for prefill, decoding, kv_tokens in ((0, 2, 150), (0, 2, 200), (4, 2, 100), (16, 4, 400), (0, 4, 400)):
        step = prefill, prefill * 32.0, decoding, kv_tokens, decoding
        assert step_seconds(table, *step) == pytest.approx(step_seconds(measured, *step))
    assert step_seconds(table, 0, 0.0, 2, 10**7, 2) == pytest.approx(1e-3 + 2.0)
    for prefill in (0, 1, 8, 16, 100, 512 - 64):
        for decoding in (0, 1, 4, 64):
            for kv_tokens in (0, 1, 400, 10**6, 10**9):
                for context in (0.0, 100.0, 1e6):
                    took_s = step_seconds(table, prefill, prefill * context, decoding, kv_tokens, decoding)
                    assert took_s >= 1e-3 - 1e-9, (prefill, decoding, kv_tokens, context)
    rising = (*knots, np.ones((3, 2, 3, 3)) * knots[3])
    np.testing.assert_equal(flat_where_falling(rising), rising)


@pytest.mark.parametrize("engine", [reference, compiled])
@pytest.mark.parametrize("until_s", [0, 0.0, -1.0, math.nan, math.inf, "1", True])
def test_a_clock_that_stops_before_it_starts(engine: Any, until_s: Any) -> None:
    step = LinearStepTime(base_s=0.1, per_prefill_token_s=0.0, per_sequence_s=0.0, per_kv_token_s=0.0)
    pool = GpuPool(kind="gpu_pool", replicas=1, usd_per_replica_hour=1.0, step_time=step, kv_cache_tokens=1000)
    work = single_stage(np.zeros(1), np.array([5]), np.array([5]))
    assert "until_s" in line_of(lambda: engine.run([work], ["p"], [pool], until_s=until_s))
    assert engine.run([work], ["p"], [pool], until_s=0.25).status.tolist() == [3]
