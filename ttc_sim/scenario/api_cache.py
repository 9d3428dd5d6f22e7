"""The prompt cache of an API endpoint, as its provider documents it: docs/api-caches.md says where, and when that was read."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.scenario.base import Model, Positive, errors_at

MOST_BREAKPOINTS = 4
"""Places that a prompt may be marked at: Anthropic's and OpenAI's limit."""


@dataclass(frozen=True)
class CacheRules:
    """What a cache does.

    Attributes:
        breakpoints: places that are marked in a prompt, up to which it is kept and found; 0: it is kept, and found, up to anywhere.
        min_tokens: least length of what is kept or found; step_tokens: both are multiples of it.
        ttl_s: how long it is kept after it was last used; infinity if that is not known.
        keeps_output: whether what was answered is kept too.
        reads_count: whether what was found counts against limits of tokens per minute.
    """

    breakpoints: int
    min_tokens: int
    step_tokens: int
    ttl_s: float
    keeps_output: bool = False
    reads_count: bool = True


# As documented on 2026-11-26; of a range the end that finds less. Of Gemini no time to live is documented.
PROVIDERS = {
    "anthropic": CacheRules(MOST_BREAKPOINTS, 1024, 1, 300.0, reads_count=False),
    "anthropic-1h": CacheRules(MOST_BREAKPOINTS, 1024, 1, 3600.0, reads_count=False),
    "openai": CacheRules(0, 1024, 128, 300.0),
    "openai-24h": CacheRules(0, 1024, 128, 86400.0),
    "openai-breakpoints": CacheRules(1, 1024, 1, 1800.0),
    "gemini": CacheRules(0, 4096, 1, float("inf")),
    "deepseek": CacheRules(0, 64, 64, 7200.0, keeps_output=True),
}
# Of models that keep shorter prompts than the others of their provider, or longer ones alone.
_LEAST = {
    **dict.fromkeys(("claude-opus-5", "claude-fable-5", "claude-mythos-5"), 512),
    **dict.fromkeys(
        ("claude-opus-4-7", "claude-3-5-haiku", "claude-3-haiku", "gemini-2.5-pro", "gemini-2.5-flash"), 2048
    ),
    **dict.fromkeys(("claude-opus-4-6", "claude-opus-4-5", "claude-haiku-4-5"), 4096),
}
_DATED = r"(-\d{8}|@\d{8}|-latest)?"


def least_of(model: str) -> int | None:
    """Tokens of the shortest prompt that is kept of a model, where that is not what its provider's others have.

    >>> least_of("claude-haiku-4-5-20251001"), least_of("claude-sonnet-4-5")
    (4096, None)
    """
    return next((least for name, least in _LEAST.items() if re.fullmatch(re.escape(name) + _DATED, model)), None)


def marks_by_itself(model: str) -> bool | None:
    """Whether OpenAI's cache of a model works by breakpoints, as it does from GPT-5.6 on; ``None`` of another model.

    >>> marks_by_itself("gpt-6-sol"), marks_by_itself("gpt-5.5"), marks_by_itself("o3")
    (True, False, None)
    """
    found = re.match(r"gpt-(\d+)(?:\.(\d+))?", model)
    return None if found is None else (int(found[1]), int(found[2] or 0)) >= (5, 6)


class ApiCache(Model):
    """A provider's prompt cache: what begins as an earlier prompt did is billed at the price of cached input.

    Args:
        provider: whose documented rules hold, where the other keys do not say otherwise.
        kind: ``automatic``: every prompt is looked up, and kept; ``breakpoints``: prompts are kept, and found again, up to the
            places that the client marks.
        breakpoints: how many places of a prompt are marked. 1: its end, as providers do that mark it themselves. More: the client
            marks the end of what it has in common with others (all of it, in a conversation); of three or four the place before
            that; and the first places where prompts branch off, such as the end of the system prompt. 4 if left out.
        min_tokens: least length of what is kept or found; the provider's, of the model that ``price`` names.
        step_tokens: what is kept, and found, is a multiple of this, without breakpoints; 1 if left out.
        ttl_s: how long it is kept after it was last used.
        keeps_output: whether an answer is kept with its prompt, so that the next turn finds it; not if left out.
        reads_count: whether what is found counts against limits of tokens per minute; it does if left out.
    """

    provider: (
        Literal["anthropic", "anthropic-1h", "openai", "openai-24h", "openai-breakpoints", "gemini", "deepseek"] | None
    ) = None
    kind: Literal["automatic", "breakpoints"] | None = None
    breakpoints: Annotated[int, Field(ge=1, le=MOST_BREAKPOINTS)] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=MOST_TOKENS)] | None = None
    step_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    ttl_s: Positive | None = None
    keeps_output: bool | None = None
    reads_count: bool | None = None

    @model_validator(mode="after")
    def _known(self) -> ApiCache:
        wrong: dict[str, tuple[str, Any, str]] = {}
        if self.provider is None:
            for name, expected in (
                ("kind", "automatic or breakpoints, or a `provider` whose rules hold"),
                ("min_tokens", "the least length of what is kept, or a `provider` whose rules hold"),
                ("ttl_s", "seconds that it is kept after it was last used, or a `provider` whose rules hold"),
            ):
                if getattr(self, name) is None:
                    wrong[name] = ("value_error", None, expected)
        elif self.provider == "gemini" and self.ttl_s is None:
            wrong["ttl_s"] = (
                "value_error",
                None,
                "seconds: Google documents no time to live but that it is at most a day",
            )
        if not wrong and self.rules.breakpoints and self.step_tokens is not None:
            expected = "none beside breakpoints: prompts are kept up to the very place that is marked"
            wrong["step_tokens"] = ("value_error", self.step_tokens, expected)
        if not wrong and self.kind == "automatic" and self.breakpoints is not None:
            wrong["breakpoints"] = (
                "value_error",
                self.breakpoints,
                "none in an automatic cache: it keeps all of a prompt",
            )
        if not wrong and self.kind is None and self.breakpoints is not None and not self._documented.breakpoints:
            expected = f"none: {self.provider} keeps all of a prompt; kind: breakpoints says otherwise"
            wrong["breakpoints"] = ("value_error", self.breakpoints, expected)
        if wrong:
            raise errors_at(wrong)
        return self

    @property
    def _documented(self) -> CacheRules:
        return CacheRules(0, 0, 1, float("inf")) if self.provider is None else PROVIDERS[self.provider]

    @property
    def rules(self) -> CacheRules:
        """The provider's, and on top of them what the scenario says."""
        return self.rules_of(None)

    def rules_of(self, model: str | None) -> CacheRules:
        """The same, of one of the provider's models."""
        of = self._documented
        if model is not None and self.provider is not None and (least := least_of(model)) is not None:
            of = replace(of, min_tokens=least)
        said = {name: value for name in _STATED if (value := getattr(self, name)) is not None}
        if self.kind == "automatic":
            said["breakpoints"] = 0
        elif self.kind == "breakpoints" or of.breakpoints:
            said = {"breakpoints": of.breakpoints or MOST_BREAKPOINTS, **said, "step_tokens": 1}
        return CacheRules(**{**asdict(of), **said})


_STATED = ("breakpoints", "min_tokens", "step_tokens", "ttl_s", "keeps_output", "reads_count")
