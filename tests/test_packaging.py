"""What is built to be installed is whole: it is used here from an empty folder, without the project's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
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


@pytest.mark.parametrize("which", [0, 1], ids=["wheel", "source distribution"])
def test_a_package_is_installed_into_an_empty_environment_and_works(
    built: tuple[Path, Path], which: int, tmp_path: Path
) -> None:
    """Of libraries it finds those that are here; ``make packages`` installs them too, on Python 3.11 to 3.13."""
    environment, empty = tmp_path / "environment", tmp_path / "empty"
    empty.mkdir()
    carried_out(empty, sys.executable, "-m", "venv", "--without-pip", environment)
    inside = environment / "bin" / "python"
    site = next((environment / "lib").glob("python*/site-packages"))
    # Files that name further folders are not read from there: the project itself, installed to be edited, is not found.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    options = [
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
    ]
    carried_out(empty, sys.executable, "-m", "pip", "--python", inside, "install", *options, built[which])
    where = carried_out(empty, inside, "-c", "import ttc_sim; print(ttc_sim.__file__, ttc_sim.__version__)")
    assert where.split() == [str(site / "ttc_sim" / "__init__.py"), ttc.__version__]
    program = environment / "bin" / "ttc-sim"
    assert "reasoning-gateway" in carried_out(empty, program, "list", "gateway")
    if which:  # the wheel that was made of it is like the other
        return
    asked = ["simulate", "qa-gateway", "--requests", "50", "--replications", "1", "--no-baselines", "--json", "-"]
    assert json.loads(carried_out(empty, program, *asked))["scenario"] == "qa-gateway"


def carried_out(folder: Path, *words: str | Path) -> str:
    """What a program prints that must do what it is asked for."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


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
