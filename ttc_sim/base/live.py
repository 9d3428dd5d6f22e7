"""How a saved plan is carried out on live requests.

That is the business of the deploying, which comes later in the data's way than any plan. So a plan only asks for it, and the
deploying registers how it is done.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

CARRIED_OUT: dict[type, Callable[..., Any]] = {}
"""By class of plan, what makes a runtime of it."""
_LATER: list[str] = []  # modules that register one when they are imported


def carried_out_by(module: str) -> None:
    """Name the module that registers how plans are carried out; it is imported when the first is."""
    _LATER.append(module)


def carried_out_live(plan: object, **options: Any) -> Any:
    """A runtime of the plan.

    Raises:
        LookupError: nothing was registered for its class.
    """
    while _LATER:
        importlib.import_module(_LATER[0])
        _LATER.pop(0)
    if type(plan) not in CARRIED_OUT:
        raise LookupError(f"no way to carry out {type(plan).__name__} was registered")
    return CARRIED_OUT[type(plan)](plan, **options)
