"""Files are there whole or as they were before: through kills, links, pipes, devices, full disks and wrong names."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.files import leftovers, whole_folders, writing
from ttc_sim.files.leftovers import clear_left, put_back, temporary_folder
from ttc_sim.files.tables import write_table
from ttc_sim.files.whole_folders import folder_written_whole, swap
from ttc_sim.files.writing import check_outputs, write_atomically, written_together, written_whole
from ttc_sim.measured.profiles import load_profile

from .conftest import ROOT
from .test_scenario import GOOD

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills, links, pipes and modes of POSIX")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
ENDED, REFUSED, UNEXPECTED = 0, 3, 4
# Calls that change what is on the disk; between others nothing happens.
CHANGES = {
    "open",
    "write",
    "close",
    "fsync",
    "rename",
    "replace",
    "link",
    "symlink",
    "unlink",
    "mkdir",
    "rmdir",
    "chmod",
}


def in_a_child(work: Callable[[], object], prepare: Callable[[], object] = lambda: None) -> int:
    """Do the work in a process of its own, which may be killed; return its status as :mod:`os` gives it."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        prepare()
        work()
        os._exit(ENDED)
    except InputError:
        os._exit(REFUSED)
    except BaseException:
        os._exit(UNEXPECTED)


def killed_at(number: int) -> Callable[[], None]:
    """Be killed, as by ``kill -9``, before the so-manieth call that changes anything."""
    calls = 0

    def count(_: object, event: str, called: Any) -> None:
        nonlocal calls
        if event == "c_call" and called.__name__ in CHANGES:
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)

    return lambda: sys.setprofile(count)


def at_every_moment(work: Callable[[], object], before: Callable[[], object], after: Callable[[], object]) -> int:
    """Kill the work at its first call, at its second and so on until it ends; return how many there were."""
    for number in range(1, 2000):
        before()
        status = in_a_child(work, killed_at(number))
        after()
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == ENDED
            return number
        assert os.WTERMSIG(status) == signal.SIGKILL
    raise AssertionError("it never ends")


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Files may grow to so many bytes: what a full disk says, EFBIG for ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# Killed.


def test_files_killed_at_any_moment_are_old_or_new(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.json", "b.yaml")]

    def write() -> None:
        with written_together():
            for file in files:
                write_atomically(file, "new" * 1000)

    def before() -> None:
        for file in files:
            file.write_text("old")

    def after() -> None:
        assert {file.read_text() for file in files} <= {"old", "new" * 1000}
        write_atomically(tmp_path / "another.json", "{}")
        assert names(tmp_path) == ["a.json", "another.json", "b.yaml"]

    assert at_every_moment(write, before, after) > 10
    assert all(file.read_text() == "new" * 1000 for file in files)


@pytest.mark.parametrize("can_swap", [True, False])
def test_a_profile_killed_at_any_moment_is_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_swap: bool
) -> None:
    place = tmp_path / "mine"
    own = ("profile.yaml", "attempts.parquet")
    if not can_swap:
        monkeypatch.setattr(whole_folders, "swap", lambda *_: False)
    elif not swaps(tmp_path):
        pytest.skip("folders cannot change places here")

    def write() -> None:
        with folder_written_whole(place, own) as beside:
            for name in own:
                (beside / name).write_text("new")

    def before() -> None:
        place.mkdir(exist_ok=True)
        for name in own:
            (place / name).write_text("old")
        (place / "more").mkdir(exist_ok=True)
        for name in ("forced.csv", "more/notes.txt"):
            (place / name).write_text("somebody's")

    def after() -> None:
        assert can_swap <= place.exists()
        put_back(place)
        assert {(place / name).read_text() for name in own} in ({"old"}, {"new"})
        assert names(place) == ["attempts.parquet", "forced.csv", "more", "profile.yaml"]
        assert {(place / name).read_text() for name in ("forced.csv", "more/notes.txt")} == {"somebody's"}
        clear_left(tmp_path)
        assert names(tmp_path) == ["mine"]

    assert at_every_moment(write, before, after) > 10
    assert (place / "profile.yaml").read_text() == "new"


