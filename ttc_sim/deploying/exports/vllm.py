"""``vllm``: for each GPU pool a script that starts one replica, and the same as a file for ``vllm serve --config``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports.features import Feature, Kind, not_expressed
from ttc_sim.deploying.exports.naming import dumped
from ttc_sim.deploying.exports.servers import VERSION, Server, servers_of
from ttc_sim.deploying.exports.target import Export
from ttc_sim.optimizer.plan import SavedPlan

DOES: tuple[Kind, ...] = ("server", "batch limits", "queue limit")


def export(plan: SavedPlan, endpoints: Mapping[str, Endpoint]) -> Export:
    """Scripts and files of settings.

    Raises:
        InputError: a plan without GPU pools.
    """
    servers = servers_of(plan, endpoints, "vllm")
    files: dict[str, str | bytes] = {}
    for server in servers:
        files[f"{server.label}.sh"] = _script(server)
        files[f"{server.label}.yaml"] = _settings(server)
    left = [line for server in servers for line in server.not_expressed]
    left += [
        f"deployment {one.name}: a replica that fails is not started again" for one in servers if one.pool.failures
    ]
    how = [f"sh {one.label}.sh, or vllm serve --config {one.label}.yaml: one replica of {one.name}" for one in servers]
    how += [f"arguments are those of vLLM {VERSION}"]
    return Export(files, (*not_expressed(plan, DOES, unless=orders_its_queue), *left), tuple(how))


def orders_its_queue(feature: Feature) -> bool:
    """Whether it is a pool's scheduling, which a server does once requests say their priorities."""
    return feature.kind == "priority" and feature.of.startswith("deployment ")


def _script(server: Server) -> str:
    key = ""
    if server.key_env is not None:
        key = f'VLLM_API_KEY="${{{server.key_env}:?the key that clients send}}"\nexport VLLM_API_KEY\n'
    about = f"# One replica of the deployment {json.dumps(server.name)}, for vLLM {VERSION}.\n"
    model, *rest = map(shlex.quote, server.words)
    lines = [f"vllm serve {model}"]
    for word in rest:
        if word.startswith("--"):
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    return f"#!/bin/sh\n{about}set -eu\n{key}exec " + " \\\n  ".join(lines) + "\n"


def _settings(server: Server) -> str:
    about = f"# vllm serve --config {server.label}.yaml\n"
    if server.key_env is not None:
        about += (
            f"# with the key that clients send in VLLM_API_KEY, which {server.label}.sh takes from {server.key_env}\n"
        )
    return about + dumped({"model": server.model, **server.arguments})


__all__ = ["DOES", "export", "orders_its_queue"]
