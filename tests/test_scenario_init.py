"""``ttc-sim scenario init``: what an import becomes, and what is said where the log says nothing."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.cli import app
from ttc_sim.drafting.making import Made, make_scenario
from ttc_sim.drafting.timing import ASSUMED, timing_of
from ttc_sim.measured.problem_sets import load_problem_set
from ttc_sim.measured.profiles import load_profile
from ttc_sim.scenario import Api, load_scenario
from ttc_sim.scenario.schema import MODELINE

from .imports import graded, traffic, write_import
from .packages import command

PRICES = ["small=0.1/0.4", "large=2/8"]


def made(folder: Path, **options: Any) -> Made:
    return make_scenario(folder, **{"prices": PRICES, "train": False, **options})


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def cli(*words: str) -> str:
    found = CliRunner().invoke(app, list(words))
    if isinstance(found.exception, InputError):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


# ------------------------------------------------------------------------------------------------ right numbers


def test_figures_are_those_of_the_log_by_hand(tmp_path: Path) -> None:
    """Cost and accuracy of each arm: means over a source's problems, by the source's share of the log."""
    tables, arrivals = graded(40, prompts=False), traffic(600)
    write_import(tmp_path / "mine", arrivals=arrivals, tables=tables)
    draft = made(tmp_path / "mine").draft
    scenario = load_scenario(tmp_path / "mine" / "scenario.yaml")
    shares = dict(arrivals["source"].value_counts(normalize=True).iter_rows())
    assert {name: one.share for name, one in scenario.workload.sources.items()} == pytest.approx(shares, abs=1e-4)
    tries = tables[1].join(tables[0].select("problem", "subset"), on="problem")
    for model, (asked, answered) in {"small": (0.1, 0.4), "large": (2.0, 8.0)}.items():
        usd = pl.col("prompt_tokens") * asked + (pl.col("reasoning_tokens") + pl.col("visible_tokens")) * answered
        means = (
            tries.filter(pl.col("model") == model)
            .group_by("subset")
            .agg(usd=usd.mean() / 1e6, right=pl.col("correct").mean())
        )
        weight = np.array([shares[one] for one in means["subset"]])
        assert draft.figures[model].cost_usd == pytest.approx(weight @ means["usd"].to_numpy(), rel=1e-3)
        assert draft.figures[model].accuracy == pytest.approx(weight @ means["right"].to_numpy(), abs=1e-3)
    targets = scenario.targets
    assert targets is not None
    low, high = sorted(one.accuracy or 0 for one in draft.figures.values())
    assert targets.accuracy == pytest.approx((low + high) / 2, abs=0.01)
    assert targets.latency_p95_s is not None
    assert targets.latency_p95_s >= 1.2 * max(one.p95_s for one in draft.figures.values())
    notes = ttc.simulate(scenario, "Always('small')", replications=1).summary().notes
    assert not any("not in the set" in note or "left out" in note for note in notes)


@pytest.mark.parametrize("first", [True, False])
def test_latencies_are_found_again(first: bool) -> None:
    """0.4 s, and 0.01 or 0.02 s a token: told from both times of an answer, or from its whole time alone.

    The first token that is seen of an answer with hidden thinking is not the first that was made.
    """
    log = traffic(400, first_token_s=[None] * 400) if not first else traffic(400)
    for model, each in (("small", 0.01), ("large", 0.02)):
        found = timing_of(log, model)
        tokens = np.array([60, 800])
        known = 0.4 + (tokens - 1) * each
        assert found.first_token[0] + (tokens - 1) * found.per_token[0] == pytest.approx(known, rel=0.02)
        assert found.per_token[1] == pytest.approx(each, rel=0.02)
    assert timing_of(log, "another") == ASSUMED
    assert timing_of(log.head(8), "small") == ASSUMED
    assert timing_of(None, "small") == ASSUMED
    slow = log.with_columns(latency_s=pl.col("latency_s") * 7, status=pl.lit("failed"))
    both = pl.concat([log, slow])
    assert timing_of(both, "small") == timing_of(log, "small")


def test_latencies_stand_in_the_scenario_and_where_they_come_from(tmp_path: Path) -> None:
    write_import(tmp_path / "a", arrivals=traffic(600), tables=graded(10))
    write_import(tmp_path / "b", tables=graded(10))
    for folder, said, median in (("a", "of 300 answers in the log", 0.01), ("b", "assumed: not in the log", 0.015)):
        made(tmp_path / folder)
        small = load_scenario(tmp_path / folder / "scenario.yaml").deployments["small"]
        assert isinstance(small, Api)
        assert small.per_token.median_s == pytest.approx(median, rel=0.01)
        assert said in (tmp_path / folder / "scenario.yaml").read_text()
    text = (tmp_path / "b" / "scenario.yaml").read_text()
    assert "process: poisson, rate_per_s: 1}   # assumed: the import holds no times" in text
    assert (tmp_path / "b" / "scenario.yaml").exists()
    assert not (tmp_path / "b" / "traffic.parquet").exists()


def test_problems_that_all_were_tried_on_are_kept_and_the_others_counted(tmp_path: Path) -> None:
    problems, tries = graded(30)
    tries = tries.filter((pl.col("model") == "small") | pl.col("problem").is_in([f"p{k}" for k in range(20)]))
    write_import(tmp_path / "mine", tables=(problems, tries))
    found = made(tmp_path / "mine")
    assert "10 of 30 problems left out: not all 2 models were tried on them" in found.said
    assert "10 of 30 problems left out" in found.file.read_text()
    assert len(load_problem_set("mine", tmp_path / "mine").problems) == 20
    assert load_profile("mine/small", tmp_path / "mine").attempts["problem"].n_unique() == 20
    alone = made(tmp_path / "mine", models=["small"], prices=PRICES[:1], replace_old=True)
    assert not any("left out" in line for line in alone.said)


def test_models_without_a_problem_in_common_are_refused_with_their_counts(tmp_path: Path) -> None:
    problems, tries = graded(30)
    first = pl.col("problem").is_in([f"p{k}" for k in range(12)])
    write_import(tmp_path / "mine", tables=(problems, tries.filter((pl.col("model") == "small") == first)))
    before = tree(tmp_path)
    with pytest.raises(InputError, match=r"small 12, large 18: got 'none in common'; .* --models takes some"):
        made(tmp_path / "mine")
    assert tree(tmp_path) == before
    assert made(tmp_path / "mine", models=["large"], prices=["2/8"]).plannable


def test_what_is_not_recorded_of_attempts_is_said(tmp_path: Path) -> None:
    problems, tries = graded(10)
    gone = (pl.col("problem") == "p3") & (pl.col("model") == "large")
    tries = tries.with_columns(
        pl.when(gone).then(None).otherwise("reasoning_tokens").alias("reasoning_tokens"),
        pl.when(gone).then(0).otherwise("prompt_tokens").alias("prompt_tokens"),
        pl.when(pl.col("problem") == "p4").then(None).otherwise("correct").alias("correct"),
    )
    write_import(tmp_path / "mine", tables=(problems, tries))
    said = " ".join(made(tmp_path / "mine").said)
    assert "large: reasoning_tokens: 1 of 9 are not recorded: all output of these counts as visible" in said
    assert "large: 1 of 9 attempts have no prompt tokens: those of the problem count" in said
    assert "2 of 20 attempts" in said
    assert "1 of 10 problems left out" in said
    found = load_profile("mine/large", tmp_path / "mine").attempts.filter(pl.col("problem") == "p3")
    assert found["prompt_tokens"].item() == problems["prompt_tokens"][3]
    assert load_profile("mine/small", tmp_path / "mine").card.reasoning == "recorded"


# ------------------------------------------------------------------------------------------------ prices


@pytest.mark.parametrize(
    ("prices", "says"),
    [
        ([], r"price: got 'none known of small, large'; expected --price 'small=PROVIDER/MODEL' .* --gpu 'small=GPU'"),
        (["large=2/8"], r"got 'none known of small'"),
        (["2/8"], "MODEL being one of large, small"),
        (["openai/gpt-4o"], "MODEL being one of large, small"),
        (["lage=2/8"], "'large' .nearest"),
        ([*PRICES, "large=openai/o3-mini"], "one --price for large, not 2/8 too"),
        (["small=0.1/0.4", "large=8"], "PROVIDER/MODEL of the price table genai-prices, or IN/OUT"),
        (["small=0.1/0.4", "large=opnai/o3-mini"], "'openai' .nearest"),
        (["small=0.1/0.4", "large=openai/o3-mni"], "--price large.model: got 'o3-mni'; expected 'o3-mini' .nearest"),
        (["small=0.1/0.4", "large=-2/8"], "--price large.provider: got '-2'"),
    ],
)
def test_a_price_that_is_not_known_is_asked_for_in_one_line(tmp_path: Path, prices: list[str], says: str) -> None:
    write_import(tmp_path / "mine", tables=graded(5))
    before = tree(tmp_path)
    with pytest.raises(InputError, match=says):
        made(tmp_path / "mine", prices=prices)
    assert tree(tmp_path) == before


def test_prices_are_looked_up_by_name_for_the_day_of_the_log_and_said(tmp_path: Path) -> None:
    models = ("gpt-4o-mini", "openai/o3-mini")
    write_import(tmp_path / "mine", tables=graded(5, models), day="2025-06-30")
    text = made(tmp_path / "mine", prices=[]).file.read_text()
    assert 'price: {provider: openai, model: o3-mini, "on": "2025-06-30"}' in text
    assert "openai/gpt-4o-mini on 2025-06-30, by the model's name: --price says otherwise" in text
    given = ["azure/gpt-4o-mini", "openai/o3-mini=google/gemini-2.5-pro"]
    text = made(tmp_path / "mine", prices=given, day="2025-07-01", replace_old=True).file.read_text()
    assert 'price: {provider: azure, model: gpt-4o-mini, "on": "2025-07-01"}' in text
    assert 'price: {provider: google, model: gemini-2.5-pro, "on": "2025-07-01"}' in text
    assert "by the model's name" not in text
    with pytest.raises(InputError, match="--on: got '2025-7-1'; expected a day as YYYY-MM-DD"):
        made(tmp_path / "mine", day="2025-7-1", replace_old=True)


def test_gpus_of_ones_own(tmp_path: Path) -> None:
    pytest.importorskip("aiconfigurator_core")
    write_import(tmp_path / "mine", tables=graded(10))
    served = "large=h100_sxm/meta-llama/Llama-3.1-70B-Instruct"
    found = made(tmp_path / "mine", prices=PRICES[:1], gpus=[served])
    pool = load_scenario(found.file).deployments["large"]
    assert (pool.kind, getattr(pool, "tensor_parallel", None)) == ("gpu_pool", 2)  # 131 GiB of weights, 80 each
    assert "list price of 2026-08-26" in found.file.read_text()
    for gpus, says in (
        (["large=h100"], "'h100_sxm' .nearest"),
        (["large=gb300"], "a list price is known of"),
        (["h100_sxm"], "MODEL being one of"),
        (["large=h100_sxm"], "NAME being the catalogue's of large"),
        (["small=h100_sxm/meta-llama/Llama-3.1-8B"], "no --price for small beside it"),
    ):
        with pytest.raises(InputError, match=says):
            made(tmp_path / "mine", prices=PRICES[:1], gpus=gpus, replace_old=True)


# ------------------------------------------------------------------------------------------------ any names


def test_hostile_models_stay_inside_and_the_printed_command_works(tmp_path: Path) -> None:
    models = ["../../etc/x", "a/b", "a b", "[red]x[/red]", "\x1b[31m", "x" * 300, "=", "é:{}\n# x", "yes", "1e5", "a,b"]
    folder = write_import(tmp_path / "in 'it", arrivals=traffic(60, models), tables=graded(6, models))
    before = tree(tmp_path)
    prices = [word for model in models for word in ("--price", f"{model}=1/{2 + len(model) % 3}")]
    found = command(
        tmp_path, "scenario", "init", folder.name, *prices, "--models", "a,b", "--models", ",".join(models[:2])
    )
    assert found.returncode == 1
    assert "nearest of ../../etc/x, a,b, a/b" in found.stderr
    found = command(tmp_path, "scenario", "init", folder.name, *prices)
    assert found.returncode == 0, found.stderr
    assert "\x1b" not in found.stdout + found.stderr
    written = set(tree(tmp_path)) - set(before)
    assert {path.split("/")[0] for path in written} == {folder.name}
    assert {path.split("/")[1] for path in written} == {"scenario.yaml", "scenario.schema.json", "profiles"}
    raw = yaml.safe_load((folder / "scenario.yaml").read_text())
    assert (folder / "scenario.yaml").read_text().startswith(f"{MODELINE}\n")
    schema = json.loads((folder / "scenario.schema.json").read_text())
    assert pytest.importorskip("jsonschema").Draft7Validator(schema).is_valid(raw)
    assert len(raw["arms"]) == len(models)
    assert list(raw["search"]) == ["bands", "caps"]
    cards = [load_profile(arm["profile"], folder).card.model for arm in raw["arms"].values()]
    assert cards == models
    words = shlex.split(found.stdout.splitlines()[-1])
    assert words[:2] == ["ttc-sim", "optimize"]
    found = command(tmp_path, "simulate", words[2], "--policy", "Always('yes')", "--requests", "50")
    assert found.returncode == 0, found.stderr


def test_a_name_of_its_own_and_several_imports(tmp_path: Path) -> None:
    """Graded problems of two imports, and the traffic of a third."""
    problems, tries = graded(20)
    small, large = (tries.filter(pl.col("model") == model) for model in ("small", "large"))
    large = large.join(problems.head(15), on="problem", how="semi")
    write_import(
        tmp_path / "one", tables=(problems, pl.concat([small, small.with_columns(attempt=pl.lit(1, dtype=pl.Int64))]))
    )
    write_import(tmp_path / "two", tables=(problems.head(15), large))
    write_import(tmp_path / "three", arrivals=traffic(600), day="2026-11-25")
    imports = [tmp_path / name for name in ("one", "two", "three")]
    found = made(tmp_path / "new" / "dir", imports=imports, name="../a b")
    assert found.draft.name == "a-b"
    assert {path.split("/")[0] for path in tree(tmp_path)} == {"new", "one", "two", "three"}
    assert "5 of 20 problems left out" in " ".join(found.said)
    assert load_profile("a-b/small", tmp_path / "new" / "dir").attempts["attempt"].max() == 1
    copied = pl.read_parquet(tmp_path / "new" / "dir" / "traffic.parquet")
    assert copied.equals(pl.read_parquet(tmp_path / "three" / "traffic.parquet"))
    ttc.simulate(found.file, requests=50, replications=1)
    again = [tmp_path / "one", write_import(tmp_path / "four", tables=graded(3), arrivals=traffic(5))]
    with pytest.raises(InputError, match="traffic in one of them, and"):
        made(tmp_path / "x", imports=[*again, tmp_path / "three"])
    other = problems.with_columns(prompt=pl.lit("another"))
    with pytest.raises(InputError, match="problem p0, prompt: got 'another'; expected one prompt of a problem"):
        made(tmp_path / "x", imports=[tmp_path / "one", write_import(tmp_path / "five", tables=(other, tries))])
    assert not (tmp_path / "x").exists()


# ------------------------------------------------------------------------------------------------ all or nothing


def test_nothing_is_replaced_unless_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_import(tmp_path / "mine", arrivals=traffic(20), tables=graded(6))
    made(folder)
    (folder / "profiles" / "mine" / "small" / "forced.csv").write_text("kept")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"scenario.yaml: file: .* or --replace"):
        made(folder)
    with pytest.raises(InputError, match="none known of small"):
        made(folder, prices=PRICES[1:], replace_old=True)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "scenario.yaml").unlink()
    with pytest.raises(InputError, match=r"profiles/mine: folder: .* or --replace"):
        made(folder)
    made(folder, replace_old=True)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}  # the same bytes, too
    monkeypatch.chdir(folder / "profiles" / "mine")
    with pytest.raises(InputError, match="another folder than the one that you are in"):
        made(folder, replace_old=True)
    monkeypatch.chdir(folder)
    assert cli("scenario", "init", ".", "--replace", "--no-predictor", *(f"--price={one}" for one in PRICES)).endswith(
        "ttc-sim optimize scenario.yaml --plan plan.yaml\n"
    )


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "there is no import.json"),
        ({"import.json": "[]"}, "import.json: file"),
        ({"import.json": '{"day": "tomorrow"}'}, "import.json: day: got 'tomorrow'"),
        ({"import.json": "{}"}, "the import kept no request"),
        ({"import.json": "{}", "problems.parquet": ""}, "at least one row"),
    ],
)
def test_what_is_no_import_is_refused(tmp_path: Path, files: dict[str, str], says: str) -> None:
    (tmp_path / "mine").mkdir()
    for name, text in files.items():
        (tmp_path / "mine" / name).write_text(text)
    with pytest.raises(InputError, match=says):
        made(tmp_path / "mine")


def test_one_table_without_the_other_is_refused(tmp_path: Path) -> None:
    write_import(tmp_path / "mine", tables=graded(3))
    (tmp_path / "mine" / "attempts.parquet").unlink()
    with pytest.raises(InputError, match=r"attempts.parquet: file: .* attempts.parquet beside problems.parquet"):
        made(tmp_path / "mine")


# ------------------------------------------------------------------------------------------------ little to go by


def test_one_problem_is_simulated_not_planned(tmp_path: Path) -> None:
    """A plan keeps some problems from the choice, to judge it by."""
    write_import(tmp_path / "mine", arrivals=traffic(1, ("m",)), tables=graded(1, ("m",)))
    said = cli("scenario", "init", str(tmp_path / "mine"), "--price", "1/2").splitlines()
    assert "- a plan takes two problems, so that one can be kept from the choice to judge it by: there is one" in said
    assert said[-1] == f"ttc-sim simulate {tmp_path}/mine/scenario.yaml"
    assert "assumed: the log's requests have one time" in (tmp_path / "mine" / "scenario.yaml").read_text()
    cli("simulate", f"{tmp_path}/mine/scenario.yaml")


def test_traffic_alone_is_a_scenario_without_problems(tmp_path: Path) -> None:
    """Its bill is that of the log's lengths; whose they are is said."""
    log = traffic(600, status=["ok"] * 599 + ["failed"], cached_tokens=[10] * 600)
    write_import(tmp_path / "mine", arrivals=log.with_columns(prompt=pl.lit("secret")))
    found = made(tmp_path / "mine", models=["small", "what-if"], prices=["small=0.1/0.4", "what-if=openai/o3-mini"])
    said = " ".join(found.said)
    assert "how long a request is, thinking too, is as its own model answered it in the log" in said
    assert "of the log's prompt tokens were read from a cache" in said
    text = found.file.read_text()
    assert "targets:" in text
    assert "minimize: cost" in text
    assert "accuracy" not in text
    assert "# by prompt length" in text
    assert "predicted to be" not in text
    raw = yaml.safe_load(text)
    assert raw["targets"]["latency_p95_s"] > 0
    assert list(raw["arms"]) == ["small", "what-if"]
    usd = log.head(599).select(
        (pl.col("prompt_tokens") * 0.1 + (pl.col("reasoning_tokens") + pl.col("visible_tokens")) * 0.4).sum() / 1e6
    )
    last = (
        log.tail(1)["prompt_tokens"].item() * 0.1
        + 0.4 * log[598].select("reasoning_tokens", "visible_tokens").sum_horizontal().item()
    )
    assert 600 * found.draft.figures["small"].cost_usd == pytest.approx(usd.item() + last / 1e6, rel=1e-6)
    assert ttc.simulate(found.file, replications=1).summary().accuracy is None
    # Copied without prompts.
    new = made(tmp_path / "new", imports=[tmp_path / "mine"])
    assert "prompt" not in pl.read_parquet_schema(new.file.with_name("traffic.parquet"))


