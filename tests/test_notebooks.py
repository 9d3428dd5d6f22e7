"""Notebooks hold what their cells put out, and put it out again when they are run."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from .conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import run_notebooks

SMALLER = {"04-capacity-for-a-day": {"HOURS_OF_THE_DAY": "1"}}
"""Notebooks whose run takes minutes, and what makes it small: figures are then others, tables and pictures the same."""


@pytest.mark.parametrize("path", run_notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_kept_is_of_one_run_of_this_code(path: Path) -> None:
    assert run_notebooks.faults(path) == []
    cells = run_notebooks.code_cells(run_notebooks.read(path))
    assert any(run_notebooks.pictures(cell) for cell in cells)
    assert sum(bool(cell.outputs) for cell in cells) > len(cells) / 2


@pytest.mark.parametrize("path", run_notebooks.NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_puts_out_what_it_keeps(path: Path) -> None:
    smaller = SMALLER.get(path.stem, {})
    kept = {cell.id: cell.outputs for cell in run_notebooks.code_cells(run_notebooks.read(path))}
    ran = run_notebooks.code_cells(run_notebooks.executed(path, leave_out=run_notebooks.SLOW, **smaller))
    assert len(ran) > len(kept) / 2
    for cell in ran:
        assert [_kinds(one) for one in cell.outputs] == [_kinds(one) for one in kept[cell.id]], cell.source
        for one, before in zip(cell.outputs, kept[cell.id], strict=True):
            # Pictures and numbers of a smaller run are others; what stands above their columns is not.
            said, told = run_notebooks.text_of(one), run_notebooks.text_of(before)
            assert (_columns(said) == _columns(told)) if smaller else (said == told), cell.source


def _kinds(output: Any) -> tuple[str, ...]:
    return (output.output_type, *sorted(output.get("data", {})))


def _columns(text: str) -> list[str]:
    """Names above the columns of a table; nothing of other text."""
    lines = text.splitlines()
    return [name.strip() for name in lines[1].strip("│").split("┆")] if lines and lines[0].startswith("┌") else []


def _changed(path: Path, out: Path, change: Any) -> list[str]:
    notebook = run_notebooks.read(path)
    change(notebook)
    nbformat.write(notebook, out)  # type: ignore[no-untyped-call]
    return run_notebooks.faults(out)


def test_outputs_that_do_not_belong_to_the_code_are_found(tmp_path: Path) -> None:
    path, out = run_notebooks.NOTEBOOKS[0], tmp_path / "one.ipynb"

    def code(notebook: Any) -> None:
        run_notebooks.code_cells(notebook)[-1].source += "\n"

    def version(notebook: Any) -> None:
        notebook.metadata["ttc_sim"]["version"] = "0.0"

    def order(notebook: Any) -> None:
        run_notebooks.code_cells(notebook)[1].execution_count = 7

    def path_of_a_machine(notebook: Any) -> None:
        run_notebooks.code_cells(notebook)[0].outputs[0]["text"] = "written to /home/someone/plan.yaml\n"

    def warning(notebook: Any) -> None:
        run_notebooks.code_cells(notebook)[0].outputs[0]["name"] = "stderr"

    assert _changed(path, out, lambda notebook: None) == []
    assert "code has changed" in _changed(path, out, code)[0]
    assert "code has changed" in _changed(path, out, version)[0]
    assert "cell 2 has number 7" in _changed(path, out, order)[0]
    assert "names a path" in _changed(path, out, path_of_a_machine)[0]
    assert "failed or warned" in _changed(path, out, warning)[0]


def test_a_run_leaves_nothing_of_the_machine_and_is_the_same_bytes_again(tmp_path: Path) -> None:
    path = tmp_path / "small.ipynb"
    cells = [
        "import sys\nimport matplotlib.pyplot as plt\nprint('to read', file=sys.stderr)\nprint(1)\nobject()",
        "plt.plot([1, 3, 2]);",
        "raise ValueError('slow')",
    ]
    notebook = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[nbformat.v4.new_code_cell(source) for source in cells],  # type: ignore[no-untyped-call]
        metadata={"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
    )
    notebook.cells[2].metadata["tags"] = [run_notebooks.SLOW]
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    assert len(run_notebooks.code_cells(run_notebooks.executed(path, leave_out=run_notebooks.SLOW))) == 2
    notebook.cells[2].source = "2"
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]
    run_notebooks.keep(path)
    first = path.read_bytes()
    run_notebooks.keep(path)
    assert path.read_bytes() == first
    assert run_notebooks.faults(path) == []
    said = [run_notebooks.text_of(one) for cell in run_notebooks.read(path).cells for one in cell.outputs]
    assert said == ["1\n", "<object>", "<Figure size 640x480 with 1 Axes>", "2"]


@pytest.mark.parametrize("name", ["01-choosing-routing-thresholds", "05-what-if-on-token-spend"])
def test_notebooks_for_users_use_what_is_public_alone(name: str) -> None:
    """A user's first steps must not rest on what may change."""
    notebook = run_notebooks.read(ROOT / "notebooks" / f"{name}.ipynb")
    code = "\n".join(cell.source for cell in run_notebooks.code_cells(notebook)).replace("%matplotlib", "#")
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
