"""What a few graded examples of a new task type are worth: ``python -m benchmarks.adapting [--keep FOLDER] [--json FILE]``.

Predictors of the shipped kind are trained five times, each without a fifth of the task types (Reasoning Gym's tasks, MMLU-Pro's
subjects). Each left-out type in turn is new: 5, 10, 30 or 100 of its problems, drawn at random, with one attempt of each model at
each, are the examples of :func:`ttc_sim.predictor.learning.shifting.learn_shift`; the type's other problems judge it, and all other
types of the data set tell what happens elsewhere. The constants of the shift were chosen on the types of the first two folds;
no choice saw those of the other three. Intervals resample task types.

Dollars: responses of the scenario's arms are fitted on the types that are known, and new problems are routed by ``Utility`` at a
grid of prices, once by the scores before and once by those after. What it costs, by expectation over the measured attempts, to
recover a half and four fifths of the gap between the cheapest arm's accuracy and the most accurate arm's, is interpolated.

Needs the prompts (``../shared``); without them it says so and ends. Training takes some minutes; ``--keep`` holds the trained
predictors for the next run.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy import sparse
from scipy.special import expit, logit

from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.base.estimates import Estimate, Resampler
from ttc_sim.base.threads import one_thread
from ttc_sim.files.writing import write_atomically
from ttc_sim.optimizer.space import expanded_model
from ttc_sim.policies.predicted import predict
from ttc_sim.predictor import Predictor
from ttc_sim.predictor.judging.card_figures import read_card
from ttc_sim.predictor.judging.metrics import auroc
from ttc_sim.predictor.learning import train
from ttc_sim.predictor.learning.calibration import Raw
from ttc_sim.predictor.learning.data import TrainingSet
from ttc_sim.predictor.learning.embedding import counts_of, scale
from ttc_sim.predictor.learning.export import NEARNESS, to_onnx
from ttc_sim.predictor.learning.network import Recipe
from ttc_sim.predictor.learning.shifted_graph import TOKENS, landmarks, with_outputs
from ttc_sim.predictor.learning.shifting import Graded, learn_shift, spread_of
from ttc_sim.predictor.reading.features import featurize_rows
from ttc_sim.predictor.running.session import SHIPPED
from ttc_sim.scenario import load_scenario
from ttc_sim.simulation.expectations import expect_arms
from ttc_sim.simulation.expected_times import expected_seconds, first_guess
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.response_fit import fit_responses, gpu_price

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
SCENARIOS = {"reasoning-gym": "reasoning-gateway", "mmlu-pro": "qa-gateway"}
EXAMPLES = (5, 10, 30, 100)
REST = 20  # problems that a type must have left to be judged on
CHOSEN_ON = (0, 1)
GAPS = (0.5, 0.8)  # parts of the gap between the cheapest arm's accuracy and the most accurate arm's
PRICES = np.geomspace(1e-5, 3.0, 120)  # US dollars a right answer


def measured_sets() -> dict[str, TrainingSet]:
    """The training sets of the shipped predictors, as ``scripts/train_predictor.py`` reads them."""
    spec = importlib.util.spec_from_file_location("train_predictor", ROOT / "scripts" / "train_predictor.py")
    assert spec is not None
    assert spec.loader is not None
    script: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return {name: script.load_set(name)[0] for name in script.SOURCES}


def train_folds(sets: dict[str, TrainingSet], parts: list[train.Prepared], folder: Path) -> list[Path]:
    """One predictor for each fold of task types, trained and calibrated without it."""
    files = [folder / f"fold{k}.onnx" for k in range(train.FOLDS)]
    if all(file.is_file() for file in files):
        return files
    card = read_card(SHIPPED)
    recipes = [Recipe(**card["metrics"][name]["network"]) for name in sets]
    said: dict[bool, list[list[Raw]]] = {True: [], False: []}
    models = []
    for by_group in (True, False):
        for k in range(train.FOLDS):
            folds = [train.folds_of(part, by_group) for part in parts]
            model = train.fit_model(parts, [fold != k for fold in folds], recipes, 0)
            encoded = [model.encoder(part.features.rows(fold == k)) for part, fold in zip(parts, folds, strict=True)]
            said[by_group].append([expert.raw(x) for expert, x in zip(model.experts, encoded, strict=True)])
            if by_group:
                models.append(model)
            print(f"{'task types' if by_group else 'problems'} left out: fold {k + 1} of {train.FOLDS}", flush=True)
    new, unseen = (
        [Raw.assembled([fold[at] for fold in said[g]], train.folds_of(part, g)) for at, part in enumerate(parts)]
        for g in (False, True)
    )
    for k, (model, file) in enumerate(zip(models, files, strict=True)):
        experts = [
            train.finished(expert, part, a, b, part.by_group != k)
            for part, expert, a, b in zip(parts, model.experts, new, unseen, strict=True)
        ]
        file.write_bytes(to_onnx(train.Model(model.encoder, tuple(experts))))
    return files


@dataclass(frozen=True)
class Said:
    """What a predictor says of all problems of a set, and where they lie in it.

    Attributes:
        scores: of all heads; heads: columns of the set's models in them; known: (n, sets); index: of this set.
    """

    scores: dict[str, F64]
    heads: slice
    points: F64
    known: F64
    words: sparse.csr_matrix
    index: int


def say(file: Path, data: TrainingSet, index: int) -> Said:
    """Run a fold's predictor."""
    from onnx import load_model as load_onnx

    made = load_onnx(str(file))
    at = landmarks(made, file)
    with tempfile.TemporaryDirectory() as folder:
        beside = Path(folder) / "seen.onnx"
        beside.write_bytes(with_outputs(made, [at.points, at.known]))
        predictor = Predictor.load(beside, device="cpu")
        found = predictor.outputs(data.prompts, ["p", *TOKENS, "difficulty", "novelty", at.points, at.known])
    words = scale(counts_of(featurize_rows(data.prompts)), at.idf)
    first = predictor.heads.index(data.heads[0])
    return Said(found, slice(first, first + len(data.heads)), found[at.points], found[at.known], words, index)


