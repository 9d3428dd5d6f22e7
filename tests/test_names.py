"""Names are shown as they are: never markup, a link, a formula, a page's script or a terminal's command."""

from __future__ import annotations

import html
import io
import json
import re
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

import ttc_sim as ttc
from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.base.plain import plain
from ttc_sim.cli import app, main
from ttc_sim.files.tables import read_table, write_table
from ttc_sim.measured.problem_sets import load_problem_set
from ttc_sim.policies import Banded
from ttc_sim.reporting.paper import Paper, styled
from ttc_sim.reporting.text import print_summary

from .test_scenario import GOOD

HOSTILE = (
    "thinker [/v2]",
    "[link=http://x]in[/link]",
    "[bold red]loud",
    "\x1b[31mred\x1b[0m",
    "\x1b]8;;http://x\x1b\\link",
    "\x9b31mred",
    "over\rwritten",
    "two\nlines",
    "\u202egnp.exe",
    "zero\u200bw\x00idth",
    "$x_1$",
    "$\\frac",
    "a\\$b$",
    "<script>alert(1)</script>",
    "a | b",
    "=1+1",
    ":bug:",
    "_under",
    "größe 日本 🐞",
)


def hostile() -> dict[str, Any]:
    """A scenario in which everything that has a name has a hostile one, and every arm gets requests."""
    pool, source = "\x1b[2Jpool[/]", "maths \u202e$x$"
    one = {"profile": "math/sky-t1-32b", "deployment": "api \x07", "strategy": "Single(cap=8192)"}
    known = load_problem_set("math").problems.filter(pl.col("subset").is_in(["aime24", "amc23"]))
    edges = np.quantile(known["difficulty"].to_numpy(), np.arange(1, len(HOSTILE)) / len(HOSTILE)).tolist()
    policy = Banded(edges=edges, arms=list(HOSTILE))
    deployments = {"api \x07": GOOD["deployments"]["api"], pool: GOOD["deployments"]["pool"]}
    arms = {name: one if k % 2 else {**GOOD["arms"]["small"], "deployment": pool} for k, name in enumerate(HOSTILE)}
    workload = {**GOOD["workload"], "requests": 400, "sources": {source: GOOD["workload"]["sources"]["maths"]}}
    more = {"name": "\x1b[1mname[/]", "description": "of [link=x]\r\u202e<b>", "replications": 2}
    return {**GOOD, **more, "deployments": deployments, "arms": arms, "workload": workload, "policy": repr(policy)}


def seen(text: str) -> None:
    """Nothing in it that a terminal would obey or a reader could not see."""
    hidden = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert hidden <= {"\n", "\u200c", "\u200d"}, hidden  # the two join letters of some scripts


def run(*words: object, status: int = 0) -> str:
    got = CliRunner().invoke(app, [str(word) for word in words])
    assert got.exit_code == status, (got.output, got.exception)
    seen(got.stdout)
    seen(got.stderr)
    return got.output


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("hostile") / "s.yaml"
    file.write_text(yaml.safe_dump(hostile(), allow_unicode=False))
    return file


def test_a_simulation_shows_every_name(scenario: Path, tmp_path: Path) -> None:
    files = {"--json": tmp_path / "f.json", "--records": tmp_path / "r.csv", "--plot": tmp_path / "p.svg"}
    said = run("simulate", scenario, *(word for pair in files.items() for word in pair))
    for name in HOSTILE:
        assert plain(name) in said, name
    figures = json.loads(files["--json"].read_text())
    assert set(figures["per_arm"]) == set(HOSTILE)  # data stay what they are
    assert set(pl.read_csv(files["--records"])["arm"]) == set(HOSTILE)
    seen(files["--plot"].read_text())
    assert "<script" not in files["--plot"].read_text()


def test_a_plan_shows_every_name(scenario: Path, tmp_path: Path) -> None:
    raw = yaml.safe_load(scenario.read_text())
    raw["arms"] = {name: raw["arms"][name] for name in HOSTILE[:4]}
    raw["policy"], raw["search"] = None, {"bands": 4, "max_bands": 2}
    raw["workload"]["requests"] = 100
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(raw))
    plan = tmp_path / "plan.yaml"
    got = CliRunner().invoke(
        app, ["optimize", str(tmp_path / "s.yaml"), "--plan", str(plan), "--plot", str(tmp_path / "p.png")]
    )
    assert got.exit_code in (0, 2), got.output
    seen(got.output)
    assert plain(raw["name"]) in got.output
    assert plain(raw["description"]) in got.output
    saved = ttc.load_plan(plan)
    assert set(saved.scenario.arms) == set(HOSTILE[:4])
    assert saved.scenario.policy is not None
    assert any(plain(name) in got.output for name in HOSTILE[:4])


