"""Plain lengths: drawn as said, kept together where they belong together, and used wherever traffic without problems is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import ttc_sim as ttc
from tests.test_bills import API, POOL
from ttc_sim.base.errors import InputError
from ttc_sim.cli.options import scenario_routed_by
from ttc_sim.scenario import Scenario, scenario_from_dict
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.model import load_model

POISSON = {"process": "poisson", "rate_per_s": 3.0}


def scenario(lengths: dict[str, Any], folder: Path = Path(), requests: int = 400, **workload: Any) -> Scenario:
    raw = {
        "name": "plain",
        "replications": 2,
        "workload": {"arrivals": POISSON, "requests": requests, "lengths": lengths, **workload},
        "deployments": {"api": API},
        "arms": {"only": {"deployment": "api"}},
        "policy": "Always('only')",
    }
    return scenario_from_dict(raw, str(folder / "s.yaml"))


def lengths_of(one: Scenario, run: int = 0) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(3, n) prompt, reasoning and visible tokens."""
    traffic = draw(load_model(one), run).traffic
    return np.stack([traffic.prompt_tokens, traffic.reasoning_tokens, traffic.visible_tokens])  # type: ignore[list-item]


def test_lengths_have_the_median_and_the_percentile_that_are_asked_for() -> None:
    law = {"median": 300, "p95": 2000}
    prompt, hidden, visible = lengths_of(
        scenario({"prompt_tokens": 800, "output_tokens": law, "reasoning_share": 0.25}, requests=100_000)
    )
    output = hidden + visible
    assert (prompt == 800).all()
    assert np.quantile(output, [0.5, 0.95]) == pytest.approx([300, 2000], rel=0.03)
    sigma = np.log(2000 / 300) / 1.6449
    assert output.mean() == pytest.approx(300 * np.exp(sigma**2 / 2), rel=0.03)
    assert hidden.sum() / output.sum() == pytest.approx(0.25, rel=0.01)
    assert visible.min() >= 1


def test_the_first_do_not_depend_on_how_many_are_asked_for_and_runs_differ() -> None:
    law = {
        "prompt_tokens": {"median": 50, "p95": 90},
        "visible_tokens": {"median": 5, "p95": 70},
        "reasoning_tokens": 9,
    }
    few, many = lengths_of(scenario(law, requests=7)), lengths_of(scenario(law, requests=70))
    assert (few == many[:, :7]).all()
    assert (few != lengths_of(scenario(law, requests=7), run=1)).any()
    assert (few[1] == 9).all()


def test_a_request_has_its_lengths_from_one_row_of_a_table(tmp_path: Path) -> None:
    rows = [(10, 3, 3), (200, 50, 40), (3000, 0, 0), (40, 7, 0)]
    (tmp_path / "l.csv").write_text("p,o,r\n" + "\n".join(",".join(map(str, row)) for row in rows) + "\n")
    law = {"file": "l.csv", "prompt_tokens": "p", "output_tokens": "o", "reasoning_tokens": "r"}
    one = scenario(law, tmp_path)
    got = lengths_of(one)
    assert {tuple(row) for row in got.T.tolist()} == {(10, 2, 1), (200, 40, 10), (40, 0, 7)}
    assert np.bincount(got[0])[[10, 200, 40]] == pytest.approx([400 / 3] * 3, abs=45)
    summary = ttc.simulate(one).summary()
    assert any("1 of 4 rows of l.csv have no output tokens" in note for note in summary.notes)
    # A new table is read anew.
    (tmp_path / "l.csv").write_text("p,o,r\n77,8,1\n")
    assert {tuple(row) for row in lengths_of(one).T.tolist()} == {(77, 1, 7)}


@pytest.mark.parametrize(
    "arrivals",
    [
        POISSON,
        {"process": "closed_loop", "users": 4},
        {"process": "even", "rate_per_s": 5.0},
        {
            "process": "piecewise",
            "steps": [{"duration_s": 10, "rate_per_s": 2.0}, {"duration_s": 9, "rate_per_s": 0.0}],
        },
    ],
)
def test_tokens_times_prices_are_the_bill_whatever_the_arrivals(arrivals: dict[str, Any]) -> None:
    one = scenario({"prompt_tokens": 100, "visible_tokens": 20, "reasoning_tokens": 30}, arrivals=arrivals)
    summary = ttc.simulate(one).summary()
    assert summary.cost_usd_per_request.value == pytest.approx((100 * 1 + 20 * 5 + 30 * 2) * 1e-6)
    assert summary.accuracy is None


