"""Make a profile from a user's own table of attempts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
from pydantic import ValidationError

from ttc_sim.base.errors import InputError, from_validation
from ttc_sim.files.tables import find_column, find_columns
from ttc_sim.measured.cards import ProfileCard
from ttc_sim.measured.columns import as_booleans, as_keys, as_numbers, as_text, as_tokens
from ttc_sim.measured.grades import GOLD, is_gold
from ttc_sim.measured.profiles import ATTEMPT_COLUMNS, MOST_ATTEMPTS, SCORE, Profile, check_profile

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "problem": ("problem", "problem_id", "question_id", "task_id", "id"),
    "attempt": ("attempt", "sample", "attempt_id"),
    "prompt_tokens": ("prompt_tokens", "input_tokens"),
    "reasoning_tokens": ("reasoning_tokens", "thinking_tokens"),
    "visible_tokens": ("visible_tokens",),
    "output_tokens": ("output_tokens", "completion_tokens", "generated_tokens"),
    "correct": ("correct", "is_correct", "passed"),
    "truncated": ("truncated", "stopped_at_limit"),
    "answer": ("prediction", "predicted_answer", "extracted_answer", "model_answer", "given_answer", "answer"),
}
BENCHMARK = "task_id"
"""A key in some tables, the benchmark's name in others: where it is the same in all rows, another column is the key."""
DATASET = ("dataset", "subset")
REASON = ("finish_reason", "stop_reason")
STATUS = "status"
FAILED = ("failed", "error")
"""Values of ``status``, in lower case, of attempts that got no answer."""
STOPPED = ("length", "max_tokens", "max_output_tokens", "model_length")
"""Reasons of an answer's end, in lower case, that mean it was cut off at a limit."""
BESIDE_INPUT = ("cache_creation_input_tokens", "cache_read_input_tokens")
"""Parts of the prompt that are not in ``input_tokens`` where the three stand beside each other (Anthropic's usage)."""


def build_profile(
    table: pl.DataFrame,
    where: str | Path,
    name: str,
    card: dict[str, object],
    columns: dict[str, str | None] | None = None,
) -> tuple[Profile, list[str]]:
    """Turn a table of attempts into a checked profile. Those that failed, by a column ``status``, are left out.

    Args:
        table: a row an attempt.
        where: the file that errors name.
        name: of the profile.
        card: the card's fields, without ``reasoning``.
        columns: columns named by the user, by role; the usual names are looked for otherwise.

    Returns:
        The profile, and lines that say what was taken for what.

    Raises:
        InputError: a missing column or a value that cannot be what its column says.
    """
    named = columns or {}
    usual = {role: usual_names(table, role) for role in USUAL_NAMES}
    found, said = find_columns(table, where, usual, named, {"problem", "prompt_tokens", "correct"})
    table, where = _without_failed(table, where, said)
    if found["output_tokens"] is None and found["visible_tokens"] is None:
        have = ", ".join(table.columns)
        raise InputError(
            where, "column for output_tokens", have, "output_tokens, or visible_tokens beside reasoning_tokens"
        )
    problem = _problems(table, where, str(found["problem"]), said)
    prompt = prompt_tokens(table, where, str(found["prompt_tokens"]), said)
    reasoning, visible = _output(table, where, found, said)
    made = pl.DataFrame(
        {
            "problem": problem,
            "attempt": _attempts(table, where, found["attempt"], problem, said, asked=named.get("attempt") is not None),
            "prompt_tokens": prompt,
            "reasoning_tokens": reasoning,
            "visible_tokens": visible,
            "correct": as_booleans(table, where, str(found["correct"])),
            "truncated": _truncated(table, where, found["truncated"], said),
            "answer": as_text(table, where, found["answer"]) if found["answer"] else pl.Series([None] * len(table)),
        }
    ).cast(dict(ATTEMPT_COLUMNS))  # type: ignore[arg-type]
    if found["answer"] is not None and is_gold(made["problem"], made["answer"], made["correct"]):
        if named.get("answer") is not None:
            raise InputError(
                where, f"column {found['answer']}", "the right answers", f"answers that were given; here {GOLD}"
            )
        said.remove(f"answer: column {found['answer']}")
        said.append(f"column {found['answer']} holds the right answers, not given ones ({GOLD}): left out")
        made = made.with_columns(answer=pl.lit(None, dtype=pl.String))
    if SCORE in table.columns:
        made = made.with_columns(as_numbers(table, where, SCORE, -math.inf, math.inf).alias(SCORE))
    how = "recorded" if found["reasoning_tokens"] else "none"
    try:
        checked = ProfileCard.model_validate({**card, "reasoning": how})
    except ValidationError as error:
        raise from_validation(name, error, "card") from None
    profile = Profile(name, checked, made.sort("problem", "attempt"))
    check_profile(profile, where)
    return profile, said


