"""Values that are said as multiples of what stands there: ``2x``, ``+10%``, ``-30%``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.scenario import GpuPool, Scenario, as_plain
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.model import Model, load_model

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TIMES = re.compile(rf"({_NUMBER})x")
_PERCENT = re.compile(rf"([-+]{_NUMBER})%")
_DIGITS = ".12g"  # that a multiple keeps, so that 0.1 x 3 is 0.3
_MTOK = "_usd_per_mtok"


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
        return float(f"{1 + float(found[1]) / 100:{_DIGITS}}")
    return None


def standing(content: Mapping[str, Any], path: str) -> Any:
    """What stands at a path of a plain scenario, ``None`` where nothing does; a name may hold dots."""
    place: Any = content
    parts = path.split(".")
    while parts:
        named = (k for k in range(len(parts), 0, -1) if isinstance(place, Mapping) and ".".join(parts[:k]) in place)
        taken = next(named, None)
        if taken is None:
            return None
        place, parts = place[".".join(parts[:taken])], parts[taken:]
    return place


class Standing:
    """What stands at the paths of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.content = as_plain(scenario)
        self._model: Model | None = None

    def absolute(self, path: str, value: Any, where: str) -> Any:
        """A value, or what a relative one comes to.

        Raises:
            InputError: there is no number at that path.
        """
        factor = factor_of(value)
        if factor is None:
            return value
        now = self.in_effect(path)
        if isinstance(now, bool) or not isinstance(now, (int, float)):
            shown = "nothing" if now is None else f"{now!r}"
            expected = f"a value that stands for itself: {shown} stands there, which is no number"
            raise InputError(where, path, value, expected)
        times = float(f"{now * factor:{_DIGITS}}")
        return int(times) if isinstance(now, int) and times.is_integer() else times

    def in_effect(self, path: str) -> Any:
        """What stands there or, where nothing does, what is taken instead: a looked-up price, a list price, a trace's own rate."""
        found = standing(self.content, path)
        if found is not None:
            return found
        deployment, _, key = path.removeprefix("deployments.").rpartition(".")
        name = deployment.removesuffix(".price")
        served = self.scenario.deployments.get(name)
        if isinstance(served, GpuPool) and key == "usd_per_replica_hour":
            return served.hourly_usd
        if served is not None and key.endswith(_MTOK):
            model = self._loaded()
            prices = model.prices[model.deployment_names.index(name)]
            usd = getattr(prices, key.removesuffix(_MTOK), None)
            # Of prices that long prompts change there is no one multiple.
            return None if prices is None or prices.long_prompts or usd is None else float(f"{1e6 * usd:{_DIGITS}}")
        if path == "workload.arrivals.rate_per_s":
            rate_per_s = draw(self._loaded(), 0).traffic.rate_per_s
            return rate_per_s if math.isfinite(rate_per_s) else None
        return None

    def _loaded(self) -> Model:
        if self._model is None:
            self._model = load_model(self.scenario)
        return self._model


__all__ = ["Standing", "factor_of"]