@dataclass(frozen=True)
class Moved:
    """Scores after adapting to one type: ``p`` (n, H), factor on tokens (n, H), gate (n,)."""

    p: F64
    factor: F64
    opened: F64


def adapted(said: Said, data: TrainingSet, rows: I64, drawn: F64) -> Moved:
    """Learn from examples ``rows``, one attempt of each model at each; ``drawn`` (E, H) picks it."""
    tries = data.tries[rows].astype(np.int64)
    start = (np.cumsum(data.tries.ravel()) - data.tries.ravel()).reshape(data.tries.shape)[rows].astype(np.int64)
    pick = np.minimum(start + (drawn * np.maximum(tries, 1)).astype(np.int64), len(data.row) - 1)
    share, log_mean = (
        np.where(tries > 0, values[pick], np.nan) for values in (data.correct.astype(np.float64), np.log(data.tokens))
    )
    p, median, p90 = (said.scores[name][:, said.heads] for name in ("p", "tokens_p50", "tokens_p90"))
    known = said.known.max(axis=1)
    z = logit(np.clip(p, 1e-6, 1 - 1e-6))
    here = (
        said.points[rows],
        known[rows],
        said.words[rows],
        z[rows],
        share,
        np.log(median[rows]),
        spread_of(median[rows], p90[rows]),
    )
    shift = learn_shift(Graded(*here, log_mean))
    likeness = shift.likeness(said.points)
    opened = shift.gate(likeness, known, said.words)
    after = np.where(opened[:, None] > 0, expit(z + opened[:, None] * shift.chance(likeness)), p)
    return Moved(after, np.exp(opened[:, None] * shift.tokens(likeness)), opened)