def swaps(folder: Path) -> bool:
    one, other = folder / "one", folder / "other"
    for place in (one, other):
        place.mkdir()
    try:
        return swap(one, other)
    finally:
        one.rmdir()
        other.rmdir()


def test_a_reader_sees_whole_files_only_while_they_are_written_over_and_over(tmp_path: Path) -> None:
    file = tmp_path / "f.json"
    write_atomically(file, "0" * 100_000)
    ready, go = os.pipe()

    def write() -> None:
        os.write(go, b"!")
        for k in range(10**6):
            write_atomically(file, str(k % 10) * 100_000)

    child = os.fork()
    if not child:
        write()
        os._exit(0)
    os.read(ready, 1)
    seen = set()
    for _ in range(200):
        content = file.read_text()
        assert len(content) == 100_000
        assert len(set(content)) == 1
        seen.add(content[0])
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert len(seen) > 1
    assert len(set(file.read_text())) == 1


def test_only_what_killed_runs_left_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = in_a_child_that_leaves(tmp_path)
    assert len(names(tmp_path)) == 1
    [left] = names(tmp_path)
    running = left.replace(str(gone), str(os.getppid()))
    elsewhere = left.replace(left.split("-")[-2], "0123ab")
    strangers = [".x.tmp", ".x.json.1234.tmp", "x.ttc-sim-1-abcdef-0.tmp", ".x.ttc-sim-one-abcdef-0.tmp"]
    for name in (running, elsewhere, *strangers):
        (tmp_path / name).write_text("")
    (tmp_path / left.replace("-0.tmp", "-7.tmp")).symlink_to(tmp_path / "x")
    write_atomically(tmp_path / "f.json", "{}")
    kept = {running, elsewhere, *strangers, left.replace("-0.tmp", "-7.tmp"), "f.json"}
    assert set(names(tmp_path)) == kept
    monkeypatch.setattr(leftovers, "OLD_S", -1)  # what another machine made is old now, what runs here is not
    write_atomically(tmp_path / "f.json", "{}")
    assert set(names(tmp_path)) == kept - {elsewhere}


def test_a_folder_that_is_being_written_is_not_taken_for_left_over(tmp_path: Path) -> None:
    """Its date is that of the folder it is for, which may be old."""
    place = tmp_path / "mine"
    place.mkdir()
    os.utime(place, (0, 0))
    with folder_written_whole(place, ["card"]) as beside:
        assert in_a_child(lambda: clear_left(tmp_path)) == ENDED
        (beside / "card").write_text("new")
    assert (place / "card").read_text() == "new"


def in_a_child_that_leaves(folder: Path) -> int:
    def write() -> None:
        with written_whole(folder / "x.json"):
            os.kill(os.getpid(), signal.SIGKILL)

    in_a_child(write)
    [left] = names(folder)
    return int(left.split("ttc-sim-")[1].split("-")[0])