def usual_names(table: pl.DataFrame, role: str) -> tuple[str, ...]:
    """Usual names of the column that plays a role, in the order in which they count for this table."""
    names = USUAL_NAMES[role]
    if role == "problem" and BENCHMARK in table.columns and len(table) > 1 and table[BENCHMARK].n_unique() == 1:
        return (*(name for name in names if name != BENCHMARK), BENCHMARK)
    return names


def _without_failed(table: pl.DataFrame, where: str | Path, said: list[str]) -> tuple[pl.DataFrame, str | Path]:
    """Attempts that got an answer, and what errors then call the table."""
    if table.schema.get(STATUS) != pl.String:
        return table, where
    failed = table[STATUS].str.to_lowercase().is_in(FAILED).fill_null(value=False)
    if not failed.any():
        return table, where
    if failed.all():
        raise InputError(where, f"column {STATUS}", str(table[STATUS][0]), "an attempt that did not fail")
    said.append(f"{failed.sum():,} of {len(table):,} attempts failed, by column {STATUS}: they are left out")
    return table.filter(~failed), f"{where} (without failed rows)"


def keyed_alike(table: pl.DataFrame, where: str | Path, problem: str | None = None) -> tuple[pl.DataFrame, list[str]]:
    """The table with keys that are the same whichever of its rows are then taken for a profile, and what was made of them.

    Args:
        problem: column of the keys, if it has none of the usual names.

    Raises:
        InputError: no such column, or one that holds no keys.
    """
    column = str(find_column(table, where, "problem", usual_names(table, "problem"), problem))
    if _dataset_within(table, where, column) is None:
        return table, []
    said: list[str] = []
    return table.with_columns(_problems(table, where, column, said).alias(column)), said


def _problems(table: pl.DataFrame, where: str | Path, column: str, said: list[str]) -> pl.Series:
    """Keys; with their dataset before them, as in tables of problems, where they start anew in each."""
    keys = as_keys(table, where, column)
    dataset = _dataset_within(table, where, column)
    if dataset is None:
        return keys
    said.append(f"{column} starts anew in every {dataset}: problems are {dataset}/{column}")
    return as_keys(table, where, dataset) + "/" + keys


def _dataset_within(table: pl.DataFrame, where: str | Path, column: str) -> str | None:
    """The column of datasets in each of which the keys start anew; ``None`` if there is none."""
    dataset = find_column(table, where, "dataset", DATASET, required=False)
    if dataset is None or dataset == column:
        return None
    both = pl.DataFrame({"key": as_text(table, where, column), "within": as_text(table, where, dataset)})
    most = both.group_by("key").agg(pl.col("within").n_unique())["within"].max()
    return dataset if most != 1 else None


