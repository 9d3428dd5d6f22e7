"""Each recipe of CONTRIBUTING.md, carried out."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import ttc_sim as ttc
from tests.packages import ROOT, command, install, python

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS: dict[str, str] = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
PACKAGE = {name: text for name, text in BLOCKS.items() if name.startswith("my_package/")}
KINDS = ("strategies", "policies", "step_times", "arrivals", "importers")


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that are no package."""
    folder = tmp_path_factory.mktemp("mine")
    for name in ("mine.yaml", "use.py", "notebook.py", "own.py", "test_mine.py"):
        (folder / name).write_text(BLOCKS[name])
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package, installed."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, "my_package", PACKAGE, tomllib.loads(BLOCKS["pyproject.toml"])["project"]["entry-points"])
    return folder


def done(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_every_kind_has_a_recipe() -> None:
    entry_points = tomllib.loads(BLOCKS["pyproject.toml"])["project"]["entry-points"]
    assert set(entry_points) == {f"ttc_sim.{kind}" for kind in KINDS}
    assert len(PACKAGE) == len(KINDS)


def test_the_commands_of_a_package(mine: Path, site: Path) -> None:
    simulate, evaluate, importing = (shlex.split(line)[1:] for line in TEXT.splitlines() if line.startswith("ttc-sim "))
    simulate += ["--requests", "60", "--replications", "1"]
    assert "shortest" in done(command(mine, *simulate, path=(site, ROOT)))
    assert "ShortestOfN(n=4)" in done(command(mine, *evaluate, path=(site, ROOT)))
    call = {"edge_request": "e1", "unix_ms": 1795511702123, "tokens": {"in": 90, "out": 41, "thought": 7}, "code": 200}
    (mine / "edge.jsonl").write_text("".join(json.dumps({**call, "edge_request": k}) + "\n" for k in range(3)))
    assert "log of our edge proxy" in done(command(mine, *importing, path=(site, ROOT)))
    assert "log of our edge proxy" not in command(mine, *importing[:-1], "elsewhere").stdout
    # Without the package its names are not known: one line.
    refused = command(mine, *simulate)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: mine.yaml: workload.arrivals.process: got 'tides'; expected one of")
    assert refused.stderr.count("\n") == 1


def test_a_package_in_python(mine: Path, site: Path) -> None:
    assert "Estimate" in done(python(mine, "use.py", path=(site, ROOT)))


def test_a_notebook(mine: Path, tmp_path: Path) -> None:
    """The same classes, where nothing says that they are installed."""
    for name, text in PACKAGE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert "Estimate" in done(python(mine, "notebook.py", path=(tmp_path, ROOT)))


def test_a_function(mine: Path) -> None:
    raw = yaml.safe_load(BLOCKS["mine.yaml"])
    raw["workload"]["arrivals"] = {"process": "poisson", "rate_per_s": 0.5}
    raw["deployments"]["pool"]["step_time"] = {"model": "Qwen/Qwen3-32B", "gpu": "H100", "tensor_parallel": 2}
    raw["arms"]["shortest"]["strategy"] = "own.py:longest"
    (mine / "plain.yaml").write_text(yaml.safe_dump({**raw, "policy": "own.py:choose"}))
    result = ttc.simulate(ttc.load_scenario(mine / "plain.yaml", allow_code=True), requests=60, replications=1)
    assert set(result.records["arm"]) == {"once", "shortest"}
    said = done(command(mine, "evaluate", "math/maj-example", "--strategy", "own.py:longest", "--allow-code"))
    assert "own.py:longest" in said
    few = "--requests", "20", "--replications", "1"
    assert "shortest" in done(
        command(mine, "simulate", "plain.yaml", "--policy", "own.py:choose", "--allow-code", *few)
    )


def test_three_lines_of_pytest(mine: Path, site: Path) -> None:
    said = done(python(mine, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py", path=(site, ROOT)))
    assert re.search(r"(\d+) passed", said), said
    assert int(re.findall(r"(\d+) passed", said)[0]) > 30


INSIDE = """
import numpy as np
from ttc_sim.engine import reference
from ttc_sim.scenario import load_scenario
from ttc_sim.simulation.carrying import carry
from ttc_sim.simulation.drawing import as_requests, draw
from ttc_sim.simulation.model import load_model
import sys, ttc_sim, ttc_sim.testing, ttc_sim.workload.tides

assert "pytest" not in sys.modules
model = load_model(load_scenario("mine.yaml"))
draws = draw(model, 0, requests=40)
arm = model.scenario.parsed_policy().choose(as_requests(model, draws), model.arm_names)
work = carry(model, draws, arm).work
result = reference.run([work], model.deployment_names, model.deployments, tables=model.step_tables)
print(ttc_sim.__file__, set(arm.tolist()), int((result.status == 0).sum()))
"""


def test_a_kind_inside_the_project_is_one_file_and_one_name(mine: Path, tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "ttc_sim", tmp_path / "ttc_sim", ignore=shutil.ignore_patterns("__pycache__", "encoder.onnx")
    )
    for shipped in ("profiles", "pyproject.toml"):
        (tmp_path / shipped).symlink_to(ROOT / shipped)
    rooms = dict(
        zip(PACKAGE, ("strategies", "policies", "serving", "workload", "measured/importing/formats"), strict=True)
    )
    tables = [name for name in BLOCKS if name.startswith("ttc_sim/")]
    assert len(tables) == len(KINDS)
    for (name, text), table in zip(PACKAGE.items(), tables, strict=True):
        here = tmp_path / "ttc_sim" / rooms[name] / Path(name).name
        here.write_text(text)
        line = BLOCKS[table].strip()
        known = (tmp_path / table).read_text()
        registry = re.search(r"^\w+(: Registry\[\w+\])? = (plugins\.)?Registry\(.*?\{", known, re.MULTILINE | re.DOTALL)
        assert registry is not None
        known = known[: registry.end()] + line + known[registry.end() :]
        if not line.endswith('",'):  # a class, not its place as text: it is imported too
            module = f"ttc_sim.{rooms[name].replace('/', '.')}.{Path(name).stem}"
            first = "from __future__ import annotations\n"
            known = known.replace(first, f"{first}\nfrom {module} import {line.split(': ')[1][:-1]}", 1)
        (tmp_path / table).write_text(known)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_DISABLE_JIT": "1"}
    ran = subprocess.run([sys.executable, "-c", INSIDE], cwd=mine, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split()[0] == str(tmp_path / "ttc_sim/__init__.py")
    assert ran.stdout.strip().endswith("{0, 1} 40")
    linter = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if linter is not None:
        checked = subprocess.run([linter, "--no-cache"], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout
