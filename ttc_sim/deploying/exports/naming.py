"""Names and files as consumers take them, whatever a plan calls its arms and deployments."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import yaml

from ttc_sim.optimizer.plan import SavedPlan

_SAFE = " @+:,=()[]"  # in headers and model names; * would be any model there, and / a provider


def quoted(name: str) -> str:
    """The name in letters, digits and a few signs, others as ``%`` and two digits: no two names come to the same.

    >>> quoted("r1@4096"), quoted("groß/*")
    ('r1@4096', 'gro%C3%9F%2F%2A')
    """
    # At an end no blank is left, which many take off.
    found = quote(name, safe=_SAFE)
    ends = len(found) - len(found.lstrip(" ")), len(found) - len(found.rstrip(" "))
    return "%20" * ends[0] + found.strip(" ") + ("%20" * ends[1] if found.strip(" ") else "")


def variable(plan: SavedPlan, deployment: str, what: str) -> str:
    """Environment variable for what a consumer has to be told of a deployment: no two come to the same.

    Args:
        what: such as ``URL``.
    """
    stem = re.sub(r"\W+", "_", deployment, flags=re.ASCII).strip("_").upper() or "DEPLOYMENT"
    return f"TTC_{stem}_{list(plan.scenario.deployments).index(deployment) + 1}_{what}"


def dumped(content: object) -> str:
    """As YAML, in the order that it has; what stands there twice is written twice."""
    return yaml.dump(content, Dumper=_WithoutAliases, sort_keys=False, allow_unicode=True, width=110)


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """People read it."""
        return True


__all__ = ["dumped", "quoted", "variable"]