GPU_OF_SMALL = "small=h100_sxm/meta-llama/Llama-3.1-8B"
ALONE: dict[str, tuple[pl.DataFrame, tuple[str, ...]]] = {
    "replayed": (traffic(600), ("--price", PRICES[0], "--price", PRICES[1])),
    "GPUs": (traffic(600, ("small",)), ("--gpu", GPU_OF_SMALL)),
    "both": (traffic(30), ("--gpu", GPU_OF_SMALL, "--price", PRICES[1])),
    "one request": (traffic(1, ("small",)), ("--price", PRICES[0])),
    "one time": (traffic(6, arrival_s=[0.0] * 6), ("--price", PRICES[0], "--price", PRICES[1])),
    "no times": (traffic(60).drop("arrival_s"), ("--price", PRICES[0], "--price", PRICES[1])),
    "no times, GPUs": (traffic(60, ("small",)).drop("arrival_s"), ("--gpu", GPU_OF_SMALL)),
}


@pytest.mark.parametrize("kind", ALONE)
def test_the_printed_command_plans_for_traffic_alone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is printed; and it asks that no request be dropped, without which dropping most would be the cheapest."""
    monkeypatch.chdir(tmp_path)
    log, words = ALONE[kind]
    write_import(Path("mine"), arrivals=log)
    printed = shlex.split(cli("scenario", "init", "mine", *words).splitlines()[-1])
    assert printed == ["ttc-sim", "optimize", "mine/scenario.yaml", "--plan", "mine/plan.yaml"]
    cli(*printed[1:])
    saved = ttc.load_plan("mine/plan.yaml")
    assert saved.status == "met"
    assert "accuracy" not in saved.promised
    assert saved.promised["timeout_rate"].value == 0
    # A deadline that hardly a request keeps, as a user may put one in: what drops them is no plan.
    text = Path("mine/scenario.yaml").read_text()
    assert "    # timeout_s: 120 " in text
    Path("mine/scenario.yaml").write_text(text.replace("    # timeout_s: 120 ", "    timeout_s: 0.1 "))
    assert CliRunner().invoke(app, printed[1:]).exit_code == 2


def test_lengths_without_times_are_those_of_the_answered_requests(tmp_path: Path) -> None:
    """Each row as often as another; a failed one is no length, which is said."""
    log = pl.DataFrame(
        {
            "prompt_tokens": [100, 200, 0, 3000, 0],
            "reasoning_tokens": [0, 0, 0, 300, 0],
            "visible_tokens": [50, 70, 0, 100, 20],
            "status": ["ok", "ok", "failed", "ok", "ok"],
        }
    )
    write_import(tmp_path / "mine", arrivals=log)
    found = made(tmp_path / "mine", prices=["1/10"])
    lengths = load_scenario(found.file).workload.lengths
    assert lengths is not None
    assert lengths.file == "lengths.parquet"
    assert "rate_per_s: 1}   # assumed: the import holds no times" in found.file.read_text()
    result = ttc.simulate(found.file)
    rows = [(100, 0, 50), (200, 0, 70), (3000, 300, 100), (1, 0, 20)]
    usd = sum(prompt + 10 * (hidden + shown) for prompt, hidden, shown in rows) / 4 / 1e6
    summary = result.summary()
    assert summary.cost_usd_per_request.value == pytest.approx(usd, rel=0.1)
    said = " ".join(summary.notes)
    assert "1 of 5 rows of lengths.parquet have no output tokens, as failed requests: left out" in said
    assert "1 of 5 rows of lengths.parquet have no prompt tokens: one is counted" in said
    # Another folder gets the table; one with a table of its own keeps it.
    new = made(tmp_path / "new", imports=[tmp_path / "mine"], prices=["1/10"])
    assert new.file.with_name("lengths.parquet").exists()
    other = write_import(tmp_path / "other", arrivals=log.head(2))
    with pytest.raises(InputError, match=r"other/lengths.parquet: file: .* of an import that stands there"):
        made(other, imports=[tmp_path / "mine"], prices=["1/10"], replace_old=True)
    write_import(tmp_path / "timed", arrivals=traffic(9))
    with pytest.raises(
        InputError, match=r"mine: folder: got 'lengths.parquet'; expected traffic in one of them, and .*timed has"
    ):
        made(tmp_path / "x", imports=[tmp_path / "timed", tmp_path / "mine"])
    nothing = log.with_columns(reasoning_tokens=0, visible_tokens=0)
    with pytest.raises(InputError, match=r"bad/lengths.parquet: output tokens: got '0 in every row'"):
        made(write_import(tmp_path / "bad", arrivals=nothing), prices=["1/10"])


def test_lengths_beside_graded_problems_are_those_of_the_problems(tmp_path: Path) -> None:
    """What an import without times says of how long answers took counts all the same."""
    log = write_import(tmp_path / "log", arrivals=traffic(60).drop("arrival_s"))
    problems = write_import(tmp_path / "problems", tables=graded(10, prompts=False))
    found = made(tmp_path / "mine", imports=[log, problems])
    text = found.file.read_text()
    assert "lengths:" not in text
    assert "of 30 answers in the log" in text
    assert not found.file.with_name("lengths.parquet").exists()
    # So few problems make no plan surer than that.
    assert ttc.optimize(ttc.with_changes(found.file, {"targets.confidence": 0.5})).status == "met"


def test_too_few_problems_to_train_the_printed_commands_score_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ``scenario init``, and of ``optimize`` on a set without scores."""
    monkeypatch.chdir(tmp_path)
    write_import(tmp_path / "my set", tables=graded(12))
    said = cli("scenario", "init", "my set", *(f"--price={one}" for one in PRICES)).splitlines()
    line = next(one for one in said if "there are 12 different prompts, and training takes 100" in one)
    command_of_init = line.split("`")[1]
    note = next(
        one for one in ttc.optimize("my set/scenario.yaml").predicted.notes if "has no predictor's scores" in one
    )
    command_of_plan = note.split("`")[1].replace("PROMPTS", "'my set/problems.parquet'")
    for printed in (command_of_init, command_of_plan):
        cli(*shlex.split(printed)[1:])
        scored = load_problem_set("my-set", tmp_path / "my set").problems
        assert scored["difficulty"].null_count() == 0
        (tmp_path / "my set" / "profiles" / "my-set" / "scores.parquet").unlink()
    cli(*shlex.split(command_of_plan)[1:])
    plan = ttc.optimize("my set/scenario.yaml")
    assert not any("no predictor's scores" in note for note in plan.predicted.notes)
    # They stay, and are used, when the scenario is made anew.
    assert "Scores that stood there" in " ".join(made(Path("my set"), replace_old=True).said)


