"""Strategies on one profile, at once and without a queue: accuracy, tokens, dollars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.estimates import Estimate, Resampler
from ttc_sim.measured.aligning import align
from ttc_sim.measured.problem_sets import load_problem_set
from ttc_sim.measured.profiles import load_profile
from ttc_sim.policies.requests import DIFFICULTY_BANDS
from ttc_sim.serving.prices import TokenPrices
from ttc_sim.strategies import Strategy, carry_out
from ttc_sim.strategies.outcomes import Attempts, seeded_trial

ANY_PRICE = TokenPrices(0.5e-6, 0.5e-6, 2e-6, 2e-6, "0.50 and 2.00 US dollars per million tokens, for want of a price")
_DRAWS = 200_000  # requests drawn in all, over the profile's problems
_LEAST = 8


@dataclass(frozen=True)
class Evaluation:
    """What one strategy comes to on a profile.

    Attributes:
        accuracy: share of requests answered correctly, with the 95% interval from resampling problems (or whole task types,
            where the problem set says that they are themselves a sample).
        tokens_per_request: output tokens, all samples together; tokens: ``prompt``, ``reasoning``, ``visible``.
        cost_usd_per_request: at the given price.
        cost_spread: 99th percentile over median of the cost of a request.
        tokens_in_a_row: mean output tokens of the longest sample, stage after stage: what latency goes by.
        by_band: the first three by band of predicted difficulty, where the problem set has one.
    """

    strategy: str
    accuracy: Estimate
    tokens_per_request: float
    cost_usd_per_request: float
    cost_spread: float
    tokens: Mapping[str, float]
    tokens_in_a_row: float
    by_band: Mapping[str, Mapping[str, Any]]
    problems: int
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain mapping for JSON."""
        return asdict(self)


