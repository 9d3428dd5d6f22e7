"""Cards: where measured numbers come from, and what they do not cover."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ttc_sim.base.errors import from_validation
from ttc_sim.base.limits import MOST_TOKENS
from ttc_sim.files.documents import read_yaml


class Card(BaseModel):
    """What every card names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin: str
    licence: str
    date: str
    tokenizer: str
    limits: str


class ProfileCard(Card):
    """Card of a model profile.

    Args:
        model: the model; ``source_models``: names under which its attempts stand in the source.
        effort: effort setting, where the model has one.
        problem_set: problems that the attempts are on.
        output_limit_tokens: limit at which attempts were stopped, if known.
        reasoning: whether hidden reasoning tokens were ``recorded``, there are ``none``, or they were ``filled`` from the
            other measured source that ``reasoning_source`` names.
        limits: what the numbers do not cover.
    """

    kind: Literal["model"] = "model"
    model: str
    source_models: list[str] = []
    effort: str | None = None
    problem_set: str | None = None
    output_limit_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    reasoning: Literal["recorded", "none", "filled"]
    reasoning_source: str | None = None

    @model_validator(mode="after")
    def _source_named(self) -> ProfileCard:
        if self.reasoning == "filled" and not self.reasoning_source:
            raise ValueError("reasoning_source must name the source when reasoning is 'filled'")
        return self


class ProblemSetCard(Card):
    """Card of a problem set. ``cluster`` is what to resample for intervals: the task type (``group``) where the types are
    themselves a sample of those that will come, else the ``problem``."""

    kind: Literal["problems"] = "problems"
    cluster: Literal["group", "problem"]


class TrafficCard(Card):
    """Card of measured traffic."""

    kind: Literal["traffic"] = "traffic"


class SessionsCard(Card):
    """Card of recorded sessions."""

    kind: Literal["sessions"] = "sessions"


class AgentCard(Card):
    """Card of an agent profile: runs at whole tasks.

    Args:
        model: the model; ``source_models``: names under which its runs stand in the source.
        agent: the program that ran it, where that is known.
        cluster: what to resample for intervals: the ``instance``, or its ``group`` (such as a repository) where groups are
            themselves a sample of those that will come.
    """

    kind: Literal["agent"] = "agent"
    model: str
    source_models: list[str] = []
    agent: str | None = None
    effort: str | None = None
    cluster: Literal["group", "instance"] = "instance"


CARD_FILES: dict[str, type[Card]] = {
    "profile.yaml": ProfileCard,
    "agent.yaml": AgentCard,
    "problem_set.yaml": ProblemSetCard,
    "traffic.yaml": TrafficCard,
    "sessions.yaml": SessionsCard,
}
AnyCard = TypeVar("AnyCard", bound=Card)


def read_card(path: Path, kind: type[AnyCard]) -> AnyCard:
    """The card in a file.

    Raises:
        InputError: not YAML, or the first field that is missing or wrong.
    """
    try:
        return kind.model_validate(read_yaml(path))
    except ValidationError as error:
        raise from_validation(path, error, "card") from None
