"""Where the deployments of a plan stand: a file with an address, a model's name and a key's variable for each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from ttc_sim.base.errors import InputError, in_our_words, nearest
from ttc_sim.files.documents import read_yaml
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.scenario.base import Model


class Endpoint(Model):
    """One deployment, as it is reached.

    Args:
        url: of an OpenAI-compatible API, such as ``http://localhost:8000/v1``.
        model: name that it serves the model by.
        key_env: environment variable with its key; without, none is sent.
        limit_by: how it takes a limit on output.
        takes_prefix: whether an answer that was begun is continued, as vLLM and SGLang do (``continue_final_message``); forced
            answers and budget forcing need it.
        body: that is sent besides, with every request.
        takes_n: whether one call may ask for several answers (``n``), whose prompt is billed once, as simulations have it; without,
            each attempt is a call of its own.
    """

    url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")]
    model: Annotated[str, Field(min_length=1)]
    key_env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    limit_by: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    takes_prefix: bool = False
    body: Annotated[dict[str, Any], Field(default_factory=dict)]
    takes_n: bool = True


def read_endpoints(path: str | Path, plan: SavedPlan) -> Mapping[str, Endpoint]:
    """Endpoints of a plan's deployments, by the deployment's name; some may be left out.

    Raises:
        InputError: not such a file, or a deployment that the plan does not have.
    """
    raw: Any = read_yaml(path, expected="a file of endpoints: an url and a model for each deployment of the plan")
    if not isinstance(raw, dict):
        raise InputError(path, "endpoints", raw, "an url and a model for each deployment of the plan")
    known = list(plan.scenario.deployments)
    found = {}
    for name, said in raw.items():
        if name not in known:
            raise InputError(path, "deployment", name, nearest(str(name), known))
        try:
            found[str(name)] = Endpoint.model_validate(said)
        except ValidationError as error:
            detail = error.errors()[0]
            place = ".".join(str(part) for part in (name, *detail["loc"]))
            raise InputError(path, place, detail["input"], in_our_words(detail)) from None
    return found


__all__ = ["Endpoint", "read_endpoints"]
