"""How a command ends: its exit status, and one line on stderr for whatever keeps it from its end."""

from __future__ import annotations

import errno
import os
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer

from ttc_sim.base.errors import InputError
from ttc_sim.base.plain import plain
from ttc_sim.cli.loudness import loudness
from ttc_sim.cli.output import peak_memory_gb

BAD_INPUT = 1
"""What the user gave cannot be used, be it in a file or on the command line."""
UNREACHABLE = 2
"""Targets cannot all be met, or were missed; a plan has a problem; scores have moved; answers are missing; something needed is
broken."""
UNFORESEEN = 70
"""An error of the program's own (``EX_SOFTWARE`` of sysexits.h)."""
INTERRUPTED = 130

STATUSES = (
    "Exit status: 0 done; 1 what was given cannot be used; 2 targets cannot be met or were missed, a plan has a problem, scores "
    "have moved, answers are missing, or something needed is broken; "
    "70 an error of the program's own, whose trace is in the file that the last line names; 130 interrupted."
)

# ClickException, of click or of the copy of it that typer carries.
_UsageError: Any = typer.BadParameter.__mro__[2]
_LONGEST = 300
_ABOUT = (
    "ttc-sim",
    "numba",
    "llvmlite",
    "numpy",
    "polars",
    "pyarrow",
    "onnxruntime-gpu",
    "onnxruntime",
    "pydantic",
    "typer",
)


def carry_out(command: Any, words: Sequence[str]) -> int:
    """Carry a command line out, and return its exit status.

    Nothing ends in a traceback: what is not foreseen is one line, and the trace goes to a file of the user's alone.
    """
    began = time.perf_counter()
    status = _carried_out(command, words)
    if loudness().verbose:
        took_s = time.perf_counter() - began
        _said(f"took {took_s:.1f} s and {peak_memory_gb():.2f} GB at most; exit status {status}", status)
    return status


def _carried_out(command: Any, words: Sequence[str]) -> int:
    try:
        with command.make_context("ttc-sim", list(words)) as context:
            command.invoke(context)
            if sys.stdout is not None:
                sys.stdout.flush()
        return 0
    except InputError as error:
        return _said(f"error: {error}", BAD_INPUT)
    except typer.Exit as left:
        return int(left.exit_code)
    except _UsageError as error:
        return _usage(error, words)
    except (KeyboardInterrupt, typer.Abort) as error:
        kept = "; ".join(getattr(error, "__notes__", ())) or "files are whole or as before"
        return _said(f"interrupted: {plain(kept)}", INTERRUPTED)
    except BrokenPipeError:  # whoever read the output has had enough
        raise
    except BaseException as error:  # panics of libraries are no Exceptions; and a SystemExit is none of ours
        if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):  # so rich passes it on
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return _no_more_output(
                _said(f"error: {error.strerror}: what is printed, or kept meanwhile, has no room", BAD_INPUT)
            )
        return _said(f"error: {_unforeseen(error)}; {_trace_kept(error, words)}", UNFORESEEN)


def _said(line: str, status: int) -> int:
    print(line, file=sys.stderr)
    return status


def _no_more_output(status: int) -> int:
    """What is still buffered goes nowhere: Python would try again when it ends, and say so in its own words."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _usage(error: Any, words: Sequence[str]) -> int:
    context: Any = getattr(error, "ctx", None)
    option: Any = getattr(error, "param", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(context.get_help())
        return BAD_INPUT
    called = context.command_path if context is not None else "ttc-sim"
    value = _value_of(words, option.opts) if option is not None and isinstance(error, typer.BadParameter) else None
    if value is not None:
        expected = str(error.message).rstrip(".").removeprefix("Value error, ").removeprefix("Input should be ")
        expected = expected.removeprefix(f"{value!r} is not ")
        return _said(f"error: {InputError(called, option.opts[0], value, expected)}", BAD_INPUT)
    said = "".join(one if one.isprintable() else repr(one)[1:-1] for one in error.format_message().rstrip("."))
    return _said(f"error: {called}: {said[:_LONGEST]}; `{called} --help` says what it takes", BAD_INPUT)


def _value_of(words: Sequence[str], names: Sequence[str]) -> str | None:
    """What stands on the command line for an option."""
    for word, following in zip(words, [*words[1:], None], strict=True):
        name, equals, value = word.partition("=")
        if name in names:
            return value if equals else following
    return None


def _unforeseen(error: BaseException) -> str:
    """In a few words and without what the user gave."""
    if isinstance(error, MemoryError):
        return "not enough memory: fewer requests, replications or rows need less"
    if isinstance(error, RecursionError):
        return "something is nested too deep"
    if isinstance(error, SystemExit):
        return "code that the command ran wanted to end it"
    return f"{type(error).__name__}, which is not foreseen"


def _trace_kept(error: BaseException, words: Sequence[str]) -> str:
    """Write the trace to a file that only the user can read, and say which."""
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    lines = [f"options {' '.join(options)}", f"Python {sys.version}", platform.platform(), *_versions()]
    trace = "".join(traceback.format_exception(error))
    try:
        handle, name = tempfile.mkstemp(prefix="ttc-sim-trace-", suffix=".txt")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123
            file.write("\n".join([*lines, "", trace]))
    except OSError as refused:
        return f"its trace could not be written ({refused.strerror})"
    return f"the trace is in {name}, please report it"


def _versions() -> list[str]:
    found = []
    for name in _ABOUT:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


__all__ = ["BAD_INPUT", "INTERRUPTED", "STATUSES", "UNFORESEEN", "UNREACHABLE", "carry_out"]
