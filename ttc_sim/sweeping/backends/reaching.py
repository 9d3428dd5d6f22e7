"""Whether a cluster answers at its address, and what a cluster needs."""

from __future__ import annotations

import importlib
import re
import socket
from types import ModuleType

from ttc_sim.base.errors import InputError

WITHIN_S = 5.0
"""Seconds in which a cluster must answer."""


def library(name: str, extra: str) -> ModuleType:
    """A library that an extra of this package installs.

    Raises:
        InputError: it is not there.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError("sweep", "backend", extra, f"its library: pip install 'ttc-sim[{extra}]'") from None


def check_reachable(address: str, example: str) -> None:
    """Refuse an address at which nothing listens, before a library waits for it.

    Raises:
        InputError: no address, or nothing there.
    """
    found = re.fullmatch(r"(?:[a-z]+://)?(\[[^\]]+\]|[^:/\s]+):(\d{1,5})", address.strip())
    if found is None or not 0 < int(found[2]) < 2**16:
        raise InputError("sweep", "address", address, f"HOST:PORT of a running cluster, such as {example}")
    try:
        socket.create_connection((found[1].strip("[]"), int(found[2])), timeout=WITHIN_S).close()
    except (OSError, UnicodeError) as error:
        raise unreachable(address, str(getattr(error, "strerror", None) or error)) from None


def unreachable(address: str, why: str) -> InputError:
    """Nobody answers there as such a cluster does."""
    return InputError("sweep", "address", address, f"a running cluster that can be reached ({why})")


__all__ = ["WITHIN_S", "check_reachable", "library", "unreachable"]
