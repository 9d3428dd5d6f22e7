"""What arrives: arrival processes and sources of problems."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, SerializeAsAny, model_validator

from ttc_sim.base.limits import MOST_REQUESTS
from ttc_sim.base.plugins import Registry
from ttc_sim.scenario.base import Model, NonNegative, Positive, Rate, by_name
from ttc_sim.scenario.lengths import Lengths


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
    """Independent arrivals at a constant rate."""

    process: Literal["poisson"]
    rate_per_s: Rate


def _not_even(cv: float) -> float:
    if not 0 < cv <= MOST_VARIATION:
        raise ValueError(f"above 0, at most {MOST_VARIATION}; requests at even distances are 'process: even'")
    return cv


MOST_VARIATION = 50
"""Beyond it a handful of gaps takes all of the time: a run of any length that can be simulated says nothing of the rate."""

Variation = Annotated[float, AfterValidator(_not_even)]
"""Coefficient of variation of gaps, above 0; vLLM's burstiness is ``1 / cv**2``."""


class Renewal(Arrivals):
    """Independent Gamma or Weibull gaps between arrivals, with a given coefficient of variation (1 is Poisson)."""

    process: Literal["gamma", "weibull"]
    rate_per_s: Rate
    cv: Variation


class Even(Arrivals):
    """Arrivals at even distances: a constant gap of ``1 / rate_per_s``."""

    process: Literal["even"]
    rate_per_s: Rate


class Step(Model):
    """One step of a piecewise-constant rate."""

    duration_s: Positive
    rate_per_s: NonNegative


class Piecewise(Arrivals):
    """A day's shape: rates that hold for a while each, then start over. ``cv`` other than 1 makes it bursty."""

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

    process: Literal["closed_loop"]
    users: Annotated[int, Field(ge=1, le=MOST_REQUESTS)]
    think_s: NonNegative = 0.0


class Columns(Model):
    """Names of the columns of a recorded trace in CSV.

    Args:
        arrival: when each request came: numbers, or times such as ``2023-11-16 18:17:03.97``; in order.
        unit: of numbers in ``arrival``.
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
        format: how its table is to be read: ``traffic`` is what ``ttc-sim import`` writes, ``csv`` any table whose ``columns`` are
            named.
    """

    carries_lengths = True
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
    },
    key="process",
)


class Source(Model):
    """One stream of requests, as a gateway tells them apart (route, application, caller).

    Args:
        problem_set: the problems its requests are drawn from, uniformly.
        subset: keep only problems of this subset, or of these.
        share: weight of the stream among all requests.
        priority: 0 is most urgent; for GPU pools that schedule by priority.
    """

    problem_set: str
    subset: str | list[str] | None = None
    share: Annotated[float, Field(gt=0)] = 1.0
    priority: Annotated[int, Field(ge=0, le=7)] = 0


class Workload(Model):
    """What arrives: an arrival process and, per source, problems.

    Without ``sources`` lengths come from the trace or the clients, or are said plainly (``lengths``), and nothing is known of
    accuracy.
    """

    arrivals: Annotated[SerializeAsAny[Arrivals], by_name(ARRIVALS)]
    requests: Annotated[int, Field(ge=1, le=MOST_REQUESTS)]
    sources: dict[str, Source] = Field(default_factory=dict)
    lengths: Lengths | None = None
