"""How strategies are carried out where a plan says nothing of it: how answers are compared, verified, forced; limits of time."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from ttc_sim.base.errors import InputError

_SAYS = re.compile(r"\banswer(?: is\b\s*:?|\s*[:=])\s*(.{1,200})", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d{1,40}(?:\.\d{0,40})?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:,\d{3}){1,12}(?:\.\d{0,40})?", re.ASCII)
_SHARE = re.compile(r"(?<![\d.])(\d{1,9}(?:\.\d{1,9})?)\s*(%|/\s*(\d{1,9}))?", re.ASCII)
_BOX = "\\boxed{"
_YES, _NO = ("yes", "true", "correct", "right"), ("no", "false", "incorrect", "wrong")


def final_answer(text: str) -> str | None:
    """What a text says that the answer is, so that equal ones are counted together; ``None`` for none.

    The last ``\\boxed{...}``; without one what follows the last ``Answer:`` or ``the answer is``; else the last line. Marks of
    Markdown and a full stop around it are left out, case and spaces do not count, and numbers are equal where their values are.

    >>> final_answer("so\\n**Answer:** 1,250.0"), final_answer(r"It is \\boxed{\\frac{1}{2}}."), final_answer("Paris.")
    ('1250', '\\\\frac{1}{2}', 'paris')
    """
    found = _boxed(text)
    if found is None:
        lines = [line for line in (one.strip(" \t*_`#>$") for one in text[-20_000:].splitlines()) if line]
        said = [after[1] for line in lines for after in _SAYS.finditer(line.replace("*", "")) if after[1].strip()]
        found = said[-1] if said else lines[-1] if lines else ""
    found = " ".join(found.strip().strip("*_`$ ").rstrip(".").split()).lower()
    found = found.replace("{,}", ",")
    if _THOUSANDS.fullmatch(found):
        found = found.replace(",", "")
    if _NUMBER.fullmatch(found):
        return format(Decimal(found).normalize() + 0, "f")
    return found or None


def _boxed(text: str) -> str | None:
    at = text.rfind(_BOX)
    if at < 0:
        return None
    depth, begins = 1, at + len(_BOX)
    for k in range(begins, len(text)):
        depth += (text[k] == "{") - (text[k] == "}")
        if depth == 0:
            return text[begins:k]
    return None


def verifying_prompt(question: str, answer: str) -> str:
    """What a verifier or judge is asked, unless told otherwise."""
    return (
        f"A question, and an answer that was proposed to it.\n\nQuestion:\n{question}\n\nProposed answer:\n{answer}\n\n"
        "Is the proposed answer right? Reply with Yes or No and nothing else."
    )


@dataclass(frozen=True)
class Read:
    """What a verifier replied: its visible text, and the log-probabilities of what its first token might have been, if sent."""

    text: str
    first_token: Mapping[str, float]


def score_of(reply: Read) -> float | None:
    """The score, 0 to 1, that a verifier gave; ``None`` where its reply cannot be read.

    With log-probabilities (``logprobs`` and ``top_logprobs`` in the endpoint's ``body``) the chance of yes beside no; else 1 for a
    reply that begins with yes, 0 with no; else the only number in it: a share, ``85%`` or ``8/10``.

    >>> score_of(Read("Yes", {"Yes": -0.22314355, " no": -1.60943791})), score_of(Read("No.", {})), score_of(Read("8/10", {}))
    (0.8, 0.0, 0.8)
    """
    weight = {True: 0.0, False: 0.0}
    for token, logprob in reply.first_token.items():
        word = token.strip().lower()
        if word in _YES or word in _NO:
            weight[word in _YES] += math.exp(min(logprob, 0.0))
    if sum(weight.values()) > 0:
        return round(weight[True] / sum(weight.values()), 9)
    begins = re.match(r"[\W_]*([a-z]+)", reply.text.lower())
    if begins is not None and begins[1] in (*_YES, *_NO):
        return float(begins[1] in _YES)
    numbers = _SHARE.findall(reply.text[:2000])
    if len(numbers) != 1:
        return None
    value, how, of = numbers[0]
    whole = 100.0 if how == "%" else float(of) if of else 1.0
    share = float(value) / whole if whole else math.inf
    return share if 0 <= share <= 1 else None


@dataclass(frozen=True)
class Manner:
    """How it is done.

    Args:
        extract: what an answer's text says, for votes; ``None`` where it says nothing.
        verifying: what a verifier, or a judge, is asked of a question and an answer; score: how its reply is read, 0 to 1, ``None``
            where it cannot be.
        judge: of a question and an answer, a score from 0 to 1, for strategies whose verifier or judge is on no deployment;
            may be asynchronous. Votes in a cascade without it are judged by the share of the votes that their answer has.
        accept: least score that a judge accepts.
        opens, closes: what thinking begins and ends with where it is sent back to be continued; wait: what makes it go on;
            final: what forces an answer of a model whose thinking does not stand apart.
        first_s, total_s: seconds that an arm's calls may take to the first sign of an answer, and in all, where the plan's
            deployment has neither ``timeout_s`` nor ``deadline_s``.
    """

    extract: Callable[[str], str | None] = final_answer
    verifying: Callable[[str, str], str] = verifying_prompt
    score: Callable[[Read], float | None] = score_of
    judge: Callable[[str, str], float | Awaitable[float]] | None = None
    accept: float = 0.5
    opens: str = "<think>\n"
    closes: str = "\n</think>\n\n"
    wait: str = "Wait"
    final: str = "\n\nFinal answer:"
    first_s: float = 600.0
    total_s: float = 1800.0

    def __post_init__(self) -> None:
        for one in fields(self):
            value: Any = getattr(self, one.name)
            if isinstance(one.default, float):
                most = 1.0 if one.name == "accept" else 1e6
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= most:
                    expected = "a share above 0" if one.name == "accept" else "seconds above 0"
                    raise InputError("Manner", one.name, value, expected)
            elif isinstance(one.default, str):
                if not isinstance(value, str) or not value.strip():
                    raise InputError("Manner", one.name, value, "a text that is not empty")
            elif not callable(value) and not (one.name == "judge" and value is None):
                raise InputError("Manner", one.name, value, "a function")


__all__ = ["Manner", "Read", "final_answer", "score_of", "verifying_prompt"]
