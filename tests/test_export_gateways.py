"""A plan exported to gateways and providers: by their own schemas, where a simulation sends requests, and nothing dropped."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import importlib.util
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any, get_args, get_type_hints
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import yaml
from pydantic import TypeAdapter

import ttc_sim as ttc
from ttc_sim.base.errors import InputError
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports import TARGETS, Export, export_plan
from ttc_sim.deploying.exports.anthropic import version_of
from ttc_sim.deploying.exports.features import Feature, Kind, features_of
from ttc_sim.deploying.exports.litellm_routing import PlanRouting, text_of
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.policies import Requests, choose_arms
from ttc_sim.scenario import load_scenario, scenario_from_dict
from ttc_sim.simulation.result import simulate

from .routing import runtime_of, saved_plan, shipped_problems
from .test_runtime import POLICIES, PROMPTS, folder, saved, scenario

__all__ = ["folder"]  # a fixture
SCHEMAS = Path(__file__).parent / "exports"
ODD = ['a"b: {c}', "Ünï*/— %20", " os.environ/HOME ", "'''\\\n#", "r1@4096"]
CARD = {"origin": "test", "licence": "CC0", "date": "2026-11-24", "tokenizer": "bytes", "limits": "made up"}
TIMES = {"first_token": {"median_s": 0.5}, "per_token": {"median_s": 0.01}}


def by_schema(content: object, file: str) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads((SCHEMAS / file).read_text())
    jsonschema.Draft202012Validator(schema).validate(content)


def text(made: Export, name: str) -> str:
    content = made.files[name]
    assert isinstance(content, str)
    return content


def one_arm(
    folder: Path, provider: str | None, model: str, strategy: str, *, effort: str | None = None, **card: Any
) -> SavedPlan:
    """A plan of one arm, measured at an effort, at somebody's model."""
    (folder / "profile").mkdir(exist_ok=True)
    raw = {**CARD, "model": "m", "reasoning": "recorded", **({"effort": effort} if effort else {}), **card}
    (folder / "profile" / "profile.yaml").write_text(yaml.safe_dump(raw))
    prices = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}
    price = {"provider": provider, "model": model, **prices} if provider else prices
    made = {
        "name": "one",
        "workload": {
            "arrivals": {"process": "even", "rate_per_s": 1.0},
            "requests": 5,
            "sources": {"s": {"problem_set": "p"}},
        },
        "deployments": {"api": {"kind": "api", "price": price, **TIMES}},
        "arms": {"arm": {"profile": "profile", "deployment": "api", "strategy": strategy}},
        "policy": "Always('arm')",
    }
    return SavedPlan(scenario_from_dict(made, str(folder / "scenario.yaml")), {}, "met")


def bodies(made: Export) -> list[dict[str, Any]]:
    return [one["body"] for arm in json.loads(text(made, "arms.json"))["arms"].values() for one in arm["requests"]]


def checked(body: Mapping[str, Any], kind: Any) -> None:
    """Every key is one of the provider's, and its value of the type that it has there; what the type does not know is dropped."""
    hints = get_type_hints(kind)
    for key, value in body.items():
        assert key in hints, key
        assert TypeAdapter(hints[key]).validate_python(value) == value, key


# ---------------------------------------------------------------------------------------------------------- providers


