"""``python scripts/run_notebooks.py``: run the notebooks from top to bottom, and keep in them what their cells put out.

What is kept depends on nothing but the notebook and the package: run again, a notebook is the same bytes.
``tests/test_notebooks.py`` holds what is kept against a run of its own.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import re
import resource
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from PIL import Image

import ttc_sim

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = tuple(sorted((ROOT / "notebooks").glob("*.ipynb")))
PICTURE_BYTES, NOTEBOOK_BYTES = 60_000, 600_000
"""Most that a picture and a notebook with all of its may take."""
COLORS = 128  # of a picture: its lines and letters look the same, in a third of the bytes
SLOW = "slow"
"""Tag of a cell that tests do not run again."""
_KEPT = ("text/html", "text/plain", "image/png")
_WIDGET = "application/vnd.jupyter.widget-view+json"
_ADDRESS = re.compile(r"(?: object)? at 0x[0-9a-f]+")
# A path from the root of a machine, of two names at least; not what ends a tag, and no part of an address on the web.
_PATH = re.compile(r"(?<![\w.:/<>)\]}-])/\w[\w.-]*/\w|\b[A-Z]:\\\w")


def executed(path: Path, leave_out: str | None = None, **environment: str) -> Any:
    """The notebook with the outputs of a run in a kernel of its own; cells with a tag that is to be left out have none.

    Raises:
        CellExecutionError: a cell raised an error. ValueError: a cell warned.
    """
    run = read(path)
    run.cells = [cell for cell in run.cells if leave_out is None or leave_out not in cell.metadata.get("tags", ())]
    with _surroundings(environment):
        NotebookClient(
            run,
            timeout=3600,
            coalesce_streams=True,
            record_timing=False,
            resources={"metadata": {"path": str(path.parent)}},
        ).execute()
    for cell in code_cells(run):
        cell.outputs = [kept for output in cell.outputs if (kept := _kept(output)) is not None]
    return run


def read(path: Path) -> Any:
    """As it stands in the file."""
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


def code_cells(notebook: Any) -> list[Any]:
    """Without its text."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def seal(notebook: Any) -> dict[str, str]:
    """What the outputs come from: the version of the package, and a hash of all code."""
    sources = json.dumps([cell.source for cell in code_cells(notebook)])
    return {"version": ttc_sim.__version__, "code_sha256": hashlib.sha256(sources.encode()).hexdigest()}


def text_of(output: Any) -> str:
    """What it says in letters: printed lines, or the text of a table, a picture or a value."""
    return str(output["text"] if output.output_type == "stream" else output["data"].get("text/plain", ""))


def pictures(cell: Any) -> list[bytes]:
    """Each a PNG file."""
    found = (output.get("data", {}).get("image/png") for output in cell.outputs)
    return [base64.b64decode(one) for one in found if one is not None]


def faults(path: Path) -> list[str]:
    """What is wrong with the outputs that are kept, without running anything."""
    notebook, found = read(path), []
    if notebook.metadata.get("ttc_sim") != seal(notebook):
        found.append("code has changed since it was run: make notebooks")
    for number, cell in enumerate(code_cells(notebook), 1):
        if cell.execution_count != number:
            found.append(f"cell {number} has number {cell.execution_count}: make notebooks")
        for output in cell.outputs:
            said = json.dumps(output)
            if output.output_type == "error" or output.get("name") == "stderr":
                found.append(f"cell {number} failed or warned")
            if _PATH.search(text_of(output)) or str(ROOT) in said or str(Path.home()) in said:
                found.append(f"cell {number} names a path of the machine that it was run on")
        sizes = [len(picture) for picture in pictures(cell)]
        found += [f"a picture of cell {number}: {size:,} bytes" for size in sizes if size > PICTURE_BYTES]
    if (size := path.stat().st_size) > NOTEBOOK_BYTES:
        found.append(f"{size:,} bytes")
    return found


def keep(path: Path) -> None:
    """Run a notebook, and write it back with its outputs."""
    notebook = executed(path)
    metadata = notebook.metadata
    notebook.metadata = {
        "kernelspec": metadata["kernelspec"],
        "language_info": {"name": "python"},
        "ttc_sim": seal(notebook),
    }
    for cell in notebook.cells:
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


@contextmanager
def _surroundings(environment: dict[str, str]) -> Iterator[None]:
    """The same for everybody: the default look of pictures, plain text, the commands of this environment, this package."""
    held = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="ttc-sim-notebook-") as name:
        plain = Path(name, "matplotlibrc")
        plain.touch()
        for one in [one for one in held if one.startswith("POLARS_") or one in ("FORCE_COLOR", "CLICOLOR_FORCE")]:
            del os.environ[one]
        before = os.pathsep + held["PYTHONPATH"] if held.get("PYTHONPATH") else ""
        os.environ.update(
            MATPLOTLIBRC=str(plain),
            PYTHONPATH=f"{ROOT}{before}",
            PATH=sysconfig.get_path("scripts") + os.pathsep + held["PATH"],
            LANG="C.UTF-8",
            **environment,
        )
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(held)


def _kept(output: Any) -> Any:
    """An output without what differs from run to run, and pictures small; None if nothing is left."""
    if output.output_type == "stream":
        if output.name == "stderr":
            if "Warning" in output.text:
                raise ValueError(output.text)
            return None  # lines about progress
        return output
    data = output.data
    if _WIDGET in data:
        return None  # it lives as long as its kernel does
    output.data = {kind: data[kind] for kind in _KEPT if kind in data}
    if "image/png" in output.data:
        output.data["image/png"] = _small(output.data["image/png"])
    if "text/plain" in output.data:
        output.data["text/plain"] = _ADDRESS.sub("", output.data["text/plain"])
    output.metadata = {}
    return output


def _small(picture: str) -> str:
    """With few colours."""
    image = Image.open(BytesIO(base64.b64decode(picture))).convert("RGB")
    out = BytesIO()
    image.quantize(COLORS, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode() + "\n"


def main() -> int:
    """Exit status: 0 if what is kept now is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("notebooks", nargs="*", type=Path, default=NOTEBOOKS)
    status, before = 0, 0.0
    for path in parser.parse_args().notebooks:
        keep(path.resolve())
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = used.ru_utime + used.ru_stime
        print(f"{path.name}: {seconds - before:.0f} s of a core, {path.stat().st_size / 1000:.0f} kB", flush=True)
        before = seconds
        for fault in faults(path.resolve()):
            status = 1
            print(f"{path.name}: {fault}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