def _attempts(
    table: pl.DataFrame, where: str | Path, column: str | None, problem: pl.Series, said: list[str], *, asked: bool
) -> pl.Series:
    """Numbers of each problem's attempts from 0: in the order of the column, else of the file."""
    rows = pl.DataFrame({"problem": problem})
    if column is not None and not table[column].dtype.is_numeric() and not asked:
        said[:] = [line for line in said if line != f"attempt: column {column}"]
        said.append(f"column {column} holds no numbers of attempts: they are counted in the order of the file")
        column = None
    if column is None:
        number = pl.int_range(pl.len()).over("problem")
    else:
        rows = rows.with_columns(given=as_numbers(table, where, column, -math.inf, math.inf))
        number = pl.col("given").rank("dense").over("problem") - 1
    found = rows.select(number.cast(pl.Int64).alias("attempt"))["attempt"]
    if len(found) and int(found.max()) >= MOST_ATTEMPTS:  # type: ignore[arg-type]  # whole numbers have a whole maximum
        raise InputError(where, "attempts", f"{int(found.max()) + 1:,} at one problem", f"at most {MOST_ATTEMPTS:,}")  # type: ignore[arg-type]
    return found


def prompt_tokens(table: pl.DataFrame, where: str | Path, column: str, said: list[str]) -> pl.Series:
    """Tokens of whole prompts, those found in a cache among them; ``said`` gets a line on what was put together."""
    prompt = as_tokens(table, where, column)
    beside = [name for name in BESIDE_INPUT if name in table.columns and column == "input_tokens"]
    for name in beside:
        prompt = prompt + as_tokens(table, where, name, empty=0)
    if beside:
        said.append(f"prompt_tokens: {column} and what was cached of the prompt, {' and '.join(beside)}")
    return prompt


def _output(
    table: pl.DataFrame, where: str | Path, found: dict[str, str | None], said: list[str]
) -> tuple[pl.Series, pl.Series]:
    """Reasoning and visible tokens, together at least 1; reasoning that was not recorded counts as visible."""
    thought = found["reasoning_tokens"]
    unknown = 0 if thought is None else table[thought].null_count()
    if unknown == len(table):
        found["reasoning_tokens"] = None
    elif unknown:
        said.append(f"{thought}: {unknown:,} of {len(table):,} are not recorded: all output of these counts as visible")
    counts = {
        role: as_tokens(table, where, column, empty=0 if column == thought else None)
        for role in ("reasoning_tokens", "visible_tokens", "output_tokens")
        if (column := found[role]) is not None
    }
    reasoning = counts.get("reasoning_tokens", pl.Series(np.zeros(len(table), dtype=np.int64)))
    visible = counts.get("visible_tokens")
    if visible is None:
        output = counts["output_tokens"]
        visible = output - reasoning
        over = (visible < 0).arg_true()
        if len(over):
            row, column = over[0], found["output_tokens"]
            expected = (
                f"at least {found['reasoning_tokens']}, {reasoning[row]}, which it holds; where that stands beside it, "
            )
            expected += f"--visible-tokens-column {column} says so"
            raise InputError(where, f"{column}, row {row + 1}", output[row], expected)
        if found["reasoning_tokens"] is not None:
            said.append(f"{found['reasoning_tokens']} are taken to be a part of {found['output_tokens']}")
    if found["reasoning_tokens"] is None:
        none = "no column of reasoning tokens" if thought is None else f"column {thought} is empty"
        said.append(f"{none}: all output counts as visible")
    empty = (reasoning + visible) == 0
    if empty.any():
        said.append(f"{empty.sum()} attempts without output count as 1 token")
        visible = visible + empty.cast(visible.dtype)
    return reasoning, visible


def _truncated(table: pl.DataFrame, where: str | Path, column: str | None, said: list[str]) -> pl.Series:
    if column is not None:
        return as_booleans(table, where, column)
    stopped = stopped_at_limit(table, where, said)
    return pl.repeat(False, len(table), eager=True) if stopped is None else stopped


def stopped_at_limit(table: pl.DataFrame, where: str | Path, said: list[str]) -> pl.Series | None:
    """Which attempts were, by the reasons why they ended; ``None`` without such a column. ``said`` gets a line on it."""
    reason = find_column(table, where, "truncated", REASON, required=False)
    if reason is None:
        return None
    stopped = as_text(table, where, reason).str.to_lowercase().is_in(STOPPED).fill_null(value=False)
    said.append(f"truncated: column {reason}, {stopped.sum():,} attempts stopped at a limit")
    return stopped
