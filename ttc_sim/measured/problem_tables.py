"""A user's two tables, of problems and of models' attempts at them, under one set of names.

Training, evaluation and validation all read them here, so that a pair of files means the same to each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.files.tables import find_column, read_table
from ttc_sim.measured.building import USUAL_NAMES, prompt_tokens, stopped_at_limit, usual_names
from ttc_sim.measured.columns import as_keys, as_text, as_tokens, labels, texts
from ttc_sim.measured.grades import is_gold

PROBLEM = USUAL_NAMES["problem"]
PROMPT = ("prompt", "question", "text")
SUBSET = ("subset", "dataset")
TASK = ("group", "task")
CATEGORY = ("category", "subject")
MODEL = ("model", "profile")
CORRECT = USUAL_NAMES["correct"]
_WIDE = "_correct"


@dataclass(frozen=True)
class ProblemTables:
    """Problems, and the attempts at them.

    Attributes:
        problems: a row a problem: ``problem`` (its key, ``<dataset>/<key>`` where the problems have datasets), ``prompt``,
            ``subset`` (dataset) and ``group`` (task type or category); all text, the last two empty where nothing is known.
        attempts: a row an attempt at one of the problems, in the order of the file: ``problem``, ``model``, ``correct`` (0 to 1)
            and, if asked for, ``output_tokens`` (reasoning included), ``reasoning_tokens`` (null where not recorded),
            ``prompt_tokens`` (1 where there is no such column), ``truncated`` and ``answer`` (null where not recorded, and where
            the column holds the right answers and not those that were given).
        has_groups: whether there is a column of task types or categories; group_is_task: whether it names task types.
    """

    problems: pl.DataFrame
    attempts: pl.DataFrame
    has_groups: bool
    group_is_task: bool


def read_problem_tables(
    problems: str | Path, attempts: str | Path, *, with_tokens: bool, subset: str | None = None
) -> ProblemTables:
    """Read both tables (Parquet, CSV or JSONL).

    Args:
        problems: a key and a prompt a row; ``dataset`` or ``subset``, and ``task``, ``group``, ``category`` or ``subject`` are
            used where they are there. A problem may stand in several rows with the same prompt; the first counts.
        attempts: a row an attempt: the key, ``model``, ``correct``, and ``dataset`` if keys repeat between the problems'
            datasets. It may be the same file. Attempts at other problems are left out.
        with_tokens: single attempts with their token counts: ``correct`` is 0 or 1. Otherwise it may be a share too, and instead
            of ``model`` and ``correct`` there may be a column ``NAME_correct`` for each model.
        subset: only problems of this dataset.

    Raises:
        InputError: a missing column, prompts that are not text, an empty key, model, dataset or label, another label, token
            counts that are not whole numbers, one key with two prompts, keys that repeat between datasets and cannot be told
            apart, no attempt at any problem.
    """
    table, tries = read_table(problems), read_table(attempts)
    key, prompt = (
        _named(table, problems, "problem", usual_names(table, "problem")),
        _named(table, problems, "prompt", PROMPT),
    )
    dataset = find_column(table, problems, "subset", SUBSET, required=False)
    task = find_column(table, problems, "task", TASK, required=False)
    group = task or find_column(table, problems, "category", CATEGORY, required=False)
    plain = as_keys(table, problems, key)
    within = as_keys(table, problems, dataset) if dataset else pl.repeat("", len(table), eager=True)
    asked = pl.DataFrame(
        {
            "plain": plain,
            "problem": within + "/" + plain if dataset else plain,
            "prompt": texts(table, problems, prompt),
            "subset": within,
            "group": as_text(table, problems, group).fill_null("") if group else [""] * len(table),
        }
    )
    if subset is not None:
        known = asked["subset"].unique().to_list()
        if subset not in known:
            raise InputError(problems, "subset", subset, nearest(subset, known))
        asked = asked.filter(pl.col("subset") == subset)
    asked = asked.unique(["problem", "prompt"], keep="first", maintain_order=True)
    twice = asked.filter(pl.col("problem").is_duplicated())
    if len(twice):
        raise InputError(
            problems, f"column {key}", twice["problem"][0], f"each once, or with the same {prompt} each time"
        )

    try_key = _named(tries, attempts, "problem", usual_names(tries, "problem"))
    try_plain = as_keys(tries, attempts, try_key)
    try_dataset = find_column(tries, attempts, "subset", SUBSET, required=False)
    if dataset and try_dataset:
        match, keys = "problem", as_keys(tries, attempts, try_dataset) + "/" + try_plain
    else:
        match, keys = "plain", try_plain
    if dataset and not try_dataset:
        _not_repeated(asked.select("plain", "subset"), problems, attempts)
    if try_dataset and not dataset:
        both = pl.DataFrame({"plain": try_plain, "subset": as_text(tries, attempts, try_dataset)})
        _not_repeated(both.join(asked, on="plain", how="semi"), attempts, problems)
    outcomes = _attempts(tries, attempts) if with_tokens else _outcomes(tries, attempts)
    copies = len(outcomes) // len(tries)  # more than one of a table with a column for each model
    made = (
        outcomes.with_columns(pl.concat([keys] * copies).alias(match))
        .join(asked.select({"problem", match}), on=match, how="inner", maintain_order="left")
        .select("problem", *outcomes.columns)
    )
    if with_tokens and is_gold(made["problem"], made["answer"], made["correct"] == 1):
        made = made.with_columns(answer=pl.lit(None, dtype=pl.String))
    if made.is_empty():
        few = ", ".join(keys.head(3).to_list())
        raise InputError(attempts, f"column {try_key}", few, f"keys of the problems that stand in {problems}")
    return ProblemTables(asked.drop("plain"), made, group is not None, task is not None)


def _named(table: pl.DataFrame, where: str | Path, role: str, usual: Sequence[str]) -> str:
    return str(find_column(table, where, role, usual))


def _not_repeated(keys: pl.DataFrame, where: str | Path, other: str | Path) -> None:
    """Keys must not repeat between datasets if the other table does not say which dataset is meant."""
    counts = keys.group_by("plain", maintain_order=True).agg(pl.col("subset").n_unique())
    twice = counts.filter(pl.col("subset") > 1)
    if len(twice):
        said = f"{twice['plain'][0]} of several datasets"
        raise InputError(where, "keys", said, f"each key of one dataset, or a column dataset in {other} too")


def _outcomes(tries: pl.DataFrame, where: str | Path) -> pl.DataFrame:
    """``model`` and ``correct`` of each attempt; of tables with a column a model, one model after the other."""
    model = find_column(tries, where, "model", MODEL, required=False)
    wide = [column for column in tries.columns if column.endswith(_WIDE) and column not in CORRECT]
    if model is None and wide:
        return pl.concat(
            pl.DataFrame({"model": [column.removesuffix(_WIDE)] * len(tries), "correct": _known(tries, where, column)})
            for column in wide
        )
    model, correct = _named(tries, where, "model", MODEL), _named(tries, where, "correct", CORRECT)
    return pl.DataFrame({"model": as_keys(tries, where, model), "correct": _known(tries, where, correct)})


def _known(tries: pl.DataFrame, where: str | Path, column: str, *, shares: bool = True) -> pl.Series:
    found = labels(tries, where, column, shares=shares)
    if found.null_count():
        raise InputError(where, f"column {column}", f"{found.null_count():,} empty values", "0 or 1 in every row")
    return found


def _attempts(tries: pl.DataFrame, where: str | Path) -> pl.DataFrame:
    """Single attempts with all that is said of each."""
    model, correct = _named(tries, where, "model", MODEL), _named(tries, where, "correct", CORRECT)
    prompt, truncated, answer = (
        find_column(tries, where, role, USUAL_NAMES[role], required=False)
        for role in ("prompt_tokens", "truncated", "answer")
    )
    output, reasoning = _output(tries, where)
    if truncated is not None:
        stopped: pl.Series | None = labels(tries, where, truncated, shares=False).fill_null(0).cast(pl.Boolean)
    else:
        stopped = stopped_at_limit(tries, where, [])
    if stopped is None:
        stopped = pl.repeat(False, len(tries), eager=True)
    return pl.DataFrame(
        {
            "model": as_keys(tries, where, model),
            "correct": _known(tries, where, correct, shares=False),
            "output_tokens": output,
            "reasoning_tokens": reasoning,
            "prompt_tokens": _prompts(tries, where, prompt) if prompt else pl.repeat(1, len(tries), eager=True),
            "truncated": stopped,
            "answer": as_text(tries, where, answer) if answer else pl.Series([None] * len(tries), dtype=pl.String),
        }
    )


def _prompts(tries: pl.DataFrame, where: str | Path, column: str) -> pl.Series:
    """Tokens of the prompts, at least 1."""
    tokens = prompt_tokens(tries, where, column, [])
    empty = (tokens < 1).arg_true()
    if len(empty):
        raise InputError(where, f"column {column}, row {empty[0] + 1}", tokens[empty[0]], "at least 1 token")
    return tokens


def _output(tries: pl.DataFrame, where: str | Path) -> tuple[pl.Series, pl.Series]:
    """Output tokens with reasoning, and reasoning tokens as far as they are recorded."""
    names = {
        role: find_column(tries, where, role, USUAL_NAMES[role], required=False)
        for role in ("visible_tokens", "reasoning_tokens", "output_tokens")
    }
    visible, reasoning, output = names.values()
    if output is None and visible is None:
        output = _named(tries, where, "output_tokens", USUAL_NAMES["output_tokens"])
    nothing = pl.Series([None] * len(tries), dtype=pl.Int64)
    if output is None:
        shown = as_tokens(tries, where, str(visible))
        if reasoning is None:
            return shown, nothing
        thought = as_tokens(tries, where, reasoning, empty=0)
        return shown + thought, _where_known(thought, tries[reasoning])
    total = as_tokens(tries, where, output)
    if reasoning is None or tries[reasoning].null_count() == len(tries):
        return total, nothing
    thought = as_tokens(tries, where, reasoning, empty=0)
    over = (thought > total).arg_true()
    if len(over):
        row = over[0]
        raise InputError(where, f"column {output}, row {row + 1}", total[row], f"at least {reasoning}, {thought[row]}")
    return total, _where_known(thought, tries[reasoning])


def _where_known(tokens: pl.Series, given: pl.Series) -> pl.Series:
    """Null where nothing was given."""
    return tokens.to_frame("tokens").select(pl.when(given.is_not_null()).then("tokens")).to_series()


__all__ = ["CORRECT", "MODEL", "PROBLEM", "PROMPT", "ProblemTables", "read_problem_tables"]
