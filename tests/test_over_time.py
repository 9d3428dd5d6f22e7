"""Results over time: both engines alike, by hand from what an engine did, and sums that are the whole run's."""

from __future__ import annotations

import doctest
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

import ttc_sim.reporting.over_time as over_time_text
import ttc_sim.simulation.result as result_module
from tests.random_scenarios import TIMES, Case, Times, scenario
from tests.test_optimum import pool
from tests.test_targets import api, by_hand, day, plain, two_sources
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.engine import compiled, reference
from ttc_sim.engine.replica import Replica
from ttc_sim.engine.work import BUSY, COMPLETED, KV_BLOCKS, QUEUED, RUNNING, Work, interval_of, single_stage
from ttc_sim.policies import Requests
from ttc_sim.scenario import GpuPool, scenario_from_dict
from ttc_sim.simulation.result import Result, simulate

SLO = {"ttft_s": 0.6, "latency_s": 8.0}


# ------------------------------------------------------------------------------------------------------- engines


@pytest.mark.parametrize("times", TIMES)
def test_both_engines_record_the_same_levels(times: Times) -> None:
    """Over long and short intervals, with events on their edges; and recording changes nothing."""
    for seed in range(45):
        case = scenario(seed, times)
        for interval_s in (0.25, 0.1, 7.0):
            given = (case.works, case.names, case.deployments, case.rule)
            slow = reference.run(*given, tables=case.tables, interval_s=interval_s)
            fast = compiled.run(*given, tables=case.tables, interval_s=interval_s)
            assert slow.levels_s is not None
            assert fast.levels_s is not None
            assert slow.levels_s.shape == fast.levels_s.shape, (seed, times, interval_s)
            np.testing.assert_allclose(slow.levels_s, fast.levels_s, rtol=1e-9, atol=1e-9, err_msg=f"{seed} {times}")
            np.testing.assert_allclose(fast.levels_s[..., BUSY].sum(axis=0), fast.busy_s, rtol=1e-9, atol=1e-9)
            assert (fast.levels_s >= -1e-9).all()
        plainly = compiled.run(*given, tables=case.tables)
        assert plainly.finished_s.tobytes() == fast.finished_s.tobytes()
        assert plainly.levels_s is None


def watched(case: Case, interval_s: float) -> np.ndarray[Any, Any]:
    """Sequences running and blocks in use, times seconds, from every iteration of every replica."""
    begun: dict[int, tuple[float, int, int]] = {}
    found = np.zeros((4000, len(case.deployments), 2))

    def look(replica: Replica) -> None:
        now_s = float(replica.recorder.env.now)
        if replica.batch:
            begun[id(replica)] = (now_s, len(replica.running), replica.kv.total - replica.kv.free)
            return
        start_s, running, blocks = begun[id(replica)]
        for k in range(interval_of(start_s, interval_s), interval_of(now_s, interval_s) + 1):
            part_s = min(now_s, (k + 1) * interval_s) - max(start_s, k * interval_s)
            found[k, replica.deployment] += (running * part_s, blocks * part_s)

    reference.run(case.works, case.names, case.deployments, case.rule, watch=look, tables=case.tables)
    return found


@pytest.mark.parametrize("times", TIMES)
def test_levels_are_what_every_iteration_had(times: Times) -> None:
    pools = 0
    for seed in range(200, 240):
        case = scenario(seed, times)
        levels = compiled.run(
            case.works, case.names, case.deployments, case.rule, tables=case.tables, interval_s=0.7
        ).levels_s
        assert levels is not None
        of_pools = [d for d, item in enumerate(case.deployments) if isinstance(item, GpuPool)]
        pools += len(of_pools)
        by_hand = watched(case, 0.7)[: len(levels)]
        for k, level in enumerate((RUNNING, KV_BLOCKS)):
            expected = by_hand[:, of_pools, k]
            np.testing.assert_allclose(levels[:, of_pools, level], expected, rtol=1e-9, atol=1e-9, err_msg=str(seed))
    assert pools > 20


