"""What must hold, and what to make best of.

A target is a figure, a bound, and where it must hold: over all requests, over those of one source, or in every hour of either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from ttc_sim.base.errors import nearest
from ttc_sim.scenario.base import UNKNOWN_KEY, Model, Share, errors_at
from ttc_sim.scenario.robust import Robust

Bound = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""Of a target: any number above 0, as one that cannot be met, or always is, has an answer too."""
TIMES = ("ttft", "tpot", "latency")
"""Seconds to the first token, for each token after it, and from arrival to the last token."""
SHARES = ("timeout_rate", "timed_out_rate", "rejected_rate", "failed_rate", "cut_off_rate")
FLOORS = ("accuracy", "goodput")
"""Of these at least so much is asked for; of all others at most."""
USD = ("cost_usd_per_request", "cost_usd_per_day")
COSTS = ("cost", "cost_usd_per_day")
"""What a plan's cost is called where it is made least."""
MAXIMIZED = ("accuracy", "accuracy_per_usd", "goodput")
TRADED = ("cost", "accuracy", "goodput")
"""What a frontier may trade for one another, beside percentiles of times."""
CONFIDENCE = 0.8
"""With which targets must hold that name none of their own."""
_CONFIDENCES = (0.5, 0.999)  # no plan can be sure, and one that would rather fail is none

_LIKE_A_PERCENTILE = re.compile(rf"({'|'.join(TIMES)})_p(.*)_s")
_PERCENT = re.compile(r"[1-9]\d?(\.\d+)?|0\.\d*[1-9]\d*")
_LIKE_WHAT = "a percentile above 0 and below 100, such as 'ttft_p95_s' or 'latency_p99.9_s'"
_PERCENTILES = tuple(f"{name}_p95_s" for name in TIMES)
_AXES = 2


def percentile_of(key: str) -> tuple[str, float] | None:
    """Which time a key is about, and the share of requests that it takes no longer for; ``None`` if it is no percentile.

    >>> percentile_of("ttft_p95_s"), percentile_of("latency_p99.9_s"), percentile_of("tpot_p100_s")
    (('ttft', 0.95), ('latency', 0.999), None)
    """
    found = _LIKE_A_PERCENTILE.fullmatch(key)
    if found is None or not _PERCENT.fullmatch(found[2]):
        return None
    return found[1], round(float(found[2]) / 100, 12)


def figure_of_objective(name: str) -> str:
    """Name of the figure that an objective is about.

    >>> figure_of_objective("cost"), figure_of_objective("ttft_p95_s")
    ('cost_usd_per_request', 'ttft_p95_s')
    """
    return "cost_usd_per_request" if name == "cost" else name


class Slo(Model):
    """Service-level objective of a request: all that is named must hold at once, and it must be answered.

    Args:
        ttft_s: most seconds to the first token; tpot_s: most seconds for each token after it, in the mean; latency_s: most seconds
            from arrival to the last token.
    """

    ttft_s: Bound | None = None
    tpot_s: Bound | None = None
    latency_s: Bound | None = None

    @model_validator(mode="after")
    def _asks_for_something(self) -> Slo:
        if self.ttft_s is None and self.tpot_s is None and self.latency_s is None:
            raise ValueError("at least one of ttft_s, tpot_s and latency_s")
        if self.ttft_s is not None and self.latency_s is not None and self.ttft_s > self.latency_s:
            expected = f"at most latency_s ({self.latency_s:g}): no answer ends before its first token"
            raise errors_at({"ttft_s": ("value_error", self.ttft_s, expected)})
        return self


@dataclass(frozen=True)
class Target:
    """One target.

    Attributes:
        name: keys that lead to it below ``targets``, such as ``ttft_p95_s`` or ``sources.chat.goodput``.
        key: the last of them, which names the figure; bound: at least that much of ``accuracy`` and ``goodput``, at most of others.
        source: whose requests it is about; ``None``: all.
        every_hour: whether it must hold in every hour that requests arrive in.
        confidence: with what chance a plan must keep it on new problems, 0.5 to 0.999.
    """

    name: str
    key: str
    bound: float
    source: str | None = None
    every_hour: bool = False
    confidence: float = CONFIDENCE

    @property
    def at_least(self) -> bool:
        """Whether the bound is a floor."""
        return self.key in FLOORS

    @property
    def is_share(self) -> bool:
        """Whether the figure is one, 0 to 1."""
        return self.key in (*FLOORS, *SHARES)

    @property
    def percentile(self) -> tuple[str, float] | None:
        """Which time it is about, and the share of requests that must not take longer; ``None`` of other figures."""
        return percentile_of(self.key)

    @property
    def words(self) -> str:
        """As tables have it."""
        of = "" if self.source is None else f" of {self.source}"
        return f"{self.key}{of}{', every hour' if self.every_hour else ''}"


