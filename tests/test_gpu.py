"""The predictor on a GPU, where there is one that ONNX Runtime can use."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import pytest

from benchmarks.predictor import prompts_like_measured
from ttc_sim.predictor import Predictor

MODELS = ("fast", "encoder")


@cache
def on_gpu(model: str, *, half: bool | None = None) -> Predictor:
    """A shipped predictor on the GPU; skips without one."""
    if model == "encoder":
        pytest.importorskip("tokenizers")
    predictor = Predictor.load(model, device="cuda", half=half)
    if predictor.provider != "CUDAExecutionProvider":
        pytest.skip("no GPU that ONNX Runtime can use")
    return predictor


def prompts() -> list[str]:
    """Empty, short, long, of other scripts, and as long as measured ones."""
    odd = ["", "2+2", "Wie viele Primzahlen?", "素数はいくつ", "x " * 20_000, "\x00\n\t"]
    return odd + prompts_like_measured(250)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("half", "within"), [(False, 2e-3), (None, 5e-3)])
def test_a_gpu_says_what_the_cpu_says(model: str, half: bool | None, within: float) -> None:
    gpu, texts = on_gpu(model, half=half), prompts()
    assert gpu.half == (half is None)
    here, there = Predictor.load(model, device="cpu").score(texts), gpu.score(texts)
    for name in here.p:
        assert np.abs(here.p[name] - there.p[name]).max() < within
        assert here.tokens[name] == pytest.approx(there.tokens[name], rel=10 * within)
    assert np.abs(here.difficulty - there.difficulty).max() < within


@pytest.mark.parametrize("model", MODELS)
def test_scores_on_a_gpu_do_not_depend_on_the_batch(model: str) -> None:
    gpu, texts = on_gpu(model), prompts()[:40]
    together = gpu.score(texts)
    alone = np.concatenate([gpu.score([text]).difficulty for text in texts])
    assert np.abs(together.difficulty - alone).max() < 2e-3


def test_a_text_encoder_is_faster_on_a_gpu() -> None:
    gpu, cpu, texts = on_gpu("encoder"), Predictor.load("encoder", device="cpu"), prompts_like_measured(64)
    gpu.score(texts)
    seconds = []
    for predictor in (gpu, cpu):
        start = time.perf_counter()
        predictor.score(texts)
        seconds.append(time.perf_counter() - start)
    assert seconds[0] < seconds[1]