class Routes:
    """Routing of one fold's new problems, by responses that were fitted on the others."""

    def __init__(self, name: str, data: TrainingSet, new: NDArray[np.bool_]) -> None:
        model = expanded_model(load_model(load_scenario(SCENARIOS[name])))
        self.expectations = expect_arms(model)
        population = self.expectations.population
        place = {problem: k for k, problem in enumerate(data.problems)}
        self.row = np.array([place.get(problem, -1) for problem in population.problem.tolist()])
        weight = np.where((self.row >= 0) & ~new[self.row], population.weight, 0)
        seconds = expected_seconds(self.expectations, first_guess(model))
        self.responses = fit_responses(self.expectations, seconds, weight)
        charge = gpu_price(model)
        usd = np.array([charge.get(arm.deployment, 0.0) for arm in model.arms])
        self.cost = self.expectations.api_cost_usd + usd[:, None] * self.expectations.gpu_s

    def __call__(self, said: Said, data: TrainingSet, moved: Moved | None, keep: NDArray[np.bool_]) -> F64:
        """(2, prices + arms) mean accuracy and cost of the kept problems at each price, and on each arm alone."""
        population = self.expectations.population
        at = np.flatnonzero((self.row >= 0) & keep[self.row])
        part = population.restricted(np.isin(np.arange(len(population)), at))
        rows, scores = self.row[at], dict(part.scores)
        p = said.scores["p"].copy()
        if moved is not None:
            p[:, said.heads] = moved.p
        for k, head in enumerate(data.heads):
            scores[f"p:{head}"] = p[rows, said.heads][:, k]
            for kind in TOKENS:
                tokens = said.scores[kind][rows, said.heads][:, k]
                scores[f"{kind}:{head}"] = tokens * (1.0 if moved is None else moved.factor[rows, k])
        weights = np.exp((said.known[rows].clip(0, 1) - 1) / NEARNESS)
        gain = (said.scores["p"] - p)[rows, said.heads].mean(axis=1)
        change = weights[:, said.index] / weights.sum(axis=1) * gain
        scores["difficulty"] = np.clip(said.scores["difficulty"][rows] + change, 0, 1)
        scores["novelty"] = said.scores["novelty"][rows]
        requests = replace(part, scores=scores, responses=self.responses).as_requests()
        best = np.full((len(PRICES), len(rows)), -np.inf)
        chosen = np.zeros(best.shape, dtype=np.int64)
        for one in predict(self.responses, requests, self.expectations.model.arm_names):
            usd = one.api_cost_usd + one.gpu_usd_per_s * one.gpu_s
            value = np.where(one.offered, PRICES[:, None] * one.correct - usd, -np.inf)
            chosen, best = np.where(value > best, one.arm, chosen), np.maximum(value, best)
        w = population.weight[at] / population.weight[at].sum()
        both = (self.expectations.correct, self.cost)
        return np.stack([np.concatenate([values[chosen, at] @ w, values[:, at] @ w]) for values in both])


@dataclass
class Figures:
    """Of one type and number of examples, means over the draws."""

    fold: int
    brier: tuple[float, float]
    auroc: tuple[float, float]
    log_tokens: tuple[float, float]
    opened: float
    elsewhere: tuple[float, float, float, float]
    routed: tuple[F64, F64]


def measure_type(
    said: Said, data: TrainingSet, routes: Routes, fold: int, mine: I64, count: int, draws: int
) -> Figures:
    """Examples drawn several times from one type, and what became of its other problems and of the other types."""
    p, share = said.scores["p"][:, said.heads], data.share
    name = data.groups[mine[0]] if data.groups is not None else ""
    other = np.ones(len(p), dtype=bool)
    other[mine] = False
    found: list[list[Any]] = []
    for d in range(draws):
        order = np.argsort(uniforms(d, f"examples/{name}", len(mine))[:, 0], kind="stable")
        rows, rest = mine[order[:count]], mine[order[count:]]
        drawn = uniforms(d, f"attempts/{name}", len(mine), p.shape[1])[order[:count]]
        moved = adapted(said, data, rows, drawn)
        median = said.scores["tokens_p50"][:, said.heads]
        keep = np.zeros(len(p), dtype=bool)
        keep[rest] = True
        change = np.abs(moved.p - p)[other]
        found.append(
            [
                *(_brier(q[rest], share[rest]) for q in (p, moved.p)),
                *(_auroc(q[rest], share[rest]) for q in (p, moved.p)),
                *(_off(np.log(m[rest]), data.log_mean[rest]) for m in (median, median * moved.factor)),
                moved.opened[rest].mean(),
                (moved.opened[other] > 0).mean(),
                change.mean(),
                _brier(moved.p[other], share[other]) - _brier(p[other], share[other]),
                change.max(),
                routes(said, data, None, keep),
                routes(said, data, moved, keep),
            ]
        )
    mean = [np.mean([one[k] for one in found], axis=0) for k in range(len(found[0]))]
    *plain, before, after = mean
    f = [float(x) for x in plain]
    return Figures(fold, (f[0], f[1]), (f[2], f[3]), (f[4], f[5]), f[6], (f[7], f[8], f[9], f[10]), (before, after))