def test_an_import_that_was_scored_keeps_its_scores(tmp_path: Path) -> None:
    problems, tries = graded(12, prompts=False)
    here = tmp_path / "[x] of *"  # no pattern
    here.mkdir()
    folder = write_import(here / "mine", tables=(problems, tries.filter(pl.col("problem") != "p5")))
    scores = problems.select("problem", difficulty=pl.lit(0.5), novelty=pl.lit(0.1))
    scores.write_parquet(folder / "scores.parquet")
    said = " ".join(made(folder).said)
    assert "Scores of the import: no predictor of your own, as the import holds no prompts." in said
    kept = pl.read_parquet(folder / "profiles" / "mine" / "scores.parquet", glob=False)
    assert kept["problem"].to_list() == [f"p{k}" for k in range(12) if k != 5]
    shutil.rmtree(folder / "profiles")
    (folder / "scores.parquet").unlink()
    said = " ".join(made(folder, replace_old=True).said)
    assert f"`ttc-sim import log.jsonl --out {shlex.quote(str(folder))} --keep-prompts`" in said


def test_what_stands_beside_the_scenario_is_read_wherever_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of the import's name, where one happens to be, with a profile of another model in it."""
    write_import(tmp_path / "mine", tables=graded(10))
    figures = made(tmp_path / "mine").draft.figures
    monkeypatch.chdir(tmp_path / "mine")
    problems, tries = graded(10)
    other = write_import(tmp_path / "other", tables=(problems, tries.with_columns(correct=pl.lit(False))))
    made(other, name="mine")
    shutil.copytree(other / "profiles" / "mine", tmp_path / "mine" / "mine")
    assert load_profile("mine/small").attempts["correct"].sum() == 0
    found = ttc.simulate(tmp_path / "mine" / "scenario.yaml", "Always('small')", replications=1).summary().accuracy
    assert found is not None
    assert found.value == pytest.approx(figures["small"].accuracy)
    again = made(tmp_path / "mine", replace_old=True)
    assert again.draft.figures == figures


