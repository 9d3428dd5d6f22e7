"""Counts of a proxy in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Mapping


def figures(counts: Mapping[str, int], ended: Mapping[tuple[str, str], int]) -> str:
    r"""Counts since the start.

    Args:
        counts: of the runtime; ended: of requests, by arm and how they ended.

    >>> print(figures({"fell_back": 1}, {("small", "answered"): 2}))
    # TYPE ttc_sim_runtime_total counter
    ttc_sim_runtime_total{what="fell_back"} 1
    # TYPE ttc_sim_requests_total counter
    ttc_sim_requests_total{arm="small",status="answered"} 2
    <BLANKLINE>
    """
    lines = ["# TYPE ttc_sim_runtime_total counter"]
    lines += [f"ttc_sim_runtime_total{{what={_quoted(what)}}} {number}" for what, number in sorted(counts.items())]
    lines.append("# TYPE ttc_sim_requests_total counter")
    for (arm, status), number in sorted(ended.items()):
        lines.append(f"ttc_sim_requests_total{{arm={_quoted(arm)},status={_quoted(status)}}} {number}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


__all__ = ["figures"]
