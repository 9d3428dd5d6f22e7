"""What reports are printed on: strings stand there as they are, so that no name is ever markup, a link or a terminal's command."""

from __future__ import annotations

from typing import IO, Any

from rich.console import Console
from rich.text import Text

from ttc_sim.base.errors import InputError
from ttc_sim.base.plain import plain


class Paper(Console):
    """A console that takes every string literally, in lines, cells, headings and titles.

    What shall look different is printed with ``style``, or is a :func:`styled` text.
    """

    unbroken = False
    """Whether lines of words are left as long as they are, for a pipe."""

    def __init__(self, file: IO[str] | None = None, **options: Any) -> None:
        super().__init__(file=file, emoji=False, highlight=False, markup=False, **options)

    @classmethod
    def of(cls, console: Console) -> Paper:
        """The same console, that takes strings literally."""
        if isinstance(console, Paper):
            return console
        paper = cls.__new__(cls)
        vars(paper).update(vars(console))
        return paper

    def render_str(self, text: str, **options: Any) -> Text:
        """The text itself."""
        literally = {"markup": False, "emoji": False, "highlight": False, "highlighter": None}
        return super().render_str(plain(text), **{**options, **literally})

    def say(self, line: str | Text = "", style: str | None = None) -> None:
        """A line of words."""
        self.print(line, style=style, soft_wrap=self.unbroken)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's.

        Raises:
            InputError: what takes the output, such as a full disk, takes no more.
        """
        try:
            super().print(*objects, **options)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise unprinted(error) from None

    def on_broken_pipe(self) -> None:
        """Nobody reads on. Who called knows what that means."""
        raise  # what is being handled


def styled(*parts: str | tuple[str, str]) -> Text:
    """A line of parts, each a string or a string and its style."""
    return Text.assemble(*(plain(part) if isinstance(part, str) else (plain(part[0]), part[1]) for part in parts))


def unprinted(error: OSError) -> InputError:
    """Why standard output takes no more."""
    return InputError("standard output", "file", error.strerror or str(error), "a place that can be written to")


def paper_for_tables(width: int = 150) -> Paper:
    """Wide enough for the tables when output goes to a file or a pipe."""
    paper = Paper()
    if not paper.is_terminal:
        paper = Paper(width=width)
        paper.unbroken = True
    return paper


__all__ = ["Paper", "paper_for_tables", "styled", "unprinted"]
