"""A gateway hook: which arm of a plan should answer this prompt, and with how many tokens?

ttc-sim optimize reasoning-gateway --plan plan.yaml
TTC_PLAN=plan.yaml uvicorn gateway_fastapi:app --app-dir examples     # pip install fastapi uvicorn
curl -H 'content-type: application/json' -d '{"prompt": "What is 2 + 2?", "source": "everyday"}' localhost:8000/route

The answer names the arm and its deployment; call that with ``max_tokens``, if it is not null. ``source`` is one of the plan's
sources, and may be left out where there is only one. A plan whose arms take more than one call, or whose policy looks at live
load, is refused as the gateway starts.
"""

import os
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, Field

import ttc_sim as ttc

# TTC_PREDICTOR: where the ONNX file of the plan's predictor stands; another one is refused.
plan = ttc.load_plan(os.environ["TTC_PLAN"]).runtime(predictor=os.environ.get("TTC_PREDICTOR"))
plan.check_plain_calls()
app = FastAPI()


class Ask(BaseModel):
    """What a caller sends: a prompt, which of the plan's sources it came from and, if known, how many tokens it has."""

    prompt: Annotated[str, Field(max_length=1_000_000)]
    source: Literal[plan.sources] = plan.sources[0] if len(plan.sources) == 1 else ...
    prompt_tokens: Annotated[int | None, Field(ge=1)] = None


@app.post("/route")
def route(ask: Ask) -> dict[str, Any]:
    """The arm, its deployment and strategy, the tokens to ask for, and the prompt's predicted difficulty."""
    return plan.route(ask.prompt, ask.source, prompt_tokens=ask.prompt_tokens).as_line()
