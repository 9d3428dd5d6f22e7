"""Run the predictor: a batched ONNX Runtime session, on the GPU when one can be used and on the CPU otherwise."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ttc_sim.base.arguments import finite, location
from ttc_sim.base.draws import F64
from ttc_sim.base.errors import InputError
from ttc_sim.base.shipped import PREDICTORS
from ttc_sim.files.documents import parse_json
from ttc_sim.predictor.reading.features import BUCKETS, MAX_BYTES, Features, featurize
from ttc_sim.predictor.reading.surface import COUNT
from ttc_sim.predictor.reading.tokens import Tokenizer
from ttc_sim.predictor.running.providers import CPU, FORMAT, NAMES, TEXT, Runner, make_runner

TIERS = PREDICTORS
"""The shipped models."""
SHIPPED = TIERS["fast"]
BATCH = 64
ENCODER_BATCH = 1
"""Of a text encoder on the CPU: larger ones are slower, as what they compute leaves the cache, and they compute padding too."""
BATCH_CHARACTERS = 48_000
"""A batch of long prompts is cut so that the memory it takes stays below about 100 MB."""
PER_MODEL = ("p", "tokens", "tokens_p50", "tokens_p90")
log = logging.getLogger("ttc_sim")
_said: set[str] = set()


@dataclass(frozen=True)
class Scores:
    """Predictions for ``n`` prompts.

    Attributes:
        difficulty: (n,) 0 (easy) to 1 (hard): the share of models expected to fail.
        novelty: (n,) 0 (like the training data) to 1; 0.5 is as far from it as the farthest 5% of new problems of the kinds
            trained on, 1 as the farthest 1% or farther. The farther, the more a prediction is drawn to the training rate.
        p: by model, (n,) chance that it answers correctly.
        tokens, tokens_p50, tokens_p90: by model, (n,) mean, median and 90th percentile of its output tokens, with reasoning.
    """

    difficulty: F64
    novelty: F64
    p: dict[str, F64]
    tokens: dict[str, F64]
    tokens_p50: dict[str, F64]
    tokens_p90: dict[str, F64]

    def table(self) -> pl.DataFrame:
        """Columns ``difficulty``, ``novelty`` and, for each model, ``p:MODEL``, ``tokens:MODEL``, ``tokens_p50:MODEL``,
        ``tokens_p90:MODEL``, all float32."""
        named = {f"{kind}:{model}": values for kind in PER_MODEL for model, values in getattr(self, kind).items()}
        return pl.DataFrame({"difficulty": self.difficulty, "novelty": self.novelty, **named}).cast(pl.Float32)


class Predictor:
    """A loaded predictor.

    Attributes:
        heads: names of the models; rates: (by model) share of right answers in the training data.
        provider: of ONNX Runtime, that it runs on; half: whether it computes in 16 bits.

    >>> Predictor.load().score(["What is 2 + 2?"]).difficulty.shape
    (1,)
    """

    def __init__(
        self, runner: Runner, heads: Sequence[str], rates: Mapping[str, float], tokenizer: Tokenizer | None = None
    ) -> None:
        self._runner, self.heads, self.rates = runner, tuple(heads), dict(rates)
        self._tokenizer = tokenizer
        self.provider, self.half = runner.provider, runner.half
        self._most = ENCODER_BATCH if tokenizer is not None and self.provider == CPU else BATCH

    @classmethod
    def load(cls, path: str | Path | None = None, *, device: str | None = None, half: bool | None = None) -> Predictor:
        """Load an ONNX file; the shipped model if none is named.

        Args:
            path: the ONNX file, or the name of a shipped model: ``"fast"`` or ``"encoder"``.
            device: ``"cpu"``, ``"cuda"`` or ``"tensorrt"``, the fastest to try; environment variable ``TTC_SIM_DEVICE`` if left
                out, and ``"cuda"`` without it. Where no session can be made or run there, or where it says something else
                than the CPU does, the CPU is used. Which, is said once in the log.
            half: whether networks and text encoder compute in 16 bits; if left out, of a model with a text encoder, on a GPU.

        Raises:
            InputError: no such file, not ONNX, another device, a graph with other inputs or outputs, or one with a text
                encoder where library ``tokenizers`` is not installed.
        """
        if path is not None:
            location("Predictor.load", "path", path, "an ONNX file, 'fast' or 'encoder'")
        path = model_path(path)
        device = (os.environ.get("TTC_SIM_DEVICE") or "cuda") if device is None else device
        if not isinstance(device, str) or device not in NAMES:
            raise InputError("device", "device", device, "one of " + ", ".join(NAMES))
        tokenizers: list[Tokenizer | None] = []

        def probe(made: Any) -> Features:
            tokenizers.append(_check_graph(made, path))
            return _features(["try"], tokenizers[-1])

        runner = make_runner(path, device, probe, half)
        provider = runner.provider
        if provider not in _said:
            _said.add(provider)
            log.info("predictor runs on %s", "the CPU" if provider == CPU else f"the GPU ({provider[:-17]})")
        made = cls(runner, *_heads(runner.session.get_modelmeta().custom_metadata_map, path), tokenizers[-1])
        made.check_outputs(path)
        return made

    def score(self, prompts: Iterable[str]) -> Scores:
        """Score prompts of any length and language, in batches of prompts of like length.

        Raises:
            InputError: one of them is not text.
        """
        if isinstance(prompts, (str, bytes, Mapping)) or not isinstance(prompts, Iterable):
            raise InputError("score", "prompts", prompts, "a list of texts")
        prompts = list(prompts)
        for row, prompt in enumerate(prompts):
            if not isinstance(prompt, str):
                raise InputError("score", f"prompts[{row}]", prompt, "text")
        n, width = len(prompts), len(self.heads)
        difficulty, novelty = np.empty(n), np.empty(n)
        per_model = {kind: np.empty((n, width)) for kind in PER_MODEL}
        for rows in _batches(prompts, self._most):
            found = self.run(self.read([prompts[i] for i in rows]))
            difficulty[rows], novelty[rows] = found["difficulty"], found["novelty"]
            for kind, whole in per_model.items():
                whole[rows] = found[kind]
        for kind, values in {"difficulty": difficulty, "novelty": novelty, **per_model}.items():
            if not np.isfinite(values).all():
                at = int(np.flatnonzero(~np.isfinite(values.reshape(n, -1)).all(axis=1))[0])
                raise InputError("predictor", kind, f"no number for prompt {at + 1}", "a number for every prompt")
        p, *tokens = (dict(zip(self.heads, whole.T, strict=True)) for whole in per_model.values())
        return Scores(difficulty, novelty, p, *tokens)

    def read(self, prompts: Sequence[str]) -> Features:
        """Prompts as the graph takes them."""
        return _features(prompts, self._tokenizer)

    def check_outputs(self, path: Path) -> None:
        """See what it says of a prompt.

        Raises:
            InputError: something else than a number for each model, or no chance where one is meant; ``path`` is its file.
        """
        shapes = {**dict.fromkeys(PER_MODEL, (1, len(self.heads))), "difficulty": (1,), "novelty": (1,)}
        for name, values in self.run(self.read(["try"])).items():
            found = np.asarray(values)
            expected = f"numbers of shape {shapes[name]}"
            if found.dtype.kind not in "fiu" or found.shape != shapes[name]:
                raise InputError(path, f"output {name}", f"{found.dtype} of shape {found.shape}", expected)
            most = np.inf if name.startswith("tokens") else 1.0
            if not (np.isfinite(found).all() and (found >= 0).all() and (found <= most).all()):
                expected = "finite numbers, at least 0" if np.isinf(most) else "numbers from 0 to 1"
                raise InputError(path, f"output {name}", found.ravel()[:4].tolist(), expected)

    def run(self, batch: Features, names: Sequence[str] = (*PER_MODEL, "difficulty", "novelty")) -> dict[str, Any]:
        """The graph's outputs, by name."""
        return dict(zip(names, self._runner(batch, names), strict=True))

    def outputs(self, prompts: Sequence[str], names: Sequence[str]) -> dict[str, F64]:
        """What the graph says of prompts under these names, a row a prompt: other outputs than scores too."""
        found: dict[str, F64] = {}
        for rows in _batches(prompts, self._most):
            for name, values in self.run(_features([prompts[i] for i in rows], self._tokenizer), names).items():
                whole = found.setdefault(name, np.empty((len(prompts), *values.shape[1:])))
                whole[rows] = values
        return found


