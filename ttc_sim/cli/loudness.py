"""How much a command says: its results, or nothing but errors, or more; and whether figures as JSON take their place."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ttc_sim.base.errors import InputError

STDOUT = Path("/dev/stdout")
"""What ``-`` stands for."""


@dataclass
class Loudness:
    """Of the command that runs.

    Attributes:
        quiet: neither results nor progress; warnings and errors are said.
        verbose: progress a line each with the time since the command began, and at the end what the command took.
        json_on_stdout: standard output has the figures as JSON, and nothing else.
    """

    quiet: bool = False
    verbose: bool = False
    json_on_stdout: bool = False

    @property
    def prints_results(self) -> bool:
        """Whether tables and words go to standard output."""
        return not (self.quiet or self.json_on_stdout)


_NOW: ContextVar[Loudness | None] = ContextVar("loudness", default=None)


def begin() -> None:
    """A command begins: it has said nothing yet of how loud it is to be."""
    _NOW.set(Loudness())


def loudness() -> Loudness:
    """Of the command that runs."""
    now = _NOW.get()
    if now is None:
        _NOW.set(now := Loudness())
    return now


def _quiet(wanted: bool) -> None:
    if wanted:
        loudness().quiet = True
        _one_of_the_two()


def _verbose(wanted: bool) -> None:
    if wanted:
        loudness().verbose = True
        _one_of_the_two()


def _one_of_the_two() -> None:
    if loudness().quiet and loudness().verbose:
        raise InputError("ttc-sim", "--quiet", "--verbose too", "one of the two")


def json_place(given: Any) -> Any:
    """Where JSON goes: ``-`` is standard output, which then has nothing else."""
    if given is None or str(given) != "-":
        return given
    loudness().json_on_stdout = True
    return STDOUT


QuietOption = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", callback=_quiet, is_eager=True, expose_value=False, help="Print warnings and errors alone."
    ),
]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        callback=_verbose,
        is_eager=True,
        expose_value=False,
        help="Print progress with its times, and at the end what the command took.",
    ),
]

__all__ = ["STDOUT", "Loudness", "QuietOption", "VerboseOption", "begin", "json_place", "loudness"]
