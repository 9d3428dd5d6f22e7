"""Run the predictor: a batched ONNX Runtime session, on the GPU when one can be used and on the CPU otherwise."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ttc_sim.draws import F64
from ttc_sim.errors import InputError
from ttc_sim.predictor.features import BUCKETS, featurize

SHIPPED = Path(__file__).parent / "model" / "difficulty.onnx"
BATCH = 32
log = logging.getLogger("ttc_sim")
_said: set[str] = set()


@dataclass(frozen=True)
class Scores:
    """Predictions for ``n`` prompts.

    Attributes:
        difficulty: (n,) 0 (easy) to 1 (hard): the share of models expected to fail.
        p: by profile name, (n,) chance that the model answers correctly.
    """

    difficulty: F64
    p: dict[str, F64]

    def table(self) -> pl.DataFrame:
        """Columns ``difficulty`` and ``p:PROFILE`` for each model."""
        named = {f"p:{name}": values for name, values in self.p.items()}
        return pl.DataFrame({"difficulty": self.difficulty, **named}).cast(pl.Float32)


class Predictor:
    """A loaded predictor.

    >>> Predictor.load().score(["What is 2 + 2?"]).difficulty.shape
    (1,)
    """

    def __init__(self, session: Any, heads: Sequence[str], provider: str) -> None:
        self._session, self.heads, self.provider = session, tuple(heads), provider

    @classmethod
    def load(cls, path: str | Path | None = None) -> Predictor:
        """Load an ONNX file; the shipped model if none is named.

        CUDA is tried where onnxruntime offers it; if no session can be made or run there, the CPU is used. Which, is said
        once in the log.

        Raises:
            InputError: no such file, not ONNX, or a graph with other inputs or outputs.
        """
        import onnxruntime as ort

        path = SHIPPED if path is None else Path(path)
        if not path.is_file():
            raise InputError(path, "model", str(path), "an existing ONNX file")
        session, provider = None, "CPUExecutionProvider"
        if "CUDAExecutionProvider" in ort.get_available_providers():
            session = _try_cuda(ort, path)
            provider = "CUDAExecutionProvider" if session is not None else provider
        if session is None:
            try:
                session = ort.InferenceSession(str(path), _options(ort), providers=["CPUExecutionProvider"])
            except Exception as error:
                raise InputError(path, "model", str(error).splitlines()[0][:100], "a readable ONNX model") from None
        _check_graph(session, path)
        if provider not in _said:
            _said.add(provider)
            log.info("predictor runs on %s", "the GPU (CUDA)" if provider.startswith("CUDA") else "the CPU")
        heads = session.get_modelmeta().custom_metadata_map["heads"].split("\n")
        return cls(session, heads, provider)

    def score(self, prompts: Sequence[str]) -> Scores:
        """Score prompts, in batches of prompts of like length."""
        order = np.argsort([len(prompt) for prompt in prompts], kind="stable")
        p = np.empty((len(prompts), len(self.heads)))
        for at in range(0, len(order), BATCH):
            rows = order[at : at + BATCH]
            batch = featurize([prompts[i] for i in rows])
            (p[rows],) = self._session.run(["p"], {"ids": batch.ids, "values": batch.values})
        by_head = dict(zip(self.heads, p.T, strict=True))
        difficulty = by_head.pop("difficulty")
        return Scores(difficulty, {name.removeprefix("p:"): v for name, v in by_head.items()})


def _options(ort: Any) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # a missing CUDA library is not the user's concern
    options.intra_op_num_threads = 1  # the graph is small: more threads only wait for each other
    return options


def _try_cuda(ort: Any, path: Path) -> Any | None:
    """A session that really runs on CUDA, or ``None``."""
    try:
        with _silenced():
            session = ort.InferenceSession(
                str(path), _options(ort), providers=["CUDAExecutionProvider", "CPUExecutionProvider"]
            )
            if session.get_providers()[0] != "CUDAExecutionProvider":
                return None
            batch = featurize(["try"])
            session.run(["p"], {"ids": batch.ids, "values": batch.values})
    except Exception:
        return None
    return session


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep what native code writes to standard error off the screen."""
    try:
        kept = os.dup(2)
    except OSError:  # no standard error to speak of
        yield
        return
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  # a device, not a path
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _check_graph(session: Any, path: Path) -> None:
    inputs = {item.name for item in session.get_inputs()}
    outputs = {item.name for item in session.get_outputs()}
    meta = session.get_modelmeta().custom_metadata_map
    if inputs != {"ids", "values"} or "p" not in outputs or meta.get("buckets") != str(BUCKETS):
        got = f"inputs {sorted(inputs)}, outputs {sorted(outputs)}"
        raise InputError(path, "model", got, f"a predictor with inputs ids, values ({BUCKETS} buckets), output p")
    if "difficulty" not in meta.get("heads", "").split("\n"):
        raise InputError(path, "model", meta.get("heads", "")[:60], "a head named difficulty")
