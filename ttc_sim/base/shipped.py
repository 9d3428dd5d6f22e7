"""Where the data stand that come with the package."""

from __future__ import annotations

from pathlib import Path


def shipped_folders(kind: str) -> list[Path]:
    """Where shipped data of a kind (``profiles``, ``scenarios``) may stand: in the wheel, or in the checkout."""
    package = Path(__file__).parents[1]
    return [folder for folder in (package / "_shipped" / kind, package.parent / kind) if folder.is_dir()]
