"""Compiled functions on disk: none older than its sources, and none where nothing can be written."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numba
import pytest

from ttc_sim.base.compilation import kept


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def module_of(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path.write_text(text)
    made = ModuleType(path.stem)
    monkeypatch.setitem(sys.modules, path.stem, made)
    exec(compile(text, str(path), "exec"), made.__dict__)
    return made


def test_functions_are_kept_until_what_they_call_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, callee = tmp_path / "caller_for_test.py", tmp_path / "callee_for_test.py"
    text = "from callee_for_test import step\ndef twice(x):\n    return step(step(x))\n"
    for step, result, compiled in (("x + 1", 2, 1), ("x + 1", 2, 0), ("x + 5", 10, 1)):
        module_of(callee, f"import numba\n@numba.njit\ndef step(x):\n    return {step}\n", monkeypatch)
        function = module_of(caller, text, monkeypatch).twice
        twice = kept("test", [caller, callee])(function)
        assert twice(0) == result
        assert sum(twice.stats.cache_misses.values()) == compiled
    assert len(list((cache / "ttc-sim").glob("test-*"))) == 2


def test_the_place_may_be_named_as_for_numba(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "named"))
    source = tmp_path / "source_for_test.py"
    function = module_of(source, "def once(x):\n    return x + 1\n", monkeypatch).once
    assert kept("test", [source])(function)(1) == 2
    assert list((tmp_path / "named" / "ttc-sim").glob("test-*/once-*.bin"))
    assert not cache.exists()
    assert str(tmp_path / "named") == numba.config.CACHE_DIR


def test_where_nothing_can_be_written_functions_are_compiled_all_the_same(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("a file, so no folder")
    source = tmp_path / "source_for_test.py"
    function = module_of(source, "def once(x):\n    return x + 1\n", monkeypatch).once
    once = kept("test", [source])(function)
    assert once(1) == 2
    assert not once.stats.cache_hits
    assert not list(tmp_path.rglob("*.bin"))
