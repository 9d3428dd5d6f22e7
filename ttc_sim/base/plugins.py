"""Kinds of things by name: those that come with the package, those of installed packages, and those registered by hand.

A package adds a strategy (a policy, a step-time model, an arrival process) by an entry point in its ``pyproject.toml``::

    [project.entry-points."ttc_sim.strategies"]
    Debate = "my_package.debate:Debate"

and a script or notebook by :func:`register`. Either is then known by its name in scenarios, on the command line and in Python. An
entry point is imported when its name is first used, and not before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from ttc_sim.base.errors import InputError, nearest

T = TypeVar("T")

REGISTRIES: dict[str, Registry[Any]] = {}
"""All kinds of things that can be added, by the last part of their entry points' group."""


class Registry(Mapping[str, type[T]], Generic[T]):
    """Classes of one kind by the names that users write.

    Args:
        kind: what they are, in the plural: entry points of the group ``ttc_sim.KIND`` are taken.
        base: class that all inherit from.
        shipped: those that come with the package.
    """

    def __init__(self, kind: str, base: type[T], shipped: Mapping[str, type[T]]) -> None:
        self.kind, self.base, self.shipped = kind, base, dict(shipped)
        self._added: dict[str, type[T]] = {}
        self._found: list[EntryPoint] | None = None
        REGISTRIES[kind] = self

    @property
    def group(self) -> str:
        """Group of the entry points."""
        return f"ttc_sim.{self.kind}"

    def __getitem__(self, name: str) -> type[T]:
        installed = self._installed(name)
        if name in self.shipped:
            for one in installed:
                raise InputError(_where(one), self.group, name, f"a name that is free: {name} comes with ttc-sim")
            return self.shipped[name]
        if name in self._added:
            return self._added[name]
        if not installed:
            raise KeyError(name)
        if len({one.value for one in installed}) > 1:
            said = " and ".join(sorted(_where(one) for one in installed))
            raise InputError(said, self.group, name, "one package that gives this name")
        self._added[name] = self._loaded(installed[0])
        return self._added[name]

    def __iter__(self) -> Iterator[str]:
        yield from dict.fromkeys([*self.shipped, *self._added, *(one.name for one in self._installed())])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def register(self, made: type[T], name: str | None = None) -> None:
        """Add a class under a name, its own if left out; the same class may be added again (a notebook's cell is run twice).

        Raises:
            InputError: not a class of this kind, or a name that is taken.
        """
        name = name or made.__name__
        self._check(made, "register", name)
        if name in self.shipped:
            raise InputError("register", self.group, name, f"a name that is free: {name} comes with ttc-sim")
        self._added[name] = made

    def _installed(self, name: str | None = None) -> list[EntryPoint]:
        if self._found is None:
            self._found = list(entry_points(group=self.group))
        return [one for one in self._found if name is None or one.name == name]

    def _loaded(self, found: EntryPoint) -> type[T]:
        try:
            made = found.load()
        except Exception as error:  # whatever the user's own code raises
            said = f"{type(error).__name__}: {error}"
            raise InputError(
                _where(found), self.group, said, f"{found.value} to be imported without an error"
            ) from error
        self._check(made, _where(found), found.name)
        return made  # type: ignore[no-any-return]  # checked above

    def _check(self, made: object, where: str, name: str) -> None:
        if not isinstance(made, type) or not issubclass(made, self.base):
            expected = f"a class that inherits from {self.base.__module__}.{self.base.__qualname__}"
            raise InputError(where, f"{self.group}: {name}", made, expected)


def register(made: type[Any], name: str | None = None) -> None:
    """Make a class of one's own known by its name: a strategy, a policy, a step-time model or an arrival process.

    Args:
        made: a class that inherits from the base of its kind.
        name: that scenarios and the command line call it by; its own if left out.

    Raises:
        InputError: of no kind that can be added, or a name that is taken.

    >>> from dataclasses import dataclass
    >>> from ttc_sim.strategies import Single, parse_strategy
    >>> @dataclass(frozen=True, repr=False)
    ... class Brief(Single):
    ...     cap: int | None = 256
    >>> register(Brief)
    >>> parse_strategy("Brief()").attempt_cap
    256
    """
    for registry in REGISTRIES.values():
        if isinstance(made, type) and issubclass(made, registry.base):
            registry.register(made, name)
            return
    bases = ", ".join(f"{one.base.__module__}.{one.base.__qualname__}" for one in REGISTRIES.values())
    raise InputError("register", "class", made, f"a class that inherits from one of {bases}")


def find(registry: Registry[T], name: str, *, where: str, field: str) -> type[T]:
    """The class of that name.

    Raises:
        InputError: there is none; names the nearest.
    """
    try:
        return registry[name]
    except KeyError:
        raise InputError(where, field, name, nearest(name, registry)) from None


def is_shipped(made: type) -> bool:
    """Whether a class comes with the package."""
    return made.__module__.partition(".")[0] == __name__.partition(".")[0]


def _where(found: EntryPoint) -> str:
    return found.dist.name if found.dist is not None else found.value


__all__ = ["REGISTRIES", "Registry", "find", "is_shipped", "register"]
