"""Examples that stand at the end of the commands' help: tests read every one of them as a command line, and run the cheap ones."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        "ttc-sim list maths",
        "ttc-sim simulate qa-gateway --policy \"Always('llama-70b')\"",
        "ttc-sim optimize reasoning-gateway --plan plan.yaml",
    ),
    "simulate": (
        "ttc-sim simulate qa-gateway --policy \"Always('llama-70b')\"",
        "ttc-sim simulate competition-maths --requests 6000 --hours --plot day.png",
        "ttc-sim simulate qa-gateway --requests 500 --plot spend.svg --question spend",
        "ttc-sim simulate plan.yaml --json - | jq .accuracy",
    ),
    "optimize": (
        "ttc-sim optimize reasoning-gateway --plan plan.yaml",
        "ttc-sim optimize reasoning-gateway --robust busy,dear --plan safe.yaml",
    ),
    "validate": ("ttc-sim validate plan.yaml --problems problems.parquet --attempts attempts.parquet",),
    "evaluate": (
        'ttc-sim evaluate math/sky-t1-32b --strategy "Single(cap=2048)" --strategy "BestOfN(n=3, auroc=0.8)"',
        'ttc-sim evaluate math/sky-t1-32b --strategy "Single(cap=99)" --strategy "Single(cap=999)" --plot b.svg --question budget',
    ),
    "backtest": (
        "ttc-sim backtest run/ --gpu-profile a100/",
        "ttc-sim backtest run/ --gpu h100_sxm --precision fp8 --plot beside.png",
        "ttc-sim backtest --operating-points points.csv --json errors.json",
    ),
    "capacity": ("ttc-sim capacity day.yaml --hours --plan day-plan.yaml",),
    "check": ("ttc-sim check plan.yaml --checks all",),
    "gpus": (
        "ttc-sim gpus qwen3 h100",
        "ttc-sim gpus Qwen/Qwen3-32B --precision fp8",
    ),
    "prices": ("ttc-sim prices google/gemini-2.5-pro --on 2026-11-24",),
    "sessions": ("ttc-sim sessions coding-agent --fit",),
    "collect": (
        "ttc-sim collect --endpoint http://127.0.0.1:8000/v1 --model small --prompts prompts.jsonl --out attempts.parquet "
        "--no-budget --dry-run",
    ),
    "sweep": ("ttc-sim sweep reasoning-gateway --grid workload.arrivals.rate_per_s=2,4,8 --out grid.parquet",),
    "cross-validate": ("ttc-sim cross-validate reasoning-gateway --folds 2",),
    "whatif": (
        "ttc-sim whatif plan.yaml --set workload.arrivals.rate_per_s=2x --ready cap:r1=1024",
        'ttc-sim whatif reasoning-gateway --set "busy: workload.arrivals.rate_per_s=2x; arms.r1.strategy=Single(cap=1024)"',
    ),
    "sensitivity": ("ttc-sim sensitivity plan.yaml --range traffic=0.5..3 --plot tornado.png",),
    "doctor": (
        "ttc-sim doctor",
        "ttc-sim doctor --json - --quiet | jq .healthy",
    ),
    "list": (
        "ttc-sim list maths",
        "ttc-sim list gemini 2.5 --kind price --json -",
    ),
    "report": (
        "ttc-sim report plan.yaml --out plan.html",
        "ttc-sim report qa-gateway --requests 500 --no-variations --format md",
    ),
    "schema": (
        "ttc-sim schema --out scenario.schema.json",
        "ttc-sim schema | jq .properties.targets",
    ),
    "serve": ("ttc-sim serve plan.yaml --endpoints endpoints.yaml --log requests.jsonl",),
    "export": ("ttc-sim export plan.yaml --to litellm --out gateway/",),
    "monitor": ("ttc-sim monitor plan.yaml requests.jsonl --since 2026-11-20",),
    "import": ("ttc-sim import spend.jsonl --out mine",),
    "off-policy": ("ttc-sim off-policy plan.yaml requests.jsonl --instead \"Always('r1')\"",),
    "profile": ("ttc-sim profile list",),
    "profile build": (
        'ttc-sim profile build attempts.csv profiles/mine --model small --origin "our logs" --licence internal '
        "--date 2026-11-24 --tokenizer cl100k_base",
    ),
    "profile list": ("ttc-sim profile list",),
    "profile show": ("ttc-sim profile show math/sky-t1-32b --plot lengths.png",),
    "profile check": ("ttc-sim profile check mmlu-pro/llama-3.1-8b-instruct",),
    "scenario": ("ttc-sim scenario init mine",),
    "scenario init": (
        "ttc-sim scenario init mine",
        "ttc-sim scenario init plan --from traffic --from graded --price small=0.2/0.8",
    ),
    "predictor": ("ttc-sim predictor score prompts.jsonl --out scores.parquet",),
    "predictor train": (
        "ttc-sim predictor train --problems problems.csv --attempts attempts.csv --out mine.onnx --scores scores-mine.parquet",
    ),
    "predictor score": (
        "ttc-sim predictor score prompts.jsonl --out scores.parquet",
        'echo "What is 2 + 2?" | ttc-sim predictor score -',
    ),
    "predictor evaluate": (
        "ttc-sim predictor evaluate --problems problems.csv --attempts attempts.csv --weak small --strong large",
    ),
    "predictor check": ("ttc-sim predictor check today.jsonl --reference last-month.jsonl",),
    "predictor adapt": ("ttc-sim predictor adapt --problems new.csv --attempts graded.csv --out adapted.onnx",),
}
"""By the words of a command, whole lines."""

__all__ = ["EXAMPLES"]
