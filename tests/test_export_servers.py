"""Servers of a plan's GPU pools: what vLLM and Kubernetes are told, by their own names and schemas."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ttc_sim.base.errors import InputError
from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports import Export, export_plan
from ttc_sim.deploying.exports.labels import labels_of
from ttc_sim.optimizer.plan import SavedPlan
from ttc_sim.scenario import load_scenario, scenario_from_dict

jsonschema = pytest.importorskip("jsonschema")

HERE = Path(__file__).parent / "exports"
ARGUMENTS = json.loads((HERE / "vllm-arguments.json").read_text())
SCHEMA = json.loads((HERE / "kubernetes-schema.json").read_text())
STEP = {"base_s": 0.01, "per_prefill_token_s": 1e-5, "per_sequence_s": 1e-4, "per_kv_token_s": 1e-8}
POOL: dict[str, Any] = {"kind": "gpu_pool", "replicas": 2, "usd_per_replica_hour": 3.0}
RAW: dict[str, Any] = {**POOL, "step_time": STEP}
KNOWN: dict[str, Any] = {**POOL, "model": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "h100_sxm"}
API = {
    "kind": "api",
    "first_token": {"median_s": 0.5},
    "per_token": {"median_s": 0.01},
    "price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0},
}
ODD = 'it\'s $(touch /tmp/x) "ünï"\n- a: b'


def plan_of(*pools: dict[str, Any] | tuple[str, dict[str, Any]], **changes: Any) -> SavedPlan:
    """A plan with an arm on each pool, all of which requests may come to."""
    named = dict(one if isinstance(one, tuple) else (f"pool-{k}", one) for k, one in enumerate(pools))
    arms = {name: {"profile": "x", "deployment": name} for name in named}
    path = list(arms)
    if len(path) > 1:
        arms[path[0]]["fallback"] = path[1:]  # type: ignore[assignment]
    raw = {
        "name": "odd",
        "workload": {
            "arrivals": {"process": "even", "rate_per_s": 5.0},
            "requests": 300,
            "sources": {"all": {"problem_set": "set"}},
        },
        "deployments": named,
        "arms": arms,
        "policy": f"Always({path[0]!r})",
        **changes,
    }
    return SavedPlan(scenario_from_dict(raw), {}, "met")


def words_of(settings: str) -> list[str]:
    """Arguments of a file of settings, as vLLM 0.19's ``load_config_file`` makes them: of truth values only ``true`` counts."""
    words = []
    for name, value in yaml.safe_load(settings).items():
        if isinstance(value, bool):
            words += [f"--{name}"] if value else []
        else:
            words += [f"--{name}", str(value)]
    return words


def script_words(script: str) -> list[str]:
    """What a shell makes of the command."""
    command = script[script.index("exec ") :].replace("exec vllm", "printf '%s\\0'")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    return done.stdout.split("\0")[:-1]


def told(made: Export, label: str) -> dict[str, Any]:
    """Arguments by name, checked to be vLLM's and the same in both files; a flag is ``True``."""
    script, settings = made.files[f"{label}.sh"], made.files[f"{label}.yaml"]
    assert isinstance(script, str)
    assert isinstance(settings, str)
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
    serve, model, *words = script_words(script)
    assert serve == "serve"
    assert words_of(settings) == ["--model", model, *words]
    found: dict[str, Any] = {"model": model}
    name = ""
    for word in words:
        if word.startswith("--"):
            name = word[2:]
            found[name] = True
        else:
            found[name] = word
    for name, value in found.items():
        plain = name.removeprefix("no-")
        assert plain in ARGUMENTS["both"] or name in ("model", "max-num-queued-reqs"), name
        assert (value is True) == (plain in ARGUMENTS["flags"]), name
        assert value in ARGUMENTS["values in 0.33.0"].get(name, [value]), name
    assert "max-num-queued-reqs" in ARGUMENTS["0.33.0 alone"]
    return found


def test_a_pool_of_the_catalogue_is_served_as_it_was_planned() -> None:
    limits = {"max_num_seqs": 96, "max_num_batched_tokens": 4096, "prefix_caching": False, "scheduling": "priority"}
    pool = {**KNOWN, **limits, "tensor_parallel": 2, "precision": "bf16", "queue_limit": 40}
    made = export_plan(plan_of(pool), "vllm")
    assert told(made, "pool-0") == {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "port": "8000",
        "tensor-parallel-size": "2",
        "dtype": "bfloat16",
        "max-num-seqs": "96",
        "max-num-batched-tokens": "4096",
        "gpu-memory-utilization": "0.9",
        "no-enable-prefix-caching": True,
        "scheduling-policy": "priority",
        "max-num-queued-reqs": "136",
    }
    assert any("0.33.0" in line for line in made.how)
    assert any("2 replicas" in line for line in made.not_expressed)


