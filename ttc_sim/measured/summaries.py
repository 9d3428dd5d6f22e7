"""What a profile holds, in figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from ttc_sim.measured.profiles import Profile

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class ProfileSummary:
    """Figures of one profile.

    Attributes:
        accuracy: mean over problems of the share of right attempts, with a 95% interval over problems.
        tokens: by kind (prompt, reasoning, visible, output): mean, p50, p90, p95, p99, max.
        truncated: share of attempts stopped at the limit.
        output_by_outcome: the same figures of output tokens for right, wrong and stopped attempts.
    """

    name: str
    problems: int
    attempts: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    truncated: float
    answers_recorded: bool
    tokens: dict[str, dict[str, float]]
    output_by_outcome: dict[str, dict[str, float]]


def summarize_profile(profile: Profile) -> ProfileSummary:
    """Count and measure a profile's attempts.

    >>> from ttc_sim.measured.profiles import load_profile
    >>> summarize_profile(load_profile("math/sky-t1-32b")).problems
    57
    """
    table = profile.attempts.with_columns(output_tokens=pl.col("reasoning_tokens") + pl.col("visible_tokens"))
    by_problem = table.group_by("problem").agg(pl.col("correct").mean())["correct"].to_numpy()
    accuracy = float(by_problem.mean())
    half = 1.96 * float(by_problem.std(ddof=1)) / np.sqrt(len(by_problem)) if len(by_problem) > 1 else 1.0
    kinds = {kind: table[f"{kind}_tokens"] for kind in ("prompt", "reasoning", "visible", "output")}
    outcomes = outcome_tables(profile)
    return ProfileSummary(
        name=profile.name,
        problems=len(by_problem),
        attempts=len(table),
        accuracy=accuracy,
        accuracy_low=max(0.0, accuracy - half),
        accuracy_high=min(1.0, accuracy + half),
        truncated=float(table["truncated"].cast(pl.Float64).mean()),  # type: ignore[arg-type]
        answers_recorded=table["answer"].null_count() < len(table),
        tokens={kind: _figures(values) for kind, values in kinds.items()},
        output_by_outcome={name: _figures(values) for name, values in outcomes.items() if len(values)},
    )


def outcome_tables(profile: Profile) -> dict[str, pl.Series]:
    """Output tokens of right, wrong and stopped attempts."""
    table = profile.attempts.with_columns(output_tokens=pl.col("reasoning_tokens") + pl.col("visible_tokens"))
    stopped, right = pl.col("truncated"), pl.col("correct")
    return {
        "correct": table.filter(right)["output_tokens"],
        "wrong": table.filter(~right & ~stopped)["output_tokens"],
        "stopped at the limit": table.filter(~right & stopped)["output_tokens"],
    }


def _figures(values: pl.Series) -> dict[str, float]:
    numbers = values.to_numpy().astype(np.float64)
    found = {name: float(np.quantile(numbers, q)) for name, q in QUANTILES.items()}
    return {"mean": float(numbers.mean()), **found, "max": float(numbers.max())}
