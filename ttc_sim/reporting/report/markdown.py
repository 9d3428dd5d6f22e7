"""A report as Markdown, for a pull request or a wiki: what decides is open, the rest folded."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

from rich.table import Table
from rich.text import Text

from ttc_sim.base.plain import plain
from ttc_sim.reporting.report.parts import Block, Code, Drawn, Report, Section

_MARKS = {"good": "✓ ", "bad": "✗ ", "unsure": "? ", "plain": ""}
_SPECIAL = re.compile(r"([\\`*_\[\]|~$]|^[-+=](?=\s|$))")
_OPEN = ("targets", "compared")
"""Sections that are not folded."""


def as_markdown(report: Report) -> str:
    """Text in GitHub's Markdown; pictures are left out, and nothing that a user named is a link, a mention or a tag."""
    out = [f"## {_escaped(report.title)}"]
    if report.question:
        out.append(f"*{_escaped(report.question)}*")
    out.append(
        "\n".join(f"> {_MARKS[report.state] if k == 0 else ''}{_escaped(one)}" for k, one in enumerate(report.answer))
    )
    rows = [
        (card.label, card.value, card.between, f"{_MARKS[card.state]}{card.asked}" if card.asked else "")
        for card in report.cards
    ]
    out.append(_rows(("", "figure", "95% interval", "asked"), rows, "lrrl"))
    out += [_block(block) for block in report.first if not isinstance(block, Drawn)]
    out += [_section(section) for section in report.sections]
    return "\n\n".join(part for part in out if part) + "\n"


def _section(section: Section) -> str:
    inside = "\n\n".join(said for block in section.blocks if (said := _block(block)))
    if not inside:
        return ""
    if section.name in _OPEN:
        return f"### {_escaped(section.title)}\n\n{inside}"
    return f"<details><summary>{_escaped(section.title)}</summary>\n\n{inside}\n\n</details>"


def _block(block: Block) -> str:
    if isinstance(block, Table):
        named = "" if block.title is None else f"**{_escaped(str(block.title))}**\n\n"
        cells = zip(*(map(_words, column.cells) for column in block.columns), strict=True)
        justify = "".join("r" if column.justify == "right" else "l" for column in block.columns)
        return named + _rows([_words(column.header) for column in block.columns], list(cells), justify)
    if isinstance(block, Drawn):
        return ""
    if isinstance(block, Code):
        longest = max((len(run) for run in re.findall("`+", block.text)), default=0)
        fence = "`" * max(3, longest + 1)
        return f"{fence}{block.language}\n{block.text.rstrip()}\n{fence}"
    return _escaped(_words(block).strip())


def _words(said: object) -> str:
    return said.plain if isinstance(said, Text) else str(said)


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]], justify: str) -> str:
    ruler = ["---:" if one == "r" else ":---" for one in justify]
    return "\n".join(_row(cells) for cells in (list(map(_escaped, head)), ruler, *_escaped_rows(rows)))


def _escaped_rows(rows: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    return ([_escaped(" ".join(cell.split())) for cell in row] for row in rows)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Words that stay words: no markup, no tag, no mention of a person or an issue.

    >>> print(_escaped("a*b | <img> @all"))
    a\\*b \\| &lt;img&gt; &#64;all
    """
    safe = html.escape(plain(text), quote=False)
    return _SPECIAL.sub(r"\\\1", safe).replace("#", "&#35;").replace("@", "&#64;").replace("://", "&#58;//")


__all__ = ["as_markdown"]