def test_an_evaluation_and_a_profile_show_every_name(tmp_path: Path) -> None:
    place = tmp_path / "\x07mine \u202e$x$"
    table = pl.DataFrame({"problem": ["a\x1b", "b"], "prompt_tokens": 5, "output_tokens": 9, "correct": [True, False]})
    table.write_parquet(tmp_path / "t.parquet")
    said = {
        "model": HOSTILE[0],
        "origin": HOSTILE[3],
        "licence": HOSTILE[1],
        "date": HOSTILE[8],
        "tokenizer": HOSTILE[10],
    }
    words = [word for key, value in {**said, "limits": "[/]"}.items() for word in (f"--{key}", value)]
    assert "written to" in run("profile", "build", tmp_path / "t.parquet", place, *words)
    shown = run("profile", "show", place, "--plot", tmp_path / "p.svg")
    for name in ("\x07mine \u202e$x$", *said.values(), "[/]"):
        assert plain(name) in shown
    assert plain("\x07mine \u202e$x$") in run("evaluate", place, "--strategy", "Single()", "--plot", tmp_path / "e.svg")
    for file in ("p.svg", "e.svg"):
        seen((tmp_path / file).read_text())


@pytest.fixture
def tables(tmp_path: Path) -> list[object]:
    """Three hundred problems, a weak and a strong model, and names that could do something."""
    luck = uniforms(5, "luck", 600)[:, 0]
    problems = pl.DataFrame(
        {
            "id": range(300),
            "prompt": [f"add {k} and {k % 7}" for k in range(300)],
            "category": [HOSTILE[k % 5] for k in range(300)],
        }
    )
    rows = [
        (k % 300, HOSTILE[3] if k < 300 else HOSTILE[10], float(luck[k] < 0.4 + 0.3 * (k >= 300))) for k in range(600)
    ]
    attempts = pl.DataFrame(rows, schema=["id", "model", "correct"], orient="row")
    write_table(problems, tmp_path / "p.parquet")
    write_table(attempts, tmp_path / "a.parquet")
    return ["--problems", tmp_path / "p.parquet", "--attempts", tmp_path / "a.parquet"]


def test_a_predictors_report_shows_every_name(tables: list[object], tmp_path: Path) -> None:
    asked = ["--weak", HOSTILE[3], "--strong", HOSTILE[10], "--resamples", 100, "--plot", tmp_path / "p.svg"]
    said = run("predictor", "evaluate", *tables, *asked)
    assert plain(HOSTILE[3]) in said
    assert HOSTILE[10] in said
    picture = (tmp_path / "p.svg").read_text()
    seen(picture)
    log = pl.read_parquet(tmp_path / "p.parquet").with_columns(model=pl.lit(HOSTILE[3]), correct=pl.lit(value=True))
    for name in ("\x1bcnow.parquet", "\x1bcbefore.parquet"):
        write_table(log, tmp_path / name)
    got = CliRunner().invoke(
        app,
        [
            "predictor",
            "check",
            str(tmp_path / "\x1bcnow.parquet"),
            "--reference",
            str(tmp_path / "\x1bcbefore.parquet"),
        ],
    )
    assert got.exit_code in (0, 2), (got.output, got.exception)
    seen(got.output)


def test_a_backtest_shows_the_name_of_its_run(tmp_path: Path) -> None:
    from .test_backtest_edges import as_simulated

    place = as_simulated(tmp_path / "\x1b[2Jrun $a$ [link=x]", 5)
    said = run("backtest", place, "--plot", tmp_path / "p.svg")
    assert plain("\x1b[2Jrun $a$ [link=x]") in said
    seen((tmp_path / "p.svg").read_text())


