"""Files that somebody sent: what they may be, what they would become, and one line for what is wrong with them."""

from __future__ import annotations

import gzip
import json
import os
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from ttc_sim import load_plan, load_scenario, simulate
from ttc_sim.base.errors import InputError, shortened
from ttc_sim.base.limits import ADJUSTABLE
from ttc_sim.files.documents import parse_json, parse_yaml, read_json, read_yaml
from ttc_sim.files.tables import read_table
from ttc_sim.measured.cards import TrafficCard, read_card
from ttc_sim.predictor.judging.card_figures import card_scores
from ttc_sim.predictor.learning.text_encoder import read_text_encoder
from ttc_sim.predictor.running.stream import read_batches
from ttc_sim.scenario import scenario_from_dict
from ttc_sim.serving.gpu_profile import load_gpu_profile


def line_of(call: Callable[[], object]) -> str:
    """The one line that a call ends in, in little time."""
    begun = time.perf_counter()
    with pytest.raises(InputError) as caught:
        call()
    assert time.perf_counter() - begun < 10
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 2500
    for word in ("pydantic", "polars", "yaml.", "dtype", "Traceback", "codec"):
        assert word not in said
    return said


def nested(innermost: str, between: str) -> str:
    """Nine anchors, each nine times the one before: a billion values in half a kilobyte."""
    lines = [f"a: &a {innermost}"]
    for before, name in zip("abcdefgh", "bcdefghi", strict=True):
        lines.append(f"{name}: &{name} " + between.format(",".join([f"*{before}"] * 9)))
    return "\n".join(lines)


BAD_YAML = {
    "laughs": (nested("[x,x,x,x,x,x,x,x,x]", "[{}]"), "TTC_SIM_MAX_NODES"),
    "merged laughs": (nested("{x: 1}", "{{<<: [{}]}}"), "TTC_SIM_MAX_NODES"),
    "deep": ("a: " + "[" * 5000 + "]" * 5000, "TTC_SIM_MAX_DEPTH"),
    "deep by aliases": ("a0: &a0 [x]\n" + "\n".join(f"a{k}: &a{k} [*a{k - 1}]" for k in range(1, 900)), "MAX_DEPTH"),
    "in itself": ("a: &a [*a]", "line 1: got '*a'; expected an alias outside"),
    "twice": ("a: 1\nb: 2\na: 3", "line 3: got 'a'; expected each key once"),
    "twice inside": ("a: {b: 1, b: 1}", "got 'b'; expected each key once"),
    "twice, written otherwise": ("1: x\n0x1: y", "line 2: got 1; expected each key once"),
    "digits": ("a: " + "9" * 5000, "at most 1,000 digits"),
    "too great": ("a: 1.0e+400", "got '1.0e+400'; expected a number up to"),
    "no such day": ("a: 1\nb: 2026-13-45", "line 2: got '2026-13-45'; expected a date that exists"),
    "bytes": ("a: !!binary aGFsbG8=", "got '!!binary'; expected mappings, lists"),
    "set": ("a: !!set {x}", "got '!!set'"),
    "object": ("a: !!python/object/apply:os.system [x]", "python/object/apply"),
    "list as a key": ("? [a]\n: 1", "a key that is text"),
    "tab": ("a:\n\tb: 1", "line 2"),
    "quote": ("a: 'x", "quotation mark"),
    "no anchor": ("a: *b", "an anchor of that name"),
    "several": ("--- 1\n--- 2", "one document"),
    "control character": ("a: \x00", "no control characters"),
    "half a pair": ('a: "\\ud800"', "no half of a pair"),
    "no number": ("a: !!int x", "got 'x'; expected a number"),
}


@pytest.mark.parametrize("kind", BAD_YAML)
def test_yaml_that_cannot_be_is_named_by_its_line(kind: str) -> None:
    text, said = BAD_YAML[kind]
    line = line_of(lambda: parse_yaml(text, "mine.yaml"))
    assert said in line
    assert line.startswith("mine.yaml: line ")


