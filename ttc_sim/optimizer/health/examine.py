"""All checks of a plan, one after another."""

from __future__ import annotations

import datetime

from ttc_sim.base.errors import InputError
from ttc_sim.optimizer.health.assumed import aged, latencies_measured, measurement_ages, price_ages
from ttc_sim.optimizer.health.check import Check
from ttc_sim.optimizer.health.load import every_hour, percentiles_bounded, rate_limits, spare_replicas
from ttc_sim.optimizer.health.measured import (
    caps_measured,
    problems_behind_arms,
    prompts_measured,
    samples_measured,
    thinking_measured,
)
from ttc_sim.optimizer.health.predicted import scores_identified, traffic_known
from ttc_sim.optimizer.health.promised import confidence_reached, gain_over_simpler, targets_feasible
from ttc_sim.optimizer.health.searched import space_wide_enough
from ttc_sim.optimizer.health.subject import Examination, Subject

CHECKS: tuple[Examination, ...] = (
    targets_feasible,
    confidence_reached,
    gain_over_simpler,
    every_hour,
    rate_limits,
    spare_replicas,
    percentiles_bounded,
    problems_behind_arms,
    samples_measured,
    caps_measured,
    prompts_measured,
    thinking_measured,
    traffic_known,
    scores_identified,
    latencies_measured,
    price_ages,
    measurement_ages,
    space_wide_enough,
)
"""In the order that they are told in, those of one status."""


def examine(subject: Subject) -> tuple[Check, ...]:
    """Every check of a plan, none of them by the calendar: the same plan gives the same checks (:func:`.assumed.aged`)."""
    return tuple(check(subject) for check in CHECKS)


def day_of(text: str, where: str = "as_of") -> datetime.date:
    """A day as it is written on the command line.

    Raises:
        InputError: none, or not as YYYY-MM-DD.
    """
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise InputError(where, "day", text, "a day as YYYY-MM-DD") from None


__all__ = ["CHECKS", "aged", "day_of", "examine"]
