"""What arrives: arrival processes and sources of problems."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, model_validator

from ttc_sim.base.limits import MOST_REQUESTS, MOST_VARIATION
from ttc_sim.base.plugins import Registry
from ttc_sim.scenario.base import Model, NonNegative, Positive, Rate, by_name, errors_at
from ttc_sim.scenario.lengths import Lengths
from ttc_sim.scenario.moments import as_moment, moment_of
from ttc_sim.scenario.shapes import WEEKDAYS, WHOLE_TRACE, Duration, Shape, seconds_of


class Arrivals(Model):
    """How requests arrive: the base of all processes, and of those that a user adds by :func:`ttc_sim.register`.

    Its fields are the keys of ``workload.arrivals``. A process of one's own has :meth:`generate`; what it draws comes from
    :func:`ttc_sim.base.draws.uniforms` with its seed and run. :class:`ttc_sim.testing.ArrivalsConformance` tests it.

    Args:
        process: name of the kind.
    """

    process: str
    carries_lengths: ClassVar[bool] = False
    """Whether the requests come with their lengths, so that a workload needs no ``sources``."""
    _unshaped: ClassVar[str | None] = None

    @model_validator(mode="before")
    @classmethod
    def _takes_no_shape(cls, given: Any) -> Any:
        if (
            isinstance(given, dict)
            and given.get("shape") is not None
            and "shape" not in cls.model_fields
            and cls._unshaped
        ):
            raise errors_at({"shape": ("value_error", given["shape"], f"no shape: {cls._unshaped}")})
        return given

    @property
    def begins(self) -> Arrivals:
        """The process that has the rate: its own or, of sessions, that by which they begin."""
        return self

    def generate(self, requests: int, seed: int, run: str, folder: Path, where: str) -> object:
        """A :class:`ttc_sim.workload.Traffic` of the first ``requests`` arrivals.

        They are the same whenever seed and run are, and the first of them the same however many are asked for.

        Args:
            requests: how many, at least 1.
            seed: of the draws; run: label of the independent run.
            folder: where relative paths start; where: the file that errors name.
        """
        raise NotImplementedError(f"{type(self).__name__} needs a method generate(requests, seed, run, folder, where)")


class Poisson(Arrivals):
    """Independent arrivals, at a constant rate unless it has a shape.

    Args:
        rate_per_s: requests per second, in the mean; shape: how that changes over the day and the week.
    """

    process: Literal["poisson"]
    rate_per_s: Rate
    shape: Shape | None = None


def _not_even(cv: float) -> float:
    if not 0 < cv <= MOST_VARIATION:
        raise ValueError(f"above 0, at most {MOST_VARIATION}; requests at even distances are 'process: even'")
    return cv


Variation = Annotated[float, AfterValidator(_not_even)]
"""Coefficient of variation of gaps, above 0; vLLM's burstiness is ``1 / cv**2``."""


class Renewal(Arrivals):
    """Independent Gamma or Weibull gaps between arrivals, with a given coefficient of variation (1 is Poisson).

    Args:
        rate_per_s: requests per second, in the mean; shape: how that changes over the day and the week.
        cv: coefficient of variation of the gaps, above 0.
    """

    process: Literal["gamma", "weibull"]
    rate_per_s: Rate
    cv: Variation
    shape: Shape | None = None


class Even(Arrivals):
    """Arrivals at even distances: a constant gap of ``1 / rate_per_s``, unless it has a shape.

    Args:
        rate_per_s: requests per second; shape: how that changes over the day and the week.
    """

    process: Literal["even"]
    rate_per_s: Rate
    shape: Shape | None = None


class Step(Model):
    """One step of a piecewise-constant rate.

    Args:
        duration_s: how long it holds; rate_per_s: requests per second meanwhile.
    """

    duration_s: Positive
    rate_per_s: NonNegative


class Piecewise(Arrivals):
    """A day's shape: rates that hold for a while each, then start over. ``cv`` other than 1 makes it bursty.

    Args:
        steps: one after another; cv: coefficient of variation of the gaps, above 0.
    """

    _unshaped = "the steps are one"
    process: Literal["piecewise"]
    steps: Annotated[list[Step], Field(min_length=1)]
    cv: Variation = 1.0


