"""Many variations of a scenario: the same figures wherever they are simulated, whatever dies meanwhile."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml
from scipy.stats import qmc
from typer.testing import CliRunner

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.sweeping.point import figures
from ttc_sim.sweeping.varying import Range, grid_of, sobol

from .conftest import ROOT
from .test_scenario import GOOD

RATE = "workload.arrivals.rate_per_s"
GRID = {RATE: [0.5, 1.0, 2.0], "deployments.api.price.output_usd_per_mtok": [2.0, 3.0]}
# Notes which points are begun, and kills once, as said in a file, a process or its parent.
CHOOSE = """
import os, signal
from pathlib import Path

HERE = Path({folder!r})

def choose(request):
    if request.index == 0:
        with (HERE / "begun").open("a") as file:
            file.write(f"{{os.getpid()}}\\n")
        after, whom = (HERE / "kill").read_text().split()
        if len((HERE / "begun").read_text().split()) > int(after):
            # Whole at once: another process may be reading it.
            (HERE / f"kill-{{os.getpid()}}").write_text("999999 nobody")
            (HERE / f"kill-{{os.getpid()}}").replace(HERE / "kill")
            os.kill(os.getppid() if whom == "parent" else os.getpid(), signal.SIGKILL)
    return "small" if request.difficulty < 0.5 else "large"
"""


def good(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(GOOD), "replications": 1, **changes}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a scenario whose policy notes each point that is begun."""
    place = tmp_path_factory.mktemp("sweep")
    (place / "route.py").write_text(CHOOSE.format(folder=str(place)))
    (place / "s.yaml").write_text(yaml.safe_dump(good(policy="route.py:choose")))
    return place


def begun(folder: Path) -> list[int]:
    """Process of each point that was begun."""
    return [int(one) for one in (folder / "begun").read_text().split()]


def ready(folder: Path, after: int = 999999, whom: str = "nobody") -> None:
    (folder / "begun").write_text("")
    (folder / "kill").write_text(f"{after} {whom}")


def was_killed(folder: Path) -> bool:
    """Whether a process was, and its point begun once more."""
    return (folder / "kill").read_text() == "999999 nobody" and len(begun(folder)) > 6


@pytest.fixture(scope="module")
def serial(folder: Path) -> bytes:
    ready(folder)
    ttc.sweep(folder / "s.yaml", GRID, out=folder / "serial.parquet", allow_code=True)
    assert len(begun(folder)) == 6
    return (folder / "serial.parquet").read_bytes()


def run(*words: object, status: int = 0) -> str:
    got = CliRunner().invoke(app, ["sweep", *map(str, words)])
    if status:
        assert isinstance(got.exception, InputError), got.output
        return str(got.exception)
    assert got.exit_code == 0, (got.output, got.exception)
    return got.output


# ------------------------------------------------------------------------------------------------------ figures


@pytest.mark.parametrize(
    ("varied", "policy"),
    [
        (GRID, GOOD["policy"]),
        (
            {
                "workload.sources.maths.share": [1.0, 2.0],
                "arms.large.strategy": ["Single(cap=512)", "MajorityVote(n=3)"],
            },
            None,
        ),
        ({"deployments.pool.replicas": [1, 3], "seed": [1, 9], "workload.requests": [1, 40]}, "Always('small')"),
        ({"policy": ["Utility(price_of_accuracy=0.01)", "Utility(price_of_accuracy=1.0)"], RATE: [1.0, 5.0]}, None),
        ({"arms.large.profile": ["math/sky-t1-32b", "math/qwen2.5-14b-instruct"], "replications": [1, 3]}, None),
        ({"policy": ["Overflow(arms=['small', 'large'], waiting=1)", "Always('large')"], RATE: [1.0, 50.0]}, None),
    ],
)
def test_a_row_is_the_simulation_of_the_changed_scenario(varied: dict[str, list[Any]], policy: str | None) -> None:
    """To the last digit, whatever is kept from the points before."""
    base = ttc.scenario_from_dict(good(policy=policy or GOOD["policy"]))
    rows = ttc.sweep(base, varied).table.to_dicts()
    assert len(rows) == np.prod([len(values) for values in varied.values()])
    for row in rows:
        point = {path: row[path] for path in varied}
        alone = figures(ttc.simulate(ttc.with_changes(base, point)).summary())
        for name, value in alone.items():
            if name != "notes":
                known = None if isinstance(value, float) and np.isnan(value) else value
                assert row[name] == known, (point, name)


