"""What a report is made of, whatever it is written as."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.figure import Figure
from rich.table import Table
from rich.text import Text

from ttc_sim.reporting.paper import Paper

State = Literal["good", "bad", "unsure", "plain"]


@dataclass(frozen=True)
class Drawn:
    """A picture, and what it shows for who cannot see it."""

    figure: Figure
    says: str


@dataclass(frozen=True)
class Code:
    """Text as it stands in a file or on a command line."""

    text: str
    language: str = ""


Block = str | Text | Table | Drawn | Code
"""A paragraph, a table, a picture or code. All text is literal: nothing in it is markup."""


@dataclass(frozen=True)
class Card:
    """One figure of the first screen.

    Attributes:
        label: what it is of; value: as it is read; between: its 95% interval, or what else stands beside it.
        asked: what a target asks for; empty without one; state: how it stands to that.
    """

    label: str
    value: str
    between: str = ""
    asked: str = ""
    state: State = "plain"


@dataclass(frozen=True)
class Section:
    """A part of the page below the first screen.

    Attributes:
        name: of its anchor; title: of the part; blocks: what stands in it; folded: whether it is closed until somebody opens it.
    """

    name: str
    title: str
    blocks: tuple[Block, ...]
    folded: bool = False


@dataclass(frozen=True)
class Report:
    """A page, before it is written.

    Attributes:
        title: what it is about; question: what was asked; answer: in a sentence or two; state: whether that is good news.
        cards: the figures that decide; first: what else belongs on the first screen; sections: all the rest.
    """

    title: str
    question: str
    answer: tuple[str, ...]
    state: State
    cards: tuple[Card, ...]
    first: tuple[Block, ...]
    sections: tuple[Section, ...]


class Sheet(Paper):
    """Takes what a report prints to a terminal, as blocks."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.blocks: list[Block] = []

    def print(self, *objects: Any, **options: Any) -> None:
        """Keep tables and lines; a style of a whole line becomes its text's."""
        for one in objects:
            if isinstance(one, Table):
                self.blocks.append(one)
                continue
            text = one if isinstance(one, Text) else self.render_str(str(one), style=options.get("style") or "")
            if text.plain.strip():
                self.blocks.append(text)


def lines(said: Sequence[str]) -> Iterator[Block]:
    """Each as a paragraph, but for empty ones."""
    return (line for line in said if line.strip())


__all__ = ["Block", "Card", "Code", "Drawn", "Report", "Section", "Sheet", "State", "lines"]
