"""Lengths of time."""

from __future__ import annotations

DAY_S = 86_400.0
"""Seconds of a day."""

WEEK_S = 7 * DAY_S
"""Seconds of a week."""

__all__ = ["DAY_S", "WEEK_S"]
