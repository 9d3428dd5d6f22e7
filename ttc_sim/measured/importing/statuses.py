"""What became of a call, from the words and codes that logs have for it."""

from __future__ import annotations

from typing import Any

_FAILED = frozenset(
    {"error", "errored", "failed", "failure", "fail", "false", "timeout", "timed_out", "timedout", "rejected", "rate_limited",
    "ratelimit",
     "overloaded", "exception", "aborted", "expired", "refused", "unavailable", "denied", "invalid"}
)  # fmt: skip
_PARTIAL = frozenset(
    {
        "partial",
        "incomplete",
        "cancelled",
        "canceled",
        "interrupted",
        "disconnected",
        "client_disconnected",
        "truncated_stream",
    }
)
_RETRY = frozenset({"retry", "retried", "retrying"})


def status_of(status: Any = None, error: Any = None) -> str:
    """``ok``, ``failed``, ``partial`` or ``retry``.

    Args:
        status: a word or an HTTP status; error: what went wrong, if anything stands there.

    >>> status_of(200), status_of("429"), status_of("Cancelled"), status_of(None, error={"code": 1}), status_of(error="")
    ('ok', 'failed', 'partial', 'failed', 'ok')
    """
    if isinstance(error, str):
        error = error.strip().lower() not in ("", "null", "none", "nan", "false", "0", "[]", "{}", "-")
    if error not in (None, False, 0, [], {}) and error == error:  # not NaN
        return "failed"
    if status is None or status is True:
        return "ok"
    if status is False:
        return "failed"
    word = str(status).strip().lower().replace(" ", "_").replace("-", "_")
    digits = word.removesuffix(".0")
    if digits.isdigit() and len(digits) == 3:
        return "failed" if int(digits) >= 400 else "ok"
    if word in _RETRY:
        return "retry"
    if word in _PARTIAL:
        return "partial"
    return "failed" if word in _FAILED else "ok"