class Clients(Arrivals):
    """A measured mixture of clients, each with its own rate, burstiness and lengths over time (ServeGen).

    Args:
        traffic: name of a traffic profile, such as ``servegen-r1``.
        rate_per_s: total mean rate to scale to over the whole measured span; the measured one if left out.
        start_s: where in the measured day to start.
    """

    carries_lengths = True
    _unshaped = "the measured clients have one of their own"
    process: Literal["clients"]
    traffic: str
    rate_per_s: Rate | None = None
    start_s: NonNegative = 0.0


class ClosedLoop(Arrivals):
    """A fixed number of users, each of whom sends the next request when the last is answered.

    Args:
        users: how many, at most the requests of a run.
        think_s: mean seconds, exponential, between an answer and the next request, and before the first.
    """

    _unshaped = "users send as fast as they are answered; piecewise and poisson have rates that can have one"
    process: Literal["closed_loop"]
    users: Annotated[int, Field(ge=1, le=MOST_REQUESTS)]
    think_s: NonNegative = 0.0


class Columns(Model):
    """Names of the columns of a recorded trace in CSV.

    Args:
        arrival: when each request came: numbers, or times such as ``2023-11-16 18:17:03.97``; in order.
        unit: of numbers in ``arrival``.
        prompt_tokens: tokens of the prompt; reasoning_tokens: hidden ones.
        output_tokens: with the reasoning tokens in them; or
        visible_tokens: without them, where ``reasoning_tokens`` stand beside the rest of the output.
    """

    arrival: str
    unit: Literal["s", "ms", "us", "ns"] = "s"
    prompt_tokens: str | None = None
    reasoning_tokens: str | None = None
    output_tokens: str | None = None
    visible_tokens: str | None = None

    @model_validator(mode="after")
    def _one_output(self) -> Columns:
        if self.output_tokens is not None and self.visible_tokens is not None:
            raise ValueError("output_tokens (with reasoning) or visible_tokens (without), not both")
        if self.reasoning_tokens is not None and self.output_tokens is None and self.visible_tokens is None:
            raise ValueError("output_tokens or visible_tokens beside reasoning_tokens")
        return self


class Trace(Arrivals):
    """A recorded trace, replayed. ``rate_per_s`` stretches or squeezes its time axis to that mean rate.

    Args:
        file: that holds it, from the scenario's own folder.
        rate_per_s: mean rate to squeeze or stretch it to; as it was recorded if left out.
        columns: names of its columns, where ``format`` is ``csv``.
        format: how its table is to be read: ``traffic`` is what ``ttc-sim import`` writes, ``csv`` any table whose ``columns`` are
            named.
    """

    carries_lengths = True
    _unshaped = "the recorded times have one of their own"
    process: Literal["trace"]
    file: str
    format: Literal["azure", "mooncake", "traffic", "csv"]
    columns: Columns | None = None
    rate_per_s: Rate | None = None

    @model_validator(mode="after")
    def _columns_are_read(self) -> Trace:
        if self.columns is not None and self.format != "csv":
            raise ValueError(f"no columns: those of format {self.format} are known")
        return self


# A new kind is one file of workload/ and one name here, as "module:Class".
ARRIVALS = Registry(
    "arrivals",
    Arrivals,
    {
        "poisson": Poisson,
        "gamma": Renewal,
        "weibull": Renewal,
        "even": Even,
        "piecewise": Piecewise,
        "clients": Clients,
        "closed_loop": ClosedLoop,
        "trace": Trace,
        "sessions": "ttc_sim.scenario.sessions:Sessions",
    },
    key="process",
)


