"""A gateway hook: which arm of a plan should answer this prompt?

ttc-sim optimize reasoning-gateway --plan plan.yaml
TTC_PLAN=plan.yaml uvicorn gateway_fastapi:app --app-dir examples     # pip install fastapi uvicorn
curl -H 'content-type: application/json' -d '{"prompt": "What is 2 + 2?"}' localhost:8000/route
"""

import os
from typing import Annotated, Literal

import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel, Field

import ttc_sim as ttc
from ttc_sim.policies import Requests

plan = ttc.load_plan(os.environ["TTC_PLAN"])
scenario = plan.scenario
policy, arms, sources = scenario.parsed_policy(), list(scenario.arms), tuple(scenario.workload.sources)
predictor = plan.load_predictor(os.environ.get("TTC_PREDICTOR"))  # where its file stands; where the plan says if unset
app = FastAPI()


class Ask(BaseModel):
    """What a caller sends: a prompt, and which of the plan's sources it came from."""

    prompt: Annotated[str, Field(max_length=1_000_000)]
    source: Literal[sources] = sources[0]


@app.post("/route")
def route(ask: Ask) -> dict[str, object]:
    """The arm, its deployment and strategy, and the prompt's predicted difficulty."""
    scores = predictor.score([ask.prompt])
    named = {name: column.to_numpy().astype(np.float64) for name, column in scores.table().to_dict().items()}
    tokens = np.array([len(ask.prompt) // 4 + 1])  # about 4 characters a token
    request = Requests(np.zeros(1), np.array([sources.index(ask.source)]), sources, tokens, named)
    arm = arms[policy.choose(request, arms)[0]]
    chosen = scenario.arms[arm]
    said = {"arm": arm, "deployment": chosen.deployment, "strategy": chosen.strategy}
    return {**said, "difficulty": float(scores.difficulty[0])}