def test_little_s_law_holds_to_the_last_digit() -> None:
    """What waits and runs, over all intervals, is what requests waited and ran; long leaps and many of them."""
    n = 3000
    one = Work(
        arrival_s=np.arange(n, dtype=np.float64) * 0.4,
        stage_start=np.arange(n + 1),
        deployment=np.zeros(n, dtype=np.int64),
        prompt_tokens=50 + np.arange(n) % 400,
        prefix_id=np.full(n, -1),
        sample_start=np.arange(n + 1),
        reasoning_tokens=np.zeros(n, dtype=np.int64),
        visible_tokens=1 + (np.arange(n) * 37) % 3000,
        first_token_s=np.zeros(0),
        per_token_s=np.zeros(0),
        backoff=np.zeros((n, 1)),
    )
    pools = [GpuPool.model_validate({**pool(1.0, 3), "kv_cache_tokens": None})]
    blocks = []
    for interval_s in (3.0, 100.0, 1e6):
        got = compiled.run([one], ["p"], pools, interval_s=interval_s)
        levels = got.levels_s
        assert levels is not None
        assert (got.status == COMPLETED).all()
        assert levels[:, 0, QUEUED].sum() == pytest.approx((got.started_s - got.arrival_s).sum(), rel=1e-9)
        assert levels[:, 0, RUNNING].sum() == pytest.approx((got.finished_s - got.started_s).sum(), rel=1e-9)
        assert len(levels) == interval_of(float(got.end_s), interval_s) + 1
        blocks.append(levels[..., KV_BLOCKS].sum())
    assert blocks == pytest.approx([blocks[0]] * 3, rel=1e-9)


def test_intervals_that_nobody_looks_at_are_refused() -> None:
    case = scenario(3, "apart")
    for run in (compiled.run, reference.run):
        for wrong in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(InputError, match=r"interval_s: got .*; expected seconds above 0"):
                run(case.works, case.names, case.deployments, interval_s=wrong)
        with pytest.raises(InputError, match="so many seconds that a run has at most 200,000 intervals"):
            run(case.works, case.names, case.deployments, case.rule, tables=case.tables, interval_s=1e-9)


def test_intervals_are_counted_however_much_room_there_is() -> None:
    """Room for them is doubled, so that there may be more of it than a run may have intervals."""
    given = GpuPool.model_validate(pool(1.0))
    for last, refused in ((199_000, False), (201_000, True), (250_000, True)):
        work = single_stage(60.0 * np.array([0, 110_000, 115_000, last]), np.full(4, 20), np.full(4, 5))
        for run in (compiled.run, reference.run):
            if refused:
                with pytest.raises(InputError, match="so many seconds that a run has at most 200,000 intervals"):
                    run([work], ["pool"], [given], interval_s=60.0)
            else:
                levels = run([work], ["pool"], [given], interval_s=60.0).levels_s
                assert levels is not None
                assert np.flatnonzero(levels[:, 0, RUNNING]).tolist() == [0, 110_000, 115_000, last]


@pytest.mark.parametrize("step_s", [1e10, 1e15])
def test_a_run_of_more_intervals_than_anybody_counts_is_refused_at_once(step_s: float) -> None:
    ours = GpuPool.model_validate({**pool(1.0), "step_time": {**pool(1.0)["step_time"], "base_s": step_s}})
    work = single_stage(np.arange(3.0), np.full(3, 20), np.full(3, 5))
    for run in (compiled.run, reference.run):
        with pytest.raises(InputError, match="so many seconds that a run has at most 200,000 intervals"):
            run([work], ["pool"], [ours], interval_s=3600.0)


# -------------------------------------------------------------------------------------------------------- tables


@pytest.fixture(scope="module")
def crowded() -> Result:
    return simulate(two_sources(goodput=0.5, slo=SLO))


@pytest.mark.parametrize("interval_s", [600, 3600, 1e6])
def test_intervals_sum_to_the_whole_run(crowded: Result, interval_s: float) -> None:
    """Requests, tokens, time busy and dollars, of all and by deployment and source."""
    runs, n = crowded.runs, 1500
    whole = crowded.over_time(interval_s)
    assert whole["arrivals"].sum() == pytest.approx(n, rel=1e-12)
    assert whole["prompt_tokens"].sum() == pytest.approx(np.mean([run.prompt_tokens.sum() for run in runs]))
    output = np.mean([(run.reasoning_tokens + run.visible_tokens).sum() for run in runs])
    assert whole["output_tokens"].sum() == pytest.approx(output)
    bill = float(np.mean([run.cost_usd.sum() for run in runs]))
    assert whole["usd"].sum() == pytest.approx(bill, rel=1e-9)
    by_source, by_deployment = (crowded.over_time(interval_s, by) for by in ("source", "deployment"))
    assert by_source["usd"].sum() == pytest.approx(bill, rel=1e-9)
    assert by_deployment["usd"].sum() == pytest.approx(bill, rel=1e-9)
    assert by_source["arrivals"].sum() == pytest.approx(n, rel=1e-12)
    busy_s = np.mean([run.result.busy_s for run in runs], axis=0)
    for d, name in enumerate(crowded.model.deployment_names):
        assert by_deployment.filter(deployment=name)["busy_s"].sum() == pytest.approx(busy_s[d], rel=1e-9)
    lost = sum(float(whole[name].sum()) for name in ("timed_out", "rejected"))
    assert lost / n == pytest.approx(crowded.summary().unserved_rate.value)
    share = (whole["goodput"] * whole["arrivals"]).sum() / n
    found = crowded.summary().goodput
    assert found is not None
    assert share == pytest.approx(found.value)


