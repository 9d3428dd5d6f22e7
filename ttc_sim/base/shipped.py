"""Where the data stand that come with the package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
PREDICTORS = {
    "fast": _PACKAGE / "predictor" / "model" / "difficulty.onnx",
    "encoder": _PACKAGE / "predictor" / "model" / "encoder.onnx",
}
"""The shipped predictors: one for a CPU core, and one with a text encoder, for a GPU or for patience."""


def shipped_folders(kind: str) -> list[Path]:
    """Where shipped data of a kind (``profiles``, ``scenarios``) may stand: in the wheel, or in the checkout."""
    return [folder for folder in (_PACKAGE / "_shipped" / kind, _PACKAGE.parent / kind) if folder.is_dir()]


def is_shipped(place: Path, kind: str) -> bool:
    """Whether a folder is among the shipped data of a kind."""
    return any(place.resolve().is_relative_to(folder.resolve()) for folder in shipped_folders(kind))
