"""Every arm that a search space stands for: strategies, caps and efforts of the scenario's arms, and cascades of two of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.scenario.document import Scenario
from ttc_sim.scenario.search import CascadeSearch
from ttc_sim.strategies import Cascade, Strategy, parse_strategy
from ttc_sim.strategies.choices import Choices, Span, read_choices, read_span

MOST_ARMS = 200
"""That a search space may stand for."""
THEN = " then "
"""Between the names of a cascade's stages."""
_MARKS = re.compile(r"[(\[=,:;'\"]+\s*")  # of a notation, that a name does without
_CAP = re.compile(r"@(?:\d+|uncapped)(?= then | #\d+$|$)")
_STRATEGY = re.compile(
    r"\[(?:effort [^\s\[\]]+)?(?: ?[A-Z]\w*(?: [^\[\]]*)?| ?[^\s\[\]]+\.py \w+)?\](?=@(?:\d+|uncapped)| then | #\d+$|$)"
)


def base_arm(name: str) -> str:
    """Name of the scenario's arm that an arm of the search space was made from; of a cascade, of both.

    >>> base_arm("reasoner@4096"), base_arm("reasoner[MajorityVote n 5]@1024"), base_arm("small@512 then reasoner")
    ('reasoner', 'reasoner', 'small then reasoner')
    """
    return _STRATEGY.sub("", without_cap(name))


def without_cap(name: str) -> str:
    """Name of an arm of the search space without what says its caps.

    >>> without_cap("reasoner[MajorityVote n 5]@1024"), without_cap("small@512 then reasoner@1024")
    ('reasoner[MajorityVote n 5]', 'small then reasoner')
    """
    return _CAP.sub("", name)


@dataclass(frozen=True)
class Variant:
    """One arm of the search space.

    Attributes:
        name: its own; raw: what a scenario says of it; stages: the arms that it sends requests on to, where they are searched too.
    """

    name: str
    raw: dict[str, Any] = field(compare=False)
    stages: tuple[Variant, ...] = ()


class Family(Protocol):
    """Arms that differ in numbers from ranges alone; a single arm without ranges."""

    @property
    def spans(self) -> tuple[Span, ...]:
        """The ranges."""
        ...

    @property
    def size(self) -> int:
        """Arms with the ranges' rungs for numbers."""
        ...

    def variant(self, numbers: Sequence[int]) -> Variant | None:
        """The arm with a number from each range; ``None`` where they do not go together."""
        ...


_OWN = object()


@dataclass(frozen=True)
class ArmFamily:
    """Variants of one arm of the scenario.

    Attributes:
        arm: its name; own: its strategy; named: whether other arms name it, so that its name stays its own strategy's.
        profile: its own, or one at another effort, that has to be named.
        choices: the strategies; ``None`` for its own; cap: that they are given, a range, or their own.
    """

    scenario: Scenario
    arm: str
    own: Strategy
    named: bool
    profile: str | None = None
    choices: Choices | None = None
    cap: object = _OWN

    @property
    def spans(self) -> tuple[Span, ...]:
        """Of the strategies, then of the cap."""
        return (
            *(self.choices.spans if self.choices is not None else ()),
            *([self.cap] if isinstance(self.cap, Span) else []),
        )

    @property
    def size(self) -> int:
        """As said."""
        return math.prod(len(span.rungs) for span in self.spans)

    def variant(self, numbers: Sequence[int]) -> Variant | None:
        """As said."""
        if self.profile is None and self.choices is None and self.cap is _OWN:
            return Variant(self.arm, self.scenario.arms[self.arm].model_dump(mode="python"))
        strategy = self._strategy(numbers)
        if strategy is None:
            return None
        raw = self.scenario.arms[self.arm].model_dump(mode="python")
        raw |= {"strategy": repr(strategy)} | ({} if self.profile is None else {"profile": self.profile})
        return Variant(self._name(strategy), raw)

    def _strategy(self, numbers: Sequence[int]) -> Strategy | None:
        made = self.own
        try:
            if self.choices is not None:
                place, code = self.scenario.folder, self.scenario.code
                text = self.choices.notation(numbers[: len(self.choices.spans)])
                made = parse_strategy(text, where=self.scenario.path, folder=place, allow_code=code)
            if self.cap is not _OWN:
                made = made.with_cap(numbers[-1] if isinstance(self.cap, Span) else self.cap)  # type: ignore[arg-type]
        except InputError:
            return None
        return made

    def _name(self, strategy: Strategy) -> str:
        cap = strategy.attempt_cap
        like_own = strategy.takes_cap and self.own.takes_cap
        like_own = like_own and repr(strategy.with_cap(None)) == repr(self.own.with_cap(None))
        if self.profile is None and (like_own or repr(strategy) == repr(self.own)):
            # The name alone is the arm as others know it.
            bare = repr(strategy) == repr(self.own) if self.named or not like_own else cap is None
            return self.arm if bare else f"{self.arm}@{'uncapped' if cap is None else cap}"
        said = [] if self.profile is None else [f"effort {self.profile.rpartition('/')[2]}"]
        if not like_own and repr(strategy) != repr(self.own):
            said.append(_as_words(strategy))
        return f"{self.arm}[{' '.join(said)}]" + ("" if cap is None else f"@{cap}")


