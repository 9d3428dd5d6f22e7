"""How far long work is: the time that is left, what is seen of it, and what an interruption leaves."""

from __future__ import annotations

import itertools
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nbclient import NotebookClient

import ttc_sim as ttc
from ttc_sim.base import showing
from ttc_sim.base.progress import Counting, Pace, Step, counted, duration, time_left_s, within

from .conftest import ROOT

unix = pytest.mark.skipif(os.name == "nt", reason="there are no signals and no pseudo-terminals")

# ---------------------------------------------------------------------------------------------------- the time left


def said(times: Iterable[float]) -> list[tuple[float, float, float]]:
    """Of work whose steps end at these times: every second the time, what is said to be left, and what is."""
    ends = list(times)
    pace, found, done = Pace(0.0), [], 0
    for now in range(int(ends[-1])):
        while ends[done] <= now:
            pace.mark(ends[done], done + 1)
            done += 1
        left = pace.left_s(len(ends), now)
        if left is not None:
            found.append((float(now), left, ends[-1] - now))
    return found


def test_steady_work_takes_as_long_as_is_said() -> None:
    for each in (0.05, 0.7, 3.0, 40.0):
        found = said(each * k for k in range(1, 101))
        assert all(left == pytest.approx(real, rel=0.02, abs=each) for _, left, real in found)
        assert found[0][0] <= max(2.0, 3.2 * each + 1), "it is said as soon as it can be known"


def test_nothing_is_said_before_it_can_be_known() -> None:
    assert time_left_s([(0.0, 0), (0.1, 5), (1.9, 9)], 100, 1.9) is None, "two seconds"
    assert time_left_s([(0.0, 0), (3.0, 2)], 100, 4.0) is None, "a few steps"
    assert time_left_s([(0.0, 0), (60.0, 1)], 4, 60.0) == pytest.approx(180), "one of four says enough"
    assert time_left_s([(0.0, 0)], 100, 50.0) is None


def test_the_start_of_processes_is_no_step() -> None:
    assert all(
        left == pytest.approx(real, rel=0.1) for now, left, real in said(20 + k for k in range(1, 60)) if now > 23
    )


def test_work_that_slows_down_is_followed_better_than_by_its_mean() -> None:
    ends, off, off_by_mean = list(itertools.accumulate(0.05 * k for k in range(1, 61))), 0.0, 0.0
    for now, left, real in said(ends):
        done = sum(end <= now for end in ends)
        off += abs(left - real)
        off_by_mean += abs(ends[done - 1] / done * (len(ends) - done) - (now - ends[done - 1]) - real)
    assert off < 0.9 * off_by_mean


