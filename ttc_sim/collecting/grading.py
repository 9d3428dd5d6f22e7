"""Whether an answer is right: by comparison, a regular expression, or a user's own function."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from ttc_sim.base.consent import AllowCode, Code, FileFunction, names_function
from ttc_sim.base.errors import InputError, cut, users_code
from ttc_sim.collecting.patterns import Pattern
from ttc_sim.collecting.prompts import Prompt, Target, digest

WHERE = "--grade"
LONGEST = 200
"""Characters of an answer that a table holds as they are; of a longer one it holds a digest, which is equal where they are."""
_KINDS = "exact, regex:PATTERN, FILE.py:NAME or none"
_NUMBER = re.compile(r"[+-]?(\d{1,300}(\.\d{0,300})?|\.\d{1,300})([eE][+-]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True)
class Grade:
    """``correct``: ``None`` where ungraded; ``answer``: what was taken for the answer, ``None`` for no answer."""

    correct: bool | None
    answer: str | None


class Grading:
    """A way of grading: ``exact``, ``regex:PATTERN``, ``FILE.py:NAME`` or ``none``.

    Args:
        allow_code: whether a file's function may run.

    Raises:
        InputError: none of those, a pattern that is none, no such file.
    """

    def __init__(self, said: str, allow_code: AllowCode = False) -> None:
        self.said = said
        self.pattern: Pattern | None = None
        self.function: FileFunction | None = None
        if said.startswith("regex:"):
            self.pattern = Pattern(said.removeprefix("regex:"), WHERE)
        elif names_function(said):
            code = Code(allow_code)
            self.function = code.function(said, Path(), where=WHERE, field="grade", use="say which answers are right")
        elif said not in ("exact", "none"):
            raise InputError(WHERE, "grade", said, _KINDS)
        self._call: Callable[..., Any] | None = None

    @property
    def needs_target(self) -> bool:
        """Whether prompts must come with their right answers."""
        return self.said == "exact" or self.pattern is not None

    def check(self) -> None:
        """Run the file of the function, if there is one: better now than once answers are paid for.

        Raises:
            InputError: no consent, or a file that fails.
        """
        if self.function is not None:
            self._call = self.function.function

    def by(self, prompt: Prompt) -> str:
        """What a grade of an answer to it depends on; equal where an answer would be graded alike."""
        code = self.function.sha256 if self.function is not None else None
        about = [dict(prompt.row)] if self.function is not None else [repr(prompt.target)] if self.needs_target else []
        return digest([self.said, code, *about])

    def grade(self, visible: str, prompt: Prompt) -> Grade:
        """What an answer's visible text is worth.

        Raises:
            InputError: a pattern that takes too long, a function that fails or returns something else.
        """
        if self.said == "none":
            return Grade(None, None)
        if self.function is not None:
            return self._by_function(visible, prompt)
        given = visible.strip() if self.pattern is None else (self.pattern.last(visible) or "").strip()
        assert prompt.target is not None
        right = same(given, prompt.target)
        # As the target is written, so that votes count 5 and 5.0 together where they are both right.
        return Grade(right, short(str(prompt.target) if right else given))

    def _by_function(self, visible: str, prompt: Prompt) -> Grade:
        assert self._call is not None
        assert self.function is not None
        expected = "True, False, None (not graded), or one of them with the answer as text: (True, '42')"
        with users_code(WHERE, f"{self.function.name}, problem {cut(prompt.problem, 80)}", expected):
            made = self._call(visible, dict(prompt.row))
        right, answer = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        if not (right is None or isinstance(right, (bool, np.bool_))) or not (
            answer is None or isinstance(answer, str)
        ):
            raise InputError(WHERE, f"{self.function.name}, problem {cut(prompt.problem, 80)}", made, expected)
        return Grade(None if right is None else bool(right), None if answer is None else short(answer.strip()))

    def close(self) -> None:
        """End what runs for it."""
        if self.pattern is not None:
            self.pattern.close()


def same(given: str, target: Target) -> bool:
    """Whether an answer is the right one: the same text, or the same number where the target is a number.

    >>> same("5.0", Decimal(5)), same("5.0", "5"), same("five", Decimal(5))
    (True, False, False)
    """
    if isinstance(target, str):
        return given == target
    return _NUMBER.fullmatch(given) is not None and Decimal(given) == target


def short(answer: str) -> str | None:
    """An answer as tables hold it: ``None`` for none at all, a digest of a long one."""
    if len(answer) > LONGEST:
        return f"sha256:{hashlib.sha256(answer.encode('utf-8', 'replace')).hexdigest()[:16]}"
    return answer or None


__all__ = ["LONGEST", "Grade", "Grading", "same", "short"]