def _brier(p: F64, share: F64) -> float:
    return float(np.nanmean(share * (1 - p) ** 2 + (1 - share) * p**2))


def _auroc(p: F64, share: F64) -> float:
    """Mean over the models with both outcomes; ranks within the type."""
    known = [(p[~np.isnan(s), k], s[~np.isnan(s)]) for k, s in enumerate(share.T)]
    return float(np.mean([auroc(q, s) for q, s in known if len(s) and 0 < s.mean() < 1] or [0.5]))


def _off(predicted: F64, log_mean: F64) -> float:
    return float(np.nanmean(np.abs(predicted - log_mean)))


def measure(name: str, sets: dict[str, TrainingSet], files: list[Path], fold_of: I64, draws: int) -> Iterator[Any]:
    """By number of examples, the figures of all types of a set that have enough problems."""
    data = sets[name]
    groups = np.array(data.groups)
    found: dict[int, list[Figures]] = {count: [] for count in EXAMPLES}
    for k, file in enumerate(files):
        said = say(file, data, list(sets).index(name))
        routes = Routes(name, data, fold_of == k)
        for task in np.unique(groups[fold_of == k]):
            mine = np.flatnonzero(groups == task)
            for count in EXAMPLES:
                if len(mine) >= count + REST:
                    found[count].append(measure_type(said, data, routes, k, mine, count, draws))
        print(f"{name}: fold {k + 1} of {len(files)} measured", flush=True)
    yield from found.items()


def summarized(figures: list[Figures]) -> dict[str, Any]:
    """Means over types, with intervals that resample them."""
    boot = Resampler.of(np.arange(len(figures)))
    weight = np.vstack([np.ones(len(figures)), boot.weights])

    def mean(values: list[float]) -> dict[str, float]:
        resampled = weight @ np.array(values) / weight.sum(axis=1)
        return _estimate(resampled)

    # Each type counts the same: (resamples, 2, prices and arms).
    routed = [
        np.tensordot(weight / weight.sum(axis=1, keepdims=True), np.array([one.routed[side] for one in figures]), 1)
        for side in (0, 1)
    ]
    reached = {gap: np.array([[_cost_at(gap, *one) for one in side] for side in routed]) for gap in GAPS}
    return {
        "types": len(figures),
        "brier_before": mean([one.brier[0] for one in figures]),
        "brier_after": mean([one.brier[1] for one in figures]),
        "brier_gain": mean([one.brier[1] - one.brier[0] for one in figures]),
        "types_worse": int(sum(one.brier[1] > one.brier[0] for one in figures)),
        "worst": max(one.brier[1] - one.brier[0] for one in figures),
        "auroc_before": mean([one.auroc[0] for one in figures]),
        "auroc_after": mean([one.auroc[1] for one in figures]),
        "log_tokens_before": mean([one.log_tokens[0] for one in figures]),
        "log_tokens_after": mean([one.log_tokens[1] for one in figures]),
        "gate": mean([one.opened for one in figures]),
        "elsewhere_open": mean([one.elsewhere[0] for one in figures]),
        "elsewhere_change": mean([one.elsewhere[1] for one in figures]),
        "elsewhere_brier": mean([one.elsewhere[2] for one in figures]),
        "dollars": {
            f"{gap:.0%} of the gap": {
                "usd_per_1k_before": _estimate(1000 * before),
                "usd_per_1k_after": _estimate(1000 * after),
                "saved": _estimate(1 - after / before),
            }
            for gap, (before, after) in reached.items()
        },
    }


