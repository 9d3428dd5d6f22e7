"""Scenarios given and changed in Python, checked like those that are read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from ttc_sim.base.arguments import location
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.errors import InputError, nearest
from ttc_sim.scenario.deployments import GpuPool, limits_of
from ttc_sim.scenario.document import Scenario
from ttc_sim.scenario.load import load_scenario, read_mapping
from ttc_sim.scenario.targets import percentile_of


def as_scenario(given: Scenario | str | Path, function: str, allow_code: AllowCode = False) -> Scenario:
    """The scenario itself, or that of a file or name; checked anew, since what is changed in Python was not checked by then.

    Args:
        function: that takes it, for errors.
        allow_code: consent beside the scenario's own, as for :func:`load_scenario`.

    Raises:
        InputError: no scenario, or the first thing wrong with it.
    """
    if isinstance(given, Scenario):
        return checked(given, allow_code)
    if not isinstance(given, (str, Path)):
        raise InputError(function, "scenario", given, "a scenario, its file, or the name of a shipped one")
    return load_scenario(given, allow_code=allow_code)


def checked(scenario: Scenario, allow_code: AllowCode = False) -> Scenario:
    """The same scenario, if all that it says may be said in a file too.

    ``model_copy(update=...)`` and ``model_construct`` take any value, such as a pool of 0 replicas.

    Raises:
        InputError: the first thing wrong with it.
    """
    raw = as_plain(scenario)
    path = raw.pop("path", "scenario")
    location("scenario", "path", path, "the file that it stands in")
    return read_mapping(raw, path, scenario.code.allowing(allow_code))


def with_changes(
    scenario: Scenario | str | Path, changes: Mapping[str, object], *, allow_code: AllowCode = False
) -> Scenario:
    """The scenario with other values, checked as if they stood in its file.

    Args:
        scenario: itself, its file, or the name of a shipped one; it is left as it was.
        changes: new values by the keys that lead to them, joined by dots. Limits of a batch that followed from a pool's GPU
            follow from the new one where ``gpu`` is changed.
        allow_code: as for :func:`load_scenario`, beside what the scenario was given.

    Raises:
        InputError: keys that lead nowhere, or the first thing wrong with the changed scenario.

    >>> larger = with_changes("qa-gateway", {"deployments.llama-70b-pool.replicas": 3, "seed": 7})
    >>> larger.deployments["llama-70b-pool"].replicas, larger.seed
    (3, 7)
    """
    before = as_scenario(scenario, "with_changes", allow_code)
    if not isinstance(changes, Mapping) or not all(isinstance(keys, str) for keys in changes):
        raise InputError("with_changes", "changes", changes, "new values by keys such as 'workload.requests'")
    return changed(before, changes)


def changed(before: Scenario, changes: Mapping[str, object]) -> Scenario:
    """The same of a scenario that is known to be in order."""
    raw = {key: item for key, item in as_plain(before).items() if key != "path"}
    for one, other in (("requests", "duration"), ("duration", "requests")):  # either says how long a run is
        if f"workload.{one}" in changes and f"workload.{other}" not in changes:
            raw["workload"].pop(other)
    for keys, value in changes.items():
        _put(raw, keys, as_plain(value), before.path)
        # As in the file, where they do not stand.
        pool, _, last = keys.removeprefix("deployments.").rpartition(".")
        was = before.deployments.get(pool)
        if last == "gpu" and isinstance(was, GpuPool) and was.gpu is not None:
            for limit, usual in limits_of(was.gpu).items():
                if getattr(was, limit) == usual and f"deployments.{pool}.{limit}" not in changes:
                    raw["deployments"][pool].pop(limit, None)
    return read_mapping(raw, before.path, before.code)


def _put(place: dict[str, Any], keys: str, value: object, where: str) -> None:
    """Set what the keys lead to; a name may hold dots itself, and what was left out is begun."""
    parts = keys.split(".")
    while True:
        if percentile_of(".".join(parts)) is not None:  # a key that nobody lists
            place[".".join(parts)] = value
            return
        named = (k for k in range(len(parts), 0, -1) if ".".join(parts[:k]) in place)
        taken = next(named, 1)
        name, parts = ".".join(parts[:taken]), parts[taken:]
        if not parts:
            place[name] = value
            return
        if place and name not in place:
            raise InputError(where, keys, name, nearest(name, place))
        if place.get(name) is None:
            place[name] = {}
        if not isinstance(place[name], dict):
            raise InputError(where, keys, place[name], f"keys below {name}, which has none")
        place = place[name]


def as_plain(value: object) -> Any:
    """Models as mappings of all that they hold, unlike ``model_dump`` also of what does not belong there; NumPy's numbers as
    Python's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, BaseModel):
        value = {**vars(value), **(value.model_extra or {})}
    if isinstance(value, Mapping):
        return {key: as_plain(item) for key, item in value.items()}
    return [as_plain(item) for item in value] if isinstance(value, list) else value


__all__ = ["as_plain", "as_scenario", "changed", "checked", "with_changes"]
