"""The search space: what the optimizer may choose from."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator, model_validator

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_REPLICAS, MOST_TOKENS
from ttc_sim.scenario.base import InSchema, JsonSchema, Model, NonNegative, Share, errors_at
from ttc_sim.scenario.hardware import Budget, PoolSearch
from ttc_sim.scenario.sessions import Compact
from ttc_sim.scenario.tiers import Numbers, Tiers
from ttc_sim.strategies.choices import read_span

_CAPS = "a list such as [1024, 4096, null], or {from: 512, to: 16384, uncapped: true}"


def _caps(given: Any) -> Any:
    """Caps as a list of numbers, ``None`` and ranges such as ``512..16384``."""
    if isinstance(given, dict):
        ends: list[Any] = [given.get("from"), given.get("to")]
        uncapped = given.get("uncapped", False)
        if not set(given) <= {"from", "to", "uncapped"} or not all(type(end) is int for end in ends):
            raise ValueError(_CAPS)
        if not isinstance(uncapped, bool):
            raise errors_at({"uncapped": ("bool_type", uncapped, "true or false")})
        for key, end in zip(("from", "to"), ends, strict=True):
            _check_cap(key, end)
        if ends[0] >= ends[1]:
            raise errors_at({"to": ("value_error", ends[1], f"more than from ({ends[0]:,})")})
        return [f"{ends[0]}..{ends[1]}", *([None] if uncapped else [])]
    if not isinstance(given, (list, tuple)):
        raise ValueError(_CAPS)
    if not given:
        raise ValueError("at least 1 of them")
    for k, cap in enumerate(given):
        if isinstance(cap, str):
            try:
                span = read_span(cap, where="", field="")
            except InputError as error:
                raise errors_at({str(k): ("value_error", cap, error.expected)}) from None
            if span is not None:
                _check_cap(str(k), span.low)
                continue
        if cap is not None:
            _check_cap(str(k), cap)
    return list(given)


def _check_cap(key: str, cap: Any) -> None:
    if isinstance(cap, bool) or not isinstance(cap, int):
        text = "a whole number of output tokens, null, or a range such as 512..16384"
        raise errors_at({key: ("value_error" if isinstance(cap, str) else "int_type", cap, text)})
    if cap < 1:
        raise errors_at({key: ("greater_than_equal", cap, "greater than or equal to 1")})
    if cap > MOST_TOKENS:
        raise errors_at({key: ("less_than_equal", cap, f"less than or equal to {MOST_TOKENS}")})


_CAP_IN_SCHEMA: JsonSchema = {"type": "integer", "minimum": 1, "maximum": MOST_TOKENS}
_CAPS_IN_SCHEMA: JsonSchema = {
    "anyOf": [
        {
            "type": "array",
            "minItems": 1,
            "items": {"anyOf": [_CAP_IN_SCHEMA, {"type": "null"}, {"type": "string", "pattern": r"^\s*\d+\s*\.\."}]},
        },
        {
            "type": "object",
            "properties": {"from": _CAP_IN_SCHEMA, "to": _CAP_IN_SCHEMA, "uncapped": {"type": "boolean"}},
            "required": ["from", "to"],
            "additionalProperties": False,
        },
    ]
}
Caps = Annotated[list[Any], BeforeValidator(_caps), InSchema(lambda _: _CAPS_IN_SCHEMA)]
"""Caps to choose from: numbers, ``None``, and ranges as text."""

_Stage = str | Annotated[list[str], Field(min_length=1)]


class CascadeSearch(Model):
    """Cascades of two arms that the optimizer may send requests to.

    Args:
        stages: the first arm and the second, each a name or a list of names to choose from. An arm that is searched itself stands
            for every variant of it.
        arms: instead, names of arms from the cheapest to the dearest: each followed by each that is dearer.
        tpr, fpr, judge, judge_tokens: as of :class:`ttc_sim.strategies.Cascade`.
    """

    stages: Annotated[list[Any], Field(min_length=2, max_length=2)] | None = None
    arms: Annotated[list[str], Field(min_length=2)] | None = None
    tpr: Share
    fpr: Share
    judge: str | None = None
    judge_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] = 1

    @field_validator("stages")
    @classmethod
    def _names(cls, given: list[Any] | None) -> list[Any] | None:
        for k, stage in enumerate(given or ()):
            names = [stage] if isinstance(stage, str) else stage
            if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
                expected = "the name of an arm, or a list of such names to choose from"
                raise errors_at({str(k): ("value_error", stage, expected)})
        return given

    @model_validator(mode="after")
    def _one_way(self) -> CascadeSearch:
        if (self.stages is None) == (self.arms is None):
            raise ValueError("either stages, two of them, or arms, from the cheapest to the dearest")
        return self

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """First and second arm of each cascade, every pair once."""
        if self.arms is not None:
            return list(dict.fromkeys((a, b) for k, a in enumerate(self.arms) for b in self.arms[k + 1 :]))
        first, second = ([one] if isinstance(one, str) else one for one in self.stages or ())
        return list(dict.fromkeys((a, b) for a in first for b in second))


class Search(Model):
    """What the optimizer may choose from.

    Args:
        scores: predictions to route by, each tried; all that the problem sets carry if left out. Of traffic without problems there
            is only ``prompt_tokens``; ``[]`` tells no requests apart.
        bands: quantile bands of a score offered to the program, per source.
        max_bands: most bands, per source, in the plan's policy, so that a person can read it.
        caps: per arm, the caps to choose from (``null`` is uncapped); or a range, ``{from: 512, to: 16384, uncapped: true}`` or
            ``512..16384`` in the list, of which the best is found to 5%; the arm's own cap if not named.
        strategies: per arm, notations of the strategies to choose from; an argument may be a list of choices, and a whole number a
            range, ``MajorityVote(n=[3, 5], cap='512..8192')``. The arm's own if not named, and only if it is among them.
        efforts: per arm, profiles of its model at other efforts, to choose from beside its own.
        cascades: of two arms, beside the arms themselves.
        replicas: per GPU pool, the numbers of replicas to choose from; the deployment's own if not named.
        tiers: per API, the tiers to choose one from (:mod:`ttc_sim.scenario.tiers`); its own limits, prices and fee if not named.
        concurrency: per API, the most calls at once to choose from; per GPU pool, ``max_num_seqs``. Their own if not named.
        compact: how long contexts of sessions may be made shorter, once they have spent a budget (``SessionBudget`` with
            ``at_end='compact'``); no such policy is searched if left out, as nothing is known of what it does to answers.
        utilization: most that a GPU pool may be loaded in a proposed plan, as a share of its full-batch throughput; where what a
            pool cannot take goes elsewhere by live load, most that both together may be.
        pools: for ``ttc-sim capacity`` alone, per GPU pool: GPUs, parallelism, precisions and numbers of replicas to choose from.
        gpus: most GPUs of each kind that it may use, all pools together; without limit of those not named.
        usd_per_gpu_hour: price of a GPU of each kind there, instead of its list price.
    """

    scores: list[str] | None = None
    bands: Annotated[int, Field(ge=1, le=100)] = 16
    max_bands: Annotated[int, Field(ge=1, le=100)] = 4
    caps: dict[str, Caps] = Field(default_factory=dict)
    strategies: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(default_factory=dict)
    efforts: dict[str, Annotated[list[str], Field(min_length=1)]] = Field(default_factory=dict)
    cascades: list[CascadeSearch] = Field(default_factory=list)
    replicas: dict[str, Annotated[list[Annotated[int, Field(ge=1, le=MOST_REPLICAS)]], Field(min_length=1)]] = Field(
        default_factory=dict
    )
    tiers: dict[str, Tiers] = Field(default_factory=dict)
    concurrency: dict[str, Numbers] = Field(default_factory=dict)
    compact: Compact | None = None
    utilization: Annotated[float, Field(ge=0.01, le=1)] = 0.8
    pools: dict[str, PoolSearch] = Field(default_factory=dict)
    gpus: dict[str, Budget] = Field(default_factory=dict)
    usd_per_gpu_hour: dict[str, NonNegative] = Field(default_factory=dict)

    @property
    def varies_arms(self) -> bool:
        """Whether there are more arms to choose from than the scenario names."""
        return bool(self.caps or self.strategies or self.efforts or self.cascades)

    @property
    def of_named_arms(self) -> Search:
        """The same without what makes further arms."""
        return self.model_copy(update={"caps": {}, "strategies": {}, "efforts": {}, "cascades": []})
