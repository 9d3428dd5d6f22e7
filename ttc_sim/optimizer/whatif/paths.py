"""Paths into a scenario: what stands there, in effect, and what is a multiple of it."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.scenario import Api, GpuPool, Scenario, as_plain, changed
from ttc_sim.scenario.targets import percentile_of
from ttc_sim.serving.prices import price_of
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.model import Model

RELATIVE = "such as 2x, +10% or -30%"
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TIMES = re.compile(rf"({_NUMBER})x")
_PERCENT = re.compile(rf"([-+]{_NUMBER})%")
_MANY = 100  # of tokens or the like, one more or less of which is no matter
# Of what is added whole: a key that it cannot do without.
_NEW = {"arms": "deployment", "deployments": "kind", "workload.sources": "problem_set"}


def factor_of(value: object) -> float | None:
    """What a relative value multiplies by; ``None`` if it is none.

    >>> factor_of("2x"), factor_of("-30%"), factor_of("2")
    (2.0, 0.7, None)
    """
    if not isinstance(value, str):
        return None
    if found := _TIMES.fullmatch(value.strip()):
        return float(found[1])
    if found := _PERCENT.fullmatch(value.strip()):
        return float(f"{1 + float(found[1]) / 100:.12g}")
    return None


def paths_of(content: object, above: str = "") -> Iterator[tuple[str, object]]:
    """Every path below, and what stands there."""
    inner: Any = content.items() if isinstance(content, Mapping) else ()
    if isinstance(content, list) and content and all(isinstance(one, Mapping) for one in content):
        inner = enumerate(content)
    for key, value in inner:
        path = f"{above}{key}"
        yield path, value
        yield from paths_of(value, f"{path}.")


def standing(content: Mapping[str, Any], path: str) -> tuple[list[str | int], object]:
    """The keys that a path is made of, as far as they lead anywhere, and what stands where they lead; a name may hold dots.

    The keys that are left over stand last, joined by dots.
    """
    place: Any = content
    keys: list[str | int] = []
    parts = path.split(".")
    while parts:
        if isinstance(place, list) and parts[0].isdigit() and int(parts[0]) < len(place):
            keys.append(int(parts[0]))
            place, parts = place[int(parts[0])], parts[1:]
            continue
        taken = [k for k in range(len(parts), 0, -1) if isinstance(place, Mapping) and ".".join(parts[:k]) in place]
        if not taken:
            return [*keys, ".".join(parts)], _NOTHING
        name = ".".join(parts[: taken[0]])
        keys.append(name)
        place, parts = place[name], parts[taken[0] :]
    return keys, place


_NOTHING = object()


class Base:
    """What variations start from: a scenario as a plain mapping, and what stands where it says nothing."""

    def __init__(self, model: Model, scenario: Scenario) -> None:
        self.model, self.scenario = model, scenario
        self.content: dict[str, Any] = {key: item for key, item in as_plain(scenario).items() if key != "path"}

    def in_effect(self, path: str) -> object:
        """What stands at a path or, where nothing does, what is taken instead: a looked-up price, a list price, a measured rate."""
        keys, value = standing(self.content, path)
        if value is not _NOTHING and value is not None:
            return value
        found = self._looked_up(keys)
        return None if value is _NOTHING and found is None else found

    def _looked_up(self, keys: list[str | int]) -> object:
        if keys[:1] == ["deployments"] and len(keys) > 2:
            name, last = str(keys[1]), str(keys[-1])
            served = self.model.scenario.deployments[name]
            prices = self.model.prices[self.model.deployment_names.index(name)]
            if isinstance(served, Api) and served.price.factor != 1:  # what stands there is multiplied by it once more
                unscaled = served.price.model_copy(update={"factor": 1.0})
                prices = price_of(self.scenario, name, unscaled)
            kind = last.removesuffix("_usd_per_mtok")
            if keys[2] == "price" and prices is not None and kind != last and hasattr(prices, kind):
                return float(f"{1e6 * getattr(prices, kind):.12g}")
            if keys[2] == "price" and last in ("usd_per_call", "least_usd_per_call") and prices is not None:
                return (prices.call if last == "usd_per_call" else prices.least) or None
            if isinstance(served, GpuPool) and keys[2:] == ["usd_per_replica_hour"]:
                return served.own_hourly_usd
            if isinstance(served, GpuPool) and keys[2:] == ["kv_cache_tokens"]:
                return served.kv_cache_tokens
        if keys == ["workload", "arrivals", "rate_per_s"] and len(self.model.scenario.workload.processes) == 1:
            rate_per_s = draw(self.model, 0, requests=None).traffic.rate_per_s
            return rate_per_s if math.isfinite(rate_per_s) else None
        return None

    def times(self, path: str, value: object, where: str) -> object:
        """A relative value as what it comes to.

        Raises:
            InputError: there is no number at that path, or no one number.
        """
        factor, now = factor_of(value), self.in_effect(path)
        assert factor is not None
        if isinstance(now, bool) or not isinstance(now, (int, float)):
            self.check(path, where)
            shown = "nothing" if now is None else f"{now!r}"
            raise InputError(
                where, path, value, f"a value that stands for itself: {shown} stands there, which is no number"
            )
        self._check_tiers(path, value, where)
        return multiple(now, factor)

    def _check_tiers(self, path: str, value: object, where: str) -> None:
        """A price that depends on the hour, or on the length of prompts that are not all short, has no one multiple."""
        keys, _ = standing(self.content, path)
        if keys[:1] != ["deployments"] or keys[2:3] != ["price"] or keys[-1:] == ["factor"]:
            return
        prices = self.model.prices[self.model.deployment_names.index(str(keys[1]))]
        population = self.model.population
        if prices is not None and prices.schedule is not None:
            expected = f"US dollars: there are others at other times; deployments.{keys[1]}.price.factor multiplies all"
            raise InputError(where, path, value, expected)
        if prices is None or not prices.long_prompts:
            return
        start = prices.long_prompts[0].above
        if population is not None:
            longest = max(
                int((one.prompt_tokens + one.reasoning_tokens + one.visible_tokens).max(initial=0))
                for one in population.attempts.values()
            )
            if longest <= start:
                return
        expected = f"US dollars per million tokens: prompts of more than {start:,} tokens have another price there"
        raise InputError(where, path, value, expected)

    def check(self, path: str, where: str) -> None:
        """Refuse a path that leads nowhere.

        Raises:
            InputError: it does; the nearest key is named.
        """
        keys, value = standing(self.content, path)
        if value is not _NOTHING:
            return
        *before, rest = keys
        place: Any = self.content
        for key in before:
            place = place[key]
        first = str(rest).split(".")[0]
        if isinstance(place, list):
            raise InputError(
                where, path, first, f"a number from 0 to {len(place) - 1}" if place else "no key: it is empty"
            )
        if not isinstance(place, Mapping):
            if place is None:
                return  # what was left out is begun
            raise InputError(where, path, rest, f"no key below {'.'.join(map(str, before))}, where {place!r} stands")
        known = [str(key) for key in place]
        above = ".".join(map(str, before))
        if not known or (above == "targets" and percentile_of(str(rest)) is not None):
            return
        if above.startswith("targets.sources") and percentile_of(first) is not None:
            return
        raise InputError(where, path, first, nearest(first, known))

    def changed(self, changes: Mapping[str, tuple[object, str]]) -> Scenario:
        """The scenario with other values.

        Args:
            changes: by path, the value and where it is said.

        Raises:
            InputError: a path that leads nowhere, or the first thing wrong with the changed scenario.
        """
        wholes: dict[str, Any] = {}
        plain: dict[str, object] = {}
        for path, (value, where) in changes.items():
            keys, _ = standing(self.content, path)
            above = ".".join(map(str, keys[:-1]))
            if above in _NEW and isinstance(value, Mapping) and _NEW[above] in value:
                _, place = standing(self.content, above)
                assert isinstance(place, dict)
                wholes.setdefault(above, dict(place))[str(keys[-1])] = value
                continue
            self.check(path, where)
            at = next((k for k, key in enumerate(keys) if isinstance(key, int)), None)
            if at is None:
                plain[path] = value
                continue
            whole = ".".join(map(str, keys[:at]))
            if whole not in wholes:
                wholes[whole] = copy.deepcopy(standing(self.content, whole)[1])
            place = wholes[whole]
            for key in keys[at:-1]:
                place = place[key]
            place[keys[-1]] = value
        return changed(self.scenario, {**wholes, **plain})


def multiple(value: float, factor: float) -> float:
    """So many times a number; of a whole one the nearest whole one, where that is as good as the same.

    >>> multiple(2, 1.5), multiple(3, 1.5), multiple(4096, 0.7), multiple(15.0, 0.7)
    (3, 4.5, 2867, 10.5)
    """
    times = float(f"{value * factor:.12g}")
    near = isinstance(value, int) and (times.is_integer() or times >= _MANY)
    return round(times) if near else times


__all__ = ["RELATIVE", "Base", "factor_of", "multiple", "paths_of", "standing"]
