"""What all parts of a scenario are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.limits import LEAST_RATE, MOST_AMOUNT, MOST_RATE
from ttc_sim.base.plugins import Registry, called

Positive = Annotated[float, Field(gt=0, le=MOST_AMOUNT, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, le=MOST_AMOUNT, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]

UNKNOWN_KEY = "unknown_key"


def _seen(rate_per_s: float) -> float:
    if not LEAST_RATE <= rate_per_s <= MOST_RATE:
        raise ValueError(f"from {LEAST_RATE:g} to {MOST_RATE:g} a second")
    return rate_per_s


Rate = Annotated[Positive, AfterValidator(_seen)]
"""Requests per second."""


class Model(BaseModel):
    """Base of all parts of a scenario: unknown keys and values of the wrong type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_keys(cls, given: Any) -> Any:
        known = [name for name, field in cls.model_fields.items() if not field.exclude]
        unknown = [key for key in given if key not in cls.model_fields] if isinstance(given, dict) else []
        if unknown:
            raise errors_at({str(key): (UNKNOWN_KEY, given[key], nearest(str(key), known)) for key in unknown})
        return given


def errors_at(found: dict[str, tuple[str, Any, str]]) -> ValidationError:
    """Errors by key: what kind each is, the value, and what was expected."""
    return ValidationError.from_exception_data(
        "scenario",
        [
            InitErrorDetails(type=PydanticCustomError(kind, "{expected}", {"expected": text}), loc=(key,), input=value)
            for key, (kind, value, text) in found.items()
        ],
    )


JsonSchema = dict[str, Any]
KINDS = "ttc-sim kinds"
"""Key of a schema that stands for one of every kind of a registry, until those are written out."""


@dataclass(frozen=True)
class InSchema:
    """What the JSON schema of scenario files says of a value that a validator before it reads in further forms.

    Args:
        said: of the schema of the value alone, the schema of all forms.
    """

    said: Callable[[JsonSchema], JsonSchema]

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        """As said; the schema of nothing at all stays."""
        return self.said(handler(schema))


OR_ONE = InSchema(lambda many: {"anyOf": [many["items"], many]})
"""Of a list that a single item may stand for."""


@dataclass(frozen=True)
class ByName:
    """As :func:`by_name` says."""

    registry: Registry[Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The validator before that of the base."""
        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def _read(self, given: Any) -> Any:
        return read_settings(self.registry, given) if isinstance(given, dict) else given

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchema:
        """Any kind, as :func:`ttc_sim.scenario.schema.scenario_schema` writes them out; or nothing."""
        return {"anyOf": [{KINDS: self.registry.kind}, {"type": "null"}]}


def by_name(registry: Registry[Any]) -> ByName:
    """Read a mapping as the settings of the kind that it names; an object made in Python is taken as it is."""
    return ByName(registry)


def read_settings(registry: Registry[Any], given: dict[Any, Any]) -> Any:
    """The object that a mapping makes: of the class whose name stands under the registry's key.

    Raises:
        ValidationError: no such key or class, or what the class refuses.
        InputError: the class is a user's own and its package, or what it does with its settings, fails.
    """
    key = str(registry.key)
    if key not in given:
        raise errors_at({key: ("missing", None, "this key to be given")})
    name = given[key]
    try:
        made = registry[name] if isinstance(name, str) else None
    except KeyError:
        made = None
    if made is None:
        raise errors_at({key: ("value_error", name, nearest(str(name), registry))})
    try:
        return made.model_validate(given)
    except (ValidationError, InputError):
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a validator of the user's own
        raise InputError(
            called(made), "settings", f"{type(error).__name__}: {error}", "settings that it takes"
        ) from error
