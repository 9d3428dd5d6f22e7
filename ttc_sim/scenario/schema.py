"""The JSON schema of scenario files: what editors complete and check them by.

It is made of the models that read a scenario, described by their docstrings: a key that it lacks is one that loading refuses. What
takes more than one value to tell (a source without lengths, a plan that cannot be) is left to loading.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from ttc_sim.base.plugins import REGISTRIES, Registry, is_shipped
from ttc_sim.policies.reading import POLICIES
from ttc_sim.scenario.autoscaling_search import AutoscalingRule
from ttc_sim.scenario.base import KINDS, JsonSchema
from ttc_sim.scenario.document import Scenario
from ttc_sim.scenario.fleet import Autoscaling
from ttc_sim.strategies.reading import STRATEGIES

SCHEMA_FILE = "scenario.schema.json"
"""Its name beside scenarios."""
MODELINE = f"# yaml-language-server: $schema={SCHEMA_FILE}"
"""First line of a scenario, by which editors find the schema beside it.

A relative name holds offline, in a checkout, in an installed package and wherever the folder is moved to, where a path of one
machine or an address would not.
"""

# What the language server of YAML editors reads; later drafts it knows in part.
_DIALECT = "http://json-schema.org/draft-07/schema#"
_PERCENTILES = r"(ttft|tpot|latency)_p([1-9]\d?(\.\d+)?|0\.\d*[1-9]\d*)_s$"
_ROLE = re.compile(r":[a-z]+:`~?(?:[\w.]*\.)?(\w+)`")
_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields|Example|Examples):$|^>>> ", re.MULTILINE)
_EXAMPLES = {
    "strategy": ["Single(cap=4096)", "MajorityVote(n=3)", "BestOfN(n=4, auroc=0.8)", "mine.py:strategy"],
    "policy": ["Always('small')", "Threshold(at=0.5, below='small', above='large')", "mine.py:choose"],
}


def scenario_schema(*, own_kinds: bool = True) -> JsonSchema:
    """JSON schema (draft 7) of a scenario's file.

    Args:
        own_kinds: with the arrival processes and step times of installed packages, and those registered, beside the shipped ones.

    Raises:
        InputError: an installed package that gives a kind cannot be used.

    >>> schema = scenario_schema()
    >>> schema["additionalProperties"], "workload" in schema["required"]
    (False, True)
    """
    schema = Scenario.model_json_schema(schema_generator=_Described)
    definitions = schema.setdefault("$defs", {})
    schema["$schema"] = _DIALECT
    schema["title"] = "Scenario of ttc-sim"
    _write_out_kinds(schema, definitions, own_kinds)
    definitions.pop("StepTime", None)  # a base, which no file names
    _describe_notations(schema, definitions, own_kinds)
    return {key: schema[key] for key in ("$schema", *(key for key in schema if key != "$schema"))}


def schema_text(schema: JsonSchema) -> str:
    """As its file holds it."""
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


class _Described(GenerateJsonSchema):
    """With the descriptions of docstrings, and without what only Python sees."""

    schema_dialect = _DIALECT

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        """As pydantic's, described."""
        made, cls = super().model_schema(schema), schema["cls"]
        made["description"] = summary(cls)
        said = described_keys(cls)
        for name, field in cls.model_fields.items():
            if field.exclude:
                made["properties"].pop(name, None)
                continue
            one = made["properties"][name]
            _only_what_helps(one)
            if name in said:
                one["description"] = said[name]
        if made.get("additionalProperties") is not False and cls.model_config.get("extra") == "allow":
            others = "|".join(sorted(made["properties"]))  # of those that have a key of their own, that says all
            made["patternProperties"] = {f"^(?!({others})$){_PERCENTILES}": {"type": "number", "exclusiveMinimum": 0}}
            made["additionalProperties"] = False
        return made


def _only_what_helps(one: JsonSchema) -> None:
    """Without titles that say the key again, and defaults that say nothing: "null", or a whole mapping."""
    one.pop("title", None)
    if one.get("default") is None or isinstance(one.get("default"), dict | list):
        one.pop("default", None)


def summary(cls: type) -> str:
    """What a class's docstring says before its sections, as plain text."""
    text = inspect.cleandoc(cls.__doc__ or "")
    found = _SECTION.search(text)
    return _plain(text if found is None else text[: found.start()])


