"""A user's regular expression, in a process of its own: one that would take for ever is ended there."""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
import time
import warnings
from types import TracebackType

from ttc_sim.base.errors import InputError

LIMIT_S = 5.0
"""For one answer."""

# Its last match: the first group that took part, if the pattern has groups, else all of it.
_SEARCH = """
import json, re, sys
found = re.compile(json.loads(sys.stdin.readline()))
for line in sys.stdin:
    last = None
    for last in found.finditer(json.loads(line)):
        pass
    groups = () if last is None else last.groups() if found.groups else (last[0],)
    print(json.dumps(next((one for one in groups if one is not None), None)), flush=True)
"""


class Pattern:
    """A regular expression of Python's ``re``, that cannot hang: each search has :data:`LIMIT_S`."""

    def __init__(self, pattern: str, where: str, limit_s: float = LIMIT_S) -> None:
        self._pattern, self._where, self._limit_s = pattern, where, limit_s
        self._process: subprocess.Popen[bytes] | None = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                re.compile(pattern)
        except (re.error, OverflowError, RecursionError, MemoryError, ValueError) as error:
            why = f"a regular expression of Python's: {error}" if isinstance(error, re.error) else "a smaller pattern"
            raise InputError(where, "pattern", pattern, why) from None

    def last(self, text: str) -> str | None:
        """The last match, or its group, in a text.

        Raises:
            InputError: the search takes longer than the limit.
        """
        process = self._process or self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(text).encode() + b"\n")
            process.stdin.flush()
            line = self._answer(process)
        except OSError:
            line = None
        except BaseException:
            self.close()  # an answer that comes later is no answer to the next question
            raise
        if not line:
            self.close()
            expected = (
                f"one that is done with each answer in {self._limit_s:g} s; nested repetitions such as (a+)+ are not"
            )
            raise InputError(self._where, "pattern", self._pattern, expected)
        found = json.loads(line)
        return None if found is None else str(found)

    def _answer(self, process: subprocess.Popen[bytes]) -> bytes | None:
        assert process.stdout is not None
        until, got = time.monotonic() + self._limit_s, b""
        while not got.endswith(b"\n"):
            left = until - time.monotonic()
            if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
                return None
            part = process.stdout.read1(1 << 16)  # type: ignore[attr-defined]  # of a buffered pipe
            if not part:
                return None
            got += part
        return got

    def _started(self) -> subprocess.Popen[bytes]:
        # Ctrl-C is for this process, which ends that one.
        self._process = process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-W", "ignore", "-c", _SEARCH],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(self._pattern).encode() + b"\n")
        return process

    def close(self) -> None:
        """End its process; it begins anew when it is needed."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def __enter__(self) -> Pattern:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
