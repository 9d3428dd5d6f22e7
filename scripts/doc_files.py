"""Files that a page's reader has already, and parts of scenarios put into a whole one."""

from __future__ import annotations

import atexit
import copy
import datetime
import functools
import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from doc_blocks import blocks_of, file_name
from doc_commands import run_shell

import ttc_sim as ttc
from ttc_sim.base.draws import uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.files.documents import parse_yaml, read_yaml

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "scenarios"


def have(name: str, folder: Path) -> None:
    """Put a file of :data:`HAVE` into a folder; it is made once."""
    shutil.copy(_made(name), folder / name)


@functools.cache
def _made(name: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="ttc-sim-have-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    HAVE[name](folder)
    return folder / name


def of_page(page: str, name: str) -> Callable[[Path], None]:
    """A file that a page of the documentation writes out."""

    def write(folder: Path) -> None:
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        found = next(block.content for block in blocks_of(text) if file_name(block) == name)
        (folder / name).write_text(found, encoding="utf-8")

    return write


def by_commands(script: str, *needed: str) -> Callable[[Path], None]:
    """A file that commands make, of others that readers have."""

    def write(folder: Path) -> None:
        for name in needed:
            have(name, folder)
        faults = run_shell(script, folder)[1]
        if faults:
            raise ValueError("\n".join(faults))

    return write


def of_tests(name: str) -> Callable[[Path], None]:
    """A program that the tests start: what stands in for what readers reach over a network."""

    def write(folder: Path) -> None:
        shutil.copy(ROOT / "tests" / name, folder / name)

    return write


def graded(count: int, kind: str = "") -> tuple[list[str], list[str]]:
    """Problems and one graded attempt at each: sums, harder the more numbers they have; with a kind, in other words."""
    problems, attempts = ["id,prompt,task"], ["id,model,correct,output_tokens"]
    for k in range(count):
        numbers = [(k * 37 + j * 101) % 990 + 10 for j in range(2 + k % 7)]
        task, sign = ("sums", " + ") if k % 2 else ("products", " * ")
        text = f"What is {sign.join(map(str, numbers))}?"
        if kind:
            task, text = kind.lower(), f"{kind} {' then '.join(map(str, numbers))}"
        problems.append(f"q{k},{text},{task}")
        for model, able in (("reasoning-gym/llama-4-maverick", 4), ("reasoning-gym/o3-mini", 7)):
            right = len(numbers) + (k * 13) % 3 <= able
            attempts.append(f"q{k},{model},{int(right)},{20 * len(numbers) + (k * 7) % 15}")
    return problems, attempts


def of_graded(count: int, which: int, kind: str = "") -> Callable[[Path], None]:
    """One of the two tables of :func:`graded`, in a file of any name."""

    def write(folder: Path) -> None:
        name = next(name for name, made in HAVE.items() if made is write)
        (folder / name).write_text("\n".join(graded(count, kind)[which]) + "\n", encoding="utf-8")

    return write


def runs(folder: Path) -> None:
    """Runs of two agents at tasks, one each."""
    lines = ["model,instance_id,repo,resolved,cost,api_calls,output_tokens"]
    for k in range(120):
        turns, small = 30 + (k * 17) % 26, 40 + (k * 23) % 40
        lines.append(f"large,task-{k},repo-{k % 8},{str(k % 3 > 0).lower()},{0.02 * turns:.4f},{turns},{250 * turns}")
        right = str(k % 2 > 0).lower()
        lines.append(f"small,task-{k},repo-{k % 8},{right},{0.002 * small:.4f},{small},{(300 + k * 11 % 51) * small}")
    (folder / "runs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def tickets(folder: Path) -> None:
    """``log.jsonl``: attempts of two models at tickets of two kinds, one of which the small model seldom gets right."""
    u = uniforms(1, "tickets", 300, 6)
    lines = []
    for k in range(len(u)):
        hard = u[k, 0] < 0.4
        said = f"Why did service {k} fail after migration {k + 3}? " if hard else f"Refund {k} euro of order {k + 7}"
        for j, (model, right) in enumerate((("small", 0.15 if hard else 0.95), ("large", 0.9))):
            thinking = 0 if model == "small" else int(200 + 600 * u[k, 4] * (2 if hard else 1))
            one = {"id": k, "route": "desk", "prompt": 2 * said, "model": model, "prompt_tokens": 20}
            one |= {"output_tokens": thinking + int(50 + 100 * u[k, 2 + j]), "reasoning_tokens": thinking}
            lines.append(json.dumps({**one, "correct": int(u[k, 1 if j == 0 else 5] < right)}))
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def at_work(name: str, day: int, dearer: float) -> Callable[[Path], None]:
    """A log of the tutorial's plan at work, of 3,000 requests on a day of November 2026.

    Args:
        dearer: what the endpoint bills, over what the plan thinks that it costs.
    """

    def write(folder: Path) -> None:
        every = _on_every_arm()
        from tests.simulated_logs import logged

        have("plan.yaml", folder)
        plan = hashlib.sha256((folder / "plan.yaml").read_bytes()).hexdigest()[:12]
        began = datetime.datetime(2026, 11, day, 9, tzinfo=datetime.UTC)
        log = logged(every, 0.1, seed=day, graded=0.5, plan=plan, began=began)
        for line in log.lines:
            if line.get("usd"):
                line["usd"] *= dearer
        log.write(folder / name)

    return write


@functools.cache
def _on_every_arm() -> Any:
    sys.path.insert(0, str(ROOT))
    from tests.simulated_logs import every_arm

    return every_arm(ttc.load_plan(_made("plan.yaml")).scenario, 3000)


HAVE: dict[str, Callable[[Path], None]] = {
    "attempts.csv": of_graded(140, 1),
    "gateway.yaml": of_page("tutorial.md", "gateway.yaml"),
    "log.jsonl": tickets,
    "monday.jsonl": at_work("monday.jsonl", 23, 1.0),
    "new-attempts.csv": of_graded(12, 1, "Add"),
    "new-problems.csv": of_graded(12, 0, "Add"),
    "plan.yaml": by_commands("ttc-sim optimize gateway.yaml --plan plan.yaml", "gateway.yaml"),
    "problems.csv": of_graded(140, 0),
    "replaying_server.py": of_tests("replaying_server.py"),
    "runs.csv": runs,
    "tuesday.jsonl": at_work("tuesday.jsonl", 24, 1.5),
}
"""How to make each file that readers have of their own: the tutorial's scenario and its plan; and servers, where they have some."""


def with_parts(part: str, base: str, folder: Path) -> list[str]:
    """What is wrong with a scenario once these keys are put into it.

    Args:
        part: YAML, from the scenario's first level on, each key in its place; base: a shipped scenario or a file of the page.
    """
    path = folder / base if (folder / base).is_file() else SHIPPED / f"{base}.yaml"
    try:
        ttc.scenario_from_dict(_put_into(read_yaml(path), parse_yaml(part, "part")), str(path))
    except InputError as error:
        return [f"{part}in {base}: {error}"]
    return []


def _put_into(whole: Any, part: Any) -> Any:
    """Mappings key by key; anything else takes the place of what stood there, and two arrival processes do not mix."""
    if not isinstance(whole, Mapping) or not isinstance(part, Mapping) or _other_kind(whole, part):
        return copy.deepcopy(part)
    return {**whole, **{key: _put_into(whole[key], value) if key in whole else value for key, value in part.items()}}


def _other_kind(whole: Mapping[str, Any], part: Mapping[str, Any]) -> bool:
    aims = {"minimize", "maximize"}
    if aims & {*part} and aims & {*whole} != aims & {*part}:
        return True
    return any(key in part and whole.get(key) not in (None, part[key]) for key in ("process", "kind", "provider"))