@dataclass(frozen=True)
class CascadeFamily:
    """Cascades from the arms of one family to those of another."""

    scenario: Scenario
    asked: CascadeSearch
    first: ArmFamily
    second: ArmFamily
    suffix: str = ""

    @property
    def spans(self) -> tuple[Span, ...]:
        """Of the first stage, then of the second."""
        return (*self.first.spans, *self.second.spans)

    @property
    def size(self) -> int:
        """As said."""
        return self.first.size * self.second.size

    def variant(self, numbers: Sequence[int]) -> Variant | None:
        """As said."""
        own = len(self.first.spans)
        one, other = self.first.variant(numbers[:own]), self.second.variant(numbers[own:])
        if one is None or other is None:
            return None
        said = self.asked
        made = Cascade([one.name, other.name], said.tpr, said.fpr, said.judge, said.judge_tokens)  # type: ignore[arg-type]
        kept = [raw["sources"] for raw in (one.raw, other.raw) if raw["sources"] is not None]
        common = [name for name in kept[0] if all(name in sources for sources in kept)] if kept else None
        raw = {**one.raw, "strategy": repr(made), "sources": common}
        return Variant(f"{one.name}{THEN}{other.name}{self.suffix}", raw, (one, other))


def _as_words(strategy: Strategy) -> str:
    """A strategy's notation without its cap, of letters that names may be made of."""
    text = repr(strategy.with_cap(None) if strategy.takes_cap else strategy)
    return " ".join(_MARKS.sub(" ", text).replace(")", "").replace("]", "").split())


def families_of(scenario: Scenario) -> dict[str, list[ArmFamily]]:
    """By arm of the scenario, in its order, what the search space makes of it.

    Raises:
        InputError: what the search space says of arms cannot be.
    """
    path, search = scenario.path, scenario.search
    for key in ("caps", "strategies", "efforts"):
        for name in getattr(search, key):
            if name not in scenario.arms:
                raise InputError(path, f"search.{key}", name, nearest(name, scenario.arms))
    if search.efforts and not scenario.workload.has_problems:
        expected = "workload.sources, which say what problems arrive: a profile says how a model fares on them"
        raise InputError(path, "search.efforts", list(search.efforts), expected)
    named, searched = named_arms(scenario), {name: list(_searched(scenario, name)) for name in search.strategies}
    return {
        name: list(_families(scenario, name, scenario.parsed_strategy(name), name in named, searched.get(name)))
        for name in scenario.arms
    }


def named_arms(scenario: Scenario) -> set[str]:
    """Arms that other arms name as stages, also in what is searched, or fall back on, and that the budget names."""
    made = [scenario.parsed_strategy(name) for name in scenario.arms]
    made += [one.strategy for name in scenario.search.strategies for one in _searched(scenario, name)]
    return {other for strategy in made for other in strategy.other_arms} | {
        *(other for arm in scenario.arms.values() for other in arm.fallbacks),
        *(scenario.budget.arms if scenario.budget is not None else ()),
    }


@dataclass(frozen=True)
class _Searched:
    """Strategies that differ in numbers from ranges alone: the key that they stand under, and the first that can be."""

    where: str
    choices: Choices
    strategy: Strategy


def _searched(scenario: Scenario, name: str) -> Iterator[_Searched]:
    """What ``search.strategies`` says of an arm.

    Raises:
        InputError: it cannot be read, or names a deployment or an arm that is not there or cannot be used.
    """
    path, place, code = scenario.path, scenario.folder, scenario.code
    for k, text in enumerate(scenario.search.strategies[name]):
        where = f"search.strategies.{name}.{k}"
        for one in read_choices(text, where=path, field=where, most=MOST_ARMS, folder=place, allow_code=code):
            base = ArmFamily(scenario, name, scenario.parsed_strategy(name), named=False, choices=one)
            strategy = _first(base)
            for verifier in strategy.verifiers:
                if verifier not in scenario.deployments:
                    raise InputError(path, where, verifier, nearest(verifier, scenario.deployments))
            for other in strategy.other_arms:
                _check_stage(scenario, where, other)
            yield _Searched(where, one, strategy)


