"""What the catalogue of GPU operators offers: what runs where, and what a model comes to on each GPU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ttc_sim.base.errors import InputError, nearest
from ttc_sim.base.progress import Telling, counted
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.base.threads import one_thread
from ttc_sim.scenario.deployments import LARGE_GPU_LIMITS, SMALL_GPU_LIMITS, SMALL_GPUS
from ttc_sim.scenario.gpu_prices import GPU_PRICES
from ttc_sim.serving import catalogue
from ttc_sim.serving.catalogue import BACKENDS, Served
from ttc_sim.serving.corrections import corrections_for, doubt
from ttc_sim.serving.model_names import ALIASES
from ttc_sim.serving.operator_store import operator_times
from ttc_sim.serving.operators import OperatorTimes, operator_table, state_tokens
from ttc_sim.serving.step_time import full_batch_seconds, step_seconds

PARALLEL = (1, 2, 4, 8)


class Together(NamedTuple):
    """A model at a precision, and where it runs with which frameworks."""

    model: str
    precision: str
    gpus: tuple[str, ...]
    backends: tuple[str, ...]


def works_together(words: Sequence[str] = ()) -> list[Together]:
    """Models, precisions, GPUs and backends that the catalogue measured together.

    Args:
        words: each must be part of the model's, precision's, GPU's or backend's name; letters' case does not count.

    Raises:
        InputError: the catalogue is not installed, or nothing has all the words in it.
    """
    catalogue.need("gpus", "WORDS", " ".join(words))
    wanted = [word.lower() for word in words]
    found: dict[tuple[str, str], dict[str, set[str]]] = {}
    for model, gpu, backend in sorted(catalogue.supported()):
        if model not in catalogue.models():
            continue
        for precision in _precisions(model, gpu):
            names = (model.lower(), precision, gpu, backend)
            if all(any(word in name for name in names) for word in wanted):
                found.setdefault((model, precision), {}).setdefault(backend, set()).add(gpu)
    if not found:
        known = {*catalogue.models(), *catalogue.gpus(), *catalogue.PRECISIONS, *BACKENDS}
        strange = next((w for w in words if not any(w.lower() in name.lower() for name in known)), None)
        if strange is None:
            raise InputError("gpus", "WORDS", " ".join(words), "words that occur together; these do one by one only")
        raise InputError("gpus", "WORDS", strange, nearest(strange, known))
    rows = []
    for (model, precision), by_backend in found.items():
        by_gpus: dict[tuple[str, ...], list[str]] = {}
        for backend, gpus in by_backend.items():
            by_gpus.setdefault(tuple(sorted(gpus)), []).append(backend)
        rows += [Together(model, precision, gpus, tuple(backends)) for gpus, backends in by_gpus.items()]
    return rows


def _precisions(model: str, gpu: str) -> list[str]:
    """The model's own, and for a dense one in 16 bits those that the GPU can multiply in."""
    own = catalogue.own_precision(model)
    sheet = catalogue.gpus()[gpu]["gpu"]
    if own != "bf16" or catalogue.has_experts(model):
        return [own]
    return [own, *(name for name in ("fp8", "fp4") if sheet.get(f"{name}_tc_flops"))]


def named_model(words: Sequence[str]) -> str | None:
    """The catalogue's model that the words are the whole name of, if they are."""
    if len(words) != 1 or catalogue.installed() is None:
        return None
    word, names = words[0].lower(), (*catalogue.models(), *ALIASES)
    whole = next((name for name in names if name.lower() == word), None)
    if whole is not None or any(word in name.lower() for name in names):
        return whole  # a part of names is a word to look for
    return words[0] if catalogue.base(words[0]) is not None else None


@dataclass(frozen=True)
class Offer:
    """A model on so many GPUs of a kind.

    Attributes:
        gpu, tensor_parallel, expert_parallel: what serves it.
        fits: whether weights and a request's KV cache do.
        gpus_needed: fewest GPUs of the kind that hold it.
        weight_gib, kv_gib: of all GPUs together.
        kv_tokens: that the KV cache holds.
        batch: requests in progress at once: as many as the KV cache and the server's limits let.
        tokens_per_s_alone: output tokens per second of a request that has the server to itself.
        tokens_per_s: output tokens per second of all requests in a full batch, prompts taken in beside it.
        usd_per_hour: list price of the GPUs; ``None`` where there is none.
        usd_per_million_output_tokens: at a full batch.
        warning: why not to rely on the speeds.
    """

    gpu: str
    tensor_parallel: int
    expert_parallel: int
    fits: bool
    gpus_needed: int
    weight_gib: float
    kv_gib: float
    kv_tokens: int
    batch: int
    tokens_per_s_alone: float
    tokens_per_s: float
    usd_per_hour: float | None
    usd_per_million_output_tokens: float | None
    warning: str | None


