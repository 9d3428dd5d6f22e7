"""Write the logs of notebook 03 from the measured data beside the checkout: numbers only, no prompt text.

Run ``python scripts/build_logs.py``; the same data gives the same bytes.
"""

from __future__ import annotations

import datetime
import gzip
from pathlib import Path

import polars as pl

from ttc_sim.base.draws import uniforms

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
OUT = ROOT / "notebooks" / "logs"
MODELS = {"llama-3.1-8b-instruct": "llama-3.1-8b", "llama-3.1-70b-instruct": "llama-3.1-70b"}
PROBLEMS = 1500  # in each of the two weeks
REQUESTS = 4000
START = datetime.datetime(2026, 11, 23, 9, 0, tzinfo=datetime.UTC)
README = """# Logs of notebook 03

Numbers, no prompts. Made by `scripts/build_logs.py`.

- `gateway.csv.gz`: arrival times, prompt and output lengths of the first 4,000 requests of Azure's code assistant trace of 2023
  (Azure public dataset, CC-BY-4.0), moved to November 2026 and dressed as a gateway's export: failed calls, and rows that were
  written twice, were added.
- `graded-week-47.csv.gz`, `graded-week-48.csv.gz`: two models' measured answers to 1,500 questions of MMLU-Pro each (TIGER-AI-Lab,
  Apache-2.0): token counts and whether they were right; no question is in both weeks.
- `scores.parquet`: what the shipped predictor says of those questions, by models that had not seen them (from `profiles/mmlu-pro`).
"""


def main() -> None:
    if not DATA.is_dir():
        raise SystemExit(f"no measured data at {DATA}")
    OUT.mkdir(parents=True, exist_ok=True)
    _write(_gateway(), "gateway.csv.gz")
    weeks = _graded()
    for week, rows in weeks.items():
        _write(rows, f"graded-{week}.csv.gz")
    asked = pl.concat(weeks.values())["question_id"].unique()
    scores = pl.read_parquet(ROOT / "profiles" / "mmlu-pro" / "scores.parquet")
    scores = (
        scores.filter(pl.col("problem").is_in(asked.implode()))
        .select("problem", "difficulty", "novelty")
        .sort("problem")
    )
    scores.write_parquet(OUT / "scores.parquet", compression="zstd", statistics=False)
    (OUT / "README.md").write_text(README, encoding="utf-8")


def _gateway() -> pl.DataFrame:
    trace = pl.read_csv(DATA / "traces" / "azure_llm_2023_code.csv").head(REQUESTS)
    at = trace["TIMESTAMP"].str.to_datetime(time_unit="us")
    since = at - at[0]
    u = uniforms(47, "gateway", len(trace), 2)
    failed = u[:, 0] < 0.02
    rows = pl.DataFrame(
        {
            "request_id": [f"req-{k:05d}" for k in range(len(trace))],
            "created_at": (pl.Series([START.replace(tzinfo=None)]) + since).dt.strftime("%Y-%m-%dT%H:%M:%S.%3fZ"),
            "route": ["assistant"] * len(trace),
            "model": ["llama-3.1-70b"] * len(trace),
            "input_tokens": trace["ContextTokens"],
            "output_tokens": trace["GeneratedTokens"],
            "status": [200] * len(trace),
        }
    )
    rows = rows.with_columns(
        output_tokens=pl.when(pl.Series(failed)).then(0).otherwise("output_tokens"),
        status=pl.when(pl.Series(failed)).then(429).otherwise("status"),
    )
    return pl.concat([rows, rows.filter(pl.Series(u[:, 1] < 0.01))])


def _graded() -> dict[str, pl.DataFrame]:
    attempts = pl.read_parquet(DATA / "mmlu-pro" / "attempts.parquet").filter(pl.col("model").is_in(list(MODELS)))
    problems = (
        pl.read_parquet(DATA / "mmlu-pro" / "problems.parquet").select("problem_id", "category").sort("problem_id")
    )
    order = problems.with_columns(u=uniforms(47, "weeks", len(problems))[:, 0]).sort("u").head(2 * PROBLEMS)
    made = {}
    for k, week in enumerate(("week-47", "week-48")):
        asked = order[k * PROBLEMS : (k + 1) * PROBLEMS]
        rows = asked.join(attempts, on="problem_id").sort("u", "model")
        made[week] = rows.select(
            question_id=pl.col("problem_id").cast(pl.String),
            category="category",
            model=pl.col("model").replace(MODELS),
            input_tokens="prompt_tokens",
            output_tokens="output_tokens",
            is_correct=pl.when("correct").then(pl.lit("yes")).otherwise(pl.lit("no")),
        )
    return made


def _write(rows: pl.DataFrame, name: str) -> None:
    with gzip.GzipFile(OUT / name, "wb", compresslevel=9, mtime=0) as file:
        file.write(rows.write_csv().encode())


if __name__ == "__main__":
    main()
