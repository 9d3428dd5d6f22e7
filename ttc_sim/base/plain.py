"""Names as they are shown: whatever a user called something, it cannot steer a terminal or forge a line."""

from __future__ import annotations

import unicodedata

# Control characters, marks that turn the direction of writing or cannot be seen, ends of lines and paragraphs, half characters.
_HIDDEN = frozenset(("Cc", "Cf", "Zl", "Zp", "Cs"))
_JOINERS = "\u200c\u200d"  # Persian, Hindi and some emoji are not the same without them


def plain(text: str) -> str:
    r"""The text with everything that cannot be seen, or that a terminal obeys, written out.

    >>> print(plain("a \x1b[31mred\x1b[0m arm\r\nand \u202emore"))
    a \x1b[31mred\x1b[0m arm\r\nand \u202emore
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_written_out(c) if unicodedata.category(c) in _HIDDEN and c not in _JOINERS else c for c in text)


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