def test_yaml_means_what_it_meant() -> None:
    said = """
base: &base {cap: 1, model: x}
one: {<<: *base, cap: 2}
two: {<<: [*base, {extra: 5}]}
three: {<<: *base}
numbers: [1, 1.5, -3, 0x10, 1_000, .inf, 1.0e+3, 1e3, true, ~, 2026-11-25, '2026-13-45', "x: y"]
text: |
  several
  lines
"""
    assert parse_yaml(said, "mine.yaml") == yaml.safe_load(said)
    # As YAML 1.2 has it, and as people write the day of a price.
    assert parse_yaml("{on: yes, off: True, n: NO}", "mine.yaml") == {"on": "yes", "off": True, "n": "NO"}
    for name in ("qa-gateway", "competition-maths", "reasoning-gateway"):
        file = Path(load_scenario(name).path)
        assert read_yaml(file) == yaml.safe_load(file.read_text())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1e400}', "got '1e400'"),
        ('{"a": NaN}', "finite numbers"),
        ('{"a": -Infinity}', "finite numbers"),
        ('{"a": ' + "9" * 5000 + "}", "at most 1,000 digits"),
        ("[" * 100_000, "TTC_SIM_MAX_DEPTH"),
        ("[" * 100 + "]" * 100, "got '100 levels'"),
        ('{"a": 1, "a": 2}', "got 'a'; expected each key of an object once"),
        ('{"a":\n1,}', "line 2"),
        ('{"a": "\\ud800"}', "no half of a pair"),
    ],
)
def test_json_that_cannot_be_is_refused(text: str, said: str) -> None:
    assert said in line_of(lambda: parse_json(text, "mine.json"))


READERS: dict[str, Callable[[Path], object]] = {
    "scenario": load_scenario,
    "plan": load_plan,
    "card": lambda path: read_card(path, TrafficCard),
    "predictor's card": lambda path: card_scores(path.with_suffix("").with_suffix(".onnx")),
    "profile of a GPU": lambda path: load_gpu_profile(path.parent, 1, 8, 8),
    "JSON": read_json,
    "table": lambda path: read_table(path.rename(path.with_suffix(".csv"))),
    "JSONL": lambda path: read_table(path.rename(path.with_suffix(".jsonl"))),
    "prompts": lambda path: list(read_batches(str(path.rename(path.with_suffix(".csv"))), None)),
}


@pytest.mark.parametrize("reader", READERS)
def test_whoever_reads_a_file_names_what_it_is_instead(reader: str, tmp_path: Path) -> None:
    (tmp_path / "tp1").mkdir()
    path = tmp_path / "meta.card.yaml" if reader == "predictor's card" else tmp_path / "meta.yaml"
    read = READERS[reader]

    def said(content: bytes) -> str:
        path.write_bytes(content)
        return line_of(lambda: read(path))

    assert "UTF-16" in said("name: x\n".encode("utf-16"))
    assert "Latin-1" in said("name: Müller,x\nb: Zoë\n".encode("latin-1")) or reader == "JSONL"
    assert said(b"")
    assert "pipe" not in said(b"\0\0\0")


@pytest.mark.parametrize("reader", [name for name in READERS if name != "predictor's card"])
def test_what_is_no_file_is_refused_and_not_waited_for(reader: str, tmp_path: Path) -> None:
    (tmp_path / "tp1").mkdir()
    path = tmp_path / "meta.yaml"
    for make, kind in ((os.mkfifo, "a pipe"), (os.mkdir, "a folder")):
        make(path)
        assert kind in line_of(lambda: READERS[reader](path))
        for made in tmp_path.glob("meta.*"):
            made.rmdir() if made.is_dir() else made.unlink()
    if os.geteuid():
        path.write_text("a: 1")
        path.chmod(0)
        assert "permission" in line_of(lambda: READERS[reader](path))


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "a\0b", "missing"])
@pytest.mark.parametrize(
    "call",
    [
        load_scenario,
        load_plan,
        read_yaml,
        lambda name: read_table(f"{name}.csv"),
        lambda name: list(read_batches(f"{name}.csv", None)),
    ],
)
def test_names_that_no_file_has(call: Callable[[str], object], name: str) -> None:
    line_of(lambda: call(name))


