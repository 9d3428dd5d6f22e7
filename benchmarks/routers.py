"""Ways to route, side by side on the shipped problems: ``python -m benchmarks.routers [--scenario NAME] [--json FILE]``.

``bands`` of one predicted score, the policy ``Utility``, ridge regression of every (model, cap)'s quality and cost on embeddings of
the prompt (the choice of model and budget together of R2-Router), one mixture of arms for all, and an oracle that knows the
outcomes. Each is fitted on four fifths of the problems and judged on the rest, five times over; scores are out of fold
themselves. A grid of prices of a right answer gives each a curve of accuracy over cost. The figure is the mean accuracy over costs
evenly spaced on a logarithmic axis from the cheapest to the dearest arm, and intervals resample task types or problems.
``--encoder`` adds ridge regression on all-MiniLM-L6-v2 embeddings, and ``Utility`` by the scores of the predictor that uses it.

Needs the prompts (``../shared``) for the embeddings; without them it says so and ends.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.base.estimates import Estimate, Resampler
from ttc_sim.files.writing import write_atomically
from ttc_sim.optimizer.proposing.bands import candidate_scores
from ttc_sim.optimizer.space import expanded_model
from ttc_sim.policies import Utility
from ttc_sim.predictor.learning.text_encoder import installed_encoder, read_text_encoder, vectors_of
from ttc_sim.scenario import load_scenario
from ttc_sim.scenario.document import Tier
from ttc_sim.simulation.expectations import Expectations, expect_arms
from ttc_sim.simulation.expected_times import expected_seconds, first_guess
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.response_fit import fit_responses, gpu_price

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SCENARIOS = {"reasoning-gateway": "reasoning-gym", "qa-gateway": "mmlu-pro"}
FOLDS = 5
PRICES = np.geomspace(1e-5, 3.0, 60)  # US dollars a right answer
LEVELS = 40  # costs between the cheapest and the dearest arm
DIMENSIONS = 256


@dataclass(frozen=True)
class Case:
    """A scenario's arms on its problems, every second of a GPU charged at what it costs in a loaded pool.

    Attributes:
        correct, cost: (V, P), with -inf and inf where not offered.
    """

    expectations: Expectations
    correct: F64
    cost: F64
    embedding: F64


def load(name: str, prompts: Path, tier: Tier) -> Case:
    scenario = load_scenario(name).model_copy(update={"predictor": tier})
    expectations = expect_arms(expanded_model(load_model(scenario)))
    price = gpu_price(expectations.model)
    charge = np.array([price.get(arm.deployment, 0.0) for arm in expectations.model.arms])
    cost = expectations.api_cost_usd + charge[:, None] * expectations.gpu_s
    offered = expectations.offered[:, expectations.population.source]
    return Case(
        expectations=expectations,
        correct=np.where(offered, expectations.correct, -np.inf),
        cost=np.where(offered, cost, np.inf),
        embedding=embed(expectations.population.problem.tolist(), prompts, tier),
    )


def embed(problems: Sequence[str], prompts: Path, tier: Tier) -> F64:
    """A text encoder's vectors, or latent semantic analysis of hashed words and characters; sees prompts only, never an outcome."""
    table = pl.read_parquet(prompts)
    text = dict(zip(_keys(table), table["prompt"].to_list(), strict=True))
    asked = [text[key] for key in problems]
    if tier == "encoder":
        encoder = read_text_encoder(installed_encoder())
        return vectors_of(encoder, asked, 2, lambda line: print(line, end="\r", flush=True)).astype(np.float64)
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import Normalizer

    words = HashingVectorizer(ngram_range=(1, 2), n_features=2**16, alternate_sign=False)
    characters = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), n_features=2**16, alternate_sign=False)
    hashed = make_union(words, characters)
    made = make_pipeline(
        hashed, TfidfTransformer(sublinear_tf=True), TruncatedSVD(DIMENSIONS, n_iter=3, random_state=0), Normalizer()
    )
    return np.asarray(made.fit_transform([prompt[:4000] for prompt in asked]), dtype=np.float64)


def _keys(table: pl.DataFrame) -> list[str]:
    plain = table["problem_id" if "problem_id" in table.columns else "problem"].cast(pl.String)
    if "dataset" not in table.columns:
        return plain.to_list()
    return (table["dataset"] + "/" + plain).to_list()


# ------------------------------------------------------------------------------------------------------ routers


def by_oracle(case: Case, train: I64) -> I64:
    """(prices, P) arms chosen, knowing the outcomes."""
    return np.array([_best(price * case.correct - case.cost) for price in PRICES])


