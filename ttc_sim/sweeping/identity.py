"""What tells one sweep from another: a result of one is no result of the other."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from ttc_sim.base.errors import InputError
from ttc_sim.measured.cards import CARD_FILES
from ttc_sim.measured.folders import search_folders
from ttc_sim.scenario import Scenario, as_plain
from ttc_sim.sweeping.varying import Varied

FORMAT = 1


def identity_of(
    scenario: Scenario, requests: int | None, varied: Varied, made_with: tuple[str, ...]
) -> dict[str, object]:
    """Of a sweep: its scenario with the content of all files that it or a point names, what is varied, and versions.

    It says nothing of how the work was shared out, which changes no figure.
    """
    content = {key: one for key, one in as_plain(scenario).items() if key != "path"}
    files = _digests([content, varied.said], scenario.folder)
    return {
        "format": FORMAT,
        "scenario": scenario.name,
        "scenario_sha256": _sha256(_json([content, files])),
        "requests": scenario.workload.requests if requests is None else requests,
        "seed": scenario.seed,
        "varied": json.loads(json.dumps(varied.said, default=_other)),
        "points": len(varied.points),
        "points_sha256": _sha256(_json(varied.points)),
        "made_with": list(made_with),
    }


def check_identity(found: object, wanted: Mapping[str, object], where: str | Path) -> None:
    """Refuse what another sweep wrote.

    Raises:
        InputError: in what it differs.
    """
    if not isinstance(found, Mapping) or found.get("format") != FORMAT:
        raise InputError(where, "file", "another file", "results of this sweep, or another --out")
    for key, what in (
        ("scenario", "scenario"),
        ("scenario_sha256", "content of the scenario, or of a file that it names"),
        ("seed", "seed"),
        ("requests", "requests"),
        ("varied", "paths and values"),
        ("points_sha256", "points"),
        ("made_with", "versions"),
    ):
        if found.get(key) != wanted[key]:
            expected = f"{_said(wanted[key])}: its results are of another sweep; another --out begins anew"
            raise InputError(where, what, _said(found.get(key)), expected)


def _said(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{path}: {_said(one)}" for path, one in value.items())
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    text = str(value)
    return f"sha256 {text[:12]}" if len(text) == hashlib.sha256().digest_size * 2 else text


def _digests(content: object, folder: Path) -> list[tuple[str, str]]:
    """Names and contents of files, and of those in profiles, problem sets and traffic, that any text in it names."""
    found: dict[tuple[str, str], str] = {}
    for word in sorted(set(_words(content))):
        name = word.rpartition(":")[0] if ".py:" in word else word
        for place in (folder, *search_folders(folder)):
            with suppress(OSError, ValueError):  # most words can be no name of a file at all
                at = place / name
                files = [at] if at.is_file() else []
                if any((at / card).is_file() for card in CARD_FILES):
                    files = sorted(one for one in at.iterdir() if one.is_file())
                for file in files:
                    found.setdefault((name, file.name), _of_file(file))
    return [(f"{name}/{file}", digest) for (name, file), digest in sorted(found.items())]


def _of_file(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _words(content: object) -> Iterator[str]:
    """Every text in it."""
    if isinstance(content, str):
        yield content
    inner = content.values() if isinstance(content, Mapping) else content
    for part in inner if not isinstance(content, str) and isinstance(inner, (list, tuple, type({}.values()))) else ():
        yield from _words(part)


def _json(content: object) -> str:
    return json.dumps(content, sort_keys=True, default=_other)


def _other(value: object) -> object:
    """An object of the user's own; one that shows itself alike may be another, so that its content counts."""
    try:
        return _sha256(pickle.dumps(value))
    except (pickle.PicklingError, AttributeError, TypeError):
        return repr(value)


def _sha256(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


__all__ = ["check_identity", "identity_of"]
