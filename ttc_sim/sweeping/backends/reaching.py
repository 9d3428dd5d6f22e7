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


def check_reachable(address: str, example: str, greeting: bytes, name: str) -> None:
    """Refuse an address at which nothing answers, before a library waits for it for minutes.

    Args:
        greeting: what is said first; some answer to it must come.
        name: of the library.

    Raises:
        InputError: no address, or nothing there.
    """
    found = re.fullmatch(r"(?:([a-z]+)://)?(\[[^\]]+\]|[^:/\s]+):(\d{1,5})", address.strip())
    if found is None or not 0 < int(found[3]) < 2**16:
        raise InputError("sweep", "address", address, f"HOST:PORT of a running cluster, such as {example}")
    try:
        with socket.create_connection((found[2].strip("[]"), int(found[3])), timeout=WITHIN_S) as there:
            there.sendall(greeting)
            answered = found[1] == "tls" or there.recv(1)  # encrypted, it would not answer this
    except TimeoutError:
        raise unreachable(address, f"no answer within {WITHIN_S:.0f} s") from None
    except (OSError, UnicodeError) as error:
        raise unreachable(address, str(getattr(error, "strerror", None) or "no such name")) from None
    if not answered:
        raise unreachable(address, f"what listens there is none of {name}'s")


def unreachable(address: str, why: str) -> InputError:
    """Nobody answers there as such a cluster does."""
    return InputError("sweep", "address", address, f"a running cluster that can be reached ({why})")


def not_installed(error: BaseException) -> InputError | None:
    """What is wrong where machines of a cluster do not know this package; ``None`` for another error."""
    found: BaseException | None = error
    while found is not None:
        if "No module named 'ttc_sim" in str(found):
            return InputError("cluster", "ttc_sim", "not installed", "the same version of ttc-sim on its machines")
        found = found.__cause__
    return None


def lost(address: str | None) -> InputError:
    """It answered, and does no longer."""
    expected = "a cluster that stays; points that are finished are kept with --out, and the same command goes on"
    return InputError("sweep", "address", address or "a cluster on this machine", expected)


__all__ = ["WITHIN_S", "check_reachable", "library", "lost", "not_installed", "unreachable"]
