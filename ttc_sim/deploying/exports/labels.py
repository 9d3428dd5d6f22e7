"""Names of deployments as files, machines and clusters take them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

_LONGEST = 40
"""Characters; Kubernetes cuts the names of a Deployment's pods where its own is longer than 47."""
_FITS = re.compile(r"[a-z]([a-z0-9-]*[a-z0-9])?")
_TAKEN = re.compile(r"kustomization|.*-[0-9a-f]{8}")
"""A file's own name, and what only a name's digits may end in."""


def labels_of(names: Iterable[str]) -> Mapping[str, str]:
    """A label for each name, all different: small letters, digits and hyphens, a letter first (RFC 1035), at most 40 characters.

    One that is a label already stays as it is; any other has digits of its own name's SHA-256 at its end.

    >>> labels_of(["own-gpu", "Own GPU!"])["own-gpu"]
    'own-gpu'
    """
    return {name: _label(name) for name in names}


def _label(name: str) -> str:
    if len(name) <= _LONGEST and _FITS.fullmatch(name) and not _TAKEN.fullmatch(name):
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    begin = plain if plain[:1].isalpha() else f"pool-{plain}"
    return f"{begin[: _LONGEST - 9].rstrip('-')}-{digest}"


__all__ = ["labels_of"]
