"""Log files to arrays: decisions, outcomes and grades joined by their request."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from ttc_sim.base.arguments import location
from ttc_sim.base.draws import F64, I64
from ttc_sim.base.errors import InputError
from ttc_sim.deploying.logs.checks import ONE_SOURCE, STATUSES, checked, scores_of
from ttc_sim.deploying.logs.joined import Counts, Flags, Logs
from ttc_sim.deploying.logs.lines import PREDICTED, Lines, read_lines
from ttc_sim.optimizer.plan import SavedPlan

_SAID = ("plan", "source", "session", "arm", "policy_arm", "propensity", "deployment", "strategy", "max_tokens")
_DECIDED = ("request", "at", *_SAID, "prompt_tokens", "fell_back")
_ENDED = (
    *("request", "at", "arm", "status", "latency_s", "first_token_s", "calls", "prompt_tokens", "cached_tokens"),
    *("reasoning_tokens", "visible_tokens", "usd", "correct"),
)
_NUMBERS = ("latency_s", "first_token_s", "calls", "cached_tokens", "reasoning_tokens", "visible_tokens", "usd")


def read_logs(
    paths: str | Path | Sequence[str | Path], plan: SavedPlan | None = None, *, digest: str | None = None
) -> Logs:
    """Read what a plan's runtime logged.

    Args:
        paths: log files, JSON Lines, in any order; a request's decision and outcome may stand in different ones.
        plan: that was carried out: sources, arms and what they do must be those that it has.
        digest: first digits of the SHA-256 of the plan's file; decisions of other plans are counted and left out.

    Raises:
        InputError: no such file, no decision in any, or a line that says what cannot be, with its file and number. Lines that
            were cut off as they were written are counted, as are the same line twice and outcomes without their decision.

    >>> read_logs("today.jsonl")  # doctest: +SKIP
    Logs(sources=('traffic',), arms=('maverick', 'r1'), counts=Counts(lines=2000, torn=0, ...))
    """
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    places = [location("read_logs", "paths", one, "files of log lines") for one in given]
    if len({place.resolve() for place in places}) < len(places):
        raise InputError("read_logs", "paths", [str(place) for place in places], "each file once")
    lines = checked(read_lines(places), plan)
    frame = lines.frame.with_columns(
        *(pl.col("predicted").struct.field(name).alias(f"predicted {name}") for name in PREDICTED),
        pl.col("arms").list.join("\n").fill_null("").alias("arms"),
        *(pl.Series(f"score {name}", column, nan_to_null=False) for name, column in scores_of(lines).items()),
    ).with_columns(pl.col("policy_arm").fill_null(pl.col("arm")))
    scores = [name for name in frame.columns if name.startswith("score ")]
    predicted = [f"predicted {name}" for name in PREDICTED]
    here = [*_DECIDED, "arms", *predicted, *scores]
    decisions, again = _once(lines, frame.filter(pl.col("kind") == 0), here, "decision")
    outcomes, again_ended = _once(lines, frame.filter(pl.col("kind") == 1), list(_ENDED), "outcome")
    graded = frame.filter(pl.col("kind") == 2).select("request", "correct", "file", "row", "kind")
    grades, regraded = _last_grades(lines, graded)
    if decisions.is_empty():
        where = places[0] if len(places) == 1 else "read_logs"
        raise InputError(where, "log", "no decision", "decisions, as a plan's runtime logs them")
    others = 0
    every = decisions.select("request")
    if digest is not None:
        of_plan = decisions.filter(pl.col("plan") == digest)
        if of_plan.is_empty():
            raise InputError(places[0], "plan", decisions["plan"][0], f"decisions of the plan {digest}")
        others, decisions = len(decisions) - len(of_plan), of_plan
    _check_grades(lines, grades.join(outcomes.select("request", "status"), on="request"))
    joined = (
        decisions.join(outcomes.rename({name: f"ended {name}" for name in _ENDED[1:]}), on="request", how="left")
        .join(grades.select("request", pl.col("correct").alias("grade")), on="request", how="left")
        .sort("at", "request")
    )
    counts = Counts(
        lines=len(frame),
        torn=sum(map(len, lines.torn)),
        repeated=again + again_ended,
        other_plans=others,
        without_outcome=int(joined["ended status"].null_count()),
        outcomes_alone=len(outcomes.join(every, on="request", how="anti")),
        grades_alone=len(grades.join(every, on="request", how="anti")),
        regraded=regraded,
        fell_back=len(joined) - int(joined["fell_back"].null_count()),
    )
    return _arrays(joined, plan, counts)


def _once(lines: Lines, frame: pl.DataFrame, fields: list[str], what: str) -> tuple[pl.DataFrame, int]:
    """One row a request, and how many were there again.

    Raises:
        InputError: two that differ.
    """
    once = frame.unique(fields, keep="first", maintain_order=True)
    double = once.filter(~pl.col("request").is_first_distinct()).head(1)
    for row in double.iter_rows(named=True):
        first = once.filter(pl.col("request") == row["request"]).row(0, named=True)
        path, line = lines.place(first)
        lines.refuse(
            row, "request", row["request"], f"one {what} of each request: another one stands in {path}, line {line}"
        )
    return once.select(fields), len(frame) - len(once)


def _last_grades(lines: Lines, frame: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The last grade of each request, and of how many it is not the first.

    Raises:
        InputError: files that differ: which of them is later is not known.
    """
    last = frame.unique(["request", "file"], keep="last", maintain_order=True)
    differing = last.group_by("request").agg(pl.col("correct").n_unique()).filter(pl.col("correct") > 1)
    for row in last.join(differing.select("request"), on="request").sort("file", "row").head(1).iter_rows(named=True):
        expected = "the same grade in all files, or all grades of a request in one, in which the last one counts"
        lines.refuse(row, f"correct of {row['request']}", row["correct"], expected)
    again = frame.group_by("request").agg(pl.col("correct").n_unique()).filter(pl.col("correct") > 1)
    return last.unique("request", keep="last", maintain_order=True), len(again)


