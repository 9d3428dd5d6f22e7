"""Strategies on one profile, at once and without a queue: accuracy, tokens, dollars."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import polars as pl

from ttc_sim.base.arguments import count, location
from ttc_sim.base.consent import AllowCode, Code
from ttc_sim.base.display import Displayed
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.estimates import Estimate, Resampler
from ttc_sim.base.threads import one_thread
from ttc_sim.evaluation.intervals import mean_interval, share_interval
from ttc_sim.measured.aligning import align, predicted
from ttc_sim.measured.problem_sets import load_problem_set
from ttc_sim.measured.profiles import Profile, load_profile
from ttc_sim.policies.requests import DIFFICULTY_BANDS
from ttc_sim.serving.prices import TokenPrices
from ttc_sim.strategies import Strategy, StrategyLike, as_strategy, carry_out
from ttc_sim.strategies.outcomes import LIMITED, MODELLED, Attempts, Outcome, modelled_share, seeded_trial

ANY_PRICE = TokenPrices(0.5e-6, 0.5e-6, 2e-6, 2e-6, "0.50 and 2.00 US dollars per million tokens, for want of a price")
_DRAWS = 200_000  # requests drawn in all, over the profile's problems
_SAMPLES = 20_000_000  # of them: fewer requests are drawn for more than a hundred samples each
_LEAST = 8


@dataclass(frozen=True)
class Evaluation(Displayed):
    """What one strategy comes to on a profile.

    Attributes:
        accuracy: share of requests answered correctly, with the 95% interval from resampling problems (or whole task types,
            where the problem set says that they are themselves a sample).
        tokens_per_request: output tokens, all samples together; tokens: ``prompt``, ``reasoning``, ``visible``.
        cost_usd_per_request: at the given price.
        cost_spread: 99th percentile over median of the cost of a request.
        tokens_in_a_row: mean output tokens of the longest sample, stage after stage: what latency goes by.
        by_band: the first three by band of predicted difficulty, where the problem set has one.
        modelled_share: share of the samples that were never measured, but drawn from what is fitted to those that were.
        intervals: of ``tokens_per_request``, ``cost_usd_per_request`` and ``tokens_in_a_row``, 95%. All intervals count how far
            off what is fitted may be.
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
    modelled_share: float = 0.0
    intervals: Mapping[str, Estimate] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain mapping for JSON."""
        return asdict(self)

    def __repr__(self) -> str:
        right = f"{self.accuracy.value:.1%} ({100 * self.accuracy.low:.0f}-{100 * self.accuracy.high:.0f})"
        return f"<Evaluation: {self.strategy} on {self.problems:,} problems, accuracy {right}>"


@dataclass(frozen=True)
class Evaluations(Displayed, Sequence[Evaluation]):
    """Strategies on one profile, side by side: a sequence of :class:`Evaluation` that shows itself as one table.

    Attributes:
        profile: name of the profile; price: where the prices come from; found: in the order that was asked for.
    """

    profile: str
    price: str
    found: tuple[Evaluation, ...]

    def __len__(self) -> int:
        return len(self.found)

    @overload
    def __getitem__(self, at: int) -> Evaluation: ...

    @overload
    def __getitem__(self, at: slice) -> Evaluations: ...

    def __getitem__(self, at: int | slice) -> Evaluation | Evaluations:
        return replace(self, found=self.found[at]) if isinstance(at, slice) else self.found[at]

    def __repr__(self) -> str:
        several = "1 strategy" if len(self) == 1 else f"{len(self)} strategies"
        problems = f", {self[0].problems:,} problems" if self.found else ""
        return f"<Evaluations: {several} on {self.profile}{problems}>"


@one_thread()
def evaluate(
    profile: str | Path | Profile,
    strategies: StrategyLike | Iterable[StrategyLike],
    *,
    prices: TokenPrices = ANY_PRICE,
    subset: str | None = None,
    folder: str | Path | None = None,
    seed: int = 1,
    allow_code: AllowCode = False,
) -> Evaluations:
    """Carry strategies out on a profile's problems, every problem equally often, all on the same draws.

    Args:
        profile: a model profile, its name or its folder.
        strategies: one or several, each itself, its notation or a function of a
            :class:`~ttc_sim.strategies.outcomes.Trial`, see :mod:`ttc_sim.strategies`; those that name other arms need a
            scenario. ``file.py:function`` is looked up from the current folder, and must lie there.
        prices: of the model's tokens, and of a verifier's.
        subset: of the problem set only.
        folder: to look for the profile in.
        seed: of the draws, at least 0.
        allow_code: whether such functions may run; ``"remember"`` allows them from now on. See :func:`ttc_sim.load_scenario`.

    Raises:
        InputError: an argument of another kind, no such profile or subset, or a strategy that needs what the profile does not
            have.

    >>> [one] = evaluate("math/sky-t1-32b", "Single(cap=8192)", subset="aime24")
    >>> 0.2 < one.accuracy.value < 0.4
    True
    """
    asked = _several(strategies, Code(allow_code))
    if not isinstance(prices, TokenPrices):
        raise InputError("evaluate", "prices", prices, "TokenPrices")
    if subset is not None and not isinstance(subset, str):
        raise InputError("evaluate", "subset", subset, "the name of a subset of the problem set")
    if folder is not None and not location("evaluate", "folder", folder, "a folder").is_dir():
        raise InputError("evaluate", "folder", folder, "an existing folder")
    seed = count("evaluate", "seed", seed, 0, math.inf)
    for strategy in asked:
        strategy.check_consent()
        for name in strategy.other_arms:
            raise InputError("strategy", "stages", name, "strategies: other arms can be named in a scenario only")
    if not isinstance(profile, Profile):
        location("evaluate", "profile", profile, "a model profile, its name or its folder")
        profile = load_profile(profile, folder)
    attempts, cluster, difficulty, notes = _measured(profile, subset, folder)
    found = evaluate_attempts(attempts, cluster, asked, prices=prices, difficulty=difficulty, notes=notes, seed=seed)
    return Evaluations(profile.name, prices.origin, tuple(found))


@one_thread()
def evaluate_attempts(
    attempts: Attempts,
    cluster: I64,
    strategies: Sequence[Strategy],
    *,
    prices: TokenPrices = ANY_PRICE,
    difficulty: F64 | None = None,
    notes: Sequence[str] = (),
    seed: int = 1,
) -> list[Evaluation]:
    """The same of attempts at hand.

    Args:
        attempts: at least one at each problem.
        cluster: (P,) what is resampled together, 0 to k - 1.
        strategies, prices, seed: as for :func:`evaluate`.
        difficulty: (P,) predicted, to give figures by.
        notes: to add to those of each strategy.
    """
    problems = len(attempts.count)
    table = Resampler.of(cluster)
    found = []
    for strategy in strategies:
        each = _draws_each(strategy, attempts, seed)
        owner = np.repeat(np.arange(problems), each)
        trial = seeded_trial(attempts, owner, seed, "evaluate")
        outcome = carry_out(strategy, trial)
        modelled = modelled_share(outcome, trial)
        answers_modelled = strategy.votes and attempts.answer is None
        means = _by_problem(outcome, prices, owner, problems, each)
        doubt = dict.fromkeys(means, np.zeros(problems))
        if modelled or answers_modelled:
            less, more = (
                _by_problem(carry_out(strategy, replace(trial, doubted=by)), prices, owner, problems, each)
                for by in (-1.0, 1.0)
            )
            doubt = {name: (more[name] - less[name]) / 2 for name in means}
        cost = _bill(outcome, prices)
        positive = cost[cost > 0]
        intervals = {
            name: mean_interval(means[name], table, float(abs(doubt[name].mean())))
            for name in ("tokens_per_request", "cost_usd_per_request", "tokens_in_a_row")
        }
        said = [*notes, *_said(strategy, attempts, modelled, answers_modelled)]
        found.append(
            Evaluation(
                strategy=repr(strategy),
                accuracy=share_interval(means["correct"], table, float(abs(doubt["correct"].mean()))),
                tokens_per_request=intervals["tokens_per_request"].value,
                cost_usd_per_request=intervals["cost_usd_per_request"].value,
                cost_spread=float(np.quantile(positive, 0.99) / np.quantile(positive, 0.5)) if len(positive) else 1.0,
                tokens={
                    "prompt": float(outcome.prompt_tokens.mean()),
                    "reasoning": float(outcome.reasoning_tokens.mean()),
                    "visible": float(outcome.visible_tokens.mean()),
                },
                tokens_in_a_row=intervals["tokens_in_a_row"].value,
                by_band=_bands(difficulty, table, means, doubt["correct"]),
                problems=problems,
                notes=tuple(said),
                modelled_share=modelled,
                intervals=intervals,
            )
        )
    return found


def _draws_each(strategy: Strategy, attempts: Attempts, seed: int) -> int:
    """Requests drawn of each problem, by how many samples one takes."""
    one = seeded_trial(attempts, np.zeros(1, dtype=np.int64), seed, "evaluate")
    samples = max(carry_out(strategy, one).samples, 1)
    return max(_LEAST, -(-min(_DRAWS, _SAMPLES // samples) // len(attempts.count)))


def _several(strategies: object, code: Code) -> list[Strategy]:
    """The strategies that were asked for, of one or of several."""
    given: dict[str, Any] = {"strategies": strategies}
    if isinstance(strategies, Iterable) and not isinstance(strategies, (str, bytes, Mapping, Strategy)):
        given = {f"strategies[{k}]": one for k, one in enumerate(strategies)}
    if not given:
        raise InputError("evaluate", "strategies", strategies, "at least one strategy")
    return [as_strategy(one, where="evaluate", field=field, allow_code=code) for field, one in given.items()]


def _by_problem(outcome: Outcome, prices: TokenPrices, owner: I64, problems: int, each: int) -> dict[str, F64]:
    """Means of each problem's requests."""
    hidden, shown = outcome.reasoning_tokens, outcome.visible_tokens
    row = np.zeros(len(owner))
    for stage in outcome.stages:
        row += np.where(stage.runs, np.add(*stage.cut_tokens).max(axis=1), 0)
    values = {
        "correct": outcome.correct,
        "tokens_per_request": hidden + shown,
        "cost_usd_per_request": _bill(outcome, prices),
        "tokens_in_a_row": row,
    }
    return {
        name: np.bincount(owner, weights=np.asarray(one, dtype=np.float64), minlength=problems) / each
        for name, one in values.items()
    }


