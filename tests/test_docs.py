"""The documentation: every page stands in the menu, every link leads somewhere, and what the tutorial says is what is printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))


def test_the_site_is_made_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    # In a process of its own: what reads the docstrings imports modules as type checkers see them.
    line = [sys.executable, str(ROOT / "scripts" / "build_docs.py"), "--check", "--out", str(tmp_path)]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_page_stands_in_the_menu_once() -> None:
    import build_docs
    import docs_pages

    listed = [page for chapter in build_docs.CHAPTERS.values() for page in chapter]
    assert len(listed) == len(set(listed))
    assert {f"{page}.md" for page in listed} | {"index.md"} == set(docs_pages.pages())


def test_every_link_leads_to_a_page_or_picture() -> None:
    import docs_pages

    pages = docs_pages.pages()
    pictures = set(docs_pages.pictures())
    for page, text in pages.items():
        prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", prose):
            if not re.match(r"[a-z]+:", target):
                found = Path(page).parent / target
                parts: list[str] = []
                for part in found.parts:
                    parts = parts[:-1] if part == ".." else [*parts, part]
                assert "/".join(parts) in {*pages, *pictures}, f"{page}: {target}"


def test_notebooks_are_pages_with_all_that_they_put_out() -> None:
    import docs_pages

    pages = docs_pages.pages()
    for path in docs_pages.NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", ())]
        page = pages[f"notebooks/{path.stem}.md"]
        shown = sum(page.count(start) for start in ("![What the cell above draws](", "```{raw} html", "```text\n"))
        assert shown == len(outputs) > 0
        for name in re.findall(r"!\[[^\]]*\]\((\S+)\)", page):
            assert docs_pages.pictures()[f"notebooks/{name}"].startswith(b"\x89PNG")


def test_commands_and_keys_are_all_there() -> None:
    import docs_pages

    pages = docs_pages.pages()
    assert "## ttc-sim predictor adapt" in pages["reference/commands.md"]
    assert "| `--plan` |" in pages["reference/commands.md"]
    assert "| `load_balancer` | `round_robin`, " in pages["reference/scenario.md"]
    assert ".. autofunction:: ttc_sim.what_if" in pages["reference/python.md"]


CARRIED_OUT = (
    "README.md",
    "docs/api-caches.md",
    "docs/budget.md",
    "docs/capacity.md",
    "docs/collect.md",
    "docs/command-line.md",
    "docs/data-parallel.md",
    "docs/disaggregated.md",
    "docs/engine-arguments.md",
    "docs/engine-order.md",
    "docs/errors-and-retries.md",
    "docs/explorer.md",
    "docs/export-servers.md",
    "docs/export.md",
    "docs/fidelity.md",
    "docs/gpus.md",
    "docs/health.md",
    "docs/host.md",
    "docs/import.md",
    "docs/install.md",
    "docs/invariants.md",
    "docs/monitor.md",
    "docs/more-samples.md",
    "docs/objectives.md",
    "docs/off-policy.md",
    "docs/predictor-adapt.md",
    "docs/predictor-evaluation.md",
    "docs/predictor.md",
    "docs/prefix-caches.md",
    "docs/prices.md",
    "docs/replicas.md",
    "docs/report.md",
    "docs/robust.md",
    "docs/run.md",
    "docs/runtime.md",
    "docs/search-space.md",
    "docs/sensitivity.md",
    "docs/serve.md",
    "docs/session-accuracy.md",
    "docs/session-policies.md",
    "docs/sessions-planning.md",
    "docs/sessions.md",
    "docs/speculative.md",
    "docs/sweep.md",
    "docs/targets.md",
    "docs/tiers.md",
    "docs/traffic.md",
    "docs/tutorial.md",
    "docs/utility.md",
    "docs/what-if.md",
)
NEEDS = {
    "docs/capacity.md": "aiconfigurator_core",
    "docs/collect.md": "httpx2",
    "docs/data-parallel.md": "aiconfigurator_core",
    "docs/disaggregated.md": "aiconfigurator_core",
    "docs/explorer.md": "anywidget",
    "docs/gpus.md": "aiconfigurator_core",
    "docs/predictor-adapt.md": "sklearn",
    "docs/predictor-evaluation.md": "sklearn",
    "docs/run.md": "httpx2",
    "docs/serve.md": "uvicorn",
}
"""What is not installed with the package itself."""


@pytest.mark.parametrize("page", CARRIED_OUT)
def test_a_page_prints_what_it_says(page: str) -> None:
    import run_docs

    if page in NEEDS:
        pytest.importorskip(NEEDS[page])
    _, faults = run_docs.carried_out((ROOT / page).read_text(encoding="utf-8"))
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ("```csv\n# a.csv\nx\n```\n```sh\ncat a.csv\n```\n```text\n# a.csv\ny\n```\n", "+x"),
        ("```sh\nexit 3\n```", "status 3"),
        ("```sh\nttc-sim simulate no-such\n```", "status 1"),
        ("```sh\nttc-sim list maths  # status 2\n```", "status 0"),
        ("```sh elsewhere account\nttc-sim simulate qa-gateway --no-such 3\n```", "--no-such"),
        ("```sh elsewhere laziness\nttc-sim doctor\n```", "laziness"),
        ("```python\nprint(2)\n```\n```text\n3\n```", "+2"),
        ("```python\nx = 1 / 0\n```", "ZeroDivisionError"),
        ("```yaml\ntargets: {minimize: fun}\n```", "fun"),
        ("```text\nnothing printed this\n```", "nothing before it"),
        ("```\nwhat is this?\n```", "no kind"),
    ],
)
def test_a_page_that_says_something_else_is_found(page: str, fault: str) -> None:
    import run_docs

    assert fault in run_docs.carried_out(page)[1][0]


def test_what_is_printed_is_written_down() -> None:
    import run_docs

    page = "```csv\n# a.csv\nx\n```\n```sh\ncat a.csv\n```\n```text\n# a.csv\ny\n```\n"
    now, _ = run_docs.carried_out(page)
    assert run_docs.carried_out(now) == (now, [])
    loose = "```sh\nseq 1 5\n```\n```text\n1\n...\n5\n```\n"
    assert run_docs.carried_out(loose) == (loose, [])
