"""Kinds of things by name: those that come with the package, those of installed packages, and those registered by hand.

A package adds a strategy (a policy, a step-time model, an arrival process, an importer) by an entry point in its
``pyproject.toml``::

    [project.entry-points."ttc_sim.strategies"]
    Debate = "my_package.debate:Debate"

and a script or notebook by :func:`register`. Either is then known by its name in scenarios, on the command line and in Python. An
entry point is imported when its name is first used, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Literal, TypeAlias, TypeVar, cast, get_args, get_origin

from ttc_sim.base.errors import InputError, nearest, users_code

T = TypeVar("T")

REGISTRIES: dict[str, Registry[Any]] = {}
"""All kinds of things that can be added, by the last part of their entry points' group."""


class Registry(Mapping[str, type[T]], Generic[T]):
    """Classes of one kind by the names that users write.

    Args:
        kind: what they are, in the plural: entry points of the group ``ttc_sim.KIND`` are taken.
        base: class that all inherit from.
        shipped: those that come with the package; ``module:Class`` where that module stands above this one in the order of
            imports, and is imported when it is first used.
        key: that the name stands under in a scenario. None of kinds that users write as calls, ``Name(argument=...)``: those are
            frozen dataclasses, known by the class's own name, which is what their ``repr`` prints and a plan writes down.
    """

    def __init__(
        self, kind: str, base: type[T], shipped: Mapping[str, type[T] | str], *, key: str | None = None
    ) -> None:
        self.kind, self.base, self.shipped, self.key = kind, base, dict(shipped), key
        self._registered: dict[str, type[T]] = {}
        self._imported: dict[str, type[T]] = {}
        self._found: dict[str, list[EntryPoint]] | None = None
        REGISTRIES[kind] = self

    @property
    def group(self) -> str:
        """Group of the entry points."""
        return f"ttc_sim.{self.kind}"

    def __getitem__(self, name: str) -> type[T]:
        installed = self._installed.get(name, [])
        if name in self.shipped:
            for one in installed:
                self._refuse_shipped(_package(one), name)
            return self._from_room(self.shipped[name])
        if name in self._registered:
            return self._registered[name]
        if not installed:
            raise KeyError(name)
        if len({one.value for one in installed}) > 1:
            said = " and ".join(sorted(_package(one) for one in installed))
            raise InputError(said, self.group, name, "one package that gives this name")
        if name not in self._imported:
            self._imported[name] = self._import(installed[0])
        return self._imported[name]

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self.shipped, *self._registered, *self._installed])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def register(self, made: type[T], name: str | None = None) -> None:
        """Add a class under a name, its own if left out; one that a notebook's cell defines again takes the place of the former.

        Raises:
            InputError: not a class of this kind, or a name that is taken.
        """
        self._check_kind(made, "register", made.__name__)
        name = (*self._own_names(made), made.__name__)[0] if name is None else name
        self._check(made, "register", name)
        if name in self.shipped:
            self._refuse_shipped("register", name)
        for one in self._installed.get(name, []):
            raise InputError("register", self.group, name, f"a name that is free: {_package(one)} gives it")
        before = self._registered.get(name, made)
        if (before.__module__, before.__qualname__) != (made.__module__, made.__qualname__):
            raise InputError("register", self.group, name, f"a name that is free: {called(before)} is registered")
        self._registered[name] = made

    @property
    def _installed(self) -> dict[str, list[EntryPoint]]:
        """Entry points of installed packages by name; looked up once."""
        if self._found is None:
            self._found = {}
            for one in entry_points(group=self.group):
                self._found.setdefault(one.name, []).append(one)
        return self._found

    def _from_room(self, shipped: type[T] | str) -> type[T]:
        if not isinstance(shipped, str):
            return shipped
        module, _, name = shipped.partition(":")
        return cast("type[T]", getattr(import_module(module), name))

    def _import(self, found: EntryPoint) -> type[T]:
        expected = f"{found.value} to be imported without an error"
        with users_code(_package(found), f"{self.group}: {found.name}", expected):
            made = found.load()
        self._check(made, _package(found), found.name)
        return cast("type[T]", made)

    def _refuse_shipped(self, where: str, name: str) -> None:
        raise InputError(where, self.group, name, f"a name that is free: {name} comes with ttc-sim")

    def _own_names(self, made: type[T]) -> tuple[str, ...]:
        """Names that the class itself says it has; empty if it leaves that open."""
        if self.key is None:
            return (made.__name__,)
        fields = getattr(made, "model_fields", {})
        said = fields[self.key].annotation if self.key in fields else None
        return get_args(said) if get_origin(said) is Literal else ()

    def _check_kind(self, made: object, where: str, name: str) -> None:
        field = f"{self.group}: {name}"
        if not isinstance(made, type) or not issubclass(made, self.base) or made is self.base:
            raise InputError(where, field, made, f"a class that inherits from {called(self.base)}")
        # One that only inherits from a dataclass would have fields of its own that are none.
        params = vars(made).get("__dataclass_params__")
        if self.key is None and (params is None or not params.frozen):
            raise InputError(where, field, made, "a frozen dataclass: @dataclass(frozen=True) above the class")

    def _check(self, made: type[T], where: str, name: str) -> None:
        self._check_kind(made, where, name)
        own = self._own_names(made)
        if own and name not in own:
            said = (
                f"the name of the class, {called(made)}" if self.key is None else f"the {self.key!r} of {called(made)}"
            )
            raise InputError(where, self.group, name, f"{' or '.join(map(repr, own))}, {said}: a plan writes it down")


