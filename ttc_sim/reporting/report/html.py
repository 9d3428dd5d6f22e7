"""A report as one HTML file that asks for nothing else."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from rich.style import Style
from rich.table import Table
from rich.text import Text

from ttc_sim.base.plain import plain
from ttc_sim.reporting.paper import Paper
from ttc_sim.reporting.picture import as_bytes
from ttc_sim.reporting.report.parts import Block, Card, Code, Drawn, Report, Section

_OPEN_TO_PRINT = (
    "addEventListener('beforeprint', () => document.querySelectorAll('details').forEach(one => one.open = true))"
)


def as_html(report: Report) -> str:
    """The page: style, pictures and all, with every name in it escaped."""
    sections = "".join(_section(one) for one in report.sections)
    contents = "".join(f'<li><a href="#{one.name}">{_escaped(one.title)}</a></li>' for one in report.sections)
    answer = "".join(f"<p>{_escaped(line)}</p>" for line in report.answer)
    question = f'<p class="question">{_escaped(report.question)}</p>' if report.question else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="generator" content="ttc-sim">\n'
        f"<title>{_escaped(report.title)}</title>\n<style>\n{_style()}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#answer">Skip to the answer</a>\n<div class="page">\n'
        f'<nav aria-label="Contents"><ol><li><a href="#answer">In short</a></li>{contents}</ol></nav>\n'
        f'<main>\n<header id="answer"><h1>{_escaped(report.title)}</h1>{question}'
        f'<div class="answer {report.state}">{answer}</div>'
        f'<ul class="cards">{"".join(map(_card, report.cards))}</ul>{_blocks(report.first)}</header>\n'
        f"{sections}</main>\n</div>\n<script>{_OPEN_TO_PRINT}</script>\n</body>\n</html>\n"
    )


@cache
def _style() -> str:
    return Path(__file__).with_name("report.css").read_text(encoding="utf-8")


def _escaped(text: str) -> str:
    return html.escape(plain(text))


def _card(card: Card) -> str:
    asked = f'<div class="asked">{_escaped(card.asked)}</div>' if card.asked else ""
    between = f'<div class="between">{_escaped(card.between)}</div>' if card.between else ""
    return (
        f'<li class="{card.state}"><div class="label">{_escaped(card.label)}</div>'
        f'<div class="value">{_escaped(card.value)}</div>{between}{asked}</li>'
    )


def _section(section: Section) -> str:
    title, inside = _escaped(section.title), _blocks(section.blocks)
    if section.folded:
        return f'<section id="{section.name}"><details><summary>{title}</summary>{inside}</details></section>\n'
    return f'<section id="{section.name}"><h2>{title}</h2>{inside}</section>\n'


def _blocks(blocks: Sequence[Block]) -> str:
    return "".join(_block(one) for one in blocks)


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Drawn):
        return _picture(block)
    if isinstance(block, Code):
        return f'<pre tabindex="0">{_escaped_lines(block.text)}</pre>'
    if isinstance(block, Text) and str(block.style) == "dim":
        return f'<p class="dim">{_inline(block)}</p>'
    return f"<p>{_inline(block)}</p>"


def _escaped_lines(text: str) -> str:
    return "\n".join(_escaped(line) for line in text.splitlines())


def _table(table: Table) -> str:
    named = "" if table.title is None else f"<caption>{_inline(table.title)}</caption>"
    label = _escaped(str(table.title or table.columns[0].header or "Figures"))
    head = "".join(
        f'<th scope="col"{_number(column.justify == "right")}>{_inline(column.header)}</th>' for column in table.columns
    )
    rows = []
    for row, *cells in zip(table.rows, *(column.cells for column in table.columns), strict=True):
        strong = ' class="strong"' if "bold" in str(row.style) else ""
        first, *rest = cells
        figures = "".join(
            f"<td{_number(column.justify == 'right')}>{_inline(cell)}</td>"
            for column, cell in zip(table.columns[1:], rest, strict=True)
        )
        rows.append(f'<tr{strong}><th scope="row">{_inline(first)}</th>{figures}</tr>')
    below = "" if table.caption is None else f'<p class="dim">{_inline(table.caption)}</p>'
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table>{named}<thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{below}"
    )


def _number(right: bool) -> str:
    return ' class="number"' if right else ""


@cache
def _paper() -> Paper:
    return Paper(io.StringIO())


def _inline(said: object) -> str:
    """Text with its styles."""
    text = said if isinstance(said, Text) else _paper().render_str(str(said))
    return "".join(_marked(part.text, part.style) for part in text.render(_paper(), end=""))


def _marked(text: str, style: Style | None) -> str:
    inner = _escaped_lines(text.strip("\n"))
    if style is None:
        return inner
    if style.color is not None and style.color.name == "red":
        inner = f'<span class="red">{inner}</span>'
    return f"<strong>{inner}</strong>" if style.bold else inner


_HEAD = re.compile(rb"^.*?(?=<svg)", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_SIZE = re.compile(
    r'(<svg [^>]*?)width="[^"]*"( [^>]*?)height="[^"]*"|(<svg [^>]*?)height="[^"]*"( [^>]*?)width="[^"]*"'
)


_COLOURS = {
    "#000000": "currentColor",
    "#444444": "var(--ink)",
    "#999999": "var(--soft)",
    "#ffffff": "var(--paper)",
    "#dddddd": "var(--line)",
}


def _picture(drawn: Drawn) -> str:
    """In place, in the colours of the page: what is drawn in black is drawn in the colour of its text."""
    raw = _HEAD.sub(b"", as_bytes(drawn.figure, "svg", transparent=True)).decode("utf-8")
    raw = _SIZE.sub(lambda found: "".join(part or "" for part in found.groups()), _METADATA.sub("", raw), count=1)
    for drawn_in, shown_in in _COLOURS.items():
        raw = raw.replace(drawn_in, shown_in)
    raw = raw.replace("\n", " ")
    says = _escaped(drawn.says)
    raw = raw.replace("<svg ", f'<svg role="img" aria-label="{says}" ', 1)
    return (
        f'<figure><div class="scroll" role="region" aria-label="{says}" tabindex="0">{raw}</div>'
        f"<figcaption>{says}</figcaption></figure>"
    )


__all__ = ["as_html"]
