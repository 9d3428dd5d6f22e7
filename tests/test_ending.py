"""How commands end: one line and a status of its own for whatever goes wrong, and never a traceback."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ttc_sim import cli
from ttc_sim.cli import ending

ROOT = Path(__file__).resolve().parents[1]


def end(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["ttc-sim", *words])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["simulate"], "ttc-sim simulate: Missing argument 'scenario'"),
        (["simulate", "x", "--requests", "many"], "ttc-sim simulate: --requests: got 'many'; expected a valid integer"),
        (["simulate", "x", "--requests=0"], "--requests: got '0'; expected greater than or equal to 1"),
        (["check", "x", "--checks=some"], "--checks: got 'some'; expected one of 'failing', 'all'"),
        (["simulate", "x", "--requests"], "Option '--requests' requires an argument"),
        (["simulate", "x", "--nope"], "No such option: --nope"),
        (["simulate", "x", "--no\x1b[31mpe\n"], r"No such option: --no\x1b[31mpe"),
        (["simulat", "x"], "No such command 'simulat'"),
        (["predictor", "check"], "ttc-sim predictor check: Missing argument"),
        (["simulate", "no-such-scenario"], "no-such-scenario: file: got 'no-such-scenario'"),
    ],
)
def test_what_is_mistyped_is_one_line_and_no_missed_target(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert end(monkeypatch, *words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert says in err


@pytest.mark.parametrize("words", [[], ["predictor"], ["profile"]])
def test_nothing_asked_for_shows_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert end(monkeypatch, *words) == 1
    assert "Usage" in capsys.readouterr().out
    assert end(monkeypatch, *words, "--help") == 0


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (KeyError("secret of the user's"), "KeyError, which is not foreseen"),
        (MemoryError(), "not enough memory"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deep"),
        (SystemExit(0), "wanted to end it"),
        (SystemExit("bye"), "wanted to end it"),
        (GeneratorExit(), "GeneratorExit"),
        (type("PanicException", (BaseException,), {})("rust"), "PanicException"),
    ],
)
def test_what_is_not_foreseen_is_one_line_and_its_trace_is_in_a_file_of_the_users_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    says: str,
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "scenario_routed_by", fails)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert end(monkeypatch, "simulate", "a-file-of-the-users.yaml", "--policy=Always('x')") == 70
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert says in err
    assert "secret" not in err
    named = re.search(r"the trace is in (\S+), please", err)
    assert named is not None
    file = Path(named[1])
    assert list(tmp_path.iterdir()) == [file]
    assert os.name == "nt" or stat.S_IMODE(file.stat().st_mode) == 0o600
    text = file.read_text()
    assert "in fails" in text
    assert "numpy" in text
    assert "options --policy" in text
    assert "a-file-of-the-users" not in text


def test_a_trace_that_cannot_be_written_is_no_second_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def fails(*_: object) -> None:
        raise KeyError

    monkeypatch.setattr(cli, "scenario_routed_by", fails)
    monkeypatch.setattr("tempfile.mkstemp", full)
    assert end(monkeypatch, "simulate", "x") == 70
    assert "could not be written (No space left on device)" in capsys.readouterr().err


def test_targets_that_are_missed_have_a_status_of_their_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Missed:
        status = "nearest"

    monkeypatch.setattr("ttc_sim.optimizer.optimizing.optimize", lambda *_, **__: Missed())
    monkeypatch.setattr("ttc_sim.reporting.text.print_plan", lambda *_, **__: None)
    assert end(monkeypatch, "optimize", "qa-gateway") == 2


@pytest.mark.skipif(os.name == "nt", reason="there are no signals")
def test_an_interruption_is_one_line() -> None:
    code = "import time; from ttc_sim import cli\n"
    code += "def wait(*_):\n    print('here', flush=True)\n    time.sleep(60)\n"
    code += "cli.scenario_routed_by = wait; cli.main()"
    line = [sys.executable, "-c", code, "simulate", "x"]
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "interrupted: files are whole or as before\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_output_that_nobody_takes_is_no_traceback() -> None:
    line = [sys.executable, "-c", "from ttc_sim.cli import main; main()", "simulate", "--help"]
    with Path("/dev/full").open("w") as full:
        got = subprocess.run(line, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (got.returncode, len(got.stderr.splitlines())) == (1, 1)
    assert "No space left on device" in got.stderr
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 141  # as a shell says of what SIGPIPE ends


@pytest.mark.parametrize("letters", [300, 5000])
@pytest.mark.parametrize(
    "words",
    [
        "simulate {}",
        "whatif {}",
        "sessions {}",
        "optimize qa-gateway --robust {}",
        "optimize qa-gateway --robust {}/x.yaml",
        "backtest {} --calibrate-on {}={}",
        "import {}",
        "report {} --out r.html",
        "predictor score {}",
        "profile show {}",
        "simulate qa-gateway --predictor {}",
        "simulate qa-gateway --json {}",
        "sweep qa-gateway --grid seed=1 --out {}",
    ],
)
def test_names_that_no_file_can_have_are_one_line(
    words: str, letters: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ending.carry_out(typer.main.get_command(cli.app), words.replace("{}", "x" * letters).split()) == 1
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]) == 1
    assert not list(tmp_path.iterdir())