FORCED, BOTH = "Single(cap=3000, on_cap='force_answer')", "BudgetForcing(50, cap=3000)"
OPENAI: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("Single(cap=900)", {"effort": "low"}, {"max_completion_tokens": 900, "reasoning_effort": "low"}, ""),
    ("Single()", {}, {}, ""),
    ("MajorityVote(n=4, cap=70)", {"effort": "extreme"}, {"max_completion_tokens": 70}, "effort extreme"),
    (FORCED, {"effort": "max"}, {"reasoning_effort": "max"}, "its cap of 3,000 tokens is one of thinking alone"),
]
ANTHROPIC: list[tuple[str, str, dict[str, Any], dict[str, Any] | None, str]] = [
    # A cap is one of thinking and answer together: thinking may take all of it but a token.
    (
        "claude-sonnet-4-0",
        "Single(cap=9000)",
        {},
        {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 8999}},
        "",
    ),
    (
        "claude-sonnet-4-0",
        "Single(cap=9000)",
        {"reasoning": "none"},
        {"max_tokens": 9000, "thinking": {"type": "disabled"}},
        "",
    ),
    ("claude-sonnet-4-0", "Single(cap=1024)", {}, None, "no room for the least budget, 1,024"),
    (
        "claude-opus-4-5-20251101",
        "Single(cap=1025)",
        {},
        {"max_tokens": 1025, "thinking": {"type": "enabled", "budget_tokens": 1024}},
        "",
    ),
    (
        "claude-3-7-sonnet-latest",
        BOTH,
        {"output_limit_tokens": 9000},
        {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 3000}},
        "made to go on",
    ),
    ("claude-3-7-sonnet-latest", FORCED, {"output_limit_tokens": 3000}, None, "max_tokens above 3,000"),
    ("claude-3-7-sonnet-latest", "Single()", {}, None, "has to be told max_tokens"),
    ("claude-3-5-haiku-latest", "Single(cap=9)", {"reasoning": "none"}, {"max_tokens": 9}, ""),
    (
        "claude-sonnet-4-6",
        "Single(cap=90)",
        {"effort": "low"},
        {"max_tokens": 90, "thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        "",
    ),
    (
        "claude-opus-5",
        FORCED,
        {"output_limit_tokens": 9000},
        {"max_tokens": 9000, "thinking": {"type": "adaptive"}},
        "takes no budget of thinking",
    ),
    ("claude-opus-5", "Single(cap=9)", {"reasoning": "none"}, {"max_tokens": 9}, "measured without thinking"),
    ("claude-next", "Single(cap=9)", {}, {"max_tokens": 9}, "it is not known how it thinks"),
    (
        "claude-sonnet-4-0",
        "Single(cap=9000)",
        {"effort": "high"},
        {"max_tokens": 9000, "thinking": {"type": "enabled", "budget_tokens": 8999}},
        "effort high, which claude-sonnet-4-0 does not take",
    ),
]
GEMINI: list[tuple[str, str, dict[str, Any], dict[str, Any], str]] = [
    (
        "gemini-2.5-flash",
        "Single(cap=900)",
        {},
        {"maxOutputTokens": 900, "thinkingConfig": {"thinkingBudget": -1}},
        "",
    ),
    (
        "gemini-2.5-flash-lite",
        "Single(cap=900)",
        {"reasoning": "none"},
        {"maxOutputTokens": 900, "thinkingConfig": {"thinkingBudget": 0}},
        "",
    ),
    ("gemini-2.5-pro", "Single(cap=9)", {"reasoning": "none"}, {"maxOutputTokens": 9}, "cannot be told"),
    (
        "gemini-2.5-pro",
        FORCED,
        {"output_limit_tokens": 9000},
        {"maxOutputTokens": 9000, "thinkingConfig": {"thinkingBudget": 3000}},
        "",
    ),
    (
        "gemini-2.5-flash-lite",
        "BudgetForcing(cap=511)",
        {},
        {"thinkingConfig": {"thinkingBudget": -1}},
        "takes 512 to 24,576",
    ),
    (
        "gemini-3-flash-preview",
        "Single(cap=9)",
        {"effort": "low"},
        {"maxOutputTokens": 9, "thinkingConfig": {"thinkingLevel": "LOW"}},
        "",
    ),
    ("gemini-3-pro-preview", FORCED, {}, {}, "takes levels, no budgets"),
    ("gemini-2.0-flash", "Single(cap=9)", {"reasoning": "none"}, {"maxOutputTokens": 9}, ""),
]


@pytest.mark.parametrize(("strategy", "card", "expected", "missing"), OPENAI)
def test_bodies_for_openai(
    tmp_path: Path, strategy: str, card: dict[str, Any], expected: dict[str, Any], missing: str
) -> None:
    plan = one_arm(tmp_path, "openai", "gpt-5", strategy, **card)
    made = export_plan(plan, "openai")
    assert bodies(made) == [{"model": "gpt-5", **expected}]
    assert missing in "\n".join(made.not_expressed)
    # What an endpoint is sent besides is sent, but not a second limit; and another name of the model goes before the plan's.
    own = Endpoint(url="https://gw.example/v1", model="mine", body={"top_p": 0.5, "max_tokens": 7})
    limit = {} if "max_completion_tokens" in expected else {"max_tokens": 7}
    assert bodies(export_plan(plan, "openai", {"api": own})) == [{"top_p": 0.5, **limit, "model": "mine", **expected}]
    types = pytest.importorskip("openai.types.chat.completion_create_params", reason="openai is not installed")
    checked(bodies(made)[0], types.CompletionCreateParamsNonStreaming)


@pytest.mark.parametrize(("model", "strategy", "card", "expected", "missing"), ANTHROPIC)
def test_bodies_for_anthropic(
    tmp_path: Path, model: str, strategy: str, card: dict[str, Any], expected: dict[str, Any] | None, missing: str
) -> None:
    plan = one_arm(tmp_path, "anthropic", model, strategy, **card)
    if expected is None:
        with pytest.raises(InputError, match=f"arm is left out: .*{missing}"):
            export_plan(plan, "anthropic")
        return
    made = export_plan(plan, "anthropic")
    assert bodies(made) == [{"model": model, **expected}]
    assert missing in "\n".join(made.not_expressed)
    types = pytest.importorskip("anthropic.types.message_create_params", reason="anthropic is not installed")
    checked(bodies(made)[0], types.MessageCreateParamsNonStreaming)


@pytest.mark.parametrize(("model", "strategy", "card", "expected", "missing"), GEMINI)
def test_bodies_for_gemini(
    tmp_path: Path, model: str, strategy: str, card: dict[str, Any], expected: dict[str, Any], missing: str
) -> None:
    made = export_plan(one_arm(tmp_path, "google", model, strategy, **card), "gemini")
    assert bodies(made) == [{"model": model, "generationConfig": expected}]
    assert missing in "\n".join(made.not_expressed)
    types = pytest.importorskip("google.genai.types", reason="google-genai is not installed")
    taken = types.GenerateContentConfig.model_validate(expected)  # refuses keys that it does not know
    assert taken.max_output_tokens == expected.get("maxOutputTokens")
    thinking = expected.get("thinkingConfig", {})
    if "thinkingLevel" in thinking:
        assert taken.thinking_config.thinking_level == types.ThinkingLevel.LOW
    elif thinking:
        assert taken.thinking_config.thinking_budget == thinking["thinkingBudget"]


