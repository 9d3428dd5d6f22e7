"""What is built to be installed is whole: it is used here from an empty folder, without the project's own."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import ttc_sim as ttc

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    pytest.importorskip("hatchling")
    import try_packages

    return try_packages.build(tmp_path_factory.mktemp("dist"))


def test_the_wheel_works_without_the_project(built: tuple[Path, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        wheel.extractall(tmp_path / "installed")
    empty = tmp_path / "empty"
    empty.mkdir()
    line = "import ttc_sim; assert 'installed' in ttc_sim.__file__; from ttc_sim.cli import main; main()"
    for words in (["list", "gateway"], ["simulate", "qa-gateway", "--requests", "50", "--replications", "1"]):
        done = subprocess.run(
            [sys.executable, "-P", "-c", line, *words],
            cwd=empty,
            env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "gateway" in done.stdout or "accuracy" in done.stdout


def test_every_file_of_the_project_is_in_both(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        inside = set(wheel.namelist())
    with tarfile.open(built[1]) as source:
        sources = {name.partition("/")[2] for name in source.getnames()}
    for path in (ROOT / "ttc_sim").rglob("*"):
        name = path.relative_to(ROOT).as_posix()
        if (
            path.is_file()
            and "__pycache__" not in name
            and path.suffix in (".py", ".css", ".js", ".json", ".yaml", ".typed")
        ):
            assert name in inside, name
            assert name in sources, name
    for folder in ("profiles", "scenarios", "operators"):
        for path in (ROOT / folder).rglob("*.yaml"):
            assert f"ttc_sim/_shipped/{path.relative_to(ROOT).as_posix()}" in inside


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == ttc.__version__
    assert cited["license"] == "Apache-2.0"
