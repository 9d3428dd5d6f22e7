"""Train the predictor: out-of-fold first, to calibrate and to learn how far to trust it, then on everything."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64
from ttc_sim.base.progress import Counting, Progress, Step, silent
from ttc_sim.base.workers import processes
from ttc_sim.predictor.learning import embedding
from ttc_sim.predictor.learning.calibration import (
    Calibration,
    Prediction,
    Raw,
    Shrink,
    fit_calibration,
    fit_shrink,
    predict,
)
from ttc_sim.predictor.learning.data import TrainingSet
from ttc_sim.predictor.learning.encoding import (
    Encoded,
    Encoder,
    PromptFeatures,
    features_of,
    fit_encoder,
    joined,
    strangeness,
)
from ttc_sim.predictor.learning.network import LOG_SIGMA, RECIPES, Network, Recipe, Targets, train_network
from ttc_sim.predictor.learning.text_encoder import TextEncoder, vectors_of

F32 = NDArray[np.float32]
FOLDS = 5
CENTRES = 192


@dataclass(frozen=True)
class Expert:
    """What was learnt from one training set: its heads' network, where its prompts lie, and how far to trust it.

    Attributes:
        heads: names of the H models.
        centres: (c, w) unit vectors around which its prompts lie.
        rate: (H,) share of right attempts; location, spread: (H,) mean and spread of the logarithm of output tokens.
        usual: (2,) strangeness that 99.9% of its prompts keep within.
        calibration, shrink: of the H heads.
        edge, far: distances that 95% and 99% of new problems of known kinds keep within.
    """

    heads: tuple[str, ...]
    network: Network
    centres: F32
    rate: F64
    location: F64
    spread: F64
    usual: F64
    calibration: Calibration | None = None
    shrink: Shrink | None = None
    edge: float = 0.5
    far: float = 1.0

    def raw(self, seen: Encoded) -> Raw:
        """Uncalibrated predictions."""
        out = self.network(seen.x)
        heads = len(self.heads)
        full = (len(seen.x), heads)
        return Raw(
            logit=out[:, :heads],
            location=self.location + self.spread * out[:, heads : 2 * heads],
            log_sigma=np.log(self.spread) + np.clip(out[:, 2 * heads :], *LOG_SIGMA),
            novelty=embedding.novelty(seen.points, self.centres).astype(np.float64),
            strange=strangeness(seen.strange, self.usual),
            rate=np.broadcast_to(self.rate, full).copy(),
            base_location=np.broadcast_to(self.location, full).copy(),
            base_log_sigma=np.broadcast_to(np.log(self.spread), full).copy(),
        )


@dataclass(frozen=True)
class Model:
    """A trained predictor: one encoder, one expert for each training set."""

    encoder: Encoder
    experts: tuple[Expert, ...]


@dataclass(frozen=True)
class Held:
    """Predictions for problems of one training set by models that were not trained on them.

    Attributes:
        new: problems left out; unseen: whole task types left out. Both calibrated on other folds.
        shipped: problems left out, under the calibration and trust of the finished model: what new problems' scores look like.
        new_novelty, unseen_novelty: (n,) as in :class:`~ttc_sim.predictor.running.session.Scores`.
        constant: (n, H) training rate of the models that had not seen the task type.
    """

    new: Prediction
    unseen: Prediction
    shipped: Prediction
    new_novelty: F64
    unseen_novelty: F64
    constant: F64


@dataclass(frozen=True)
class Prepared:
    """A training set with its features, dealt into folds by text and by task type."""

    data: TrainingSet
    features: PromptFeatures
    by_text: I64
    by_group: I64


def prepare(data: TrainingSet, seed: int, vectors: F32 | None = None) -> Prepared:
    """Hash the prompts and deal them into folds, by text and by task type."""
    features = features_of(data.prompts, vectors)
    by_text = np.array([_hash(prompt) % FOLDS for prompt in data.prompts], dtype=np.int64)
    groups: Sequence[str] | I64 | None = data.groups
    if groups is None or len(set(groups)) < FOLDS:
        points = fit_encoder([features], seed)(features).points
        groups = embedding.nearest_centre(points, embedding.centres(points, 8 * FOLDS, seed))
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    # Dealt in turn from an order of their own, so that no fold is empty.
    order = np.argsort([_hash(str(name)) for name in names], kind="stable")
    fold = np.empty(len(names), dtype=np.int64)
    fold[order] = np.arange(len(names)) % FOLDS
    return Prepared(data, features, by_text, fold[index])


def _hash(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def fit_expert(data: TrainingSet, seen: Encoded, which: NDArray[np.bool_], recipe: Recipe, seed: int) -> Expert:
    """Train on the problems that ``which`` (n,) marks; ``seen`` holds them only."""
    rate, centre, spread = _base(data, which)
    share, location, square = (values[which] for values in (data.share, data.log_mean, data.log_square))
    targets = Targets(
        share=share,
        mean=(location - centre) / spread,
        square=(square - 2 * centre * location + centre**2) / spread**2,
    )
    network = train_network(seen.x, targets, rate, recipe, seed)
    found = embedding.centres(seen.points, CENTRES, seed)
    usual = np.quantile(seen.strange, 0.999, axis=0).astype(np.float64)
    return Expert(data.heads, network, found, rate, centre, spread, usual)


def _base(data: TrainingSet, which: NDArray[np.bool_]) -> tuple[F64, F64, F64]:
    """Each model's share of right answers, and mean and spread of its log tokens, on some problems.

    A model that was measured on none of them has those of all problems: there is nothing else to go by.
    """
    known = np.where((data.tries[which] > 0).any(axis=0), which[:, None], True) & (data.tries > 0)
    count = known.sum(axis=0)
    rate, mean, square = (
        np.where(known, values, 0).sum(axis=0) / count for values in (data.share, data.log_mean, data.log_square)
    )
    return rate, mean, np.sqrt(np.maximum(square - mean**2, 1e-4))


def fit_model(
    sets: Sequence[Prepared], keep: Sequence[NDArray[np.bool_]], recipes: Sequence[Recipe], seed: int
) -> Model:
    """Train on the problems that are kept, without calibration."""
    kept = _kept_features(sets, keep)
    encoder = fit_encoder(kept, seed)
    seen = encoder(joined(kept))
    ends = np.cumsum([int(mask.sum()) for mask in keep])
    experts = [
        fit_expert(part.data, seen.rows(slice(end - int(mask.sum()), end)), mask, recipe, seed)
        for part, mask, recipe, end in zip(sets, keep, recipes, ends, strict=True)
    ]
    return Model(encoder, tuple(experts))


def _kept_features(sets: Sequence[Prepared], keep: Sequence[NDArray[np.bool_]]) -> list[PromptFeatures]:
    return [part.features.rows(mask) for part, mask in zip(sets, keep, strict=True)]


def out_of_fold(
    sets: Sequence[Prepared], recipes: Sequence[Recipe], seed: int, workers: int, say: Progress
) -> tuple[list[Raw], list[Raw]]:
    """Predictions for every problem of each set by models trained without its fold: of texts, and of task types."""
    jobs = [(by_group, k) for by_group in (False, True) for k in range(FOLDS)]
    done: list[list[Raw]] = []
    tell = Counting(say, "training without a fold of problems or task types", len(jobs), "folds")
    with processes(workers, _keep, (sets, recipes, seed)) as mapped:
        for found in mapped(_kept_fold, jobs):
            done.append(found)
            tell(len(done))
    _KEPT.clear()
    new, unseen = (
        [Raw.assembled([found[at] for found in half], folds_of(part, by_group)) for at, part in enumerate(sets)]
        for by_group, half in ((False, done[:FOLDS]), (True, done[FOLDS:]))
    )
    return new, unseen


def folds_of(part: Prepared, by_group: bool) -> I64:
    """(n,) fold of each problem."""
    return part.by_group if by_group else part.by_text


def _one_fold(sets: Sequence[Prepared], recipes: Sequence[Recipe], seed: int, job: tuple[bool, int]) -> list[Raw]:
    by_group, k = job
    folds = [folds_of(part, by_group) for part in sets]
    model = fit_model(sets, [fold != k for fold in folds], recipes, seed)
    return [
        expert.raw(model.encoder(part.features.rows(fold == k)))
        for part, fold, expert in zip(sets, folds, model.experts, strict=True)
    ]


_KEPT: list[tuple[Sequence[Prepared], Sequence[Recipe], int]] = []


def _keep(sets: Sequence[Prepared], recipes: Sequence[Recipe], seed: int) -> None:
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)
    _KEPT[:] = [(sets, recipes, seed)]


def _kept_fold(job: tuple[bool, int]) -> list[Raw]:
    return _one_fold(*_KEPT[0], job)


def choose_recipes(sets: Sequence[Prepared], seed: int, say: Progress) -> list[Recipe]:
    """The recipe of each set whose network does better on the first fold of its problems, by log-loss."""
    say(Step("choosing how long to train"))
    keep = [part.by_text != 0 for part in sets]
    encoder = fit_encoder(_kept_features(sets, keep), seed)
    chosen = []
    for part, mask in zip(sets, keep, strict=True):
        seen = encoder(part.features)
        share = part.data.share[~mask]
        losses = []
        for recipe in RECIPES:
            z = fit_expert(part.data, seen.rows(mask), mask, recipe, seed).raw(seen.rows(~mask)).logit
            losses.append(float(np.nanmean(np.logaddexp(0, z) - share * z)))
        chosen.append(RECIPES[int(np.argmin(losses))])
    return chosen


@dataclass(frozen=True)
class Trained:
    """A trained model, and what models of the same recipe said of problems they had not seen, by name of the set."""

    model: Model
    held: Mapping[str, Held]
    recipes: Mapping[str, Recipe]


def train(
    sets: Mapping[str, TrainingSet],
    seed: int = 0,
    say: Progress = silent,
    *,
    workers: int = 1,
    text: TextEncoder | None = None,
    keep: Path | None = None,
) -> Trained:
    """Train a predictor on one or more training sets.

    Every problem is first predicted by models that were not trained on it, and by models that were not trained on any
    problem of its task type. Calibration is learnt from the former, trust in far prompts from both; then the model is
    trained on everything. Takes minutes; each process runs on one thread, so that the same seed gives the same model.

    Args:
        sets: by name; each has models of its own.
        seed: of all randomness.
        say: told what is being done.
        workers: processes. With more than one, a script that calls this must guard its main part by
            ``if __name__ == "__main__"``, as :mod:`multiprocessing` asks.
        text: a frozen text encoder, whose vectors the networks read beside all else.
        keep: folder for what it has read, so that training that was interrupted goes on from there.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        say(Step("reading prompts"))
        vectors = [
            None if text is None else vectors_of(text, data.prompts, workers, say, keep) for data in sets.values()
        ]
        prepared = [prepare(data, seed, read) for data, read in zip(sets.values(), vectors, strict=True)]
        recipes = choose_recipes(prepared, seed, say)
        new, unseen = out_of_fold(prepared, recipes, seed, workers, say)
        say(Step("training on everything"))
        model = fit_model(prepared, [np.ones(len(part.by_text), dtype=bool) for part in prepared], recipes, seed)
        say(Step("calibrating"))
        experts, held = [], {}
        for name, part, expert, a, b in zip(sets, prepared, model.experts, new, unseen, strict=True):
            experts.append(finished(expert, part, a, b))
            held[name] = _judged(part, a, b, experts[-1])
    return Trained(
        Model(replace(model.encoder, text=text), tuple(experts)), held, dict(zip(sets, recipes, strict=True))
    )