def evaluate(
    profile: str,
    strategies: Sequence[Strategy],
    *,
    prices: TokenPrices = ANY_PRICE,
    subset: str | None = None,
    folder: Path | None = None,
    seed: int = 1,
) -> list[Evaluation]:
    """Carry strategies out on a profile's problems, every problem equally often, all on the same draws.

    Args:
        profile: name or folder of a model profile.
        strategies: see :mod:`ttc_sim.strategies`; those that name other arms need a scenario.
        prices: of the model's tokens, and of a verifier's.
        subset: of the problem set only.
        folder: to look for the profile in.

    Raises:
        InputError: no such profile or subset, or a strategy that needs what the profile does not have.

    >>> from ttc_sim.strategies import Single
    >>> [one] = evaluate("math/sky-t1-32b", [Single(cap=8192)], subset="aime24")
    >>> one.accuracy.value < 0.3
    True
    """
    for strategy in strategies:
        for name in strategy.other_arms:
            raise InputError("strategy", "stages", name, "strategies: other arms can be named in a scenario only")
    attempts, groups, difficulty, notes = _measured(profile, subset, folder)
    problems = len(attempts.count)
    each = max(_LEAST, -(-_DRAWS // problems))
    owner = np.repeat(np.arange(problems), each)
    trial = seeded_trial(attempts, owner, seed, "evaluate")
    table = Resampler.of(groups)
    zero, one = np.zeros(problems, dtype=np.int64), np.ones(1)
    found = []
    for strategy in strategies:
        outcome = carry_out(strategy, trial)
        prompt, hidden, shown = outcome.prompt_tokens, outcome.reasoning_tokens, outcome.visible_tokens
        cost = np.asarray(prices.cost_usd(prompt, 0, hidden, shown))
        row = np.zeros(len(owner))
        for stage in outcome.stages:
            row += np.where(stage.runs, np.add(*stage.cut_tokens).max(axis=1), 0)

        def by_problem(values: Any) -> F64:
            return np.bincount(owner, weights=np.asarray(values, dtype=np.float64), minlength=problems) / each

        right = by_problem(outcome.correct)
        value, resampled = table.mean(right, zero, one)
        of_problem = {"tokens": by_problem(hidden + shown), "cost": by_problem(cost)}
        positive = cost[cost > 0]
        said = [
            *notes,
            *(
                ["votes by a model of how wrong answers agree: no recorded answers"]
                if strategy.votes and attempts.answer is None
                else []
            ),
            *(["a verifier's tokens are billed at the same price"] if strategy.verifiers else []),
        ]
        if (attempts.count < max(s.visible_tokens.shape[1] for s in outcome.stages)).any():
            said.append(
                "where a problem has fewer attempts than samples, more are drawn by its fitted chance to be right"
            )
        found.append(
            Evaluation(
                strategy=repr(strategy),
                accuracy=Estimate.around(value, float(resampled.std())).clipped(0, 1),
                tokens_per_request=float(of_problem["tokens"].mean()),
                cost_usd_per_request=float(of_problem["cost"].mean()),
                cost_spread=float(np.quantile(positive, 0.99) / np.quantile(positive, 0.5)) if len(positive) else 1.0,
                tokens={
                    "prompt": float(prompt.mean()),
                    "reasoning": float(hidden.mean()),
                    "visible": float(shown.mean()),
                },
                tokens_in_a_row=float(np.mean(row)),
                by_band=_bands(difficulty, table, right, of_problem),
                problems=problems,
                notes=tuple(said),
            )
        )
    return found


def _bands(
    difficulty: F64 | None, table: Resampler, right: F64, of_problem: Mapping[str, F64]
) -> dict[str, dict[str, Any]]:
    if difficulty is None:
        return {}
    edges = DIFFICULTY_BANDS
    band = np.clip(np.digitize(difficulty, edges[1:-1]), 0, len(edges) - 2)
    out = {}
    for k in range(len(edges) - 1):
        here = band == k
        if not here.any():
            continue
        value, resampled = table.restricted(here).mean(
            right[here], np.zeros(int(here.sum()), dtype=np.int64), np.ones(1)
        )
        out[f"{edges[k]:.1f}-{edges[k + 1]:.1f}"] = {
            "problems": int(here.sum()),
            "accuracy": asdict(Estimate.around(value, float(resampled.std())).clipped(0, 1)),
            "tokens_per_request": float(of_problem["tokens"][here].mean()),
            "cost_usd_per_request": float(of_problem["cost"][here].mean()),
        }
    return out


def _measured(name: str, subset: str | None, folder: Path | None) -> tuple[Attempts, I64, F64 | None, list[str]]:
    """Attempts on the problems measured, what is resampled together, and predicted difficulty."""
    profile = load_profile(name, folder)
    measured = profile.attempts.select(pl.col("problem").unique().sort())
    notes: list[str] = []
    difficulty: F64 | None = None
    cluster = measured["problem"]
    if profile.card.problem_set is None:
        if subset is not None:
            raise InputError(name, "--subset", subset, "a profile that belongs to a problem set")
    else:
        problem_set = load_problem_set(profile.card.problem_set, folder)
        table = problem_set.problems
        if subset is not None:
            known = table["subset"].unique().to_list()
            if subset not in known:
                raise InputError(name, "--subset", subset, nearest(subset, known))
            table = table.filter(pl.col("subset") == subset)
        measured = table.join(measured, on="problem", how="semi", maintain_order="left")
        if measured.is_empty():
            raise InputError(name, "--subset", subset, "problems that the profile was measured on")
        by_group = problem_set.card.cluster == "group"
        cluster = measured["group" if by_group else "problem"]
        if "difficulty" in measured.columns and measured["difficulty"].null_count() == 0:
            difficulty = measured["difficulty"].to_numpy().astype(np.float64)
    if profile.card.reasoning == "filled":
        notes.append(f"thinking lengths are not its own: {profile.card.reasoning_source}")
    codes = np.unique(cluster.to_numpy().astype(np.str_), return_inverse=True)[1].astype(np.int64)
    return align(profile, measured["problem"]), codes, difficulty, notes
