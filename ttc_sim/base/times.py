"""Lengths of time."""

from __future__ import annotations

DAY_S = 86_400.0
"""Seconds of a day."""

__all__ = ["DAY_S"]
