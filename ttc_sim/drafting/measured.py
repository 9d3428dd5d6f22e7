"""The problem set and the profiles of an import's models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from ttc_sim.base.errors import InputError, cut, nearest
from ttc_sim.drafting.imported import ATTEMPTS, Imported
from ttc_sim.measured.building import build_profile
from ttc_sim.measured.cards import ProblemSetCard
from ttc_sim.measured.profiles import Profile
from ttc_sim.measured.selecting import part_of

_SHOWN = 12
_DOUBTS = ("without output", "failed", "not recorded")  # of what is said of a profile, what changes its figures


@dataclass(frozen=True)
class Measured:
    """A problem set and a profile for each model, on the same problems.

    Attributes:
        problems: the set's table; prompts: ``problem``, ``prompt`` and ``group``, ``None`` where they are not known.
        attempts: at them, of the models alone: ``problem``, ``model``, ``correct``, ``output_tokens``.
        profiles: by model.
    """

    card: ProblemSetCard
    problems: pl.DataFrame
    prompts: pl.DataFrame | None
    attempts: pl.DataFrame
    profiles: Mapping[str, Profile]


def models_of(imported: Imported, asked: Sequence[str]) -> list[str]:
    """The models that are asked for, all of the import's if none is.

    Args:
        asked: names, or several joined by commas.

    Raises:
        InputError: one without graded attempts.
    """
    assert imported.attempts is not None
    known = imported.attempts["model"].unique(maintain_order=True).to_list()
    chosen = asked_models(asked, known)
    for model in chosen:
        if model not in known:
            raise InputError(
                "scenario init", "--models", model, f"a model with graded attempts: {nearest(model, known)}"
            )
    return chosen or known


def asked_models(asked: Sequence[str], known: Sequence[str]) -> list[str]:
    """Names, each once; one that is known may hold a comma."""
    names = [name for given in asked for name in ([given] if given in known else given.split(","))]
    return list(dict.fromkeys(name if name in known else name.strip() for name in names if name.strip()))


def measure(
    imported: Imported, models: Sequence[str], names: Mapping[str, str], problem_set: str, said: list[str]
) -> Measured:
    """Problems that all of the models were tried on, and a profile of each of them.

    Args:
        names: folders' names by model; problem_set: name of the set.
        said: gets lines on what was left out and how counts were read.

    Raises:
        InputError: no problem was tried by all of the models, or attempts that make no profile.
    """
    assert imported.problems is not None
    assert imported.attempts is not None
    tried = imported.attempts.filter(pl.col("model").is_in(list(models)))
    by_all = tried.group_by("problem").agg(pl.col("model").n_unique()).filter(pl.col("model") == len(models))
    problems = imported.problems.join(by_all, on="problem", how="semi", maintain_order="left")
    if problems.is_empty():
        counts = tried.group_by("model", maintain_order=True).agg(pl.col("problem").n_unique())
        shown = [f"{cut(model, 80)} {count:,}" for model, count in counts.head(_SHOWN).iter_rows()]
        shown += ["..."] if len(counts) > _SHOWN else []
        expected = "problems that all of them were tried on; --models takes some of them"
        raise InputError("scenario init", f"problems by model: {', '.join(shown)}", "none in common", expected)
    left_out = len(imported.problems) - len(problems)
    if left_out:
        by = "the model was not" if len(models) == 1 else f"not all {len(models)} models were"
        said.append(f"{left_out:,} of {len(imported.problems):,} problems left out: {by} tried on them")
    tried = tried.join(problems.select("problem", asked="prompt_tokens"), on="problem", maintain_order="left")
    place = imported.folders[0] / ATTEMPTS if len(imported.folders) == 1 else "attempts"
    day = imported.day or "not stated"
    stated = {
        "origin": cut(imported.origin, 300),
        "licence": "not stated",
        "date": day,
        "tokenizer": cut(imported.tokens, 300),
    }
    limits = "problems that all of the models were tried on"
    profiles = {}
    for model in models:
        where = part_of(place, "model", model)
        rows = _with_prompts(tried.filter(pl.col("model") == model), model, said).drop("asked")
        card: dict[str, object] = {**stated, "limits": limits, "model": model, "problem_set": problem_set}
        made, lines = build_profile(rows, where, f"{problem_set}/{names[model]}", card)
        said += [f"{model}: {line}" for line in lines if any(word in line for word in _DOUBTS)]
        profiles[model] = made
    prompts = problems.select("problem", "prompt", "group") if "prompt" in problems.columns else None
    attempts = pl.concat(
        made.attempts.select(
            "problem",
            "correct",
            output_tokens=pl.col("reasoning_tokens") + pl.col("visible_tokens"),
            model=pl.lit(model),
        )
        for model, made in profiles.items()
    )
    card_of_set = ProblemSetCard(**stated, limits=limits, cluster="problem")
    kept = problems.select("problem", "subset", "group", "prompt_tokens")
    return Measured(card_of_set, kept, prompts, attempts, profiles)


def _with_prompts(rows: pl.DataFrame, model: str, said: list[str]) -> pl.DataFrame:
    """Attempts whose prompt was not counted have that of the problem."""
    nothing = pl.col("prompt_tokens") < 1
    if "prompt_tokens" not in rows.columns:
        rows = rows.with_columns(prompt_tokens=0)
    if missing := int(rows.select(nothing.sum()).item()):
        said.append(f"{model}: {missing:,} of {len(rows):,} attempts have no prompt tokens: those of the problem count")
        rows = rows.with_columns(prompt_tokens=pl.when(nothing).then("asked").otherwise("prompt_tokens"))
    return rows