def by_utility(case: Case, train: I64) -> I64:
    population = case.expectations.population
    weight = np.zeros(len(population))
    weight[train] = population.weight[train]
    seconds = expected_seconds(case.expectations, first_guess(case.expectations.model))
    responses = fit_responses(case.expectations, seconds, weight)
    requests = replace(population, responses=responses).as_requests()
    names = case.expectations.model.arm_names
    return np.array([Utility(float(price)).choose(requests, names) for price in PRICES])


def by_ridge(case: Case, train: I64) -> I64:
    from sklearn.linear_model import RidgeCV

    population = case.expectations.population
    source = np.eye(len(population.sources))[population.source]
    x = np.column_stack([case.embedding, source, np.log(population.prompt_tokens)])
    value, cost = np.full(case.correct.shape, -np.inf), np.full(case.cost.shape, np.inf)
    for v in range(len(value)):
        able = np.isfinite(case.correct[v])
        rows = train[able[train]]
        alphas = np.geomspace(0.01, 1000, 11)
        value[v, able] = RidgeCV(alphas).fit(x[rows], case.correct[v, rows]).predict(x[able])
        bill = RidgeCV(alphas).fit(x[rows], np.log(case.cost[v, rows])).predict(x[able])
        # The mean of the bills over that of the exponentials undoes what the logarithm hides.
        smear = case.cost[v, rows].mean() / np.exp(bill[np.isin(np.flatnonzero(able), rows)]).mean()
        cost[v, able] = np.exp(bill) * smear
    return np.array([_best(price * value - cost) for price in PRICES])


def by_bands(case: Case, train: I64) -> I64:
    """The best bands at each price, by dynamic programming over quantile bands of each score."""
    population, search = case.expectations.population, case.expectations.model.scenario.search
    out = np.zeros((len(PRICES), len(population)), dtype=np.int64)
    for s in range(len(population.sources)):
        here = population.source == s
        able = np.flatnonzero(case.expectations.offered[:, s])
        rows = train[here[train]]
        for k, price in enumerate(PRICES):
            best, chosen = -np.inf, np.zeros(int(here.sum()), dtype=np.int64)
            value = (price * case.correct[:, rows] - case.cost[:, rows])[able]
            for name in candidate_scores(case.expectations, search):
                score = population.scores[name]
                edges = np.unique(np.quantile(score[rows], np.linspace(0, 1, search.bands + 1)[1:-1]))
                band = np.searchsorted(edges, score[rows], side="right")
                sums = np.array([np.bincount(band, weights=row, minlength=len(edges) + 1) for row in value])
                found, arms = _bands(sums, search.max_bands)
                if found > best:
                    best, chosen = found, able[arms][np.searchsorted(edges, score[here], side="right")]
            out[k, here] = chosen
    return out


def _bands(sums: F64, most: int) -> tuple[float, I64]:
    """Best value, and arm of each band, of a walk over the bands (arms, bands) in at most ``most`` strides."""
    arms, bands = sums.shape
    upto = np.concatenate([np.zeros((arms, 1)), np.cumsum(sums, axis=1)], axis=1)
    value = np.full((most + 1, bands + 1), -np.inf)
    value[:, 0] = 0.0
    came = np.zeros((most + 1, bands + 1, 2), dtype=np.int64)
    for m in range(1, most + 1):
        for last in range(1, bands + 1):
            stride = upto[:, [last]] - upto[:, :last] + value[m - 1, :last]
            arm, first = np.unravel_index(int(np.argmax(stride)), stride.shape)
            value[m, last], came[m, last] = stride[arm, first], (arm, first)
    chosen, last, m = np.zeros(bands, dtype=np.int64), bands, most
    while last > 0:
        arm, first = came[m, last]
        chosen[first:last], last, m = arm, int(first), m - 1
    return float(value[most, bands]), chosen


def by_source(case: Case, train: I64) -> I64:
    """No predictor: for each source the arm that is worth most at the price; between two prices, a mixture."""
    population = case.expectations.population
    out = np.zeros((len(PRICES), len(population)), dtype=np.int64)
    for s in range(len(population.sources)):
        rows = train[population.source[train] == s]
        right, bill = case.correct[:, rows].mean(axis=1), case.cost[:, rows].mean(axis=1)
        out[:, population.source == s] = np.array([_best(price * right - bill) for price in PRICES])[:, None]
    return out


def _best(value: F64) -> I64:
    arm: I64 = np.where(np.isnan(value), -np.inf, value).argmax(axis=0)
    return arm


ROUTERS: dict[Tier, dict[str, Callable[[Case, I64], I64]]] = {
    "fast": {
        "no predictor": by_source,
        "bands": by_bands,
        "ridge on embeddings": by_ridge,
        "utility": by_utility,
        "oracle": by_oracle,
    },
    "encoder": {"ridge on MiniLM embeddings": by_ridge, "utility, encoder": by_utility},
}


# ------------------------------------------------------------------------------------------------------- curves