def test_a_temporary_folder_is_gone_with_its_process_or_with_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    in_a_child(lambda: os.kill(os.getpid() if temporary_folder("shape").is_dir() else 0, signal.SIGKILL))
    assert len(names(tmp_path)) == 1
    words = [
        sys.executable,
        "-c",
        "from ttc_sim.files.leftovers import temporary_folder as t; print(t('shape').is_dir())",
    ]
    got = subprocess.run(
        words, env={**ENVIRONMENT, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert got.stdout == "True\n"
    assert names(tmp_path) == []


def test_a_name_as_long_as_a_name_can_be(tmp_path: Path) -> None:
    for name in ("ü" * 125 + ".json", "x" * 250 + ".json"):
        write_atomically(tmp_path / name, "{}")
        assert (tmp_path / name).read_text() == "{}"
    with pytest.raises(InputError, match="File name too long"):
        write_atomically(tmp_path / ("x" * 300), "")


# Links, modes, devices and pipes.


def test_what_a_link_points_to_is_written_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("there/real.json")
    (tmp_path / "twice.json").symlink_to("link.json")
    (tmp_path / "new.json").symlink_to("there/not-yet.json")
    for name in ("twice.json", "new.json"):
        write_atomically(tmp_path / name, name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text() == name
    assert (tmp_path / "there" / "real.json").read_text() == "twice.json"
    assert names(tmp_path / "there") == ["not-yet.json", "real.json"]
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(InputError, match="symbolic links"):
        write_atomically(tmp_path / "loop", "")


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_a_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "f.json"
    file.write_text("old")
    file.chmod(mode)
    with written_whole(file) as beside:
        beside.write_text("new")
        assert stat.S_IMODE(beside.stat().st_mode) == mode  # a secret is none for a moment only
    assert stat.S_IMODE(file.stat().st_mode) == mode
    assert file.read_text() == "new"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_the_mode_that_is_usual_here(tmp_path: Path, umask: int, mode: int) -> None:
    def write() -> None:
        os.umask(umask)
        write_atomically(tmp_path / "f.json", "{}")
        with folder_written_whole(tmp_path / "mine", ["card"]) as beside:
            (beside / "card").write_text("")

    assert in_a_child(write) == ENDED
    assert stat.S_IMODE((tmp_path / "f.json").stat().st_mode) == mode
    assert stat.S_IMODE((tmp_path / "mine").stat().st_mode) == 0o777 & ~umask
    assert stat.S_IMODE((tmp_path / "mine" / "card").stat().st_mode) == mode


def test_a_folder_that_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    place = tmp_path / "mine"
    place.mkdir(mode=0o750)
    (place / "card").touch(mode=0o640)
    with folder_written_whole(place, ["card"]) as beside:
        (beside / "card").write_text("new")
    assert stat.S_IMODE(place.stat().st_mode) == 0o750
    assert stat.S_IMODE((place / "card").stat().st_mode) == 0o640
    assert (place / "card").read_text() == "new"


def test_a_device_is_written_into() -> None:
    before = Path("/dev/null").stat()
    write_atomically(Path("/dev/null"), "gone")
    after = Path("/dev/null").stat()
    assert stat.S_ISCHR(after.st_mode)
    assert (before.st_ino, before.st_rdev) == (after.st_ino, after.st_rdev)


def test_a_pipe_with_a_name_is_written_into(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    check_outputs(json=pipe)  # of any ending, and without a reader taking that for all there is
    write_atomically(pipe, b"x" * 200_000)
    reader.join(10)
    assert got == [b"x" * 200_000]
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert names(tmp_path) == ["pipe"]


@pytest.mark.parametrize("through_a_link", [False, True])
def test_what_is_open_already_is_written_into_where_it_stands(tmp_path: Path, through_a_link: bool) -> None:
    """As ``{ echo before; ttc-sim ... --json /dev/stdout; echo after; } > out``."""
    out = tmp_path / "out"
    with out.open("w") as file:
        number = file.fileno()
        os.write(number, b"before\n")
        named = tmp_path / "link" if through_a_link else Path(f"/dev/fd/{number}")
        if through_a_link:
            named.symlink_to(f"/dev/fd/{number}")
        at = out.stat().st_ino
        write_atomically(named, "content\n")
        os.write(number, b"after\n")
    assert out.read_text() == "before\ncontent\nafter\n"
    assert out.stat().st_ino == at


def test_a_descriptor_that_cannot_be_written_to_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with (tmp_path / "f").open() as file, pytest.raises(InputError, match="may be written to"):
        check_outputs(json=Path(f"/dev/fd/{file.fileno()}"))
    with pytest.raises(InputError, match="Bad file descriptor"):
        check_outputs(json=Path("/dev/fd/987"))


# Full disks.


def test_a_full_device_is_one_line() -> None:
    with pytest.raises(
        InputError, match=r"/dev/full: file: got 'No space left on device'; expected room for it"
    ) as caught:
        write_atomically(Path("/dev/full"), "much")
    assert "\n" not in str(caught.value)


def test_on_a_full_disk_the_old_file_stays_whatever_the_format(tmp_path: Path) -> None:
    table = pl.DataFrame({"a": range(20_000)}).with_columns(b=pl.col("a").cast(pl.String))
    writers: dict[str, Callable[[Path], object]] = {
        "x.json": lambda path: write_atomically(path, "x" * 50_000),
        "x.parquet": lambda path: write_table(table, path),
        "x.csv": lambda path: write_table(table, path),
        "x.jsonl": lambda path: write_table(table, path),
        "x.png": lambda path: ttc.evaluate("math/sky-t1-32b", "Single()").plot().savefig(path),
    }
    for name, write in writers.items():
        (tmp_path / name).write_text("old")
        with room_for(3000), pytest.raises(InputError, match=r"got 'File too large'; expected room for it"):
            write(tmp_path / name)
        assert (tmp_path / name).read_text() == "old"
    assert names(tmp_path) == sorted(writers)


def test_a_profile_on_a_full_disk_stays_as_it_was(tmp_path: Path) -> None:
    build(tmp_path, 1)
    before = load_profile(tmp_path / "mine").attempts
    many = pl.DataFrame({"problem": range(3000), "prompt_tokens": 5, "output_tokens": range(1, 3001), "correct": True})
    many.write_csv(tmp_path / "many.csv")
    with room_for(3000):
        got = CliRunner().invoke(app, building(tmp_path / "many.csv", tmp_path / "mine", "--replace"))
    assert isinstance(got.exception, InputError), got.output
    assert "room for it" in str(got.exception)
    assert load_profile(tmp_path / "mine").attempts.equals(before)
    assert names(tmp_path) == ["1.csv", "many.csv", "mine"]


def test_no_room_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "ROOM", 2**70)
    with pytest.raises(InputError, match="bytes free'; expected at least"):
        check_outputs(json=tmp_path / "f.json")


def test_no_figure_is_too_small_for_a_disk_with_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was begun while there was room is ended, if there is room for it."""
    monkeypatch.setattr(writing, "ROOM", 2**70)
    write_atomically(tmp_path / "f.json", "{}")
    assert (tmp_path / "f.json").read_text() == "{}"


# Together or not at all.


def test_outputs_come_together_or_not_at_all(tmp_path: Path) -> None:
    first, second = tmp_path / "a.json", tmp_path / "b.csv"
    for file in (first, second):
        file.write_text("old")
    failures: list[Callable[[], object]] = [
        lambda: write_atomically(tmp_path / "nowhere" / "c", ""),
        lambda: write_atomically(Path("/dev/full"), "x"),
        lambda: (tmp_path / "nowhere").read_text(),
        lambda: 1 / 0,
    ]

    def write(then: Callable[[], object]) -> None:
        with written_together():
            write_atomically(first, "new")
            write_table(pl.DataFrame({"a": [1]}), second)
            then()

    for fail in failures:
        with pytest.raises((InputError, OSError, ZeroDivisionError)):
            write(fail)
        assert first.read_text() == second.read_text() == "old"
        assert names(tmp_path) == ["a.json", "b.csv"]
    write(lambda: first.read_text() == "old" or pytest.fail("written before the others are there"))
    assert (first.read_text(), second.read_text()) == ("new", "a\n1\n")
    assert names(tmp_path) == ["a.json", "b.csv"]


def test_a_place_that_became_a_folder_meanwhile_keeps_the_others_as_they_were(tmp_path: Path) -> None:
    def write() -> None:
        with written_together():
            write_atomically(tmp_path / "a.json", "new")
            write_atomically(tmp_path / "b.json", "new")
            (tmp_path / "b.json").mkdir()

    with pytest.raises(InputError, match="this is a folder"):
        write()
    assert names(tmp_path) == ["b.json"]


# Refused before any work.


def test_what_cannot_be_written_is_said_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "s.yaml").write_text("")
    (tmp_path / "link.yaml").symlink_to("s.yaml")
    (tmp_path / "same.json").symlink_to(tmp_path / "f.json")
    here: dict[str, tuple[dict[str, Path], str]] = {
        "a folder": ({"json": tmp_path / "folder.json"}, "existing folder: this is a folder"),
        "no folder": ({"json": tmp_path / "no" / "f.json"}, "existing folder"),
        "below a file": ({"json": tmp_path / "s.yaml" / "f.json"}, "Not a directory"),
        "another ending": ({"plot": tmp_path / "f.foo"}, r"'.foo'; expected a name ending in .png, .svg, .pdf"),
        "no ending": ({"plan": tmp_path / "f"}, r"''; expected a name ending in .yaml, .yml"),
        "a table": ({"table": tmp_path / "f.txt"}, r"'.txt'; expected a name ending in .parquet, .csv"),
        "figures in a picture's place": ({"json": tmp_path / "f.png"}, "ending in .json"),
        "an input": ({"plan": tmp_path / "s.yaml"}, "another file than .*s.yaml, which this command reads"),
        "an input by its link": ({"plan": tmp_path / "link.yaml"}, "which this command reads"),
        "twice": ({"json": tmp_path / "f.json", "card": tmp_path / "." / "f.json"}, "which is written too"),
        "twice by a link": ({"json": tmp_path / "f.json", "card": tmp_path / "same.json"}, "which is written too"),
        "an endless name": ({"json": tmp_path / ("x" * 300 + ".json")}, "File name too long"),
    }
    for case, (outputs, says) in here.items():
        with pytest.raises(InputError) as caught:
            check_outputs(tmp_path / "s.yaml", **outputs)
        assert re.search(says, str(caught.value)), case
    check_outputs(tmp_path / "s.yaml", json=Path("/dev/null"), plot=Path("/dev/null"), table=tmp_path / "F.PARQUET")
    assert names(tmp_path) == ["folder.json", "link.yaml", "s.yaml", "same.json"]


def test_what_may_not_be_written_to_is_refused() -> None:
    """Root may write everywhere, so the child is nobody; pytest's own folders are closed to it."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        refused_to_nobody(Path(folder))


def refused_to_nobody(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    (tmp_path / "shared" / "others.json").write_text("old")
    (tmp_path / "shared" / "others.json").chmod(0o666)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open" / "read-only.json").write_text("old")
    (tmp_path / "open" / "read-only.json").chmod(0o444)

    def nobody() -> None:
        if os.geteuid() == 0:
            os.setuid(65534)

    refused = ["closed/f.json", "open/read-only.json"] + (["shared/others.json"] if os.geteuid() == 0 else [])
    for name in refused:
        for act in (lambda at: check_outputs(json=at), lambda at: write_atomically(at, "new")):
            status = in_a_child(lambda act=act, name=name: act(tmp_path / name), nobody)  # type: ignore[misc]
            assert os.WEXITSTATUS(status) == REFUSED, name
    assert in_a_child(lambda: write_atomically(tmp_path / "open" / "f.json", "new"), nobody) == ENDED
    assert (tmp_path / "open" / "read-only.json").read_text() == "old"


# Profiles.


def building(table: Path, folder: Path, *more: str) -> list[str]:
    said = {"model": "m", "origin": "o", "licence": "l", "date": "2026-11-24", "tokenizer": "t"}
    return ["profile", "build", str(table), str(folder), *(w for k, v in said.items() for w in (f"--{k}", v)), *more]


def build(folder: Path, tokens: int, *more: str) -> Any:
    table = pl.DataFrame({"problem": ["a", "b"], "prompt_tokens": 5, "output_tokens": tokens, "correct": [True, False]})
    table.write_csv(folder / f"{tokens}.csv")
    return CliRunner().invoke(app, building(folder / f"{tokens}.csv", folder / "mine", *more))


def test_replace_keeps_what_others_put_there(tmp_path: Path) -> None:
    assert build(tmp_path, 1).exit_code == 0
    forced = pl.DataFrame({"thinking_tokens": range(1, 31), "needed_percent": range(1, 31)})
    forced.write_csv(tmp_path / "mine" / "forced.csv")
    (tmp_path / "mine" / "raw").mkdir()
    (tmp_path / "mine" / "raw" / "log.txt").write_text("kept")
    (tmp_path / "mine" / "link").symlink_to("raw/log.txt")
    assert isinstance(build(tmp_path, 2).exception, InputError)
    got = build(tmp_path, 2, "--replace")
    assert got.exit_code == 0, got.output
    profile = load_profile(tmp_path / "mine")
    assert profile.attempts["visible_tokens"].to_list() == [2, 2]
    assert profile.forced is not None
    assert len(profile.forced) == 30
    assert (tmp_path / "mine" / "link").readlink() == Path("raw/log.txt")
    assert (tmp_path / "mine" / "link").read_text() == "kept"
    assert names(tmp_path) == ["1.csv", "2.csv", "mine"]


def test_replace_refuses_what_is_no_profile_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_text("dear")
    for _ in range(2):
        got = build(tmp_path, 1, "--replace")
        assert isinstance(got.exception, InputError)
        assert (tmp_path / "mine" / "photo.jpg").read_text() == "dear"
        # Nor is every file of that name a card.
        (tmp_path / "mine" / "profile.yaml").write_text("spring: {datasource: x}")
    assert names(tmp_path / "mine") == ["photo.jpg", "profile.yaml"]
    for file in (tmp_path / "mine").iterdir():
        file.unlink()
    assert build(tmp_path, 1, "--replace").exit_code == 0  # an empty one loses nothing


def test_a_profile_behind_a_link_is_replaced_where_it_stands(tmp_path: Path) -> None:
    assert build(tmp_path, 1).exit_code == 0
    (tmp_path / "mine").rename(tmp_path / "real")
    (tmp_path / "mine").symlink_to("real")
    assert build(tmp_path, 2, "--replace").exit_code == 0
    assert (tmp_path / "mine").is_symlink()
    assert load_profile(tmp_path / "real").attempts["visible_tokens"].to_list() == [2, 2]


def test_a_profile_is_not_built_over_its_own_table_or_under_ones_feet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build(tmp_path, 1).exit_code == 0
    own = tmp_path / "mine" / "attempts.parquet"
    got = CliRunner().invoke(app, building(own, tmp_path / "mine", "--replace"))
    assert "the one that is replaced" in str(got.exception)
    monkeypatch.chdir(tmp_path / "mine")
    assert "the one that you are in" in str(build(tmp_path, 2, "--replace").exception)
    assert load_profile(tmp_path / "mine").attempts["visible_tokens"].to_list() == [1, 1]


# Pictures.


@pytest.mark.parametrize(("ending", "begins"), [("png", b"\x89PNG\r\n"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_picture_is_the_same_bytes_each_time(tmp_path: Path, ending: str, begins: bytes) -> None:
    found = ttc.evaluate("math/sky-t1-32b", "Single()")
    contents = set()
    for k in range(2):
        found.plot().savefig(tmp_path / f"{k}.{ending}")
        contents.add((tmp_path / f"{k}.{ending}").read_bytes())
        time.sleep(1.1 if ending != "png" and not k else 0)  # dates count seconds
    [content] = contents
    assert content.startswith(begins)
    with pytest.raises(InputError, match=r"'\.foo'; expected a name ending in"):
        found.plot().savefig(tmp_path / "f.foo")


# Commands.


def scenario(folder: Path, **changes: Any) -> Path:
    file = folder / "s.yaml"
    file.write_text(yaml.safe_dump({**GOOD, "replications": 2, **changes}))
    return file


def command(*words: object) -> list[str]:
    return [sys.executable, "-c", "from ttc_sim.cli import main; main()", *map(str, words)]


def test_outputs_of_a_command_come_together_or_not_at_all(tmp_path: Path) -> None:
    asked: list[object] = ["simulate", scenario(tmp_path), "--no-baselines"]
    for option, name in (("--json", "f.json"), ("--records", "r.csv"), ("--plot", "p.png")):
        (tmp_path / name).write_text("old")
        asked += [option, tmp_path / name]
    # Figures are smaller than that, the picture is not.
    with room_for(40_000):
        got = CliRunner().invoke(app, [str(word) for word in asked])
    assert isinstance(got.exception, InputError)
    assert "p.png: file: got 'File too large'" in str(got.exception)
    assert {(tmp_path / name).read_text() for name in ("f.json", "r.csv", "p.png")} == {"old"}
    assert names(tmp_path) == ["f.json", "p.png", "r.csv", "s.yaml"]
    assert got.stdout == ""  # nothing was said of what was not saved
    again = CliRunner().invoke(app, [str(word) for word in asked])
    assert again.exit_code == 0
    assert json.loads((tmp_path / "f.json").read_text())["scenario"] == "small"
    assert (tmp_path / "p.png").read_bytes().endswith(b"IEND\xaeB`\x82")
    assert len(pl.read_csv(tmp_path / "r.csv")) > 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["simulate", "s.yaml", "--json", "s.yaml"], "name ending in .json"),
        (["simulate", "s.yaml", "--plot", "p.foo"], "'.foo'; expected a name ending in .png"),
        (["simulate", "s.yaml", "--records", "forced.csv"], "which this command reads"),
        (["simulate", "s.yaml", "--records", "mine/attempts.parquet"], "which this command reads"),
        (["optimize", "s.yaml", "--plan", "s.yaml"], "which this command reads"),
        (["optimize", "s.yaml", "--plan", "plan"], "name ending in .yaml"),
        (["cross-validate", "s.yaml", "--table", "t.txt"], "name ending in .parquet"),
        (["evaluate", "mine", "--strategy", "Single()", "--plot", "."], "this is a folder"),
        (["profile", "show", "mine", "--plot", "nowhere/p.png"], "existing folder"),
        (["predictor", "score", "1.csv", "--out", "1.csv"], "which this command reads"),
        (["predictor", "check", "1.csv", "--json", "x"], "name ending in .json"),
        (["predictor", "train", "--problems", "1.csv", "--attempts", "1.csv", "--out", "x.bin"], "ending in .onnx"),
        (["backtest", "mine", "--plot", "p.json"], "name ending in .png"),
        (["gpus", "--json", "mine"], "this is a folder"),
    ],
)
def test_a_command_says_before_its_work_what_it_cannot_write(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    build(tmp_path, 1)
    (tmp_path / "forced.csv").write_text("a\n")
    raw = scenario(
        tmp_path, description="forced.csv", arms={**GOOD["arms"], "own": {"profile": "mine", "deployment": "api"}}
    )
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert raw in before
    got = CliRunner().invoke(app, words)
    assert isinstance(got.exception, InputError), got.output
    assert says in str(got.exception)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_results_are_saved_before_they_are_printed(tmp_path: Path) -> None:
    """``simulate ... | head -1``, also where nothing at all is read, and where progress goes the same way."""
    asked = command("simulate", scenario(tmp_path), "--no-baselines", "--json", tmp_path / "f.json")
    for reads, stderr in ((1, subprocess.PIPE), (0, subprocess.STDOUT)):
        (tmp_path / "f.json").unlink(missing_ok=True)
        with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=stderr, env=ENVIRONMENT) as run:
            assert run.stdout is not None
            if reads:
                assert run.stdout.readline()
            run.stdout.close()
            said = run.stderr.read().decode() if run.stderr is not None else ""
        assert run.returncode == 128 + signal.SIGPIPE
        assert "Traceback" not in said
        assert "Broken" not in said
        assert json.loads((tmp_path / "f.json").read_text())["scenario"] == "small"


def test_a_full_disk_behind_standard_output_is_one_line(tmp_path: Path) -> None:
    words = command("profile", "show", "math/sky-t1-32b", "--json", tmp_path / "f.json")
    with Path("/dev/full").open("w") as full:
        got = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, check=False)
    assert got.returncode == 1
    [line] = got.stderr.splitlines()
    assert line.startswith("error: standard output: file: got 'No space left on device'")
    assert json.loads((tmp_path / "f.json").read_text())


def test_figures_go_to_standard_output_whole(tmp_path: Path) -> None:
    words = command("profile", "show", "math/sky-t1-32b", "--json", "/dev/stdout")
    with (tmp_path / "out").open("w") as out:
        subprocess.run(words, stdout=out, env=ENVIRONMENT, check=True)
    figures, end = json.JSONDecoder().raw_decode((tmp_path / "out").read_text())
    assert figures["problems"] == 57
    assert "57 problems, 602 attempts" in (tmp_path / "out").read_text()[end:]
