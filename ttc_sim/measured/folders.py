"""Folders of measured numbers: where they are looked for, and how they are written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import polars as pl
import yaml

from ttc_sim.base.arguments import location
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.files import is_file, is_folder
from ttc_sim.base.shipped import shipped_folders
from ttc_sim.measured.cards import Card


def search_folders(folder: str | Path | None = None) -> list[Path]:
    """Where profiles are looked for by name, nearest first."""
    places = []
    if folder is not None:
        at = location("profiles", "folder", folder, "a folder to look for profiles in")
        places = [at / "profiles", at]
    if os.environ.get("TTC_SIM_PROFILES"):
        places.append(Path(os.environ["TTC_SIM_PROFILES"]))
    return [place for place in [*places, Path("profiles"), *shipped_folders("profiles")] if is_folder(place)]


def list_profiles(folder: str | Path | None = None, *, card_file: str = "profile.yaml") -> list[str]:
    """Names of all profiles found; of problem sets or traffic with their ``card_file``."""
    names = {
        card.parent.relative_to(place).as_posix() for place in search_folders(folder) for card in place.rglob(card_file)
    }
    return sorted(names)


def find_folder(name: str | Path, card_file: str, folder: str | Path | None = None) -> Path:
    """The folder of that name or path that holds such a card.

    Raises:
        InputError: there is none; names the nearest.
    """
    kind = {"profile.yaml": "profile", "problem_set.yaml": "problem set", "traffic.yaml": "traffic profile"}[card_file]
    location(kind, "name", name, f"the name of a {kind}, or its folder")
    for place in [Path(name), *(place / name for place in search_folders(folder))]:
        if is_file(place / card_file):
            return place
    expected = nearest(str(name), list_profiles(folder, card_file=card_file))
    raise InputError(name, kind, str(name), f"a folder with {card_file}, or {expected}")


def save_folder(
    folder: str | Path, card_file: str, card: Card, tables: dict[str, pl.DataFrame], *, replace: bool
) -> None:
    """Write a card and its tables so that the folder is there whole or not at all.

    Raises:
        InputError: the folder exists and is not to be replaced, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not replace:
        raise InputError(folder, "folder", str(folder), "a folder that does not exist yet, or --replace")
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        beside.mkdir(parents=True)
        content = card.model_dump(exclude_none=True)
        text = yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True)
        (beside / card_file).write_text(text, encoding="utf-8")
        for name, table in tables.items():
            table.write_parquet(beside / f"{name}.parquet", compression="zstd", compression_level=19, statistics=False)
        if folder.exists():
            shutil.rmtree(folder)
        beside.rename(folder)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise InputError(folder, "folder", error.strerror or str(error), "a place that can be written to") from None
