"""What all commands have in common: help that ends with an example, JSON on standard output, how loud they are."""

from __future__ import annotations

import inspect
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ttc_sim import cli
from ttc_sim.cli import ending, output
from ttc_sim.cli.examples import EXAMPLES
from ttc_sim.cli.loudness import json_place
from ttc_sim.scenario.load import find_scenario

ROOT = Path(__file__).resolve().parents[1]
CHEAP = ("prices", "profile show")
"""Commands whose examples take a moment, and need nothing that is not shipped."""


def commands(command: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    command = typer.main.get_command(cli.app) if command is None else command
    yield " ".join(words), command
    for name, one in getattr(command, "commands", {}).items():
        yield from commands(one, (*words, name))


COMMANDS = dict(commands())


def words_of(example: str) -> list[str]:
    """The command line of an example, without what it is piped from or to."""
    words = shlex.split(example)
    words = words[words.index("ttc-sim") + 1 :]
    return words[: words.index("|")] if "|" in words else words


def end(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ttc-sim", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_ends_with_an_example_that_can_be_copied(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    assert end(monkeypatch, *name.split(), "--help") == 0
    shown = capsys.readouterr().out.rstrip().splitlines()
    examples = EXAMPLES[name]
    assert [line.strip() for line in shown[-len(examples) :]] == list(examples)


def test_no_example_is_of_a_command_that_is_gone() -> None:
    assert set(EXAMPLES) == set(COMMANDS)


@pytest.mark.parametrize(("name", "example"), [(name, one) for name, lines in EXAMPLES.items() for one in lines])
def test_every_example_is_a_command_line_that_is_understood(name: str, example: str) -> None:
    words, command = words_of(example), COMMANDS[""]
    called: list[str] = []
    while hasattr(command, "commands"):
        called.append(words.pop(0))
        command = command.commands[called[-1]]
    assert " ".join(called).startswith(name)
    with command.make_context(called[-1], words) as context:
        given = context.params
    scenario = given.get("scenario")
    if isinstance(scenario, str) and not scenario.endswith(".yaml"):
        assert find_scenario(scenario).is_file()


@pytest.mark.parametrize("name", CHEAP)
def test_examples_do_what_they_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for example in EXAMPLES[name]:
        assert end(monkeypatch, *words_of(example)) == 0
        assert capsys.readouterr().out


def test_all_commands_take_json_in_one_way_and_can_be_quiet_and_verbose() -> None:
    for name, command in COMMANDS.items():
        by_option = {text: one for one in command.params for text in one.opts}
        assert {"--quiet", "-q", "--verbose", "-v"} <= set(by_option), name
        if "--json" in by_option:
            assert json_place(Path("-")) == Path("/dev/stdout")
            assert "- is standard output" in str(by_option["--json"].help), name


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """In a process of its own, whose standard output is a pipe."""
    line = [sys.executable, "-c", "from ttc_sim.cli import main; main()", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(line, capture_output=True, text=True, env=environment, **options)


@pytest.mark.parametrize(
    "words",
    [
        ("prices", "google/gemini-2.5-pro"),
        ("prices", "gemini"),
        ("profile", "show", "math/sky-t1-32b"),
        ("evaluate", "math/sky-t1-32b", "--strategy", "Single(cap=2048)"),
    ],
)
def test_json_on_standard_output_is_all_that_stands_there(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...]
) -> None:
    assert end(monkeypatch, *words, "--json", "-") == 0
    printed = capfd.readouterr().out
    assert end(monkeypatch, *words, "--json", str(tmp_path / "same.json"), "--quiet") == 0
    assert capfd.readouterr() == ("", "")
    assert json.loads(printed)
    assert printed == (tmp_path / "same.json").read_text()


def test_json_on_standard_output_goes_into_a_pipe_or_a_file_like_anything_else(tmp_path: Path) -> None:
    scenario = tmp_path / "tiny.yaml"
    scenario.write_text(
        "name: tiny\nworkload:\n  arrivals: {process: poisson, rate_per_s: 1}\n  requests: 20\n"
        "  lengths: {prompt_tokens: 10, output_tokens: 10}\n"
        "deployments: {a: {kind: api, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}, "
        "first_token: {median_s: 0.1}, per_token: {median_s: 0.01}}}\n"
        "arms: {a: {deployment: a}}\npolicy: Always('a')\n"
    )
    piped = run("simulate", str(scenario), "--json", "-")
    assert piped.returncode == 0, piped.stderr
    assert json.loads(piped.stdout)["scenario"] == "tiny"
    assert piped.stderr  # progress stands beside it


def test_a_quiet_command_still_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert end(monkeypatch, "simulate", "no-such-scenario", "-q") == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("error: no-such-scenario")


def test_a_verbose_command_says_at_the_end_what_it_took(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert end(monkeypatch, "-v", "prices", "google/gemini-2.5-pro") == 0
    out, err = capfd.readouterr()
    assert "US dollars per million tokens" in out
    assert err.splitlines()[-1].endswith("exit status 0")
    assert end(monkeypatch, "prices", "google/gemini-2.5-pro", "-v", "-q") == 1
    assert "one of the two" in capfd.readouterr().err


def test_how_loud_one_command_was_is_forgotten_by_the_next(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert end(monkeypatch, "prices", "google/gemini-2.5-pro", "--quiet") == 0
    assert capfd.readouterr().out == ""
    assert end(monkeypatch, "prices", "google/gemini-2.5-pro") == 0
    assert capfd.readouterr().out != ""


def offered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str) -> list[str]:
    """What bash is told of the last word of a line."""
    words = f"ttc-sim {line}"
    monkeypatch.setenv("_TTC_SIM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    with pytest.raises(SystemExit):
        cli.main()
    out, err = capsys.readouterr()
    assert err == ""
    return str(out).split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("simulate q", ["qa-gateway"]),
        ("whatif reasoning-g", ["reasoning-gateway"]),
        ("evaluate math/sky", ["math/sky-t1-32b", "math/sky-t1-32b-short"]),
        ("profile show mmlu-pro/phi", ["mmlu-pro/phi-3-mini-4k-instruct"]),
        ("simulate qa-gateway --predictor e", ["encoder"]),
        ("scenario init mine --gpu h", ["h100_sxm", "h200_sxm"]),
        ("gpus l4", ["l40s"]),
        ("prices google/gemini-2.5-p", ["google/gemini-2.5-pro", "google/gemini-2.5-pro-tts"]),
        ("list --kind pro", ["profile", "problem-set"]),
        ("export plan.yaml --to li", ["litellm"]),
        ("import x --format litell", ["litellm"]),
        ("sweep qa-gateway --grid workload.req", ["workload.requests="]),
        (
            "whatif qa-gateway --set targets.lat",
            ["targets.latency_p50_s=", "targets.latency_p95_s=", "targets.latency_p99_s="],
        ),
        ("whatif qa-gateway --ready traf", ["traffic="]),
        ("optimize x --q", ["--quiet"]),
        ("sche", ["schema"]),
        ("whatif no-such-scenario --set w", []),
    ],
)
def test_shells_complete_names(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    line: str,
    expected: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert offered(monkeypatch, capsys, line) == expected


def test_shells_complete_files_of_ones_own_and_a_broken_one_is_no_trace(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("workload: [\n")
    (tmp_path / "mine.onnx").write_text("")
    assert offered(monkeypatch, capsys, "capacity mi") == ["mine.yaml"]
    assert offered(monkeypatch, capsys, "check mi") == ["mine.yaml"]
    assert offered(monkeypatch, capsys, "predictor score x --model m") == ["mine.onnx"]
    assert offered(monkeypatch, capsys, "whatif mine.yaml --set w") == []


PAGE = (ROOT / "docs" / "command-line.md").read_text()


def rows(heading: str) -> dict[str, str]:
    """First and second cell of the rows of a table on the page."""
    lines = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0].splitlines()[2:]
    cells = [line.strip("| ").split(" | ", 1) for line in lines]
    return {one.strip("`"): meaning for one, meaning in cells}


def test_the_page_has_every_exit_status_that_there_is() -> None:
    ours = {0, ending.BAD_INPUT, ending.UNREACHABLE, ending.UNFORESEEN, ending.INTERRUPTED, output.BROKEN_PIPE}
    assert {int(one) for one in rows("status")} == ours
    for status in ours - {output.BROKEN_PIPE}:
        assert f"{status} " in ending.STATUSES


def test_the_page_has_every_command_whose_answer_may_be_no() -> None:
    may = {
        name
        for name, command in COMMANDS.items()
        if command.callback is not None and "typer.Exit(UNREACHABLE)" in inspect.getsource(command.callback)
    }
    assert set(rows("command")) == may
    for name in may:
        assert "xit status" in COMMANDS[name].help, name


def test_no_command_ends_with_a_status_of_its_own() -> None:
    for file in (ROOT / "ttc_sim" / "cli").glob("*.py"):
        for line in file.read_text().splitlines():
            assert "typer.Exit(" not in line or "typer.Exit(UNREACHABLE)" in line, f"{file.name}: {line}"


def test_the_page_has_every_variable_that_is_read() -> None:
    named = set()
    for file in (ROOT / "ttc_sim").rglob("*.py"):
        named |= set(re.findall(r"TTC_SIM_[A-Z_]+", file.read_text()))
    limits = {one for one in named if one.startswith("TTC_SIM_MAX_")}
    assert named - limits <= set(re.findall(r"TTC_SIM_[A-Z_]+", PAGE))
    security = (ROOT / "SECURITY.md").read_text()
    assert all(one in security for one in limits)