class SourceTargets(Model):
    """What must hold for some requests: those of a source, or all.

    Besides the keys below any percentile of three times, in seconds: ``ttft_p95_s`` (to the first token), ``tpot_p99_s`` (for each
    token after it), ``latency_p50_s`` (to the last token), with any number above 0 and below 100. Of a request that timed out
    the token that it waited for counts as come when it gave up; one that was rejected, or failed, counts in no percentile.

    Args:
        accuracy: least share of requests answered correctly in time.
        latency_p50_s, latency_p95_s, latency_p99_s: most seconds from arrival to the last token, of so many percent of requests.
        cost_usd_per_request: most US dollars per request; cost_usd_per_day: most US dollars a day, at the rate that is served.
        timeout_rate: most requests that may get no answer: time out, be rejected or fail; timed_out_rate, rejected_rate,
            failed_rate: that may do the one, or the other.
        cut_off_rate: of traffic without problems, most requests whose answer a cap may cut off.
        goodput: least share of requests that are answered and meet all of their ``slo`` at once.
        slo: of each request; of a source that names its own, that.
        every_hour: whether percentiles, shares and goodput named beside it must hold in every hour that requests arrive in, and not
            just over the whole run; accuracy and cost are always of the whole.
        confidence: with what chance a plan must keep these targets, each for itself, 0.5 to 0.999; or so for each that is named.
            Of a source that says nothing, and of targets that are not named, that of all requests; 0.8 if that is not said either.
    """

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    __pydantic_extra__: dict[str, Bound]

    accuracy: Share | None = None
    cost_usd_per_request: Bound | None = None
    cost_usd_per_day: Bound | None = None
    latency_p50_s: Bound | None = None
    latency_p95_s: Bound | None = None
    latency_p99_s: Bound | None = None
    timeout_rate: Share | None = None
    timed_out_rate: Share | None = None
    rejected_rate: Share | None = None
    failed_rate: Share | None = None
    cut_off_rate: Share | None = None
    goodput: Share | None = None
    slo: Slo | None = None
    every_hour: bool = False
    confidence: float | dict[str, float] | None = None

    @field_validator("confidence", mode="before")
    @classmethod
    def _is_a_chance(cls, given: Any) -> Any:
        """One number, or one for each target that is named."""
        for key, value in (given if isinstance(given, dict) else {None: given}).items():
            known = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (known and _CONFIDENCES[0] <= value <= _CONFIDENCES[1]):
                which = "" if key is None else f" for {key}"
                expected = (
                    f"a number from {_CONFIDENCES[0]:g} to {_CONFIDENCES[1]:g}{which}, or one for each target, such as "
                )
                raise ValueError(f"{expected}{{accuracy: 0.95}}")
        return {str(key): float(value) for key, value in given.items()} if isinstance(given, dict) else given

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_keys(cls, given: Any) -> Any:
        wrong = {}
        for key in given if isinstance(given, dict) else ():
            if key in cls.model_fields or percentile_of(str(key)) is not None:
                continue
            known = [*cls.model_fields, *(name for name in _PERCENTILES if name not in cls.model_fields)]
            expected = nearest(str(key), known)
            if _LIKE_A_PERCENTILE.fullmatch(str(key)):
                expected = _LIKE_WHAT
            wrong[str(key)] = (UNKNOWN_KEY, given[key], expected)
        if wrong:
            raise errors_at(wrong)
        return given

    @model_validator(mode="after")
    def _nothing_contradicts(self) -> SourceTargets:
        for time in TIMES:
            asked = sorted(
                (p[1], bound, key) for key, bound in self.bounds() if (p := percentile_of(key)) and p[0] == time
            )
            for (_, bound, key), (_, higher, other) in pairwise(asked):
                if bound > higher:
                    expected = f"at most {higher:g}: {other} asks for that of more requests"
                    raise errors_at({key: ("value_error", bound, expected)})
        if self.timeout_rate is not None:
            for key in ("timed_out_rate", "rejected_rate", "failed_rate"):
                bound = getattr(self, key)
                if bound is not None and bound > self.timeout_rate:
                    expected = f"at most timeout_rate ({self.timeout_rate:g}), which counts {_COUNTED[key]}"
                    raise errors_at({key: ("value_error", bound, expected)})
        if self.every_hour and not any(percentile_of(key) or key in (*SHARES, "goodput") for key, _ in self.bounds()):
            expected = "a percentile, goodput or a rate beside it that is to hold in every hour"
            raise errors_at({"every_hour": ("value_error", True, expected)})
        keys = [key for key, _ in self.bounds()]
        for key, value in self.confidence.items() if isinstance(self.confidence, dict) else ():
            if key not in keys:
                expected = f"a confidence for a target beside it: {', '.join(keys) or 'there is none'}"
                raise errors_at({f"confidence.{key}": ("value_error", value, expected)})
        return self

    def confidence_in(self, key: str) -> float | None:
        """With what chance the target of that key is to be kept; ``None`` where nothing is said of it."""
        return self.confidence.get(key) if isinstance(self.confidence, dict) else self.confidence

    def bounds(self) -> Iterator[tuple[str, float]]:
        """Key and bound of every target."""
        percentiles = {
            key: bound for key, bound in {**vars(self), **(self.model_extra or {})}.items() if percentile_of(key)
        }
        keys = dict.fromkeys((*_FIRST, *sorted(percentiles, key=_in_order), *_LAST))
        for key in keys:
            bound = percentiles[key] if key in percentiles else getattr(self, key)
            if bound is not None:
                yield key, float(bound)


