"""Commands and code of a page, carried out in its folder.

``ttc-sim`` by itself is carried out in this process, which has imported everything; what else a shell is for goes to one.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import typer.main

from ttc_sim.cli import app
from ttc_sim.cli.ending import carry_out

ROOT = Path(__file__).resolve().parents[1]
_STATUS = re.compile(r"#.*\bstatus (\d+)\b")
_SHELL = re.compile(r"[|&;<>$`(){}*?~]|^\w+=")
_HEAD = re.compile(r" *\| *head -n? ?(\d+)$")


def run_shell(script: str, folder: Path) -> tuple[str, list[str]]:
    """What it prints, without blanks at the lines' ends, and how it failed."""
    lines = script.replace("\\\n", " ").splitlines()
    commands = [one for line in lines if line.strip() and not line.lstrip().startswith("#") and (one := _words(line))]
    if not all(commands) or len(commands) != sum(bool(_bare(line)) for line in lines):
        return run_in_a_shell(script, folder)
    printed, faults = "", []
    for words, most, status in commands:
        said, fault = _in_this_process(words, status, folder)
        printed += "".join(said.splitlines(keepends=True)[:most])
        faults += fault
    return stripped(printed), faults


def run_python(code: str, names: dict[str, object], folder: Path) -> tuple[str, list[str]]:
    """What it prints, and how it failed; its names stay for the page's next block."""
    out = io.StringIO()
    with _in_folder(folder), redirect_stdout(out):
        sys.path.insert(0, str(folder))
        try:
            exec(compile(code, "<block>", "exec"), names)
        except BaseException:
            return out.getvalue(), [f"{code}\n{traceback.format_exc(limit=-3)}"]
        finally:
            sys.path.remove(str(folder))
    return stripped(out.getvalue()), []


def look_up(script: str) -> list[str]:
    """What is wrong with the ``ttc-sim`` commands of a block that is not run: commands and options that there are not."""
    faults = []
    for line in script.replace("\\\n", " ").splitlines():
        bare = _bare(line)
        if not bare.startswith("ttc-sim "):
            continue
        words = shlex.split(bare)[1:]
        command: Any = typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        strange = [word for word in words if word.startswith("-") and word.partition("=")[0] not in {*known, "-"}]
        if hasattr(command, "commands") or strange:
            faults.append(f"{bare}: no such command or option: {' '.join(strange) or words[:1]}")
    return faults


def _bare(line: str) -> str:
    """A line without its comment."""
    return re.sub(r"(^|\s+)# .*$", "", line).strip()


def _words(line: str) -> tuple[list[str], int | None, int] | None:
    """Of a line that is ``ttc-sim`` alone: its arguments, how many lines of what it prints are wanted, and its status."""
    bare = _bare(line)
    head = _HEAD.search(bare)
    bare = _HEAD.sub("", bare)
    outside = re.sub(r"'[^']*'|\"[^\"$`]*\"", "", bare)
    # What JSON goes to is the process's own standard output, and not what stands in its place here.
    if not bare.startswith("ttc-sim ") or _SHELL.search(outside) or re.search(r"--json -( |$)", bare):
        return None
    status = _STATUS.search(line)
    return shlex.split(bare)[1:], int(head[1]) if head else None, int(status[1]) if status else 0


def _in_this_process(words: list[str], status: int, folder: Path) -> tuple[str, list[str]]:
    out, beside = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with _in_folder(folder), redirect_stdout(out), redirect_stderr(beside):
        try:
            got = carry_out(typer.main.get_command(app), words)
        except SystemExit as end:
            got = int(end.code or 0)
    said, warned = (one.buffer.getvalue().decode() for one in (out, beside))
    return said, [] if got == status else [f"ttc-sim {shlex.join(words)}: status {got}\n{warned[-2000:]}"]


def run_in_a_shell(
    script: str, folder: Path, variables: Mapping[str, str] | None = None, most_s: float = 300
) -> tuple[str, list[str]]:
    """As above; what it leaves running goes on, until :func:`end_what_runs`.

    Args:
        variables: of the shell, instead of this process's with the checkout in front; most_s: how long it may take.
    """
    ours = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
    }
    environment = {**(ours if variables is None else variables), **TERMINAL}
    # Files instead of pipes: a server that a block starts and leaves running would hold those open.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as beside:
        started = subprocess.Popen(
            ["bash", "-e", "-c", with_statuses(script)],
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=beside,
            start_new_session=True,
        )
        try:
            status = started.wait(most_s)
        except subprocess.TimeoutExpired:
            status = -1
        _GROUPS.append(started.pid)
        out.seek(0)
        beside.seek(0)
        printed, warned = out.read(), beside.read()
    return stripped(printed), [] if status == 0 else [f"{script}: status {status}\n{warned[-2000:]}"]


def with_statuses(script: str) -> str:
    """A script that goes on after a command that ends as its line says, ``# status 2``, and ends after one that does not.

    >>> print(with_statuses("ttc-sim check p.yaml  # status 2"), end="")
    s=0; ttc-sim check p.yaml || s=$?; test $s = 2
    """
    if not _STATUS.search(script):
        return script
    out = []
    for line in script.replace("\\\n", " ").splitlines():
        said = _STATUS.search(line)
        out.append(f"s=0; {_bare(line)} || s=$?; test $s = {said[1]}" if said else line)
    return "".join(f"{line}\n" for line in out)


def end_what_runs() -> None:
    """End the servers, and whatever else blocks have started and left."""
    while _GROUPS:
        with suppress(ProcessLookupError):
            os.killpg(_GROUPS.pop(), signal.SIGKILL)


_GROUPS: list[int] = []
TERMINAL = {"COLUMNS": "150", "LANG": "C.UTF-8"}


@contextmanager
def _in_folder(folder: Path) -> Iterator[None]:
    before, was = Path.cwd(), {name: os.environ.get(name) for name in TERMINAL}
    os.chdir(folder)
    os.environ.update(TERMINAL)
    try:
        yield
    finally:
        os.chdir(before)
        for name, value in was.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def stripped(printed: str) -> str:
    """Without blanks at the lines' ends."""
    return "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