def test_shares_of_sources_are_those_of_the_point() -> None:
    varied = {"workload.sources.everyday.share": [0.75, 0.1], "workload.sources.research.share": [0.25, 5.0]}
    base = ttc.load_scenario("reasoning-gateway")
    table = ttc.sweep(base, varied, requests=60).table
    for row in table.to_dicts():
        alone = ttc.simulate(ttc.with_changes(base, {path: row[path] for path in varied}), requests=60).summary()
        assert alone.accuracy is not None
        assert row["accuracy"] == alone.accuracy.value
    assert table["accuracy"].n_unique() == 4


def test_lengths_without_problems() -> None:
    raw = good(policy="Always('small')", targets=None)
    raw["workload"] = {
        "arrivals": {"process": "poisson", "rate_per_s": 1.0},
        "requests": 30,
        "lengths": {"prompt_tokens": 100, "output_tokens": {"median": 50, "p95": 100}},
    }
    raw["arms"] = {"small": {"deployment": "pool"}}
    base = ttc.scenario_from_dict(raw)
    table = ttc.sweep(base, {"workload.lengths.prompt_tokens": [100, 10_000]}).table
    assert table["accuracy"].is_null().all()
    assert table["ttft_p50_s"][0] < table["ttft_p50_s"][1]
    alone = ttc.simulate(ttc.with_changes(base, {"workload.lengths.prompt_tokens": 10_000})).summary()
    assert table["ttft_p50_s"][1] == alone.ttft_s["p50"].value


def test_multiples_are_of_what_stands_there() -> None:
    base = ttc.load_scenario("reasoning-gateway")
    price = "deployments.r1-api.price.output_usd_per_mtok"
    found = ttc.sweep(base, {RATE: ["0.5x", "+10%"], price: ["1x", "-30%"]}, requests=40).table
    assert found[RATE].to_list() == [2.0, 2.0, 4.4, 4.4]
    looked_up = 1e6 * next(one for one in ttc.simulate(base, requests=1).model.prices[3:4] if one).output
    assert found[price].to_list() == pytest.approx([looked_up, 0.7 * looked_up] * 2)
    same = ttc.simulate(base, requests=40).summary().cost_usd_per_request.value
    assert found["cost_usd_per_request"][0] == pytest.approx(same)


def test_sobol_points_are_scipys_and_even() -> None:
    ranges = {"a": Range(1.0, 3.0), "b": Range(1, 4), "c": Range(0.01, 100.0, log=True)}
    made = sobol(ranges, 64, 5, {})
    unit = qmc.Sobol(3, scramble=True, seed=np.random.default_rng(5)).random(64)
    assert [point["a"] for point in made.points] == pytest.approx(1 + 2 * unit[:, 0])
    assert sorted(point["b"] for point in made.points) == [1] * 16 + [2] * 16 + [3] * 16 + [4] * 16
    decade = [int(np.floor(np.log10(point["c"]))) for point in made.points]
    assert [decade.count(k) for k in (-2, -1, 0, 1)] == [16] * 4
    assert not made.note
    assert "64 or 128" in sobol(ranges, 100, 5, {}).note
    assert sobol(ranges, 8, 5, {}).points == made.points[:8]
    assert sobol(ranges, 8, 6, {}).points != made.points[:8]
    assert sobol({"a": Range(1, 3)}, 8, 5, {"a": 2.5}).points[0]["a"] % 1 != 0


