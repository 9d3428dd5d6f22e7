"""docs/invariants.md names tests: they are there."""

from __future__ import annotations

import ast
import re

from tests.conftest import ROOT


def test_every_test_named_is_there() -> None:
    named = 0
    for row in (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8").splitlines():
        if not row.startswith("| ") or "test_" not in row:
            continue
        file = ""
        for part in row.rstrip(" |").rpartition("|")[2].split(","):
            place, _, test = part.strip().partition("::")
            file = place or file
            tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
            assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{test}"
            named += 1
    assert named > 40


def test_every_relation_is_spoken_of() -> None:
    text = (ROOT / "docs" / "invariants.md").read_text(encoding="utf-8")
    spoken = {
        int(number)
        for number in re.findall(r"[Rr]elation (\d+)|of relation\n?(\d+)|and (\d+) \(", text)
        for number in number
        if number
    }
    assert spoken == set(range(1, 20))