def test_a_mark_before_the_text_is_no_part_of_it(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    for ending, content in ((".csv", b"a,b\n1,2\n"), (".jsonl", b'{"a": 1, "b": 2}\n')):
        (tmp_path / f"t{ending}").write_bytes(mark + content)
        assert read_table(tmp_path / f"t{ending}").to_dicts() == [{"a": 1, "b": 2}]
    (tmp_path / "t.yaml").write_bytes(mark + b"a: 1")
    assert read_yaml(tmp_path / "t.yaml") == read_json_of(tmp_path, mark + b'{"a": 1}') == {"a": 1}


def read_json_of(folder: Path, content: bytes) -> Any:
    (folder / "t.json").write_bytes(content)
    return read_json(folder / "t.json")


# ---------------------------------------------------------------------------- what files become


def test_parquet_is_judged_by_what_it_becomes(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    zeros = tmp_path / "zeros.parquet"
    with parquet.ParquetWriter(zeros, pa.schema([("a", pa.int64())]), compression="zstd", use_dictionary=False) as out:
        part = pa.table({"a": np.zeros(4_000_000, dtype=np.int64)})
        for _ in range(10):
            out.write_table(part)
    assert zeros.stat().st_size < 500_000
    assert "TTC_SIM_MAX_EXPANSION" in line_of(lambda: read_table(zeros))
    # A value that is said once for a hundred million rows.
    runs = tmp_path / "runs.parquet"
    parquet.write_table(pa.table({"a": np.zeros(40_000_000, dtype=np.int8)}), runs, row_group_size=40_000_000)
    assert "320 MB" in line_of(lambda: read_table(runs))
    # A text that stands once and is pointed to from every row.
    texts = tmp_path / "texts.parquet"
    pl.DataFrame({"a": ["x" * 1_000_000] * 400}).write_parquet(texts)
    assert texts.stat().st_size < 100_000
    assert "400 MB" in line_of(lambda: read_table(texts))
    assert "TTC_SIM_MAX_EXPANSION" in line_of(lambda: list(read_batches(str(texts), "a")))


def test_limits_are_set_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "t.csv"
    file.write_text("a,b\n" + "1,2\n" * 1000)
    assert len(read_table(file)) == 1000
    monkeypatch.setenv("TTC_SIM_MAX_TABLE_GB", "1e-6")
    assert "TTC_SIM_MAX_TABLE_GB sets another limit" in line_of(lambda: read_table(file))
    monkeypatch.setenv("TTC_SIM_MAX_TABLE_GB", "much")
    assert "environment: TTC_SIM_MAX_TABLE_GB: got 'much'; expected a number above 0" in line_of(
        lambda: read_table(file)
    )
    monkeypatch.delenv("TTC_SIM_MAX_TABLE_GB")
    deep = "[" * 90 + "]" * 90
    assert "TTC_SIM_MAX_DEPTH" in line_of(lambda: parse_yaml(deep, "x"))
    monkeypatch.setenv("TTC_SIM_MAX_DEPTH", "150")
    assert parse_yaml(deep, "x") == parse_json(deep, "x")
    monkeypatch.setenv("TTC_SIM_MAX_DEPTH", "1e9")
    for levels in (199, 5000):  # however much is allowed, no RecursionError
        text = "[" * levels + "]" * levels
        if levels < 200:
            assert parse_yaml(text, "x") == parse_json(text, "x")
        else:
            line_of(lambda text=text: parse_yaml(text, "x"))  # type: ignore[misc]
            line_of(lambda text=text: parse_json(text, "x"))  # type: ignore[misc]
    assert all(default > 0 for default, _ in ADJUSTABLE.values())


def test_lines_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTC_SIM_MAX_LINE_MB", "0.01")
    for ending, first in ((".csv", b"a,prompt\n"), (".jsonl", b'{"prompt": "x"}\n')):
        file = tmp_path / f"t{ending}"
        file.write_bytes(first + b"x" * 20_000)
        assert "line 2: got" in line_of(lambda file=file: read_table(file))  # type: ignore[misc]
        assert "TTC_SIM_MAX_LINE_MB" in line_of(lambda file=file: list(read_batches(str(file), None)))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gzip.csv", gzip.compress(b"a,b\n" + b"1,2\n" * 1000, mtime=0), "packed by gzip"),
        ("gzip.jsonl", gzip.compress(b'{"a": 1}\n', mtime=0), "packed by gzip"),
        ("wide.csv", (",".join(f"c{k}" for k in range(9000)) + "\n" + "1\n" * 9000).encode(), "EXPANSION"),
        ("wide.jsonl", "".join(f'{{"k{k}": 1}}\n' for k in range(9000)).encode(), "EXPANSION"),
        ("many.csv", ",".join(f"c{k}" for k in range(20_000)).encode(), "TTC_SIM_MAX_COLUMNS"),
        ("deep.jsonl", b'{"a": 1}\n{"a": ' + b"[" * 1000 + b"]" * 1000 + b"}\n", "line 2: got"),
        ("deeper.jsonl", b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "TTC_SIM_MAX_DEPTH"),
        ("digits.jsonl", b'{"a": ' + b"9" * 5000 + b"}\n", "digits"),
        ("digits.csv", b"a,b\n" + b"9" * 5000 + b",2\n", "column a"),
        ("great.jsonl", b'{"a": 1e400}\n', "1e400"),
        ("half.jsonl", b'{"a": 1}\n{"a":\n', "line 2"),
        ("fields.csv", b"a,b\n1,2\n1,2,3\n", "line 3: got '3 fields'; expected 2 fields"),
        ("quote.csv", b'a,b\n"x,2\ny,3\n', "quotes that are closed"),
        ("return.csv", b"a\rb,c\n1,2\n", "expected lines that end with a line feed"),
        ("twice.csv", b"a,a\n1,2\n", "got 'a'; expected each column once"),
        ("no.parquet", b"PAR1" + bytes(range(256)) + b"PAR1", "readable parquet"),
    ],
)
def test_tables_that_cannot_be_are_named_by_their_place(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert said in line_of(lambda: read_table(tmp_path / name))


def test_brackets_in_texts_are_no_levels(tmp_path: Path) -> None:
    rows = [{"prompt": "[" * 500, "k": 1}, {"prompt": "]{" * 300, "k": 2}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_table(tmp_path / "t.jsonl").to_dicts() == rows


def test_a_zip_is_judged_by_what_it_becomes(tmp_path: Path) -> None:
    packed = tmp_path / "encoder.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        for name in ("config.json", "tokenizer.json"):
            out.writestr(name, "{}")
        with out.open("model.safetensors", "w", force_zip64=True) as member:
            for _ in range(28):
                member.write(bytes(10_000_000))
    assert packed.stat().st_size < 800_000
    assert "TTC_SIM_MAX_EXPANSION" in line_of(lambda: read_text_encoder(packed))
    packed.write_bytes(packed.read_bytes()[:-40])
    assert "damaged" in line_of(lambda: read_text_encoder(packed))


# ---------------------------------------------------------------------------- values that errors show


def test_whatever_the_value_is_the_line_is_short() -> None:
    class Unshowable:
        def __repr__(self) -> str:
            raise RuntimeError

    raw = read_yaml(load_scenario("qa-gateway").path)
    raw["workload"]["requests"] = 10**5000  # not among the parameters: pytest shows those
    assert "5,001 digits" in line_of(lambda: scenario_from_dict(raw, "mine.yaml"))
    for value in (10**5000, [10**5000], "x" * 10**6, Unshowable(), list(range(10**5)), b"x" * 10**6, -(10**4400)):
        assert len(shortened(value)) <= 120
        assert len(str(InputError("x" * 10**5, "y" * 10**5, value, "z" * 10**5))) < 2500


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("requests", "many", "expected a whole number"),
        ("requests", 1.5, "expected a whole number"),
        ("sources", [1], "expected a mapping"),
        ("arrivals", "poisson", "workload.arrivals"),
    ],
)
def test_scenarios_say_what_they_expect_in_plain_words(key: str, value: object, said: str) -> None:
    raw = read_yaml(load_scenario("qa-gateway").path)
    raw["workload"][key] = value
    assert said in line_of(lambda: scenario_from_dict(raw, "mine.yaml"))


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "a\0b"])
@pytest.mark.parametrize(
    "at",
    [
        ("workload", "arrivals", {"process": "trace", "format": "csv", "columns": {"arrival": "t"}, "file": None}),
        ("workload", "arrivals", {"process": "clients", "traffic": None}),
        ("deployments", "llama-8b-pool", "model"),
        ("workload", "sources", "questions", "problem_set"),
        ("arms", "llama-8b", "profile"),
        ("predictor",),
    ],
    ids=lambda at: str(at[-1])[:30],
)
def test_names_in_a_scenario_that_no_file_has(at: tuple[Any, ...], name: str) -> None:
    scenario = load_scenario("qa-gateway")
    raw = read_yaml(scenario.path)
    place = raw
    for key in at[:-1]:
        place = place.get(key, place)
    if isinstance(at[-1], dict):
        raw["workload"][at[1]] = {key: name if value is None else value for key, value in at[-1].items()}
    else:
        place[at[-1]] = f"{name}.onnx" if at == ("predictor",) else name
    line_of(lambda: simulate(scenario_from_dict(raw, scenario.path), requests=10, replications=1))
