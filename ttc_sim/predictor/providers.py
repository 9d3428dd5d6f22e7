"""Where a graph runs: TensorRT if asked for, CUDA if it can be used, the CPU otherwise."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ttc_sim.errors import InputError
from ttc_sim.predictor.features import Features

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
NAMES = {"cpu": (CPU,), "cuda": (CUDA, CPU), "tensorrt": (TENSORRT, CUDA, CPU)}


def make_session(path: Path, device: str, probe: Features, check: Callable[[Any], None]) -> tuple[Any, str]:
    """A session on the first provider of the device that really runs, and that provider's name.

    Args:
        probe: features that a GPU session must get through; check: raises ``InputError`` for a graph of another kind.

    Raises:
        InputError: not a model that ONNX Runtime can read.
    """
    import onnxruntime as ort

    wanted = NAMES[device]
    for at, provider in enumerate(wanted[:-1]):
        if provider in ort.get_available_providers():
            session = _try_gpu(ort, path, list(wanted[at:]), probe)
            if session is not None:
                check(session)
                return session, provider
    try:
        session = ort.InferenceSession(str(path), _options(ort), providers=[CPU])
    except Exception as error:  # its errors share no base of their own
        lines = str(error).splitlines() or [type(error).__name__]
        raise InputError(
            path, "model", lines[0][:100], "a readable ONNX model of an opset up to this ONNX Runtime's"
        ) from None
    check(session)
    return session, CPU


def _options(ort: Any) -> Any:
    options = ort.SessionOptions()
    options.log_severity_level = 4  # a missing CUDA library is not the user's concern
    options.intra_op_num_threads = 1  # the graph is small: more threads only wait for each other
    options.inter_op_num_threads = 1
    return options


def _try_gpu(ort: Any, path: Path, providers: list[str], probe: Features) -> Any | None:
    """A session that really runs there, or ``None``."""
    try:
        with _silenced():
            if hasattr(ort, "preload_dlls"):
                ort.preload_dlls()  # finds the libraries of the extra `cuda` among the installed packages
            session = ort.InferenceSession(str(path), _options(ort), providers=providers)
            if session.get_providers()[0] != providers[0]:
                return None
            run(session, providers[0], probe, ["p"])
    except Exception:
        return None
    return session


def run(session: Any, provider: str, batch: Features, names: Sequence[str]) -> list[Any]:
    """Run the graph; on a GPU with inputs and outputs bound to it, so that each crosses the bus once."""
    inputs = {"ids": batch.ids, "values": batch.values, "surface": batch.surface}
    if provider == CPU:
        found: list[Any] = session.run(names, inputs)
        return found
    binding = session.io_binding()
    for name, values in inputs.items():
        binding.bind_cpu_input(name, values)
    for name in names:
        binding.bind_output(name, "cuda")
    session.run_with_iobinding(binding)
    copied: list[Any] = binding.copy_outputs_to_cpu()
    return copied


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
