"""A profile's attempts as arrays, problem by problem."""

from __future__ import annotations

import numpy as np
import polars as pl

from ttc_sim.base.draws import F64, I64
from ttc_sim.measured.profiles import Profile
from ttc_sim.strategies.outcomes import Attempts
from ttc_sim.strategies.outcomes.forcing import ForcedAnswers, Probes, fit_forced


def align(profile: Profile, problems: pl.Series, expected: F64 | None = None) -> Attempts:
    """The profile's attempts in the order of the given problems.

    Args:
        profile: of one model.
        problems: their keys.
        expected: of each problem, the predicted chance that the model is right (:func:`predicted`).
    """
    rows = pl.DataFrame({"problem": problems}).with_row_index("row")
    table = rows.join(profile.attempts, on="problem", how="inner").sort("row", "attempt")
    count = np.bincount(table["row"].to_numpy(), minlength=len(problems))
    answer: I64 | None = None
    if table["answer"].null_count() < len(table):
        named = table["answer"].fill_null("")
        codes = named.rank("dense").to_numpy().astype(np.int64)
        answer = np.where(named.to_numpy() == "", -1, codes)
    return Attempts(
        name=profile.name,
        start=np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
        prompt_tokens=table["prompt_tokens"].to_numpy().astype(np.int64),
        reasoning_tokens=table["reasoning_tokens"].to_numpy().astype(np.int64),
        visible_tokens=table["visible_tokens"].to_numpy().astype(np.int64),
        correct=table["correct"].to_numpy().astype(np.bool_),
        answer=answer,
        reasoning_known=profile.card.reasoning != "none",
        verifier_score=(
            table["verifier_score"].to_numpy().astype(np.float64) if "verifier_score" in table.columns else None
        ),
        truncated=table["truncated"].to_numpy().astype(np.bool_),
        forced=_own_forced(profile),
        expected=expected,
        probes=_probes(profile, table),
    )


def predicted(problems: pl.DataFrame, profile: str) -> F64 | None:
    """Chances that a profile's model is right, as predicted for it, or for models at large; ``None`` if some have no prediction."""
    for name, column in ((f"p:{profile}", pl.col(f"p:{profile}")), ("difficulty", 1 - pl.col("difficulty"))):
        if name in problems.columns and problems[name].null_count() == 0:
            chance = problems.select(column.cast(pl.Float64)).to_series().to_numpy()
            if np.isfinite(chance).all():
                return chance
    return None


def _probes(profile: Profile, attempts: pl.DataFrame) -> Probes | None:
    """Answers forced on the way, in the order of the attempts."""
    if profile.probes is None:
        return None
    keys = attempts.select("problem", "attempt").with_row_index("at")
    found = keys.join(profile.probes, on=["problem", "attempt"], how="inner").sort("at", "thinking_tokens")
    count = np.bincount(found["at"].to_numpy(), minlength=len(attempts))
    return Probes(
        start=np.concatenate([[0], np.cumsum(count)]).astype(np.int64),
        tokens=found["thinking_tokens"].to_numpy().astype(np.int64),
        right=found["correct"].to_numpy().astype(np.bool_),
    )


def _own_forced(profile: Profile) -> ForcedAnswers | None:
    if profile.forced is None:
        return None
    needed = np.minimum(profile.forced["needed_percent"].to_numpy().astype(np.float64) / 100, 1.0)
    return fit_forced(needed, profile.forced["thinking_tokens"].to_numpy().astype(np.float64))