def test_values_with_commas_in_them_are_one() -> None:
    said = "policy=Banded(edges=[0.2, 0.5], arms=['a', 'b', 'c']),Always('it''s, so'), {maths: \"Always('a')\", x: 1}"
    assert grid_of([said])["policy"] == [
        "Banded(edges=[0.2, 0.5], arms=['a', 'b', 'c'])",
        "Always('it''s, so')",
        {"maths": "Always('a')", "x": 1},
    ]
    assert grid_of(["deployments.api.timeout_s=null, 5"])["deployments.api.timeout_s"] == [None, 5]


def test_what_cannot_be_simulated_keeps_its_row(tmp_path: Path) -> None:
    """An arm that is measured on the problems of one source only: known once requests are sent there."""
    base = ttc.load_scenario("reasoning-gateway")
    found = ttc.sweep(base, {"policy": ["Always('claude')", "Always('r1')"]}, requests=30, out=tmp_path / "p.parquet")
    assert found.table["error"].is_null().to_list() == [False, True]
    assert "claude" in found.table["error"][0]
    assert found.table["accuracy"].is_null().to_list() == [True, False]
    assert "1 of 2 points could not be simulated" in run(
        "reasoning-gateway", "--grid", "policy=Always('claude'),Always('r1')", "--requests", 30
    )
    with pytest.raises(InputError, match="none can"):
        ttc.sweep(base, {"policy": ["Always('claude')"], "seed": [1, 2]}, requests=30, out=tmp_path / "q.parquet")
    assert [one.name for one in tmp_path.iterdir()] == ["p.parquet"]


# --------------------------------------------------------------------------------------- interruptions and files


