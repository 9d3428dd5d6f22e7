"""``python scripts/build_docs.py``: the documentation as a site, in ``site/``; anything that does not fit together ends it."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from docs_pages import NOTEBOOKS, ROOT, pages, pictures
from sphinx.cmd.build import main as sphinx

_CONF = """
project = "ttc-sim"
author = "the ttc-sim authors"
copyright = author
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "ttc-sim"
html_show_sphinx = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
smartquotes = False
suppress_warnings = ["ref.python"]
"""
_CONTENTS = """
```{toctree}
:hidden:
:caption: TITLE

PAGES
```
"""
CHAPTERS: dict[str, tuple[str, ...]] = {
    "First": ("install", "tutorial", "gallery"),
    "Notebooks": tuple(f"notebooks/{path.stem}" for path in NOTEBOOKS),
    "From your own logs": ("formats", "import", "collect", "predictor-adapt"),
    "What arrives, what must hold": ("traffic", "sessions", "targets", "budget"),
    "Where it is served": (
        *(
            "gpus",
            "engine-arguments",
            "host",
            "data-parallel",
            "speculative",
            "disaggregated",
            "replicas",
            "prefix-caches",
        ),
        *("prices", "tiers", "errors-and-retries", "api-caches"),
    ),
    "Planning": ("search-space", "objectives", "capacity", "robust", "session-policies", "sessions-planning"),
    "What if": ("what-if", "sensitivity", "sweep", "explorer"),
    "Handing on and deploying": ("report", "export", "export-servers", "serve", "run", "runtime"),
    "Watching": ("monitor", "off-policy"),
    "How it works": (
        "more-samples",
        "utility",
        "predictor",
        "predictor-evaluation",
        "session-accuracy",
        "engine-order",
    ),
    "How far to trust it": ("fidelity", "invariants", "health"),
    "Reference": (
        *("command-line", "migration", "reference/commands", "reference/scenario", "reference/python"),
        *("reference/changelog", "reference/security", "reference/contributing"),
    ),
}
"""Pages in the order of the menu; one that stands in none is an error."""


def main() -> int:
    """Exit status: 0 if every page was made and every link leads somewhere."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "site")
    parser.add_argument("--check", action="store_true", help="read every page, and write none")
    given = parser.parse_args()
    out, builder = given.out, "dummy" if given.check else "html"
    with tempfile.TemporaryDirectory(prefix="ttc-sim-docs-") as folder:
        source = Path(folder)
        for page, text in pages().items():
            (source / page).parent.mkdir(exist_ok=True)
            (source / page).write_text(text, encoding="utf-8")
        for name, picture in pictures().items():
            (source / name).parent.mkdir(exist_ok=True)
            (source / name).write_bytes(picture)
        contents = (
            _CONTENTS.replace("TITLE", title).replace("PAGES", "\n".join(chapter))
            for title, chapter in CHAPTERS.items()
        )
        with (source / "index.md").open("a", encoding="utf-8") as index:
            index.write("".join(contents))
        (source / "conf.py").write_text(_CONF, encoding="utf-8")
        return int(sphinx(["-q", "-W", "--keep-going", "-b", builder, str(source), str(out)]))


if __name__ == "__main__":
    sys.exit(main())
