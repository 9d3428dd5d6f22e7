"""The lives of a pool's replicas: how many there are over time, how long they take to start, when they fail.

Formulas and defaults of autoscaling are those of Kubernetes' HorizontalPodAutoscaler where it has them: see docs/replicas.md.
"""

from __future__ import annotations

import itertools
import re
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from ttc_sim.base.limits import MOST_REPLICAS
from ttc_sim.base.times import DAY_S
from ttc_sim.scenario.base import Model, NonNegative, Positive

Count = Annotated[int, Field(ge=1, le=MOST_REPLICAS)]


def _time_of_day(given: object) -> object:
    if given is None:
        return None
    found = re.fullmatch(r"(\d\d?):(\d\d)(?::(\d\d))?", given) if isinstance(given, str) else None
    hours, minutes, seconds = (int(part or 0) for part in found.groups()) if found else (24, 0, 0)
    if hours > 23 or minutes > 59 or seconds > 59:
        raise ValueError('a time of the day in quotes, from "00:00" to "23:59"')
    return given


class ScheduleStep(Model):
    """So many replicas, from a time of the day until the next step, or for so long.

    Args:
        at: time of the day, ``"08:00"``; the clock starts at 00:00. Or:
        duration_s: how long it holds.
        replicas: that are wanted.
    """

    at: Annotated[str | None, BeforeValidator(_time_of_day)] = None
    duration_s: Positive | None = None
    replicas: Count

    @model_validator(mode="after")
    def _one_of_them(self) -> ScheduleStep:
        if (self.at is None) == (self.duration_s is None):
            raise ValueError("either at, a time of the day, or duration_s")
        return self

    @property
    def at_s(self) -> float:
        """Seconds after midnight."""
        hours, minutes, *seconds = map(int, str(self.at).split(":"))
        return float(hours * 3600 + minutes * 60 + sum(seconds))


class ScaleRule(Model):
    """What holds a change of the number of replicas back, in one direction.

    Args:
        stabilisation_s: the most cautious number that was wanted within so many seconds counts: upwards the lowest, downwards the
            highest.
        cooldown_s: no change in this direction for so long after any change.
        step: most replicas of one change.
    """

    stabilisation_s: NonNegative | None = None
    cooldown_s: NonNegative | None = None
    step: Count | None = None


RULES = ("schedule", "target_concurrency", "target_utilisation", "target_queue", "target_ttft_s")
_OF_TARGETS = ("every_s", "window_s", "tolerance", "scale_up", "scale_down")


