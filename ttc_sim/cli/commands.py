"""What all commands have in common: how loud they are, and an example at the end of their help."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from ttc_sim.cli.examples import EXAMPLES
from ttc_sim.cli.loudness import QuietOption, VerboseOption, begin

F = TypeVar("F", bound=Callable[..., Any])


@cache
def _common() -> tuple[Any, ...]:
    """Options of every command, as typer makes them of a function's arguments."""
    probe = typer.Typer(add_completion=False)

    @probe.command()
    def _(quiet: QuietOption = False, verbose: VerboseOption = False) -> None: ...

    return tuple(typer.main.get_command(probe).params)


class Command(TyperCommand):
    """A command that may be quiet or verbose, and whose help ends with an example."""

    def __init__(self, *args: Any, params: list[Any] | None = None, **options: Any) -> None:
        super().__init__(*args, params=[*(params or []), *_common()], **options)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As typer's, and the example."""
        super().format_help(ctx, formatter)
        _write_examples(ctx, formatter)


class Group(TyperGroup):
    """Commands with a name in common; the same of them."""

    def __init__(self, *args: Any, params: list[Any] | None = None, **options: Any) -> None:
        super().__init__(*args, params=[*(params or []), *_common()], **options)

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """As typer's; a command line begins with what none before it has said."""
        if parent is None:
            begin()
        return super().make_context(info_name, args, parent, **extra)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """As typer's, and the example."""
        super().format_help(ctx, formatter)
        _write_examples(ctx, formatter)


class Commands(typer.Typer):
    """Typer's, whose commands are all such."""

    def __init__(self, **options: Any) -> None:
        super().__init__(cls=Group, **options)

    def command(self, name: str | None = None, *, cls: Any = None, **options: Any) -> Callable[[F], F]:
        """As typer's."""
        return super().command(name, cls=cls or Command, **options)


def words_of(ctx: Any) -> str:
    """How a command is called, without the program's own name."""
    words: list[str] = []
    while ctx.parent is not None:
        words.insert(0, str(ctx.info_name))
        ctx = ctx.parent
    return " ".join(words)


def _write_examples(ctx: Any, formatter: Any) -> None:
    """Whole lines, however wide the terminal: they are there to be copied."""
    examples = EXAMPLES.get(words_of(ctx), ())
    if examples:
        formatter.write(" Example:\n" if len(examples) == 1 else " Examples:\n")
    for line in examples:
        formatter.write(f"   {line}\n")


__all__ = ["Command", "Commands", "Group", "words_of"]
