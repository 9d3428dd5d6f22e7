"""Where operator times are kept: shipped with the project, or in the user's cache directory."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from functools import lru_cache
from pathlib import Path

from ttc_sim.base.errors import InputError
from ttc_sim.base.files import is_file
from ttc_sim.base.shipped import shipped_folders
from ttc_sim.base.writing import write_atomically
from ttc_sim.serving import catalogue
from ttc_sim.serving.catalogue import ALIASES, Served
from ttc_sim.serving.operator_lookup import grid, measure
from ttc_sim.serving.operators import OperatorTimes, as_json, from_json

LAYOUT = 3
"""Counts up whenever what is kept means something else."""

_log = logging.getLogger(__name__)


def shipped_name(served: Served) -> str:
    """File name of a shipped table.

    >>> shipped_name(Served("Qwen/Qwen3-32B", "h200_sxm", tensor_parallel=2, precision="fp8"))
    'qwen3-32b_h200_sxm_vllm_tp2_fp8.json'
    """
    model = ALIASES.get(served.model, served.model).split("/")[-1].lower()
    experts = f"ep{served.expert_parallel}" if served.expert_parallel > 1 else ""
    return f"{model}_{served.gpu}_{served.backend}_tp{served.tensor_parallel}{experts}_{served.precision or 'own'}.json"


# An optimizer looks the same few up again and again.
@lru_cache(maxsize=512)
def operator_times(served: Served, where: str | Path = "catalogue", field: str = "") -> OperatorTimes:
    """Times of a deployment's operators: as shipped, as cached, or looked up in the catalogue and cached.

    Args:
        served: the deployment.
        where: file that errors name; ``field``: key in it that the deployment stands under, with its dot.

    Raises:
        InputError: as :func:`ttc_sim.serving.catalogue.checked` and :func:`ttc_sim.serving.operator_lookup.measure`.
    """
    shipped = _shipped(served)
    if shipped is not None:
        return shipped
    served = catalogue.checked(served, where, field)
    path = cache_folder() / f"{_key(served)}.json"
    kept = _kept(path)
    if kept is not None:
        return kept
    found = measure(served, where, field)
    text = as_json(found)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, f"{_digest(text)}\n{text}\n")
    except (OSError, InputError):
        _log.warning("%s cannot be written to: operator times are looked up anew each time", path.parent)
    # As it will be read again: the same digits, whether or not it was kept.
    return from_json(text)


def cache_folder() -> Path:
    """Folder of the user's cache."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "ttc-sim" / "operators"


def _key(served: Served) -> str:
    """Of the package's version, the deployment, the model's shape and the grid, so that what is kept is what would be looked up."""
    content = json.dumps([LAYOUT, catalogue.installed(), list(served), catalogue.shape(served.model), grid()])
    return hashlib.sha256(content.encode()).hexdigest()[:24]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _kept(path: Path) -> OperatorTimes | None:
    try:
        digest, _, text = path.read_text(encoding="utf-8").partition("\n")
        if _digest(text.rstrip("\n")) != digest:
            raise ValueError("its content does not match its checksum")
        return from_json(text)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        _log.warning("%s cannot be used (%s): operator times are looked up anew", path, error)
        return None


def _shipped(served: Served) -> OperatorTimes | None:
    if served.data_parallel > 1:
        return None
    for folder in shipped_folders("operators"):
        path = folder / shipped_name(served)
        if is_file(path):
            return from_json(path.read_text(encoding="utf-8"))
    return None
