"""``python scripts/run_docs.py``: carry out what the pages of the documentation say, and compare what they say it prints.

A block of ``yaml`` or ``csv`` whose first line is ``# NAME`` is a file. A block of ``sh`` is run in a folder of the page's own, and
the block of ``text`` after it is what it prints. ``--update`` writes that down anew.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("docs/tutorial.md",)
"""Pages that are carried out."""
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def carried_out(text: str) -> tuple[str, list[str]]:
    """The page with what its commands print now, and what of it is not what stood there."""
    faults: list[str] = []
    parts: list[str] = []
    end, printed = 0, ""
    with tempfile.TemporaryDirectory(prefix="ttc-sim-page-") as name:
        for found in _BLOCK.finditer(text):
            kind, content = found.groups()
            parts.append(text[end : found.start()])
            end = found.end()
            block = found[0]
            if kind in ("yaml", "csv") and (named := re.match(r"# (\S+\.\w+)\n", content)):
                (Path(name) / named[1]).write_text(content, encoding="utf-8")
            elif kind == "sh":
                printed, fault = _run(content, Path(name))
                faults += fault
            elif kind == "text":
                if content != printed:
                    faults.append(
                        "\n".join(difflib.unified_diff(content.splitlines(), printed.splitlines(), "said", "printed"))
                    )
                block = f"```text\n{printed}```"
            parts.append(block)
    return "".join([*parts, text[end:]]), faults


def _run(script: str, folder: Path) -> tuple[str, list[str]]:
    """What it prints, and how it failed."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
        "COLUMNS": "150",
        "LANG": "C.UTF-8",
    }
    done = subprocess.run(
        ["bash", "-e", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    printed = "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())
    return printed, [] if done.returncode == 0 else [f"{script}: status {done.returncode}\n{done.stderr[-2000:]}"]


def main() -> int:
    """Exit status: 0 if every page does what it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="*", default=PAGES)
    parser.add_argument("--update", action="store_true", help="write down what is printed now")
    given = parser.parse_args()
    status = 0
    for page in given.pages:
        path = ROOT / page
        now, faults = carried_out(path.read_text(encoding="utf-8"))
        if given.update:
            path.write_text(now, encoding="utf-8")
        elif faults:
            status = 1
            print(page, *faults, sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
