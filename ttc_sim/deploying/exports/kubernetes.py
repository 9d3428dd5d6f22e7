"""``kubernetes``: manifests for each GPU pool, whose replicas are vLLM's servers, and a ``kustomization.yaml`` of all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports.autoscalers import PROMETHEUS, scaled_object
from ttc_sim.deploying.exports.features import Kind, not_expressed
from ttc_sim.deploying.exports.naming import dumped
from ttc_sim.deploying.exports.servers import VERSION, Server, servers_of
from ttc_sim.deploying.exports.target import Export
from ttc_sim.deploying.exports.vllm import DOES as SERVED
from ttc_sim.deploying.exports.vllm import orders_its_queue
from ttc_sim.optimizer.plan import SavedPlan

DOES: tuple[Kind, ...] = (*SERVED, "replicas", "autoscaling")
IMAGE = f"vllm/vllm-openai:v{VERSION}"
KEY_SECRET = "vllm-api-keys"  # a name
TOKEN_SECRET = "hugging-face"  # a name
_DRAIN_S = 1800
"""That a replica may go on with what it has, where the plan does not say when its clients give up."""
_NOTICED_S = 10
"""Until all senders know that a pod takes no more."""
_STARTS_S = 1800
_PROBED_S = 10


def export(plan: SavedPlan, endpoints: Mapping[str, Endpoint]) -> Export:
    """The manifests.

    Raises:
        InputError: a plan without GPU pools.
    """
    servers = servers_of(plan, endpoints, "kubernetes")
    files: dict[str, str | bytes] = {}
    left = [line for server in servers for line in server.not_expressed]
    for server in servers:
        autoscaler, unsaid = scaled_object(server)
        manifests = [_deployment(server, fixed=autoscaler is None), _service(server), _budget(server)]
        files[f"{server.label}.yaml"] = _written([*manifests, *([] if autoscaler is None else [autoscaler])])
        left += unsaid
        if server.pool.gpu is not None:
            said = (
                f"any node with {server.gpus} GPUs may run it: say which ones have {server.pool.gpu} by a nodeSelector"
            )
            left.append(f"deployment {server.name}: {said}")
    names = [f"{server.label}.yaml" for server in servers]
    kustomization = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": names}
    files["kustomization.yaml"] = _written([kustomization])
    return Export(files, (*not_expressed(plan, DOES, unless=orders_its_queue), *left), tuple(_how(servers)))


def _how(servers: Sequence[Server]) -> Iterator[str]:
    yield "kubectl apply -k FOLDER: every pool, in its current namespace, on nodes with NVIDIA's device plugin"
    for server in servers:
        yield f"deployment {server.name} is reached at http://{server.label}:{server.port}/v1"
    yield f"a secret {TOKEN_SECRET} with a key `token` is used, if there is one, to load models that ask for it"
    for server in servers:
        if server.key_env is not None:
            yield f"a secret {KEY_SECRET} must have the key that clients of {server.name} send, as `{server.label}`"
    if any(server.pool.autoscaling is not None for server in servers):
        yield f"autoscaling is KEDA's, which must be installed; its metrics are asked for at {PROMETHEUS}: write yours instead"


def _deployment(server: Server, *, fixed: bool) -> dict[str, Any]:
    given_up_s = [one for one in (server.pool.timeout_s, server.pool.deadline_s) if one is not None]
    drain_s = math.ceil(max(given_up_s, default=_DRAIN_S))
    labels = {"app.kubernetes.io/name": server.label}
    pod = {
        # Else a service named vllm would make a variable VLLM_PORT, which vLLM takes for its own.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": drain_s + _NOTICED_S + 30,
        "containers": [_container(server, drain_s)],
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory"}}],
    }
    spec = {
        # The number of replicas of an autoscaled one is its autoscaler's.
        **({"replicas": server.pool.replicas} if fixed else {}),
        "selector": {"matchLabels": labels},
        # A new replica has the GPUs of an old one: there may be no others.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "template": {
            "metadata": {
                "labels": labels,
                "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": str(server.port)},
            },
            "spec": pod,
        },
    }
    about = {"name": server.label, "labels": labels, "annotations": {"ttc-sim-deployment": server.name}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": about, "spec": spec}


def _container(server: Server, drain_s: int) -> dict[str, Any]:
    health = {"httpGet": {"path": "/health", "port": "http"}}
    gpus = {"nvidia.com/gpu": server.gpus}
    start_up = server.pool.start_up
    starts_s = max(_STARTS_S, 2 * ((start_up.takes_s if start_up is not None else None) or 0.0))
    return {
        "name": "vllm",
        "image": IMAGE,
        "command": ["vllm", "serve"],
        # Kubernetes reads $(NAME) in arguments as a variable, and $$ as a dollar.
        "args": [word.replace("$", "$$") for word in (*server.words, "--shutdown-timeout", str(drain_s))],
        "env": list(_environment(server)),
        "ports": [{"name": "http", "containerPort": server.port}],
        "resources": {"limits": gpus, "requests": gpus},
        "startupProbe": {**health, "periodSeconds": _PROBED_S, "failureThreshold": math.ceil(starts_s / _PROBED_S)},
        "readinessProbe": {**health, "periodSeconds": 5},
        "livenessProbe": {**health, "periodSeconds": _PROBED_S, "failureThreshold": 6},
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_NOTICED_S)]}}},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],  # of the container
    }


def _environment(server: Server) -> Iterator[dict[str, Any]]:
    token = {"name": TOKEN_SECRET, "key": "token", "optional": True}
    yield {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": token}}
    if server.key_env is not None:
        yield {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": KEY_SECRET, "key": server.label}}}


def _service(server: Server) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": server.label}
    port = {"name": "http", "port": server.port, "targetPort": "http"}
    about = {"name": server.label, "labels": labels}
    return {"apiVersion": "v1", "kind": "Service", "metadata": about, "spec": {"selector": labels, "ports": [port]}}


def _budget(server: Server) -> dict[str, Any]:
    """Nodes are emptied one replica at a time."""
    spec = {"selector": {"matchLabels": {"app.kubernetes.io/name": server.label}}, "maxUnavailable": 1}
    about = {"name": server.label}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": about, "spec": spec}


def _written(manifests: Sequence[dict[str, Any]]) -> str:
    return "".join(f"---\n{dumped(one)}" for one in manifests)


__all__ = ["DOES", "IMAGE", "export"]
