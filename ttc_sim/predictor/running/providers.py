"""Where a graph runs: TensorRT if asked for, CUDA if it can be used, the CPU otherwise."""

from __future__ import annotations

import contextlib
import io
import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import at_most, most
from ttc_sim.base.shipped import PREDICTORS
from ttc_sim.files.opening import readable
from ttc_sim.predictor.reading.features import Features

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
NAMES = {"cpu": (CPU,), "cuda": (CUDA, CPU), "tensorrt": (TENSORRT, CUDA, CPU)}


HALF = "half"
"""Input of a graph that says whether networks and text encoder compute in 16 bits; 32 if it is left out."""
TEXT = "text"
FORMAT = "2"
"""Of what a predictor's graph takes, gives and says of itself, as its metadata name it."""
"""Input of a graph with a text encoder: a prompt's tokens."""
_TOLERANCE = 0.01
_ELSEWHERE = b"\x0a\x08location\x12"
"""How ONNX writes, key and beginning of the value, in which other file a tensor stands."""


@dataclass(frozen=True)
class Runner:
    """A session, the provider that it runs on, and whether it computes in 16 bits."""

    session: Any
    provider: str
    half: bool

    def __call__(self, batch: Features, names: Sequence[str]) -> list[Any]:
        """Outputs by these names."""
        inputs = {"ids": batch.ids, "values": batch.values, "surface": batch.surface}
        if batch.tokens is not None:
            inputs[TEXT] = batch.tokens
        if self.half:
            # No I/O binding knows it: an initializer that may be overridden is none of the graph's inputs.
            inputs[HALF] = np.array(True)
        found: list[Any] = self.session.run(names, inputs)
        return found


def make_runner(path: Path, device: str, check: Callable[[Any], Features], half: bool | None = None) -> Runner:
    """Runs a graph on the first provider of the device that really does, and says there what the CPU says.

    Args:
        check: raises ``InputError`` for a graph of another kind, and returns features that a GPU must get through.
        half: whether networks and text encoder compute in 16 bits; if left out, where there is a text encoder, and on a GPU only:
            what is smaller is no faster for it there.

    Raises:
        InputError: not a model that ONNX Runtime can read.
    """
    import onnxruntime as ort

    size = check_model(path)
    try:
        with _silenced():  # it prints what it makes of names that are no text
            session = ort.InferenceSession(str(path), _options(ort), providers=[CPU])
    except Exception:  # its errors share no base of their own, and are its own words
        expected = "a readable ONNX model of an opset up to this ONNX Runtime's"
        raise InputError(path, "model", f"{size:,} bytes that are none", expected) from None
    probe = check(session)
    able = HALF in {item.name for item in session.get_overridable_initializers()}
    on_gpu = half is True or (half is None and TEXT in {item.name for item in session.get_inputs()})
    on_cpu = Runner(session, CPU, half=able and half is True)
    try:
        on_cpu(probe, [])
    except Exception:
        shapes = ", ".join(f"{item.name} {item.type} {item.shape}" for item in session.get_inputs())
        raise InputError(path, "model", shapes, "a graph that takes a prompt's ids, values and surface") from None
    wanted = NAMES[device]
    for at, provider in enumerate(wanted[:-1]):
        if provider in ort.get_available_providers():
            found = _try_gpu(ort, path, list(wanted[at:]), half=able and on_gpu)
            if found is not None and _alike(found, on_cpu, probe):
                return found
    return on_cpu


def check_model(path: Path) -> int:
    """Size of an ONNX file, in bytes.

    Raises:
        InputError: no file, too large, or one whose weights stand in other files, which may be any.
    """
    size = readable(path, "model", "an existing ONNX file")
    if size > most("TTC_SIM_MAX_MODEL_GB") * 1e9:
        raise InputError(path, "model", f"{size / 1e9:,.1f} GB", at_most("TTC_SIM_MAX_MODEL_GB"))
    if size and path not in PREDICTORS.values():
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(_ELSEWHERE) >= 0:
                raise InputError(path, "model", "weights in other files", "one ONNX file with its weights in it")
    return size


def _options(ort: Any) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # a missing CUDA library is not the user's concern
    options.intra_op_num_threads = 1  # the graph is small: more threads only wait for each other
    options.inter_op_num_threads = 1
    return options


def _try_gpu(ort: Any, path: Path, providers: list[str], *, half: bool) -> Runner | None:
    """A session there, or ``None``."""
    try:
        with _silenced():
            if hasattr(ort, "preload_dlls"):
                ort.preload_dlls()  # finds the libraries of the extra `cuda` among the installed packages
            session = ort.InferenceSession(str(path), _options(ort), providers=providers)
            used = session.get_providers()[0]
    except Exception:
        return None
    return Runner(session, providers[0], half) if used == providers[0] else None


def _alike(one: Runner, other: Runner, probe: Features) -> bool:
    """Whether a session runs, and says what another says."""
    try:
        with _silenced():
            return bool(np.allclose(one(probe, ["p"])[0], other(probe, ["p"])[0], atol=_TOLERANCE))
    except Exception:
        return False


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep what native code writes to standard error, and what is printed, off the screen."""
    try:
        kept = os.dup(2)
    except OSError:  # no standard error to speak of
        yield
        return
    with open(os.devnull, "wb") as nowhere, contextlib.redirect_stdout(io.StringIO()):  # noqa: PTH123  # a device, not a path
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
