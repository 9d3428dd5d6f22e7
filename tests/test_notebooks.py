"""Notebooks run from top to bottom and hold no stale output."""

from __future__ import annotations

import ast
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from .conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOURS_OF_THE_DAY", "2")  # of a notebook whose day takes minutes
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}})
    client.execute()
    assert any(cell.get("outputs") for cell in notebook.cells)


@pytest.mark.parametrize("name", ["01-choosing-routing-thresholds", "05-what-if-on-token-spend"])
def test_notebooks_for_users_use_what_is_public_alone(name: str) -> None:
    """A user's first steps must not rest on what may change."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code").replace("%matplotlib", "#")
    used: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            used |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            used |= {name.name for name in node.names}
    assert "ttc_sim" in {name.split(".")[0] for name in used}, "an import that is not seen"
    ours = {name for name in used if name.startswith("ttc_sim.")}
    assert not [name for name in ours if not name.startswith(("ttc_sim.reporting.", "ttc_sim.scenario."))]
    assert not [name for name in ours if "._" in name]
