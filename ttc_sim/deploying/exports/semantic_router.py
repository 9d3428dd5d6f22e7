"""vLLM Semantic Router: a model for each arm and a decision for each source and band, as far as it can tell them.

It cannot run the plan's predictor: where a source is routed by it, callers say the arm that the runtime picks, as
``metadata.ttc_arm``. Checked by ``vllm-sr validate`` of the package ``vllm-sr`` 0.4.0 (config version v0.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports.attempts import Attempt, model_of, stand_in
from ttc_sim.deploying.exports.bands import Bands, arms_in_use, bands_of, offered
from ttc_sim.deploying.exports.features import Kind, not_expressed
from ttc_sim.deploying.exports.naming import dumped, quoted, variable
from ttc_sim.deploying.exports.target import Export
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.policies import PROMPT_TOKENS

ARM, SOURCE = "ttc_arm", "ttc_source"
"""What callers say in a request's ``metadata``."""
LONGEST_VALUE = 512
"""Bytes that a value of a request's metadata may have."""
DOES: tuple[Kind, ...] = ("sources", "prompt length", "cap", "effort")
_LONGEST_S = 3600.0  # of the listener, where a deployment has no timeout


def export(plan: SavedPlan, endpoints: Mapping[str, Endpoint]) -> Export:
    """A config of the router, which Envoy and the router's own tools start from."""
    scenario, arms = plan.scenario, arms_in_use(plan)
    named: dict[str, str] = {}
    missing: list[str] = []
    calls = {arm: stand_in(plan, arm, endpoints) for arm in arms}
    models = [_model(plan, arm, *calls[arm], endpoints, named, missing) for arm in arms]
    signals = _Signals()
    decisions: list[dict[str, Any]] = []
    bands = bands_of(plan)
    for source, mine in bands.items():
        where = [] if len(bands) == 1 else [signals.metadata(SOURCE, source)]
        for arm, conditions in _choices(plan, source, mine, signals, missing):
            decision = {
                "name": f"{quoted(source)} to {quoted(arm)} {len(decisions) + 1}",
                "rules": {"operator": "AND", "conditions": [*where, *conditions]},
                "modelRefs": [_reference(arm, calls[arm][1])],
            }
            decisions.append(decision | _plugins(calls[arm][1]))
    for priority, decision in enumerate(reversed(decisions), 1):
        decision["priority"] = priority
    timeouts = [item.timeout_s or _LONGEST_S for item in scenario.deployments.values()]
    config = {
        "version": "v0.3",
        "listeners": [
            {"name": "http-8899", "address": "0.0.0.0", "port": 8899, "timeout": f"{math.ceil(max(timeouts))}s"}
        ],
        "providers": {"models": models},
        "routing": {
            "strategy": "priority",
            "modelCards": [{"name": quoted(arm)} for arm in arms],
            "signals": signals.as_config(),
            "decisions": decisions,
        },
        "global": {"router": {"auto_model_names": [quoted(scenario.name)], "learning": {"enabled": False}}},
    }
    how = [
        "vllm-sr validate --config config.yaml && vllm-sr serve --config config.yaml",
        f"Clients ask for the model {quoted(scenario.name)!r}.",
    ]
    if len(bands) > 1:
        how.append(f"They say the source as metadata.{SOURCE}; requests without are turned away.")
    if asked := [source for source, mine in bands.items() if not _is_told(mine)]:
        how.append(
            f"Of {', '.join(asked)} they say the arm, runtime.route(prompt).arm of ttc_sim, as metadata.{ARM}; "
            "requests without are turned away."
        )
    how += [f"{name}: {what}" for name, what in named.items()]
    return Export({"config.yaml": dumped(config)}, (*missing, *not_expressed(plan, DOES)), tuple(how))


class _Signals:
    """Signals that decisions name, each once."""

    def __init__(self) -> None:
        self._metadata: dict[tuple[str, str], str] = {}
        self._context: dict[tuple[int | None, int | None], str] = {}

    def metadata(self, key: str, value: str) -> dict[str, str]:
        """Whether a request's metadata say so, as a condition."""
        if len(value.encode()) > LONGEST_VALUE:
            expected = f"a name of at most {LONGEST_VALUE} bytes: callers say it in a request's metadata"
            raise InputError("ttc-sim export", key, value, expected)
        name = self._metadata.setdefault((key, value), f"{key} {len(self._metadata) + 1}")
        return {"type": "metadata", "name": name}

    def context(self, least: int | None, most: int | None) -> dict[str, str]:
        """Whether a prompt has from so many to so many tokens, as a condition."""
        name = self._context.setdefault((least, most), f"prompt {len(self._context) + 1}")
        return {"type": "context", "name": name}

    def as_config(self) -> dict[str, Any]:
        """As ``routing.signals`` has them."""
        found: dict[str, Any] = {}
        if self._metadata:
            found["metadata"] = [
                {"name": name, "key": key, "predicate": {"equals": value}}
                for (key, value), name in self._metadata.items()
            ]
        if self._context:
            found["context"] = [
                {
                    "name": name,
                    **({} if least is None else {"min_tokens": str(least)}),
                    **({} if most is None else {"max_tokens": str(most)}),
                }
                for (least, most), name in self._context.items()
            ]
        return found