def finished(expert: Expert, part: Prepared, new: Raw, unseen: Raw, which: NDArray[np.bool_] | None = None) -> Expert:
    """With calibration and trust, learnt from what was said of problems left out and of task types left out.

    Args:
        which: (n,) learn from these problems only.
    """
    known = np.ones(len(part.by_text), dtype=bool) if which is None else which
    calibration, shrink = _learn(part, new, unseen, known, known)
    edge, far = np.quantile(new.novelty[known], (0.95, 0.99))
    return replace(expert, calibration=calibration, shrink=shrink, edge=float(edge) + 1e-6, far=float(far) + 2e-6)


def _learn(
    part: Prepared, new: Raw, unseen: Raw, texts: NDArray[np.bool_], types: NDArray[np.bool_]
) -> tuple[Calibration, Shrink]:
    """Calibration from the marked problems, and trust from them and the problems of marked task types."""
    data = part.data
    first = fit_calibration(new.rows(texts), data.rows(texts), None)
    shrink = fit_shrink(
        first, new.rows(texts), data.share[texts], unseen.rows(types), data.share[types], part.by_group[types]
    )
    return fit_calibration(new.rows(texts), data.rows(texts), shrink), shrink


def _judged(part: Prepared, new: Raw, unseen: Raw, finished: Expert) -> Held:
    """Each fold under what was learnt from the others alone."""
    assert finished.calibration is not None
    everything = np.ones(len(part.by_text), dtype=bool)
    news, unseens = [], []
    for k in range(FOLDS):
        calibration, shrink = _learn(part, new, unseen, part.by_text != k, everything)
        news.append(predict(new.rows(part.by_text == k), calibration, shrink))
        calibration, shrink = _learn(part, new, unseen, part.by_group != k, part.by_group != k)
        unseens.append(predict(unseen.rows(part.by_group == k), calibration, shrink))
    return Held(
        Prediction.assembled(news, part.by_text),
        Prediction.assembled(unseens, part.by_group),
        predict(new, finished.calibration, finished.shrink),
        new.scaled_novelty(finished.edge, finished.far),
        unseen.scaled_novelty(finished.edge, finished.far),
        unseen.rate,
    )


__all__ = [
    "Encoder",
    "Expert",
    "Held",
    "Model",
    "Trained",
    "finished",
    "train",
]
