"""How worlds are said: by name, in a file, in a scenario, in Python."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ttc_sim.base.errors import InputError, from_validation, nearest
from ttc_sim.files.documents import lines_of_keys, read_yaml
from ttc_sim.files.opening import is_file, read_text
from ttc_sim.optimizer.robust.ready import READY_WORLDS, changes_of
from ttc_sim.optimizer.whatif.paths import Base
from ttc_sim.optimizer.whatif.saying import READY, Variation, in_file
from ttc_sim.scenario.robust import AS_IT_IS, WORST, Robust, World

DEFAULT = "default"
"""What stands for the ready-made worlds, all that have something to change."""
_IN_SCENARIO = "targets.robust.worlds"


@dataclass(frozen=True)
class Said:
    """Worlds as they were asked for.

    Attributes:
        robust: what was said; ``None`` for the ready-made worlds.
        over: said beside it, instead of its own.
        where: place of the worlds, for errors; lines: of their keys there, by ``NUMBER.set.PATH``.
    """

    robust: Robust | None
    where: str
    lines: Mapping[str, int]
    over: str | float | None = None

    @property
    def judged_over(self) -> str | float:
        """``"worst"``, or a share of the worlds."""
        if self.over is not None:
            return self.over
        return WORST if self.robust is None else self.robust.over


@dataclass(frozen=True)
class AskedWorld:
    """One world as it was asked for.

    Attributes:
        variation: what it changes; ``None`` of the scenario as it is.
        why: of a ready-made one.
    """

    name: str
    weight: float
    variation: Variation | None
    why: str = ""


def read_worlds(given: object, scenario_path: str) -> Said:
    """What was given beside a scenario: ``True``, names, a file, or worlds themselves.

    Raises:
        InputError: none of these, or the first thing wrong with them.
    """
    if isinstance(given, Robust):
        return Said(given, "robust", {})
    if given is True or given == DEFAULT:
        return Said(None, "robust", {})
    if isinstance(given, str) and not _like_a_file(given):
        names = [name.strip() for name in given.split(",")]
        return Said(_read({"worlds": names}, "--robust"), "--robust", {})
    if isinstance(given, str | Path):
        path = Path(given)
        raw = read_yaml(path, expected="a file of worlds, or names of ready-made ones joined by commas")
        said = raw if isinstance(raw, dict) and "worlds" in raw else {"worlds": raw}
        if said is not raw and not isinstance(raw, dict | list):
            raise InputError(
                path, "worlds", type(raw).__name__, "a list of worlds, or a mapping with 'worlds' and 'over'"
            )
        robust = _read(said, path)
        return Said(
            _from_folder_of(scenario_path, path, robust),
            str(path),
            _lines(path, "worlds." if said is raw else "", robust),
        )
    if isinstance(given, Mapping):
        return Said(_read(given if "worlds" in given else {"worlds": given}, "robust"), "robust", {})
    if isinstance(given, list | tuple):
        return Said(_read({"worlds": list(given)}, "robust"), "robust", {})
    expected = "True, names of ready-made worlds, a file, a list of worlds, or a mapping of names to paths and values"
    raise InputError("optimize", "robust", given, expected)


def in_scenario(robust: Robust, path: str) -> Said:
    """Those that stand in a scenario's file."""
    lines = _lines(Path(path), f"{_IN_SCENARIO}.", robust) if is_file(path) else {}
    return Said(robust, path, lines)


def _like_a_file(given: str) -> bool:
    return given.endswith((".yaml", ".yml", ".json")) or os.sep in given or is_file(given)


def _read(raw: Mapping[str, Any], where: str | Path) -> Robust:
    try:
        return Robust.model_validate(dict(raw))
    except ValidationError as error:
        raise from_validation(where, error, "worlds") from None


def _from_folder_of(scenario_path: str, path: Path, robust: Robust) -> Robust:
    """Files that worlds name, from where the scenario stands: they are said from where the file of worlds does."""
    home = Path(scenario_path).resolve().parent

    def moved(world: World) -> World:
        if world.file is None:
            return world
        return world.model_copy(update={"file": os.path.relpath(path.resolve().parent / world.file, home)})

    return robust.model_copy(update={"worlds": [moved(one) for one in robust.worlds]})


def _lines(path: Path, above: str, robust: Robust) -> dict[str, int]:
    """The line of each path of each world, by ``NUMBER.set.PATH``; of worlds by name in a file, by that."""
    try:
        found = lines_of_keys(read_text(path, "file", "a file"), numbered=True)
    except InputError:  # of a scenario that was made otherwise
        return {}
    lines: dict[str, int] = {}
    for k, world in enumerate(robust.worlds):
        for key in world.set:
            for at in (f"{above}{k}.set.{key}", f"{above}{world.name}.{key}"):
                if at in found:
                    lines.setdefault(f"{k}.set.{key}", found[at])
    return lines


def worlds_asked_for(said: Said, base: Base) -> tuple[list[AskedWorld], list[str]]:
    """Every world, the scenario as it is first; and what a reader must know of those that were left out.

    Raises:
        InputError: an unknown name, or a world with nothing to change.
    """
    if said.robust is None:
        return _ready_made(base)
    found, weight = [], 1.0
    for k, world in enumerate(said.robust.worlds):
        if world.name == AS_IT_IS:
            weight = world.weight
            continue
        where = f"{said.where}: world {world.name}"
        if world.file is not None:
            changes = dict(in_file(f"{world.name}={base.scenario.folder / world.file}", base.content).changes)
            why = ""
        elif world.set:
            changes, why = {}, ""
            for path, value in world.set.items():
                line = said.lines.get(f"{k}.set.{path}")
                at = where if line is None else f"{said.where}: line {line}"
                changes[path] = (value, at)
        else:
            if world.name not in READY_WORLDS:
                expected = f"{nearest(world.name, READY_WORLDS)}; or what it changes, below 'set'"
                raise InputError(said.where, "world", world.name, expected)
            changes = {path: (value, where) for path, value in changes_of(world.name, base, said.where).items()}
            why = READY_WORLDS[world.name].why
        found.append(AskedWorld(world.name, world.weight, Variation(world.name, changes), why))
    return [AskedWorld(AS_IT_IS, weight, None), *found], []


def _ready_made(base: Base) -> tuple[list[AskedWorld], list[str]]:
    found, left_out = [AskedWorld(AS_IT_IS, 1.0, None)], []
    for name, world in READY_WORLDS.items():
        where = f"robust: world {name}"
        changes = {path: (value, where) for path, value in world.changes(base).items()}
        if changes:
            found.append(AskedWorld(name, 1.0, Variation(name, changes), world.why))
        else:
            left_out.append(f"world {name} was left out: there is nothing here that it could change")
    return found, left_out


__all__ = [
    "AS_IT_IS",
    "DEFAULT",
    "READY",
    "WORST",
    "AskedWorld",
    "Said",
    "in_scenario",
    "read_worlds",
    "worlds_asked_for",
]
