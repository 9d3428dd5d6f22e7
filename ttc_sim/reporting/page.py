"""What a report prints, as HTML."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from typing import Any

from rich.style import Style
from rich.table import Table
from rich.text import Text

from ttc_sim.reporting.paper import Paper

# Colours are the reader's own, light or dark; what is drawn here is grey between both.
_LINE = "1px solid rgba(128, 128, 128, 0.4)"
_RED = "#e0443e"


class Page(Paper):
    """Takes what a report prints, and keeps it as HTML: the same figures and words, whatever the report comes to say."""

    def __init__(self) -> None:
        super().__init__(io.StringIO())
        self.parts: list[str] = []

    def print(self, *objects: Any, **options: Any) -> None:
        """Keep tables as tables, and lines as lines."""
        for one in objects:
            self.parts.append(self._table(one) if isinstance(one, Table) else self._line(one, options.get("style")))

    def _line(self, said: object, style: str | None) -> str:
        return f'<div style="margin: 2px 0; max-width: 75em">{self._inline(said, style)}</div>'

    def _table(self, table: Table) -> str:
        aligned = [f"text-align: {'right' if column.justify == 'right' else 'left'}" for column in table.columns]
        # Figures stay in one line, with what stands between them.
        unbroken = [f"{one}; white-space: pre" if one.endswith("right") else one for one in aligned]
        head = self._row("th", [f"{one}; border-bottom: {_LINE}" for one in aligned], [c.header for c in table.columns])
        body = []
        for row, *cells in zip(table.rows, *(column.cells for column in table.columns), strict=True):
            bold = "; font-weight: bold" if "bold" in str(row.style) else ""
            body.append(self._row("td", [one + bold for one in unbroken], cells))
        title = "" if table.title is None else f"<b>{self._inline(table.title)}</b>"
        return (
            f'<div style="margin: 8px 0; overflow-x: auto">{title}'
            '<table style="border-collapse: collapse; font-size: inherit; margin: 0">'
            f"<thead>{head}</thead><tbody>{''.join(body)}</tbody></table></div>"
        )

    def _row(self, tag: str, styles: Sequence[str], cells: Sequence[object]) -> str:
        written = (
            f'<{tag} style="padding: 2px 12px 2px 0; {style}">{self._inline(cell)}</{tag}>'
            for style, cell in zip(styles, cells, strict=True)
        )
        return f'<tr style="background: none">{"".join(written)}</tr>'

    def _inline(self, said: object, style: str | None = None) -> str:
        """Text with its styles, all that the user named escaped."""
        text = said if isinstance(said, Text) else self.render_str(str(said), style=style or "")
        out = []
        for part in text.render(self, end=""):
            css = _css(part.style)
            inner = html.escape(part.text.strip("\n"))
            out.append(f'<span style="{css}">{inner}</span>' if css else inner)
        return "".join(out)


def _css(style: Style | None) -> str:
    if style is None:
        return ""
    rules = {
        "font-weight: bold": style.bold,
        "opacity: 0.7": style.dim,
        f"color: {_RED}": style.color is not None and style.color.name == "red",
    }
    return "; ".join(rule for rule, holds in rules.items() if holds)


__all__ = ["Page"]