@shows_progress()
@one_thread()
def offers(
    model: str,
    *,
    backend: str = "vllm",
    precision: str | None = None,
    prompt_tokens: int = 1024,
    output_tokens: int = 1024,
    progress: Telling = None,
) -> tuple[list[Offer], list[dict[str, str]]]:
    """What a model comes to on every GPU of the catalogue, one to eight of them.

    Args:
        model: by its name in the catalogue.
        backend: serving framework.
        precision: of the weights; the model's own if left out.
        prompt_tokens, output_tokens: of each request.
        progress: ``True`` shows how far it is and the time left, a function is told by lines, ``False`` is silent; left out, it is
            shown in an open notebook (:func:`ttc_sim.base.showing.telling`).

    Returns:
        Offers, and GPUs that it cannot be estimated on with the reason.

    Raises:
        InputError: a name that is not known, or no GPU that it can be estimated on.
    """
    say = telling("gpus", progress)
    name, weights = catalogue.named(model, precision, "gpus")
    if backend not in BACKENDS:
        raise InputError("gpus", "--backend", backend, nearest(backend, BACKENDS))
    if precision is not None and precision not in catalogue.PRECISIONS:
        raise InputError("gpus", "--precision", precision, nearest(precision, catalogue.PRECISIONS))
    precision = weights
    found: list[Offer] = []
    refused: list[dict[str, str]] = []
    for gpu in counted(catalogue.gpus(), say, f"looking at {model}", "GPUs"):
        here: list[tuple[Served, OperatorTimes]] = []
        reason = ""
        for count in PARALLEL:
            if catalogue.heads(name) % count:
                continue
            served = Served(name, gpu, backend, count, precision=precision, **_experts(name, count, precision))
            try:
                here.append((served, operator_times(served, "gpus")))
            except InputError as error:
                reason = error.expected
        if not here:
            refused.append({"gpu": gpu, "reason": reason})
        longest = prompt_tokens + output_tokens
        needed = min(
            [served.gpus for served, times in here if times.kv_tokens >= longest + state_tokens(times)],
            default=_needed(here, longest),
        )
        found += [_offer(served, times, needed, prompt_tokens, output_tokens) for served, times in here]
    if not found:
        raise InputError("gpus", "MODEL", model, f"a model measured with {backend}: {refused[0]['reason']}")
    return found, refused


def fewest_gpus(model: str, gpu: str, tokens: int, *, where: str, field: str) -> Served:
    """A model on the fewest GPUs of a kind, from one to eight, whose KV cache holds a request of so many tokens.

    Raises:
        InputError: the catalogue is not installed, a name is unknown, or eight do not hold it.
    """
    name, precision = catalogue.named(model, None, where, field)
    if gpu not in catalogue.gpus():
        raise InputError(where, f"{field}gpu", gpu, nearest(gpu, catalogue.gpus()))
    reason = "a GPU with more memory: eight of these do not hold it"
    for count in PARALLEL:
        if catalogue.heads(name) % count:
            continue
        served = Served(name, gpu, "vllm", count, precision=precision, **_experts(name, count, precision))
        try:
            times = operator_times(served, where, field)
            if times.kv_tokens >= tokens + state_tokens(times):
                return served
        except InputError as error:
            reason = error.expected
    raise InputError(where, f"{field}gpu", f"{model} on {gpu}", reason)


def _experts(model: str, count: int, precision: str | None) -> dict[str, Any]:
    """Whole experts on each GPU where they cannot be cut."""
    if catalogue.has_experts(model) and not catalogue.cuttable(model, count, precision):
        return {"expert_parallel": count}
    return {}


def _needed(here: Sequence[tuple[Served, OperatorTimes]], longest: int) -> int:
    """GPUs that hold a model too large for any number tried, if what one holds falls with their number; they divide its heads."""
    if not here:
        return 0
    served, times = here[-1]
    usable = times.memory_bytes * times.memory_share - times.activation_bytes - times.runtime_bytes
    held = served.gpus * (times.weight_bytes + longest * times.kv_bytes_per_token)
    least = max(math.ceil(held / usable), served.gpus + 1)
    count = catalogue.heads(served.model)
    return next((n for n in range(least, count + 1) if count % n == 0), least)


def _offer(served: Served, times: OperatorTimes, needed: int, prompt_tokens: int, output_tokens: int) -> Offer:
    limits = SMALL_GPU_LIMITS if served.gpu in SMALL_GPUS else LARGE_GPU_LIMITS
    longest = prompt_tokens + output_tokens
    batch = min(times.kv_tokens // (longest + state_tokens(times)), limits["max_num_seqs"])
    alone = full = 0.0
    if batch:
        table = operator_table(
            times, corrections_for(times, served), limits["max_num_batched_tokens"], limits["max_num_seqs"]
        )
        held = prompt_tokens + output_tokens // 2
        alone = 1 / step_seconds(table, 0, 0.0, 1, held, 1)
        seconds = full_batch_seconds(table, np.array([float(prompt_tokens)]), np.array([float(output_tokens)]), batch)
        full = output_tokens / float(seconds[0])
    price = GPU_PRICES.get(served.gpu)
    hourly = None if price is None else served.gpus * price.usd_per_hour
    budget = times.memory_bytes * times.memory_share - times.weight_bytes - times.activation_bytes - times.runtime_bytes
    return Offer(
        gpu=served.gpu,
        tensor_parallel=served.tensor_parallel,
        expert_parallel=served.expert_parallel,
        fits=batch > 0,
        gpus_needed=needed,
        weight_gib=served.gpus * times.weight_bytes / 2**30,
        kv_gib=max(served.gpus * budget / 2**30, 0.0),
        kv_tokens=times.kv_tokens,
        batch=batch,
        tokens_per_s_alone=alone,
        tokens_per_s=full,
        usd_per_hour=hourly,
        usd_per_million_output_tokens=hourly / 3600 / full * 1e6 if hourly is not None and full else None,
        warning=doubt(served.model, served.gpu),
    )
