"""A pool's autoscaling as a ScaledObject of KEDA, which makes a HorizontalPodAutoscaler of it: docs/replicas.md has the rule."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ttc_sim.deploying.exports.features import replicas_of
from ttc_sim.deploying.exports.servers import Server
from ttc_sim.scenario.fleet import Autoscaling, ScheduleStep

PROMETHEUS = "http://prometheus-server.monitoring.svc:80"
"""Stands where the address of the cluster's Prometheus belongs."""
TIMEZONE = "Etc/UTC"
_LONGEST_WINDOW_S, _LONGEST_PERIOD_S, _SYNC_S = 3600, 1800, 15
_TOLERANCE = 0.1
_MILLI = 1000


def scaled_object(server: Server) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """The manifest, and what it does not say; no manifest where replicas do not change, or change by no clock of the day."""
    scaled, of = server.pool.autoscaling, f"deployment {server.name}"
    if scaled is None or scaled.least == scaled.most:
        return None, ()
    if scaled.schedule is not None and scaled.schedule[0].at is None:
        said = (
            f"{of}: steps of so many seconds are of no clock: {server.pool.replicas:,} replicas stand for all of them"
        )
        return None, (said,)
    unsaid: list[str] = []
    triggers, about = _cron(scaled.schedule, of) if scaled.schedule is not None else _metric(server, scaled)
    if not triggers:
        return None, tuple(about)
    unsaid += about
    behaviour = {}
    for way, key in (("up", "scaleUp"), ("down", "scaleDown")):
        behaviour[key], about = _behaviour(scaled, way, of)
        unsaid += about
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": server.label},
        "minReplicaCount": scaled.least,
        "maxReplicaCount": scaled.most,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behaviour}},
        "triggers": triggers,
    }
    made = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": server.label}, "spec": spec}
    if server.pool.replicas != scaled.least:
        unsaid.append(f"{of}: it starts with {replicas_of(scaled.least)}, not {server.pool.replicas:,}")
    return made, tuple(unsaid)


def _cron(steps: list[ScheduleStep], of: str) -> tuple[list[dict[str, Any]], list[str]]:
    """A window of each step. KEDA's cron knows minutes, and no window without an end."""
    by_minute = {int(step.at_s) // 60: step.replicas for step in steps}
    starts = [f"{minute % 60} {minute // 60} * * *" for minute in by_minute]
    unsaid = [f"{of}: the step at {step.at} begins with its minute" for step in steps if step.at_s % 60]
    if len(by_minute) < len(steps):
        unsaid.append(f"{of}: of steps within one minute the last counts")
    if len(by_minute) < 2:
        unsaid.append(f"{of}: {steps[0].replicas:,} replicas stand for all steps")
        return [], unsaid
    ends, counts = [*starts[1:], starts[0]], by_minute.values()
    windows = [
        {"timezone": TIMEZONE, "start": start, "end": end, "desiredReplicas": str(replicas)}
        for start, end, replicas in zip(starts, ends, counts, strict=True)
    ]
    unsaid.append(f"{of}: the clock of its schedule stands in {TIMEZONE}: write another time zone if it is of one")
    return [{"type": "cron", "metadata": window} for window in windows], unsaid


def _metric(server: Server, scaled: Autoscaling) -> tuple[list[dict[str, Any]], list[str]]:
    # A pod is named after its Deployment, with two more parts.
    pods = f'pod=~"{server.label}-[a-z0-9]+-[a-z0-9]+"'
    window = f"{math.ceil(scaled.averaged_s)}s"
    of = f"deployment {server.name}"
    running, waiting = (f"vllm:num_requests_{name}{{{pods}}}" for name in ("running", "waiting"))

    def mean(metric: str) -> str:
        return f"sum(avg_over_time({metric}[{window}]))"

    unsaid: list[str] = []
    target, kind = scaled.target, "AverageValue"
    if scaled.rule == "target_concurrency":
        query = f"{mean(running)} + {mean(waiting)}"
    elif scaled.rule == "target_utilisation":
        query, target = mean(running), target * server.pool.max_num_seqs
    elif scaled.rule == "target_queue":
        query = mean(waiting)
    else:
        share = (95.0 if scaled.percentile is None else scaled.percentile) / 100
        buckets = f"sum by (le) (rate(vllm:time_to_first_token_seconds_bucket{{{pods}}}[{window}]))"
        # Of no first tokens it is NaN, which is not at least 0. An idle pool needs none, and of a busy one nothing is known.
        idle = f"0 * (sum({running}) + sum({waiting}) == 0)"
        query = f"(histogram_quantile({share:.10g}, {buckets}) >= 0) * {_MILLI} or {idle}"
        target, kind = target * _MILLI, "Value"
        unsaid.append(f"{of}: times to first token are known by the buckets of vLLM's histogram alone")
    threshold = math.floor(target * _MILLI) / _MILLI  # KEDA's precision
    if not math.isclose(threshold, target, rel_tol=1e-3):
        unsaid.append(f"{of}: KEDA cuts the target {target:.10g} after three decimals")
    # Without an answer KEDA leaves the replicas as they are.
    metadata = {"serverAddress": PROMETHEUS, "query": query, "threshold": f"{target:.10g}", "ignoreNullValues": "false"}
    if scaled.looks_every_s != _SYNC_S:
        said = (
            f"{of}: its metric is looked at every {scaled.looks_every_s:g} s, in a cluster by the cluster's own period"
        )
        unsaid.append(f"{said}, {_SYNC_S} s unless told otherwise")
    return [{"type": "prometheus", "metricType": kind, "metadata": metadata}], unsaid


def _behaviour(scaled: Autoscaling, way: str, of: str) -> tuple[dict[str, Any], list[str]]:
    """One direction of a HorizontalPodAutoscaler. A step of a schedule is taken at once and whole."""
    stabilised_s, cooldown_s, step = (0.0, 0.0, scaled.most) if scaled.schedule else scaled.held_back(way)
    unsaid = list(_too_long(f"{of}: scaling {way}", stabilised_s, cooldown_s))
    if cooldown_s:
        # The smallest change is one replica, so that without a largest step nothing holds a second change back.
        what = f"{min(step, scaled.most):,} replicas" if step < scaled.most else "any number of replicas"
        unsaid.append(
            f"{of}: its cooldown {way} of {cooldown_s:g} s stands as {what} in that time, and not after changes the other way"
        )
    period_s = min(max(math.ceil(cooldown_s), _SYNC_S if cooldown_s == 0 else 1), _LONGEST_PERIOD_S)
    made: dict[str, Any] = {
        "stabilizationWindowSeconds": min(math.ceil(stabilised_s), _LONGEST_WINDOW_S),
        "policies": [{"type": "Pods", "value": min(step, scaled.most), "periodSeconds": period_s}],
    }
    if scaled.tolerance is not None and scaled.tolerance != _TOLERANCE:
        made["tolerance"] = f"{scaled.tolerance:.10g}"
        unsaid.append(
            f"{of}: its tolerance {way} counts where the cluster has HPAConfigurableTolerance, beta since 1.35"
        )
    return made, unsaid


def _too_long(of: str, stabilised_s: float, cooldown_s: float) -> Iterator[str]:
    for what, given_s, longest_s in (
        ("stabilisation", stabilised_s, _LONGEST_WINDOW_S),
        ("cooldown", cooldown_s, _LONGEST_PERIOD_S),
    ):
        if given_s > longest_s:
            yield f"{of}: a {what} of {given_s:g} s is longer than Kubernetes' longest, {longest_s:,} s, which stands for it"


__all__ = ["PROMETHEUS", "TIMEZONE", "scaled_object"]
