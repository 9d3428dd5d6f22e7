"""The widget: knobs on the page, figures from the kernel."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import anywidget
import traitlets

from ttc_sim.base.errors import InputError
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import dollars, percent, seconds, signed
from ttc_sim.base.threads import one_thread
from ttc_sim.exploring.knobs import Setting, changes_of, knobs_of
from ttc_sim.exploring.trying import Tried, Trying
from ttc_sim.policies import Always
from ttc_sim.simulation.differences import Compared

_HERE = Path(__file__).parent
_Base: Any = anywidget.AnyWidget


class _Shown(NamedTuple):
    """How a figure is read: so many times it, and of a difference decimals and unit."""

    label: str
    value: Callable[[float], str]
    times: float
    decimals: int
    unit: str


FIGURES = {
    "accuracy": _Shown("Accuracy", percent, 100.0, 2, " points"),
    "cost_usd_per_request": _Shown("$ per 1,000 requests", lambda usd: dollars(1000 * usd), 1000.0, 2, ""),
    "cost_usd_per_day": _Shown("$ a day", dollars, 1.0, 0, ""),
    "cost_usd_per_month": _Shown("$ a month of 30 days", dollars, 1.0, 0, ""),
    "latency_p50_s": _Shown("Latency, median, s", seconds, 1.0, 2, " s"),
    "latency_p95_s": _Shown("Latency, 95th percentile, s", seconds, 1.0, 2, " s"),
    "timeout_rate": _Shown("Not answered (timed out, rejected, failed)", percent, 100.0, 2, " points"),
}


class Explorer(_Base):  # type: ignore[misc]
    """What :func:`ttc_sim.explore` returns: shows itself in a notebook, and can be moved from Python.

    Attributes:
        setting: by knob, the values that are not the base's; to be set.
        knobs: what may be moved, as the page has it.
        tried: what the setting comes to (:class:`ttc_sim.exploring.trying.Tried`); ``None`` where it cannot be carried out.
        changes: what it changes, by path, for :func:`ttc_sim.what_if`; command: the same for ``ttc-sim whatif``.
        error: why it cannot be carried out, else empty.
    """

    _esm = _HERE / "explorer.js"
    _css = _HERE / "explorer.css"
    about = traitlets.Dict().tag(sync=True)
    knobs: Any = traitlets.List().tag(sync=True)
    setting = traitlets.Dict().tag(sync=True)
    shown = traitlets.Dict().tag(sync=True)
    compared = traitlets.Dict().tag(sync=True)

    def __init__(self, desk: Trying, command: str) -> None:
        self._desk, self._whatif = desk, command
        self._known = {knob.name: knob for knob in knobs_of(desk)}
        self.changes: dict[str, object] = {}
        self.tried: Tried | None = None
        shown = self._carried_out({})
        super().__init__(
            about=self._about(),
            knobs=[knob.as_json() for knob in self._known.values()],
            setting={},
            shown=shown,
            compared=self._beside_base({}),
        )

    @property
    def command(self) -> str:
        """The command line that carries the setting out."""
        if not self.changes:
            return self._whatif
        said = "; ".join(f"{path}={value}" for path, value in self.changes.items())
        return f"{self._whatif} --set {_quoted(said)}"

    @property
    def error(self) -> str:
        """Why the setting cannot be carried out; empty if it can."""
        return str(self.shown["error"])

    @traitlets.observe("setting")
    def _moved(self, change: Any) -> None:
        # What it comes to is on the page while its intervals are worked out, and while it is compared with the base.
        self.shown = self._carried_out(change["new"])
        self.compared = self._beside_base(change["new"])

    @one_thread()
    def _beside_base(self, setting: Setting) -> dict[str, object]:
        """By figure, intervals and the paired differences from the base, as the page shows them."""
        if self.tried is None:
            return {"setting": dict(setting), "rows": {}, "point": None}
        rows = {name: _beside(name, one) for name, one in self.tried.compared.items() if name in FIGURES}
        return {"setting": dict(setting), "rows": rows, "point": _point(self.tried.figures)}

    @one_thread()
    def _carried_out(self, setting: Setting) -> dict[str, object]:
        """A setting carried out, as the page shows it."""
        began_s, base = time.perf_counter(), self._desk.base_figures
        try:
            self.changes = changes_of(self._known, setting, self._desk.policy)
            self.tried = self._desk.tried(self.changes)
        except InputError as error:
            self.tried = None
            return {"setting": dict(setting), "error": str(error), "rows": [], "command": "", "point": None}
        return {
            "setting": dict(setting),
            "error": "",
            "rows": [
                _row(name, base[name], one)
                for name, one in self.tried.values.items()
                if name in FIGURES and name in base
            ],
            "arms": [[name, percent(share, 0)] for name, share in self.tried.shares.items()],
            "verdict": self.tried.verdict,
            "command": self.command,
            "point": _point({name: Estimate(one, one, one) for name, one in self.tried.values.items()}),
            "took_ms": 1000 * (time.perf_counter() - began_s),
        }

    def _about(self) -> dict[str, object]:
        """What does not change: the title, what the figures rest on, and where each arm alone would lie."""
        scenario, model = self._desk.given.scenario, self._desk.model
        alone = []
        for name in dict.fromkeys(path.split(".")[1] for path in self._known if path.startswith("arms.")):
            try:
                point = _point(self._desk.tried_policy(Always(name)).figures)
            except InputError:
                continue  # it is not offered to all sources
            alone.append({**point, "name": name})
        runs, asked = self._desk.given.replications, self._desk.base_requests
        return {
            "title": scenario.name,
            "rests": f"{runs} runs of {asked:,} requests, the same ones in every setting; intervals of 95%",
            "accuracy": model.population is not None,
            "alone": alone,
            "notes": list(model.notes),
        }


def _row(name: str, base: Estimate, now: float) -> dict[str, object]:
    shown = FIGURES[name]
    return {
        "name": name,
        "label": shown.label,
        "now": shown.value(now),
        "base": shown.value(base.value),
        "base_between": _between(base, shown.value),
        "value": now,
    }


def _beside(name: str, one: Compared) -> dict[str, object]:
    shown = FIGURES[name]
    apart = one.difference

    def difference(value: float) -> str:
        return "0" if value == 0 else signed(shown.times * value, shown.decimals)

    return {
        "now_between": _between(one.after, shown.value),
        "difference": difference(apart.value) + (shown.unit if apart.value else ""),
        "difference_between": _between(apart, difference) if apart.low < apart.high else "",
        "noise": apart.value != 0 and not one.more_than_noise,
    }


def _between(estimate: Estimate, said: Callable[[float], str]) -> str:
    low, high = said(estimate.low), "more" if math.isinf(estimate.high) else said(estimate.high)
    return f"{low} to {high}"


def _point(figures: Mapping[str, Estimate]) -> dict[str, object]:
    """Where a setting lies in the picture: US dollars of a thousand requests, and accuracy or, where that is unknown, p95."""
    up = figures.get("accuracy", figures.get("latency_p95_s"))
    usd = figures["cost_usd_per_request"]
    return {
        "usd": [1000 * x for x in (usd.value, usd.low, usd.high)],
        "up": None if up is None else [x if math.isfinite(x) else None for x in (up.value, up.low, up.high)],
    }


def _quoted(text: str) -> str:
    """One word of a command line."""
    if not re.search(r'[$`"\\!]', text):
        return f'"{text}"'
    return "'" + text.replace("'", "'\"'\"'") + "'"


__all__ = ["FIGURES", "Explorer"]