def test_killed_with_nine_it_goes_on_where_it_was(folder: Path, serial: bytes) -> None:
    out = folder / "killed.parquet"
    words = [folder / "s.yaml", "--allow-code", "--workers", 2, "--out", out]
    words += [word for path, values in GRID.items() for word in ("--grid", f"{path}={','.join(map(str, values))}")]
    ready(folder, 3, "parent")
    command = [sys.executable, "-c", "from ttc_sim.cli import main; main()", "sweep", *map(str, words)]
    ended = subprocess.run(command, capture_output=True, timeout=120, check=False, cwd=ROOT)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not out.exists()
    journal = out.with_name("killed.parquet.journal")
    finished = len(journal.read_bytes().splitlines()) - 1
    assert 1 <= finished <= 4
    for process in set(begun(folder)):  # nobody is left behind
        deadline = time.monotonic() + 20
        while _lives(process) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _lives(process)
    with journal.open("ab") as file:
        file.write(b'deadbeef {"point": 5, "row"')  # as it was being written
    ready(folder)
    said = run(*words[:2], "--workers", 1, *words[4:])
    assert f"{finished} of 6 points were finished before" in said
    assert len(begun(folder)) == 6 - finished
    assert out.read_bytes() == serial
    assert not journal.exists()
    assert "all 6 points are in" in run(*words)
    assert len(begun(folder)) == 6 - finished


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_another_sweep_wrote_is_refused(tmp_path: Path) -> None:
    base, out = ttc.scenario_from_dict(good()), tmp_path / "p.parquet"
    ttc.sweep(base, {"seed": [1, 2]}, out=out)
    before = out.read_bytes()
    about = json.loads(pq.read_metadata(out).metadata[b"ttc_sim_sweep"])
    assert about["scenario"] == "small"
    assert about["varied"] == {"seed": [1, 2]}
    others: list[tuple[ttc.Scenario, dict[str, list[Any]], dict[str, Any], str]] = [
        (base, {"seed": [1, 3]}, {}, "paths and values"),
        (base, {"seed": [2, 1]}, {}, "paths and values"),
        (base, {"seed": [1, 2]}, {"requests": 7}, "requests"),
        (ttc.with_changes(base, {"name": "other"}), {"seed": [1, 2]}, {}, "scenario: got 'small'"),
        (ttc.with_changes(base, {RATE: 9.0}), {"seed": [1, 2]}, {}, "content of the scenario"),
    ]
    for scenario, varied, options, said in others:
        with pytest.raises(InputError, match=re.escape(said)) as refused:
            ttc.sweep(scenario, varied, out=out, **options)
        assert "another --out" in str(refused.value)
    for damaged in (before[: len(before) // 2], b"", before[:4] + b"\0" * 64 + before[68:], b"point,seed\n0,1\n"):
        out.write_bytes(damaged)
        with pytest.raises(InputError, match="damaged"):
            ttc.sweep(base, {"seed": [1, 2]}, out=out)
        assert out.read_bytes() == damaged
    pl.DataFrame({"point": [0]}).write_parquet(out)
    with pytest.raises(InputError, match="another file"):
        ttc.sweep(base, {"seed": [1, 2]}, out=out)


def test_a_journal_of_another_sweep_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    base, out = ttc.scenario_from_dict(good()), tmp_path / "p.parquet"
    journal = tmp_path / "p.parquet.journal"
    _begin_and_stop(base, out)
    whole = journal.read_bytes()
    assert len(whole.splitlines()) == 3
    with pytest.raises(InputError, match="paths and values"):
        ttc.sweep(base, {"seed": [1, 2, 3, 4]}, out=out)
    at = whole.index(b'"accuracy"') + 14
    changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    journal.write_bytes(changed)
    with pytest.raises(InputError, match="line 2"):
        ttc.sweep(base, {"seed": [1, 2, 3]}, out=out)
    assert journal.read_bytes() == changed
    journal.write_bytes(whole)
    again = ttc.sweep(base, {"seed": [1, 2, 3]}, out=out)
    assert again.table.equals(ttc.sweep(base, {"seed": [1, 2, 3]}).table)


def _begin_and_stop(base: ttc.Scenario, out: Path) -> None:
    """Two of three points."""
    from ttc_sim.base.progress import counted
    from ttc_sim.sweeping import carrying_out

    class StoppedError(Exception): ...

    def stopping(rows: Any, *rest: Any, **options: Any) -> Iterator[Any]:
        for number, one in enumerate(counted(rows, *rest, **options)):
            if number == 2:
                raise StoppedError
            yield one

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(carrying_out, "counted", stopping)
        with pytest.raises(StoppedError):
            ttc.sweep(base, {"seed": [1, 2, 3]}, out=out)


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    from ttc_sim.sweeping.journal import Journal

    first = Journal(tmp_path / "j", {"format": 1}, 3)
    with pytest.raises(InputError, match="in use"):
        Journal(tmp_path / "j", {"format": 1}, 3)
    first.close(remove=False)


# ----------------------------------------------------------------------------------------- processes and clusters


def test_processes_give_the_same_bytes_though_one_is_killed(folder: Path, serial: bytes) -> None:
    ready(folder, 2, "itself")
    ttc.sweep(folder / "s.yaml", GRID, out=folder / "local.parquet", workers=2, allow_code=True)
    assert (folder / "local.parquet").read_bytes() == serial
    assert was_killed(folder)
    assert len(begun(folder)) <= 6 + 3  # what was under way, and nothing else, is done again


needs_dask = pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="needs ttc-sim[dask]")
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ttc-sim[ray]")


@needs_dask
def test_dask_gives_the_same_bytes_though_a_worker_is_killed(folder: Path, serial: bytes) -> None:
    ready(folder, 2, "itself")
    ttc.sweep(folder / "s.yaml", GRID, out=folder / "d.parquet", backend="dask", workers=2, allow_code=True)
    assert (folder / "d.parquet").read_bytes() == serial
    assert was_killed(folder)


@needs_dask
def test_a_running_dask_cluster_gives_the_same_bytes(folder: Path, serial: bytes) -> None:
    """Workers of which have several threads."""
    distributed: Any = pytest.importorskip("distributed")
    ready(folder)
    options = {"n_workers": 1, "threads_per_worker": 2, "processes": False, "protocol": "tcp://"}
    with distributed.LocalCluster(**options, dashboard_address=None) as cluster:
        where = cluster.scheduler_address
        ttc.sweep(folder / "s.yaml", GRID, out=folder / "e.parquet", backend="dask", address=where, allow_code=True)
    assert (folder / "e.parquet").read_bytes() == serial


@needs_ray
def test_ray_gives_the_same_bytes_though_a_worker_is_killed_and_says_nothing(folder: Path, serial: bytes) -> None:
    out = folder / "r.parquet"
    ready(folder, 2, "itself")
    words = [folder / "s.yaml", "--allow-code", "--workers", 2, "--backend", "ray", "--out", out]
    words += [word for path, values in GRID.items() for word in ("--grid", f"{path}={','.join(map(str, values))}")]
    command = [sys.executable, "-c", "from ttc_sim.cli import main; main()", "sweep", *map(str, words)]
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    home = {**os.environ, "HOME": str(folder), "XDG_CACHE_HOME": cache}
    ended = subprocess.run(command, capture_output=True, timeout=170, check=False, cwd=ROOT, env=home, text=True)
    assert ended.returncode == 0, ended.stderr
    assert out.read_bytes() == serial
    assert was_killed(folder)
    ours = re.compile(r"looking at \d+ points|simulating: \d+ of \d+ points.*")
    assert [line for line in ended.stderr.splitlines() if not ours.fullmatch(line)] == []
    assert "ray" not in ended.stdout.lower().replace(str(out).lower(), "")
    assert not (folder / ".ray").exists()
    assert not any(_lives(process) for process in begun(folder))


@pytest.fixture
def ray_address() -> Iterator[str]:
    """Of a cluster that is running."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    place = tempfile.mkdtemp(prefix="ttcr", dir="/tmp")  # short: sockets stand in it
    options = f"--port={port} --num-cpus=2 --include-dashboard=false --object-store-memory=100000000 --temp-dir={place}"
    command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", *options.split()]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in quiet.items():
            patch.setenv(name, value)
        cluster = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert cluster.stdout is not None
            assert any("runtime started" in line for line in cluster.stdout)
            yield f"127.0.0.1:{port}"
        finally:
            cluster.terminate()
            cluster.wait(30)
            shutil.rmtree(place, ignore_errors=True)


@needs_ray
def test_a_running_ray_cluster_gives_the_same_bytes(folder: Path, serial: bytes, ray_address: str) -> None:
    ready(folder)
    ttc.sweep(folder / "s.yaml", GRID, out=folder / "f.parquet", backend="ray", address=ray_address, allow_code=True)
    assert (folder / "f.parquet").read_bytes() == serial


@pytest.mark.parametrize("backend", [pytest.param("dask", marks=needs_dask), pytest.param("ray", marks=needs_ray)])
def test_a_cluster_that_cannot_be_reached_is_said_to_be_within_seconds(backend: str) -> None:
    base = ttc.scenario_from_dict(good())
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        port = deaf.getsockname()[1]
        cases = {f"127.0.0.1:{port}": "refused", "nohost.invalid:1": "Name|name|address", "nowhere": "HOST:PORT"}
        for address, why in cases.items():
            start = time.monotonic()
            with pytest.raises(InputError, match=why):
                ttc.sweep(base, {"seed": [1, 2]}, backend=backend, address=address)
            assert time.monotonic() - start < 15
        deaf.listen()
        start = time.monotonic()
        with pytest.raises(InputError, match="no answer within 5 s"):
            ttc.sweep(base, {"seed": [1, 2]}, backend=backend, address=f"127.0.0.1:{port}")
        assert time.monotonic() - start < 20


def test_a_process_that_always_dies_is_named() -> None:
    from ttc_sim.base.workers import in_any_order

    signals = {1: 0, 2: signal.SIGKILL, 3: 0}
    with pytest.raises(ValueError, match="died of 2"):
        list(in_any_order(2, print, (), signal.raise_signal, signals, 2, lambda key: ValueError(f"died of {key}")))


# ------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--grid", "workload.arrivals.rat_per_s=1,2"], ["rat_per_s", "nearest", "'rate_per_s'"]),
        (["--grid", f"{RATE}=1,-2"], ["point 1", f"{RATE}=-2", "greater than 0"]),
        (["--grid", "deployments.pool.replicas=1,1.5"], ["point 1", "replicas=1.5", "whole number"]),
        (["--grid", "arms.large.profile=math/none"], ["point 0", "math/none"]),
        (["--grid", "policy=Always('larg')"], ["point 0", "larg", "small"]),
        (["--grid", "seed="], ["seed", "nothing", "PATH=VALUE"]),
        (["--grid", "seed=1,,2"], ["seed", "between commas"]),
        (["--grid", "seed"], ["PATH=VALUE"]),
        (["--grid", "seed=1,1"], ["each value once"]),
        (["--grid", "seed=1", "--grid", "seed=2"], ["each path once"]),
        (["--grid", "policy=2x"], ["no number"]),
        (["--grid", "search.bands=3,4"], ["search.bands", "changes no figure"]),
        (["--grid", "workload.arrivals={process: poisson, rate_per_s: 1}", "--grid", f"{RATE}=2"], ["no path above"]),
        (["--grid", "workload.requests=3,4", "--requests", "5"], ["requests", "workload.requests"]),
        (["--sobol", "4"], ["--range"]),
        (["--range", "seed=1..2"], ["--sobol N"]),
        (["--grid", "seed=1,2", "--sobol", "4"], ["both"]),
        ([], ["neither", "--grid"]),
        (["--sobol", "4", "--range", f"{RATE}=8..2"], ["8..2", "lower end first"]),
        (["--sobol", "4", "--range", f"{RATE}=2..2"], ["2..2", "lower end first"]),
        (["--sobol", "4", "--range", f"{RATE}=0..2:log"], ["above 0"]),
        (["--sobol", "4", "--range", f"{RATE}=a..b"], ["number on each side"]),
        (["--sobol", "4", "--range", f"{RATE}=1,2"], ["LOW..HIGH"]),
        (["--sobol", "0", "--range", f"{RATE}=1..2"], ["whole number of points"]),
        (["--grid", "seed=1,2", "--backend", "spark"], ["spark", "dask"]),
        (["--grid", "seed=1,2", "--address", "x:1"], ["backend local"]),
        (["--grid", "seed=1,2", "--workers", "0"], ["workers", "from 1"]),
        (["--grid", "seed=1,2", "--out", "p.csv"], [".csv", ".parquet"]),
    ],
)
def test_bad_input_gets_one_line(
    words: list[str], said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.yaml").write_text(yaml.safe_dump(good()))
    line = run("s.yaml", *words, status=1)
    assert "\n" not in line
    for part in said:
        assert part in line, line
    assert [one.name for one in tmp_path.iterdir()] == ["s.yaml"]


def test_arguments_in_python_are_checked() -> None:
    base = ttc.scenario_from_dict(good())
    for varied, options in (
        ({}, {}),
        ({"seed": []}, {}),
        ({"seed": "12"}, {}),
        ([("seed", 1)], {}),
        ({"seed": Range(1, 2)}, {}),
        ({"seed": (1, 2, 3, 4)}, {"points": 4}),
        ({"seed": (1, 2)}, {"points": 2.5}),
        ({1: [2]}, {}),
        ({"seed": [1, 2]}, {"backend": None}),
    ):
        with pytest.raises(InputError):
            ttc.sweep(base, varied, **options)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------ the page


def test_the_page_names_columns_that_there_are() -> None:
    page = (ROOT / "docs" / "sweep.md").read_text(encoding="utf-8")
    columns = ttc.sweep("reasoning-gateway", {"policy": ["Always('maverick')"]}, requests=50).table.columns
    named = re.findall(r"`((?:\w+_)*(?:accuracy|request|day|s|rate|verdict|goodput))`", page.split("## The table")[1])
    assert named
    assert set(named) <= set(columns)