def held_out(case: Case, tier: Tier) -> dict[str, tuple[F64, F64]]:
    """By router of a tier, (prices, P) accuracy and cost of each problem where the router was fitted without it."""
    population = case.expectations.population
    fold = (uniforms(0, "router folds", len(population))[:, 0] * FOLDS).astype(np.int64)
    at = np.arange(len(population))
    found = {}
    for name, route in ROUTERS[tier].items():
        arm = np.zeros((len(PRICES), len(population)), dtype=np.int64)
        for k in range(FOLDS):
            arm[:, fold == k] = route(case, np.flatnonzero(fold != k))[:, fold == k]
        found[name] = case.correct[arm, at], case.cost[arm, at]
    return found


def areas(accuracy: F64, cost: F64, low: float, high: float) -> tuple[F64, F64]:
    """Mean accuracy over costs (evenly spaced logarithms), and accuracy at a quarter, half and three quarters of the way.

    Args:
        accuracy, cost: (resamples, prices) of a router.
    """
    levels = np.geomspace(low, high, LEVELS)
    marks = low * (high / low) ** np.array([0.25, 0.5, 0.75])
    mean, at = np.empty(len(accuracy)), np.empty((len(accuracy), 3))
    for k, (right, bill) in enumerate(zip(accuracy, cost, strict=True)):
        order = np.argsort(bill)
        # Whoever may spend more may also spend less.
        best = np.maximum.accumulate(right[order])
        # Between two points lies a mixture of them, which is linear in dollars.
        mean[k] = np.interp(levels, bill[order], best).mean()
        at[k] = np.interp(marks, bill[order], best)
    return mean, at


def measure(name: str, tiers: Sequence[Tier]) -> dict[str, object]:
    cases = {tier: load(name, SHARED / SCENARIOS[name] / "problems.parquet", tier) for tier in tiers}
    case = cases["fast"]
    population = case.expectations.population
    resampler = Resampler.of(population.cluster)
    arm_cost = np.array([np.average(bill[np.isfinite(bill)]) for bill in case.cost])
    low, high = float(arm_cost.min()), float(arm_cost.max())
    figures: dict[str, tuple[F64, F64]] = {}
    curves = {router: curve for tier, one in cases.items() for router, curve in held_out(one, tier).items()}
    for router, (right, bill) in curves.items():
        both = []
        for values in (right, bill):
            means = [resampler.mean(row, population.source, population.share) for row in values]
            # The full sample first, then its resamples.
            both.append(np.array([np.concatenate([[value], resampled]) for value, resampled in means]).T)
        figures[router] = areas(both[0], both[1], low, high)
    said: dict[str, object] = {"problems": len(population), "cost_from_usd": low, "cost_to_usd": high}
    mine = figures["utility"]
    for router, (mean, at) in figures.items():
        said[router] = {
            "mean_accuracy": _estimate(mean),
            "utility_gains": _estimate(mine[0] - mean),
            "accuracy_at_quarter_half_three_quarters": [_estimate(at[:, k]) for k in range(3)],
        }
    return said


def _estimate(values: F64) -> dict[str, float]:
    found = Estimate.around(float(values[0]), float(values[1:].std()))
    return {"value": found.value, "low": found.low, "high": found.high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenario", choices=list(SCENARIOS), help="one of them only")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--encoder", action="store_true", help="with the text encoder; minutes")
    given = parser.parse_args()
    tiers: list[Tier] = ["fast", "encoder"] if given.encoder else ["fast"]
    if not SHARED.is_dir():
        print("skipped: embeddings need the prompts of the measured data, which is not beside this checkout")
        return
    console, figures = Console(width=120), {}
    for name in [given.scenario] if given.scenario else SCENARIOS:
        figures[name] = said = measure(name, tiers)
        table = Table(title=f"{name}: {said['problems']:,} problems, held out; 95% intervals")
        for column in ("router", "mean accuracy over costs", "Utility gains", "at 1/4, 1/2, 3/4 of the way"):
            table.add_column(column, justify="left" if column == "router" else "right")
        for router in (router for tier in tiers for router in ROUTERS[tier]):
            one = said[router]
            assert isinstance(one, dict)
            table.add_row(
                router,
                _percent(one["mean_accuracy"]),
                _percent(one["utility_gains"]),
                ", ".join(f"{100 * x['value']:.1f}%" for x in one["accuracy_at_quarter_half_three_quarters"]),
            )
        console.print(table)
    if given.json is not None:
        write_atomically(given.json, json.dumps(figures, indent=2) + "\n")


def _percent(figure: dict[str, float]) -> str:
    return f"{100 * figure['value']:.1f} ({100 * figure['low']:.1f} to {100 * figure['high']:.1f})"


if __name__ == "__main__":
    main()
