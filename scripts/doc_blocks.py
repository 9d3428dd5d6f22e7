"""Blocks of a page, and whether what is printed is what the page says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_BLOCK = re.compile(
    r"^```(?P<kind>\w*) *(?P<said>[^\n]*)\n(?P<content>.*?)^```$"
    r"|^<!-- (?P<hidden>run|have|parts of)\s(?P<inside>.*?)-->$",
    re.DOTALL | re.MULTILINE,
)
_NAMED = re.compile(r"# (\S+\.\w+)\n")


@dataclass(frozen=True)
class Block:
    """One of a page: the kind and what else its fence says, what is in it, and where it stands."""

    kind: str
    said: str
    content: str
    whole: str
    begins: int
    ends: int


def blocks_of(text: str) -> Iterator[Block]:
    """In the page's order."""
    for found in _BLOCK.finditer(text):
        kind, content = found["kind"], found["content"]
        if found["hidden"]:
            kind, content = found["hidden"], found["inside"]
        yield Block(kind, (found["said"] or "").strip(), content, found[0], *found.span())


def file_name(block: Block) -> str | None:
    """Of the file that a block is; None for one that is none.

    >>> file_name(next(blocks_of("```yaml\\n# a.yaml\\nx: 1\\n```")))
    'a.yaml'
    """
    if re.fullmatch(r"[\w./-]+\.\w+", block.said):
        return block.said
    named = _NAMED.match(block.content)
    return named[1] if named else None


def matches(said: str, printed: str) -> bool:
    """Equal, but where ``...`` stands for anything: within a line, or for lines where it is all of one.

    >>> matches("a ... c\\n", "a b c\\n"), matches("a\\n...\\nd\\n", "a\\nb\\nc\\nd\\n"), matches("a\\n", "b\\n")
    (True, True, False)
    """
    parts = []
    for line in said.splitlines():
        if line.strip() == "...":
            parts.append(r"(?:[^\n]*\n)*?")
        else:
            parts.append("[^\\n]*".join(map(re.escape, line.rstrip().split("..."))) + r"\n")
    return re.fullmatch("".join(parts), printed) is not None