class Autoscaling(Model):
    """How many replicas a pool has over time: exactly one of ``schedule`` and the targets.

    Args:
        minimum, maximum: replicas that may be wanted; those of the schedule if left out. No more than ``maximum`` are provided at
            any time, those that drain and those under repair included.
        schedule: steps of the day, or of any length by ``duration_s``, that start over when the last is over.
        target_concurrency: sequences running and waiting per replica.
        target_utilisation: share of the places in replicas' batches (``max_num_seqs``) that are taken.
        target_queue: sequences waiting per replica.
        target_ttft_s: time to first token, of the ``percentile`` (95 unless given) over ``window_s``.
        percentile: that, above 0, at most 100.
        every_s: seconds between two looks at the metric (15 unless given); window_s: over which looks are averaged (60).
        tolerance: no change while the metric is within so much of its target, as a share of it (0.1).
        scale_up, scale_down: what holds changes back; ``stabilisation_s`` is 0 upwards and 300 downwards unless given.
    """

    minimum: Count | None = None
    maximum: Count | None = None
    schedule: Annotated[list[ScheduleStep], Field(min_length=1)] | None = None
    target_concurrency: Positive | None = None
    target_utilisation: Annotated[float, Field(gt=0, le=1)] | None = None
    target_queue: Positive | None = None
    target_ttft_s: Positive | None = None
    percentile: Annotated[float, Field(gt=0, le=100)] | None = None
    every_s: Annotated[Positive, Field(ge=0.01)] | None = None
    window_s: Positive | None = None
    tolerance: Annotated[float, Field(ge=0, le=1)] | None = None
    scale_up: ScaleRule | None = None
    scale_down: ScaleRule | None = None

    @model_validator(mode="after")
    def _one_rule(self) -> Autoscaling:
        given = [name for name in RULES if getattr(self, name) is not None]
        if len(given) != 1:
            said = " and ".join(given) or "none"
            raise ValueError(f"exactly one of {', '.join(RULES)} to be given, not {said}")
        if self.percentile is not None and self.target_ttft_s is None:
            raise ValueError("percentile to stand beside target_ttft_s: it has no effect here")
        if self.schedule is not None:
            idle = [name for name in _OF_TARGETS if getattr(self, name) is not None]
            if idle:
                raise ValueError(f"no {idle[0]} beside schedule: it has no effect on it")
            self._check_schedule(self.schedule)
        elif self.minimum is None or self.maximum is None:
            raise ValueError("minimum and maximum to be given")
        if self.least > self.most:
            raise ValueError(f"minimum {self.least} must be at most maximum {self.most}")
        for name, seconds in (("window_s", self.window_s), ("every_s", self.every_s)):
            if seconds is not None and seconds > DAY_S:
                raise ValueError(f"{name} {seconds:g} must be at most a day, {DAY_S:g}")
        if self.looks > 100_000:
            raise ValueError(
                f"every_s {self.looks_every_s:g} must be more of the windows: they have over 100,000 looks"
            )
        return self

    def _check_schedule(self, steps: list[ScheduleStep]) -> None:
        if len({step.at is None for step in steps}) > 1:
            raise ValueError("steps of schedule to have at, or duration_s, all alike")
        if steps[0].at is not None:
            if steps[0].at_s > 0:
                raise ValueError(
                    f'schedule leaves a gap from 00:00 to {steps[0].at}: its first step must be at "00:00"'
                )
            for one, after in itertools.pairwise(steps):
                if after.at_s <= one.at_s:
                    raise ValueError(f"steps of schedule overlap: {after.at} comes after {one.at}")
        for step in steps:
            if not self.least <= step.replicas <= self.most:
                raise ValueError(f"replicas {step.replicas} of schedule must lie in {self.least} to {self.most}")

    @property
    def least(self) -> int:
        """Fewest replicas that may be wanted."""
        return self.minimum or min((step.replicas for step in self.schedule or ()), default=1)

    @property
    def most(self) -> int:
        """Most replicas that may be wanted."""
        return self.maximum or max((step.replicas for step in self.schedule or ()), default=1)

    @property
    def rule(self) -> str:
        """Which it is, of :data:`RULES`."""
        return next(name for name in RULES if getattr(self, name) is not None)

    @property
    def target(self) -> float:
        """Of the metric; 0 of a schedule."""
        return 0.0 if self.schedule is not None else float(getattr(self, self.rule))

    @property
    def changes(self) -> tuple[list[float], list[int], float]:
        """When the steps of a schedule begin, in seconds of its cycle, replicas of each, and the length of the cycle."""
        steps = self.schedule or []
        counts = [step.replicas for step in steps]
        if steps and steps[0].at is not None:
            return [step.at_s for step in steps], counts, DAY_S
        begins = [0.0]
        for step in steps:
            begins.append(begins[-1] + float(step.duration_s or 0.0))
        return begins[:-1], counts, begins[-1]

    @property
    def shortest_s(self) -> float:
        """Of a schedule's steps."""
        begins, _, cycle_s = self.changes
        lasts = [b - a for a, b in zip(begins, [*begins[1:], cycle_s], strict=True)]
        return min(step.duration_s or last for step, last in zip(self.schedule or [], lasts, strict=True))

    @property
    def mean_replicas(self) -> float:
        """Of a schedule, over its cycle."""
        begins, counts, cycle_s = self.changes
        return sum(n * (b - a) for n, a, b in zip(counts, begins, [*begins[1:], cycle_s], strict=True)) / cycle_s

    @property
    def looks_every_s(self) -> float:
        """Seconds between two looks."""
        return 15.0 if self.every_s is None else self.every_s

    @property
    def averaged_s(self) -> float:
        """Seconds over which the metric is averaged."""
        return 60.0 if self.window_s is None else self.window_s

    @property
    def looks(self) -> int:
        """Looks of the longest window that is needed, the one of now included."""
        longest_s = max(self.averaged_s, self.held_back("up")[0], self.held_back("down")[0])
        return int(longest_s / self.looks_every_s) + 2

    def held_back(self, way: str) -> tuple[float, float, int]:
        """Stabilisation and cooldown in seconds, and the largest step: ``up`` or ``down``."""
        given = (self.scale_up if way == "up" else self.scale_down) or ScaleRule()
        usual_s = 0.0 if way == "up" else 300.0
        return (
            usual_s if given.stabilisation_s is None else given.stabilisation_s,
            given.cooldown_s or 0.0,
            given.step or MOST_REPLICAS,
        )