def _bill(outcome: Outcome, prices: TokenPrices) -> F64:
    """US dollars of each request, call by call."""
    total = np.zeros(len(outcome.correct))
    for stage in outcome.stages:
        hidden, shown = (tokens.sum(axis=1) for tokens in stage.cut_tokens)
        total += np.where(stage.runs, prices.cost_usd(stage.prompt_tokens, 0, hidden, shown, stage.calls), 0.0)
    return total


def _said(strategy: Strategy, attempts: Attempts, modelled: float, answers_modelled: bool) -> list[str]:
    """What a reader of the strategy's figures must know."""
    said = []
    if answers_modelled:
        said.append("votes by a model of how wrong answers agree: no recorded answers")
    if strategy.verifiers:
        said.append("a verifier's tokens are billed at the same price")
    if modelled:
        said.append(f"{MODELLED}: {modelled:.0%} of those of {strategy!r}")
    stopped = max((attempts.stopped_before(cap) for cap in strategy.attempt_caps), default=0.0)
    if stopped:
        said.append(f"{LIMITED}: {100 * stopped:.2g}% of all")
    return said


def _bands(difficulty: F64 | None, table: Resampler, means: Mapping[str, F64], doubt: F64) -> dict[str, dict[str, Any]]:
    if difficulty is None:
        return {}
    edges = DIFFICULTY_BANDS
    band = np.clip(np.digitize(difficulty, edges[1:-1]), 0, len(edges) - 2)
    out = {}
    for k in range(len(edges) - 1):
        here = band == k
        if not here.any():
            continue
        accuracy = share_interval(means["correct"][here], table.restricted(here), float(abs(doubt[here].mean())))
        out[f"{edges[k]:.1f}-{edges[k + 1]:.1f}"] = {
            "problems": int(here.sum()),
            "accuracy": asdict(accuracy),
            "tokens_per_request": float(means["tokens_per_request"][here].mean()),
            "cost_usd_per_request": float(means["cost_usd_per_request"][here].mean()),
        }
    return out


