"""What several tests need."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of the measured data that the shipped numbers were derived from; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip("the measured data is not beside this checkout")
    return SHARED