def test_two_halves_are_a_whole(crowded: Result) -> None:
    halves, wholes = (crowded.over_time(interval_s, "deployment") for interval_s in (900, 1800))
    for name in crowded.model.deployment_names:
        half, whole = (table.filter(deployment=name) for table in (halves, wholes))
        lasts = (half["ends_s"] - half["begins_s"]).to_numpy()
        pairs = np.arange(len(half)) // 2
        for column in ("arrivals", "usd", "busy_s", "timed_out"):
            assert np.bincount(pairs, half[column]) == pytest.approx(whole[column].to_numpy(), rel=1e-9)
        # The last is cut short, and by the run that ends last.
        means = np.bincount(pairs, half["running"] * lasts)[:-1] / 1800
        assert means == pytest.approx(whole["running"].to_numpy()[:-1], rel=1e-9)


def test_each_row_is_what_the_records_of_its_interval_say(crowded: Result) -> None:
    for by in ("all", "source"):
        table = crowded.over_time(1000, by)
        records = crowded.records.with_columns(k=pl.col("arrival_s") // 1000)
        for row in table.iter_rows(named=True):
            mine = records.filter(pl.col("k") == row["interval"])
            mine = mine if by == "all" else mine.filter(source=row["source"])
            assert row["arrivals"] == pytest.approx(len(mine) / 3)
            assert row["goodput"] == pytest.approx(by_hand(mine, "goodput", SLO))
            for key in ("ttft_p50_s", "ttft_p99_s", "tpot_p95_s", "latency_p95_s", "latency_p99_s"):
                assert row[key] == by_hand(mine, key, SLO), key
            assert row["accuracy"] == pytest.approx(float(np.mean(mine["correct"].to_numpy())))


def test_an_hour_without_arrivals_is_a_row_and_the_last_is_said_to_be_cut_short() -> None:
    raw = plain(replications=1, deployments={"d": pool(2.0)})
    steps = [{"duration_s": 3600, "rate_per_s": rate} for rate in (0.5, 0.0, 0.0, 0.5)]
    raw["workload"] |= {"arrivals": {"process": "piecewise", "steps": steps}, "requests": 2700}
    table = simulate(scenario_from_dict(raw)).over_time(3600, "deployment")
    assert table["interval"].to_list() == [0, 1, 2, 3]
    assert table["arrivals"].to_list()[1:3] == [0, 0]
    assert table["ttft_p95_s"].to_list()[2] is None
    assert table["running"].to_list()[2] == 0.0
    # A pool is paid for in an empty hour too; 2,700 arrivals are an hour and a half of them.
    assert table["usd"].to_list() == pytest.approx([2.0, 2.0, 2.0, 2.0 * 0.5], rel=0.05)
    assert table["partial"].to_list() == [False, False, False, True]
    assert table["ends_s"][3] < 4 * 3600
    assert table["utilisation"].max() <= 1 + 1e-9  # type: ignore[operator]


@pytest.mark.parametrize("requests", [1, 2])
@pytest.mark.parametrize("interval_s", [0.5, 3600])
def test_a_run_of_next_to_nothing(requests: int, interval_s: float) -> None:
    for deployment in (pool(1.0), api(), api(on_timeout="finish", timeout_s=0.7)):
        raw = plain(deployments={"d": deployment}, replications=1, targets={"goodput": 0.5, "slo": {"ttft_s": 5.0}})
        got = simulate(scenario_from_dict(raw), requests=requests)
        table = got.over_time(interval_s)
        assert table["arrivals"].sum() == requests
        assert table["usd"].sum() == pytest.approx(got.runs[0].cost_usd.sum())
        served = got.over_time(interval_s, "deployment")
        assert served["busy_s"].sum() == pytest.approx(got.runs[0].result.busy_s.sum())
        assert (served["running"] >= 0).all()
        assert got.plot_over_time(interval_s) is not None


def test_a_trace_at_one_instant(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("at,prompt,output\n" + "5,100,30\n" * 20)
    columns = {"arrival": "at", "prompt_tokens": "prompt", "output_tokens": "output"}
    raw = plain(deployments={"d": {**pool(3.6), "max_num_seqs": 4}}, replications=1)
    raw["workload"] = {"requests": 20}
    raw["workload"]["arrivals"] = {"process": "trace", "format": "csv", "file": "t.csv", "columns": columns}
    got = simulate(scenario_from_dict(raw, str(tmp_path / "s.yaml")))
    end_s = float(got.runs[0].result.finished_s.max())
    table = got.over_time(0.5, "deployment")
    assert table["arrivals"].to_list()[0] == 20
    assert table["ends_s"].to_list()[-1] == pytest.approx(end_s)
    assert table["usd"].sum() == pytest.approx(end_s * 3.6 / 3600)
    assert (table["utilisation"].to_numpy() == pytest.approx(1.0)) is True


def least(request: Requests, load: Any) -> str:
    return "m" if load.waiting["p"] + load.in_progress["p"] < 2 else "l"


@pytest.mark.parametrize("policy", ["LeastLoaded(['m', 'l'])", "Always('m')", least])
def test_recorded_while_running_or_afterwards_is_the_same(policy: Any) -> None:
    """Of live load too, which is looked at once, and of a user's function, by the reference engine."""
    given = two_sources(goodput=0.5, slo=SLO)
    at_once = simulate(given, policy, requests=150, replications=2, interval_s=300)
    after = simulate(given, policy, requests=150, replications=2)
    assert at_once.runs[0].timeline is not None
    assert after.runs[0].timeline is None
    for by in ("all", "deployment", "source"):
        one, other = at_once.over_time(300, by), after.over_time(300, by)
        assert one.columns == other.columns
        for column in one.columns:
            if one[column].dtype == pl.Float64:
                a, b = (np.array(t[column].to_list(), dtype=np.float64) for t in (one, other))
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=column)
            else:
                assert one[column].to_list() == other[column].to_list()


def test_an_overloaded_hour_is_seen() -> None:
    table = simulate(day(goodput=0.5, slo={"ttft_s": 1.0})).over_time(3600, "deployment")
    assert table["utilisation"].to_list()[1] == pytest.approx(1.0, abs=1e-3)
    assert table["running"].to_list()[1] == pytest.approx(4.0, abs=0.05)
    assert table["waiting"].to_list()[1] > 100 * table["waiting"].to_list()[0]
    assert table["usd"].to_list() == pytest.approx([2.0, 2.0, 2.0])


@pytest.mark.parametrize("wrong", [0, -5, float("nan"), "hour", None, True])
def test_seconds_that_are_none(crowded: Result, wrong: Any) -> None:
    with pytest.raises(InputError, match=r"over_time: interval_s: got .*; expected seconds above 0"):
        crowded.over_time(wrong)
    if wrong is not None:
        with pytest.raises(InputError, match=r"simulate: interval_s: got .*; expected seconds above 0"):
            simulate("qa-gateway", "Always('llama-70b')", interval_s=wrong)


def test_by_what_nobody_asks(crowded: Result) -> None:
    with pytest.raises(InputError, match="over_time: by: got 'arm'; expected all, deployment or source"):
        crowded.over_time(3600, "arm")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- what is printed, drawn


def test_the_command_prints_writes_and_draws_the_day(tmp_path: Path) -> None:
    raw = two_sources(goodput=0.5, slo=SLO).model_dump(mode="json", exclude={"path"}, exclude_none=True)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(raw))
    files = ["--json", str(tmp_path / "o.json"), "--plot", str(tmp_path / "o.png")]
    got = CliRunner(env={"COLUMNS": "220"}).invoke(
        app, ["simulate", str(tmp_path / "s.yaml"), "--hours", "--no-baselines", *files]
    )
    assert got.exit_code == 0, got.output
    for said in ("By hour", "By hour and deployment", "By hour and source", "2:00", "The last row is cut short"):
        assert said in got.output
    found = json.loads((tmp_path / "o.json").read_text())["hours"]
    assert found["interval_s"] == 3600
    assert sum(row["arrivals"] for row in found["all"]) == pytest.approx(1500)
    assert {row["deployment"] for row in found["deployments"]} == {"p", "e"}
    assert {row["source"] for row in found["sources"]} == {"everyday", "research"}
    assert (tmp_path / "o.png").stat().st_size > 10_000


