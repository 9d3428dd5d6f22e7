"""``python scripts/make_gallery.py``: carry out the code of ``docs/gallery.md``, block by block, and save what it draws."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from ttc_sim.reporting.picture import as_png

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "gallery.md"
_BLOCK = re.compile(r"^```python\n(.*?)^```\n+!\[[^\]]+\]\((\S+)\)", re.DOTALL | re.MULTILINE)
_DPI = 88


def drawn(page: str) -> Iterator[tuple[str, Figure]]:
    """The picture's name below each block, and the figure that its last line is; blocks share what they define.

    Raises:
        ValueError: a block without a picture, or whose last line is no figure.
    """
    blocks = _BLOCK.findall(page)
    if len(blocks) != page.count("```python"):
        raise ValueError("gallery: a block of code without a picture below it")
    known: dict[str, Any] = {}
    for code, name in blocks:
        *lines, last = ast.parse(code).body
        exec(compile(ast.Module(lines, []), name, "exec"), known)  # the page's own code
        figure = eval(compile(ast.Expression(last.value), name, "eval"), known) if isinstance(last, ast.Expr) else None
        if not isinstance(figure, Figure):
            raise ValueError(f"gallery: the last line above {name} is no figure")
        yield name, figure


def main() -> int:
    """Exit status 0: every picture was made."""
    for name, figure in drawn(PAGE.read_text(encoding="utf-8")):
        path = PAGE.parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(as_png(figure, _DPI))
        print(path.relative_to(ROOT), f"{path.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
