"""Targets, the confidence in them, and what the plan gains over what is simpler."""

from __future__ import annotations

import math

from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import number
from ttc_sim.optimizer.gain import Gain
from ttc_sim.optimizer.health.check import Check
from ttc_sim.optimizer.health.subject import Subject
from ttc_sim.optimizer.promises import TargetCheck, as_mapping
from ttc_sim.optimizer.simpler import UTILITY, Simplest, Tied, simplicity_of

_FLOORS = ("accuracy", "goodput")


def targets_feasible(subject: Subject) -> Check:
    """Whether all targets hold, and what is lacking where they do not."""
    name, checks = "targets", subject.targets
    if not checks:
        return Check(name, "not applicable", "no target is asked for, so that none can be missed", {})
    figures: dict[str, object] = {
        "targets": [
            {**one.as_json(), "gap": one.gap, "would_hold_at": _would_hold_at(one)} if not one.holds else one.as_json()
            for one in checks
        ]
    }
    surest = min(checks, key=lambda one: one.chance - one.confidence)
    if subject.met:
        says = f"all targets hold; the least sure, {surest.words or surest.name}, with a chance of "
        says += f"{_percent(surest.chance)} "
        return Check(name, "ok", f"{says}where {100 * surest.confidence:g}% is asked for", figures)
    lacking = [_lacking(one) for one in checks if not one.holds]
    unsure = all(one.chance >= 0.5 for one in checks)
    says = "no plan was found that holds all targets" if not unsure else "targets hold, but not as surely as asked for"
    return Check(name, "problem", f"{says}: {'; '.join(lacking)}. Loosen what is named, or widen the search", figures)


def _lacking(check: TargetCheck) -> str:
    said, promised = check.words or check.name, check.promised.value
    if math.isnan(promised):
        return f"nothing is known of {said}"
    bound = f"{'at least' if check.at_least else 'at most'} {check.bound:g} is asked for"
    held = f"{said} is {promised:.4g} where {bound}, a chance of {_percent(check.chance)} instead of {100 * check.confidence:g}%"
    at = _would_hold_at(check)
    return held if at is None else f"{held}; as sure as asked it would hold at {at:.4g}"


def _would_hold_at(check: TargetCheck) -> float | None:
    """The bound that the plan's figure would keep as surely as asked for."""
    if check.holds or not math.isfinite(check.gap):
        return None
    return max(check.bound - check.gap, 0.0) if check.at_least else check.bound + check.gap


def confidence_reached(subject: Subject) -> Check:
    """Whether targets that the figures keep are kept as surely as asked for, by some plan."""
    name, checks, highest = "confidence", subject.targets, subject.highest_confidence
    if not checks:
        return Check(name, "not applicable", "no target is asked for", {})
    asked = max(one.confidence for one in checks)
    least = min(one.chance for one in checks)
    figures = {"asked": asked, "chance": least, "highest": highest}
    if subject.met:
        more = (
            "" if highest is None or highest <= least else f"; the surest plan that was found has {_percent(highest)}"
        )
        return Check(name, "ok", f"each target holds with a chance of {_percent(least)} or more{more}", figures)
    # No plan holds them as surely as asked for, or this one would.
    surest = max(least, highest or 0.0)
    if surest < 0.5:
        says = "some target is missed by every plan that was found, whatever the confidence"
        return Check(name, "not applicable", says, figures)
    says = f"the targets can be held with a chance of {_percent(surest)} at most, and {100 * asked:g}% is asked for: "
    says += "measure more "
    says += "problems, ask for less confidence, or loosen the least sure target"
    return Check(name, "problem", says, figures)