def test_versions_are_read_from_names() -> None:
    names = {
        "claude-3-7-sonnet-20250219": (3, 7),
        "claude-3-haiku-20240307": (3, 0),
        "claude-opus-4-1-20250805": (4, 1),
        "claude-sonnet-4-20250514": (4, 0),
        "claude-sonnet-4.5": (4, 5),
        "claude-opus-5": (5, 0),
        "claude-next": None,
        "gpt-5": None,
    }
    assert {name: version_of(name) for name in names} == names


def test_whose_deployment_it_is_addresses_say_before_prices(tmp_path: Path) -> None:
    plan = one_arm(tmp_path, "openrouter", "x", "Single(cap=9)", reasoning="none")
    for to, host in (
        ("openai", "api.openai.com"),
        ("openai", "eu.openai.azure.com"),
        ("anthropic", "api.anthropic.com"),
    ):
        with pytest.raises(InputError, match="its deployment api is served by openrouter, not by"):
            export_plan(plan, to)
        model = "claude-sonnet-4-5"
        assert bodies(export_plan(plan, to, {"api": Endpoint(url=f"https://{host}/v1", model=model, body={})}))
    vertex = Endpoint(url="https://us-central1-aiplatform.googleapis.com/v1", model="google/gemini-2.5-pro", body={})
    assert bodies(export_plan(plan, "gemini", {"api": vertex}))[0]["model"] == "gemini-2.5-pro"
    other = Endpoint(url="https://notapi.openai.com.example/v1", model="x", body={})
    with pytest.raises(InputError, match="served by openrouter"):
        export_plan(plan, "openai", {"api": other})
    nameless = one_arm(tmp_path, None, "", "Single()")
    with pytest.raises(InputError, match=r"deployments\.api: got 'no name of a model'; expected the name"):
        export_plan(nameless, "litellm")


