"""Options by which a plan is asked to hold in several worlds at once."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ttc_sim.base.errors import InputError
from ttc_sim.cli.commands import Command

_ROBUST, _DEFAULT = "--robust", "default"


class OptimizeCommand(Command):
    """``--robust`` may stand alone, and then asks for all ready-made worlds."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """With the value that ``--robust`` stands for where it has none of its own."""
        given: list[str] = []
        for k, word in enumerate(args):
            given.append(word)
            if word == _ROBUST and (k + 1 == len(args) or args[k + 1].startswith("-")):
                given.append(_DEFAULT)
        return super().parse_args(ctx, given)


def _names(incomplete: str) -> list[str]:
    """Names of ready-made worlds that begin so, after those that stand there already."""
    from ttc_sim.optimizer.robust.ready import READY_WORLDS

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in READY_WORLDS if name.startswith(last)]


RobustOption = Annotated[
    str | None,
    typer.Option(
        _ROBUST,
        metavar="[WORLDS.yaml|NAME,NAME]",
        help="Plan for several worlds at once; alone, for all ready-made ones.",
        autocompletion=_names,
    ),
]
OverOption = Annotated[
    str | None, typer.Option("--over", metavar="worst|SHARE", help="Worlds that must hold: all, or a share of them.")
]


def share_of_worlds(over: str | None) -> str | float | None:
    """What ``--over`` says.

    Raises:
        InputError: neither ``worst`` nor a share.
    """
    from ttc_sim.scenario.robust import over_what

    if over is None:
        return None
    try:
        try:
            return over_what(float(over))
        except ValueError:
            return over_what(over)
    except ValueError as error:
        raise InputError("--over", "over", over, str(error)) from None


__all__ = ["OptimizeCommand", "OverOption", "RobustOption", "share_of_worlds"]
