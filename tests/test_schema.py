"""The JSON schema of scenario files takes what loading takes, refuses the keys that it refuses, and says what each is for."""

from __future__ import annotations

import copy
import datetime
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import ValidationError

from fuzzing.corpus import scenarios
from ttc_sim import cli
from ttc_sim.base.errors import InputError
from ttc_sim.base.shipped import shipped_folders
from ttc_sim.files.documents import parse_yaml, read_yaml
from ttc_sim.scenario import Arrivals, Scenario, scenario_from_dict
from ttc_sim.scenario.base import by_name
from ttc_sim.scenario.schema import MODELINE, SCHEMA_FILE, described_keys, scenario_schema, schema_text
from ttc_sim.scenario.traffic import ARRIVALS

Draft7Validator = pytest.importorskip("jsonschema").Draft7Validator
SCHEMA = scenario_schema(own_kinds=False)
VALIDATOR = Draft7Validator(SCHEMA)
(SHIPPED,) = shipped_folders("scenarios")

BASE = """
name: every further form
workload:
  arrivals: {process: poisson, rate_per_s: 1, shape: {by_weekday: {monday: 1, tuesday: 1, wednesday: 1, thursday: 1, friday: 1,
    saturday: 0, sunday: 0}}}
  duration: 1.5 h
  lengths: {prompt_tokens: {median: 100, p95: 900}, output_tokens: 20, reasoning_share: 0.5}
deployments:
  api:
    kind: api
    price: {provider: openai, model: gpt-5, on: 2026-01-31}
    first_token: {median_s: 0.5}
    per_token: {median_s: 0.01, p95_s: 0.02}
    errors: {rate: 0.1, after: midway}
    requests_per_minute: 100
    concurrency: 4
  pool:
    kind: gpu_pool
    replicas: 2
    usd_per_replica_hour: 2
    step_time: {base_s: 0.01, per_prefill_token_s: 0.0001, per_sequence_s: 0.0001, per_kv_token_s: 0}
    autoscaling: {schedule: [{at: "00:00", replicas: 2}, {at: "08:30", replicas: 4}]}
    start_up: {seconds: 60}
    failures: {mtbf_h: 100, mttr_h: 1}
arms:
  a: {deployment: api, fallback: [b]}
  b: {deployment: pool, strategy: Single()}
policy: Always('a')
budget: {usd_per_day: 10, at_end: degrade, to: b}
search:
  caps: {a: [512, "600..900", null], b: {from: 100, to: 300, uncapped: true}}
  concurrency: {api: [2, 4]}
  tiers: {}
  pools:
    pool:
      replicas: [1..4, 6]
      autoscaling: {target_concurrency: [10, 20], minimum: 1, maximum: [4, 8], scale_down: {cooldown_s: 60}}
      options: {h100: {step_time: {model: meta-llama/Llama-3.1-8B, gpu: H100}, usd_per_replica_hour: 3}}
targets:
  minimize: cost
  ttft_p99.9_s: 3
  latency_p95_s: 60
  latency_p99_s: null
  confidence: {latency_p95_s: 0.9}
  robust: {worlds: [busy, {name: dear, weight: 2}, {name: own, set: {seed: 2}}], over: 0.9}
"""
FORMS = {
    "workload.arrivals": ["{process: clients, traffic: servegen-r1}", "{process: even, rate_per_s: 2}"],
    "search.pools.pool.replicas": ["{from: 1, to: 60}", "[1, 2]"],
    "search.pools.pool.autoscaling": [
        "[{schedule: hourly, maximum: 8}]",
        "[{target_queue: 3, minimum: 1, maximum: 2}]",
    ],
    "targets.robust.over": ["worst"],
    "targets.confidence": ["0.95"],
    "arms.a.fallback": ["b"],
    "deployments.pool.step_time": ["{gpu_profile: a100}", "{model: meta-llama/Llama-3.1-8B, gpu: A100}"],
    "policy": ["{a: \"Always('a')\"}", "mine.py:choose"],
}


