"""What an export wrote, what it left out, and how to run it."""

from __future__ import annotations

from pathlib import Path

from ttc_sim.deploying.exports import Export
from ttc_sim.reporting.paper import Paper


def print_export(paper: Paper, export: Export, folder: Path) -> None:
    """Files, what is not expressed, and how to run it, a line each."""
    for name in export.files:
        paper.say(f"wrote {folder / name}")
    if export.not_expressed:
        paper.say()
        paper.say("not expressed, and so not done unless somebody else does it:", "bold")
        for line in export.not_expressed:
            paper.say(f"  - {line}")
    if export.how:
        paper.say()
        for line in export.how:
            paper.say(line)


__all__ = ["print_export"]
