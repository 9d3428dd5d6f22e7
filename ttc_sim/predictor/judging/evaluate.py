"""What a predictor is worth on problems with known outcomes, as a forecaster and as a router, beside cheap baselines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from ttc_sim.base.arguments import whole
from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.limits import MOST_SEED
from ttc_sim.base.progress import Progress, Step, Telling
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.base.threads import one_thread
from ttc_sim.policies import DIFFICULTY, NOVEL, NOVELTY
from ttc_sim.predictor import Predictor
from ttc_sim.predictor.judging import baselines as cheap
from ttc_sim.predictor.judging.card_figures import adapted_from, training_rates
from ttc_sim.predictor.judging.measured import Measured, data_models, heads_like, read_measured
from ttc_sim.predictor.judging.metrics import (
    RESAMPLES,
    Bootstrap,
    Quality,
    brier_by_part,
    clusters_of,
    compared,
)
from ttc_sim.predictor.judging.report import BaselineReport, ModelReport, Report, RouterReport
from ttc_sim.predictor.judging.routing import Routing, check_pair, routing
from ttc_sim.predictor.judging.shipped import is_shipped, scores_of_shipped
from ttc_sim.predictor.running.session import is_tier, model_path

FEWEST = 20
"""Problems below which a model's figures would say nothing; it is left out."""
Scores = Mapping[str, F64]
FoldsBy = Literal["text", "group"]


