"""What :func:`ttc_sim.monitor` found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ttc_sim.base.display import Displayed
from ttc_sim.base.times import DAY_S
from ttc_sim.deploying.logs import Counts
from ttc_sim.deploying.monitoring.causes import Causes
from ttc_sim.deploying.monitoring.figures import moment
from ttc_sim.deploying.monitoring.keeping import Judged
from ttc_sim.deploying.monitoring.moved import Comparison
from ttc_sim.deploying.monitoring.plainly import Plain
from ttc_sim.deploying.monitoring.replanning import Replanned


@dataclass(frozen=True)
class Period:
    """One period of the log.

    Attributes:
        begins_s, ends_s: on the clock of UTC; figures: of its requests.
        standing_usd: what pools and fixed fees cost a request meanwhile; partial: whether the log has only a part of it.
    """

    begins_s: float
    ends_s: float
    figures: Plain
    standing_usd: float
    partial: bool

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {
            "begins": moment(self.begins_s),
            "ends": moment(self.ends_s),
            "partial": self.partial,
            **self.figures.as_json(),
            "cost_usd_per_request": self.figures.usd + self.standing_usd,
        }


@dataclass(frozen=True)
class Monitored(Displayed):
    """What a plan came to at work.

    Attributes:
        name: of its scenario; from_s, to_s: first and last request; every_s: seconds of a period; block_s: of a block.
        judged: every promise and target beside what came.
        realized, planned: plain figures of the log, and of the plan's simulation; sources, arms: the same two by name.
        standing_usd_per_request: what pools and fixed fees cost a request, in the log and as planned; rates_per_s: requests,
            likewise.
        periods: one after another; causes: of differences in cost and accuracy; moved: comparisons of what came with the plan's.
        differs: what came otherwise than planned, in words: rates, shares, prices, speeds, lengths.
        replanned: the plan and a new one on today's traffic, or why there is none.
        counts: of the files; notes: what a reader must know.
    """

    name: str
    from_s: float
    to_s: float
    every_s: float
    block_s: float
    judged: tuple[Judged, ...]
    realized: Plain
    planned: Plain
    sources: tuple[Mapping[str, Plain], Mapping[str, Plain]]
    arms: tuple[Mapping[str, Plain], Mapping[str, Plain]]
    standing_usd_per_request: tuple[float, float]
    rates_per_s: tuple[float, float]
    periods: tuple[Period, ...]
    causes: tuple[Causes, ...]
    moved: tuple[Comparison, ...]
    differs: tuple[str, ...]
    replanned: Replanned | str
    counts: Counts
    notes: tuple[str, ...]

    @property
    def broken(self) -> tuple[str, ...]:
        """Names of promises and targets that are broken for sure."""
        return tuple(dict.fromkeys(one.asked.name for one in self.judged if one.verdict == "broken"))

    @property
    def usd_per_day(self) -> float:
        """What the log comes to: calls, pools and fixed fees; NaN where all came at one moment."""
        return (self.realized.usd + self.standing_usd_per_request[0]) * self.rates_per_s[0] * DAY_S

    @property
    def drifted(self) -> tuple[Comparison, ...]:
        """What has moved for sure, each once, when it was first seen."""
        first: dict[tuple[str, str], Comparison] = {}
        for one in self.moved:
            if one.moved:
                first.setdefault((one.what, one.of), one)
        return tuple(first.values())

    def __repr__(self) -> str:
        kept = f"broken: {', '.join(self.broken)}" if self.broken else "nothing broken for sure"
        return f"<Monitored {self.name}, {self.realized.requests:,} requests: {kept}>"

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        anew = self.replanned
        return {
            "scenario": self.name,
            "from": moment(self.from_s),
            "to": moment(self.to_s),
            "broken": list(self.broken),
            "judged": [one.as_json() for one in self.judged],
            "realized": self.realized.as_json(),
            "planned": self.planned.as_json(),
            "standing_usd_per_request": dict(zip(("realized", "planned"), self.standing_usd_per_request, strict=True)),
            "cost_usd_per_day": self.usd_per_day,
            "rate_per_s": dict(zip(("realized", "planned"), self.rates_per_s, strict=True)),
            "sources": _both(self.sources),
            "arms": _both(self.arms),
            "periods": [one.as_json() for one in self.periods],
            "causes": [one.as_json() for one in self.causes],
            "drift": [{**one.as_json(), "at": moment(one.at_s)} for one in self.moved],
            "differs": list(self.differs),
            "replanned": {"skipped": anew} if isinstance(anew, str) else anew.as_json(),
            "counts": self.counts.as_json(),
            "notes": list(self.notes),
        }


def _both(parts: tuple[Mapping[str, Plain], Mapping[str, Plain]]) -> dict[str, object]:
    realized, planned = parts
    return {
        name: {"realized": realized[name].as_json(), "planned": planned[name].as_json()}
        for name in realized
        if name in planned
    }


__all__ = ["Monitored", "Period"]
