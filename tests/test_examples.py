"""The gateway examples under examples/, without a network."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import ttc_sim as ttc
from ttc_sim.predictor import Predictor

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PROMPTS = ["What is 2 + 2?", "Prove the four colour theorem. " * 40, ""]

# Of litellm 1.110, whose real base class was read for it.
BASE_CLASS = """
class CustomRoutingStrategyBase:
    async def async_get_available_deployment(
        self, model, messages=None, input=None, specific_deployment=False, request_kwargs=None
    ): ...

    def get_available_deployment(
        self, model, messages=None, input=None, specific_deployment=False, request_kwargs=None
    ): ...
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    """A plan that sends prompts predicted harder than 'What is 2 + 2?' to the large model."""
    easy = float(Predictor.load().score(PROMPTS[:1]).difficulty[0])
    text = f"Threshold(at={easy + 1e-4}, below='llama-8b', above='llama-70b')"
    scenario = ttc.load_scenario("qa-gateway").model_copy(update={"policy": text})
    raw = {
        "ttc_sim_plan": 1,
        "status": "met",
        "promised": {},
        "made_from": "scenario.yaml",
        "scenario": scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True),
    }
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def expected(prompt: str) -> str:
    scores = Predictor.load().score([PROMPTS[0], prompt]).difficulty
    return "llama-70b" if scores[1] > scores[0] + 1e-4 else "llama-8b"


def load_example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_fastapi_hook_answers_with_the_plans_arm(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    testclient = pytest.importorskip("fastapi.testclient", reason="fastapi is not installed")
    monkeypatch.setenv("TTC_PLAN", str(plan))
    client = testclient.TestClient(load_example("gateway_fastapi").app)
    for prompt in PROMPTS:
        answer = client.post("/route", json={"prompt": prompt})
        assert answer.status_code == 200, answer.text
        said = answer.json()
        assert said["arm"] == expected(prompt)
        assert said["deployment"] == f"{said['arm']}-pool"
        assert said["difficulty"] == pytest.approx(float(Predictor.load().score([prompt]).difficulty[0]), abs=1e-6)
    assert {expected(prompt) for prompt in PROMPTS} == {"llama-8b", "llama-70b"}
    assert client.post("/route", json={"prompt": "x", "source": "nowhere"}).status_code == 422
    assert client.post("/route", json={}).status_code == 422


def model_list() -> list[dict[str, Any]]:
    return [
        {
            "model_name": group,
            "litellm_params": {"model": "openai/any", "api_key": "none", "mock_response": f"from {arm}"},
            "model_info": {"id": name},
        }
        # An id may name the arm or its deployment.
        for group, arm, name in (
            ("gateway", "llama-8b", "llama-8b"),
            ("gateway", "llama-70b", "llama-70b-pool"),
            ("other", "gemini", "gemini"),
        )
    ]


@pytest.fixture
def base_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM's base class, or one with its signature where LiteLLM is not installed."""
    if importlib.util.find_spec("litellm") is None:
        for name in ("litellm", "litellm.types", "litellm.types.router"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        exec(BASE_CLASS, sys.modules["litellm.types.router"].__dict__)


@pytest.mark.usefixtures("base_class")
def test_the_litellm_strategy_picks_the_plans_deployment(plan: Path) -> None:
    module = load_example("litellm_router")
    strategy = module.PlanRouting(model_list(), str(plan))
    for prompt in PROMPTS:
        arm = expected(prompt)
        messages = [{"role": "user", "content": prompt}]
        for picked in (
            strategy.get_available_deployment("gateway", messages=messages),
            asyncio.run(strategy.async_get_available_deployment("gateway", messages=messages)),
        ):
            assert picked["litellm_params"]["mock_response"] == f"from {arm}"
    with pytest.raises(ValueError, match="no deployment of model group 'other'"):
        strategy.get_available_deployment("other", input="x")
    base = sys.modules["litellm.types.router"].CustomRoutingStrategyBase
    for name in ("get_available_deployment", "async_get_available_deployment"):
        ours, theirs = (list(inspect.signature(getattr(kind, name)).parameters) for kind in (module.PlanRouting, base))
        assert ours == theirs


def test_a_real_litellm_router_follows_the_plan(plan: Path) -> None:
    litellm = pytest.importorskip("litellm", reason="litellm is not installed; its base class is imitated instead")
    router = litellm.Router(model_list=model_list())
    load_example("litellm_router").attach(router, str(plan))
    for prompt in PROMPTS[:2]:
        answer = router.completion(model="gateway", messages=[{"role": "user", "content": prompt}])
        assert answer.choices[0].message.content == f"from {expected(prompt)}"