@shows_progress()
@one_thread()
def evaluate_predictor(
    problems: str | Path,
    attempts: str | Path,
    *,
    model: str | Path | None = None,
    weak: str | None = None,
    strong: str | None = None,
    out_of_fold: bool = False,
    subset: str | None = None,
    cluster: Literal["group", "problem"] | None = None,
    with_baselines: bool = True,
    folds_by: FoldsBy = "text",
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Telling = None,
) -> Report:
    """Evaluate a predictor.

    Args:
        problems, attempts: tables, see :func:`ttc_sim.predictor.judging.measured.read_measured`.
        model: ONNX file; the shipped one if left out.
        weak, strong: models to route between, by the data's names or profiles'.
        out_of_fold: instead of running the predictor, read the shipped scores of the shipped problems, each from a model that
            has not seen it; other problems are left out.
        subset: only problems of this dataset.
        cluster: what intervals resample; task types where the table names them, else problems.
        with_baselines: also the baselines of :mod:`ttc_sim.predictor.judging.baselines`, cross-validated here.
        folds_by: of the baselines: by ``text``, or whole task types or categories (``group``).
        resamples: for intervals; seed: of resamples and folds.

    Raises:
        InputError: tables that cannot be used, a model that is not there, two models that share no problem or of which the
            strong one is not the better.
    """
    say = telling("evaluate_predictor", progress)
    whole("evaluate", "resamples", resamples, 1, 100_000)
    whole("evaluate", "seed", seed, 0, MOST_SEED)
    if (weak is None) != (strong is None):
        raise InputError("evaluate", "weak and strong", weak or strong, "both --weak and --strong, or neither")
    data = read_measured(problems, attempts, subset=subset)
    if weak is not None and strong is not None:
        data, weak = _found(data, weak, "--weak", attempts)
        data, strong = _found(data, strong, "--strong", attempts)
        if weak == strong:
            raise InputError("evaluate", "--strong", strong, "another model than --weak")
    data, scores, notes = _scored(data, model, out_of_fold, say)
    both = np.zeros(0, dtype=np.int64)
    if weak is not None and strong is not None:
        both = np.flatnonzero(~np.isnan(data.share(weak)) & ~np.isnan(data.share(strong)))
        if not len(both):
            raise InputError(
                attempts, "--weak and --strong", f"{weak}, {strong}", "two models with attempts on the same problems"
            )
        check_pair(data.share(weak)[both], data.share(strong)[both], str(attempts))
    by = cluster or ("group" if data.group_is_task else "problem")
    if by == "group" and len(np.unique(data.group)) < 2:
        raise InputError(problems, "cluster", "group", "at least two task types or categories to resample")
    label = clusters_of(data.group if by == "group" else np.arange(len(data)))
    card = training_rates(model_path(model))
    guesses = _baselines(data, with_baselines, folds_by, seed, say, notes, problems)

    used: dict[str, str] = {}
    models: dict[str, ModelReport] = {}
    beside: dict[str, dict[str, Quality]] = {name: {} for name in guesses}
    for name in data.right:
        share = data.share(name)
        rows = np.flatnonzero(~np.isnan(share))
        if len(rows) < FEWEST:
            notes.append(f"{name}: {len(rows)} problems are too few for figures of its own")
            if name not in (weak, strong) or not len(rows):
                continue
        used[name], p = _score_of(name, scores, notes)
        if len(rows) < FEWEST:
            continue
        say(Step("judging", detail=f"{name}: {len(rows):,} problems"))
        bootstrap = Bootstrap(clusters_of(label[rows]), resamples, seed)
        rate, rate_from = card.get(used[name]), "the predictor's card: its training data"
        if rate is None:
            rate, rate_from = float(share[rows].mean()), "the data evaluated: the card names no training rate"
        predictions = {"": p[rows], **{other: found[name][rows] for other, found in guesses.items()}}
        figures, gain = compared(predictions, share[rows], bootstrap, rate=rate)
        for other in guesses:
            beside[other][name] = figures[other]
        by_novelty = None
        if NOVELTY in scores:
            novel = scores[NOVELTY][rows] >= NOVEL
            parts = {"familiar": ~novel, "novel": novel}
            by_novelty = brier_by_part(p[rows], share[rows], parts, bootstrap, rate=rate, fewest=FEWEST)
        models[name] = ModelReport(figures[""], used[name], rate_from, gain, by_novelty)

    router: RouterReport | None = None
    routed: dict[str, Routing | None] = dict.fromkeys(guesses)
    if weak is not None and strong is not None:
        say(Step(f"routing between {weak} and {strong}", detail=f"{len(both):,} problems"))
        bootstrap = Bootstrap(clusters_of(label[both]), resamples, seed)
        outcomes = data.share(weak)[both], data.share(strong)[both]
        said, score = router_score(scores, used[weak], used[strong])
        router = RouterReport(
            weak, strong, said, routing(score[both], *outcomes, bootstrap, where=str(attempts)), len(both)
        )
        for other, found in guesses.items():
            routed[other] = routing((found[strong] - found[weak])[both], *outcomes, bootstrap, where=str(attempts))
    return Report(
        predictor=_name_of(model) + (", out of fold" if out_of_fold else ""),
        problems=len(data),
        resampled=f"{len(np.unique(label)):,} {'task types or categories' if by == 'group' else 'problems'}",
        models=models,
        baselines={name: BaselineReport(beside[name], routed[name]) for name in guesses},
        router=router,
        notes=tuple(dict.fromkeys(notes)),
    )


def router_score(scores: Scores, weak: str, strong: str) -> tuple[str, F64]:
    """What to route by, highest to the strong model: how much likelier the strong one is to be right, where the predictor has
    a head for each; else the chance that the weak one is wrong.

    Args:
        scores: ``difficulty`` and ``p:HEAD``; weak, strong: heads, or ``1 - difficulty``.

    >>> router_score({"p:a": np.array([0.2]), "p:b": np.array([0.9])}, "a", "b")[0]
    'p:b - p:a'
    """
    if f"p:{weak}" in scores and f"p:{strong}" in scores and weak != strong:
        return f"p:{strong} - p:{weak}", scores[f"p:{strong}"] - scores[f"p:{weak}"]
    if f"p:{weak}" in scores:
        return f"1 - p:{weak}", 1 - scores[f"p:{weak}"]
    return DIFFICULTY, scores[DIFFICULTY]


