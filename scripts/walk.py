"""``python scripts/walk.py``: go through README and documentation as a stranger would, and fail on any difference.

A clone of what is committed is installed into an empty environment, with a home, a path and folders of its own; there every
command of every page is copied to a shell, in the page's order, and what it prints is compared with what the page says.
``make demo`` is carried out in the clone, and ``make test`` too with ``--tests``. It takes minutes, and pip downloads.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import run_docs
from doc_blocks import Block, file_name
from doc_commands import TERMINAL, end_what_runs, run_in_a_shell, stripped

ROOT = run_docs.ROOT
EXTRAS = "gpus,notebook,collect,serve,ray,dask,sensitivity,encoder,train"
_LONGEST_S = 3600
FIRST = ("README.md", "docs/install.md", "docs/tutorial.md")
# One that stays, so that a page's blocks share their names; an answer for each is a line, beside what they print.
_PYTHON = """
import contextlib, io, json, sys, traceback
names = {"__name__": "__main__"}
for line in sys.stdin:
    out, fault = io.StringIO(), ""
    with contextlib.redirect_stdout(out):
        try:
            exec(compile(json.loads(line), "<block>", "exec"), names)
        except BaseException:
            fault = traceback.format_exc(limit=-3)
    print(json.dumps([out.getvalue(), fault]), flush=True)
"""


@dataclass
class Place:
    """Where a stranger is: an installation, and nothing else of this machine's."""

    folder: Path

    @property
    def program(self) -> Path:
        """The environment's Python."""
        return self.folder / "environment" / "bin" / "python"

    def variables(self) -> dict[str, str]:
        """Of a shell there."""
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        return {
            "PATH": f"{self.program.parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(home),
            **TERMINAL,
        }


@dataclass
class WalkedPage(run_docs.Page):
    """A page that is copied to a shell, command by command."""

    place: Place = field(kw_only=True)
    python: subprocess.Popen[str] | None = None

    def carry_out(self, block: Block) -> str:
        """The block as it ought to stand there."""
        if block.kind == "python" and file_name(block) is None:
            self._take(self._in_python(block.content))
            return block.whole
        if block.kind == "run":
            self.faults += self._in_a_shell(block.content)[1]
            return block.whole
        return super().carry_out(block)

    def _shell(self, block: Block) -> None:
        elsewhere, _, reason = block.said.partition(" ")
        if elsewhere == "elsewhere" and reason != "walk":
            super()._shell(block)
        else:
            self._take(self._in_a_shell(block.content))

    def _in_a_shell(self, script: str) -> tuple[str, list[str]]:
        return run_in_a_shell(script, self.folder, self.place.variables(), _LONGEST_S)

    def _in_python(self, code: str) -> tuple[str, list[str]]:
        if self.python is None:
            self.python = subprocess.Popen(
                [self.place.program, "-c", _PYTHON],
                cwd=self.folder,
                env=self.place.variables(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        assert self.python.stdin is not None
        assert self.python.stdout is not None
        print(json.dumps(code), file=self.python.stdin, flush=True)
        printed, fault = json.loads(self.python.stdout.readline() or '["", "Python ended"]')
        return stripped(printed), [f"{code}\n{fault}"] if fault else []

    def leave(self) -> None:
        """The page has ended, and with it what it began."""
        end_what_runs()
        if self.python is not None and self.python.stdin is not None:
            self.python.stdin.close()
            self.python.wait()


def arrive(folder: Path) -> Place:
    """Clone what is committed, and install it as the page on installing says, but from the clone.

    Raises:
        SystemExit: it cannot be installed.
    """
    place = Place(folder)
    clone = folder / "clone"
    steps: list[list[str | Path]] = [
        ["git", "clone", "--quiet", ROOT, clone],
        [sys.executable, "-m", "venv", folder / "environment"],
        [
            place.program,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--constraint",
            clone / "constraints.txt",
            f"{clone}[{EXTRAS}]",
        ],
    ]
    for words in steps:
        # This machine's settings hold for pip: where packages come from.
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, words))}: status {done.returncode}\n{done.stderr[-3000:]}")
    return place


def made(place: Place, target: str) -> list[str]:
    """What is wrong with a target of the Makefile, in the clone."""
    done = subprocess.run(
        ["make", target], cwd=place.folder / "clone", env=dict(os.environ), capture_output=True, text=True, check=False
    )
    return [] if done.returncode == 0 else [f"make {target}: status {done.returncode}\n{done.stderr[-3000:]}"]


def walk(page: str, place: Place) -> list[str]:
    """What of a page does not come to what it says."""
    folder = Path(tempfile.mkdtemp(prefix="page-", dir=place.folder))
    walked = WalkedPage(folder, place=place)
    try:
        walked.through((place.folder / "clone" / page).read_text(encoding="utf-8"))
    finally:
        walked.leave()
        shutil.rmtree(folder, ignore_errors=True)
    return walked.faults


def main() -> int:
    """Exit status: 0 if everything comes to what the pages say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="all of them if left out")
    parser.add_argument("--tests", action="store_true", help="carry `make test` out too")
    parser.add_argument("--no-demo", action="store_true", help="leave `make demo` out")
    given = parser.parse_args()
    pages = given.pages or [*FIRST, *(page for page in run_docs.PAGES if page not in FIRST)]
    status = 0
    with tempfile.TemporaryDirectory(prefix="ttc-sim-walk-") as name:
        began = time.perf_counter()
        place = arrive(Path(name))
        print(f"installed in {time.perf_counter() - began:.0f} s", flush=True)
        targets = [*([] if given.no_demo else ["demo"]), *(["test"] if given.tests else [])]
        for what in [*(f"make {target}" for target in targets), *pages]:
            began = time.perf_counter()
            faults = made(place, what.removeprefix("make ")) if what.startswith("make ") else walk(what, place)
            status = 1 if faults else status
            print(
                f"{what}: {'not as it says' if faults else 'as it says'}, {time.perf_counter() - began:.0f} s",
                flush=True,
            )
            print(*faults, sep="\n", end="\n" if faults else "")
    return status


if __name__ == "__main__":
    sys.exit(main())
