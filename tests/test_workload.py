"""Arrivals against theory and against what was measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.measured.traffic import load_traffic
from ttc_sim.scenario import (
    Clients,
    ClosedLoop,
    Columns,
    Even,
    Piecewise,
    Poisson,
    Renewal,
    Step,
    Trace,
    load_scenario,
    scenario_from_dict,
)
from ttc_sim.workload import Traffic, generate
from ttc_sim.workload.arrivals import Family, gamma_gaps, gamma_shape, gap_met, weibull_shape
from ttc_sim.workload.arrivals import gaps as unit_gaps
from ttc_sim.workload.checking import checked
from ttc_sim.workload.clients import _client


def made(
    arrivals: Poisson | Renewal | Even | Piecewise | Clients | ClosedLoop | Trace, requests: int, folder: Path = Path()
) -> Traffic:
    return generate(arrivals, requests, 7, folder=folder, where="test.yaml")


@pytest.mark.parametrize("cv", [50.0, 10.0, 4.0, 2.0, 1.05, 0.5, 0.01])
def test_many_gamma_gaps_are_the_quantiles(cv: float) -> None:
    u = np.concatenate([uniforms(7, "law", 20_000)[:, 0], [2.0**-53, 1e-12, 1 - 2.0**-53]])
    exact = unit_gaps("gamma", 1 / cv**2, u)
    seen = exact > 1e-280  # smaller ones take no time at all
    fast = gamma_gaps(1 / cv**2, u)
    np.testing.assert_allclose(fast[seen], exact[seen], rtol=1e-7)
    assert (fast[~seen] < 1e-279).all()


@pytest.mark.parametrize("process", ["gamma", "weibull"])
@pytest.mark.parametrize("cv", [0.4, 1.0, 2.5])
def test_renewal_has_its_rate_its_variation_and_its_law(process: str, cv: float) -> None:
    traffic = made(Renewal.model_validate({"process": process, "rate_per_s": 3.0, "cv": cv}), 60_000)
    gaps = np.diff(traffic.arrival_s)
    assert gaps.mean() == pytest.approx(1 / 3, rel=5 * cv / np.sqrt(60_000))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.06)
    law: Any
    if process == "gamma":
        law = stats.gamma(1 / cv**2, scale=cv**2 / 3)
        # Summing loses gaps below a part in 1e16 of the time since the start, of which a bursty Gamma law has many.
        gaps = unit_gaps("gamma", 1 / cv**2, uniforms(7, "law", 20_000)[:, 0]) / 3
    else:
        k = weibull_shape(cv)
        law = stats.weibull_min(k, scale=(1 / 3) / stats.weibull_min(k).mean())
        assert law.std() / law.mean() == pytest.approx(cv, rel=1e-9)
    assert stats.kstest(gaps, law.cdf).pvalue > 1e-4


def drawable(strata: int = 500) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Of the numbers that :func:`uniforms` can give, some from each halving towards 0 and 1, and what each stands for."""
    low, weight = [], []
    for bit in range(1, 53):
        # Of the 2**52 numbers (k + 1/2) / 2**52, those from 2**-(bit + 1) to 2**-bit; at last the one below all of them.
        first, count = (2 ** (51 - bit),) * 2 if bit < 52 else (0, 1)
        k = np.unique((np.arange(min(strata, count)) + 0.5) * count // min(strata, count))
        low.append((first + k + 0.5) * 2.0**-52)
        weight.append(np.full(len(k), count / len(k) * 2.0**-52))
    u = np.concatenate(low)
    return np.concatenate([u, 1 - u]), np.concatenate(weight * 2)


@pytest.mark.parametrize("process", ["gamma", "weibull"])
@pytest.mark.parametrize("cv", [1e-9, 1e-4, 0.005, 0.00999, 0.0101, 0.3, 3.0, 50.0])
def test_all_that_can_be_drawn_has_the_mean_and_the_variation_asked_for(process: Family, cv: float) -> None:
    """Over all 52-bit draws, not over some: the wildest law's mean hangs on gaps that no sample of a test would hold."""
    u, weight = drawable()
    shape = weibull_shape(cv) if process == "weibull" else gamma_shape(cv)
    gaps = unit_gaps("weibull", shape, u) if process == "weibull" else gamma_gaps(shape, u)
    assert np.isfinite(gaps).all()
    mean = float(gaps @ weight)
    assert weight.sum() == pytest.approx(1, abs=1e-15)
    assert abs(mean - 1) < 1e-6 * min(cv, 1) + 1e-14
    if cv > 1e-6:  # below it the square of a gap has too few digits
        assert np.sqrt(float((gaps - mean) ** 2 @ weight)) == pytest.approx(cv, rel=1e-5)


@pytest.mark.parametrize("process", ["gamma", "weibull"])
@pytest.mark.parametrize("cv", [1e-200, 1e-9, 0.001, 0.005])
def test_little_variation_is_nearly_even(process: str, cv: float) -> None:
    arrivals = Renewal.model_validate({"process": process, "rate_per_s": 4.0, "cv": cv})
    times = made(arrivals, 1000).arrival_s
    assert np.abs(np.diff(times) - 0.25).max() < 0.25 * 8 * cv + 1e-12 * times[-1]


def test_even_arrivals_are_even() -> None:
    for rate in (4.0, 3.0, 1e-3):
        traffic = made(Even(process="even", rate_per_s=rate), 1000)
        np.testing.assert_allclose(np.diff(traffic.arrival_s), 1 / rate, rtol=1e-12)
        assert traffic.arrival_s[0] == 1 / rate
        assert traffic.rate_per_s == rate


@pytest.mark.parametrize("cv", [0, 0.0, -1.0, 50.1, float("inf"), float("nan")])
@pytest.mark.parametrize("process", ["gamma", "weibull", "piecewise"])
def test_no_variation_is_refused_with_a_word_on_even_spacing(process: str, cv: float) -> None:
    scenario = load_scenario("qa-gateway")
    raw = scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    rates = {"steps": [{"duration_s": 1.0, "rate_per_s": 1.0}]} if process == "piecewise" else {"rate_per_s": 4.0}
    raw["workload"]["arrivals"] = {"process": process, "cv": cv, **rates}
    with pytest.raises(InputError, match=r"workload\.arrivals\.cv: got .*at even distances are 'process: even'"):
        scenario_from_dict(raw, scenario.path)
    raw["workload"]["arrivals"] = {"process": "even", "rate_per_s": 4.0}
    assert scenario_from_dict(raw, scenario.path).workload.arrivals == Even(process="even", rate_per_s=4.0)


def test_a_closed_loop_has_a_request_for_every_user() -> None:
    loop = ClosedLoop(process="closed_loop", users=20, think_s=1.0)
    for requests in (1, 19):
        with pytest.raises(
            InputError, match=rf"test\.yaml: workload\.arrivals\.users: got 20; expected at most {requests},"
        ):
            made(loop, requests)
    traffic = made(loop, 20)
    assert np.isfinite(traffic.arrival_s).all()
    assert sorted(traffic.client) == list(range(20))


def test_piecewise_counts_are_poisson_in_every_step() -> None:
    steps = [
        Step(duration_s=50.0, rate_per_s=4.0),
        Step(duration_s=30.0, rate_per_s=0.0),
        Step(duration_s=20.0, rate_per_s=10.0),
    ]
    traffic = made(Piecewise(process="piecewise", steps=steps), 40_000)
    cycles = int(traffic.arrival_s[-1] // 100)
    within = traffic.arrival_s[traffic.arrival_s < cycles * 100] % 100
    for low, high, mean in ((0, 50, 200), (50, 80, 0), (80, 100, 200)):
        count = ((within >= low) & (within < high)).sum()
        assert abs(count - mean * cycles) <= 5 * np.sqrt(mean * cycles)
    assert traffic.rate_per_s == pytest.approx(4.0)


def test_the_first_requests_do_not_depend_on_how_many_are_asked_for() -> None:
    for arrivals in (Poisson(process="poisson", rate_per_s=1.0), Clients(process="clients", traffic="servegen-r1")):
        few, many = made(arrivals, 200), made(arrivals, 1000)
        assert few.arrival_s.tobytes() == many.arrival_s[:200].tobytes()


def test_the_mixture_of_clients_matches_the_measured_day() -> None:
    measured = load_traffic("servegen-r1").arrivals
    rate = float(measured["rate_per_s"].sum()) / 144
    traffic = made(Clients(process="clients", traffic="servegen-r1"), 1_400_000)
    day = traffic.arrival_s < 86_400
    assert day.sum() == pytest.approx(rate * 86_400, rel=0.02)
    window = (traffic.arrival_s[day] // 3600).astype(int)
    hours = measured.group_by(pl.col("t_start_s") // 3600).agg(pl.col("rate_per_s").sum() * 600).sort("t_start_s")
    busy = hours["rate_per_s"].to_numpy() > 20_000
    counts = np.bincount(window, minlength=24)
    assert counts[busy] == pytest.approx(hours["rate_per_s"].to_numpy()[busy], rel=0.06)
    per_client = measured.group_by("client").agg((pl.col("rate_per_s").sum() * 600).alias("n")).sort("client")
    large = per_client.filter(pl.col("n") > 20_000)
    got = np.bincount(traffic.client[day], minlength=80)
    for client, n in large.iter_rows():
        assert got[client] == pytest.approx(n, rel=0.1)
    # Burstiness of the largest clients in their busiest window.
    checked = 0
    for client in large["client"].to_list():
        best = measured.filter(pl.col("client") == client).sort("rate_per_s")[-1]
        start = float(best["t_start_s"][0])
        mine = traffic.arrival_s[(traffic.client == client) & day]
        gaps = np.diff(mine[(mine >= start) & (mine < start + 600)])
        if len(gaps) > 1500 and best["iat_cv"][0] < 2:
            assert gaps.std() / gaps.mean() == pytest.approx(best["iat_cv"][0], rel=0.25)
            checked += 1
    assert checked >= 2
    output = (traffic.reasoning_tokens + traffic.visible_tokens)[day]  # type: ignore[operator]
    share = traffic.reasoning_tokens[day] / output  # type: ignore[index]
    prompt = traffic.prompt_tokens[day]  # type: ignore[index]
    for field, values in (("input_tokens", prompt), ("output_tokens", output), ("reason_ratio", share)):
        for q, expected in zip((0.5, 0.9, 0.99), measured_quantiles(field, (0.5, 0.9, 0.99)), strict=True):
            assert np.quantile(values, q) == pytest.approx(expected, rel=0.06), (field, q)


def measured_quantiles(field: str, wanted: tuple[float, ...]) -> list[float]:
    """Quantiles of the measured lengths, each client's window weighted by the requests it makes in it."""
    profile = load_traffic("servegen-r1")
    start = (pl.col("t_start_s") // 21_600 * 21_600).alias("window_start_s")
    requests = profile.arrivals.group_by("client", start).agg(pl.col("rate_per_s").sum())
    table = profile.lengths.filter(pl.col("field") == field).join(requests, on=["client", "window_start_s"])
    whole = pl.col("probability").sum().over("client", "window_start_s")
    table = table.with_columns(mass=pl.col("probability") / whole * pl.col("rate_per_s")).sort("value")
    upto = np.cumsum(table["mass"].to_numpy())
    return [float(table["value"].to_numpy()[np.searchsorted(upto / upto[-1], q)]) for q in wanted]


def test_clients_scale_to_any_rate_and_start_anywhere() -> None:
    traffic = made(Clients(process="clients", traffic="servegen-r1", rate_per_s=1.0, start_s=40_000.0), 90_000)
    assert len(traffic.arrival_s) / traffic.arrival_s[-1] == pytest.approx(1.0, rel=0.12)
    assert traffic.arrival_s[0] >= 0
    with pytest.raises(InputError, match="start_s"):
        made(Clients(process="clients", traffic="servegen-r1", start_s=1e6), 10)


def test_clients_that_send_more_than_can_be_counted_are_refused() -> None:
    with pytest.raises(InputError, match=r"busiest window: got .*at most 100,000,000 requests"):
        made(Clients(process="clients", traffic="servegen-r1", rate_per_s=1e8), 10)


@given(st.sampled_from(["gamma", "weibull"]), st.floats(0.05, 50), st.integers(1, 300))
@settings(max_examples=60, deadline=None)
def test_times_never_go_back(process: str, cv: float, requests: int) -> None:
    traffic = made(Renewal.model_validate({"process": process, "rate_per_s": 2.0, "cv": cv}), requests)
    assert (np.diff(traffic.arrival_s) >= 0).all()
    assert traffic.arrival_s[0] >= 0
    assert np.isfinite(traffic.arrival_s).all()


AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.5,100,10
2023-11-16 18:17:04.0,50,0
2023-11-16 18:17:06.0,7,3
"""


def test_traces_are_replayed_rescaled_and_repeated(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(AZURE)
    got = made(Trace(process="trace", file="a.csv", format="azure"), 5, tmp_path)
    assert got.arrival_s == pytest.approx([0.0, 0.5, 2.5, 3.75, 4.25])
    assert got.visible_tokens is not None
    assert got.visible_tokens.tolist() == [10, 10, 3, 10, 10]  # the second failed
    fast = made(Trace(process="trace", file="a.csv", format="azure", rate_per_s=8.0), 3, tmp_path)
    assert fast.arrival_s == pytest.approx(np.array([0.0, 0.5, 2.5]) * (3 / 3.75) / 8.0)
    (tmp_path / "m.jsonl").write_text(
        '{"timestamp": 0, "input_length": 9, "output_length": 2, "hash_ids": [4, 5]}\n'
        '{"timestamp": 1500, "input_length": 8, "output_length": 1, "hash_ids": [4]}\n'
    )
    moon = made(Trace(process="trace", file="m.jsonl", format="mooncake"), 2, tmp_path)
    assert moon.arrival_s.tolist() == [0.0, 1.5]
    assert moon.prefix_id is not None
    assert moon.prefix_id.tolist() == [0, 0]
    (tmp_path / "c.csv").write_text("t,think,out\n1.0,5,8\n2.0,9,9\n")
    columns = Columns(arrival="t", reasoning_tokens="think", output_tokens="out")
    own = made(Trace(process="trace", file="c.csv", format="csv", columns=columns), 2, tmp_path)
    assert own.reasoning_tokens is not None
    assert own.reasoning_tokens.tolist() == [5, 8]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("t,out\n2.0,1\n1.0,1\n", "row 2"),
        ("t,out\n1.0,1\nnan,1\n", "row 2"),
        ("t,out\n1.0,-4\n", "row 1"),
        ("t,out\n1.0,1.5\n", "row 1"),
        ("t,output\n1.0,1\n", "out"),
        ("x,out\n1.0,1\n", "arrival"),
        ("t,out\n", "row"),
        ("t,out\nsoon,1\n", "seconds"),
    ],
)
def test_bad_traces_are_refused_by_row(tmp_path: Path, text: str, names: str) -> None:
    (tmp_path / "bad.csv").write_text(text)
    columns = Columns(arrival="t", output_tokens="out")
    with pytest.raises(InputError, match=names) as caught:
        made(Trace(process="trace", file="bad.csv", format="csv", columns=columns), 2, tmp_path)
    assert "bad.csv" in str(caught.value)


def test_rates_that_are_all_zero_are_refused() -> None:
    with pytest.raises(InputError, match="above 0"):
        made(Piecewise(process="piecewise", steps=[Step(duration_s=1.0, rate_per_s=0.0)]), 3)


def test_the_recorded_traces(shared: Path) -> None:
    azure = made(Trace(process="trace", file=str(shared / "traces/azure_llm_2023_code.csv"), format="azure"), 8818)
    assert azure.arrival_s[-1] == pytest.approx(3435, abs=60)
    moon = made(
        Trace(process="trace", file=str(shared / "traces/mooncake_conversation.jsonl"), format="mooncake"), 12_031
    )
    assert moon.prompt_tokens is not None
    assert moon.prompt_tokens.min() >= 1


@pytest.mark.parametrize(("family", "shape"), [("gamma", 0.1), ("gamma", 1.0), ("weibull", 0.5), ("weibull", 3.0)])
def test_a_client_that_is_met_at_any_moment_is_as_busy_from_the_start(family: Family, shape: float) -> None:
    """Stationary: as many requests come in the first stretch as in any other, and gaps met are those of renewal theory."""
    rate = np.array([1.0])
    times = [_client(rate, {0: (family, shape)}, c, 7, "0", 0, 1, 20.0) for c in range(4000)]
    counts = np.histogram(np.concatenate(times), bins=10, range=(0, 20))[0] / len(times)
    spread = np.sqrt(2 * (1 + 1 / shape) * 4 / len(times))
    assert counts == pytest.approx(np.full(10, 2.0), abs=4 * spread)
    u = (np.arange(200_000) + 0.5) / 200_000
    drawn = unit_gaps(family, shape, u)
    assert gap_met(family, shape, u).mean() == pytest.approx((drawn**2).mean() / drawn.mean(), rel=0.01)


def trace_of(folder: Path, text: str, columns: Columns, requests: int) -> Traffic:
    (folder / "t.csv").write_text(text)
    return made(Trace(process="trace", file="t.csv", format="csv", columns=columns), requests, folder)


def test_requests_that_failed_come_and_are_served_like_those_beside_them(tmp_path: Path) -> None:
    """Their tokens are not averaged in, and their arrivals are not lost."""
    columns = Columns(arrival="t", prompt_tokens="p", reasoning_tokens="r", output_tokens="o")
    rows = ["t,p,r,o", "0,5,0,0", "1,6,2,9", "2,0,0,0", "3,8,0,0", "4,9,0,7"]
    got = trace_of(tmp_path, "\n".join(rows), columns, 5)
    assert got.visible_tokens is not None
    assert got.reasoning_tokens is not None
    assert got.prompt_tokens is not None
    assert got.visible_tokens.tolist() == [7, 7, 7, 7, 7]
    assert got.reasoning_tokens.tolist() == [2, 2, 2, 2, 0]
    assert got.prompt_tokens.tolist() == [5, 6, 1, 8, 9]
    assert got.rate_per_s == pytest.approx(1.0)
    assert [note.split(" rows")[0] for note in got.notes] == ["3 of 5", "1 of 5"]
    with pytest.raises(InputError, match="0 in every row"):
        trace_of(tmp_path, "t,p,r,o\n0,5,0,0\n1,6,0,0\n", columns, 2)
    quiet = trace_of(tmp_path, "t,p,r,o\n0,5,1,2\n1,6,0,3\n", columns, 2)
    assert quiet.notes == ()


def test_prefixes_of_a_users_own_arrivals_are_as_long_as_it_says() -> None:
    times, two = np.array([0.0, 1.0]), np.array([0, 0], dtype=np.int64)
    mine = Traffic(times, two, two + 900, two, two + 5, two, 1.0, prefix_tokens=two + 64, notes=("as I said",))
    got = checked(mine, 2, "mine", carries_lengths=True)
    assert got.prefix_tokens is not None
    assert got.prefix_tokens.tolist() == [64, 64]
    assert got.notes == ("as I said",)
    for wrong in (replace(mine, prefix_tokens=two - 1), replace(mine, prefix_id=None), replace(mine, notes="no list")):  # type: ignore[arg-type]
        with pytest.raises(InputError, match=r"prefix_tokens|notes"):
            checked(wrong, 2, "mine", carries_lengths=True)