def _found(data: Measured, name: str, option: str, where: str | Path) -> tuple[Measured, str]:
    """The data's own name of a model that the user named; a profile's several sources are pooled."""
    models = data_models(name, data.right)
    if not models:
        raise InputError(where, option, name, nearest(name, data.right))
    return (data, models[0]) if len(models) == 1 else (data.with_pooled(name, models), name)


def _scored(
    data: Measured, model: str | Path | None, out_of_fold: bool, progress: Progress
) -> tuple[Measured, dict[str, F64], list[str]]:
    if out_of_fold:
        if not is_tier(model):
            expected = "fast or encoder: only the shipped problems have out-of-fold scores, by these"
            raise InputError("evaluate", "--model", str(model), expected)
        return scores_of_shipped(data, model)
    notes = []
    bases = adapted_from(model_path(model))
    if bases:
        notes.append("the predictor was adapted: of the graded examples among these problems, this is a training score")
    if is_tier(model) or is_tier(next(iter(bases), "")):
        seen = int(is_shipped(data).sum())
        if seen:
            notes.append(
                f"{seen:,} of these {len(data):,} problems are in a shipped problem set: the shipped predictor was trained on "
                "them, so this is a training score; --out-of-fold scores each by a model that has not seen it"
                + ("" if is_tier(model) else ", with --model fast or encoder")
            )
    progress(Step(f"scoring {len(data):,} prompts"))
    found = Predictor.load(model).score(data.prompt).table()
    return data, {name: found[name].to_numpy().astype(np.float64) for name in found.columns}, notes


def _name_of(model: str | Path | None) -> str:
    if not is_tier(model):
        return str(model)
    return "the shipped predictor" + ("" if model is None else f" ({model})")


def _score_of(name: str, scores: Scores, notes: list[str]) -> tuple[str, F64]:
    """The head for a model, and its probabilities."""
    heads = heads_like(name, [score.removeprefix("p:") for score in scores if score.startswith("p:")])
    if not heads:
        notes.append(f"{name}: the predictor has no head for it; its score is 1 - difficulty")
        return "1 - difficulty", 1 - scores[DIFFICULTY]
    if len(heads) > 1:
        notes.append(f"{name}: several heads have this name; {heads[0]} is read, not {', '.join(heads[1:])}")
    return heads[0], scores[f"p:{heads[0]}"]


def _baselines(
    data: Measured,
    wanted: bool,
    folds_by: FoldsBy,
    seed: int,
    progress: Progress,
    notes: list[str],
    where: str | Path,
) -> dict[str, dict[str, F64]]:
    if not wanted:
        return {}
    if not cheap.available():
        notes.append(cheap.INSTALL)
        return {}
    if folds_by == "group":
        if len(np.unique(data.group)) < 2:
            raise InputError(
                where, "--folds-by", "group", "a column task, group, category or subject with two values or more"
            )
        fold = cheap.folds_of([str(group) for group in data.group], seed)
    else:
        fold = cheap.folds_of(data.prompt, seed)
    if len(np.unique(fold)) < 2:
        notes.append("the baselines are left out: there is too little data to cross-validate them")
        return {}
    notes.append(
        f"the baselines are cross-validated within this data: {len(np.unique(fold))} folds by "
        f"{'whole task type or category' if folds_by == 'group' else 'text'}, seed {seed}"
    )
    shares = {name: data.share(name) for name in data.right if data.tried[name].any()}
    found = cheap.baselines(data.prompt, data.group.tolist(), shares, fold, seed=seed, progress=progress)
    # A model with outcomes in one fold only cannot be learnt there: its own rate is all that is left.
    return {
        baseline: {name: np.where(np.isnan(p), np.nanmean(shares[name]), p) for name, p in guesses.items()}
        for baseline, guesses in found.items()
    }