@pytest.mark.parametrize(("p50", "p99"), [(20.0, 610.0), (20.0, 5_900.0), (0.02, 900.0)])
def test_a_logarithmic_axis_has_numbers_to_read_it_by(crowded: Result, p50: float, p99: float) -> None:
    found = crowded.tables_over_time()
    times = {"latency_p50_s": p50, "latency_p95_s": 0.5 * p99, "latency_p99_s": p99}
    figure = replace(found, all=found.all.with_columns(**{name: pl.lit(at) for name, at in times.items()})).plot()
    axes = next(one for one in figure.axes if one.get_title(loc="left") == "Time to the last token")
    assert axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    assert 3 <= sum(low <= at <= high for at in axes.get_yticks()) <= 8


def test_no_text_of_the_picture_is_cut(crowded: Result) -> None:
    for figure in (crowded.plot_over_time(), crowded.plot_over_time(400), simulate(day(ttft_p50_s=1)).plot_over_time()):
        figure.draw_without_rendering()
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert drawn.x0 > 0
        assert drawn.y0 > 0
        assert drawn.x1 < width
        assert drawn.y1 < height


def test_a_notebook_shows_the_tables(crowded: Result) -> None:
    page = crowded.tables_over_time()._repr_html_()
    assert "By hour and deployment" in page
    assert "data:image/png;base64," in page
    assert repr(crowded.tables_over_time(1800)) == "<OverTime: 5 intervals of 1800 s>"