def gain_over_simpler(subject: Subject) -> Check:
    """Whether what is more complicated about the plan gains more than noise."""
    name, simplest = "gain", subject.simplest
    if simplest is None:
        return Check(name, "not applicable", "what simpler policies come to is not known of this plan", {})
    own, figure = simplest.simplicity, simplest.objective
    figures: dict[str, object] = {"plan": own.words, "objective": figure}
    if not subject.met:
        return Check(name, "not applicable", "the plan does not hold its targets, so that there is no gain", figures)
    if own.kind == 0 and own.arms == 1:
        says = f"the plan is as simple as can be ({own.words}): there is nothing that it would have to gain over"
        return Check(name, "not applicable", says, figures)
    tied = simplest.tied()
    if figure is None:
        return Check(name, "not applicable", "no paired differences are known of what is made best of", figures)
    if own.kind == UTILITY and subject.over_bands is not None:
        return _over_bands(subject.over_bands, figures)
    if simplest.plan is not simplest.best:
        row = next(one for one in tied if one.is_plan)
        says = f"the plan ({own.words}) is simpler than the best ({tied[-1].simplicity.words}), which is "
        says += f"{_by(figure, row)}, "
        figures |= {"difference": _difference(row)}
        return Check(name, "ok", f"{says}no more than noise, and next to nothing", figures)
    if not simplest.beside and not simplest.farther:
        says = f"no simpler policy than the plan ({own.words}) was found to hold all targets"
        return Check(name, "ok", says, figures)
    if not simplest.beside:
        return _far_from(subject, simplest, figure, figures)
    nearest = min(simplest.beside, key=lambda one: abs(one.objective.value))
    beside, words = nearest.objective, nearest.simplicity.words
    figures |= {"beside": words, "difference": as_mapping(beside)}
    if nearest.alike:
        says = f"the plan ({own.words}) gains no more than noise over a simpler one ({words}): "
        says += f"{_said(figure, beside)}. That is not "
        return Check(
            name,
            "warning",
            f"{says}next to nothing, so that it was kept: more problems or runs would tell",
            figures,
        )
    says = (
        f"the plan ({own.words}) gains more than noise over the nearest simpler one ({words}): {_said(figure, beside)}"
    )
    return Check(name, "ok", says, figures)


def _over_bands(gain: Gain, figures: dict[str, object]) -> Check:
    """Where ``Utility`` is the plan: what it gains on problems kept from it and from bands alike."""
    figure = "cost_usd_per_request" if gain.unit == "usd_per_request" else "accuracy"
    figures |= {"over_bands": gain.as_json()}
    says = f"Utility gains {_amount(figure, gain.value)} over bands on problems kept from both ({_bare(figure, gain.low)} to "
    says += f"{_bare(figure, gain.high)})"
    if gain.more_than_noise:
        return Check("gain", "ok", f"{says}, more than noise", figures)
    return Check("gain", "warning", f"{says}, no more than noise; no bands were found to hold the targets", figures)


def _far_from(subject: Subject, simplest: Simplest, figure: str, figures: dict[str, object]) -> Check:
    """Where no simpler policy comes near: the best of those that hold the targets."""
    mine = subject.summary.quantity(figure)
    found = [(one.summary.quantity(figure), simplicity_of(one).words) for one in simplest.farther]
    values = [(its.value, words) for its, words in found if its is not None and math.isfinite(its.value)]
    if mine is None or not values:
        says = f"of simpler policies than the plan ({simplest.simplicity.words}) nothing is known of {figure}"
        return Check("gain", "not applicable", says, figures)
    value, words = max(values) if figure in _FLOORS else min(values)
    figures |= {"beside": words, "simpler": value, "own": mine.value}
    says = f"the plan ({simplest.simplicity.words}) comes to {_amount(figure, mine.value)}, the best simpler policy "
    says += "that holds all targets "
    return Check("gain", "ok", f"{says}({words}) to {_amount(figure, value)}: far more than noise", figures)


def _by(figure: str, row: Tied) -> str:
    assert row.difference is not None
    return f"better by {_amount(figure, abs(row.difference.value))}"


def _difference(row: Tied) -> object:
    return None if row.difference is None else as_mapping(row.difference)


def _said(figure: str, difference: Estimate) -> str:
    """What the simpler one loses: its figure less that of the plan, turned so that more is worse."""
    worse = difference.scaled(-1.0 if figure in _FLOORS else 1.0)
    low, high = sorted((worse.low, worse.high))
    return f"{_amount(figure, worse.value)} {_WORSE.get(figure, 'more')}, paired {_bare(figure, low)} to {_bare(figure, high)}"


_WORSE = {"accuracy": "less accuracy", "goodput": "less goodput"}


def _amount(figure: str, value: float) -> str:
    if figure in _FLOORS:
        return f"{_bare(figure, value)} points"
    if figure.startswith("cost"):
        return f"${_bare(figure, value)} {'per 1k requests' if figure == 'cost_usd_per_request' else 'a day'}"
    return f"{_bare(figure, value)} s"


def _bare(figure: str, value: float) -> str:
    times = 100 if figure in _FLOORS else 1000 if figure == "cost_usd_per_request" else 1
    return number(times * value, 2)


def _percent(chance: float) -> str:
    """Rounded down, so that what was asked for is never said to be reached where it is not."""
    times = 10 if chance >= 0.99 else 1
    return f"{math.floor(100 * times * chance + 1e-9) / times:g}%"


__all__ = ["confidence_reached", "gain_over_simpler", "targets_feasible"]
