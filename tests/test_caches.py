"""Entries of the cache that are damaged, of other versions, or somebody else's; folders that cannot be used; two at once."""

from __future__ import annotations

import errno
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import llvmlite
import numba
import numpy as np
import pytest
from numba.core.codegen import JITCPUCodegen

from ttc_sim.base import cache
from ttc_sim.base.compilation import kept

ROOT = Path(__file__).resolve().parents[1]
MADE_BY = ["numba 1", "a processor"]

# What every command relies on: compiled functions from a cache in XDG_CACHE_HOME.
SOURCE = """
def step(x):
    return 3 * x + 1

def total(n):
    s = 0
    for i in range(n):
        s += i * i
    return s
"""
RIGHT = (13, 2.5, 285)


def use(source: Path) -> tuple[tuple[float, ...], int]:
    """Results of both functions, as a process that starts now has them, and how many of 3 were found in the cache."""
    cache._said.clear()
    module = ModuleType(source.stem)
    sys.modules[source.stem] = module
    exec(compile(SOURCE, str(source), "exec"), module.__dict__)
    step, total = (kept("test", [source])(function) for function in (module.step, module.total))
    results = step(4), step(0.5), total(10)
    return results, sum(sum(one.stats.cache_hits.values()) for one in (step, total))


class User:
    """Uses the cache again and again."""

    def __init__(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.home, self.caplog = folder / "home", caplog
        self.home.mkdir()
        self.source = folder / "kept_for_test.py"
        self.source.write_text(SOURCE)

    def run(self) -> tuple[int, list[str]]:
        """Functions found in the cache, of 3, and what was said."""
        self.caplog.clear()
        with self.caplog.at_level(logging.WARNING):
            results, hits = use(self.source)
        assert results == RIGHT
        return hits, [one.getMessage() for one in self.caplog.records]

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.home.rglob("*") if path.is_file())


