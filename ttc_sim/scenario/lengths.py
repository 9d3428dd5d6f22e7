"""Plain lengths: how long requests are, where neither problems nor recorded traffic say it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag, model_validator

from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.scenario.base import Model, Share

Tokens = Annotated[int, Field(ge=0, le=MOST_TOKENS)]


class LogNormal(Model):
    """A log-normal number of tokens, by its median and 95th percentile; rounded, at least 1.

    Args:
        median: tokens that half of them have at most; p95: tokens that 95% of them have at most.
    """

    median: Annotated[float, Field(ge=1, le=MOST_TOKENS)]
    p95: Annotated[float, Field(ge=1, le=MOST_TOKENS)]

    @model_validator(mode="after")
    def _ordered(self) -> LogNormal:
        if self.p95 < self.median:
            raise ValueError(f"p95 {self.p95:g} must be at least median {self.median:g}")
        return self


def _kind(given: object) -> str | None:
    if isinstance(given, (dict, LogNormal)):
        return "law"
    if isinstance(given, str):
        return "column"
    return "number" if isinstance(given, (int, float)) and not isinstance(given, bool) else None


Law = Annotated[
    Annotated[Tokens, Tag("number")] | Annotated[LogNormal, Tag("law")] | Annotated[str, Tag("column")],
    Discriminator(
        _kind,
        custom_error_type="no_length",
        custom_error_message="a number of tokens, {median: 300, p95: 2000}, or the name of a column of `file`",
    ),
]
"""The same number for all, a log-normal law, or a column of ``file``."""


class Lengths(Model):
    """How long requests are: prompt, and output or its parts.

    Args:
        prompt_tokens: of the prompt.
        output_tokens: of the whole answer, thinking in it; or
        visible_tokens: without thinking, beside ``reasoning_tokens``.
        reasoning_tokens: hidden ones: beside ``visible_tokens``, or a column beside one of ``output_tokens``, which holds it.
        reasoning_share: share of ``output_tokens`` that is hidden.
        file: table (CSV, JSONL or Parquet) of requests; a request has its columns from one row, so that long prompts keep their
            answers. Rows are drawn with replacement.

    >>> Lengths(prompt_tokens=800, output_tokens=LogNormal(median=300, p95=2000), reasoning_share=0.4).reasoning_share
    0.4
    """

    prompt_tokens: Law
    output_tokens: Law | None = None
    visible_tokens: Law | None = None
    reasoning_tokens: Law | None = None
    reasoning_share: Share | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Lengths:
        if (self.output_tokens is None) == (self.visible_tokens is None):
            raise ValueError("output_tokens (with reasoning) or visible_tokens (without), one of them")
        if self.reasoning_share is not None and (self.output_tokens is None or self.reasoning_tokens is not None):
            raise ValueError("reasoning_share beside output_tokens, and without reasoning_tokens")
        columns = self.columns()
        if self.reasoning_tokens is not None and self.output_tokens is not None:
            inside = {"output_tokens", "reasoning_tokens"}
            if not inside <= set(columns):
                raise ValueError(
                    "visible_tokens beside reasoning_tokens, or columns of `file` for both: of two laws one cannot hold the other"
                )
        if bool(columns) != (self.file is not None):
            raise ValueError(
                "`file`, and the columns of it that are to be read: the one says nothing without the other"
            )
        return self

    def columns(self) -> dict[str, str]:
        """By quantity, the column that it is read from."""
        names = ("prompt_tokens", "output_tokens", "visible_tokens", "reasoning_tokens")
        return {name: value for name in names if isinstance(value := getattr(self, name), str)}

    @property
    def vary(self) -> bool:
        """Whether one request's are not another's."""
        laws = (self.prompt_tokens, self.output_tokens, self.visible_tokens, self.reasoning_tokens)
        return not all(law is None or isinstance(law, int) for law in laws)