def test_on_a_pool_and_under_a_cap() -> None:
    one = scenario({"prompt_tokens": 64, "output_tokens": {"median": 100, "p95": 900}})
    raw = one.model_dump(exclude={"path"})
    raw["deployments"] = {"pool": POOL}
    raw["arms"] = {"only": {"deployment": "pool", "strategy": "Single(cap=120)"}}
    summary = ttc.simulate(scenario_from_dict(raw)).summary()
    drawn = np.minimum(np.concatenate([lengths_of(one, k)[1:].sum(axis=0) for k in range(2)]), 120)
    assert summary.tokens_per_request["output"].value == pytest.approx(drawn.mean())


def test_a_replay_with_lengths_that_vary_is_no_replay(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("t\n0\n1\n3\n")
    trace = {"process": "trace", "file": "t.csv", "format": "csv", "columns": {"arrival": "t"}}
    raw_api = {**API, "first_token": {"median_s": 0.3}}
    for law, replay in ((50, True), ({"median": 50, "p95": 60}, False)):
        one = scenario({"prompt_tokens": 10, "output_tokens": law}, tmp_path, requests=3, arrivals=trace)
        raw = {**one.model_dump(exclude={"path"}), "deployments": {"api": raw_api}}
        assert ttc.simulate(scenario_from_dict(raw, one.path)).summary().replay == replay


@pytest.mark.parametrize(
    ("lengths", "names"),
    [
        ({"prompt_tokens": 10}, "output_tokens"),
        ({"prompt_tokens": 10, "output_tokens": 5, "visible_tokens": 5}, "one of them"),
        ({"prompt_tokens": 10, "output_tokens": 5, "reasoning_tokens": 2}, "visible_tokens beside"),
        ({"prompt_tokens": 10, "visible_tokens": 5, "reasoning_share": 0.2}, "reasoning_share"),
        ({"prompt_tokens": "p", "output_tokens": 5}, "file"),
        ({"prompt_tokens": 1, "output_tokens": 5, "file": "l.csv"}, "file"),
        ({"prompt_tokens": {"median": 10, "p95": 5}, "output_tokens": 5}, "at least median"),
        (
            {"prompt_tokens": -1, "output_tokens": 5},
            r"lengths\.prompt_tokens: got -1; expected greater than or equal to 0",
        ),
        ({"prompt_tokens": 1.5, "output_tokens": 5}, r"lengths\.prompt_tokens: got 1\.5"),
        (
            {"prompt_tokens": [1], "output_tokens": 5},
            r"lengths\.prompt_tokens: got \[1\]; expected a number of tokens, \{median",
        ),
        ({"prompt_tokens": {"median": 10}, "output_tokens": 5}, r"lengths\.prompt_tokens\.p95: got 'nothing'"),
        ({"prompt_tokens": {"mean": 1, "p95": 5}, "output_tokens": 5}, r"lengths\.prompt_tokens: got 'mean'; expected"),
        ({"prompt_tokens": 1, "output_tokens": 5, "reasoning_share": 2}, "reasoning_share"),
        ({"prompt_tokens": 1, "output_tokens": "zzz", "file": "l.csv"}, "zzz"),
        ({"prompt_tokens": "p", "output_tokens": "o", "reasoning_tokens": "r", "file": "l.csv"}, "row 2"),
        ({"prompt_tokens": "p", "output_tokens": "n", "file": "l.csv"}, "0 in every row"),
        ({"prompt_tokens": "p", "output_tokens": "o", "file": "none.csv"}, "none.csv"),
        ({"prompt_tokens": "p", "output_tokens": "o", "file": "n" * 300 + ".csv"}, "nnn"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, lengths: dict[str, Any], names: str) -> None:
    (tmp_path / "l.csv").write_text("p,o,r,n\n10,5,2,0\n10,5,9,0\n")
    with pytest.raises(InputError, match=names):
        lengths_of(scenario(lengths, tmp_path))


def test_lengths_are_said_once() -> None:
    law = {"prompt_tokens": 10, "output_tokens": 5}
    raw = scenario(law).model_dump(exclude={"path"})
    raw["workload"]["sources"] = {"q": {"problem_set": "mmlu-pro"}}
    raw["arms"]["only"]["profile"] = "mmlu-pro/phi-3-mini-4k-instruct"
    with pytest.raises(InputError, match=r"workload\.lengths.*beside sources"):
        scenario_from_dict(raw)
    with pytest.raises(InputError, match="lengths of their own"):
        lengths_of(scenario(law, arrivals={"process": "clients", "traffic": "servegen-r1"}))


def test_a_predictor_that_has_nothing_to_score_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = scenario({"prompt_tokens": 100, "output_tokens": 20})
    raw = {**one.model_dump(exclude={"path"}), "predictor": "encoder"}
    with pytest.raises(InputError, match="predictor: got 'encoder'; expected none: a workload without sources"):
        scenario_from_dict(raw)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(one.model_dump(mode="json", exclude={"path"}, exclude_none=True)))
    with pytest.raises(InputError, match="--predictor"):
        scenario_routed_by(str(tmp_path / "s.yaml"), "encoder", False)
