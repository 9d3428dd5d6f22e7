"""The gateway examples under examples/, without a network."""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import pytest
import yaml

import ttc_sim as ttc
from ttc_sim.predictor import Predictor
from ttc_sim.scenario import scenario_from_dict

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


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plan that `make demo` makes, of its two APIs alone: per source, the arm that is expected to be worth most."""
    demo = ttc.load_scenario("reasoning-gateway")
    raw = demo.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    raw["replications"], raw["workload"]["requests"] = 1, 300
    raw["arms"] = {name: raw["arms"][name] for name in ("maverick", "r1")}
    raw["deployments"] = {name: raw["deployments"][name] for name in ("maverick-api", "r1-api")}
    raw["search"] = {"caps": {"r1": [1024, 4096]}, "bands": 4, "max_bands": 2}
    raw["targets"] = {"minimize": "cost", "accuracy": 0.6}
    path = tmp_path_factory.mktemp("demo") / "plan.yaml"
    ttc.optimize(scenario_from_dict(raw, demo.path)).save(path)
    return path


HARD = "Find the shortest word ladder from COLD to WARM and print each step. " * 3


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
        assert said["scores"]["difficulty"] == pytest.approx(
            float(Predictor.load().score([prompt]).difficulty[0]), abs=1e-6
        )
    assert {expected(prompt) for prompt in PROMPTS} == {"llama-8b", "llama-70b"}
    assert client.post("/route", json={"prompt": "x", "source": "nowhere"}).status_code == 422
    assert client.post("/route", json={}).status_code == 422


def test_the_fastapi_hook_carries_out_the_plan_of_the_demo(planned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    testclient = pytest.importorskip("fastapi.testclient", reason="fastapi is not installed")
    monkeypatch.setenv("TTC_PLAN", str(planned))
    client = testclient.TestClient(load_example("gateway_fastapi").app)
    arms = ttc.load_plan(planned).scenario.arms
    for source in ("everyday", "research"):
        for prompt in (*PROMPTS, HARD):
            answer = client.post("/route", json={"prompt": prompt, "source": source, "prompt_tokens": 60})
            assert answer.status_code == 200, answer.text
            said = answer.json()
            assert said["deployment"] == arms[said["arm"]].deployment
            assert said["max_tokens"] == cap_of(arms[said["arm"]].strategy)
    missing = client.post("/route", json={"prompt": "x"})
    assert missing.status_code == 422
    assert "source" in missing.text


def cap_of(strategy: str) -> int | None:
    found = re.fullmatch(r"Single\((?:cap=(\d+))?\)", strategy)
    assert found is not None
    return None if found[1] is None else int(found[1])


@pytest.mark.parametrize("example", ["gateway_fastapi", "litellm_router"])
@pytest.mark.usefixtures("base_class")
def test_a_plan_that_takes_more_than_a_call_is_refused(
    plan: Path, example: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = yaml.safe_load(plan.read_text())
    raw["scenario"]["arms"]["llama-70b"]["strategy"] = "MajorityVote(n=5)"
    plan.write_text(yaml.safe_dump(raw))
    monkeypatch.setenv("TTC_PLAN", str(plan))

    def start() -> None:
        module = load_example(example)
        if example == "litellm_router":
            module.PlanRouting(model_list(), str(plan))

    with pytest.raises(ttc.InputError, match=r"arms\.llama-70b\.strategy: got 'MajorityVote\(n=5\)'"):
        start()


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


@pytest.mark.usefixtures("base_class")
def test_the_litellm_strategy_caps_what_it_picks_and_is_told_the_source(planned: Path) -> None:
    module = load_example("litellm_router")
    one = {"model_name": "gateway", "litellm_params": {"model": "openai/any"}}
    models = [{**one, "model_info": {"id": name}} for name in ("maverick-api", "r1-api")]
    strategy = module.PlanRouting(models, str(planned))
    arms = ttc.load_plan(planned).scenario.arms
    for source in ("everyday", "research"):
        for prompt in (*PROMPTS, HARD):
            route = strategy.plan.route(prompt, source)
            cap = cap_of(arms[route.arm].strategy)
            # What a caller asks for, by what is asked of the deployment.
            for asked, limit in (({}, cap), ({"max_tokens": 10**6}, cap or 10**6), ({"max_completion_tokens": 3}, 3)):
                kwargs: dict[str, Any] = {"metadata": {"source": source}, **asked}
                parts = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
                picked = strategy.get_available_deployment("gateway", messages=parts, request_kwargs=kwargs)
                assert picked["model_info"]["id"] == route.deployment
                sent = {**picked["litellm_params"], **kwargs}
                assert [sent[name] for name in ("max_tokens", "max_completion_tokens") if name in sent] == (
                    [] if limit is None else [limit]
                )
    assert all("max_tokens" not in model["litellm_params"] for model in models)
    with pytest.raises(ttc.InputError, match="source: got None; expected one of everyday, research"):
        strategy.get_available_deployment("gateway", messages=[{"role": "user", "content": "x"}])


def test_a_real_litellm_router_asks_for_the_planned_tokens(planned: Path) -> None:
    litellm = pytest.importorskip("litellm", reason="litellm is not installed; its base class is imitated instead")
    bodies: list[dict[str, Any]] = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            message = {"role": "assistant", "content": f"from {bodies[-1]['model']}"}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
            text = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        base = {"api_base": f"http://127.0.0.1:{server.server_port}/v1", "api_key": "none"}
        models = [
            {
                "model_name": "gateway",
                "litellm_params": {"model": f"openai/{name}", **base},
                "model_info": {"id": name},
            }
            for name in ("maverick-api", "r1-api")
        ]
        router = litellm.Router(model_list=models)
        module = load_example("litellm_router")
        module.attach(router, str(planned))
        strategy = module.PlanRouting(models, str(planned))
        for source in ("everyday", "research"):
            for prompt in (PROMPTS[0], HARD):
                for asked in ({}, {"max_tokens": 10**6}):
                    messages = [{"role": "user", "content": prompt}]
                    router.completion(model="gateway", messages=messages, metadata={"source": source}, **asked)
                    route = strategy.plan.route(prompt, source)
                    assert bodies[-1]["model"] == route.deployment
                    assert bodies[-1].get("max_tokens") == (route.max_tokens or asked.get("max_tokens"))
    finally:
        server.shutdown()
        server.server_close()


def test_a_real_litellm_router_follows_the_plan(plan: Path) -> None:
    litellm = pytest.importorskip("litellm", reason="litellm is not installed; its base class is imitated instead")
    router = litellm.Router(model_list=model_list())
    load_example("litellm_router").attach(router, str(plan))
    for prompt in PROMPTS[:2]:
        answer = router.completion(model="gateway", messages=[{"role": "user", "content": prompt}])
        assert answer.choices[0].message.content == f"from {expected(prompt)}"
