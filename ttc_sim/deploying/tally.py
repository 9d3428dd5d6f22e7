"""What a runtime counts, and what it has said once already; from any thread."""

from __future__ import annotations

import logging
import threading
from collections import Counter

from ttc_sim.deploying.decisions import Decision

_LOG = logging.getLogger("ttc_sim")


class Tally:
    """Counts by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._said: set[str] = set()

    def add(self, *names: str) -> None:
        """One more of each."""
        with self._lock:
            for name in names:
                self._counts[name] += 1

    def decided(self, decision: Decision, failed: str | None) -> None:
        """Count a decision; ``failed``: why the predictor gave no scores for it."""
        names = ["routed", f"to {decision.arm}"]
        if failed is not None:
            names.append("predictor failed")
        if decision.fell_back is not None:
            names += ["fell back"] if failed is not None else ["fell back", "policy failed"]
        elif decision.policy_arm != decision.arm:
            names.append("explored")
        self.add(*names)

    def warn_once(self, what: str, said: str) -> None:
        """Log a warning, if none was of this yet."""
        with self._lock:
            first = what not in self._said
            self._said.add(what)
        if first:
            _LOG.warning("%s", said)

    @property
    def counts(self) -> Counter[str]:
        """As they are now."""
        with self._lock:
            return Counter(self._counts)


__all__ = ["Tally"]
