"""The prompt cache of an API endpoint, as its provider documents it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.scenario.base import Model, Positive


class ApiCache(Model):
    """A provider's prompt cache: what begins as an earlier prompt did is billed at the price of cached input.

    Args:
        provider: whose documented rules hold, where the other keys do not say otherwise.
        kind: ``automatic``: every prompt is looked up, and kept; ``breakpoints``: prompts are kept, and found again, up to the
            places that the client marks.
        min_tokens: least length of what is kept or found.
        step_tokens: found lengths are multiples of this.
        ttl_s: how long it is kept after it was last used.
    """

    provider: Literal["anthropic", "anthropic-1h", "openai", "gemini", "deepseek"] | None = None
    kind: Literal["automatic", "breakpoints"] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=MOST_TOKENS)] | None = None
    step_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    ttl_s: Positive | None = None
