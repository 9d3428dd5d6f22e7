"""What lines of a log may say: nonsense is refused, with its file and line."""

from __future__ import annotations

import json
from typing import NoReturn

import numpy as np
import polars as pl

from ttc_sim.base.arguments import finite
from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.deploying.logs.lines import KINDS, PREDICTED, Lines
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.scenario import Scenario

STATUSES = ("answered", "timed_out", "rejected", "failed")
ONE_SOURCE = ("traffic",)  # of a workload that names none
_NEEDED = {
    "decision": ("request", "at", "plan", "source", "arm", "propensity", "deployment", "strategy", "prompt_tokens"),
    "outcome": (
        *("request", "at", "arm", "status", "latency_s", "calls"),
        *("prompt_tokens", "cached_tokens", "reasoning_tokens", "visible_tokens", "usd"),
    ),
    "grade": ("request", "correct"),
}
_COUNTED = ("calls", "prompt_tokens", "cached_tokens", "reasoning_tokens", "visible_tokens")
_ROUNDING = 1e-9
_AT_LEAST_0 = ("latency_s", "first_token_s", "usd", *_COUNTED)


def checked(lines: Lines, plan: SavedPlan | None) -> Lines:
    """The same lines, with ``at`` as a moment.

    Raises:
        InputError: the first line that says what cannot be.
    """
    for number, kind in enumerate(KINDS):
        mine = pl.col("kind") == number
        for field in _NEEDED[kind]:
            _refuse(lines, mine & pl.col(field).is_null(), field, "this key to be given")
    for field in ("request", "source", "arm"):
        _refuse(lines, pl.col(field) == "", field, "a name")
    moment = pl.col("at").str.to_datetime("%+", time_unit="us", strict=False)
    odd = pl.col("at").is_not_null() & moment.is_null()
    _refuse(lines, odd, "at", "a moment with its offset from UTC, such as 2026-11-26T13:05:00.000+00:00")
    _check_decisions(lines)
    _check_outcomes(lines)
    if plan is not None:
        _check_names(lines, plan.scenario)
    # A chance is a sum, which may miss 1 by its last digit.
    sure = pl.when((pl.col("propensity") - 1).abs() < _ROUNDING).then(1.0).otherwise(pl.col("propensity"))
    return Lines(lines.frame.with_columns(moment, sure.alias("propensity")), lines.paths, lines.torn)


def _check_decisions(lines: Lines) -> None:
    propensity, arms = pl.col("propensity"), pl.col("arms")
    _refuse(lines, (propensity <= 0) | (propensity > 1 + _ROUNDING), "propensity", "a chance above 0, at most 1")
    listed = arms.list.len() > 0
    without = listed & ~arms.list.contains(pl.col("arm"))
    _refuse(lines, without, "arms", "the arm that was chosen among those that might have been")
    others = arms.list.eval(pl.element().drop_nulls()).list.n_unique().fill_null(0) > 1
    _refuse(
        lines,
        (propensity < 1 - _ROUNDING) & ~others,
        "arms",
        "the arms that might have been chosen, as the propensity is below 1",
    )
    _refuse(lines, arms.list.eval(pl.element().is_null()).list.any(), "arms", "names of arms")
    decision = pl.col("kind") == 0
    _refuse(lines, decision & (pl.col("prompt_tokens") < 0), "prompt_tokens", "a whole number, at least 0")
    _refuse(lines, pl.col("max_tokens") < 1, "max_tokens", "a whole number, at least 1")
    for name in PREDICTED:
        value = pl.col("predicted").struct.field(name)
        odd = (value < 0) | (value > 1) if name == "chance" else value < 0
        expected = "a chance from 0 to 1" if name == "chance" else "a number, at least 0"
        _refuse(lines, odd, f"predicted.{name}", expected, value)