def _check_grades(lines: Lines, graded: pl.DataFrame) -> None:
    odd = graded.filter(pl.col("correct") & (pl.col("status") != "answered")).head(1)
    for row in odd.iter_rows(named=True):
        lines.refuse(row, "correct", True, f"false, as the request was not answered: {row['status']}")


def _arrays(joined: pl.DataFrame, plan: SavedPlan | None, counts: Counts) -> Logs:
    arm_lists = joined["arms"].unique().to_list()
    said = [*joined["arm"], *joined["policy_arm"]] if plan is None else []
    named = {name for one in arm_lists if one for name in one.split("\n")}
    ended = set(joined["ended arm"].drop_nulls().unique())
    if plan is None:
        arms = tuple(sorted({*said, *named, *ended}))
        sources = tuple(sorted(joined["source"].unique()))
    else:
        arms = tuple(plan.scenario.arms)
        sources = tuple(plan.scenario.workload.sources) or ONE_SOURCE
    arm = _codes(joined["arm"], arms)
    has_outcome = joined["ended status"].is_not_null().to_numpy()
    session = joined["session"].rank("dense").fill_null(0).to_numpy().astype(np.int64) - 1
    status = _codes(joined["ended status"], STATUSES)
    grade = joined.select(pl.coalesce("grade", "ended correct").cast(pl.Float64)).to_series()
    return Logs(
        request=joined["request"],
        at=_seconds(joined["at"]),
        sources=sources,
        source=_codes(joined["source"], sources),
        session=session,
        arms=arms,
        arm=arm,
        policy_arm=_codes(joined["policy_arm"], arms),
        propensity=joined["propensity"].to_numpy(),
        offered=_offered(joined["arms"], arms, arm),
        prompt_tokens=joined["prompt_tokens"].to_numpy(),
        scores={name.removeprefix("score "): _floats(joined[name]) for name in joined.columns if name[:6] == "score "},
        predicted={name: _floats(joined[f"predicted {name}"]) for name in PREDICTED},
        fell_back=joined["fell_back"].is_not_null().to_numpy(),
        has_outcome=has_outcome,
        ended_at=_seconds(joined["ended at"]),
        answered_by=_codes(joined["ended arm"], arms),
        status=status,
        **{name: _floats(joined[f"ended {name}"]) for name in _NUMBERS},
        read_tokens=_floats(joined["ended prompt_tokens"]),
        correct=np.where(status > 0, 0.0, _floats(grade)),
        counts=counts,
    )


def _codes(column: pl.Series, names: tuple[str, ...]) -> I64:
    """Index of each into the names; -1 of none."""
    found = column.replace_strict(list(names), list(range(len(names))), default=-1, return_dtype=pl.Int64)
    return found.to_numpy()


def _floats(column: pl.Series) -> F64:
    return column.cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _seconds(column: pl.Series) -> F64:
    return _floats(column.dt.timestamp("us")) / 1e6


def _offered(lists: pl.Series, arms: tuple[str, ...], arm: I64) -> Flags:
    kinds = lists.unique().to_list()
    table = np.array([[name in one.split("\n") for name in arms] for one in kinds], dtype=bool).reshape(-1, len(arms))
    offered: Flags = table[_codes(lists, tuple(kinds))]
    offered[np.arange(len(arm)), arm] = True
    return offered


__all__ = ["read_logs"]
