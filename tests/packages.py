"""Packages that add kinds of things, as an installer would leave them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ttc_sim.base.plugins import REGISTRIES

ROOT = Path(__file__).resolve().parents[1]


def install(
    folder: Path, package: str, files: Mapping[str, str], entry_points: Mapping[str, Mapping[str, str]]
) -> None:
    """Write a package's files and what its installer says of it; ``entry_points`` are by group and name."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    said = folder / f"{package}-0.1.dist-info"
    said.mkdir()
    (said / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.1\n")
    lines = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in one.items()) for group, one in entry_points.items()]
    (said / "entry_points.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages; nothing that is installed or registered outlives the test."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    modules = set(sys.modules)
    for registry in REGISTRIES.values():
        monkeypatch.setattr(registry, "_found", None)
        monkeypatch.setattr(registry, "_registered", {})
        monkeypatch.setattr(registry, "_imported", {})
    yield folder
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def command(folder: Path, *arguments: str, path: tuple[Path, ...] = (ROOT,)) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with packages in ``path``."""
    code = "from ttc_sim.cli import main; main()"
    return python(folder, "-c", code, *arguments, path=path)


def python(folder: Path, *arguments: str, path: tuple[Path, ...] = (ROOT,)) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, with packages in ``path``."""
    import os

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(one) for one in path)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