@pytest.fixture
def user(tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> User:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return User(tmp_path, caplog)


def test_code_is_compiled_once_and_found_again(user: User) -> None:
    assert user.run() == (0, [])
    assert len(user.files) == 3
    assert user.run() == (3, [])
    assert all(path.stat().st_mode & 0o077 == 0 for path in [*user.files, *(path.parent for path in user.files)])


def test_entries_that_are_cut_off_changed_or_empty_are_compiled_anew_and_said_once(user: User) -> None:
    user.run()
    whole = {path: path.read_bytes() for path in user.files}
    dice = random.Random(1)
    for length in (0.0, 0.001, 0.5, 0.999):
        for path, content in whole.items():
            path.write_bytes(content[: int(length * len(content))])
        hits, said = user.run()
        assert hits == 0
        assert len(said) == 3
        assert all("compiled anew" in line and "checksum" in line for line in said)
        assert user.run() == (3, [])
    for _ in range(3):
        for path in user.files:
            changed = bytearray(path.read_bytes())
            for _ in range(3):
                changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
            path.write_bytes(changed)
        hits, said = user.run()
        assert hits == 0
        assert len(said) == 3
    assert user.run() == (3, [])


def test_a_bit_that_was_flipped_anywhere_in_an_entry_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "ttc-sim" / "test" / "one.bin"
    cache.write_entry(path, MADE_BY, bytes(range(64)))
    assert cache.read_entry(path, MADE_BY) == bytes(range(64))
    whole = path.read_bytes()
    for at in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            with pytest.raises(cache.BadEntryError):
                cache.read_entry(path, MADE_BY)
        path.write_bytes(whole[:at])
        with pytest.raises(cache.BadEntryError):
            cache.read_entry(path, MADE_BY)


def test_an_entry_of_other_versions_is_refused_even_under_the_right_name(tmp_path: Path) -> None:
    path = tmp_path / "ttc-sim" / "test" / "one.bin"
    cache.write_entry(path, ["numba 0", "a processor"], b"code")
    with pytest.raises(cache.BadEntryError, match="other versions"):
        cache.read_entry(path, MADE_BY)


def test_code_of_another_processor_or_library_is_not_used(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    user.run()
    for library in (np, numba, llvmlite):
        with monkeypatch.context() as changed:
            changed.setattr(library, "__version__", "9.9")
            assert user.run() == (0, [])
    with monkeypatch.context() as changed:
        changed.setattr(JITCPUCodegen, "magic_tuple", lambda _: ("x86_64", "another-processor", "+avx9"))
        assert user.run() == (0, [])
    assert user.run() == (3, [])


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no owners of files")
def test_what_others_could_have_written_is_not_read_nor_touched(user: User) -> None:
    user.run()
    folder = user.files[0].parent
    for path, mode in ((folder, 0o777), (folder, 0o770), (folder.parent, 0o777), *((one, 0o666) for one in user.files)):
        before = path.stat().st_mode
        path.chmod(mode)
        hits, said = user.run()
        assert hits == (2 if path.is_file() else 0)
        assert len(said) == 1
        assert f"{path} can be written to by others" in said[0]
        path.chmod(before)
        assert user.run() == (3, [])


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no owners of files")
def test_a_cache_of_somebody_else_is_not_used(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    user.run()
    if os.geteuid() == 0:
        # Of the system's own a user may take what is there; that of a colleague nobody takes.
        for path in (user.files[0].parent, *user.files):
            os.chown(path, 12345, 12345)
    else:
        me = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    hits, said = user.run()
    assert hits == 0
    assert len(said) == 1
    assert "belongs to somebody else" in said[0]


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="there are no links")
def test_a_link_out_of_the_cache_is_not_followed(user: User, tmp_path: Path) -> None:
    user.run()
    folder = user.files[0].parent
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    hits, said = user.run()
    assert hits == 0
    assert len(said) == 1
    assert "is a link" in said[0]


def refuse(number: int) -> Callable[..., None]:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refused


@pytest.mark.parametrize(
    ("number", "where"),
    [
        (errno.EROFS, "os.open"),
        (errno.ENOSPC, "os.open"),
        (errno.EACCES, "os.mkdir"),
        (errno.ENOSPC, "pathlib.Path.replace"),
    ],
)
def test_where_nothing_can_be_kept_code_is_compiled_all_the_same(
    user: User, monkeypatch: pytest.MonkeyPatch, number: int, where: str
) -> None:
    monkeypatch.setattr(where, refuse(number))
    hits, said = user.run()
    assert hits == 0
    assert len(said) == 1
    assert os.strerror(number) in said[0]
    assert not user.files


def test_a_cache_that_is_there_is_used_where_nothing_can_be_written(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    user.run()
    monkeypatch.setattr("os.open", refuse(errno.EROFS))
    assert user.run() == (3, [])


def test_a_home_that_is_not_known_is_no_obstacle(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(Path, "home", unknown)
    hits, said = user.run()
    assert hits == 0
    assert len(said) == 1
    assert "no home directory is known" in said[0]


def test_processes_that_start_at_once_on_an_empty_or_damaged_cache_do_not_disturb_each_other(user: User) -> None:
    code = "import sys; from pathlib import Path; from tests.test_caches import use; print(use(Path(sys.argv[1]))[0])"
    line = [sys.executable, "-W", "error", "-c", code, str(user.source)]
    for _ in range(2):
        processes = [subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [(one.communicate()[0].strip(), one.returncode) for one in processes] == [(str(RIGHT), 0)] * 2
        assert user.run() == (3, [])
        for path in user.files[1:]:
            path.write_bytes(path.read_bytes()[:100])


def test_what_a_killed_process_has_left_is_removed_in_time(tmp_path: Path) -> None:
    path = tmp_path / "ttc-sim" / "test" / "one.bin"
    cache.write_entry(path, MADE_BY, b"code")
    old, new = path.with_name(".one.bin.1.tmp"), path.with_name(".one.bin.2.tmp")
    for one in (old, new):
        one.write_bytes(b"half")
    os.utime(old, (time.time() - 86400,) * 2)
    cache.write_entry(path, MADE_BY, b"code")
    assert not old.exists()
    assert new.exists()


def test_a_line_is_said_once_in_a_process(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        cache.say_once("a folder for this test")
        cache.say_once("a folder for this test")
    assert len(caplog.records) == 1
