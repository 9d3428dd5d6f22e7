"""Small logs, made up, and what comes of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ttc_sim.measured.importing import Answers, Audit, import_logs

Rows = Sequence[Mapping[str, Any]]


def lines(rows: Rows) -> str:
    """JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(rows: Rows, mark: str = ",") -> str:
    """CSV with all columns of all rows."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, delimiter=mark, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def imported(folder: Path, content: str | bytes, name: str = "log.jsonl", **how: Any) -> tuple[Audit, Path]:
    """The audit of a log, and the folder of what came of it, new each time."""
    number = len(list(folder.iterdir()))
    log = folder / f"{number}-{name}"
    log.write_bytes(content.encode() if isinstance(content, str) else content)
    answers = {key: how.pop(key) for key in list(how) if key in Answers.__dataclass_fields__}
    out = folder / f"{number}-out"
    return import_logs([log], out, answers=Answers(**answers), **how), out


def traffic(out: Path) -> pl.DataFrame:
    """The table of traffic."""
    return pl.read_parquet(out / "traffic.parquet")


def understood(audit: Audit, what: str) -> list[str]:
    """As what something was taken, of each model it is said of."""
    return [one.taken for one in audit.understood if one.what == what]


def of_file(folder: Path, name: str, **how: Any) -> tuple[Audit, Path]:
    """As :func:`imported`, of a file under ``logs/``."""
    path = Path(__file__).parent / "logs" / name
    return imported(folder, path.read_bytes(), path.name, **how)


def left(audit: Audit) -> dict[str, int]:
    """Rows left out, by reason."""
    return {why: one.rows for why, one in audit.left_out.items()}