def model_path(model: str | Path | None) -> Path:
    """The file of a predictor: of the shipped one that is named (``TIERS``), the fast one without a name, or the path itself."""
    return SHIPPED if model is None else TIERS.get(str(model), Path(model))


def is_tier(model: str | Path | None) -> bool:
    """Whether this stands for a shipped model: its name, or none."""
    return model is None or str(model) in TIERS


def _features(prompts: Sequence[str], tokenizer: Tokenizer | None) -> Features:
    found = featurize(prompts)
    return found if tokenizer is None else replace(found, tokens=tokenizer(prompts))


def _batches(prompts: Sequence[str], most: int) -> Iterator[list[int]]:
    sizes = np.fromiter((min(len(prompt), MAX_BYTES) for prompt in prompts), dtype=np.int64, count=len(prompts))
    batch: list[int] = []
    for row in np.argsort(sizes, kind="stable"):
        if batch and (len(batch) == most or (len(batch) + 1) * max(int(sizes[row]), 1) > BATCH_CHARACTERS):
            yield batch
            batch = []
        batch.append(int(row))
    if batch:
        yield batch


def _heads(meta: Mapping[str, str], path: Path) -> tuple[list[str], dict[str, float]]:
    """Names of the models that a graph's metadata say it predicts, and the share that each had right in training."""
    wanted = "a predictor of this version: a list in JSON, as `ttc-sim predictor train` writes it"
    for key in ("heads", "rates"):
        if key not in meta:
            raise InputError(path, f"metadata {key}", "nothing", wanted)
    heads, rates = (parse_json(meta[key], path, f"metadata {key}", wanted) for key in ("heads", "rates"))
    if not isinstance(heads, list) or not heads or not all(isinstance(head, str) and head for head in heads):
        raise InputError(path, "metadata heads", heads, "a list of models' names")
    if len(set(heads)) < len(heads):
        raise InputError(path, "metadata heads", heads, "each model once")
    if not isinstance(rates, list) or len(rates) != len(heads) or not all(finite(r) and 0 <= r <= 1 for r in rates):
        raise InputError(path, "metadata rates", rates, f"a share right for each of {len(heads)} models, from 0 to 1")
    return heads, dict(zip(heads, map(float, rates), strict=True))


def _check_graph(session: Any, path: Path) -> Tokenizer | None:
    """Its tokenizer, if it has a text encoder."""
    inputs = {item.name: item.shape for item in session.get_inputs()}
    outputs = {item.name for item in session.get_outputs()}
    meta = session.get_modelmeta().custom_metadata_map
    wanted = f"a predictor of this version: inputs ids, values, surface ({BUCKETS} buckets, {COUNT} figures), outputs p, tokens"
    good = set(inputs) - {TEXT} == {"ids", "values", "surface"} and {*PER_MODEL, "difficulty", "novelty"} <= outputs
    if not good or list(inputs["surface"])[-1:] != [COUNT] or meta.get("buckets") != str(BUCKETS):
        raise InputError(path, "model", f"inputs {sorted(inputs)}, outputs {sorted(outputs)}", wanted)
    if meta.get("format", FORMAT) != FORMAT:
        raise InputError(path, "metadata format", meta["format"], f"{FORMAT}, which this version reads")
    _heads(meta, path)
    return Tokenizer.of(meta.get("tokenizer", ""), path) if TEXT in inputs else None


__all__ = ["BATCH", "PER_MODEL", "SHIPPED", "TIERS", "Predictor", "Scores", "is_tier", "model_path"]