def _measured(
    profile: Profile, subset: str | None, folder: str | Path | None
) -> tuple[Attempts, I64, F64 | None, list[str]]:
    """Attempts on the problems measured, what is resampled together, and predicted difficulty."""
    measured = profile.attempts.select(pl.col("problem").unique().sort())
    notes: list[str] = []
    difficulty: F64 | None = None
    cluster = measured["problem"]
    if profile.card.problem_set is None:
        if subset is not None:
            raise InputError(profile.name, "subset", subset, "a profile that belongs to a problem set")
    else:
        problem_set = load_problem_set(profile.card.problem_set, folder)
        table = problem_set.problems
        if subset is not None:
            known = table["subset"].unique().to_list()
            if subset not in known:
                raise InputError(profile.name, "subset", subset, nearest(subset, known))
            table = table.filter(pl.col("subset") == subset)
        measured = table.join(measured, on="problem", how="semi", maintain_order="left")
        if measured.is_empty():
            raise InputError(profile.name, "subset", subset, "problems that the profile was measured on")
        by_group = problem_set.card.cluster == "group"
        cluster = measured["group" if by_group else "problem"]
        if "difficulty" in measured.columns and measured["difficulty"].null_count() == 0:
            difficulty = measured["difficulty"].to_numpy().astype(np.float64)
    if profile.card.reasoning == "filled":
        notes.append(f"thinking lengths are not its own: {profile.card.reasoning_source}")
    codes = np.unique(cluster.to_numpy().astype(np.str_), return_inverse=True)[1].astype(np.int64)
    expected = predicted(measured, profile.name) if isinstance(measured, pl.DataFrame) else None
    return align(profile, measured["problem"], expected), codes, difficulty, notes