# ------------------------------------------------------------------------------------------------------------ LiteLLM


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What of LiteLLM and FastAPI the hook imports, where LiteLLM is not installed: the base class has no say in it."""
    if importlib.util.find_spec("litellm") is not None:
        return
    for name in ("litellm", "litellm.integrations", "litellm.integrations.custom_logger"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["litellm.integrations.custom_logger"].CustomLogger = object  # type: ignore[attr-defined]


def hook(made: Export, folder: Path, plan: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The exported file, as the proxy loads it."""
    file = folder / "ttc_sim_router.py"
    file.write_text(text(made, "ttc_sim_router.py"), encoding="utf-8")
    monkeypatch.setenv("TTC_PLAN", str(plan))
    spec = importlib.util.spec_from_file_location("ttc_sim_router", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.router


def config_of(made: Export, file: str = "config.yaml") -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(text(made, file))
    by_schema(config, "litellm-schema.json")
    return config


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.usefixtures("proxy")
def test_litellm_sends_requests_where_a_simulation_does(
    folder: Path, tmp_path: Path, policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed")
    planned = scenario(folder, policy)
    plan = ttc.load_plan(saved(folder, planned))
    stand = {name: Endpoint(url=f"http://{name}/v1", model=name, body={}) for name in planned.deployments}
    made = export_plan(plan, "litellm", stand)
    config = config_of(made)
    groups = {one["model_name"]: one["litellm_params"] for one in config["model_list"]}
    router = hook(made, tmp_path, folder / "plan.yaml", monkeypatch)
    records = simulate(planned).records.unique(["problem", "source"], maintain_order=True)
    caps = {"weak": None, "weak@150": 150, "strong": 1000, "strong@500": 500}
    for problem, source, arm in records.select("problem", "source", "arm").iter_rows():
        messages = [{"role": "user", "content": [{"type": "text", "text": PROMPTS[int(problem[1:])]}]}]
        data = {"model": "live", "messages": messages, "metadata": {"source": source}}
        sent = asyncio.run(router.async_pre_call_hook(None, None, copy.deepcopy(data), "acompletion"))
        assert sent == {**data, "model": f"ttc-sim/{arm}"}
        params = groups[sent["model"]]
        assert params.get("max_tokens") == caps[arm]
        assert (params["model"], params["api_base"]) == (
            f"openai/{planned.arms[arm].deployment}",
            f"http://{planned.arms[arm].deployment}/v1",
        )
        asked = asyncio.run(router.async_pre_call_hook(None, None, {**data, "max_tokens": 10**6}, "acompletion"))
        assert asked["max_tokens"] == (caps[arm] or 10**6)
    other = {"model": "gpt-5", "messages": []}
    assert asyncio.run(router.async_pre_call_hook(None, None, dict(other), "acompletion")) == other
    lost = {"model": "live", "messages": [], "metadata": {"requester_metadata": {"source": "nowhere"}}}
    with pytest.raises(Exception, match="'nowhere'") as refused:
        asyncio.run(router.async_pre_call_hook(None, None, lost, "acompletion"))
    assert refused.value.status_code == 400  # type: ignore[attr-defined]


@pytest.mark.usefixtures("proxy")
def test_litellm_routes_by_no_other_plan_than_the_exported_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed")
    made = export_plan(ttc.load_plan(saved(folder, scenario(folder, "Always('weak')"))), "litellm", _ENDPOINTS)
    other = saved(folder, scenario(folder, "Always('weak@150')"))
    with pytest.raises(
        InputError, match=r"plan: got '[0-9a-f]{16}'; expected [0-9a-f]{16}, the plan that was exported"
    ):
        hook(made, tmp_path, other, monkeypatch)


_ENDPOINTS = {name: Endpoint(url=f"http://{name}/v1", model=name, body={}) for name in ("cheap", "dear")}


def test_litellm_keeps_callers_limits_and_those_of_fallbacks(folder: Path) -> None:
    planned = scenario(folder, "Always('weak@150')")
    arms = {
        **planned.arms,
        "weak@150": planned.arms["weak@150"].model_copy(update={"fallback": ["strong@500", "weak"]}),
    }
    plan = saved(folder, planned.model_copy(update={"arms": arms}))
    read = ttc.load_plan(plan)
    stand = {**_ENDPOINTS, "dear": _ENDPOINTS["dear"].model_copy(update={"limit_by": "max_completion_tokens"})}
    made = export_plan(read, "litellm", stand)
    settings = config_of(made)["router_settings"]
    assert settings["fallbacks"] == [{"ttc-sim/weak@150": ["ttc-sim/strong@500", "ttc-sim/weak"]}]
    assert settings["max_fallbacks"] == 2
    named: dict[str, Any] = {}
    constants = re.findall(r"^[A-Z_]+ = .*$", text(made, "ttc_sim_router.py"), re.MULTILINE)
    exec("\n".join(constants), named)
    routing = PlanRouting(
        plan,
        made_of=named["MADE_OF"],
        model="live",
        groups=named["GROUPS"],
        limits=named["LIMITS"],
        fallbacks=named["FALLBACKS"],
    )
    for asked, first, second in ((100, 100, 100), (300, 150, 300), (900, 150, 500)):
        sent = routing.route({"model": "live", "messages": [], "metadata": {"source": "easy"}, "max_tokens": asked})
        assert sent["model"] == "ttc-sim/weak@150"
        assert sent["max_tokens"] == first
        # None takes off the limit of the one before: LiteLLM adds a fallback's keys to what it has sent.
        assert sent["fallbacks"] == [
            {"model": "ttc-sim/strong@500", "max_tokens": None, "max_completion_tokens": second},
            {"model": "ttc-sim/weak", "max_tokens": asked, "max_completion_tokens": None},
        ]
    plain = routing.route({"model": "live", "messages": [], "metadata": {"source": "easy"}})
    assert "fallbacks" not in plain, "the groups have their own"


def test_limits_that_litellm_does_not_have_are_told(tmp_path: Path) -> None:
    plan = one_arm(tmp_path, "anthropic", "claude-sonnet-4-0", FORCED, output_limit_tokens=9000)
    api = plan.scenario.deployments["api"]
    more = {"input_tokens_per_minute": 2e6, "output_tokens_per_minute": 400_000.5, "limit_window_s": 10}
    limited = type(api).model_validate({**api.model_dump(), **more})
    scenario = plan.scenario.model_copy(update={"deployments": {"api": limited}})
    made = export_plan(SavedPlan(scenario, {}, "met"), "litellm")
    assert any("input_tokens_per_minute 2,000,000" in line for line in made.not_expressed)
    assert any("output_tokens_per_minute 400,000.5" in line for line in made.not_expressed)
    assert any("over a minute, not 10 s" in line for line in made.not_expressed)


def test_litellm_tells_retries_limits_and_thinking(tmp_path: Path) -> None:
    plan = one_arm(tmp_path, "anthropic", "claude-sonnet-4-0", FORCED, output_limit_tokens=9000)
    api = plan.scenario.deployments["api"]
    more = {
        "retry": {"retries": 3, "on": ["rate_limit"]},
        "requests_per_minute": 0.5,
        "tokens_per_minute": 1e6,
        "concurrency": 4,
        "timeout_s": 30,
    }
    limited = type(api).model_validate({**api.model_dump(), **more})
    made = export_plan(
        SavedPlan(plan.scenario.model_copy(update={"deployments": {"api": limited}}), {}, "met"), "litellm"
    )
    config = config_of(made)
    (_, entry) = config["model_list"]
    assert entry["litellm_params"] == {
        "model": "anthropic/claude-sonnet-4-0",
        "api_key": "os.environ/ANTHROPIC_API_KEY",
        "max_tokens": 9000,
        "thinking": {"type": "enabled", "budget_tokens": 3000},
        "timeout": 30.0,
        "rpm": 1,
        "tpm": 1_000_000,
        "max_parallel_requests": 4,
        "num_retries": 0,
    }
    policy = config["router_settings"]["model_group_retry_policy"]["ttc-sim/arm"]
    assert policy["RateLimitErrorRetries"] == 3
    assert not any(times for name, times in policy.items() if name != "RateLimitErrorRetries")
    said = "\n".join(made.not_expressed)
    assert "a limit of 0.5 a minute, which is taken as 1" in said
    assert "30 s from the beginning of each attempt" in said


def test_of_a_cascade_the_last_stage_is_asked_and_that_is_said(folder: Path) -> None:
    plan = everything(folder)
    raw = plan.scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    raw["arms"]["cascade"]["strategy"] = "Cascade(stages=['short', 'effort'], tpr=0.9, fpr=0.1)"
    other = SavedPlan(scenario_from_dict(raw, plan.scenario.path), {}, "met")
    for one, model, most in ((plan, "anthropic/claude-sonnet-4-0", 2003), (other, "openai/gpt-5", 6007)):
        made = export_plan(one, "litellm", stands(one))
        groups = {entry["model_name"]: entry["litellm_params"] for entry in config_of(made)["model_list"]}
        assert (groups["ttc-sim/cascade"]["model"], groups["ttc-sim/cascade"]["max_tokens"]) == (model, most)
        assert "arm cascade: its last stage alone is asked" in made.not_expressed
        assert "arm vote: one of its 9 attempts is made" in made.not_expressed
        assert groups["ttc-sim/forced"]["thinking"] == {"type": "enabled", "budget_tokens": 5003}
        assert not any("5,003" in line for line in made.not_expressed)


def test_tiers_are_an_alternative_that_says_what_it_is(folder: Path) -> None:
    bands = "Banded(edges=[0.2, 0.5], arms=['weak@150', 'weak', 'strong@500'])"
    made = export_plan(ttc.load_plan(saved(folder, scenario(folder, bands))), "litellm", _ENDPOINTS)
    first = config_of(made, "config-tiers.yaml")["model_list"][0]
    assert first["litellm_params"]["complexity_router_config"]["tiers"] == {
        "SIMPLE": "ttc-sim/weak@150",
        "MEDIUM": "ttc-sim/weak@150",
        "COMPLEX": "ttc-sim/weak",
        "REASONING": "ttc-sim/strong@500",
    }
    assert any("not as planned" in line for line in made.how)
    for policy in ({"easy": bands, "hard": "Always('weak')"}, "Always('weak')", POLICIES[1]):
        plan = ttc.load_plan(saved(folder, scenario(folder, policy)))
        assert set(export_plan(plan, "litellm", _ENDPOINTS).files) == {"config.yaml", "ttc_sim_router.py"}


def test_the_proxy_starts_on_it_and_sends_requests(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip(
        "litellm.proxy.proxy_cli", reason="litellm is not installed; its source's keys are checked instead"
    )
    bodies: list[dict[str, Any]] = []

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            message = {"role": "assistant", "content": "yes"}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": choices}
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    planned = scenario(folder, POLICIES[-1])
    plan = saved(folder, planned)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"
    stand = {name: Endpoint(url=url, model=name, body={}) for name in planned.deployments}
    for name, content in export_plan(ttc.load_plan(plan), "litellm", stand).files.items():
        (tmp_path / name).write_text(str(content), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["-m", "litellm.proxy.proxy_cli", "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    started_proxy = subprocess.Popen([sys.executable, *words], cwd=tmp_path, env={**os.environ, "TTC_PLAN": str(plan)})
    runtime = runtime_of(plan)
    try:
        for source, prompt in itertools.product(("easy", "hard"), PROMPTS[:6]):
            asked = {"model": "live", "messages": [{"role": "user", "content": prompt}], "metadata": {"source": source}}
            request = Request(f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(asked).encode())
            request.add_header("content-type", "application/json")
            for _ in range(120):
                with contextlib.suppress(ConnectionRefusedError, URLError):
                    assert json.load(urlopen(request, timeout=20))["choices"][0]["message"]["content"] == "yes"
                    break
                assert started_proxy.poll() is None
                time.sleep(0.5)
            decision = runtime.route(prompt, source)
            assert bodies[-1]["model"] == decision.deployment
            assert bodies[-1].get("max_tokens") == decision.max_tokens
    finally:
        started_proxy.terminate()
        started_proxy.wait(20)
        server.shutdown()
        server.server_close()


def test_text_of_requests() -> None:
    parts = [{"type": "text", "text": "b"}, {"type": "image_url", "image_url": {}}, {"type": "text", "text": "c"}]
    assert text_of({"messages": [{"content": "a"}, {"content": parts}, {"content": None}, "x"]}) == "a\nb\nc\n"
    assert text_of({"prompt": "p"}) == "p"
    assert text_of({"prompt": ["p", "q"]}) == "p\nq"
    assert text_of({}) == ""


# ---------------------------------------------------------------------------------------------------- semantic router


def picked(config: Mapping[str, Any], metadata: Mapping[str, str], tokens: int) -> str | None:
    """The model that the router picks: of the decisions whose conditions all hold, that of the highest priority."""
    signals = config["routing"]["signals"]
    held = {
        ("metadata", one["name"])
        for one in signals.get("metadata", [])
        if metadata.get(one["key"]) == one["predicate"]["equals"]
    } | {
        ("context", one["name"])
        for one in signals.get("context", [])
        if int(one.get("min_tokens", 0)) <= tokens <= int(one.get("max_tokens", 10**12))
    }
    fit = [
        one
        for one in config["routing"]["decisions"]
        if all((part["type"], part["name"]) in held for part in one["rules"]["conditions"])
    ]
    best = max(fit, key=lambda one: one["priority"], default=None)
    return None if best is None else str(best["modelRefs"][0]["model"])


def routed(made: Export) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(text(made, "config.yaml"))
    by_schema(config, "semantic-router-schema.json")
    return config


@pytest.mark.parametrize("policy", POLICIES)
def test_the_semantic_router_sends_requests_where_a_simulation_does(folder: Path, policy: Any) -> None:
    planned = scenario(folder, policy)
    plan = saved(folder, planned)
    made = export_plan(ttc.load_plan(plan), "semantic-router", _ENDPOINTS)
    config, runtime = routed(made), runtime_of(plan)
    records = simulate(planned).records.unique(["problem", "source"], maintain_order=True)
    for problem, source, arm in records.select("problem", "source", "arm").iter_rows():
        metadata = {"ttc_source": source, "ttc_arm": runtime.route(PROMPTS[int(problem[1:])], source).arm}
        assert picked(config, metadata, 10) == arm
    said = "\n".join((*made.not_expressed, *made.how))
    assert ("metadata.ttc_arm" in said) == (policy != "Always('weak@150')")


@pytest.mark.parametrize("edges", [[20.0, 30.5], [0.5, 21], [-3, 0.0, 25.0], [1e-9, 0.5], [21, 21.4, 22]])
def test_the_semantic_router_tells_prompts_by_their_length(folder: Path, edges: list[float]) -> None:
    names = ["weak@150", "weak", "strong@500", "weak@150"][: len(edges) + 1]
    policy = f"Banded(edges={edges}, arms={names}, score='prompt_tokens')"
    planned = scenario(folder, policy)
    made = export_plan(ttc.load_plan(saved(folder, planned)), "semantic-router", _ENDPOINTS)
    config, chosen = routed(made), planned.parsed_policy()
    assert chosen is not None
    for tokens in range(60):
        request = Requests(np.zeros(1), np.zeros(1, dtype=np.int64), ("easy",), np.array([tokens]), {})
        arm = list(planned.arms)[choose_arms(chosen, request, list(planned.arms))[0]]
        assert picked(config, {"ttc_source": "easy"}, tokens) == arm
    assert picked(config, {}, 10) is None, "a request without its source is turned away"


def test_the_semantic_routers_own_parser_takes_it(folder: Path, tmp_path: Path) -> None:
    parser = pytest.importorskip("cli.parser", reason="vllm-sr is not installed")
    validator = pytest.importorskip("cli.validator")
    for number, plan in enumerate((everything(folder), odd_names(folder))):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text(export_plan(plan, "semantic-router", stands(plan)), "config.yaml"), encoding="utf-8")
        assert validator.validate_user_config(parser.parse_user_config(str(file), log_summary=False)) == []


# ------------------------------------------------------------------------------------------------- nothing is dropped


def everything(folder: Path) -> SavedPlan:
    """One of each thing that a plan may ask for, with numbers that stand nowhere else."""
    prices = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}

    def api(provider: str, model: str, **more: Any) -> dict[str, Any]:
        return {"kind": "api", "price": {"provider": provider, "model": model, **prices}, **TIMES, **more}

    pool = {
        "kind": "gpu_pool",
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "gpu": "h100_sxm",
        "replicas": 3,
        "max_num_seqs": 113,
        "speculative": {"draft_tokens": 3, "acceptance_length": 2.29, "draft_s": 0.001},
        "max_num_batched_tokens": 3011,
        "queue_limit": 57,
        "scheduling": "priority",
        "timeout_s": 211,
    }
    starts = {"seconds": 60.0}
    scaled = {"minimum": 2, "maximum": 7, "target_concurrency": 31}
    for name, more in (("thinks", {"effort": "high"}), ("plain", {"reasoning": "none"})):
        (folder / name).mkdir(exist_ok=True)
        card = {**CARD, "model": name, "reasoning": "recorded", "output_limit_tokens": 40_123, **more}
        (folder / name / "profile.yaml").write_text(yaml.safe_dump(card))
    raw = {
        "name": "everything",
        "workload": {
            "arrivals": {"process": "even", "rate_per_s": 1.0},
            "requests": 5,
            "sources": {
                "scored": {"problem_set": "set"},
                "lengthy": {"problem_set": "set", "priority": 2},
                "busy": {"problem_set": "set"},
            },
        },
        "deployments": {
            "openai": api(
                "openai",
                "gpt-5",
                requests_per_minute=1013,
                tokens_per_minute=70_001,
                concurrency=29,
                retry={"retries": 5, "base_s": 1.5, "max_s": 17.0, "on": ["timeout", "error", "rate_limit"]},
                timeout_s=73,
                deadline_s=401,
            ),
            "anthropic": api("anthropic", "claude-sonnet-4-0", cache={"provider": "anthropic"}),
            "google": api("google", "gemini-2.5-pro"),
            "pool": pool,
            "scaled": {**pool, "autoscaling": scaled, "start_up": starts, "load_balancer": "session"},
            "judge": api("openai", "gpt-5-mini"),
        },
        "arms": {
            "short": {"profile": "plain", "deployment": "pool", "strategy": "Single(cap=127)", "fallback": "effort"},
            "effort": {"profile": "thinks", "deployment": "openai", "strategy": "Single(cap=6007)"},
            "forced": {
                "profile": "plain",
                "deployment": "anthropic",
                "strategy": "Single(cap=5003, on_cap='force_answer')",
            },
            "s1": {
                "profile": "plain",
                "deployment": "google",
                "strategy": "BudgetForcing(1500, cap=4001, extensions=2)",
            },
            "vote": {
                "profile": "plain",
                "deployment": "scaled",
                "strategy": "MajorityVote(n=9, cap=211, stop_early=True)",
            },
            "best": {
                "profile": "plain",
                "deployment": "scaled",
                "strategy": "BestOfN(n=6, auroc=0.8, verifier='judge')",
            },
            "cascade": {
                "profile": "plain",
                "deployment": "anthropic",
                "strategy": "Cascade(stages=['short', Single(cap=2003)], tpr=0.9, fpr=0.1, judge='judge')",
            },
        },
        "policy": {
            "scored": "Banded(edges=[0.237, 0.613], arms=['vote', 'best', 'cascade'])",
            "lengthy": "Threshold(at=433, below='forced', above='s1', score='prompt_tokens')",
            "busy": "Overflow(arms=['short', 'effort'], waiting=19)",
        },
        "search": {
            "tiers": {
                "openai": [
                    {"name": "tier 4", "requests_per_minute": 1013, "tokens_per_minute": 70_001, "concurrency": 29},
                    {"name": "tier 5", "requests_per_minute": 9000, "tokens_per_minute": 90_000, "concurrency": 90},
                ]
            }
        },
        "budget": {
            "usd_per_day": 53.0,
            "at_end": "degrade",
            "to": "short",
            "sources": {"busy": {"usd_per_day": 37, "at_end": "refuse"}},
        },
    }
    return SavedPlan(scenario_from_dict(raw, str(folder / "scenario.yaml")), {}, "met")


def odd_names(folder: Path) -> SavedPlan:
    """Names that YAML, JSON, Python and model names would take for something else."""
    raw = everything(folder).scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    raw["name"] = ODD[1]
    raw["deployments"] = dict.fromkeys(ODD, raw["deployments"]["openai"])
    raw["search"] = {}
    raw.pop("budget")
    raw["arms"] = {
        name: {"profile": "thinks", "deployment": name, "strategy": f"Single(cap={k + 1})"}
        for k, name in enumerate(ODD)
    }
    raw["workload"]["sources"] = {name: {"problem_set": "set"} for name in ODD}
    raw["policy"] = {name: f"Banded(edges=[0.5], arms={[name, ODD[0]]!r})" for name in ODD}
    return SavedPlan(scenario_from_dict(raw, str(folder / "scenario.yaml")), {}, "met")


def stands(plan: SavedPlan) -> dict[str, Endpoint]:
    return (
        {"judge": Endpoint(url="http://judge/v1", model="judge", body={})}
        if "judge" in plan.scenario.deployments
        else {}
    )


EVIDENCE: dict[Kind, tuple[str, ...]] = {
    "sources": ("scored", "PlanRouting"),
    "score": ("0.237", "PlanRouting", "predictor"),
    "prompt length": ("433", "432", "PlanRouting"),
    "cap": ("{number}", "{grouped}"),
    "effort": ("high",),
    "vote": ("MajorityVote",),
    "best of n": ("BestOfN",),
    "cascade": ("Cascade",),
    "forced answer": ("{number}",),
    "fallback": ("ttc-sim/effort", "fallback"),
    "timeout": ("{number}",),
    "retry": ("RateLimitErrorRetries: 5",),
    "rate limit": ("1013",),
    "concurrency": ("max_parallel_requests: 29",),
    "server": ("Llama-3.1-8B-Instruct",),
    "replicas": ("replicas: 3", "minReplicaCount", "data-parallel"),
    "autoscaling": ("31",),
    "batch limits": ("113",),
    "queue limit": ("170",),  # of a pool whose batch holds 113
    "priority": ("priority",),
    "load balancer": ("Service", "upstream", "least"),
    "sessions": ("sessionAffinity", "ClientIP"),
}
"""What stands in the files where a kind of thing is expressed."""


def evidence(one: Feature, written: str) -> bool:
    """Whether what the feature asks for stands in the files."""
    numbers = [part.replace(",", "") for part in re.findall(r"\d[\d,.]*", one.said)] or [""]
    told = EVIDENCE.get(one.kind, ())
    return any(part.format(number=numbers[0], grouped=f"{numbers[0]}") in written for part in told)


def test_there_is_one_of_each_kind(folder: Path) -> None:
    kinds = {one.kind for one in features_of(everything(folder))}
    # Of the last a pool that speculates has none.
    others = {"utility", "own policy", "own strategy", "effort not known", "session policy", "prefill apart"}
    assert kinds == set(get_args(Kind)) - others


@pytest.mark.parametrize("to", TARGETS)
def test_what_a_consumer_cannot_do_is_listed_never_dropped(folder: Path, to: str) -> None:
    plan = everything(folder)
    made = export_plan(plan, to, stands(plan))
    assert made.how
    written = "\n".join(content if isinstance(content, str) else "predictor" for content in made.files.values())
    dropped = [
        one.line for one in features_of(plan) if one.line not in made.not_expressed and not evidence(one, written)
    ]
    assert dropped == []
    assert len(set(made.not_expressed)) == len(made.not_expressed)


@pytest.mark.parametrize("to", TARGETS)
def test_python_of_ones_own_is_named_and_listed(folder: Path, to: str) -> None:
    """Neither run nor written: an exported file that holds more of it than its name is no file of that kind."""
    (folder / "own.py").write_text(
        "def mine(trial):\n    raise SystemExit\n\n\ndef choose(request):\n    raise SystemExit\n"
    )
    plan = everything(folder)
    raw = plan.scenario.model_dump(mode="json", exclude={"path"}, exclude_none=True)
    raw["arms"]["vote"]["strategy"] = "own.py:mine"
    made = export_plan(SavedPlan(scenario_from_dict(raw, plan.scenario.path), {}, "met"), to, stands(plan))
    assert "arm vote: own.py:mine is Python of your own" in made.not_expressed
    for name, content in made.files.items():
        if name.endswith(".py"):
            exec(compile(content, name, "exec"), {"__name__": "exported"}) if to == "python" else compile(
                content, name, "exec"
            )
        assert str(folder) not in str(content)
    raw["policy"]["busy"] = "own.py:choose"
    chosen = SavedPlan(scenario_from_dict(raw, plan.scenario.path), {}, "met")
    if to in ("python", "typescript", "onnx"):
        with pytest.raises(InputError, match=r"own\.py"):
            export_plan(chosen, to, stands(plan))
        return
    listed = export_plan(chosen, to, stands(plan)).not_expressed
    assert "source busy: arms are chosen by own.py:choose, which is Python of your own" in listed


def test_odd_names_are_no_more_than_names(folder: Path) -> None:
    plan = odd_names(folder)
    made = {to: export_plan(plan, to) for to in ("openai", "litellm", "semantic-router")}
    assert list(json.loads(text(made["openai"], "arms.json"))["arms"]) == ODD
    config = config_of(made["litellm"])
    constants: dict[str, Any] = {}
    exec("\n".join(re.findall(r"^[A-Z_]+ = .*$", text(made["litellm"], "ttc_sim_router.py"), re.MULTILINE)), constants)
    groups = constants["GROUPS"]
    assert list(groups) == ODD
    assert len(set(groups.values())) == len(ODD)
    by_group = {one["model_name"]: one["litellm_params"] for one in config["model_list"]}
    assert set(by_group) == {constants["MODEL"], *groups.values()}
    assert [by_group[groups[name]]["max_tokens"] for name in ODD] == [1, 2, 3, 4, 5]
    router = routed(made["semantic-router"])
    names = [picked(router, {"ttc_source": name, "ttc_arm": name}, 1) for name in ODD]
    assert len(set(names)) == len(ODD)
    assert None not in names


@pytest.mark.parametrize(("name", "every"), [("qa-gateway", 60), ("competition-maths", 8)])
def test_shipped_problems_go_where_the_runtime_sends_them(shared: Path, tmp_path: Path, name: str, every: int) -> None:
    """Which is where simulation and validation send them: test_runtime.py."""
    planned = load_scenario(name)
    plan = saved_plan(tmp_path / "plan.yaml", planned.model_copy(update={"path": str(tmp_path / "scenario.yaml")}))
    read, runtime = ttc.load_plan(plan), runtime_of(plan)
    stand = {one: Endpoint(url="http://localhost:9/v1", model=one, body={}) for one in planned.deployments}
    hook, named = export_plan(read, "litellm", stand), dict[str, Any]()
    exec("\n".join(re.findall(r"^[A-Z_]+ = .*$", text(hook, "ttc_sim_router.py"), re.MULTILINE)), named)
    options = {key.lower(): named[key] for key in ("MADE_OF", "GROUPS", "LIMITS", "FALLBACKS")}
    routing, router = PlanRouting(plan, model=name, **options), routed(export_plan(read, "semantic-router", stand))
    problem_set = str(next(iter(planned.workload.sources.values())).problem_set)
    prompts = shipped_problems(shared, problem_set, every)[0]["prompt"].to_list()
    arms = []
    for prompt in prompts:
        for source in runtime.sources:
            decision = runtime.route(prompt, source)
            body = {"model": name, "messages": [{"role": "user", "content": prompt}], "metadata": {"source": source}}
            assert routing.route(body)["model"] == named["GROUPS"][decision.arm]
            said = {"ttc_source": source, "ttc_arm": decision.arm}
            assert picked(router, said, decision.prompt_tokens) == decision.arm
            arms.append(decision.arm)
    assert len(arms) > 40
    assert len(set(arms)) > 1