def test_attempts_that_were_never_right_and_traffic_that_was_never_answered(tmp_path: Path) -> None:
    problems, tries = graded(4)
    log = traffic(30, status=["failed"] * 30, visible_tokens=[0] * 30, reasoning_tokens=[0] * 30)
    tables = problems, tries.with_columns(correct=pl.lit(False))
    found = made(write_import(tmp_path / "mine", arrivals=log, tables=tables))
    assert "no attempt was right: accuracy is 0 whatever is done" in found.said
    assert "assumed: none of the log's requests was answered" in found.file.read_text()
    assert ttc.optimize(ttc.with_changes(found.file, {"targets.confidence": 0.5})).status == "met"
    with pytest.raises(InputError, match=r"mine2/traffic.parquet: output tokens: got '0 in every row'"):
        made(write_import(tmp_path / "mine2", arrivals=log))
    assert not (tmp_path / "mine2" / "scenario.yaml").exists()


def test_a_long_log_says_that_its_beginning_is_not_its_busiest_hour(tmp_path: Path) -> None:
    """20,000 requests in the first hour, 40,000 in the second, and then an hour of none but the last."""
    log = traffic(10)
    times = [*np.arange(20_000) * 0.18, *(3600 + np.arange(40_000) * 0.09), 3.5 * 3600]
    log = pl.concat([log] * 6001).head(len(times)).with_columns(arrival_s=pl.Series(times))
    found = made(write_import(tmp_path / "mine", arrivals=log, tables=graded(10, prompts=False)))
    said = "of the log's 60,001 requests the first 20,000 are planned for, 5.6 a second, all are 4.8, its busiest hour 11.1"
    assert any(line.startswith(said) for line in found.said)
    assert load_scenario(found.file).workload.requests == 20_000
    assert "the first of the log's 60,001" in found.file.read_text()


