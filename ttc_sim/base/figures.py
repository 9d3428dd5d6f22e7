"""Figures as they are read: in tables and sentences, two to three digits that count, and never 0 for what is not."""

from __future__ import annotations

import math

from ttc_sim.base.estimates import Estimate

_DIGITS = 2  # that count, at least


def number(value: float, decimals: int = 0) -> str:
    """A number with so many decimals; more where fewer than two digits would count, none from a thousand on.

    >>> [number(x, 1) for x in (38.44, 0.734, 0.0, 0.0004, 1e-7, 123456, float("nan"))]
    ['38.4', '0.73', '0.0', '0.00040', '1.0e-07', '123,456', 'unknown']
    """
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "unlimited" if value > 0 else "-unlimited"
    size = abs(value)
    if size >= 999.5:
        return f"{value:,.0f}"
    if size == 0:
        return f"{0:.{decimals}f}"
    needed = _DIGITS - 1 - _exponent(size, _DIGITS)
    if needed > 5:
        return f"{value:.{_DIGITS - 1}e}"
    return f"{value:.{max(needed, decimals)}f}"


def _exponent(size: float, digits: int) -> int:
    """Power of ten of the first digit, once rounded to so many."""
    return int(f"{size:.{digits - 1}e}".partition("e")[2])


def seconds(value: float) -> str:
    """Seconds, without their unit.

    >>> seconds(248.79), seconds(0.0312)
    ('248.8', '0.031')
    """
    return number(value, 1)


def dollars(value: float) -> str:
    """US dollars, without their sign.

    >>> dollars(1.13), dollars(0.0347), dollars(2718.2)
    ('1.13', '0.035', '2,718')
    """
    return number(value, 2)


def count(value: float) -> str:
    """Tokens, requests and the like.

    >>> count(82_098_853), count(0.4)
    ('82,098,853', '0.40')
    """
    return number(value, 0)


def percent(value: float, decimals: int = 1) -> str:
    """A share as a percentage; 100% only where it is all.

    >>> percent(0.62), percent(0.0002), percent(0.0), percent(0.99996)
    ('62.0%', '0.020%', '0.0%', '99.996%')
    """
    said = _percentage(value, decimals)
    return f"{said}%" if math.isfinite(value) else said


def _percentage(value: float, decimals: int) -> str:
    missing = 100 * (1 - value)
    if 1e-10 < missing < 1 and float(f"{100 * value:.{decimals}f}") >= 100:
        decimals = max(-_exponent(missing, 1), decimals)
        return f"{100 * value:.{decimals}f}"
    return number(100 * value, decimals)


def signed(value: float, decimals: int = 1) -> str:
    """A difference, with its sign.

    >>> signed(13.2), signed(-0.004), signed(0.0)
    ('+13.2', '-0.0040', '+0.0')
    """
    return number(value, decimals) if value < 0 or math.isnan(value) else f"+{number(value, decimals)}"


def rounded_down(chance: float) -> str:
    """A chance in percent, so that what was asked for is never said to be reached where it is not.

    >>> rounded_down(0.7999), rounded_down(0.9996)
    ('79', '99.9')
    """
    times = 10 if chance >= 0.99 else 1
    return f"{math.floor(100 * times * chance + 1e-9) / times:g}"


def percent_of(estimate: Estimate) -> str:
    """A share with its interval.

    >>> percent_of(Estimate(0.62, 0.54, 0.7))
    '62.0% (54-70)'
    """
    low, high = _percentage(estimate.low, 0), _percentage(estimate.high, 0)
    return f"{percent(estimate.value)}{_between(estimate, low, high)}"


def dollars_of(estimate: Estimate, times: float = 1.0) -> str:
    """US dollars with their interval, of so many at once.

    >>> dollars_of(Estimate(0.00113, 0.00095, 0.0013), 1000)
    '1.13 (0.95-1.30)'
    """
    value, low, high = (dollars(times * x) for x in (estimate.value, estimate.low, estimate.high))
    return f"{value}{_between(estimate, low, high)}"


def span(estimate: Estimate) -> str:
    """An interval, without its figure.

    >>> span(Estimate(0.62, 0.54, 0.7)), span(Estimate(9.0, 4.5, math.inf))
    ('0.54 to 0.7', '4.5 or more')
    """
    return f"{estimate.low:.4g} or more" if math.isinf(estimate.high) else f"{estimate.low:.4g} to {estimate.high:.4g}"


def seconds_of(estimate: Estimate) -> str:
    """Seconds with their interval."""
    return f"{seconds(estimate.value)}{_between(estimate, seconds(estimate.low), seconds(estimate.high))}"


def _between(estimate: Estimate, low: str, high: str) -> str:
    """An interval in brackets; none where it repeats exactly or is unknown."""
    if estimate.low == estimate.high or math.isnan(estimate.value):
        return ""
    return f" ({low} or more)" if math.isinf(estimate.high) else f" ({low}-{high})"
