"""A plan's policy inside LiteLLM's proxy: the file that ``ttc-sim export --to litellm`` writes calls this before each request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.deploying.exports.fingerprint import fingerprint
from ttc_sim.deploying.runtime import Runtime
from ttc_sim.optimizer.plan import load_plan

LIMITS = ("max_tokens", "max_completion_tokens")


class PlanRouting:
    """Sends requests of one model name on to the model group of the arm that the plan's policy picks.

    Args:
        plan: file of the plan.
        made_of: fingerprint of the plan that the groups were exported from.
        model: name that clients ask for; other requests are left as they are.
        groups: model group of each arm; limits: the key that its output is limited by, and most tokens, if any.
        fallbacks: groups that LiteLLM goes on to, by group.
        predictor: where the ONNX file of the plan's predictor stands now, if elsewhere.
        log: file that each decision is appended to as a line.

    Raises:
        InputError: another plan than the exported one, or one that cannot be routed by.
    """

    def __init__(
        self,
        plan: str | Path,
        *,
        made_of: str,
        model: str,
        groups: Mapping[str, str],
        limits: Mapping[str, tuple[str, int | None]],
        fallbacks: Mapping[str, list[str]],
        predictor: str | Path | None = None,
        log: str | Path | None = None,
    ) -> None:
        saved = load_plan(plan)
        found = fingerprint(saved)
        if found != made_of:
            raise InputError(plan, "plan", found, f"{made_of}, the plan that was exported: export this one anew")
        self.model, self._groups, self._fallbacks = model, groups, fallbacks
        self._limits = {groups[arm]: limit for arm, limit in limits.items()}
        self.runtime = Runtime(saved, predictor=predictor, log=log)

    def route(self, data: dict[str, Any]) -> dict[str, Any]:
        """The request, sent to the group of its arm and with no more tokens than that has.

        Args:
            data: body of the request, as LiteLLM's hooks get it; ``metadata.source`` says the source.

        Raises:
            InputError: a source that the plan does not know, or none where it has several.
        """
        if data.get("model") != self.model:
            return data
        group = self._groups[self.runtime.route(text_of(data), _source(data)).arm]
        sent = {**data, "model": group}
        asked = min((data[key] for key in LIMITS if isinstance(data.get(key), int)), default=None)
        if asked is None:
            return sent  # the group has its own
        for key in LIMITS:
            sent.pop(key, None)
        sent |= self._limited(group, asked)
        if others := self._fallbacks.get(group):
            sent["fallbacks"] = [{"model": one, **dict.fromkeys(LIMITS), **self._limited(one, asked)} for one in others]
        return sent

    def _limited(self, group: str, asked: int) -> dict[str, int]:
        """The caller's limit, or the group's own if that is less."""
        key, cap = self._limits[group]
        return {key: asked if cap is None else min(asked, cap)}


def text_of(data: Mapping[str, Any]) -> str:
    """Text of a request's messages, joined by line ends; of a completion, its prompt."""
    messages = data.get("messages")
    if not isinstance(messages, list):
        given = data.get("prompt", data.get("input", ""))
        return given if isinstance(given, str) else "\n".join(str(part) for part in given or ())
    return "\n".join(_text(message.get("content")) for message in messages if isinstance(message, dict))


def _text(content: Any) -> str:
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "\n".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _source(data: Mapping[str, Any]) -> str | None:
    """What the client says; the proxy keeps a copy of what it was sent apart from its own metadata."""
    metadata = data.get("metadata")
    if not isinstance(metadata, dict):
        return None
    sent = metadata.get("requester_metadata")
    for place in (metadata, sent if isinstance(sent, dict) else {}):
        if isinstance(place.get("source"), str):
            return str(place["source"])
    return None


__all__ = ["PlanRouting", "text_of"]