def test_a_log_of_other_lengths_than_the_problems_is_said_to_give_the_times_alone(tmp_path: Path) -> None:
    """Twelve times the prompt, by hand; and another mix of the same models is no such difference."""
    problems, tries = graded(10, prompts=False)
    log = traffic(40, ("small",), prompt_tokens=[264] * 40, visible_tokens=[100] * 40)
    found = made(write_import(tmp_path / "mine", arrivals=log, tables=(problems, tries)))
    small = tries.filter(model="small")
    asked, answered = (round(small.select(f"{kind}_tokens").mean().item()) for kind in ("prompt", "visible"))
    said = "the log's requests have 264 and 100 tokens of prompt and output in the mean, "
    said += f"attempts at the graded problems {asked} and {answered}"
    assert any(line.startswith(said) for line in found.said)
    assert said in found.file.read_text()
    replayed = tries.filter(model="small").drop("prompt_tokens").head(10)
    alike = traffic(10, ("small",), prompt_tokens=[22] * 10, visible_tokens=replayed["visible_tokens"].to_list())
    for name, arrivals in (
        ("same", alike),
        ("unnamed", log.drop("model")),
        ("other", log.with_columns(model=pl.lit("x"))),
    ):
        found = made(write_import(tmp_path / name, arrivals=arrivals, tables=(problems, tries)))
        assert any("those of the problems, not of the log" in line for line in found.said) == (name != "same"), name


def test_links_and_other_imports_stay_as_they_are(tmp_path: Path) -> None:
    folder = write_import(tmp_path / "mine", arrivals=traffic(30), tables=graded(6))
    made(folder)
    (tmp_path / "outside").mkdir()
    shutil.rmtree(folder / "profiles" / "mine" / "small")
    (folder / "profiles" / "mine" / "small").symlink_to(tmp_path / "outside")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="profiles/mine/small: folder: got 'a link'"):
        made(folder, replace_old=True, models=["small"], prices=PRICES[:1])
    other = write_import(tmp_path / "other", arrivals=traffic(40))
    before |= {path: path.read_bytes() for path in other.iterdir()}
    with pytest.raises(InputError, match=r"other/traffic.parquet: file: .* of an import that stands there"):
        made(other, imports=[folder], replace_old=True)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
