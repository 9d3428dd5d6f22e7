"""Folders of measured numbers: where they are looked for, and how they are written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import yaml

from ttc_sim.base.arguments import location
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.shipped import shipped_folders
from ttc_sim.files.leftovers import put_back
from ttc_sim.files.opening import is_file, is_folder
from ttc_sim.files.whole_folders import folder_written_whole
from ttc_sim.files.writing import check_room, unwritable
from ttc_sim.measured.cards import CARD_FILES, Card, read_card


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
    """Names of all profiles found; of problem sets, traffic or sessions with their ``card_file``."""
    names = {
        card.parent.relative_to(place).as_posix() for place in search_folders(folder) for card in place.rglob(card_file)
    }
    return sorted(names)


def find_folder(name: str | Path, card_file: str, folder: str | Path | None = None) -> Path:
    """The folder of that name or path that holds such a card.

    What stands beside a scenario, in its ``folder`` or in ``profiles/`` there, comes before a folder of the same name where one
    happens to be.

    Raises:
        InputError: there is none; names the nearest.
    """
    kind = {
        "profile.yaml": "profile",
        "problem_set.yaml": "problem set",
        "traffic.yaml": "traffic profile",
        "sessions.yaml": "session profile",
        "agent.yaml": "agent profile",
    }[card_file]
    location(kind, "name", name, f"the name of a {kind}, or its folder")
    beside = [] if folder in (None, Path()) else [Path(folder) / "profiles" / name, Path(folder) / name]
    for place in [*beside, Path(name), *(place / name for place in search_folders(folder))]:
        put_back(place)
        if is_file(place / card_file):
            return place
    expected = nearest(str(name), list_profiles(folder, card_file=card_file))
    raise InputError(name, kind, str(name), f"a folder with {card_file}, or {expected}")


def save_folder(
    folder: str | Path, card_file: str, card: Card, tables: dict[str, pl.DataFrame], *, replace: bool
) -> None:
    """Write a card and its tables so that they are there whole or as before; what else stands in the folder stays.

    Raises:
        InputError: as :func:`check_folder_to_save`, or the folder cannot be written.
    """
    folder = Path(folder)
    check_folder_to_save(folder, card_file, replace=replace)
    with folder_written_whole(folder, [card_file, *(f"{name}.parquet" for name in tables)]) as beside:
        write_in_folder(beside, card_file, card, tables)


def write_in_folder(folder: Path, card_file: str, card: Card, tables: Mapping[str, pl.DataFrame]) -> None:
    """A card and tables, into a folder that is there.

    Raises:
        InputError: it cannot be written.
    """
    text = yaml.safe_dump(card.model_dump(exclude_none=True), sort_keys=False, width=110, allow_unicode=True)
    (folder / card_file).write_text(text, encoding="utf-8")
    for name, table in tables.items():
        try:
            table.write_parquet(folder / f"{name}.parquet", compression="zstd", compression_level=19, statistics=False)
        except pl.exceptions.PolarsError as error:
            raise unwritable(folder, error) from None


def check_folder_to_save(folder: Path, card_file: str, *, replace: bool) -> None:
    """Refuse a folder that cannot be written, or that holds something else than what shall be replaced.

    Raises:
        InputError: the reason.
    """
    place = Path(os.path.realpath(folder))
    above = next(parent for parent in place.parents if parent.exists())
    if not above.is_dir():
        raise InputError(folder, "folder", str(above), "a folder, to write it in")
    check_room(folder, above)
    if not place.exists():
        return
    if place.is_dir() and not replace:
        raise InputError(folder, "folder", str(folder), "a folder that does not exist yet, or --replace")
    if not place.is_dir() or (any(place.iterdir()) and not (place / card_file).is_file()):
        raise InputError(folder, "folder", str(folder), f"a folder with {card_file}, to replace what that describes")
    if (place / card_file).is_file():
        read_card(place / card_file, CARD_FILES[card_file])
    check_not_within(folder)


def check_not_within(folder: Path) -> None:
    """Refuse a folder to be replaced that one is in: the place that one is at would be gone.

    Raises:
        InputError: one is.
    """
    if Path.cwd().is_relative_to(os.path.realpath(folder)):
        raise InputError(folder, "folder", str(folder), "another folder than the one that you are in: it is replaced")