_COUNTED = {"timed_out_rate": "both", "rejected_rate": "both", "failed_rate": "those too"}
_FIRST = ("accuracy", *USD)
_LAST = (*SHARES, "goodput")


def _in_order(key: str) -> tuple[int, float]:
    """Of percentiles: latency first, as it always was, and the lower before the higher."""
    time, part = percentile_of(key) or ("", 0.0)
    return -TIMES.index(time), part


class Targets(SourceTargets):
    """What must hold, and what to make best of.

    Args:
        minimize: ``cost`` (or ``cost_usd_per_day``), or any percentile of a time (``latency_p95_s``, ``ttft_p99_s``), under the
            other targets; with problems either needs an ``accuracy``, of traffic without problems none is known; or
        maximize: ``accuracy``; ``accuracy_per_usd``, right answers per US dollar; or ``goodput``, the share of requests that meets
            its ``slo``, which with problems needs an ``accuracy``. One of the two is needed to plan by; without either, targets are
            only judged.
        frontier: two of ``cost``, ``accuracy``, ``goodput`` and percentiles of times: a plan shows the best of the one at each
            level of the other, all other targets kept; ``cost`` and ``accuracy`` if left out.
        generalize: what problems the targets must hold on: ``known``, new problems of the kinds (task types, categories) that were
            measured, each as frequent as before; or ``new``, problems of kinds of which those that were measured are a sample. As
            the problem sets' cards say if left out.
        sources: what must hold for the requests of a source, by its name.
        robust: worlds that a plan must hold in at once, beside the scenario as it is; only plans are made by them.
    """

    confidence: float | dict[str, float] | None = CONFIDENCE
    generalize: Literal["known", "new"] | None = None
    minimize: str | None = None
    maximize: str | None = None
    frontier: list[str] | None = None
    sources: dict[str, SourceTargets] = Field(default_factory=dict)
    robust: Robust | None = None

    @field_validator("minimize", "maximize")
    @classmethod
    def _an_objective(cls, given: str | None, info: ValidationInfo) -> str | None:
        if given is None:
            return None
        known, other = (COSTS, MAXIMIZED) if info.field_name == "minimize" else (MAXIMIZED, COSTS)
        timed = percentile_of(given) is not None
        if given in known or (timed and info.field_name == "minimize"):
            return given
        if given in other or timed:
            verb = "minimize" if info.field_name == "maximize" else "maximize"
            raise ValueError(f"'{verb}: {given}', or one of {', '.join(known)} here")
        if _LIKE_A_PERCENTILE.fullmatch(given):
            raise ValueError(_LIKE_WHAT)
        raise ValueError(nearest(given, [*known, *(_PERCENTILES if info.field_name == "minimize" else ())]))

    @field_validator("frontier")
    @classmethod
    def _two_objectives(cls, given: list[str] | None) -> list[str] | None:
        for name in given or ():
            if name not in TRADED and percentile_of(name) is None:
                like = _LIKE_A_PERCENTILE.fullmatch(name)
                raise ValueError(
                    f"{_LIKE_WHAT if like else nearest(name, [*TRADED, *_PERCENTILES])} instead of {name!r}"
                )
        if given is not None and (len(given) != _AXES or len(set(given)) != _AXES):
            raise ValueError("two different objectives, such as [cost, accuracy] or [latency_p95_s, cost]")
        return given

    @model_validator(mode="after")
    def _goodput_has_an_slo(self) -> Targets:
        counted = self.goodput is not None or "goodput" in self.made_best
        for name, one in self.sources.items():
            if not any(True for _ in one.bounds()) and one.slo is None:
                raise errors_at({f"sources.{name}": ("value_error", {}, "a target, or an slo of its own")})
            if one.goodput is not None and self.slo_of(name) is None:
                raise errors_at({f"sources.{name}.goodput": ("value_error", one.goodput, _NEEDS_SLO)})
            if one.slo is not None and one.goodput is None and not counted:
                said = one.slo.model_dump(exclude_none=True)
                raise errors_at({f"sources.{name}.slo": ("value_error", said, _NEEDS_GOODPUT)})
        if counted and self.slo is None and not any(one.slo for one in self.sources.values()):
            raise errors_at({self.where_goodput: ("value_error", self.goodput or "goodput", _NEEDS_SLO)})
        inherits = any(one.goodput is not None and one.slo is None for one in self.sources.values())
        if self.slo is not None and not counted and not inherits:
            raise errors_at({"slo": ("value_error", self.slo.model_dump(exclude_none=True), _NEEDS_GOODPUT)})
        return self

    @model_validator(mode="after")
    def _one_objective(self) -> Targets:
        if self.minimize is not None and self.maximize is not None:
            raise ValueError(
                f"exactly one of 'minimize: {self.minimize}' and 'maximize: {self.maximize}' must be given"
            )
        if self.maximize == "accuracy" and self.accuracy is not None:
            raise ValueError("'maximize: accuracy' takes no 'accuracy' target")
        if self.maximize == "goodput" and self.goodput is not None:
            raise errors_at({"goodput": ("value_error", self.goodput, "none beside 'maximize: goodput'")})
        if self.fastest and (bound := dict(self.bounds()).get(str(self.minimize))) is not None:
            raise errors_at({str(self.minimize): ("value_error", bound, f"none beside 'minimize: {self.minimize}'")})
        if self.minimize is None and self.maximize is None:
            if self.frontier is not None:
                expected = "'minimize' or 'maximize' beside it, to say which of all is the plan"
                raise errors_at({"frontier": ("value_error", self.frontier, expected)})
            if not self.asked():
                raise ValueError("a target, or 'minimize: cost' or 'maximize: accuracy'")
        if self.robust is not None and self.minimize is None and self.maximize is None:
            expected = (
                "'minimize' or 'maximize' beside it: worlds are to plan for, and without either nothing is planned"
            )
            raise errors_at({"robust": ("value_error", self.robust.model_dump(exclude_defaults=True), expected)})
        return self

    @property
    def where_goodput(self) -> str:
        """The first key that asks for goodput of all requests."""
        if self.goodput is not None:
            return "goodput"
        return "maximize" if self.maximize == "goodput" else "frontier"

    @property
    def cheapest(self) -> bool:
        """Whether cost is made least."""
        return self.minimize in COSTS

    @property
    def most_accurate(self) -> bool:
        """Whether accuracy is made greatest."""
        return self.maximize == "accuracy"

    @property
    def fastest(self) -> bool:
        """Whether a percentile of a time is made least."""
        return self.minimize is not None and not self.cheapest

    @property
    def timed(self) -> bool:
        """Whether what is made best of follows from how long requests take: a percentile of a time, or goodput."""
        return self.fastest or self.maximize == "goodput"

    @property
    def objective(self) -> str:
        """Name of the figure that is made least, or greatest.

        >>> Targets(minimize="cost", accuracy=0.7).objective, Targets(maximize="accuracy_per_usd").objective
        ('cost_usd_per_request', 'accuracy_per_usd')
        """
        return figure_of_objective(self.maximize or self.minimize or "cost")

    @property
    def made_best(self) -> tuple[str, ...]:
        """Names of the figures that plans are compared by, beside targets: the objective's, and those of a frontier."""
        named = [one for one in (self.minimize, self.maximize, *(self.frontier or ())) if one is not None]
        return tuple(dict.fromkeys(figure_of_objective(one) for one in named))

    def at_level(self, name: str, bound: float) -> Targets:
        """The same, with the figure of that name held to a bound, as likely as not, instead of being made best of."""
        whole = {key: self.confidence_in(key) or CONFIDENCE for key, _ in self.bounds()}
        sources = {}
        for source, block in self.sources.items():
            own = {key: block.confidence_in(key) or self.confidence_in(key) or CONFIDENCE for key, _ in block.bounds()}
            sources[source] = block.model_copy(update={"confidence": own})
        confidence = {**whole, name: _CONFIDENCES[0]}
        return self.model_copy(update={name: bound, "confidence": confidence, "sources": sources})

    def slo_of(self, source: str) -> Slo | None:
        """What a request of a source must meet."""
        own = self.sources.get(source)
        return self.slo if own is None or own.slo is None else own.slo

    def asked(self) -> tuple[Target, ...]:
        """Every target: of all requests first, then source by source."""
        blocks: list[tuple[str | None, SourceTargets]] = [(None, self), *self.sources.items()]
        return tuple(
            Target(
                name=key if source is None else f"sources.{source}.{key}",
                key=key,
                bound=bound,
                source=source,
                every_hour=block.every_hour and key not in ("accuracy", *USD),
                confidence=block.confidence_in(key) or self.confidence_in(key) or CONFIDENCE,
            )
            for source, block in blocks
            for key, bound in block.bounds()
        )

    def with_bounds(self, bounds: Mapping[str, float]) -> Targets:
        """The same with other bounds, by the targets' names."""
        changed: dict[str | None, dict[str, float]] = {}
        for target in self.asked():
            if target.name in bounds:
                changed.setdefault(target.source, {})[target.key] = bounds[target.name]
        sources = {
            name: block.model_copy(update=changed[name]) if name in changed else block
            for name, block in self.sources.items()
        }
        return self.model_copy(update={**changed.get(None, {}), "sources": sources})

    def with_confidence(self, confidence: float) -> Targets:
        """The same, all of them to be kept with this chance."""
        sources = {name: block.model_copy(update={"confidence": None}) for name, block in self.sources.items()}
        return self.model_copy(update={"confidence": confidence, "sources": sources})

    def of_sources(self, present: Iterable[str]) -> Targets:
        """The same without those of sources that are not present."""
        return self.model_copy(
            update={"sources": {name: self.sources[name] for name in self.sources if name in set(present)}}
        )


_NEEDS_SLO = (
    "an slo beside it, such as {ttft_s: 2, tpot_s: 0.05, latency_s: 60}, for goodput is the share that meets it"
)
_NEEDS_GOODPUT = "a goodput beside it, such as 0.99: the share of requests that must meet it"


def check_targets_of_sources(targets: Targets, sources: Sequence[str]) -> tuple[str, object, str] | None:
    """Field, value and what was expected of the first target whose source is not there, or that has no SLO; ``None`` if all do."""
    for name in targets.sources:
        if name not in sources:
            return f"targets.sources.{name}", name, nearest(name, sources)
    if targets.generalize is not None and not sources:
        return "targets.generalize", targets.generalize, "none: a workload without sources has no problems, of any kind"
    if targets.goodput is not None or "goodput" in targets.made_best:
        for name in sources:
            if targets.slo_of(name) is None:
                where, said = targets.where_goodput, targets.goodput or "goodput"
                return f"targets.{where}", said, f"an slo of all requests, or one of source {name} too"
    if targets.slo is not None and sources and all((one := targets.sources.get(name)) and one.slo for name in sources):
        return (
            "targets.slo",
            targets.slo.model_dump(exclude_none=True),
            "no slo of all requests: every source has its own",
        )
    return None