def _check_outcomes(lines: Lines) -> None:
    outcome = pl.col("kind") == 1
    _refuse(lines, ~pl.col("status").is_in(STATUSES), "status", f"one of {', '.join(STATUSES)}")
    for field in _AT_LEAST_0:
        kind = "a whole number" if field in _COUNTED else "a number"
        _refuse(lines, outcome & (pl.col(field) < 0), field, f"{kind}, at least 0")
    more = pl.col("cached_tokens") > pl.col("prompt_tokens")
    _refuse(lines, outcome & more, "cached_tokens", "no more than the tokens of prompts")
    odd = outcome & pl.col("correct") & (pl.col("status") != "answered")
    _refuse(lines, odd, "correct", "false or null, as the request was not answered")


def _check_names(lines: Lines, scenario: Scenario) -> None:
    """Sources, arms and what they do, as the plan has them."""
    known = list(scenario.arms)
    for field in ("arm", "policy_arm"):
        _refuse_unknown(lines, pl.col(field), field, known)
    for row in lines.frame.select("arms").unique().filter(pl.col("arms").list.len() > 0).iter_rows():
        for name in row[0]:
            if name not in known:
                _refuse(lines, pl.col("arms").list.contains(name), "arms", nearest(name, known))
    _refuse_unknown(lines, pl.col("source"), "source", list(scenario.workload.sources) or list(ONE_SOURCE))
    done = {name: (arm.deployment, repr(scenario.parsed_strategy(name))) for name, arm in scenario.arms.items()}
    for place, field in enumerate(("deployment", "strategy")):
        said = {name: what[place] for name, what in done.items()}
        for name, of in said.items():
            decided = (pl.col("kind") == 0) & (pl.col("arm") == name)
            _refuse(lines, decided & (pl.col(field) != of), field, f"{of}, as the plan's arm {name} has it")


def _refuse_unknown(lines: Lines, column: pl.Expr, field: str, known: list[str]) -> None:
    odd = lines.frame.filter(column.is_not_null() & ~column.is_in(known)).head(1)
    for row in odd.iter_rows(named=True):
        lines.refuse(row, field, row[field], nearest(row[field], known))


def _refuse(lines: Lines, odd: pl.Expr, field: str, expected: str, value: pl.Expr | None = None) -> None:
    """Refuse the first row for which ``odd`` holds."""
    found = lines.frame.filter(odd)
    for row in found.head(1).iter_rows(named=True):
        shown = row[field] if value is None else found.head(1).select(value).item()
        lines.refuse(row, field, "nothing" if shown is None else shown, expected)


def scores_of(lines: Lines) -> dict[str, F64]:
    """Scores of each row by name, NaN where it has none of that name.

    Raises:
        InputError: no mapping of names to finite numbers.
    """
    text = lines.frame["scores"].fill_null("{}")
    # Few mappings have other names than those before: the names alone are looked at once for each.
    names = text.str.replace_all(r'":\s*-?[0-9][0-9.eE+-]*', '":0').unique().to_list()
    found: dict[str, None] = {}
    for one in names:
        try:
            read = json.loads(one)
        except ValueError:
            read = None
        if not isinstance(read, dict) or any(value != 0 or isinstance(value, bool) for value in read.values()):
            _refuse_scores(lines)
        found.update(dict.fromkeys(read))
    if not found:
        return {}
    try:
        table = text.str.json_decode(pl.Struct(dict.fromkeys(found, pl.Float64()))).struct.unnest()
    except pl.exceptions.PolarsError:
        _refuse_scores(lines)
    return {name: table[name].to_numpy().astype(np.float64) for name in found}


def _refuse_scores(lines: Lines) -> NoReturn:
    """Go through the scores one by one for those that are none; a mapping that repeats a name has its last."""
    for row in lines.frame.filter(pl.col("scores").is_not_null()).iter_rows(named=True):
        try:
            read = json.loads(row["scores"])
        except ValueError:
            read = None
        if not isinstance(read, dict):
            lines.refuse(row, "scores", row["scores"], "a mapping of names to finite numbers")
        for name, value in read.items():
            if not finite(value):
                lines.refuse(row, f"scores.{name}", value, "a finite number")
    raise InputError(lines.paths[0], "scores", "what cannot be read", "a mapping of names to finite numbers")


__all__ = ["ONE_SOURCE", "STATUSES", "checked", "scores_of"]