@pytest.mark.parametrize("workers", [2, 8])
def test_bursts_of_several_processes_make_no_jumps(workers: int) -> None:
    found = said(4.0 * (k // workers + 1) + 0.01 * (k % workers) for k in range(20 * workers))
    late = [one for one in found if one[0] > 12]
    assert all(left == pytest.approx(real, rel=0.35, abs=4) for _, left, real in late)
    for (_, one, _), (_, other, _) in itertools.pairwise(late):
        assert abs(one - other) < 0.25 * one + 4


def test_a_step_that_is_overdue_lets_the_rest_take_longer() -> None:
    marks = [(float(k), float(k)) for k in range(11)]
    left = [time_left_s(marks, 20, 10.0 + waited) for waited in range(30)]
    assert left[0] == pytest.approx(10)
    assert all(one is not None and one > 8 for one in left)
    assert left[5:] == sorted(left[5:], key=float)  # type: ignore[arg-type]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), max_size=80), st.floats(0, 1000), st.floats(0, 500))
def test_it_is_never_negative(steps: list[tuple[float, float]], waited: float, more: float) -> None:
    pace, now, done = Pace(5.0), 5.0, 0.0
    for after, by in steps:
        now, done = now + after, done + by
        pace.mark(now, done)
    left = pace.left_s(done + more, now + waited)
    assert left is None or left >= 0


def test_durations_are_read_at_a_glance() -> None:
    shown = [duration(seconds) for seconds in (0.1, 9.4, 58, 80, 599, 3599, 7200, 1e5)]
    assert shown == ["1 s", "9 s", "1 min", "1 min 20 s", "10 min", "1 h", "2 h", "28 h"]
    for seconds in range(1, 40_000, 7):
        parts = re.findall(r"(\d+) (h|min|s)", duration(seconds))
        assert sum(int(n) * {"h": 3600, "min": 60, "s": 1}[unit] for n, unit in parts) == pytest.approx(
            seconds, rel=0.1
        )


# ------------------------------------------------------------------------------------------------------ what is told


class Clock:
    """Seconds as a test wants them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


def test_counting_tells_of_its_ends_and_little_between(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = Clock(monkeypatch), list[str]()
    for _ in counted(range(10_000), told.append, "working", "things"):
        clock.now += 0.001
    done = [one.done for one in told if isinstance(one, Step)]
    assert (done[0], done[-1]) == (0, 10_000)
    assert done == sorted(done)
    assert len(told) <= 2 + 10_000 * 0.001 / 0.1
    tell = Counting(told.append, "more", 10)
    for odd in (3, 1, 20):
        clock.now += 1
        tell(odd)
    assert [one.done for one in told[-3:] if isinstance(one, Step)] == [3, 3, 10]


def test_a_part_is_told_of_under_its_name() -> None:
    told: list[str] = []
    tell = within(told.append, "fold 2")
    tell("a line")
    tell(Step("verifying", 2, 5, "runs"))
    assert told == ["fold 2: a line", "fold 2: verifying: 2 of 5 runs"]
    assert isinstance(told[1], Step)
    assert (told[1].stage, told[1].done, told[1].total) == ("fold 2: verifying", 2, 5)


def test_a_log_is_not_flooded(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, written = Clock(monkeypatch), list[tuple[float, str]]()
    lines = showing.Lines(lambda line: written.append((clock.now, line)))
    for k in range(601):
        lines(Step("simulating", k, 600, "points"))
        clock.now += 0.1
    lines(Step("verifying"))
    for k in range(200):
        lines(Step("verifying", detail=f"proposal {k}"))
        clock.now += 0.1
    lines("nobody should miss this")
    texts = [line for _, line in written]
    assert texts[0] == "simulating: 1 of 600 points", "work that fails at once says why, and nothing before that"
    assert "simulating: 600 of 600 points" in texts
    assert any(re.fullmatch(r"simulating: \d+ of 600 points, about \d+ s left", one) for one in texts)
    assert texts[-1] == "nobody should miss this"
    same = [when for when, line in written if line.startswith("simulating")][:-1]
    assert all(later - earlier >= showing.LOG_EVERY_S for earlier, later in itertools.pairwise(same))
    assert len(texts) <= 6 + 2 + 4


def test_a_function_is_spared_most_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = Clock(monkeypatch), list[str]()

    @showing.shows_progress()
    def work() -> None:
        for _ in counted(range(100), showing.telling("work", told.append), "working", "things"):
            clock.now += 0.11

    work()
    assert (told[0], told[-1]) == ("working: 0 of 100 things", "working: 100 of 100 things")
    assert len(told) <= 2 + 11


def test_what_cannot_be_told_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (3, "yes", {"a": 1}):
        with pytest.raises(ttc.InputError, match="progress"):
            ttc.simulate(small(), progress=wrong)  # type: ignore[arg-type]
    ttc.simulate(small(), progress=False)
    ttc.simulate(small())
    assert capsys.readouterr().err == "", "a script that does not ask for it sees nothing"
    ttc.simulate(small(), progress=True)
    err = capsys.readouterr().err
    assert re.search(r"simulating: [12] of 2 runs", err)
    assert "0 of 2" not in err
    assert err.isprintable() or not re.search(r"[\x00-\x09\x0b-\x1f]", err)


# --------------------------------------------------------------------------------------------- every long function


def small(**changes: Any) -> ttc.Scenario:
    """A scenario with little to choose from."""
    scenario = ttc.load_scenario("competition-maths")
    few = {
        "workload.requests": 60,
        "replications": 2,
        "search": {"bands": 2, "caps": {"thinker-32b": [4096]}, "replicas": {}},
    }
    return ttc.with_changes(scenario, {**few, **changes})


LONG: dict[str, Callable[[Any], object]] = {
    "simulate": lambda progress: ttc.simulate(small(), progress=progress),
    "sweep": lambda progress: ttc.sweep(small(), {"seed": [1, 2, 3]}, progress=progress),
    "what_if": lambda progress: ttc.what_if(small(), {"busy": {"ready.traffic": "2x"}}, progress=progress),
    "sensitivity": lambda progress: ttc.sensitivity(small(), progress=progress),
    "optimize": lambda progress: ttc.optimize(small(), progress=progress),
}


@pytest.mark.parametrize("name", LONG)
def test_work_only_goes_forward_and_arrives(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(showing, "LISTENER_EVERY_S", 0.0)
    told: list[str] = []
    LONG[name](told.append)
    steps = [one for one in told if isinstance(one, Step)]
    assert any(one.total for one in steps)
    for before, one in itertools.pairwise([Step(""), *steps, Step("")]):
        stage, later = ((x.stage, x.total) for x in (before, one))
        if stage == later:
            assert one.done >= before.done or before.done == before.total
        elif before.total is not None:
            assert before.done == before.total, f"{before} was left for {one}"
        assert one.total is None or 0 <= one.done <= one.total


# ---------------------------------------------------------------------------------------------- terminal and notebook

WORK = """
import time
from ttc_sim.base.progress import Step, counted
from ttc_sim.base.showing import shows_progress, telling

@shows_progress()
def work(progress=None, each_s=0.12):
    say = telling("work", progress)
    for _ in counted(range(30), say, "working", "things"):
        time.sleep(each_s)
    say(Step("ending"))
    time.sleep(0.3)
"""


def on_a_terminal(*command: str, until: bytes = b"\0", **environment: str) -> tuple[int, str]:
    """Exit status and all that a pseudo-terminal was sent; Ctrl-C is typed once ``until`` is seen."""
    import pty

    parent, child = pty.openpty()
    process = subprocess.Popen(
        command,
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100", **environment},
    )
    os.close(child)
    seen, start = b"", time.monotonic()
    while time.monotonic() - start < 120:
        ready, _, _ = select.select([parent], [], [], 0.2)
        try:
            more = os.read(parent, 65536) if ready else b""
        except OSError:
            break
        seen += more
        if until in seen:
            until = b"\0"
            os.killpg(process.pid, signal.SIGINT)
    os.close(parent)
    return process.wait(timeout=30), seen.decode()


@unix
@pytest.mark.parametrize("plain", [False, True])
def test_a_terminal_has_one_line_that_goes(plain: bool) -> None:
    dull: dict[str, Any] = (
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "NO_COLOR": "1"} if plain else {"PYTHONIOENCODING": "utf-8"}
    )
    status, seen = on_a_terminal(sys.executable, "-c", f"{WORK}\nwork(True)\nprint('over')", **dull)
    assert status == 0
    frames = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", one).strip() for one in seen.split("\r")]
    counts = [int(found[1]) for one in frames if (found := re.search(r"working: (\d+) of 30 things", one))]
    assert counts == sorted(counts)
    assert len(set(counts)) > 5
    assert any(re.search(r"\d+% +about \d+ s left$", one) for one in frames)
    assert any("ending" in one for one in frames)
    assert seen.isascii() or not plain
    assert ("\x1b[32m" in seen) != plain, "colours"
    shown = seen[seen.rindex("ending") :]
    assert "\x1b[2K" in shown, "the line is wiped"
    assert frames[-2:] == ["over", ""] or frames[-1] == "over" or shown.rstrip().endswith("over")


def test_a_dumb_terminal_gets_lines(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert not showing.is_terminal()


class Kernel(NotebookClient):
    """Runs a notebook, and notes what it shows on the way."""

    watched = False
    changes: list[str]

    async def async_start_new_kernel_client(self) -> Any:
        """As for somebody who has the notebook open, and could be asked for input."""
        client = await super().async_start_new_kernel_client()
        client.allow_stdin = self.watched
        return client

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Note it."""
        if msg["msg_type"] in ("display_data", "update_display_data"):
            self.changes.append(msg["content"]["data"].get("text/plain", ""))
        return super().process_message(msg, cell, cell_index)


def in_a_kernel(*cells: str, watched: bool) -> tuple[list[str], list[Any]]:
    """What was shown for a time, and the outputs that cells keep."""
    made = [nbformat.v4.new_code_cell(one) for one in cells]  # type: ignore[no-untyped-call]
    client = Kernel(nbformat.v4.new_notebook(cells=made), timeout=120)  # type: ignore[no-untyped-call]
    client.changes, client.watched = [], watched
    client.execute()
    return client.changes, [cell.outputs for cell in client.nb.cells]


LINE = re.compile(r"\d+%  working: \d+ of 30 things, about \d s left")


def test_a_notebook_shows_a_line_and_keeps_none() -> None:
    cells = (WORK, "print('before')\nwork(True)\nprint('after')", "work()\n1 + 1", "work(False)")
    changes, (_, asked, unasked, silenced) = in_a_kernel(*cells, watched=False)
    assert sum(LINE.fullmatch(one) is not None for one in changes) >= 2
    assert len(changes) < 20
    assert changes[-1] == "", "the line goes"
    assert "".join(one["text"] for one in asked if one["output_type"] == "stream") == "before\nafter\n"
    assert [one["data"] for one in asked if one["output_type"] == "display_data"] == [{}]
    assert [one["output_type"] for one in unasked] == ["execute_result"], (
        "nobody watches a notebook that runs by itself"
    )
    assert silenced == []


def test_an_open_notebook_shows_what_takes_long_unasked() -> None:
    changes, (_, long, kept) = in_a_kernel(WORK, "work()", "work(each_s=0.001)", watched=True)
    assert any(LINE.fullmatch(one) for one in changes)
    assert changes[-1] == ""
    assert [one["data"] for one in long] == [{}]
    assert kept == [], "short work shows nothing"


# ------------------------------------------------------------------------------------------------------- Ctrl-C


def children(of: int) -> list[int]:
    """Processes that one has begun."""
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(of)], capture_output=True, text=True, check=False).stdout
    return [int(one) for one in listed.split()]


