"""A page of what stands in a result's JSON: nothing is simulated, and nothing said that is not in the file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import dollars_of, number, percent, percent_of, rounded_down, seconds, span
from ttc_sim.files.documents import read_json
from ttc_sim.reporting.report.cards import CARDS, card
from ttc_sim.reporting.report.parts import Block, Card, Report, Section, State

_EXPECTED = "what `ttc-sim simulate --json` or `ttc-sim optimize --json` wrote"
_NEEDED = ("scenario", "cost_usd_per_request", "latency_s", "per_arm")


def is_result(path: Path) -> bool:
    """Whether this is a file of JSON, by its name."""
    return path.suffix.lower() == ".json"


def report_of_result(path: Path) -> Report:
    """The page.

    Raises:
        InputError: not JSON, or of something else.
    """
    raw = read_json(path, expected=_EXPECTED)
    if not isinstance(raw, dict) or not all(name in raw for name in _NEEDED):
        raise InputError(path, "file", type(raw).__name__ if not isinstance(raw, dict) else ", ".join(raw), _EXPECTED)
    reader = _Reader(path)
    name = "plan" if "status" in raw else "policy"
    targets = [one for one in reader.list(raw, "targets") if isinstance(one, dict)]
    compared = {name: raw, **reader.mapping(raw, "baselines")}
    sections = (
        Section("targets", "Targets", (_targets(reader, targets),) if targets else ()),
        Section("compared", "Compared with", (_comparison(reader, compared),)),
        Section("parts", "By arm, source and difficulty", tuple(_parts(reader, raw))),
        Section("times", "Times", (_times(reader, raw),)),
        Section("health", "Health of the plan", tuple(_health(reader, raw))),
        Section("assumptions", "What it rests on", tuple(_notes(reader, raw))),
    )
    answer, state = _answer(raw, targets)
    return Report(
        title=str(raw["scenario"]),
        question="",
        answer=(answer, f"Read from {path.name}; nothing was simulated for this page."),
        state=state,
        cards=tuple(_cards(reader, raw)),
        first=(),
        sections=tuple(one for one in sections if one.blocks),
    )


class _Reader:
    """Takes figures out of a file that anybody may have written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def estimate(self, raw: Any, field: str) -> Estimate | None:
        """A figure with its interval; ``None`` where the file has none."""
        if raw is None:
            return None
        if not isinstance(raw, dict) or not {"value", "low", "high"} <= set(raw):
            raise InputError(self.path, field, raw, "value, low and high, or null")
        ends = [self.number(raw[key], f"{field}.{key}", open_ended=key == "high") for key in ("value", "low", "high")]
        return Estimate(*ends)

    def number(self, raw: Any, field: str, *, open_ended: bool = False) -> float:
        """A number; null for what is not known, or has no end."""
        if raw is None:
            return math.inf if open_ended else math.nan
        if isinstance(raw, bool) or not isinstance(raw, int | float):
            raise InputError(self.path, field, raw, "a number")
        return float(raw)

    def mapping(self, raw: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Entries by name; none where the file has no such key."""
        found = raw.get(name) or {}
        if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
            raise InputError(self.path, name, found, "an object of objects")
        return found

    def list(self, raw: Mapping[str, Any], name: str) -> list[Any]:
        """Entries in a row; none where the file has no such key."""
        found = raw.get(name) or []
        if not isinstance(found, list):
            raise InputError(self.path, name, found, "a list")
        return found


def _answer(raw: Mapping[str, Any], targets: list[dict[str, Any]]) -> tuple[str, State]:
    if not targets:
        return "No targets are in the file: this is what it came to.", "plain"
    kept = [one.get("holds", one.get("met")) for one in targets]
    missed = [str(one.get("name")) for one, held in zip(targets, kept, strict=True) if held is False]
    unsure = [str(one.get("name")) for one, held in zip(targets, kept, strict=True) if held is None]
    if missed or raw.get("status") == "nearest":
        return f"No: {', '.join(missed) or 'some targets'} cannot be held, or not as surely as asked.", "bad"
    if unsure:
        return f"Not known: too few requests or problems to tell of {', '.join(unsure)}.", "unsure"
    return "Yes: every target holds.", "good"


def _cards(reader: _Reader, raw: Mapping[str, Any]) -> Iterator[Card]:
    latency = raw["latency_s"] if isinstance(raw["latency_s"], dict) else {}
    found = {**raw, "latency_p95_s": latency.get("p95")}
    for name in CARDS:
        figure = reader.estimate(found.get(name), "latency_s.p95" if name == "latency_p95_s" else name)
        if figure is not None and not math.isnan(figure.value):
            yield card(name, figure)


def _targets(reader: _Reader, targets: list[dict[str, Any]]) -> Table:
    table = Table()
    table.add_column("target")
    for name in ("asked", "came to", "95% interval", "chance that it holds"):
        table.add_column(name, justify="right")
    for k, one in enumerate(targets):
        figure = reader.estimate(one.get("promised", one.get("realized")), f"targets.{k}")
        bound = reader.number(one.get("bound", one.get("asked")), f"targets.{k}.asked")
        chance = reader.number(one.get("chance"), f"targets.{k}.chance")
        known = figure is not None and not math.isnan(figure.value)
        table.add_row(
            str(one.get("name")),
            f"{'at least' if one.get('at_least') else 'at most'} {bound:.4g}",
            f"{figure.value:.4g}" if known and figure is not None else "unknown",
            span(figure) if known and figure is not None else "",
            "unknown" if math.isnan(chance) else f"{rounded_down(chance)}%",
        )
    return table


def _comparison(reader: _Reader, rows: Mapping[str, Any]) -> Table:
    table = Table()
    table.add_column("policy")
    for name in ("accuracy", "$ / 1k requests", "$ / day", "p95 s", "timed out"):
        table.add_column(name, justify="right")
    for k, (name, one) in enumerate(rows.items()):
        latency = one.get("latency_s") if isinstance(one.get("latency_s"), dict) else {}
        cells = (
            ("accuracy", one.get("accuracy"), percent_of),
            ("cost_usd_per_request", one.get("cost_usd_per_request"), lambda figure: dollars_of(figure, 1000)),
            ("cost_usd_per_day", one.get("cost_usd_per_day"), lambda figure: number(figure.value)),
            ("latency_s.p95", latency.get("p95"), lambda figure: seconds(figure.value)),
            ("timeout_rate", one.get("timeout_rate"), lambda figure: percent(figure.value)),
        )
        above = "" if k == 0 else f"baselines.{name}."
        figures = (_cell(reader, raw, said, f"{above}{key}") for key, raw, said in cells)
        table.add_row(name, *figures, style="bold" if k == 0 else None)
    return table


def _cell(reader: _Reader, raw: Any, said: Any, field: str) -> str:
    figure = reader.estimate(raw, field)
    return "unknown" if figure is None or math.isnan(figure.value) else str(said(figure))


def _parts(reader: _Reader, raw: Mapping[str, Any]) -> Iterator[Block]:
    for name, title in (("per_arm", "By arm"), ("per_source", "By source"), ("per_band", "By predicted difficulty")):
        parts = reader.mapping(raw, name)
        if not parts or (name == "per_source" and len(parts) == 1):
            continue
        table = Table(title=title)
        table.add_column("")
        for column in ("requests", "accuracy", "$ / 1k requests", "p95 s", "output tokens"):
            table.add_column(column, justify="right")
        for label, one in parts.items():
            at = f"{name}.{label}"
            table.add_row(
                label,
                percent(reader.number(one.get("share"), f"{at}.share")),
                _cell(reader, one.get("accuracy"), percent_of, f"{at}.accuracy"),
                _cell(
                    reader,
                    one.get("cost_usd_per_request"),
                    lambda figure: dollars_of(figure, 1000),
                    f"{at}.cost_usd_per_request",
                ),
                _cell(
                    reader,
                    one.get("latency_p95_s"),
                    lambda figure: seconds(figure.value),
                    f"{at}.latency_p95_s",
                ),
                number(reader.number(one.get("tokens_per_request"), f"{at}.tokens_per_request")),
            )
        yield table


def _times(reader: _Reader, raw: Mapping[str, Any]) -> Table:
    table = Table()
    table.add_column("seconds")
    names = ("mean", "p50", "p90", "p95", "p99")
    for name in names:
        table.add_column(name, justify="right")
    for key, label in (
        ("ttft_s", "to the first token"),
        ("tpot_s", "per further token"),
        ("latency_s", "to the last token"),
    ):
        found = raw.get(key)
        if isinstance(found, dict):
            cells = (
                _cell(reader, found.get(name), lambda one: number(one.value, 1), f"{key}.{name}") for name in names
            )
            table.add_row(label, *cells)
    return table


def _health(reader: _Reader, raw: Mapping[str, Any]) -> Iterator[Block]:
    checks = [one for one in reader.list(raw, "health") if isinstance(one, dict)]
    if checks:
        table = Table()
        for name in ("check", "status", "what it found"):
            table.add_column(name)
        for one in checks:
            table.add_row(str(one.get("name")), str(one.get("status")), str(one.get("says")))
        yield table


def _notes(reader: _Reader, raw: Mapping[str, Any]) -> Iterator[Block]:
    runs, requests, problems = (raw.get(name) for name in ("runs", "requests", "problems"))
    yield f"{runs} runs of {requests} requests; {problems or 'no'} measured problems stand behind them."
    yield from (str(note) for note in reader.list(raw, "notes"))


__all__ = ["is_result", "report_of_result"]