def test_errors_show_names_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    raw = {**hostile(), "policy": "Always('nobody')"}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(raw, allow_unicode=False))
    for words in (
        ["simulate", str(tmp_path / "s.yaml")],
        ["simulate", "\x1b[2J\u202e[/]"],
        ["simulate", str(tmp_path / "s.yaml"), "--policy", "Always('\x1b[2J')"],
        ["evaluate", "\x9b2J", "--strategy", "Single()"],
        ["evaluate", "math/sky-t1-32b", "--strategy", "\x1b[2J"],
    ):
        monkeypatch.setattr(sys, "argv", ["ttc-sim", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 1
        err = capsys.readouterr().err
        seen(err)
        [line] = err.splitlines()
        assert line.startswith("error: ")


def test_pages_show_names_and_do_not_carry_them_out(scenario: Path) -> None:
    result = ttc.simulate(scenario)
    page = result._repr_html_()
    seen(page.replace("\n", ""))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for name in HOSTILE:
        assert html.escape(plain(name)) in page, name
    # Behind each name stands its share of the requests.
    rows = [text.get_text().replace(r"\$", "$").strip() for text in result.plot().axes[2].get_yticklabels()]
    assert {row.rpartition("  ")[0] for row in rows} == {plain(name) for name in HOSTILE}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437", "utf-8"])
def test_any_terminal_can_show_it(encoding: str, scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (
        ["simulate", str(scenario), "--no-baselines"],
        ["profile", "show", "math/sky-t1-32b"],
        ["simulate", "größe"],
    ):
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in range(2))
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        monkeypatch.setattr(sys, "argv", ["ttc-sim", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        for stream in (out, err):
            stream.flush()
        said, errors = (stream.buffer.getvalue().decode(encoding) for stream in (out, err))
        if words[0] == "profile":
            assert "57 problems, 602 attempts" in said
            assert "?" not in said
        elif words[1] == "größe":
            assert ended.value.code == 1
            assert re.match(r"error: gr..e: file: got 'gr..e'", errors), errors
        else:
            assert ("größe 日本 🐞" if encoding == "utf-8" else "gr") in said
        assert ended.value.code == (1 if words[1] == "größe" else 0)


def test_scores_for_a_program_are_utf8_whatever_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is replaced on a terminal would be lost in a file."""
    write_table(pl.DataFrame({"prompt": ["add 1 and 2"], "note": ["größe 日本"]}), tmp_path / "p.parquet")
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "argv", ["ttc-sim", "predictor", "score", str(tmp_path / "p.parquet")])
    with pytest.raises(SystemExit):
        main()
    out.flush()
    assert "größe 日本" in out.buffer.getvalue().decode("utf-8")


def test_any_text_is_shown_literally_on_paper_and_in_errors() -> None:
    """Two thousand names of letters, marks, brackets and whatever else Unicode has."""
    pieces = [
        *"[]/\\$<>|&'\"`*_#:;=@ -",
        *HOSTILE,
        "[/]",
        "[b]",
        "[@click=x]",
        "\x1b[",
        "\u2066",
        "\ud800",
        "\U000e0041",
    ]
    pieces += [chr(c) for c in (*range(0, 0x3000, 7), *range(0x1F300, 0x1F700, 97))]
    drawn = (uniforms(11, "names", 2000, 5) * len(pieces)).astype(int)
    for row in drawn:
        name = "".join(pieces[k] for k in row)
        paper = Paper(io.StringIO(), width=10_000, force_terminal=True)
        paper.say(name)
        paper.print(styled((name, "bold")), soft_wrap=True)
        assert isinstance(paper.file, io.StringIO)
        first, second = paper.file.getvalue().rstrip("\n").split("\n")
        assert first == plain(name)
        assert second == f"\x1b[1m{plain(name)}\x1b[0m"
        seen(str(InputError(name, name, name, name)))


def test_a_report_is_printed_literally_on_any_console(scenario: Path) -> None:
    summary = ttc.simulate(scenario).summary()
    console = Console(file=io.StringIO(), width=2000, force_terminal=False, record=True)
    print_summary(console, summary, {})
    said = console.export_text()
    assert isinstance(console.file, io.StringIO)
    seen(console.file.getvalue())
    for name in HOSTILE:
        assert plain(name) in said
    console.print("[bold]still its own[/]")  # the console of the caller's stays what it was
    assert console.file.getvalue().endswith("\nstill its own\n")


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_names_of_files_are_no_patterns(tmp_path: Path, ending: str) -> None:
    folder = tmp_path / "x[]*?{a}"
    folder.mkdir()
    table = pl.DataFrame({"a": [1, 2]})
    write_table(table, folder / f"t[1].{ending}")
    assert read_table(folder / f"t[1].{ending}").equals(table)
