"""What an import says of itself: what was kept and left out, and how everything was understood that could be doubted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Understood:
    """How something was understood.

    Attributes:
        what: subject, such as ``reasoning tokens``; of: the model it is so of, or empty for all.
        taken: as what it was taken; evidence: why.
        question: what only somebody who knows the log can tell, with the option that says it; empty where nothing is open.
    """

    what: str
    taken: str
    evidence: str
    question: str = ""
    of: str = ""

    def line(self) -> str:
        """As one line.

        >>> Understood("times", "seconds", "the format says so").line()
        'times: seconds (the format says so)'
        """
        return f"{self.what}{f' of {self.of}' if self.of else ''}: {self.taken} ({self.evidence})"


@dataclass
class LeftOut:
    """Rows left out for one reason: how many, and the first of them."""

    rows: int = 0
    first: str = ""


@dataclass
class Audit:
    """Beside every import, printed and in ``import.json``.

    Attributes:
        format: name; title: of the format, for readers.
        files: by name, bytes and rows.
        read: rows; answered, failed, partial: of those that are kept as traffic; kept: rows that are in some table.
        left_out: by reason.
        understood: how counts, times and outcomes were taken.
        made_up: what looks as if it had not been measured.
        stopped: answers that were cut off at a limit, and how that is known; ``None`` without answers.
        notes: everything else.
        models, sources: rows by name, the most frequent first.
        outputs: by name of the file, its rows.
        day: of the newest row, where times say it.
    """

    format: str
    title: str
    files: list[dict[str, Any]] = field(default_factory=list)
    read: int = 0
    kept: int = 0
    answered: int = 0
    failed: int = 0
    partial: int = 0
    left_out: dict[str, LeftOut] = field(default_factory=dict)
    understood: list[Understood] = field(default_factory=list)
    made_up: list[str] = field(default_factory=list)
    stopped: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    models: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, int] = field(default_factory=dict)
    day: str | None = None

    def leave_out(self, reason: str, rows: int, first: str = "") -> None:
        """Count rows that are left out."""
        if rows:
            found = self.left_out.setdefault(reason, LeftOut())
            found.rows += rows
            found.first = found.first or first

    @property
    def questions(self) -> list[str]:
        """What only somebody who knows the log can tell."""
        return [one.question for one in self.understood if one.question]

    def as_json(self) -> dict[str, Any]:
        """As ``import.json`` has it."""
        left = {reason: asdict(one) for reason, one in self.left_out.items()}
        return {
            "format": self.format,
            "title": self.title,
            "files": self.files,
            "rows": {
                "read": self.read,
                "kept": self.kept,
                "answered": self.answered,
                "failed": self.failed,
                "partial": self.partial,
                "left_out": sum(one.rows for one in self.left_out.values()),
                "why": left,
            },
            "understood": [asdict(one) for one in self.understood],
            "tokens": [asdict(one) for one in self.understood if one.what.endswith("tokens")],
            "questions": self.questions,
            "looks_made_up": self.made_up,
            "stopped_at_a_limit": self.stopped,
            "notes": self.notes,
            "models": self.models,
            "sources": self.sources,
            "outputs": self.outputs,
            "day": self.day,
        }
