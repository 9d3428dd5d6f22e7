"""Take a few graded examples of a new task type into account, without training anew."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import logit

from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.base.threads import one_thread
from ttc_sim.files.writing import check_outputs, write_atomically, written_together
from ttc_sim.measured.provenance import FAST, ScoredBy, identify
from ttc_sim.policies import NOVEL, NOVELTY
from ttc_sim.predictor.judging.card_figures import card_path
from ttc_sim.predictor.learning.adapted_card import Adapted, Learnt, adapted_card
from ttc_sim.predictor.learning.embedding import counts_of, scale
from ttc_sim.predictor.learning.graded import Examples, read_examples
from ttc_sim.predictor.learning.shifted_graph import Landmarks, landmarks, shifted, with_outputs
from ttc_sim.predictor.learning.shifting import Graded, Shift, learn_shift, left_out, spread_of
from ttc_sim.predictor.reading.features import featurize_rows
from ttc_sim.predictor.running.session import Predictor, model_path

_CERTAIN = 1e-6
_SAME = 1 - 1e-6
_HALF_OPEN = 0.5


@one_thread()
def adapt(
    model: str | Path | None,
    problems: str | Path,
    attempts: str | Path,
    out: str | Path,
    *,
    origin: str | None = None,
    licence: str = "not stated",
) -> Adapted:
    """Write a predictor that takes graded examples into account, and its card.

    Near the examples each graded model's chance and output tokens are shifted, see
    :mod:`ttc_sim.predictor.learning.shifting`. A prompt that lies nearer to what the predictor was trained on than to any example
    keeps its scores to the last bit, and so does a model that was not graded. Novelty stays what it was: how far from the training
    data. The same files give the same bytes.

    Args:
        model: an ONNX file, ``"fast"`` or ``"encoder"``; the fast one if ``None``. What was adapted before may be again: new
            examples are weighed against what it says now, so each example is to be given once.
        problems, attempts: tables, see :func:`ttc_sim.measured.problem_tables.read_problem_tables`. Each task type is learnt by
            itself; all are one where there is no such column. Tokens are learnt where the attempts have them.
        out: ONNX file to write; its card goes beside it.
        origin: where the examples come from, and licence: theirs, for the card.

    Raises:
        InputError: no predictor, tables that cannot be used, an attempt by a model that it has no head for, fewer than 5
            different prompts of every task type or more than 500 in all, a place that cannot be written to, or package ``onnx`` is
            not installed.
    """
    path, out = model_path(model), Path(out)
    if out.suffix != ".onnx":
        raise InputError(out, "file", out.suffix, "a name ending in .onnx")
    check_outputs(problems, attempts, path, model=out, card=card_path(out))
    try:
        from onnx import load_model
    except ImportError:
        raise InputError("packages", "onnx", "not installed", "pip install 'ttc-sim[train]'") from None
    heads = Predictor.load(path, device="cpu").heads
    made = load_model(str(path), load_external_data=False)
    at = landmarks(made, path)
    groups, notes = read_examples(problems, attempts, heads)
    learnt, shifts = [], []
    for group, found in zip(groups, _seen(made, at, groups), strict=True):
        examples = _graded(group, found, at)
        shifts.append(learn_shift(examples))
        learnt.append(_learnt(group, heads, examples, shifts[-1], found, at))
    written = shifted(made, at, shifts)
    graded = {head for one in learnt for head in one.models}
    adapted = Adapted(
        base=identify(FAST if model is None else model),
        made=ScoredBy(out.name, hashlib.sha256(written).hexdigest()),
        times=at.times + 1,
        learnt=tuple(learnt),
        unchanged=tuple(head for head in heads if head not in graded),
        notes=(*notes, *(note for one in learnt for note in _notes(one))),
    )
    data = origin or f"{Path(problems).name} and {Path(attempts).name}"
    card = adapted_card(path, adapted, data, licence)
    with written_together():
        write_atomically(out, written)
        write_atomically(card_path(out), card)
    return adapted


def _seen(made: Any, at: Landmarks, groups: Sequence[Examples]) -> list[dict[str, F64]]:
    """By group, what the predictor says of its prompts, and where they lie in it."""
    inside = [at.points, at.known, *at.earlier]
    with tempfile.TemporaryDirectory() as folder:
        beside = Path(folder) / "seen.onnx"
        beside.write_bytes(with_outputs(made, inside))
        predictor = Predictor.load(beside, device="cpu")
        return [predictor.outputs(one.prompts, ["p", "tokens_p50", "tokens_p90", NOVELTY, *inside]) for one in groups]


def _graded(group: Examples, found: dict[str, F64], at: Landmarks) -> Graded:
    return Graded(
        points=found[at.points],
        known=found[at.known].max(axis=1),
        words=scale(counts_of(featurize_rows(group.prompts)), at.idf),
        logit=np.asarray(logit(np.clip(found["p"], _CERTAIN, 1 - _CERTAIN))),
        share=group.share,
        log_tokens=np.log(found["tokens_p50"]),
        log_spread=spread_of(found["tokens_p50"], found["tokens_p90"]),
        log_mean=group.log_mean,
    )


def _learnt(
    group: Examples, heads: Sequence[str], examples: Graded, shift: Shift, found: dict[str, F64], at: Landmarks
) -> Learnt:
    likeness = shift.likeness(examples.points)
    graded, counted = (np.flatnonzero(part.graded).tolist() for part in (shift.chance, shift.tokens))
    least, most = np.nanmin(group.share[:, graded], axis=0), np.nanmax(group.share[:, graded], axis=0)
    repeated = (
        np.max([found[name].max(axis=1) for name in at.earlier], axis=0) if at.earlier else np.zeros(len(examples))
    )
    return Learnt(
        task_type=group.task_type,
        examples=len(examples),
        attempts=group.attempts,
        models=tuple(heads[k] for k in graded),
        one_sided=tuple(heads[k] for k, a, b in zip(graded, least, most, strict=True) if b == 0 or a == 1),
        counted=tuple(heads[k] for k in counted),
        familiar=int((found[NOVELTY] < NOVEL).sum()),
        repeated=int((repeated > _SAME).sum()),
        judged=left_out(examples),
        shift=float(shift.chance(likeness)[:, graded].mean()),
        token_factor=float(np.exp(shift.tokens(likeness)[:, counted]).mean()) if counted else 1.0,
    )


def _notes(one: Learnt) -> Iterator[str]:
    """What a reader must know of one task type."""
    judged = one.judged
    if judged.after >= judged.before:
        yield (
            f"{one.task_type}: on its examples, each left out in turn, the Brier score is not better ({judged.before:.3f}, after "
            f"{judged.after:.3f}): too few to tell, or nothing to learn"
        )
    if judged.opened < _HALF_OPEN:
        yield (
            f"{one.task_type}: its prompts lie nearer to what the predictor was trained on than to each other; a shift counts by "
            f"{judged.opened:.0%} on one that is left out"
        )
    if one.familiar:
        yield (
            f"{one.task_type}: {one.familiar} of {one.examples} examples are no farther from what the predictor was trained on "
            f"than new problems of known kinds are (novelty below {NOVEL:g})"
        )
    if one.one_sided:
        yield (
            f"{one.task_type}: right attempts alone, or wrong ones alone, of {len(one.one_sided)} of {len(one.models)} models: how "
            "far those are moved rests on the prior too"
        )
    if one.repeated:
        yield (
            f"{one.task_type}: {one.repeated} of {one.examples} examples lie where those of an earlier adaptation do; what is "
            "given twice counts twice: adapt the predictor that was there before, with all examples"
        )


__all__ = ["adapt"]