def test_a_replica_of_several_ranks_is_one_server() -> None:
    pool = {**KNOWN, "tensor_parallel": 2, "data_parallel": 2, "max_num_seqs": 96, "queue_limit": 4}
    found = told(export_plan(plan_of(pool), "vllm"), "pool-0")
    names = ("tensor-parallel-size", "data-parallel-size", "max-num-seqs", "max-num-queued-reqs")
    assert [found[name] for name in names] == ["2", "2", "96", "200"]
    made = export_plan(plan_of(pool), "kubernetes").files["pool-0.yaml"]
    assert isinstance(made, str)
    assert "nvidia.com/gpu: 4" in made


def test_a_replica_of_several_machines_is_said_to_be_one() -> None:
    made = export_plan(plan_of({**KNOWN, "tensor_parallel": 16, "expert_parallel": True}), "vllm")
    assert told(made, "pool-0")["enable-expert-parallel"] is True
    assert any("a replica of 16 GPUs takes more than one machine" in line for line in made.not_expressed)


def test_a_plan_that_holds_what_fits_is_told_apart_from_one_that_says_how_much() -> None:
    from ttc_sim.serving.pools import with_memory

    scenario = with_memory(plan_of(KNOWN).scenario)
    fits = scenario.deployments["pool-0"].kv_cache_tokens  # type: ignore[union-attr]
    assert fits is not None
    made = told(export_plan(SavedPlan(scenario, {}, "met"), "vllm"), "pool-0")
    assert made["gpu-memory-utilization"] == "0.9"
    assert "num-gpu-blocks-override" not in made
    less = told(export_plan(plan_of({**KNOWN, "kv_cache_tokens": 100_007}), "vllm"), "pool-0")
    assert (less["block-size"], less["num-gpu-blocks-override"]) == ("16", "6250")
    assert "gpu-memory-utilization" not in less