class Source(Model):
    """One stream of requests, as a gateway tells them apart (route, application, caller).

    Args:
        problem_set: the problems its requests are drawn from, uniformly; all sources have one, or none.
        subset: keep only problems of this subset, or of these.
        share: weight of the stream among the requests of ``workload.arrivals``; 1 if left out.
        priority: 0 is most urgent; for GPU pools that schedule by priority.
        arrivals: of its own, beside those of ``workload.arrivals``: such a source has no ``share``.
        lengths: of its requests, where they have no problems and its arrivals carry none.
    """

    problem_set: str | None = None
    subset: str | list[str] | None = None
    share: Annotated[float, Field(gt=0)] | None = None
    priority: Annotated[int, Field(ge=0, le=7)] = 0
    arrivals: Annotated[SerializeAsAny[Arrivals] | None, by_name(ARRIVALS)] = None
    lengths: Lengths | None = None

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> Source:
        if self.arrivals is not None and self.share is not None:
            expected = "no share beside arrivals of its own: they say how many requests are its"
            raise errors_at({"share": ("value_error", self.share, expected)})
        if self.problem_set is None and self.subset is not None:
            raise errors_at({"subset": ("value_error", self.subset, "no subset without a problem_set")})
        if self.problem_set is not None and self.lengths is not None:
            expected = "no lengths beside a problem_set: those of the problems count"
            raise errors_at({"lengths": ("value_error", "given", expected)})
        return self

    @property
    def weight(self) -> float:
        """Its share, 1 if that is left out."""
        return 1.0 if self.share is None else self.share


@dataclass(frozen=True)
class Stream:
    """Requests that one process sends.

    Attributes:
        arrivals: the process; sources: of the workload, by number, whose requests they are; none where it names none.
        source: the name of the one whose own they are; ``None`` for ``workload.arrivals``.
    """

    arrivals: Arrivals
    sources: tuple[int, ...]
    source: str | None = None

    @property
    def field(self) -> str:
        """Where it stands in a scenario."""
        return "workload.arrivals" if self.source is None else f"workload.sources.{self.source}.arrivals"


