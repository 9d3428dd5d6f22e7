"""A gateway that answers each prompt as a plan has it: its arm, caps, votes, verifiers, cascades, retries and fallbacks.

ttc-sim optimize reasoning-gateway --plan plan.yaml
TTC_PLAN=plan.yaml TTC_ENDPOINTS=endpoints.yaml uvicorn gateway_fastapi:app --app-dir examples  # pip install fastapi uvicorn httpx2
curl -H 'content-type: application/json' -d '{"prompt": "What is 2 + 2?", "source": "everyday"}' localhost:8000/ask

The file of endpoints says where deployments stand (docs/serve.md), with keys from the environment. ``source`` is one of the plan's
sources, and may be left out where there is only one. TTC_PREDICTOR: where the ONNX file of the plan's predictor stands, if
elsewhere. TTC_LOG: a file that decisions and outcomes are appended to, without a word of the prompts.
"""

import os
from typing import Annotated, Any, Literal

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

import ttc_sim as ttc

given = {name: os.environ.get(f"TTC_{name.upper()}") for name in ("endpoints", "predictor", "log")}
plan = ttc.load_plan(os.environ["TTC_PLAN"]).runtime(**given)
_ = plan.carrying  # refused here, and not at the first request, where an arm cannot be carried out
app = FastAPI()


class Ask(BaseModel):
    """What a caller sends: a prompt, which of the plan's sources it came from and, if known, its session and how long it is."""

    prompt: Annotated[str, Field(min_length=1, max_length=1_000_000)]
    source: Literal[plan.sources] = plan.sources[0] if len(plan.sources) == 1 else ...
    session: str | None = None
    prompt_tokens: Annotated[int | None, Field(ge=1)] = None


@app.post("/ask")
async def ask(ask: Ask) -> dict[str, Any]:
    """The answer, and who gave it."""
    outcome, reply = await plan.run_async(
        ask.prompt, source=ask.source, session=ask.session, prompt_tokens=ask.prompt_tokens
    )
    said = {"request": outcome.request, "arm": outcome.arm, "status": outcome.status}
    if reply.text is None:
        raise HTTPException(504 if outcome.status == "timed_out" else 502, said)
    return {"answer": reply.text, "cut_off": reply.cut_off, **said}