def _cost_at(gap: float, right: F64, bill: F64) -> float:
    """Least cost, mixtures of neighbouring prices included, that recovers a part of the gap in accuracy; NaN if out of reach."""
    arms = right[len(PRICES) :]
    low, high = arms[np.nanargmin(bill[len(PRICES) :])], np.nanmax(arms)
    order = np.argsort(bill[: len(PRICES)])
    best, usd = np.maximum.accumulate(right[order]), bill[order]
    wanted = low + gap * (high - low)
    if not best[0] <= wanted <= best[-1]:
        return float("nan")
    at = max(int(np.argmax(best >= wanted)), 1)
    return float(np.interp(wanted, best[at - 1 : at + 1], usd[at - 1 : at + 1]))


def _estimate(values: F64) -> dict[str, float]:
    """The full sample stands first, its resamples after it."""
    low, high = np.nanquantile(values[1:], [0.025, 0.975])
    found = Estimate(float(values[0]), float(low), float(high))
    return {"value": found.value, "low": found.low, "high": found.high}


@one_thread()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="folder of the trained predictors")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if not SHARED.is_dir():
        print("skipped: task types are left out of the measured data, which is not beside this checkout")
        return
    sets = measured_sets()
    parts = [train.prepare(data, 0) for data in sets.values()]
    by_group = dict(zip(sets, (part.by_group for part in parts), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        files = train_folds(sets, parts, given.keep or Path(folder))
        console, said = Console(width=150), {}
        for name in SCENARIOS:
            for count, figures in measure(name, sets, files, by_group[name], given.draws):
                for judged in (True, False):
                    kept = [one for one in figures if (one.fold not in CHOSEN_ON) == judged]
                    if kept:
                        key = f"{name}, {count} examples, {'judged' if judged else 'chosen on'}"
                        said[key] = summarized(kept)
    for title, columns in COLUMNS.items():
        table = Table(title=title)
        for heading in ("", *columns):
            table.add_column(heading, justify="right" if heading else "left", overflow="fold")
        for key, one in said.items():
            table.add_row(key, *(shown(one) for shown in columns.values()))
        console.print(table)
    if given.json is not None:
        write_atomically(given.json, json.dumps(said, indent=2) + "\n")


def _shown(one: dict[str, float], digits: int) -> str:
    return f"{one['value']:.{digits}f} ({one['low']:.{digits}f} to {one['high']:.{digits}f})"


def _two(name: str, digits: int) -> Callable[[dict[str, Any]], str]:
    return lambda one: f"{one[f'{name}_before']['value']:.{digits}f}, {one[f'{name}_after']['value']:.{digits}f}"


def _usd(gap: str) -> Callable[[dict[str, Any]], str]:
    def shown(one: dict[str, Any]) -> str:
        found = one["dollars"][gap]
        return f"{_two('usd_per_1k', 3)(found)}; {_shown(found['saved'], 2)}"

    return shown


COLUMNS: dict[str, dict[str, Callable[[dict[str, Any]], str]]] = {
    "task types left out of training": {
        "types (worse)": lambda one: f"{one['types']} ({one['types_worse']}, by {max(one['worst'], 0):.3f})",
        "Brier": _two("brier", 4),
        "gain": lambda one: _shown(one["brier_gain"], 4),
        "AUROC within": _two("auroc", 3),
        "log tokens off": _two("log_tokens", 2),
    },
    "elsewhere, and dollars": {
        "gate": lambda one: f"{one['gate']['value']:.2f}",
        "touched": lambda one: f"{one['elsewhere_open']['value']:.2%}",
        "change": lambda one: f"{one['elsewhere_change']['value']:.5f}",
        "Brier": lambda one: f"{one['elsewhere_brier']['value']:+.5f}",
        "$ per 1k at 50%; saved": _usd("50% of the gap"),
        "at 80%; saved": _usd("80% of the gap"),
    },
}


if __name__ == "__main__":
    main()