def _check_stage(scenario: Scenario, field: str, name: str) -> None:
    """Refuse what cannot be a stage of a cascade that is searched."""
    path = scenario.path
    if name not in scenario.arms:
        raise InputError(path, field, name, nearest(name, scenario.arms))
    strategy = scenario.parsed_strategy(name)
    if isinstance(strategy, Cascade) or strategy.other_arms:
        raise InputError(path, field, f"{name}: {strategy!r}", "arms that are no cascades themselves")
    if scenario.arms[name].sources == []:
        raise InputError(path, field, name, "an arm that requests may be sent to: its sources are []")


def cascades_of(scenario: Scenario, families: dict[str, list[ArmFamily]]) -> list[CascadeFamily]:
    """Cascades of two arms that the search space asks for.

    Raises:
        InputError: an arm or a judge that is not there, or an arm that cannot be a stage.
    """
    path, found = scenario.path, list[CascadeFamily]()
    made: dict[tuple[str, str], list[object]] = {}
    for k, asked in enumerate(scenario.search.cascades):
        where = f"search.cascades.{k}"
        key = "stages" if asked.arms is None else "arms"
        for name in dict.fromkeys(name for pair in asked.pairs for name in pair):
            _check_stage(scenario, f"{where}.{key}", name)
            for strategy in (_first(one) for one in families[name] if one.choices is not None):
                if isinstance(strategy, Cascade) or strategy.other_arms:
                    raise InputError(
                        path, f"{where}.{key}", f"{name}: {strategy!r}", "arms that are no cascades themselves"
                    )
        if asked.judge is not None and asked.judge not in scenario.deployments:
            raise InputError(path, f"{where}.judge", asked.judge, nearest(asked.judge, scenario.deployments))
        settings = (asked.tpr, asked.fpr, asked.judge, asked.judge_tokens)
        for a, b in asked.pairs:
            kept = [set(some) for name in (a, b) if (some := scenario.arms[name].sources) is not None]
            if kept and not set.intersection(*kept):
                raise InputError(path, f"{where}.{key}", f"{a}{THEN}{b}", "two arms with a source in common")
            before = made.setdefault((a, b), [])
            if settings in before:
                continue
            before.append(settings)
            suffix = f" #{len(before)}" if len(before) > 1 else ""
            found += [CascadeFamily(scenario, asked, *both, suffix) for both in product(families[a], families[b])]
    return found


def check_arm_space(scenario: Scenario) -> None:
    """See that what is searched can be made, and how much of it there is.

    Raises:
        InputError: the first thing wrong with it.
    """
    if not scenario.search.varies_arms:
        return
    families = families_of(scenario)
    cascades = cascades_of(scenario, families)
    parts = {f"of {name}": sum(one.size for one in ones) for name, ones in families.items()}
    parts["cascades"] = sum(one.size for one in cascades)
    count = sum(parts.values())
    if count > MOST_ARMS:
        largest = sorted(parts.items(), key=lambda part: -part[1])[:3]
        said = ", ".join(f"{size:,} {name}" for name, size in largest)
        expected = f"at most {MOST_ARMS} arms to choose from: shorter lists of choices or fewer ranges ({said})"
        raise InputError(scenario.path, "search", f"{count:,} arms", expected)
    made: dict[str, Sequence[Family]] = {**families, "": cascades}
    for name, some in made.items():
        for variant in (family.variant(numbers) for family in some for numbers in rungs_of(family)):
            if variant is not None and variant.name != name and variant.name in scenario.arms:
                expected = "another name: the search space makes an arm of that name"
                raise InputError(scenario.path, "arms", variant.name, expected)


def rungs_of(family: Family) -> Iterator[tuple[int, ...]]:
    """A few numbers of each range, with those of the others."""
    yield from product(*(span.rungs for span in family.spans))


def _families(
    scenario: Scenario, name: str, own: Strategy, named: bool, searched: Sequence[_Searched] | None
) -> Iterator[ArmFamily]:
    path, search = scenario.path, scenario.search
    caps: list[object] = [_OWN]
    if name in search.caps:
        field = f"search.caps.{name}"
        caps = [read_span(cap, where=path, field=field) or cap for cap in search.caps[name]]
        for strategy in [own] if searched is None else [one.strategy for one in searched]:
            if not strategy.takes_cap:
                raise InputError(path, field, repr(strategy), "an arm whose attempts have a cap")
        for one in searched or ():
            if one.strategy.attempt_cap is not None:
                raise InputError(path, one.where, repr(one.strategy), f"no cap of its own beside search.caps.{name}")
    profiles = [None, *(one for one in search.efforts.get(name, []) if one != scenario.arms[name].profile)]
    choices = [None] if searched is None else [one.choices for one in searched]
    for profile, chosen, cap in product(profiles, choices, caps):
        yield ArmFamily(scenario, name, own, named, profile, chosen, cap)


def _first(family: ArmFamily) -> Strategy:
    """Its first strategy that can be."""
    found = (family._strategy(numbers) for numbers in rungs_of(family))
    return next(one for one in found if one is not None)
