"""Other predictors: what scores would be if they knew less, or all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.special import expit, logit, ndtr, ndtri
from scipy.stats import rankdata

from ttc_sim.base.draws import F64, uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.policies import DIFFICULTY, NOVELTY
from ttc_sim.strategies.outcomes import Attempts
from ttc_sim.workload.population import Population

KINDS = "none, perfect, noise:R (what is left of the correlation, 0 to 1) or drift:D (added log-odds of being hard)"
_CHANCE, _TOKENS = "p:", ("tokens:", "tokens_p50:", "tokens_p90:")


def other_predictor(kind: str, where: str) -> Callable[[Population], Population]:
    """What a predictor of that kind makes of a population's scores.

    * ``none``: every problem has the mean of each score over the traffic.
    * ``perfect``: ``p:MODEL`` is the share of the model's measured attempts at the problem that were right,
      ``difficulty`` the share of the arms' models' that were wrong in the mean over models, ``tokens:MODEL`` the mean
      length of its attempts (``tokens_p50:``, ``tokens_p90:`` their quantiles), ``novelty`` 0. Of models that are not
      among the arms ``p:MODEL`` is what is left of the difficulty. It knows the luck of the attempts too.
    * ``noise:R``: ranks of a score as normal scores z become R z + sqrt(1 - R squared) e, with the same standard normal
      e of a problem in all scores (the other way round where a score falls with difficulty), and the new ranks have the
      values of the old, so that each band keeps its share of the problems. R is 1 for the predictor as it is, 0 for one
      that guesses.
    * ``drift:D``: log-odds of ``difficulty`` plus D, of ``p:MODEL`` less D: all looks harder where D is above 0.

    ``noise`` and ``drift`` leave ``novelty`` as it is, ``drift`` predicted tokens too.

    Raises:
        InputError: no such kind.
    """
    name, colon, number = kind.partition(":")
    if not colon and name in ("none", "perfect"):
        return _none if name == "none" else _perfect
    try:
        size = float(number)
    except ValueError:
        size = np.nan
    if name == "noise" and 0 <= size < 1:
        return lambda population: _noisy(population, size)
    if name == "drift" and np.isfinite(size) and size != 0 and abs(size) <= 30:
        return lambda population: _drifted(population, size)
    raise InputError(where, "ready.predictor", kind, KINDS)


def _none(population: Population) -> Population:
    weight = population.weight
    return replace(
        population, scores={name: np.full(len(values), weight @ values) for name, values in population.scores.items()}
    )


def _perfect(population: Population) -> Population:
    right = {name: _mean(one, one.correct.astype(np.float64)) for name, one in population.attempts.items()}
    known = np.stack([~np.isnan(values) for values in right.values()])
    chances = np.stack([np.nan_to_num(values) for values in right.values()])
    easy = chances.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    scores = {}
    for name, values in population.scores.items():
        kind, _, model = name.partition(":")
        measured = population.attempts.get(model)
        if name == NOVELTY:
            found = np.zeros(len(values))
        elif name == DIFFICULTY:
            found = 1 - easy
        elif kind == "p":
            found = easy if measured is None else right[model]
        elif measured is None:
            found = values
        else:
            found = _lengths(measured, kind)
        scores[name] = np.where(np.isnan(found) | ~known.any(axis=0), values, found)
    return replace(population, scores=scores)


def _mean(attempts: Attempts, values: F64) -> F64:
    """(P,) mean over a problem's attempts; NaN where there are none."""
    total = np.bincount(attempts.owner, weights=values, minlength=len(attempts.count))
    return np.asarray(np.where(attempts.count > 0, total / np.maximum(attempts.count, 1), np.nan))


def _lengths(attempts: Attempts, kind: str) -> F64:
    tokens = (attempts.reasoning_tokens + attempts.visible_tokens).astype(np.float64)
    if kind == "tokens":
        return _mean(attempts, tokens)
    part = 0.9 if kind == "tokens_p90" else 0.5
    ordered = tokens[np.lexsort((tokens, attempts.owner))]
    place = np.clip(np.ceil(part * attempts.count).astype(np.int64) - 1, 0, None)
    at = np.minimum(attempts.start[:-1] + place, len(ordered) - 1)
    return np.where(attempts.count > 0, ordered[at], np.nan)


def _noisy(population: Population, kept: float) -> Population:
    n = len(population)
    error = ndtri(uniforms(0, "what if/predictor", n)[:, 0])
    scores = {}
    for name, values in population.scores.items():
        if name == NOVELTY:
            scores[name] = values
            continue
        falls = -1.0 if name.startswith(_CHANCE) else 1.0
        z = ndtri((rankdata(values) - 0.5) / n)
        place = np.ceil(ndtr(kept * z + np.sqrt(1 - kept**2) * falls * error) * n - 1e-9).astype(np.int64) - 1
        scores[name] = np.sort(values)[np.clip(place, 0, n - 1)]
    return replace(population, scores=scores)


def _drifted(population: Population, by: float) -> Population:
    scores = dict(population.scores)
    for name, values in population.scores.items():
        if name == DIFFICULTY or name.startswith(_CHANCE):
            scores[name] = expit(logit(values) + (by if name == DIFFICULTY else -by))
    return replace(population, scores=scores)


__all__ = ["KINDS", "other_predictor"]