@pytest.mark.parametrize(
    ("model", "precision", "expected", "line"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "bf16", {"dtype": "bfloat16"}, None),
        ("meta-llama/Llama-3.1-8B-Instruct", None, {}, None),
        ("meta-llama/Llama-3.1-8B-Instruct", "int4", {}, "must be a checkpoint whose weights are in int4"),
        ("meta-llama/Llama-3.1-8B-Instruct", "fp8", {}, "--quantization fp8_per_tensor makes them of others"),
        ("Qwen/Qwen2.5-14B-Instruct", "fp8", {"quantization": "fp8_per_tensor"}, None),
        ("Qwen/Qwen2.5-14B-Instruct", "int4", {}, "weights in int4 are those of another checkpoint"),
        ("deepseek-ai/DeepSeek-V3", "fp8", {}, None),
        ("deepseek-ai/DeepSeek-V3", "bf16", {}, "weights in bf16 are those of another checkpoint"),
    ],
)
def test_weights_are_those_of_the_checkpoint_or_made_so(
    model: str, precision: str | None, expected: dict[str, str], line: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What fits beside weights that nobody has is not looked up.
    monkeypatch.setattr("ttc_sim.deploying.exports.servers._fits", lambda *_: None)
    size = {"gpu": "h200_sxm", "tensor_parallel": 8} if "DeepSeek" in model else {}
    given = {**KNOWN, "model": model, "kv_cache_tokens": 16_000, **size}
    made = export_plan(plan_of(given if precision is None else {**given, "precision": precision}), "vllm")
    arguments = told(made, "pool-0")
    assert {name: arguments[name] for name in ("dtype", "quantization") if name in arguments} == expected
    said = [one for one in made.not_expressed if "checkpoint" in one]
    assert (said == []) if line is None else (line in said[0])


def test_what_a_step_time_does_not_say_is_a_placeholder_that_is_listed_or_comes_from_endpoints() -> None:
    plan = plan_of((ODD, RAW), ("pool-1", {**RAW, "replicas": 1}))
    label = labels_of([ODD])[ODD]
    made = export_plan(plan, "vllm")
    assert told(made, label)["model"] == f"MODEL-OF-{label}"
    assert told(made, "pool-1")["port"] == "8001"
    said = "\n".join(made.not_expressed)
    for part in ("names no model", "on how many GPUs", "KV cache without limit"):
        assert f"deployment {ODD}: " in said
        assert part in said
    served = Endpoint(url="http://gpu.example:8000/v1", model='it\'s $(a) "b"', key_env="POOL_KEY", body={})
    made = export_plan(plan, "vllm", {"pool-1": served})
    assert told(made, "pool-1")["model"] == served.model
    assert (told(made, "pool-1")["port"], told(made, label)["port"]) == ("8000", "8001")
    assert 'VLLM_API_KEY="${POOL_KEY:?' in str(made.files["pool-1.sh"])
    assert any("is taken to be what it loads" in line for line in made.not_expressed)
    alias = export_plan(plan_of(KNOWN), "vllm", {"pool-0": Endpoint(url="http://x/v1", model="chat", body={})})
    assert told(alias, "pool-0")["served-model-name"] == "chat"
    with pytest.raises(InputError, match=r"deployments\.pool-1\.model: got '--x'; expected a name that does not begin"):
        export_plan(plan, "vllm", {"pool-1": Endpoint(url="http://x/v1", model="--x", body={})})


def manifests(made: Export) -> dict[tuple[str, str], dict[str, Any]]:
    """By kind and name, each checked against its schema."""
    found = {}
    kustomization = yaml.safe_load(str(made.files["kustomization.yaml"]))
    assert sorted(kustomization["resources"]) == sorted(set(made.files) - {"kustomization.yaml"})
    for file in kustomization["resources"]:
        text = str(made.files[file])
        assert "&id" not in text
        for one in yaml.safe_load_all(text):
            jsonschema.validate(one, {"$defs": SCHEMA["$defs"], **SCHEMA["kinds"][one["kind"]]})
            found[one["kind"], one["metadata"]["name"]] = one
    return found


def test_manifests_hold_their_schemas_and_run_what_vllm_is_told() -> None:
    pool = {
        **KNOWN,
        "tensor_parallel": 2,
        "timeout_s": 90.5,
        "start_up": {"seconds": 1200},
        "failures": {"mtbf_h": 9, "mttr_h": 1},
    }
    plan = plan_of(pool, (ODD, RAW))
    endpoints = {ODD: Endpoint(url="http://x/v1", model="m $(HOME) $$", key_env="KEY", body={})}
    made, label = export_plan(plan, "kubernetes", endpoints), labels_of([ODD])[ODD]
    found = manifests(made)
    deployment = found["Deployment", "pool-0"]["spec"]
    container = deployment["template"]["spec"]["containers"][0]
    serve, *words = script_words(str(export_plan(plan, "vllm", endpoints).files["pool-0.sh"]))
    assert container["command"] == ["vllm", serve]
    assert container["args"] == [*words, "--shutdown-timeout", "91"]
    assert deployment["replicas"] == 2
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 2}
    # A replica may finish what it has, and is not killed while it starts.
    assert deployment["template"]["spec"]["terminationGracePeriodSeconds"] > 91
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 2400
    assert container["readinessProbe"]["httpGet"] == {"path": "/health", "port": "http"}
    odd = found["Deployment", label]
    # As Kubernetes expands it, which reads $$ as a dollar.
    args = odd["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[0] == "m $$(HOME) $$$$"
    assert odd["metadata"]["annotations"]["ttc-sim-deployment"] == ODD
    assert ("ScaledObject", "pool-0") not in found
    for name in ("pool-0", label):
        selector = found["Deployment", name]["spec"]["selector"]["matchLabels"]
        assert found["Service", name]["spec"]["selector"] == selector
        assert found["PodDisruptionBudget", name]["spec"]["selector"]["matchLabels"] == selector
        assert found["Deployment", name]["spec"]["template"]["metadata"]["labels"] == selector
    assert any("vllm-api-keys" in line for line in made.how)
    said = "\n".join(made.not_expressed)
    assert "replicas are chosen by least_outstanding" in said
    assert "nodeSelector" in said
    assert "pool-0: 2 replicas" not in said


def scaled(rule: dict[str, Any], **pool: Any) -> tuple[dict[str, Any], str]:
    """Specification of an autoscaler, and what is not expressed."""
    given = {**KNOWN, "start_up": {"seconds": 60}, "autoscaling": rule, **pool}
    made = export_plan(plan_of(given), "kubernetes")
    found = manifests(made)
    assert "replicas" not in found["Deployment", "pool-0"]["spec"]
    spec = found["ScaledObject", "pool-0"]["spec"]
    assert spec["scaleTargetRef"]["name"] == "pool-0"
    assert any("KEDA" in line for line in made.how)
    return spec, "\n".join(made.not_expressed)


PODS = 'pod=~"pool-0-[a-z0-9]+-[a-z0-9]+"'


def test_a_target_is_kedas_with_its_window_and_what_holds_changes_back() -> None:
    rule = {
        "minimum": 1,
        "maximum": 8,
        "target_concurrency": 12,
        "window_s": 120,
        "tolerance": 0.05,
        "scale_up": {"step": 4},
        "scale_down": {"stabilisation_s": 600, "cooldown_s": 60, "step": 1},
    }
    spec, said = scaled(rule)
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 8)
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "prometheus"
    assert trigger["metricType"] == "AverageValue"
    assert trigger["metadata"]["threshold"] == "12"
    running, waiting = (
        f"sum(avg_over_time(vllm:num_requests_{name}{{{PODS}}}[120s]))" for name in ("running", "waiting")
    )
    assert trigger["metadata"]["query"] == f"{running} + {waiting}"
    behaviour = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behaviour["scaleUp"] == {
        "stabilizationWindowSeconds": 0,
        "policies": [{"type": "Pods", "value": 4, "periodSeconds": 15}],
        "tolerance": "0.05",
    }
    assert behaviour["scaleDown"]["stabilizationWindowSeconds"] == 600
    assert behaviour["scaleDown"]["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]
    assert "cooldown down of 60 s" in said
    assert "HPAConfigurableTolerance" in said
    assert "it starts with 1 replica, not 2" in said


@pytest.mark.parametrize(
    ("rule", "threshold", "kind", "parts"),
    [
        ({"target_queue": 2.5}, "2.5", "AverageValue", ["num_requests_waiting"]),
        ({"target_utilisation": 0.75}, "48", "AverageValue", ["num_requests_running"]),
        ({"target_ttft_s": 1.5}, "1500", "Value", ["histogram_quantile(0.95,", ") >= 0) * 1000 or 0 * (", "== 0)"]),
        ({"target_ttft_s": 2, "percentile": 50}, "2000", "Value", ["histogram_quantile(0.5,"]),
    ],
)
def test_every_target_has_its_metric(rule: dict[str, Any], threshold: str, kind: str, parts: list[str]) -> None:
    spec, _ = scaled({"minimum": 2, "maximum": 5, **rule}, max_num_seqs=64)
    (trigger,) = spec["triggers"]
    assert (trigger["metadata"]["threshold"], trigger["metricType"]) == (threshold, kind)
    # Nothing known is no reason to change anything.
    assert trigger["metadata"]["ignoreNullValues"] == "false"
    for part in parts:
        assert part in trigger["metadata"]["query"]


def test_a_schedule_is_windows_of_the_day_without_gaps() -> None:
    steps = [{"at": "00:00", "replicas": 2}, {"at": "08:30", "replicas": 6}, {"at": "20:00:30", "replicas": 3}]
    spec, said = scaled({"schedule": steps})
    windows = [
        (one["metadata"]["start"], one["metadata"]["end"], one["metadata"]["desiredReplicas"])
        for one in spec["triggers"]
    ]
    assert windows == [
        ("0 0 * * *", "30 8 * * *", "2"),
        ("30 8 * * *", "0 20 * * *", "6"),
        ("0 20 * * *", "0 0 * * *", "3"),
    ]
    assert "the step at 20:00:30 begins with its minute" in said
    assert "Etc/UTC" in said
    for way in spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"].values():
        # A step is taken at once and whole.
        assert way == {"stabilizationWindowSeconds": 0, "policies": [{"type": "Pods", "value": 6, "periodSeconds": 15}]}


def test_what_no_autoscaler_can_do_is_listed_and_the_pool_keeps_its_size() -> None:
    steps = [{"duration_s": 1800, "replicas": 2}, {"duration_s": 600, "replicas": 4}]
    given = {**KNOWN, "start_up": {"seconds": 60}, "autoscaling": {"schedule": steps}}
    made = export_plan(plan_of(given), "kubernetes")
    assert manifests(made)["Deployment", "pool-0"]["spec"]["replicas"] == 2
    assert any("of no clock: 2 replicas stand for all of them" in line for line in made.not_expressed)
    rule = {
        "minimum": 1,
        "maximum": 3,
        "target_queue": 1,
        "every_s": 5,
        "scale_down": {"stabilisation_s": 7200, "cooldown_s": 2000},
    }
    spec, said = scaled(rule)
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert (down["stabilizationWindowSeconds"], down["policies"][0]["periodSeconds"]) == (3600, 1800)
    for part in (
        "a stabilisation of 7200 s is longer",
        "a cooldown of 2000 s is longer",
        "looked at every 5 s",
        "any number of",
    ):
        assert part in said
    alone = {
        **KNOWN,
        "start_up": {"seconds": 60},
        "replicas": 3,
        "autoscaling": {"minimum": 3, "maximum": 3, "target_queue": 1},
    }
    fixed = manifests(export_plan(plan_of(alone), "kubernetes"))
    assert fixed["Deployment", "pool-0"]["spec"]["replicas"] == 3
    assert ("ScaledObject", "pool-0") not in fixed


def test_everything_else_that_a_plan_asks_for_is_listed() -> None:
    api = {**API, "requests_per_minute": 60, "concurrency": 4, "deadline_s": 30}
    pool = {
        **RAW,
        "retry": {"retries": 2},
        "load_balancer": "session",
        "failures": {"mtbf_h": 9, "mttr_h": 1},
        "start_up": {"seconds": 9},
    }
    arms = {
        "voting": {
            "profile": "x",
            "deployment": "pool",
            "strategy": "MajorityVote(n=5, cap=90, on_cap='force_answer')",
        },
        "cascade": {
            "profile": "x",
            "deployment": "pool",
            "strategy": "Cascade(stages=[Single(cap=9), 'voting'], tpr=0.9, fpr=0.1, judge='api')",
        },
    }
    changes = {
        "arms": arms,
        "policy": "Overflow(arms=['voting', 'cascade'], waiting=3)",
        "budget": {"usd_per_day": 20, "at_end": "degrade", "to": "voting"},
        "search": {"tiers": {"api": [{"name": "first", "requests_per_minute": 60}]}},
    }
    plan = plan_of(("pool", pool), ("api", api), **changes)
    for to in ("vllm", "kubernetes"):
        said = "\n".join(export_plan(plan, to).not_expressed)
        for part in (
            "looks at what is on its way",
            "the most frequent answer",
            "the answer is forced",
            "one stage after another",
            "the judge api",
            "at most 60 requests a minute",
            "at most 4 calls at once",
            "to be had from its provider",
            "asked again up to 2 times",
            "US dollars of API calls a day, then requests go to voting",
            "replicas are chosen by session",
        ):
            assert part in said, (to, part)
        assert ("a replica that fails is not started again" in said) == (to == "vllm")


def test_plans_without_pools_are_refused_and_pools_that_nothing_comes_to_are_left_out() -> None:
    for to in ("vllm", "kubernetes"):
        with pytest.raises(InputError, match=rf"deployments: got 'api'; expected .*GPU pool: {to} runs servers"):
            export_plan(plan_of(("api", API)), to)
    arms = {"a": {"profile": "x", "deployment": "used"}, "b": {"profile": "x", "deployment": "idle"}}
    plan = plan_of(("used", KNOWN), ("idle", KNOWN), arms=arms, policy="Always('a')")
    assert set(export_plan(plan, "vllm").files) == {"used.sh", "used.yaml"}


def test_labels_are_short_and_different() -> None:
    names = [
        "kustomization",
        labels_of(["A"])["A"],
        "a",
        "A",
        "a-",
        "9",
        "ü",
        "",
        "x" * 90,
        "x" * 91,
        "own-gpu",
        "x" * 40,
    ]
    labels = labels_of(names)
    assert len(set(labels.values())) == len(names)
    assert all(len(label) <= 40 and label.strip("-") == label and label[0].isalpha() for label in labels.values())
    assert (labels["a"], labels["own-gpu"], labels["x" * 40]) == ("a", "own-gpu", "x" * 40)


def test_shipped_scenarios_pools_are_served() -> None:
    for name in ("qa-gateway", "competition-maths"):
        plan = SavedPlan(load_scenario(name), {}, "met")
        made, files = export_plan(plan, "vllm"), export_plan(plan, "kubernetes")
        assert manifests(files)
        for file in made.files:
            label = file.partition(".")[0]
            arguments = told(made, label)
            pool = plan.scenario.deployments[label]
            assert arguments["model"] == pool.model  # type: ignore[union-attr]
            assert shlex.quote(arguments["model"]) in str(made.files[f"{label}.sh"])
        other = [line.partition(":")[0] for line in made.not_expressed if "attempts were measured on" in line]
        assert other == (["deployment sky-32b-pool"] if name == "competition-maths" else [])