def interrupted(folder: Path, *words: str, until: str) -> tuple[int, list[str]]:
    """Exit status and lines of a command that is interrupted once a line begins as the pattern; none of its processes is left."""
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, *words, "--verbose"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stderr is not None
    lines: list[str] = []
    for line in process.stderr:
        lines.append(line.rstrip())
        if re.match(until, line.partition(" s  ")[2]):
            break
    begun = children(process.pid)
    process.send_signal(signal.SIGINT)
    lines += process.stderr.read().splitlines()
    status = process.wait(timeout=60)
    until_s = time.monotonic() + 10
    while any(Path(f"/proc/{one}").exists() for one in begun) and time.monotonic() < until_s:
        time.sleep(0.1)
    assert not [one for one in begun if Path(f"/proc/{one}").exists()], "workers are gone"
    assert not any("Traceback" in one for one in lines)
    return status, lines


# Where tests run in the background, interruptions are ignored unless somebody wants them.
_RUN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ttc_sim.cli import main; main()"


@unix
def test_an_interruption_writes_nothing_and_says_so(tmp_path: Path) -> None:
    words = ["sensitivity", "qa-gateway", "--workers", "2", "--json", "out.json"]
    status, lines = interrupted(tmp_path, *words, until="one at a time: 0")
    assert status == 130
    assert [one for one in lines if "interrupted" in one] == ["interrupted: nothing was written"]
    assert list(tmp_path.iterdir()) == []


@unix
def test_an_interrupted_sweep_says_what_is_kept_and_goes_on(tmp_path: Path) -> None:
    words = ["sweep", "qa-gateway", "--grid", "seed=" + ",".join(map(str, range(60))), "--out", "out.parquet"]
    status, lines = interrupted(tmp_path, *words, "--workers", "1", "--requests", "1000", until=r"simulating: [1-9]")
    assert status == 130
    (line,) = [one for one in lines if "interrupted" in one]
    kept = re.fullmatch(r"interrupted: (\d+) of 60 points are kept in out.parquet.journal: .* goes on from there", line)
    assert kept is not None
    assert [one.name for one in tmp_path.iterdir()] == ["out.parquet.journal"]
    assert len((tmp_path / "out.parquet.journal").read_text().splitlines()) == 1 + int(kept[1])
