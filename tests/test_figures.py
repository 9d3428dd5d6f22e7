"""Figures as they are read: nothing that is not 0 reads as 0, nothing that is not all reads as 100%."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import count, dollars, dollars_of, number, percent, percent_of, seconds, seconds_of, signed


@pytest.mark.parametrize(
    ("value", "as_seconds", "as_dollars", "as_count", "as_percent"),
    [
        (0.0, "0.0", "0.00", "0", "0.0%"),
        (-0.0, "0.0", "0.00", "0", "0.0%"),
        (1e-7, "1.0e-07", "1.0e-07", "1.0e-07", "1.0e-05%"),
        (0.00017361, "0.00017", "0.00017", "0.00017", "0.017%"),
        (0.0996, "0.10", "0.10", "0.10", "10.0%"),
        (0.734, "0.73", "0.73", "0.73", "73.4%"),
        (0.9996, "1.0", "1.00", "1.0", "99.96%"),
        (0.99999999, "1.0", "1.00", "1.0", "99.999999%"),
        (1.0, "1.0", "1.00", "1.0", "100.0%"),
        (38.44, "38.4", "38.44", "38", "3,844%"),
        (999.96, "1,000", "1,000", "1,000", "99,996%"),
        (123456, "123,456", "123,456", "123,456", "12,345,600%"),
        (float("nan"), "unknown", "unknown", "unknown", "unknown"),
        (float("inf"), "unlimited", "unlimited", "unlimited", "unlimited"),
    ],
)
def test_odd_values(value: float, as_seconds: str, as_dollars: str, as_count: str, as_percent: str) -> None:
    assert (seconds(value), dollars(value), count(value), percent(value)) == (
        as_seconds,
        as_dollars,
        as_count,
        as_percent,
    )


@given(st.floats(min_value=1e-12, max_value=1e9), st.integers(0, 3))
def test_two_digits_count(value: float, decimals: int) -> None:
    said = number(value, decimals).replace(",", "")
    assert float(said) == pytest.approx(value, rel=0.0501)
    digits = re.sub(r"e.*", "", said).replace(".", "").lstrip("0")
    assert len(digits) >= 2
    assert signed(-value, decimals) == f"-{number(value, decimals)}"


@given(st.floats(min_value=0.0, max_value=1.0))
def test_only_nothing_is_0_percent_and_only_all_is_100(share: float) -> None:
    said = float(percent(share).rstrip("%"))
    assert (said == 0) == (share == 0)
    assert (said >= 100) == (share == 1) or math.isclose(share, 1, abs_tol=1e-15)


def test_intervals() -> None:
    assert percent_of(Estimate(0.62, 0.5383, 0.7019)) == "62.0% (54-70)"
    assert percent_of(Estimate(1.0, 0.4385, 1.0)) == "100.0% (44-100)"
    assert percent_of(Estimate(0.018, 0.005, 0.062)) == "1.8% (0.50-6.2)"
    assert dollars_of(Estimate(0.000065, 0.000061, 0.00007), 1000) == "0.065 (0.061-0.070)"
    assert dollars_of(Estimate(0.35, 0.35, 0.35)) == "0.35"
    assert seconds_of(Estimate(0.734, 0.71, 12.31)) == "0.73 (0.71-12.3)"
    nothing = float("nan")
    assert percent_of(Estimate(nothing, nothing, nothing)) == "unknown"