class StartUp(Model):
    """How long a replica takes from when it is paid for until it serves.

    Args:
        seconds: all of it. Or, in parts:
        boot_s: until it begins to load the weights: a machine, a container, a process; and whatever comes after.
        load_gb_per_s: rate at which one replica, all of its GPUs together, loads its weights, in GB (10^9 bytes).
        weights_gb: of one replica; follows from model and precision where the pool names these.
    """

    seconds: NonNegative | None = None
    boot_s: NonNegative | None = None
    load_gb_per_s: Positive | None = None
    weights_gb: Positive | None = None

    @model_validator(mode="after")
    def _whole_or_parts(self) -> StartUp:
        parts = [name for name in ("boot_s", "load_gb_per_s", "weights_gb") if getattr(self, name) is not None]
        if self.seconds is not None and parts:
            raise ValueError(f"seconds and {parts[0]} to exclude each other")
        if self.seconds is None and (self.boot_s is None or self.load_gb_per_s is None):
            raise ValueError("seconds, or boot_s and load_gb_per_s, to be given")
        return self

    @property
    def takes_s(self) -> float | None:
        """Seconds; ``None`` where the weights are not known yet."""
        if self.seconds is not None:
            return self.seconds
        if self.weights_gb is None:
            return None
        return float(self.boot_s or 0.0) + self.weights_gb / float(self.load_gb_per_s or 1.0)


class Failure(Model):
    """One failure of a replica.

    Args:
        replica: its number, from 0.
        at_s: seconds from the beginning of the run.
        repair_s: seconds that it is under repair.
    """

    replica: Annotated[int, Field(ge=0, lt=MOST_REPLICAS)]
    at_s: NonNegative
    repair_s: NonNegative


class Failures(Model):
    """When replicas fail: at given moments, at random, or both.

    Args:
        at: given failures. A replica that is not provided then, or is under repair, does not fail.
        mtbf_h: hours between failures, in the mean, of one replica that is in service; exponentially distributed.
        mttr_h: hours to repair, in the mean, likewise. After that the replica starts up.
    """

    at: list[Failure] | None = None
    mtbf_h: Annotated[Positive, Field(ge=1e-6)] | None = None
    mttr_h: NonNegative | None = None

    @model_validator(mode="after")
    def _some(self) -> Failures:
        if (self.mtbf_h is None) != (self.mttr_h is None):
            raise ValueError("mtbf_h and mttr_h to be given together")
        if not self.at and self.mtbf_h is None:
            raise ValueError("at, or mtbf_h and mttr_h, to be given")
        back_s: dict[int, float] = {}
        for one in sorted(self.at or [], key=lambda each: each.at_s):
            if one.at_s <= back_s.get(one.replica, -1.0):
                until_s = back_s[one.replica]
                raise ValueError(
                    f"replica {one.replica} fails at {one.at_s:g} s, and is under repair until {until_s:g} s"
                )
            back_s[one.replica] = one.at_s + one.repair_s
        return self
