"""Where operator times are kept: shipped with the project, or in the user's cache directory."""

from __future__ import annotations

import hashlib
import json
import logging
from functools import lru_cache
from pathlib import Path

from ttc_sim.base import cache
from ttc_sim.base.shipped import shipped_folders
from ttc_sim.files.opening import is_file
from ttc_sim.serving import catalogue
from ttc_sim.serving.catalogue import Served, base, base_name
from ttc_sim.serving.operator_lookup import grid, measure
from ttc_sim.serving.operators import OperatorTimes, as_json, from_json

LAYOUT = 5
"""Counts up whenever what is kept means something else."""

_log = logging.getLogger(__name__)


def shipped_name(served: Served) -> str:
    """File name of a shipped table.

    >>> shipped_name(Served("Qwen/Qwen3-32B", "h200_sxm", tensor_parallel=2, precision="fp8"))
    'qwen3-32b_h200_sxm_vllm_tp2_fp8.json'
    """
    model = base_name(served.model).split("/")[-1].lower()
    experts = f"ep{served.expert_parallel}" if served.expert_parallel > 1 else ""
    kept = f"_kv-{served.kv_cache_dtype}" if served.kv_cache_dtype else ""
    return f"{model}_{served.gpu}_{served.backend}_tp{served.tensor_parallel}{experts}_{served.precision or 'own'}{kept}.json"


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
    made_by = _made_by(served)
    kept = _kept(made_by)
    if kept is not None:
        return kept
    found = measure(served, where, field)
    text = as_json(found)
    try:
        cache.write_entry(_path(made_by), made_by, text.encode())
    except OSError as error:
        why = str(error) if isinstance(error, cache.NotTrustedError) else f"its folder cannot be written to: {error}"
        cache.say_once(f"operator times are looked up anew each time ({why})")
    # As it will be read again: the same digits, whether or not it was kept.
    return from_json(text)


def cache_folder() -> Path:
    """Folder of the user's cache.

    Raises:
        OSError: there is no home directory.
    """
    return cache.cache_root() / "ttc-sim" / "operator-times"


def _made_by(served: Served) -> list[str]:
    """The package's version, the deployment, the model's shape and the grid: what is kept is what would be looked up."""
    content = [LAYOUT, catalogue.installed(), list(served), catalogue.shape(served.model), grid()]
    return [json.dumps(one) for one in content]


def _path(made_by: list[str]) -> Path:
    return cache_folder() / f"{hashlib.sha256(json.dumps(made_by).encode()).hexdigest()[:24]}.json"


def _kept(made_by: list[str]) -> OperatorTimes | None:
    try:
        path = _path(made_by)
        content = cache.read_entry(path, made_by)
        return None if content is None else from_json(content.decode())
    except OSError:
        return None  # said when it is to be written
    except (ValueError, TypeError, KeyError) as error:
        _log.warning("%s cannot be used (%s): operator times are looked up anew", path, error)
        cache.drop_entry(path)
        return None


def _shipped(served: Served) -> OperatorTimes | None:
    found = base(served.model)
    if served.data_parallel > 1 or found is None:
        return None
    if found.precision is not None:
        if served.precision not in (None, found.precision):
            return None  # refused where it is looked up
        served = served._replace(precision=found.precision)
    for folder in shipped_folders("operators"):
        path = folder / shipped_name(served)
        if is_file(path):
            return from_json(path.read_text(encoding="utf-8"))
    return None
