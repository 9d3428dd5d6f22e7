"""Good inputs of every kind, small enough that each command takes a moment: what the others are mutated from."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from ttc_sim.base.draws import uniforms

SEED = 7
_OTHERS = Path(__file__).resolve().parents[1] / "tests" / "importing" / "logs"
"""Logs of other tools, made up."""
PROBLEMS, LOGGED = 24, 120
WORDS = ("sum", "product", "integral", "river", "cell", "treaty")
CARD = {"origin": "made up", "licence": "none", "date": "2026-11-24", "tokenizer": "none", "limits": "made up"}

LINEAR = {"base_s": 0.0186, "per_prefill_token_s": 9.5e-5, "per_sequence_s": 5e-5, "per_kv_token_s": 6e-8}
PHYSICS = {"model": "config.json", "gpu": "H100", "precision": "BF16"}
ENDPOINT: dict[str, Any] = {
    "kind": "api",
    "price": {"input_usd_per_mtok": 0.3, "output_usd_per_mtok": 1.0},
    "first_token": {"median_s": 0.5, "p95_s": 1.0},
    "per_token": {"median_s": 0.01, "p95_s": 0.02},
}
HOURLY = {
    "ttft_p90_s": 20,
    "goodput": 0.2,
    "slo": {"latency_s": 60, "tpot_s": 1.0},
    "every_hour": True,
    "sources": {"all": {"tpot_p99.5_s": 5.0, "rejected_rate": 0.5}},
}
LIMITED = {
    **ENDPOINT,
    "price": {"input_usd_per_mtok": 3.0, "cached_input_usd_per_mtok": 0.3, "output_usd_per_mtok": 15.0, "factor": 0.9},
    "usd_per_month": 300.0,
    "requests_per_minute": 100.0,
    "tokens_per_minute": 90000.0,
    "concurrency": 4,
    "timeout_s": 20.0,
    "on_timeout": "finish",
    "retry": {"retries": 3, "base_s": 0.5, "max_s": 4.0},
}
DRAFTS = {"draft_tokens": 1, "acceptance_length": {1: 1.6, 2: 2.0}, "draft_s": {1: 0.001, 2: 0.002}}
POOL = {
    "kind": "gpu_pool",
    "replicas": 2,
    "usd_per_replica_hour": 2.0,
    "max_num_seqs": 8,
    "max_num_batched_tokens": 256,
    "kv_cache_tokens": 8192,
    "queue_limit": 20,
    "timeout_s": 30.0,
    "step_time": LINEAR,
}
CONFIG = {
    "num_hidden_layers": 16,
    "hidden_size": 2048,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
    "vocab_size": 128256,
    "head_dim": 64,
    "torch_dtype": "bfloat16",
}


def scenarios() -> dict[str, dict[str, Any]]:
    """By file, scenarios that between them use every key."""
    sources = {
        "easy": {"problem_set": "tiny", "subset": "a", "share": 2.0},
        "all": {"problem_set": "tiny", "priority": 1},
    }
    arms = {
        "small": {"profile": "tiny/small", "deployment": "pool", "strategy": "Single(cap=400)"},
        "large": {"profile": "tiny/large", "deployment": "api", "strategy": "BudgetForcing(min_tokens=50, cap=900)"},
        "vote": {"profile": "tiny/small", "deployment": "pool", "strategy": "MajorityVote(n=3, stop_early=0.95)"},
        "best": {"profile": "tiny/small", "deployment": "pool", "strategy": "BestOfN(n=2, auroc=0.8, verifier='api')"},
        "both": {
            "profile": "tiny/small",
            "deployment": "pool",
            "strategy": "Cascade(stages=['small', 'large'], tpr=0.9, fpr=0.2)",
            "sources": ["all"],
        },
    }
    first: dict[str, Any] = {
        "name": "first",
        "description": "two sources, five arms",
        "seed": 3,
        "replications": 2,
        "workload": {
            "arrivals": {"process": "gamma", "rate_per_s": 2.0, "cv": 1.5},
            "requests": 40,
            "sources": sources,
        },
        "deployments": {"pool": POOL, "api": LIMITED},
        "arms": arms,
        "policy": {"easy": "Threshold(at=0.5, below='small', above='large')", "all": "Always('both')"},
    }
    plain = {name: arms[name] for name in ("small", "large")}
    search = {"bands": 3, "max_bands": 2, "caps": {"large": [200, None]}, "replicas": {"pool": [1, 2]}}
    second: dict[str, Any] = {
        **first,
        "name": "second",
        "workload": {
            "arrivals": {
                "process": "piecewise",
                "steps": [{"duration_s": 5, "rate_per_s": 3.0}, {"duration_s": 5, "rate_per_s": 1}],
            },
            "requests": 30,
            "sources": {"all": {"problem_set": "tiny", "subset": ["a", "b"]}},
        },
        "deployments": {"pool": {**POOL, "scheduling": "priority", "load_balancer": "least_kv"}, "api": ENDPOINT},
        "arms": plain,
        "policy": "Utility(price_of_accuracy=0.01)",
        "search": {
            **search,
            "scores": ["difficulty"],
            "utilization": 0.9,
            "caps": {"large": {"from": 198, "to": 200, "uncapped": True}},
            "strategies": {"small": ["Single()", "MajorityVote(n=[2, 3], cap=['50..51', null])"]},
            "cascades": [{"arms": ["small", "large"], "tpr": 0.9, "fpr": 0.2, "judge": "api"}],
        },
        "targets": {"minimize": "cost", "accuracy": 0.3, "latency_p95_s": 60, "timeout_rate": 0.2, **HOURLY},
    }
    # A plan is carried out as often as it has arms, and there are thousands of broken plans.
    few = {**second["search"], "caps": {"large": [200, None]}}
    few["strategies"] = {"small": ["Single()", "MajorityVote(n=2, cap=50)"]}
    planned = {**second, "name": "planned", "search": few}
    third = {
        **planned,
        "name": "third",
        "workload": {**second["workload"], "arrivals": {"process": "weibull", "rate_per_s": 2.0, "cv": 2.0}},
        "deployments": {
            "pool": {**POOL, "step_time": PHYSICS, "usd_per_replica_hour": 1.0, "speculative": DRAFTS},
            "api": LIMITED,
        },
        "policy": "Overflow(arms=['small', 'large'], waiting=2)",
        "targets": {
            **{"maximize": "accuracy", "cost_usd_per_day": 900, "latency_p50_s": 30, "latency_p99_s": 90},
            "frontier": ["latency_p95_s", "cost"],
        },
    }
    loop = {**third, "name": "loop", "policy": "LeastLoaded(arms=['small', 'large'])"}
    loop["workload"] = {**second["workload"], "arrivals": {"process": "closed_loop", "users": 3, "think_s": 1.0}}
    lengths = {"name": "lengths", "replications": 1, "arms": {"a": {"deployment": "pool"}}, "policy": "Always('a')"}
    trace = {"process": "trace", "file": "trace.csv", "format": "csv", "rate_per_s": 1.5}
    columns = {"arrival": "t", "unit": "s", "prompt_tokens": "p", "output_tokens": "o", "reasoning_tokens": "r"}
    layers = {"gpu_profile": "gpu", "tensor_parallel": 1, "host_s": 0.001}

    def of(arrivals: dict[str, Any], pool: dict[str, Any] = POOL) -> dict[str, Any]:
        return {**lengths, "workload": {"arrivals": arrivals, "requests": 20}, "deployments": {"pool": pool}}

    shape = {"by_hour": [0, *range(23)], "by_weekday": [1] * 7, "starts": "monday 08:00", "growth_per_week": 0.1}
    shaped = {"process": "gamma", "rate_per_s": 1.0, "cv": 2.0, "shape": shape}
    drawn = {"prompt_tokens": 30, "output_tokens": {"median": 20, "p95": 60}}
    users = {"arrivals": {"process": "closed_loop", "users": 2, "think_s": 2.0}, "lengths": drawn}
    streams: dict[str, Any] = {"a": {"arrivals": shaped}, "b": {"arrivals": {**trace, "columns": columns}}, "c": users}
    timed = {**of({}), "workload": {"duration": "20 s", "lengths": drawn, "sources": streams}}
    own = {**first, "name": "own", "workload": {**first["workload"], "sources": {**sources}}}
    own["workload"]["sources"]["own"] = {"problem_set": "tiny", "arrivals": {**shaped, "process": "weibull"}}
    own["policy"] = "Always('large')"
    begun: dict[str, Any] = {"process": "sessions", "starts": {"process": "poisson", "rate_per_s": 0.05}}
    hours = {"from_utc": "16:30", "until_utc": "00:30", "factor": 0.5}
    price: dict[str, Any] = {
        **ENDPOINT["price"],
        "cached_input_usd_per_mtok": 0.1,
        "cache_write_usd_per_mtok": 1.25,
        "hours": [hours],
    }
    price |= {"least_usd_per_call": 0.001, "changes": [{"from_day": "2026-12-01", "output_usd_per_mtok": 9.0}]}
    kept: dict[str, Any] = {
        **ENDPOINT,
        "price": price,
        "cache": {"provider": "anthropic", "min_tokens": 64, "ttl_s": 60},
    }
    kept |= {"input_tokens_per_minute": 900000, "output_tokens_per_minute": 90000, "limit_window_s": 10}
    turns: dict[str, Any] = {
        "name": "turns",
        "replications": 1,
        "workload": {
            "arrivals": {**begun, "file": "turns.csv", "compact": {"above_tokens": 900, "to_tokens": 400}},
            "begins": "2026-11-30 23:00",
            "requests": 30,
        },
        "deployments": {"pool": {**POOL, "load_balancer": "prefix"}, "api": kept},
        "arms": {"small": {"deployment": "pool", "turn_tokens": 1.2}, "large": {"deployment": "api"}},
        "policy": "Sticky(Threshold(at=2, below='small', above='large', score='turn'), worth_usd=0.001, turns=3)",
        "targets": {"minimize": "cost", "latency_p95_s": 60, "timeout_rate": 0.5},
    }
    laws = {
        "turns": {"median": 4, "p95": 9},
        "first_prompt": {"median": 300, "p95": 900},
        "added": {"median": 60, "p95": 300, "alike": 0.3},
        "output": {"median": 20, "p95": 90},
        "think_s": {"quantiles": [0.5, 4, 30]},
        "tools": {"tokens": 100, "kinds": 2},
    }
    made = {**turns, "name": "laws", "policy": "SessionBudget(Always('large'), tokens=2000, to='small')"}
    made["workload"] = {"arrivals": {**begun, "generated": laws}, "duration": "120 s", "begins": "2026-11-30T23:00Z"}
    return {
        "turns.yaml": turns,
        "laws.yaml": made,
        "timed.yaml": timed,
        "own.yaml": own,
        "first.yaml": first,
        "second.yaml": second,
        "planned.yaml": planned,
        "third.yaml": third,
        "loop.yaml": loop,
        "trace.yaml": of({**trace, "columns": columns}),
        "azure.yaml": of({"process": "trace", "file": "azure.csv", "format": "azure"}, {**POOL, "step_time": layers}),
        "mooncake.yaml": of(
            {"process": "trace", "file": "mooncake.jsonl", "format": "mooncake"}, {**POOL, "load_balancer": "session"}
        ),
        "clients.yaml": of({"process": "clients", "traffic": "clients", "start_s": 10.0}),
    }


def _attempts(name: str, each: int, chance: float) -> pl.DataFrame:
    u = uniforms(SEED, f"attempts/{name}", PROBLEMS * each, 4)
    problem = np.repeat(np.arange(PROBLEMS), each)
    right = u[:, 0] < chance * (1.2 - problem / PROBLEMS)
    reasoning = (20 * 30 ** u[:, 1]).astype(int)
    return pl.DataFrame(
        {
            "problem": [f"{'ab'[k % 2]}/{k}" for k in problem],
            "attempt": np.tile(np.arange(each), PROBLEMS),
            "prompt_tokens": 20 + 5 * problem,
            "reasoning_tokens": reasoning,
            "visible_tokens": 1 + (u[:, 2] * 40).astype(int),
            "correct": right,
            "truncated": (reasoning > 500) & ~right,
            "answer": np.where(right, "yes", np.where(u[:, 3] < 0.5, "no", "maybe")),
        }
    )


def _write_profiles(at: Path) -> None:
    rows = range(PROBLEMS)
    problems = pl.DataFrame(
        {
            "problem": [f"{'ab'[k % 2]}/{k}" for k in rows],
            "subset": ["ab"[k % 2] for k in rows],
            "group": [WORDS[k % len(WORDS)] for k in rows],
            "prompt_tokens": [20 + 5 * k for k in rows],
        }
    )
    u = uniforms(SEED, "scores", PROBLEMS, 6)
    scores = problems.select("problem").with_columns(
        pl.Series("difficulty", (np.arange(PROBLEMS) + u[:, 0]) / (PROBLEMS + 1)),
        pl.Series("novelty", u[:, 1]),
        *(pl.Series(f"p:tiny/{name}", u[:, 2 + k]) for k, name in enumerate(("small", "large"))),
        *(pl.Series(f"tokens:tiny/{name}", 1 + 500 * u[:, 4 + k]) for k, name in enumerate(("small", "large"))),
    )
    folder = at / "profiles" / "tiny"
    for name, each, chance in (("small", 3, 0.5), ("large", 2, 0.8)):
        (folder / name).mkdir(parents=True)
        card = {
            **CARD,
            "model": name,
            "kind": "model",
            "problem_set": "tiny",
            "reasoning": "recorded",
            "output_limit_tokens": 2000,
        }
        (folder / name / "profile.yaml").write_text(yaml.safe_dump(card))
        _attempts(name, each, chance).write_parquet(folder / name / "attempts.parquet")
    forced = pl.DataFrame({"thinking_tokens": range(40, 1000, 40), "needed_percent": range(4, 100, 4)})
    forced.write_csv(folder / "small" / "forced.csv")
    problems.write_parquet(folder / "problems.parquet")
    scores.write_parquet(folder / "scores.parquet")
    (folder / "problem_set.yaml").write_text(yaml.safe_dump({**CARD, "kind": "problems", "cluster": "group"}))
    traffic = at / "profiles" / "clients"
    traffic.mkdir()
    (traffic / "traffic.yaml").write_text(yaml.safe_dump({**CARD, "kind": "traffic"}))
    client, start = np.repeat([0, 1], 2), np.tile([0, 600], 2)
    arrivals = {
        "client": client,
        "t_start_s": start,
        "rate_per_s": [1.0, 0.5, 0.2, 0.0],
        "iat_cv": [1.0, 2.0, 1.5, 0.0],
    }
    shapes = {
        "iat_family": ["Gamma", "Weibull", "Gamma", ""],
        "iat_shape": [1.0, 0.5, 0.4, 0.0],
        "iat_scale": [1.0, 2.0, 5.0, 0.0],
    }
    pl.DataFrame({**arrivals, **shapes}).write_parquet(traffic / "arrivals.parquet")
    fields = ("input_tokens", "output_tokens", "reason_ratio")
    lengths = [
        (c, 0, f, value, 0.5)
        for c in (0, 1)
        for f in fields
        for value in ((0.5, 0.8) if f == fields[2] else (30.0, 90.0))
    ]
    pl.DataFrame(
        lengths, schema=["client", "window_start_s", "field", "value", "probability"], orient="row"
    ).write_parquet(traffic / "lengths.parquet")


def _write_traces(at: Path) -> None:
    u = uniforms(SEED, "traces", 20, 4)
    t = np.cumsum(-np.log(u[:, 0]))
    p, o = (20 + 100 * u[:, 1]).astype(int), (5 + 80 * u[:, 2]).astype(int)
    pl.DataFrame({"t": t, "p": p, "o": o, "r": o // 2}).write_csv(at / "trace.csv")
    turn, prompt = np.arange(24) % 6, 256 + 128 * (np.arange(24) % 6)
    sessions = {"session": [f"s{k // 6}" for k in range(24)], "t_s": 20.0 * turn, "think_s": 5.0 * (turn > 0)}
    tokens = {"input_tokens": prompt, "output_tokens": 20 + turn, "reused_tokens": np.where(turn > 0, prompt - 128, 0)}
    heads = {"agent": ["main"] * 24, "tool_tokens": [100] * 24, "system_tokens": [60] * 24}
    pl.DataFrame({**sessions, **tokens, **heads}).write_csv(at / "turns.csv")
    stamps = [f"2023-11-16 18:17:{3 + second:06.3f}" for second in t]
    pl.DataFrame({"TIMESTAMP": stamps, "ContextTokens": p, "GeneratedTokens": o}).write_csv(at / "azure.csv")
    rows = zip((1000 * t).astype(int).tolist(), p.tolist(), o.tolist(), strict=True)
    lines = [
        {"timestamp": a, "input_length": 512 * 2 + b, "output_length": c, "hash_ids": [1, 2 + a % 2, a]}
        for a, b, c in rows
    ]
    (at / "mooncake.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _write_gpu_profile(at: Path) -> None:
    folder = at / "gpu" / "tp1"
    folder.mkdir(parents=True)
    (at / "gpu" / "meta.yaml").write_text(
        yaml.safe_dump({"model": "meta-llama/Llama-3.1-8B", "hardware": "RTX4090", "tp_degrees": [1]})
    )
    from ttc_sim.serving.gpu_profile import DENSE_LAYERS, FFN_LAYERS, SEQUENCE_LAYERS

    dense = [(layer, tokens, 2.0 + 0.1 * tokens) for layer in (*DENSE_LAYERS, *FFN_LAYERS) for tokens in (1, 64, 512)]
    pl.DataFrame(dense, schema=["layer", "tokens", "time_us"], orient="row").write_csv(folder / "dense.csv")
    each = [(layer, n, 100.0 + n) for layer in SEQUENCE_LAYERS for n in (1, 16, 64)]
    pl.DataFrame(each, schema=["layer", "sequences", "time_us"], orient="row").write_csv(folder / "per_sequence.csv")
    grid = [(c, k, n, d) for c in (0, 64, 512) for k in (0, 1024) for n in (0, 1, 64) for d in (0, 16, 1024)]
    axes = ["prefill_chunk", "kv_prefill", "n_decode", "kv_decode"]
    attention = pl.DataFrame([(*row, 5.0 + 0.01 * sum(row)) for row in grid], schema=[*axes, "time_us"], orient="row")
    attention.write_csv(folder / "attention.csv")
    (at / "config.json").write_text(json.dumps(CONFIG))


def _write_runs(at: Path) -> None:
    for name in ("run", "other-run"):
        (at / name).mkdir()
        u = uniforms(SEED, name, 20, 4)
        arrival = np.cumsum(-np.log(u[:, 0])).tolist()
        lines = []
        for a, (p, o) in zip(arrival, (5 + 90 * u[:, 1:3]).astype(int).tolist(), strict=True):
            times = {
                "arrival_time": 1e9 + a,
                "queued_ts": a,
                "first_token_ts": a + 0.1,
                "last_token_ts": a + 0.1 + 0.02 * o,
            }
            lines.append({**times, "input_toks": p, "output_toks": o})
        (at / name / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        engine = {"tensor_parallel_size": 1, "max_num_seqs": 32, "max_num_batched_tokens": 512}
        (at / name / "meta.json").write_text(
            json.dumps({"engine_kwargs": engine, "kv_cache": {"num_gpu_blocks": 2000}})
        )
    shared = {
        "num_unique_system_prompts": 2,
        "num_users_per_system_prompt": 2,
        "system_prompt_len": 50,
        "question_len": 60,
    }
    measured = {"e2e_mean": 900.0, "ttft_mean": 60.0, "itl_mean": 20.0, "e2e_p90": 950.0, "ttft_p99": 90.0}
    one = {
        "model": "made/up",
        "architecture": CONFIG,
        "gpu": "H100",
        "tensor_parallel": 1,
        "precision": "BF16",
        "max_num_seqs": 16,
        "max_num_batched_tokens": 512,
        "kv_blocks": 800,
        "kv_block_size": 16,
        "workload_spec": {
            "inference_perf": {"shared_prefix": {**shared, "output_len": 40}, "stages": [{"duration": 5, "rate": 2.0}]}
        },
        "measured_ms": {"overall": measured, "stage_0": measured},
        "peer_percent_error_overall": {"another": {"e2e_mean": -40.0}},
    }
    (at / "experiments.json").write_text(json.dumps([{"id": str(k), **one} for k in range(3)]))


def _write_logs(at: Path) -> None:
    u = uniforms(SEED, "logs", LOGGED, 4)
    words = [WORDS[k % len(WORDS)] for k in range(LOGGED)]
    prompts = [f"What is the {word} of {k} and the {WORDS[k // 20]}?" for k, word in enumerate(words)]
    keys = [f"new/{k}" for k in range(LOGGED)]
    sets = ["ab"[k % 2] for k in range(LOGGED)]
    problems = pl.DataFrame({"problem": keys, "prompt": prompts, "dataset": sets, "group": words})
    problems.write_parquet(at / "problems.parquet")
    problems.write_csv(at / "problems.csv")
    tables = [
        pl.DataFrame(
            {
                "problem": keys,
                "dataset": sets,
                "model": f"tiny/{name}",
                "correct": u[:, k] < chance,
                "prompt_tokens": 30,
                "reasoning_tokens": (10 * 50 ** u[:, 2 + k]).astype(int),
                "output_tokens": (10 * 50 ** u[:, 2 + k]).astype(int) + 20,
            }
        )
        for k, (name, chance) in enumerate((("small", 0.5), ("large", 0.8)))
    ]
    attempts = pl.concat(tables)
    attempts.write_csv(at / "attempts.csv")
    attempts.write_ndjson(at / "attempts.jsonl")
    _attempts("own", 2, 0.6).rename({"problem": "id"}).drop("truncated").write_csv(at / "own.csv")
    logs = attempts.join(problems.select("problem", "prompt"), on="problem")
    logs.select("prompt", "model", "correct").write_ndjson(at / "logs.jsonl")
    problems.select("prompt").write_ndjson(at / "prompts.jsonl")
    _write_import(at / "imported", problems, attempts)


def _write_import(at: Path, problems: pl.DataFrame, attempts: pl.DataFrame) -> None:
    """What ``ttc-sim import`` leaves of a log with graded answers."""
    at.mkdir()
    audit = {
        "format": "own",
        "files": [{"name": "log.jsonl", "bytes": 99, "rows": 9}],
        "rows": {"read": 1, "kept": 1, "left_out": 0},
        "day": "2026-11-24",
    }
    (at / "import.json").write_text(json.dumps({**audit, "notes": [], "tokens": "reasoning inside output"}))
    few = problems.head(30)
    few.select("problem", "group", "prompt", subset="dataset", prompt_tokens=30).write_parquet(at / "problems.parquet")
    tried = attempts.join(few, on="problem", how="semi").rename({"dataset": "source"})
    tried = tried.with_columns(visible_tokens=pl.col("output_tokens") - pl.col("reasoning_tokens"))
    tried.select(
        "problem", "model", "prompt_tokens", "reasoning_tokens", "visible_tokens", "correct", attempt=0, truncated=False
    ).write_parquet(at / "attempts.parquet")
    tried.select(
        *("source", "model", "prompt_tokens", "reasoning_tokens", "visible_tokens"),
        arrival_s=pl.int_range(pl.len()) * 0.5,
        cached_tokens=10,
        status=pl.lit("ok"),
        latency_s=0.3 + 0.01 * pl.col("output_tokens"),
        hash_ids=pl.lit([1, 2]),
        block_tokens=16,
    ).write_parquet(at / "traffic.parquet")


def write_corpus(at: Path) -> None:
    """Write all of it, and what commands make of it, into an empty folder."""
    _write_profiles(at)
    _write_traces(at)
    _write_gpu_profile(at)
    _write_runs(at)
    _write_logs(at)
    shutil.copytree(_OTHERS, at / "logs")
    for name, content in scenarios().items():
        (at / name).write_text(yaml.safe_dump(content, sort_keys=False))
    (at / "own.py").write_text(
        "def choose(request):\n    return 'small'\n\ndef leaves(request):\n    raise SystemExit(0)\n"
    )
    from ttc_sim.cli import app

    before = Path.cwd()
    os.chdir(at)
    try:
        for line in (
            "optimize planned.yaml --plan plan.yaml",
            "predictor score prompts.jsonl --out scores.parquet",
            "simulate first.yaml --json result.json",
        ):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                status = app(line.split(), standalone_mode=False)
            assert status in (None, 0, 2), f"{line}: {status}"
    finally:
        os.chdir(before)