def register(made: type[T], name: str | None = None) -> type[T]:
    """Make a class of one's own known by its name: a strategy, a policy, a step-time model, an arrival process or an importer.

    Returns the class, so that it can stand above it as ``@ttc.register``.

    Args:
        made: a class that inherits from the base of its kind.
        name: that scenarios call a step-time model or an arrival process by, and ``--format`` an importer: what its ``kind`` or
            ``process`` says, or else the class's own, if left out. A strategy or policy always has its class's.

    Raises:
        InputError: of no kind that can be added, or a name that is taken.

    >>> from dataclasses import dataclass
    >>> from ttc_sim.strategies import Single, parse_strategy
    >>> @dataclass(frozen=True, repr=False)
    ... class Brief(Single):
    ...     cap: int | None = 256
    >>> register(Brief).__name__
    'Brief'
    >>> parse_strategy("Brief()").attempt_cap
    256
    """
    # Whoever inherits from a base has imported it, and with it its registry.
    for registry in REGISTRIES.values():
        if isinstance(made, type) and issubclass(made, registry.base):
            registry.register(made, name)
            return made
    raise InputError(
        "register", "class", made, "a class that inherits from Strategy, Policy, StepTime, Arrivals or Importer"
    )


def find(registry: Mapping[str, type[T]], name: str, *, where: str, field: str) -> type[T]:
    """The class of that name.

    Raises:
        InputError: there is none (names the nearest), or its package cannot be used.

    >>> find({"gamma": int}, "ganma", where="mine.yaml", field="process")
    Traceback (most recent call last):
    ttc_sim.base.errors.InputError: mine.yaml: process: got 'ganma'; expected 'gamma' (nearest of gamma)
    """
    try:
        return registry[name]
    except KeyError:
        raise InputError(where, field, name, nearest(name, registry)) from None
    except InputError as error:
        raise InputError(where, f"{field}: {error.where}: {error.field}", error.value, error.expected) from error


def is_shipped(made: type) -> bool:
    """Whether a class comes with the package."""
    return made.__module__.partition(".")[0] == __name__.partition(".")[0]


Rule: TypeAlias = tuple[Callable[[Any], bool], str]
"""What must hold of a value, and how errors say so."""

YES_OR_NO: Rule = (lambda value: isinstance(value, bool), "True or False")
# A single text would be taken for its letters.
NAMES: Rule = (
    lambda value: isinstance(value, tuple) and all(isinstance(name, str) for name in value),
    "a tuple of names",
)


def check_said(made: object, said: Mapping[str, Rule], *, where: str, field: str) -> None:
    """What an object of a user's own class says of itself must be of the kind that others rely on.

    Args:
        said: what must hold, by name of an attribute or of a method without arguments.

    Raises:
        InputError: it is not, or cannot be had.
    """
    for name, (holds, expected) in said.items():
        here = f"{field}: {called(type(made))}.{name}"
        with users_code(where, here, expected):
            value = getattr(made, name)
            value = value() if callable(value) else value
            right = bool(holds(value))
        if not right:
            raise InputError(where, here, value, expected)


def called(made: type) -> str:
    """A class as errors name it: ``my_package.debate.Debate``."""
    return f"{made.__module__}.{made.__qualname__}"


def _package(found: EntryPoint) -> str:
    return (found.dist.name if found.dist is not None else None) or found.value


__all__ = [
    "NAMES",
    "REGISTRIES",
    "YES_OR_NO",
    "Registry",
    "Rule",
    "called",
    "check_said",
    "find",
    "is_shipped",
    "register",
]
