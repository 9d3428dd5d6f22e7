"""What must hold of everything that is written, whatever the input was."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import yaml

SLACK = 1e-9
STATUSES = {"completed", "rejected", "timed out", "timed_out", "in flight", "in_flight"}
# Parts of a file that hold differences, errors and inputs, which may have any sign and size.
ANY_SIGN = (
    "gain",
    "optimism",
    "error",
    "saved",
    "difference",
    "beside",
    "correction",
    "slope",
    "step_time",
    "architecture",
    "card",
    "predictor.",
    "models.",
    "sources.",
)
AT_LEAST_0 = (
    "usd",
    "tokens",
    "latency",
    "ttft",
    "itl",
    "e2e",
    "wait",
    "seconds",
    "requests",
    "runs",
    "problems",
    "count",
)
SHARES = ("share", "accuracy", "timeout_rate", "rejected_rate", "unserved_rate", "cut_off_rate", "auroc", "brier")


class NonsenseError(Exception):
    """What was written cannot be."""


def check_outputs(folder: Path, since: set[str]) -> None:
    """Check every file that a command has written.

    Raises:
        NonsenseError: one that is not whole, or a figure that cannot be.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name in since or not path.is_file():
            continue
        if ".tmp" in path.name or path.name.startswith("."):
            raise NonsenseError(f"a temporary file is left: {path.name}")
        if path.suffix == ".json" or path.read_bytes()[:1] == b"{":  # --json may be given any name
            check_json(path)
        elif path.suffix in (".parquet", ".csv"):
            check_records(read(path))
        elif path.suffix == ".yaml" and path.name.startswith("made"):
            walk(yaml.safe_load(path.read_text(encoding="utf-8")).get("promised", {}), "promised")


def read(path: Path) -> pl.DataFrame:
    """A table that was written."""
    if path.suffix == ".parquet":
        return pl.read_parquet(path, glob=False)
    return pl.read_csv(path, infer_schema_length=None, glob=False)


def check_json(path: Path) -> None:
    """Valid JSON without NaN, whose figures can be."""

    def refuse(word: str) -> None:
        raise NonsenseError(f"JSON with {word}")

    content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    walk(content, "")
    if isinstance(content, dict) and {"looks_made_up", "outputs"} <= content.keys():
        check_audit(content)
    if isinstance(content, dict) and {"per_arm", "per_band", "cost_usd_per_request"} <= content.keys():
        for one in (content, *content.get("baselines", {}).values()):
            check_parts(one)


def check_audit(content: dict[str, Any]) -> None:
    """Every row of a log is kept or left out, and no table has more rows than were read."""
    rows = content["rows"]
    left = sum(one["rows"] for why, one in rows["why"].items() if not why.startswith("graded"))
    if rows["read"] != rows["kept"] + left:
        raise NonsenseError("import: rows lost")
    most = max((count for name, count in content["outputs"].items()), default=0)
    if most > rows["kept"]:
        raise NonsenseError("import: rows made up")


def walk(content: Any, at: str) -> None:
    """Every figure on its own: intervals and quantiles in order, shares between 0 and 1, nothing negative that cannot be."""
    if isinstance(content, list):
        for k, one in enumerate(content):
            walk(one, f"{at}.{k}")
    if not isinstance(content, dict):
        return
    if {"value", "low", "high"} <= content.keys() and None not in (content["value"], content["low"], content["high"]):
        value, low, high = content["value"], content["low"], content["high"]
        if not low - SLACK * abs(low) <= value <= high + SLACK * abs(high):
            raise NonsenseError(f"{_place(at)}: value outside its interval")
    quantiles = [number(content[key]) for key in ("p50", "p90", "p95", "p99") if key in content]
    known = [one for one in quantiles if one is not None]
    if any(b < a * (1 - SLACK) for a, b in pairwise(known)):
        raise NonsenseError(f"{_place(at)}: quantiles out of order")
    for key, one in content.items():
        place = f"{at}.{key}"
        value = number(one)
        if value is not None and not any(word in place for word in ANY_SIGN):
            _check_size(place, key, value)
        walk(one, place)


