"""How far long work is: lines that know how much is done of how much, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypeVar

A = TypeVar("A")
Progress = Callable[[str], Any]
"""What is told how far work is, a line each: a :class:`Step`, or plain text of what a reader should not miss."""
Telling = bool | Progress | None
"""What public functions take as ``progress``: see :func:`ttc_sim.base.showing.telling`."""

_TOLD_EVERY_S = 0.1
_EVIDENCE_S, _EVIDENCE_STEPS, _EVIDENCE_SHARE = 2.0, 3, 0.2
_MARKS, _A_START = 32, 2.0


class Step(str):
    """A line about work under way, by which its time left can be told. It is text: whatever takes lines takes it.

    Attributes:
        stage: what is being done; steps of one stage follow each other, and ``done`` never goes down.
        done: so much of it; total: of so much, ``None`` where nobody knows. In ``of``, such as points or MB.
        detail: what is being done of it now.

    >>> Step("simulating", 3, 1000, "points")
    'simulating: 3 of 1,000 points'
    >>> Step("cross-validating", 1, 4, "folds").about("drawing the frontier")
    'cross-validating: 1 of 4 folds; drawing the frontier'
    """

    stage: str
    done: float
    total: float | None
    of: str
    detail: str

    def __new__(cls, stage: str, done: float = 0, total: float | None = None, of: str = "", detail: str = "") -> Step:
        """Put into words."""
        line = stage
        if total is not None:
            line += f": {done:,.0f} of {total:,.0f}{of and ' '}{of}"
        if detail:
            line += f"{': ' if total is None else '; '}{detail}"
        made = super().__new__(cls, line)
        made.stage, made.done, made.total, made.of, made.detail = stage, done, total, of, detail
        return made

    def about(self, detail: str) -> Step:
        """As far, with other words of what is being done now."""
        return Step(self.stage, self.done, self.total, self.of, detail)


def silent(_: str) -> None:
    """Tell nobody."""


def within(progress: Progress, label: str) -> Progress:
    """Tells what is told of a part under the name of the part.

    >>> within(print, "three worlds")(Step("verifying", 1, 4, "runs"))
    three worlds: verifying: 1 of 4 runs
    """

    def tell(line: str) -> None:
        named = f"{label}: {line}"
        if isinstance(line, Step):
            named = Step(f"{label}: {line.stage}", line.done, line.total, line.of, line.detail)
        progress(named)

    return tell


class Counting:
    """Tells how far a stage is: at its beginning and its end, and at most ten times a second between."""

    def __init__(self, progress: Progress, stage: str, total: float, of: str = "", done: float = 0) -> None:
        self.progress, self.stage, self.total, self.of = progress, stage, total, of
        self.done = done
        self._tell("")

    def __call__(self, done: float, detail: str = "") -> None:
        """So much is done; less than before, or more than there is, counts as neither."""
        self.done = min(max(done, self.done), self.total)
        if time.monotonic() - self._told_s >= _TOLD_EVERY_S or self.done >= self.total:
            self._tell(detail)

    def about(self, line: str) -> None:
        """As far as before, with a line about what is being done now: tells whoever works on a part."""
        self._tell(line)

    def _tell(self, detail: str) -> None:
        self._told_s = time.monotonic()
        self.progress(Step(self.stage, self.done, self.total, self.of, detail))


def counted(
    items: Iterable[A], progress: Progress, stage: str, of: str = "", *, total: int | None = None, done: int = 0
) -> Iterator[A]:
    """The same, and each is told of once it has been worked on.

    Args:
        total: how many there are with those that were ``done`` before; as many as the items if left out.

    >>> for _ in counted("ab", print, "reading", "letters"):
    ...     pass
    reading: 0 of 2 letters
    reading: 2 of 2 letters
    """
    if total is None:
        assert isinstance(items, Collection)
        total = done + len(items)
    tell = Counting(progress, stage, total, of, done)
    for number, item in enumerate(items, done + 1):
        yield item
        tell(number)


class Pace:
    """How work has gone on since its stage began."""

    def __init__(self, began_s: float, done: float = 0) -> None:
        self.marks = [(began_s, done)]
        self._opened_s = began_s  # when the last mark was new

    def mark(self, at_s: float, done: float) -> None:
        """So much was done then; what several processes end nearly at once is one mark."""
        if done <= self.marks[-1][1]:
            return
        if len(self.marks) > 1 and self._is_open(at_s):
            self.marks[-1] = (at_s, done)
            return
        self.marks.append((at_s, done))
        self._opened_s = at_s

    def left_s(self, total: float, now_s: float) -> float | None:
        """Seconds; ``None`` before there is enough to tell from."""
        marks = self.marks
        if len(marks) > 2 and marks[-1][1] < total and self._is_open(now_s):
            # Until all is in that comes with it, time runs down from what was known before.
            left_s = time_left_s(marks[:-1], total, self._opened_s)
            return None if left_s is None else max(left_s - (now_s - self._opened_s), 0.0)
        return time_left_s(marks, total, now_s)

    def _is_open(self, at_s: float) -> bool:
        return at_s - self._opened_s < (at_s - self.marks[0][0]) / _MARKS


def time_left_s(marks: Sequence[tuple[float, float]], total: float, now_s: float) -> float | None:
    """How long the rest of a stage will take, in seconds, never below 0; ``None`` before two seconds and a few steps are known.

    The pace is the mean of that of all the time so far and that of its later half: the first evens out work that comes in bursts,
    the second follows work that slows down. A first step that took far longer than the others is left out: processes had to begin.
    Between steps the time runs down; once a step takes longer than those before it, all that follow are taken to do so.

    Args:
        marks: times and how much was done by then, from the beginning of the stage; both go up.
        total: how much there is to do.
        now_s: the time, no earlier than the last mark.

    >>> time_left_s([(0.0, 0), (2.0, 1), (4.0, 2), (6.0, 3)], 10, now_s=6.5)
    13.5
    """
    (began_s, before), (last_s, done) = marks[0], marks[-1]
    more, left = done - before, total - done
    if left <= 0:
        return 0.0
    if now_s - began_s < _EVIDENCE_S or (more < _EVIDENCE_STEPS and more < _EVIDENCE_SHARE * (total - before)):
        return None
    if len(marks) > 2:
        first_s, first = marks[1]
        if (first_s - began_s) / (first - before) > _A_START * (last_s - first_s) / (done - first):
            return time_left_s(marks[1:], total, now_s)
    if last_s <= began_s:
        return None
    half_s = (began_s + last_s) / 2
    pace = (more / (last_s - began_s) + (done - _done_at(marks, half_s)) / (last_s - half_s)) / 2
    step = min(more / (len(marks) - 1), left)
    waited_s = now_s - last_s
    slower = min(pace, (more + step) / (now_s - began_s)) if waited_s > step / pace else pace
    return max(left / pace - waited_s, (left - step) / slower, 0.0)


def _done_at(marks: Sequence[tuple[float, float]], at_s: float) -> float:
    """Along straight lines between marks."""
    later = next(k for k, (when_s, _) in enumerate(marks) if when_s >= at_s)
    (from_s, done), (to_s, more) = marks[max(later - 1, 0)], marks[later]
    return done if to_s <= from_s else done + (more - done) * (at_s - from_s) / (to_s - from_s)


def duration(seconds: float) -> str:
    """As one says it, no more exactly than it is known.

    >>> duration(7.4), duration(43), duration(83), duration(1234), duration(9000)
    ('7 s', '45 s', '1 min 20 s', '21 min', '2 h 30 min')
    """
    if seconds < 9.5:
        return f"{max(round(seconds), 1)} s"
    if seconds < 57.5:
        return f"{5 * round(seconds / 5)} s"
    if seconds < 595:
        minutes, rest = divmod(10 * round(seconds / 10), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes if minutes < 600 else 60 * round(minutes / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


__all__ = ["Counting", "Pace", "Progress", "Step", "Telling", "counted", "duration", "silent", "time_left_s", "within"]
