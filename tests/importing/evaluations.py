"""What the tests of evaluation logs have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing import Answers, import_logs

LOGS = Path(__file__).parent / "logs"


def imported(
    *files: Path, out: Path, answers: Answers | None = None, format: str | None = None
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Attempts and audit of an import."""
    audit = import_logs(files, out, answers=answers, format=format)
    return pl.read_parquet(out / "attempts.parquet"), audit.as_json()


def read_or_refused(*files: Path, out: Path) -> None:
    """Import; what is refused is refused in our words, not in those of a library or of Python."""
    try:
        import_logs(files, out)
    except InputError as error:
        if "Error" in str(error):
            pytest.fail(str(error))


def as_lines(path: Path, records: Iterable[Any]) -> Path:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    return path


def as_document(path: Path, document: Any) -> Path:
    """Write one JSON document."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def left_out(audit: dict[str, Any]) -> dict[str, int]:
    """Rows by the reason why they were left out."""
    return {why: one["rows"] for why, one in audit["rows"]["why"].items()}


def columns(attempts: pl.DataFrame, *names: str) -> list[tuple[Any, ...]]:
    """Values of columns, a tuple a row."""
    return attempts.select(names).rows()