def described_keys(cls: type[BaseModel]) -> dict[str, str]:
    """What the docstrings of a model and of those that it inherits from say of its keys (``Args:``)."""
    found: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        if issubclass(one, BaseModel) and one.__doc__:
            found |= _args_of(inspect.cleandoc(one.__doc__), cls.model_fields)
    if cls is AutoscalingRule:  # whose keys are those
        found = described_keys(Autoscaling) | found
    return found


def _args_of(text: str, keys: Iterable[str]) -> dict[str, str]:
    _, mark, rest = text.partition("Args:\n")
    if not mark:
        return {}
    section = re.split(r"\n(?=\S)", rest)[0]
    entries = re.split(r"\n(?= {4}\S)", "\n" + section.split("\n\n")[0])
    name = "|".join(re.escape(key) for key in keys)
    said: dict[str, str] = {}
    for entry in entries:
        words = " ".join(entry.split())
        # Several keys may share a text, and several texts an entry.
        heads = list(re.finditer(rf"(?:^|(?<=; )|(?<=, ))((?:{name})(?:, (?:{name}))*): ", words))
        ends = [*(head.start() for head in heads), len(words)][1:]
        for head, until in zip(heads, ends, strict=False):
            told = words[head.end() : until].strip(" ;,")
            said |= {key: _plain(told) for key in head[1].split(", ")}
    return said


def _plain(text: str) -> str:
    """A docstring's text without its markup."""
    text = _ROLE.sub(r"\1", text).replace("``", "`")
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))


def _write_out_kinds(schema: JsonSchema, definitions: JsonSchema, own_kinds: bool) -> None:
    """Put the kinds of registries where something stands for them."""
    refs: dict[str, list[JsonSchema]] = {}

    def written_out(part: Any) -> Any:
        if isinstance(part, list):
            return [written_out(one) for one in part]
        if not isinstance(part, dict):
            return part
        if KINDS in part:
            kind = part[KINDS]
            if kind not in refs:
                refs[kind] = _references(REGISTRIES[kind], definitions, own_kinds)
            return {"oneOf": refs[kind]} if refs[kind] else False
        return {key: written_out(value) for key, value in part.items() if key != "$defs"}

    for name, part in list(schema.items()):
        if name != "$defs":
            schema[name] = written_out(part)
    done: set[str] = set()
    while left := [name for name in definitions if name not in done]:  # kinds may take kinds
        for name in left:
            definitions[name] = written_out(definitions[name])
        done |= set(left)


def _references(registry: Registry[Any], definitions: JsonSchema, own_kinds: bool) -> list[JsonSchema]:
    """A reference for each kind, whose definitions are added."""
    names: dict[type[BaseModel], list[str]] = {}
    for name in registry:
        made = registry[name]
        if own_kinds or is_shipped(made):
            names.setdefault(made, []).append(name)
    found = []
    for made, called in names.items():
        own = made.model_json_schema(schema_generator=_Described)
        for name, one in own.pop("$defs", {}).items():
            definitions.setdefault(name, one)
        key = str(registry.key)
        own["properties"][key] = {"description": "Name of the kind.", "enum": called}
        own["required"] = sorted({key, *own.get("required", [])}, key=list(own["properties"]).index)
        name = made.__name__ if is_shipped(made) else f"{made.__module__}.{made.__qualname__}"
        definitions[name] = own
        found.append({"$ref": f"#/$defs/{name}"})
    return found


def _describe_notations(schema: JsonSchema, definitions: JsonSchema, own_kinds: bool) -> None:
    """Say where a strategy or a policy is written as a call what there is to call."""
    strategies, policies = (_calls(registry, own_kinds) for registry in (STRATEGIES, POLICIES))
    arm = definitions["Arm"]["properties"]["strategy"]
    arm["description"] += f"\n\nOne of: {strategies}"
    arm["examples"] = _EXAMPLES["strategy"]
    definitions["Search"]["properties"]["strategies"]["description"] += f"\n\nStrategies: {strategies}"
    policy = schema["properties"]["policy"]
    policy["description"] += f"\n\nOne of: {policies}"
    policy["examples"] = _EXAMPLES["policy"]


def _calls(registry: Mapping[str, type[Any]], own_kinds: bool) -> str:
    return ", ".join(
        f"`{name}({', '.join(inspect.signature(registry[name]).parameters)})`"
        for name in registry
        if own_kinds or is_shipped(registry[name])
    )


__all__ = ["MODELINE", "SCHEMA_FILE", "described_keys", "scenario_schema", "schema_text", "summary"]