def with_value(content: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    changed = copy.deepcopy(content)
    *before, last = path.split(".")
    at = changed
    for key in before:
        at = at[key]
    at[last] = value
    return changed


def plain(content: Any) -> Any:
    """Days as text, which YAML 1.2 takes them for."""
    return json.loads(json.dumps(content, default=datetime.date.isoformat))


def read(text: str) -> Any:
    return parse_yaml(text, "test")


EVERY_FORM = read(BASE)
GOOD: dict[str, Any] = {
    **{file.name: read_yaml(file) for file in sorted(SHIPPED.glob("*.yaml"))},
    **{name: copy.deepcopy(content) for name, content in scenarios().items()},
    "forms": EVERY_FORM,
    **{
        f"forms, {path} {k}": with_value(EVERY_FORM, path, read(value))
        for path, values in FORMS.items()
        for k, value in enumerate(values)
    },
}


def refused(content: Any) -> list[str]:
    return [f"{list(one.absolute_path)}: {one.message[:200]}" for one in VALIDATOR.iter_errors(plain(content))]


def loads(content: dict[str, Any]) -> bool:
    """Whether each key and value is one; what they make together is looked at when the scenario is read."""
    try:
        Scenario.model_validate(content)
    except (ValidationError, InputError):
        return False
    return True


def mappings(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(content, dict):
        yield path
    items: Any = (
        content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    )
    for key, value in items:
        yield from mappings(value, (*path, key))


def test_it_is_a_schema_and_the_shipped_file_is_this_one() -> None:
    Draft7Validator.check_schema(SCHEMA)
    assert (SHIPPED / SCHEMA_FILE).read_text() == schema_text(SCHEMA), (
        "ttc-sim schema --out scenarios/scenario.schema.json"
    )


@pytest.mark.parametrize("name", GOOD)
def test_what_loads_is_accepted(name: str) -> None:
    assert loads(copy.deepcopy(GOOD[name]))
    assert refused(GOOD[name]) == []


@pytest.mark.parametrize("name", GOOD)
def test_a_key_that_loading_does_not_know_is_refused_wherever_it_stands(name: str) -> None:
    for path in mappings(GOOD[name]):
        changed = copy.deepcopy(GOOD[name])
        at = changed
        for key in path:
            at = at[key]
        # Where names stand, its value makes it as wrong; but for texts by any name.
        at["zz_misspelt"] = ["no", {"such": "key"}]
        if not loads(copy.deepcopy(changed)):
            assert refused(changed), path


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("workload.arrivals.process", "poison"),
        ("workload.arrivals", {"process": "gamma", "rate_per_s": 1}),
        ("workload.arrivals", {"process": "poisson", "rate_per_s": 1, "cv": 2}),
        ("deployments.api.kind", "apis"),
        ("deployments.api.on_timeout", "wait"),
        ("deployments.pool.step_time", {"base_s": 1}),
        ("deployments.pool.step_time", {"kind": "mine"}),
        ("targets.latency_p100_s", 3),
        ("targets.latency_p95", 3),
        ("search.caps.a", "512"),
        ("search.pools.pool.replicas", {"from": 1}),
        ("seed", "1"),
        ("path", "x"),
    ],
)
def test_values_that_loading_refuses_key_by_key_are_refused(path: str, value: Any) -> None:
    changed = with_value(EVERY_FORM, path, value)
    with pytest.raises(InputError):
        scenario_from_dict(copy.deepcopy(changed))
    assert refused(changed)


def test_every_key_says_what_it_is_for() -> None:
    silent = [
        f"{name}.{key}"
        for name, one in {"Scenario": SCHEMA, **SCHEMA["$defs"]}.items()
        for key, said in one["properties"].items()
        if not said.get("description")
    ]
    assert silent == []
    for text in json.dumps(SCHEMA).split('"description": "')[1:]:
        assert "``" not in text.split('"')[0]
        assert ":mod:" not in text.split('"')[0]


def test_texts_that_stand_together_in_a_docstring_are_told_apart() -> None:
    from ttc_sim.scenario import Shape, SourceTargets

    said = described_keys(Shape)
    assert said["by_hour"] == "24 factors, of the hour from 0:00 on first"
    assert said["by_weekday"].startswith("one for each day")
    assert described_keys(SourceTargets)["rejected_rate"] == "that may do the one, or the other."


def test_kinds_of_ones_own_are_in_it_where_they_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tides(Arrivals):
        """Requests that come with the tide.

        Args:
            every_h: hours from flood to flood; then: what comes after.
        """

        process: Literal["tides"]
        every_h: float
        then: Annotated[Arrivals | None, by_name(ARRIVALS)] = None

    monkeypatch.setattr(ARRIVALS, "_registered", {"tides": Tides})
    content = with_value(EVERY_FORM, "workload.arrivals", {"process": "tides", "every_h": 12.4})
    own = Draft7Validator(scenario_schema())
    assert own.is_valid(plain(content))
    assert not own.is_valid(plain(with_value(content, "workload.arrivals.every", 1)))
    nested = with_value(content, "workload.arrivals.then", {"process": "tides", "every_h": 6})
    assert own.is_valid(plain(nested))
    assert not own.is_valid(plain(with_value(nested, "workload.arrivals.then.every", 1)))
    assert not VALIDATOR.is_valid(plain(content))
    assert scenario_schema(own_kinds=False) == SCHEMA


def test_strategies_and_policies_are_listed_where_they_are_written() -> None:
    strategy = SCHEMA["$defs"]["Arm"]["properties"]["strategy"]
    assert "`MajorityVote(n, " in strategy["description"]
    assert all(Draft7Validator(strategy).is_valid(one) for one in strategy["examples"])
    assert "`Threshold(at, below, above" in SCHEMA["properties"]["policy"]["description"]


def test_shipped_scenarios_name_the_schema_that_stands_beside_them() -> None:
    for file in SHIPPED.glob("*.yaml"):
        assert file.read_text().splitlines()[0] == MODELINE
    assert MODELINE.endswith(f"$schema={SCHEMA_FILE}")


def test_the_command_writes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def end(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["ttc-sim", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(str(left.value.code))

    assert end("schema") == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["title"]
    assert end("schema", "--out", str(tmp_path / "s.json"), "--quiet") == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "s.json").read_text() == printed
    assert end("schema", "--out", str(tmp_path / "s.txt")) == 1
    assert "a name ending in .json" in capsys.readouterr().err