def _check_size(place: str, key: str, value: float) -> None:
    named = place.rsplit(".", 2)[-2] if key in ("value", "low", "high", "mean", "p50", "p90", "p95", "p99") else key
    if (
        any(named == word or named.endswith(("_" + word, "." + word)) for word in SHARES)
        and not -SLACK <= value <= 1 + SLACK
    ):
        raise NonsenseError(f"{_place(place)}: a share outside 0 to 1")
    if any(word in named for word in AT_LEAST_0) and value < -SLACK:
        raise NonsenseError(f"{_place(place)}: below 0")


def number(one: Any) -> float | None:
    """The figure, or that of an interval."""
    if isinstance(one, dict):
        one = one.get("value")
    return float(one) if isinstance(one, (int, float)) and not isinstance(one, bool) else None


def _place(at: str) -> str:
    """Without the names that a scenario gives, so that findings of one kind come together."""
    parts = at.strip(".").split(".")
    return ".".join(
        part if part.replace("_", "").isalnum() and not part.isdigit() else "*" for part in parts[:2] + parts[-2:]
    )


def check_parts(summary: dict[str, Any]) -> None:
    """Parts add up to the whole."""
    total = summary["cost_usd_per_request"]["value"]
    for name in ("per_arm", "per_source", "per_band"):
        parts = list(summary[name].values())
        if not parts or total is None:
            continue
        shares = math.fsum(part["share"] for part in parts)
        if abs(shares - 1) > 1e-6:
            raise NonsenseError(f"{name}: shares add up to {shares:.6g}")
        costs = [part["cost_usd_per_request"]["value"] for part in parts]
        if None in costs:
            continue
        bill = math.fsum(part["share"] * cost for part, cost in zip(parts, costs, strict=True))
        if abs(bill - total) > 1e-6 * max(abs(total), 1e-12):
            raise NonsenseError(f"{name}: bills do not add up to the total")


def check_records(table: pl.DataFrame) -> None:
    """Every request of a run is there once, with times in order and a bill that can be."""
    if not {"run", "request", "status", "latency_s", "cost_usd"} <= set(table.columns):
        return
    # A column without a value is read as text from CSV.
    figures = [name for name in table.columns if name.endswith(("_s", "_usd"))]
    table = table.with_columns(pl.col(figures).cast(pl.Float64))
    # Runs over a time have as many requests as come in it, each another number.
    request = pl.col("request")
    counts = table.group_by("run").agg(pl.len().alias("n"), request.n_unique().alias("distinct"), request.max() + 1)
    if (counts["n"] != counts["distinct"]).any() or (counts["n"] != counts["request"]).any():
        raise NonsenseError("records: requests lost or doubled")
    strange = set(table["status"]) - STATUSES
    if strange:
        raise NonsenseError(f"records: status {strange}")
    for name in (
        "latency_s",
        "ttft_s",
        "cost_usd",
        "thinking_cost_usd",
        "idle_cost_usd",
        "visible_cost_usd",
        "prompt_tokens",
        "visible_tokens",
    ):
        least = table[name].min()
        if isinstance(least, (int, float)) and least < -SLACK:
            raise NonsenseError(f"records: {name} below 0")
    for early, late in (("arrival_s", "started_s"), ("started_s", "first_token_s"), ("first_token_s", "finished_s")):
        if (table[early] > table[late] + 1e-6).any():
            raise NonsenseError(f"records: {early} after {late}")
    if (table["thinking_cost_usd"] > table["cost_usd"] * (1 + 1e-9) + 1e-12).any():
        raise NonsenseError("records: thinking costs more than all")


def records_agree(records: pl.DataFrame, summary: dict[str, Any]) -> None:
    """Completed, rejected and timed out are all there are, as often as the summary says."""
    # Of runs over a time, that is a rounded mean.
    rounded = summary["runs"] / 2 if "duration_s" in summary else 0
    if abs(len(records) - summary["runs"] * summary["requests"]) > rounded:
        raise NonsenseError("records: not one for every request")
    for status, rate in (("timed", "timeout_rate"), ("rejected", "rejected_rate")):
        found = records["status"].str.starts_with(status).mean()
        if not isinstance(found, float) or abs(found - summary[rate]["value"]) > 1e-9:
            raise NonsenseError(f"records: {rate} is another than the summary's")


__all__ = ["NonsenseError", "check_json", "check_outputs", "records_agree"]