def _is_told(bands: Bands | None) -> bool:
    """Whether the router itself can tell a request's band."""
    return bands is not None and not bands.needs_predictor


def _choices(
    plan: SavedPlan, source: str, bands: Bands | None, signals: _Signals, missing: list[str]
) -> list[tuple[str, Sequence[dict[str, str]]]]:
    """Arms of a source, each with the conditions under which a request goes there."""
    if bands is None or bands.needs_predictor:
        arms = tuple(dict.fromkeys(bands.arms)) if bands is not None else offered(plan, source)
        return [(arm, [signals.metadata(ARM, arm)]) for arm in arms]
    if bands.score != PROMPT_TOKENS:
        return [(bands.arms[0], [])]
    missing.append(f"source {source}: the router counts the tokens of a prompt in its own way")
    found: list[tuple[str, Sequence[dict[str, str]]]] = []
    first = 0
    for number, arm in enumerate(bands.arms):
        # Tokens are whole: those of the band are from one edge, rounded up, to the one before the next.
        most = None if number == len(bands.edges) else math.ceil(bands.edges[number]) - 1
        if most is None or most >= first:
            found.append((arm, [signals.context(first or None, most)] if first or most is not None else []))
            first = first if most is None else most + 1
    return found


def _model(
    plan: SavedPlan,
    arm: str,
    deployment: str,
    call: Attempt | None,
    endpoints: Mapping[str, Endpoint],
    named: dict[str, str],
    missing: list[str],
) -> dict[str, Any]:
    """Where an arm's deployment stands, and what of the arm is not done there."""
    of, endpoint = f"arm {arm}", endpoints.get(deployment)
    if call is None:
        missing.append(f"{of}: one plain call is made instead of its strategy")
    elif call.times > 1:
        missing.append(f"{of}: one of its {call.times} attempts is made")
    if call is not None and call.stage is not None:
        missing.append(f"{of}: its last stage alone is asked")
    if call is not None and call.forced:
        missing.append(f"{of}: its cap of {call.cap:,} tokens is one of thinking alone, and is not said")
    if endpoint is not None:
        reference = {"base_url": endpoint.url, "provider": "openai"}
        if endpoint.key_env is not None:
            reference["api_key_env"] = endpoint.key_env
            named[endpoint.key_env] = f"key of {deployment}"
        if endpoint.body:
            missing.append(f"{of}: {', '.join(endpoint.body)} of its endpoint's body")
    else:
        place, key = variable(plan, deployment, "URL"), variable(plan, deployment, "KEY")
        url = f"http://{place.lower().replace('_', '-')}.invalid/v1"
        reference = {"base_url": url, "provider": "openai", "api_key_env": key}
        named[url] = f"put the url of {deployment} in its place"
        named[key] = f"key of {deployment}"
    served = model_of(plan, deployment, endpoints)
    model: dict[str, Any] = {"name": quoted(arm), "backend_refs": [{"name": "only", **reference}]}
    model["provider_model_id"] = served
    if call is not None and call.effort is not None:
        said = {"type": "top_level_reasoning_effort", "parameter": "reasoning_effort"}
        model["reasoning"] = {**said, "levels": [call.effort], "default": call.effort}
    return model


def _reference(arm: str, call: Attempt | None) -> dict[str, Any]:
    effort = None if call is None else call.effort
    if effort is None:
        return {"model": quoted(arm), "use_reasoning": False}
    return {"model": quoted(arm), "use_reasoning": True, "reasoning_effort": effort}


def _plugins(call: Attempt | None) -> dict[str, Any]:
    """The arm's cap: what requests ask for at most, and what they get that ask for nothing."""
    if call is None or call.cap is None or call.forced:
        return {}
    limits = {"default_max_tokens": call.cap, "max_tokens_limit": call.cap, "blocked_params": ["max_completion_tokens"]}
    return {"plugins": [{"type": "request_params", "configuration": limits}]}


__all__ = ["export"]