class Workload(Model):
    """What arrives: arrival processes and, per source, problems.

    Without problems lengths come from the trace or the clients, or are said plainly (``lengths``), and nothing is known of
    accuracy.

    Args:
        arrivals: of all sources that have none of their own.
        sources: by name, streams of requests that are told apart.
        requests: of a run: the first so many of all arrivals; or
        duration: all that arrive in such a time from the start, ``24 h`` (s, min, h, d), or ``whole trace``: until its last row.
        lengths: of requests that neither problems, arrivals nor their source give any.
        begins: moment at which the run begins, such as ``"2026-11-24 08:00"``, of UTC unless it says otherwise
            (``"2026-11-24 08:00+01:00"``): for prices that depend on the hour or the day, and a budget's day. The ``starts`` of
            shapes must be its time of day.
    """

    arrivals: Annotated[SerializeAsAny[Arrivals] | None, by_name(ARRIVALS)] = None
    requests: Annotated[int, Field(ge=1, le=MOST_REQUESTS)] | None = None
    duration: Duration | None = None
    sources: dict[str, Source] = Field(default_factory=dict)
    lengths: Lengths | None = None
    begins: Annotated[str | None, BeforeValidator(as_moment)] = None

    @model_validator(mode="after")
    def _nothing_without_effect(self) -> Workload:
        if self.requests is None and self.duration is None:
            raise errors_at({"requests": ("value_error", None, "requests of a run, or 'duration', such as '24 h'")})
        if self.requests is not None and self.duration is not None:
            raise errors_at({"duration": ("value_error", self.duration, "no duration beside requests: one of the two")})
        shared = [name for name, source in self.sources.items() if source.arrivals is None]
        if self.arrivals is None and (shared or not self.sources):
            raise errors_at({"arrivals": ("missing", None, "this key to be given")})
        if self.arrivals is not None and self.sources and not shared:
            expected = "none: every source has arrivals of its own, so that these would have no effect"
            raise errors_at({"arrivals": ("value_error", self.arrivals.process, expected)})
        with_problems = [name for name, source in self.sources.items() if source.problem_set is not None]
        without = [name for name in self.sources if name not in with_problems]
        if with_problems and without:
            expected = f"a problem set, as source {with_problems[0]} has: all sources have problems, or none"
            raise errors_at({f"sources.{without[0]}.problem_set": ("value_error", None, expected)})
        if self.duration == WHOLE_TRACE and not any(isinstance(one, Trace) for one in self.processes):
            processes = " and ".join(dict.fromkeys(one.process for one in self.processes))
            expected = f"a time such as '24 h': {processes} is no trace that ends"
            raise errors_at({"duration": ("value_error", self.duration, expected)})
        self._check_lengths()
        return self

    @model_validator(mode="after")
    def _one_clock(self) -> Workload:
        at = moment_of(self.begins)
        for stream in self.streams:
            shape = getattr(stream.arrivals, "shape", None)
            if at is None or shape is None or (shape.by_hour is None and shape.by_weekday is None):
                continue
            hour = at.hour + at.minute / 60 + at.second / 3600 + (24 * at.weekday() if shape.by_weekday else 0)
            if abs(shape.starts_h - hour) > 1e-9:
                day = f"{WEEKDAYS[at.weekday()]} " if shape.by_weekday else ""
                expected = f"'{day}{at:%H:%M}', when the run begins by workload.begins"
                field = stream.field.removeprefix("workload.")
                raise errors_at({f"{field}.shape.starts": ("value_error", shape.starts or "00:00", expected)})
        return self

    @property
    def begins_utc(self) -> datetime.datetime | None:
        """The moment at which the run begins, of UTC."""
        at = moment_of(self.begins)
        return None if at is None else at.astimezone(datetime.UTC)

    def _check_lengths(self) -> None:
        """All requests have lengths, from one place, and none are said in vain."""
        if self.has_problems:
            if self.lengths is not None:
                expected = "no lengths beside sources of problems: those of the problems count"
                raise errors_at({"lengths": ("value_error", "given", expected)})
            return
        read = False
        for stream in self.streams:
            named = [(name, source) for k, (name, source) in enumerate(self.sources.items()) if k in stream.sources]
            for name, source in named:
                if source.lengths is not None and stream.arrivals.carries_lengths:
                    expected = "nothing: the arrivals carry lengths of their own"
                    raise errors_at({f"sources.{name}.lengths": ("value_error", "given", expected)})
            if stream.arrivals.carries_lengths:
                continue
            lacking = [name for name, source in named if source.lengths is None]
            if self.lengths is None and lacking:
                expected = "lengths, problems or arrivals that carry lengths (clients or trace), or workload.lengths"
                raise errors_at({f"sources.{lacking[0]}.lengths": ("value_error", None, expected)})
            read |= bool(lacking) or not named
        if self.lengths is not None and not read and self.sources:
            expected = "nothing: every source has lengths of its own"
            raise errors_at({"lengths": ("value_error", "given", expected)})

    @property
    def streams(self) -> tuple[Stream, ...]:
        """Processes and whose requests they send: the shared one first."""
        own = [
            Stream(source.arrivals, (k,), name)
            for k, (name, source) in enumerate(self.sources.items())
            if source.arrivals is not None
        ]
        shared = tuple(k for k, source in enumerate(self.sources.values()) if source.arrivals is None)
        return (*(() if self.arrivals is None else (Stream(self.arrivals, shared),)), *own)

    @property
    def processes(self) -> tuple[Arrivals, ...]:
        """All arrival processes."""
        return tuple(stream.arrivals for stream in self.streams)

    @property
    def has_problems(self) -> bool:
        """Whether problems stand behind the requests, so that something is known of accuracy."""
        return any(source.problem_set is not None for source in self.sources.values())

    @property
    def is_replay(self) -> bool:
        """Whether all that arrives was recorded."""
        return all(isinstance(one, Trace) for one in self.processes)

    @property
    def has_users(self) -> bool:
        """Whether users who wait for answers are among what arrives."""
        return any(isinstance(one.begins, ClosedLoop) for one in self.processes)

    @property
    def rate_changes(self) -> bool:
        """Whether more arrive at some times than at others, other than by chance."""
        return any(
            isinstance(one.begins, (Piecewise, Clients, Trace)) or getattr(one.begins, "shape", None) is not None
            for one in self.processes
        )

    @property
    def all_lengths(self) -> tuple[Lengths | None, ...]:
        """Of all requests, and of those of each source."""
        return (self.lengths, *(source.lengths for source in self.sources.values()))

    @property
    def duration_s(self) -> float | None:
        """Seconds of a run; ``None`` if it is said by requests, or by a trace."""
        return None if self.duration is None else seconds_of(self.duration)

    @property
    def extent(self) -> str:
        """How long a run is, in words."""
        return str(self.duration) if self.requests is None else f"{self.requests:,} requests"

    def with_sources(self, sources: Mapping[str, Source]) -> Workload:
        """The same with some of its sources; without shared arrivals where no source is left that has them."""
        shared = any(source.arrivals is None for source in sources.values())
        return self.model_copy(update={"sources": dict(sources), "arrivals": self.arrivals if shared else None})
