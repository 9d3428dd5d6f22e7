"""One check of a plan: what it found, in words and in numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from ttc_sim.base.errors import InputError

Status = Literal["problem", "warning", "ok", "not applicable"]
STATUSES: tuple[Status, ...] = get_args(Status)
"""From the most severe on."""
_KEYS = ("name", "status", "says", "figures")


@dataclass(frozen=True)
class Check:
    """What one check of a plan found.

    Attributes:
        name: of the check; status: ``problem`` (settle it before anything is deployed), ``warning`` (know it, and judge),
            ``ok``, or ``not applicable``.
        says: what is wrong and what to do, what is in order, or why the check does not apply: a sentence with its figures.
        figures: the numbers behind it, as YAML and JSON have them.
    """

    name: str
    status: Status
    says: str
    figures: Mapping[str, object]

    def as_json(self) -> dict[str, object]:
        """Plain mapping; of a figure without an end, or unknown, nothing is said."""
        return {"name": self.name, "status": self.status, "says": self.says, "figures": _finite(dict(self.figures))}


def passes(check: Check) -> bool:
    """Whether nothing need be done."""
    return check.status in ("ok", "not applicable")


def by_severity(checks: tuple[Check, ...]) -> list[Check]:
    """Problems first, then warnings, what is in order and what does not apply; each as they were carried out."""
    return sorted(checks, key=lambda check: STATUSES.index(check.status))


def read_checks(raw: object, path: Path) -> tuple[Check, ...]:
    """Checks as a plan's file has them.

    Raises:
        InputError: something else.
    """
    if not isinstance(raw, list):
        raise InputError(path, "health", raw, "a list of checks, as `ttc-sim optimize --plan` writes it")
    found = []
    for number, one in enumerate(raw):
        field = f"health[{number}]"
        if not isinstance(one, dict) or set(one) != set(_KEYS):
            raise InputError(path, field, one, f"a check with {', '.join(_KEYS)}")
        for key in ("name", "says"):
            if not isinstance(one[key], str):
                raise InputError(path, f"{field}.{key}", one[key], "text")
        if one["status"] not in STATUSES:
            raise InputError(path, f"{field}.status", one["status"], " or ".join(STATUSES))
        if not isinstance(one["figures"], dict):
            raise InputError(path, f"{field}.figures", one["figures"], "figures by their names")
        found.append(Check(one["name"], one["status"], one["says"], one["figures"]))
    return tuple(found)


def _finite(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


__all__ = ["STATUSES", "Check", "Status", "by_severity", "passes", "read_checks"]
