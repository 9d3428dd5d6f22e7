"""``python scripts/run_docs.py``: carry out what the pages of the documentation say, and compare what they say it prints.

Each page has a folder of its own. By the first words of a block's fence:

- ``yaml``, ``json``, ``jsonl``, ``csv``, ``toml`` or ``python`` with a name beside it, or in its first line as
  ``# NAME``, is a file;
- ``yaml`` without a name is part of a scenario: it is put into the one that the page names, ``<!-- parts of NAME -->``,
  and read;
- ``sh`` is run, and so is ``python``, all of a page's in one go; a ``text`` block after it is what it prints: ``...`` in
  that stands for anything, in a line or as a line of its own;
- ``sh`` with ``elsewhere`` and a reason beside it (an account, an installation) is not run: its options are looked up;
  ``python`` with ``elsewhere walk`` is compiled.

``ttc-sim`` ends with status 0 but where the line says ``# status 2``. ``<!-- run ... -->`` holds what a page needs and does
not show, and ``<!-- have NAME -->`` a file that readers have (``HAVE``). ``--update`` writes down anew what is printed,
and keeps the pictures that a page shows and its commands draw.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from doc_blocks import Block, blocks_of, file_name, matches
from doc_commands import end_what_runs, look_up, run_python, run_shell
from doc_files import have, with_parts

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
"""Pages that are carried out."""
REASONS = ("account", "network", "install", "editor", "gpu", "walk")
"""Why commands may be run elsewhere alone: what they need, that a machine for tests has not; or they take so long that only
``scripts/walk.py`` runs them."""
_FILES = ("yaml", "json", "jsonl", "csv", "toml", "python")


@dataclass
class Page:
    """What carrying out a page comes to."""

    folder: Path
    printed: str | None = None
    base: str = "reasoning-gateway"
    names: dict[str, object] = field(default_factory=lambda: {"__name__": "__main__"})
    faults: list[str] = field(default_factory=list)

    def through(self, text: str) -> str:
        """The page as it ought to be."""
        parts: list[str] = []
        end = 0
        for block in blocks_of(text):
            parts += [text[end : block.begins], self.carry_out(block)]
            end = block.ends
        return "".join([*parts, text[end:]])

    def carry_out(self, block: Block) -> str:
        """The block as it ought to stand there."""
        name = file_name(block) if block.kind in _FILES else None
        if block.kind == "text":
            return self._compared(block)
        self.printed = None
        if name is not None:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.content, encoding="utf-8")
        elif block.kind == "yaml":
            self.faults += with_parts(block.content, self.base, self.folder)
        elif block.kind == "python" and block.said == "elsewhere walk":
            compile(block.content, "<block>", "exec")
        elif block.kind == "python":
            self._take(run_python(block.content, self.names, self.folder))
        elif block.kind == "sh":
            self._shell(block)
        elif block.kind == "parts of":
            self.base = block.content.strip()
        elif block.kind == "have":
            for one in block.content.split():
                have(one, self.folder)
        elif block.kind == "run":
            self.faults += run_shell(block.content, self.folder)[1]
        else:
            self.faults.append(
                f"a block of {block.kind or 'no kind'}, which is neither run nor compared:\n{block.content}"
            )
        return block.whole

    def _shell(self, block: Block) -> None:
        elsewhere, _, reason = block.said.partition(" ")
        if elsewhere == "elsewhere":
            if reason not in REASONS:
                self.faults.append(f"elsewhere for {reason!r}; known are {', '.join(REASONS)}")
            self.faults += look_up(block.content)
        else:
            self._take(run_shell(block.content, self.folder))

    def _take(self, done: tuple[str, list[str]]) -> None:
        self.printed = done[0]
        self.faults += done[1]

    def _compared(self, block: Block) -> str:
        if self.printed is None:
            self.faults.append(f"said to be printed, and nothing before it prints:\n{block.content}")
            return block.whole
        printed, self.printed = self.printed, None
        if matches(block.content, printed):
            return block.whole
        lines = difflib.unified_diff(block.content.splitlines(), printed.splitlines(), "said", "printed", lineterm="")
        self.faults.append("\n".join(lines))
        kept = with_gaps(block.content, printed)
        return f"```text\n{kept if matches(kept, printed) else printed}```"


def with_gaps(said: str, printed: str) -> str:
    """What is printed, without what a page leaves out of it: ``...`` stands again where it stood, between what goes on to be there.

    >>> with_gaps("one 1\\n...\\nlast\\n", "one 2\\nmore\\nand more\\nlast\\n")
    'one 2\\n...\\nlast\\n'
    """
    old, new, kept = said.splitlines(True), printed.splitlines(True), list[str]()
    for _, i, upto_i, j, upto_j in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        left, here = [one.strip() for one in old[i:upto_i]], new[j:upto_j]
        if left.count("...") == 1:
            before = left.index("...")
            after = len(left) - before - 1
            here = [*here[:before], "...\n", *here[len(here) - after :]]
        kept += here
    return "".join(kept)


def carried_out(text: str, folder: Path | None = None) -> tuple[str, list[str]]:
    """The page with what its commands print now, and what of it is not what stood there; in a folder that is kept, if given."""
    with tempfile.TemporaryDirectory(prefix="ttc-sim-page-") as name:
        page = Page(folder or Path(name))
        try:
            return page.through(text), page.faults
        finally:
            end_what_runs()


def keep_pictures(text: str, made_in: Path, at: Path) -> None:
    """Pictures that a page shows and its own commands draw."""
    for name in re.findall(r"!\[[^\]]*\]\(([^)/:]+)\)", text):
        if (made_in / name).is_file():
            (at / name).write_bytes((made_in / name).read_bytes())


def main() -> int:
    """Exit status: 0 if every page does what it says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", default=PAGES, metavar="PAGE")
    parser.add_argument("--update", action="store_true", help="write down what is printed now")
    given = parser.parse_args()
    status = 0
    for page in given.pages:
        path = ROOT / page
        with tempfile.TemporaryDirectory(prefix="ttc-sim-page-") as name:
            now, faults = carried_out(path.read_text(encoding="utf-8"), Path(name))
            if given.update and not any(map(_is_broken, faults)):
                path.write_text(now, encoding="utf-8")
                keep_pictures(now, Path(name), path.parent)
                continue
        if faults:
            status = 1
            print(page, *faults, sep="\n")
    return status


def _is_broken(fault: str) -> bool:
    """Not merely other figures."""
    return not re.match(r"--- said|$", fault)


if __name__ == "__main__":
    sys.exit(main())
