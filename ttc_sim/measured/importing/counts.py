"""What token counts hold: decided for each model from all of its rows, never row by row without need, and said with the
evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from ttc_sim.measured.importing.audit import Understood
from ttc_sim.measured.importing.importer import Importer, Place


@dataclass(frozen=True)
class Counts:
    """By model (``None`` where the log names none), where reasoning and cached tokens stand, and whether somebody said so of
    all."""

    reasoning: dict[str | None, Place]
    cached: dict[str | None, Place]
    reasoning_said: bool = False
    cached_said: bool = False


def understand_counts(
    calls: pl.LazyFrame, importer: Importer, *, reasoning: Place | None = None, cached: Place | None = None
) -> tuple[Counts, list[Understood]]:
    """Decide whether reasoning is a part of the output and cached tokens one of the prompt.

    What somebody said counts first; then totals, which only one of the ways adds up to; then a part that is larger than what
    should hold
    it; then what the format is documented to mean. Where none of these is there, the part is taken to be inside, and it is asked.

    Args:
        calls: columns of :data:`~ttc_sim.measured.importing.call.ROWS`, rows that were left out not among them.
    """
    hidden, hit = pl.col("reasoning").fill_null(0), pl.col("cached").fill_null(0) + pl.col("cache_write").fill_null(0)
    rest = pl.col("total") - pl.col("prompt") - pl.col("output")
    thought, found = (hidden > 0) & pl.col("visible").is_null() & pl.col("output").is_not_null(), hit > 0
    told = hidden != hit  # totals that tell the two apart
    seen = (
        calls.group_by("model")
        .agg(
            thought=thought.sum(),
            hit=found.sum(),
            over=(thought & (hidden > pl.col("output"))).sum(),
            over_hit=(found & (hit > pl.col("prompt"))).sum(),
            inside=(thought & ((rest == 0) | ((rest == hit) & found & told))).sum(),
            outside=(thought & (((rest == hidden) & (told | ~found)) | ((rest == hidden + hit) & found))).sum(),
            hit_inside=(found & ((rest == 0) | ((rest == hidden) & thought & told))).sum(),
            hit_outside=(found & (((rest == hit) & (told | ~thought)) | ((rest == hidden + hit) & thought))).sum(),
        )
        .sort("model", nulls_last=True)
        .collect(engine="streaming")
    )
    said: list[Understood] = []
    hidden_at: dict[str | None, Place] = {}
    hit_at: dict[str | None, Place] = {}
    for row in seen.iter_rows(named=True):
        model = row["model"]
        if row["thought"]:
            hidden_at[model], how = _placed(
                "reasoning tokens", "output", "--reasoning", reasoning, importer.reasoning, importer.title,
                (row["thought"], row["inside"], row["outside"], row["over"]),
            )  # fmt: skip
            said.append(Understood("reasoning tokens", *how, of=model or ""))
        if row["hit"]:
            hit_at[model], how = _placed(
                "cached tokens", "prompt", "--cached", cached, importer.cached, importer.title,
                (row["hit"], row["hit_inside"], row["hit_outside"], row["over_hit"]),
            )  # fmt: skip
            said.append(Understood("cached tokens", *how, of=model or ""))
    return Counts(hidden_at, hit_at, reasoning is not None, cached is not None), _same_for_all(said)


def _placed(
    what: str,
    whole: str,
    option: str,
    asked: Place | None,
    documented: Place | None,
    title: str,
    seen: tuple[int, int, int, int],
) -> tuple[Place, tuple[str, str, str]]:
    """Where a part stands; and as what it was taken, on what evidence, with what question."""
    rows, inside, outside, over = seen
    words = {"inside": f"a part of the {whole} tokens", "outside": f"beside the {whole} tokens, added to them"}
    place: Place
    question = ""
    if asked is not None:
        place, why = asked, f"{option} says so"
        if asked == "inside" and over:
            why += f"; {over:,} of {rows:,} rows have more than the {whole} that should hold them, and are left out"
    elif inside or outside:
        place = "inside" if inside >= outside else "outside"
        why = f"the totals of {max(inside, outside):,} of {rows:,} rows add up only so"
        if inside and outside:
            why += f"; those of {min(inside, outside):,} add up the other way, and are read so"
    elif over:
        place, why = "outside", f"{over:,} of {rows:,} rows have more than the {whole} that would hold them"
        if documented == "inside":
            question = (
                f"{title} counts {what} inside the {whole}, and here they cannot be: `{option}` says what they are"
            )
    elif documented is not None:
        place, why = documented, f"{title} counts them so; nothing in the {rows:,} rows says otherwise"
    else:
        place, why = "inside", f"nothing in the {rows:,} rows tells: neither totals nor a count above the {whole}"
        question = (
            f"do the {whole} tokens hold the {what}? They were taken to; `{option} outside` says that they do not"
        )
    return place, (words[place], why, question)


def _same_for_all(said: list[Understood]) -> list[Understood]:
    """One line for all models where the same holds of each."""
    made: list[Understood] = []
    for what in dict.fromkeys(one.what for one in said):
        mine = [one for one in said if one.what == what]
        if len({one.taken for one in mine}) == 1 and len({bool(one.question) for one in mine}) == 1 and len(mine) > 3:
            first = mine[0]
            made.append(
                Understood(what, first.taken, f"{first.evidence}; so of all {len(mine)} models", first.question)
            )
        else:
            made.extend(mine)
    return made


def with_counts(rows: pl.DataFrame, counts: Counts) -> pl.DataFrame:
    """Add ``prompt_tokens``, ``cached_tokens``, ``reasoning_tokens`` (null where nothing is recorded) and ``visible_tokens``
    (null where
    there is no count of the output); rows that cannot be so are left out."""

    def beside(places: dict[str | None, Place]) -> pl.Expr:
        named = [model for model, place in places.items() if place == "outside" and model is not None]
        found = pl.col("model").is_in(named)
        return (
            (found.fill_null(value=False) | pl.col("model").is_null())
            if places.get(None) == "outside"
            else found.fill_null(value=False)
        )

    hidden, hit = pl.col("reasoning").fill_null(0), pl.col("cached").fill_null(0) + pl.col("cache_write").fill_null(0)
    rest = pl.col("total") - pl.col("prompt") - pl.col("output")
    outside, hit_outside = beside(counts.reasoning), beside(counts.cached)
    # A row's own total says it where it can.
    if not counts.reasoning_said:
        outside = (
            pl.when((hidden > 0) & (rest == 0)).then(statement=False)
            .when((hidden > 0) & (rest == hidden) & (hidden != hit)).then(statement=True)
            .otherwise(outside)
        )  # fmt: skip
    if not counts.cached_said:
        hit_outside = (
            pl.when((hit > 0) & (rest == 0)).then(statement=False)
            .when((hit > 0) & (rest == hit) & (hidden != hit)).then(statement=True)
            .otherwise(hit_outside)
        )  # fmt: skip
    visible = (
        pl.when(pl.col("visible").is_not_null()).then(pl.col("visible"))
        .when(outside).then(pl.col("output")).otherwise(pl.col("output") - hidden)
    )  # fmt: skip
    thought = (
        pl.when(pl.col("reasoning").is_null() & pl.col("visible").is_not_null() & pl.col("output").is_not_null())
        .then(pl.col("output") - pl.col("visible"))
        .otherwise(pl.col("reasoning"))
    )
    made = rows.with_columns(
        prompt_tokens=pl.when(hit_outside).then(pl.col("prompt").fill_null(0) + hit).otherwise(pl.col("prompt")),
        cached_tokens=pl.col("cached"),
        reasoning_tokens=thought,
        visible_tokens=visible,
    )
    wrong: dict[str, tuple[pl.Expr, Any]] = {
        "more reasoning tokens than output tokens that should hold them": (
            (pl.col("visible_tokens") < 0) | (pl.col("reasoning_tokens") < 0),
            pl.format("{} of {}", pl.col("reasoning"), pl.col("output")),
        ),
        "more cached tokens than prompt tokens that should hold them": (
            pl.col("cached_tokens") > pl.col("prompt_tokens"),
            pl.format("{} of {}", pl.col("cached"), pl.col("prompt")),
        ),
    }
    for why, (bad, shown) in wrong.items():
        here = pl.col("left_out").is_null() & bad.fill_null(value=False)
        made = made.with_columns(
            said=pl.when(here).then(shown).otherwise(pl.col("said")),
            left_out=pl.when(here).then(pl.lit(why)).otherwise(pl.col("left_out")),
        )
    return made
