"""Every importer that comes with the package, on a log of its own under ``logs/``, and on those of all others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.importing.helping import imported
from ttc_sim.measured.importing import IMPORTERS
from ttc_sim.measured.importing.detecting import recognise
from ttc_sim.measured.importing.formats.table import ROLES
from ttc_sim.testing import ImporterConformance

LOGS = Path(__file__).parent / "logs"
FILES = [path for folder in sorted(LOGS.iterdir()) if folder.is_dir() for path in sorted(folder.iterdir())]


def of(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def test_every_importer_has_a_log() -> None:
    assert {path.parent.name for path in FILES} == set(IMPORTERS)


@pytest.mark.parametrize("path", FILES, ids=of)
def test_a_log_is_recognised_by_its_own_importer_alone(path: Path) -> None:
    assert recognise(path, None)[0] == path.parent.name


@pytest.mark.parametrize("path", FILES, ids=of)
def test_a_log_keeps_what_every_importer_keeps(path: Path) -> None:
    made: Any = type("Made", (ImporterConformance,), {})()
    importer = IMPORTERS[path.parent.name]()
    type(made).importer, type(made).log, type(made).name = importer, path.read_bytes(), path.name
    if not importer.zips:
        type(made).calls = len(made._calls())
        assert type(made).calls > 0
    for name in dir(ImporterConformance):
        # Of the generic one others' logs bear marks too, and it is asked last.
        if name.startswith("test_") and not (importer.zips or (path.parent.name == "table" and "recognised" in name)):
            getattr(made, name)()


@pytest.mark.parametrize("path", FILES, ids=of)
def test_a_log_comes_in_with_all_its_rows_accounted_for(path: Path, tmp_path: Path) -> None:
    audit, out = imported(tmp_path, path.read_bytes(), path.name)
    assert audit.read == audit.kept + sum(
        one.rows for why, one in audit.left_out.items() if not why.startswith("graded")
    )
    assert audit.kept > 0
    assert (out / "import.json").exists()


def test_the_page_names_every_format_and_every_role() -> None:
    page = (Path(__file__).parents[2] / "docs" / "import.md").read_text(encoding="utf-8")
    formats = page[page.index("## Formats") :]
    assert set(re.findall(r"^\| `([\w-]+)` \|", formats, re.MULTILINE)) == set(IMPORTERS)
    roles = page[page.index("Roles:") :].split("Of times in milliseconds")[0]
    assert set(re.findall(r"`(\w+)`", roles)) == set(ROLES)
