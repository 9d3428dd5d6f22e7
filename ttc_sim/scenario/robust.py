"""Worlds that a plan must hold in, all at once: what if traffic, lengths, prices or the like are not what is believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ttc_sim.scenario.base import InSchema, Model, NonNegative, errors_at

WORST = "worst"
AS_IT_IS = "base"
"""Name of the world that is the scenario as it stands: always one of them."""
LEFT_ASIDE = "targets.robust was left aside: planned for the scenario as it is alone; `ttc-sim optimize` plans for its worlds too"
_OVER = "worst, or the share of the worlds that the plan must hold in, above 0 and at most 1, such as 0.9"


def over_what(given: object) -> str | float:
    """``worst``, or a share.

    Raises:
        ValueError: neither.
    """
    if given == WORST:
        return WORST
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= 1:
        raise ValueError(_OVER)
    return float(given)


class World(Model):
    """One world: the scenario with other values.

    Args:
        name: that tables have. Without ``set`` and ``file`` it is that of a ready-made world (``busy``, ``long``, ``dear``,
            ``slow``, ``misrouted``, ``misjudged``), or ``base``, the scenario as it is, to give that a weight.
        set: new values by the keys that lead to them, joined by dots, as ``ttc-sim whatif --set`` takes them, relative ones
            (``2x``, ``-30%``) and ready-made ones (``ready.traffic``) among them.
        file: the same from a file, as ``ttc-sim whatif --vary`` takes it; from the scenario's folder.
        weight: what the world counts for in a share of the worlds; one of 0 is shown, and need not hold.
    """

    name: Annotated[str, Field(min_length=1)]
    set: dict[str, Any] = Field(default_factory=dict)
    file: str | None = None
    weight: NonNegative = 1.0

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> World:
        if self.set and self.file is not None:
            raise errors_at({"file": ("value_error", self.file, "no file beside 'set', or no 'set' beside it")})
        if self.name == AS_IT_IS and (self.set or self.file is not None):
            expected = f"another name: {AS_IT_IS!r} is the scenario as it is, which is always one of the worlds"
            raise errors_at({"name": ("value_error", self.name, expected)})
        return self


def _as_world(given: Any) -> Any:
    """A name alone is that of a ready-made world."""
    return {"name": given} if isinstance(given, str) else given


_OR_NAME = InSchema(lambda world: {"anyOf": [{"type": "string"}, world]})


class Robust(Model):
    """Worlds that a plan must hold in at once; the scenario as it is is always one more of them.

    Args:
        worlds: a name alone is that of a ready-made one.
        over: ``worst``: every target must hold in every world, and the objective is that of the world where it is worst. A share,
            such as 0.9: in so much of the worlds, by weight, every target must hold and the objective be no worse than so
            much, which is made best.
    """

    worlds: Annotated[list[Annotated[World, BeforeValidator(_as_world), _OR_NAME]], Field(min_length=1)]
    over: Annotated[Literal["worst"] | float, BeforeValidator(over_what)] = "worst"

    @field_validator("worlds", mode="before")
    @classmethod
    def _a_list(cls, given: Any) -> Any:
        """By name, a mapping of paths to values, as in Python: a list is what a file holds."""
        if not isinstance(given, Mapping):
            return given
        return [{"name": str(name), **_changes(paths)} for name, paths in given.items()]

    @model_validator(mode="after")
    def _each_once(self) -> Robust:
        names = [one.name for one in self.worlds]
        for k, name in enumerate(names):
            if name in names[:k]:
                raise errors_at({f"worlds.{k}.name": ("value_error", name, "a name of its own for each world")})
        weights = [one.weight for one in self.worlds]
        if sum(weights) == 0 and AS_IT_IS in names:
            raise errors_at({"worlds": ("value_error", weights, "a weight above 0 for one world at least")})
        return self


def _changes(paths: Any) -> dict[str, Any]:
    """Of a world said as a mapping of paths to values: the values, and what else is said of it."""
    if not isinstance(paths, Mapping):
        return {"set": paths}
    own = {key: paths[key] for key in ("weight", "file") if key in paths}
    return {"set": {key: value for key, value in paths.items() if key not in own}, **own}


__all__ = ["AS_IT_IS", "LEFT_ASIDE", "WORST", "Robust", "World", "over_what"]
