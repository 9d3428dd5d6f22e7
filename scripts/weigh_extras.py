"""``python scripts/weigh_extras.py``: what an installation weighs, and what each extra adds, as it is installed here."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("gpus", "collect", "serve", "notebook", "sensitivity", "ray", "dask", "encoder", "train", "docs", "dev")


@cache
def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def needed(name: str, extras: frozenset[str] = frozenset()) -> frozenset[str]:
    """Packages that one needs with these extras, and theirs, as far as they are installed."""
    found: set[str] = set()
    waiting = [(canonicalize_name(name), extras)]
    seen = set()
    while waiting:
        one = waiting.pop()
        if one in seen or (package := _installed(one[0])) is None:
            continue
        seen.add(one)
        found.add(one[0])
        for line in package.requires or ():
            wanted = Requirement(line)
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in ("", *one[1])):
                waiting.append((canonicalize_name(wanted.name), frozenset(wanted.extras)))
    return frozenset(found)


@cache
def megabytes(name: str) -> float:
    """Of a package's files, without compiled Python."""
    package = _installed(name)
    files = [] if package is None else package.files or []
    return sum(one.size or 0 for one in files if "__pycache__" not in str(one)) / 1e6


def missing(extra: str) -> list[str]:
    """Of an extra's own packages, those that are not installed here, so that it cannot be weighed."""
    package = _installed("ttc-sim")
    wanted = [Requirement(line) for line in (package.requires if package is not None else None) or ()]
    return [
        one.name
        for one in wanted
        if one.marker is not None
        and not one.marker.evaluate({"extra": ""})
        and one.marker.evaluate({"extra": extra})
        and _installed(canonicalize_name(one.name)) is None
    ]


def main() -> int:
    """Exit status: 0."""
    base = needed("ttc-sim")
    print(f"| ttc-sim | {sum(map(megabytes, base)):,.0f} MB | {len(base)} |")
    for extra in EXTRAS:
        more = needed("ttc-sim", frozenset({extra})) - base
        lacking = missing(extra)
        said = f"not weighed: {', '.join(lacking)} not installed" if lacking else f"{sum(map(megabytes, more)):,.0f} MB"
        print(f"| `ttc-sim[{extra}]` | {said} | {len(more)} |")
    for name in sorted(base, key=megabytes, reverse=True)[:6]:
        print(f"{name} {megabytes(name):.0f}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
