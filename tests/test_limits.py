"""Numbers too large: refused where they are read, and up to that limit nothing wraps around."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_REQUESTS, MOST_TOKENS
from ttc_sim.base.memory import available_bytes
from ttc_sim.policies import Overflow
from ttc_sim.scenario import load_scenario, scenario_from_dict
from ttc_sim.simulation.result import simulate
from ttc_sim.strategies import parse_strategy
from ttc_sim.workload import expected

HUGE = [MOST_TOKENS + 1, 2**31, 2**63, 10**19]


@pytest.mark.parametrize("number", HUGE)
@pytest.mark.parametrize(
    "call",
    [
        "Single(cap={})",
        "BudgetForcing(cap={})",
        "BudgetForcing(min_tokens={})",
        "MajorityVote(n=3, cap={})",
        "MajorityVote(n={})",
        "BestOfN(n=2, auroc=0.8, verifier_tokens={})",
        "BestOfN(n=2, auroc=0.8, of=Single(cap={}))",
        "BestOfN(n={}, auroc=0.8)",
        "Cascade(stages=[Single(cap=5), Single()], tpr=0.9, fpr=0.1, judge_tokens={})",
    ],
)
def test_strategies_refuse_what_is_beyond_the_limit(call: str, number: int) -> None:
    with pytest.raises(InputError, match=rf"got {number}; expected a whole number of .* (at most|to) "):
        parse_strategy(call.format(number))
    if "(n={})" not in call and "(n={}," not in call:
        assert str(MOST_TOKENS) in repr(parse_strategy(call.format(MOST_TOKENS)))


SCENARIO: dict[str, Any] = {
    "name": "limits",
    "replications": 1,
    "workload": {
        "arrivals": {"process": "closed_loop", "users": 2},
        "requests": 8,
        "sources": {"only": {"problem_set": "set"}},
    },
    "deployments": {
        "api": {
            "kind": "api",
            "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0},
            "first_token": {"median_s": 0.5},
            "per_token": {"median_s": 1e-9},
            "concurrency": 100,
        },
        "pool": {
            "kind": "gpu_pool",
            "replicas": 1,
            "usd_per_replica_hour": 2.0,
            "queue_limit": 5,
            "kv_cache_tokens": 10_000,
            "step_time": {"base_s": 0.01, "per_prefill_token_s": 1e-4, "per_sequence_s": 1e-5, "per_kv_token_s": 1e-8},
        },
    },
    "arms": {"only": {"profile": "mine", "deployment": "api"}},
    "policy": "Always('only')",
    "search": {"caps": {"only": [100]}, "replicas": {"pool": [1]}},
}


@pytest.mark.parametrize("number", [*HUGE, 10**30])
@pytest.mark.parametrize(
    "path",
    [
        "workload.arrivals.users",
        "workload.requests",
        "deployments.api.concurrency",
        "deployments.pool.replicas",
        "deployments.pool.max_num_batched_tokens",
        "deployments.pool.max_num_seqs",
        "deployments.pool.queue_limit",
        "search.caps.only.0",
        "search.replicas.pool.0",
    ],
)
def test_whole_numbers_of_a_scenario_are_refused_by_key(path: str, number: int) -> None:
    raw = copy.deepcopy(SCENARIO)
    place: Any = raw
    *parents, last = path.split(".")
    for key in parents:
        place = place[int(key) if isinstance(place, list) else key]
    place[int(last) if isinstance(place, list) else last] = number
    with pytest.raises(InputError, match=rf"{path}: got {number}; expected less than or equal to"):
        scenario_from_dict(raw)


def test_policies_refuse_what_is_beyond_the_limit() -> None:
    assert Overflow(arms=["a", "b"], waiting=MOST_REQUESTS).waiting == MOST_REQUESTS
    with pytest.raises(InputError, match="waiting: got 10000000000000000000"):
        Overflow(arms=["a", "b"], waiting=10**19)


@pytest.mark.parametrize("rate", [0.0, 1e-300, 1e300, float("inf")])
def test_rates_at_which_times_are_no_numbers_are_refused(rate: float) -> None:
    raw = copy.deepcopy(SCENARIO)
    raw["workload"]["arrivals"] = {"process": "poisson", "rate_per_s": rate}
    with pytest.raises(InputError, match=r"workload\.arrivals\.rate_per_s: got"):
        scenario_from_dict(raw)


def test_a_verifier_that_reads_and_writes_as_much_as_can_be_is_billed_for_it(tmp_path: Path) -> None:
    """64 answers of 1e8 tokens each, read with their prompts: 1.3e10 tokens, six times what 32 bits hold."""
    card = {"origin": "test", "licence": "CC0", "date": "2026-11-24", "tokenizer": "bytes", "limits": "made up"}
    for folder, name, more in (
        ("mine", "profile", {"model": "m", "reasoning": "none"}),
        ("set", "problem_set", {"cluster": "problem"}),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.yaml").write_text(yaml.safe_dump({**card, **more}))
    n, problems = 64, 4
    attempts = {
        "problem": [f"p{k}" for k in range(problems) for _ in range(n)],
        "attempt": [*range(n)] * problems,
        "prompt_tokens": MOST_TOKENS,
        "reasoning_tokens": 0,
        "visible_tokens": MOST_TOKENS,
        "correct": True,
        "truncated": False,
        "answer": "x",
    }
    pl.DataFrame(attempts).write_parquet(tmp_path / "mine" / "attempts.parquet")
    keys = [f"p{k}" for k in range(problems)]
    table = {"problem": keys, "subset": "s", "group": "g", "prompt_tokens": MOST_TOKENS}
    pl.DataFrame(table).write_parquet(tmp_path / "set" / "problems.parquet")
    raw = copy.deepcopy(SCENARIO)
    strategy = f"BestOfN(n={n}, auroc=0.8, verifier='api', verifier_tokens={MOST_TOKENS})"
    raw["arms"]["only"]["strategy"] = strategy
    result = simulate(scenario_from_dict(raw, str(tmp_path / "scenario.yaml")))
    read = MOST_TOKENS + n * (
        MOST_TOKENS + MOST_TOKENS
    )  # the request's prompt, and each answer with the prompt before it
    written = 2 * n * MOST_TOKENS
    summary = result.summary()
    assert summary.tokens_per_request["prompt"].value == read
    assert summary.tokens_per_request["output"].value == written
    assert summary.cost_usd_per_request.value == pytest.approx((read + 2 * written) * 1e-6, rel=1e-12)


@pytest.mark.parametrize(
    ("much", "says"),
    [
        (
            "requests: 50000000",
            r"workload\.requests: got 50000000; expected fewer: 5e\+07 requests take 25 GB of memory at least, and 8",
        ),
        (
            "duration: 400 d",
            r"workload\.duration: got '400 d'; expected a shorter one: 3\.46e\+07 requests take 17\.3 GB of memory at least",
        ),
    ],
)
def test_a_run_for_which_there_is_no_memory_is_refused_before_it_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, much: str, says: str
) -> None:
    path = tmp_path / "large.yaml"
    path.write_text(
        f"""
name: large
workload:
  arrivals: {{process: trace, file: two.csv, format: csv, columns: {{arrival: t, prompt_tokens: p, output_tokens: o}}}}
  {much}
arms: {{a: {{deployment: p}}}}
policy: Always('a')
deployments:
  p: {{kind: gpu_pool, replicas: 1, usd_per_replica_hour: 1,
      step_time: {{base_s: 0.01, per_prefill_token_s: 0.0, per_sequence_s: 0.0, per_kv_token_s: 0.0}}}}
"""
    )
    (tmp_path / "two.csv").write_text("t,p,o\n0,5,5\n1,5,5\n")
    monkeypatch.setattr(expected, "available_bytes", lambda: 8e9)
    with pytest.raises(InputError, match=says):
        simulate(load_scenario(path))


def test_what_is_free_is_less_than_the_machine_has() -> None:
    assert 0 < available_bytes() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
