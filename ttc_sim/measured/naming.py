"""Names that data carry, such as models', as names of folders: none leads out of its folder, and no two become one."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

_LONGEST = 60


def folder_names(names: Iterable[str], taken: Iterable[str] = (), otherwise: str = "model") -> dict[str, str]:
    """For each name, one of letters, digits, points, hyphens and underscores that begins with a letter or digit.

    Args:
        names: any texts; each gets the same name however often it stands there.
        taken: names that none may have; letters' case does not tell two apart, as some systems do not.
        otherwise: stands for a name that nothing is left of.

    >>> folder_names(["openai/GPT 4.1", "../../etc/x", "a/b", "a b", "?"])
    {'openai/GPT 4.1': 'openai-gpt-4.1', '../../etc/x': 'etc-x', 'a/b': 'a-b', 'a b': 'a-b-2', '?': 'model'}
    """
    used = {one.casefold() for one in taken}
    found: dict[str, str] = {}
    for name in names:
        if name in found:
            continue
        plain = _plain(name) or otherwise
        number, made = 1, plain
        while made.casefold() in used:
            number += 1
            made = f"{plain}-{number}"
        used.add(made.casefold())
        found[name] = made
    return found


def _plain(name: str) -> str:
    """Runs of other characters become one hyphen."""
    letters = (one if one.isalnum() or one in "._-" else " " for one in unicodedata.normalize("NFKC", name).lower())
    return "-".join("".join(letters).split())[:_LONGEST].strip("._-")