def test_a_run_of_thousands_of_intervals_is_not_printed_whole(crowded: Result) -> None:
    found = crowded.tables_over_time(3)
    assert len(found.all) > 1000
    console = Console(file=io.StringIO(), width=300)
    over_time_text.print_over_time(console, found)
    assert isinstance(console.file, io.StringIO)
    first, *_ = console.file.getvalue().split("By 3 s and source")
    whole = first.split("By 3 s and deployment")[0]
    assert f"the first and the last 200 of {len(found.all):,} rows; --json has all" in whole
    assert len(whole.splitlines()) < 420
    assert "│0:00:00 " in whole
    assert f"│{over_time_text._at(found.all['begins_s'][-1], 3.0)} " in whole


def test_the_docstrings_examples_hold() -> None:
    for module in (over_time_text, result_module):
        assert doctest.testmod(module).failed == 0


def test_steps_that_go_on_for_no_client_fill_no_server_beyond_its_size() -> None:
    """Every client has given up while the server is still at a step of many minutes."""
    deployment = {
        **{
            "kind": "gpu_pool",
            "replicas": 2,
            "usd_per_replica_hour": 2.0,
            "max_num_seqs": 8,
            "max_num_batched_tokens": 256,
        },
        **{"kv_cache_tokens": 8192, "timeout_s": 30.0, "queue_limit": 20, "load_balancer": "session"},
        "step_time": {"base_s": 0.02, "per_prefill_token_s": 1e-4, "per_sequence_s": 0.0, "per_kv_token_s": 1.0},
    }
    one = scenario_from_dict(
        {
            "name": "stuck",
            "replications": 1,
            "workload": {
                "arrivals": {"process": "poisson", "rate_per_s": 1.0},
                "requests": 20,
                "lengths": {"prompt_tokens": 1500, "output_tokens": 40},
            },
            "deployments": {"pool": deployment},
            "arms": {"only": {"deployment": "pool"}},
            "policy": "Always('only')",
        }
    )
    for interval_s in (3600.0, 600.0, 20.0):
        table = simulate(one, interval_s=interval_s).over_time(interval_s, by="deployment")
        assert (table["kv_share"].fill_nan(0.0) <= 1 + 1e-9).all()
        assert (table["utilisation"].fill_nan(0.0) <= 1 + 1e-9).all()
        assert (table["running"].fill_nan(0.0) <= 16 + 1e-9).all()
