"""Rate limits of an API endpoint, and what a client does when it meets them."""

from __future__ import annotations

from ttc_sim.scenario import Api, PoolRetry, Retry


class TokenBucket:
    """A bucket that holds at most what is allowed in a window, of a minute or less, starts full and refills continuously.

    >>> bucket = TokenBucket(per_minute=60)
    >>> bucket.take(60, now_s=0.0), bucket.take(1, now_s=0.5), bucket.take(1, now_s=1.0)
    (True, False, True)
    """

    def __init__(self, per_minute: float, window_s: float = 60.0) -> None:
        self.capacity = held_by(per_minute, window_s)
        self.level = self.capacity
        self.rate_per_s = per_minute / 60.0
        self.updated_s = 0.0

    def has(self, amount: float, now_s: float) -> bool:
        """Whether so much is in the bucket now. Rounding of the refill is forgiven to a part in a billion."""
        self.level = min(self.capacity, self.level + (now_s - self.updated_s) * self.rate_per_s)
        self.updated_s = now_s
        return self.level >= amount * (1 - 1e-9)

    def take(self, amount: float, now_s: float) -> bool:
        """Take so much if it is there."""
        if not self.has(amount, now_s):
            return False
        self.level -= amount
        return True


def held_by(per_minute: float, window_s: float) -> float:
    """What a bucket of such a limit holds at most.

    >>> held_by(600, 10)
    100.0
    """
    return per_minute * (window_s / 60.0)


class ApiLimits:
    """Requests and tokens per minute and concurrency of one endpoint."""

    def __init__(self, api: Api) -> None:
        def bucket(per_minute: float | None) -> TokenBucket | None:
            return None if per_minute is None else TokenBucket(per_minute, api.limit_window_s)

        self.requests, self.tokens = bucket(api.requests_per_minute), bucket(api.tokens_per_minute)
        self.input, self.output = bucket(api.input_tokens_per_minute), bucket(api.output_tokens_per_minute)
        self.concurrency = api.concurrency
        self.in_progress = 0

    def never(self, prompt: int, output: int) -> bool:
        """Whether a call of so many tokens is more than the endpoint ever accepts."""
        return any(amount > bucket.capacity for bucket, amount in self._asked(prompt, output))

    def admit(self, prompt: int, output: int, now_s: float) -> bool:
        """Accept a call, or answer 429 and take nothing; ``prompt`` are those tokens of it that count."""
        if self.concurrency is not None and self.in_progress >= self.concurrency:
            return False
        asked = self._asked(prompt, output)
        if not all(bucket.has(amount, now_s) for bucket, amount in asked):
            return False
        for bucket, amount in asked:
            bucket.level -= amount
        self.in_progress += 1
        return True

    def _asked(self, prompt: int, output: int) -> list[tuple[TokenBucket, int]]:
        """What a call takes of each limit that there is."""
        amounts = ((self.requests, 1), (self.tokens, prompt + output), (self.input, prompt), (self.output, output))
        return [(bucket, amount) for bucket, amount in amounts if bucket is not None]


def backoff_s(retry: Retry | PoolRetry, attempt: int, u: float) -> float:
    """Seconds that the client waits after its ``attempt``-th attempt (from 0); ``u`` is uniform in (0, 1)."""
    return min(retry.max_s, retry.base_s * 2.0 ** min(attempt, 60)) * (0.5 + u)


def generated_by(at_s: float, accepted_s: float, first_s: float, per_token_s: float, tokens: int) -> int:
    """Output tokens that one sample of a call has had by a moment, that moment included.

    Args:
        at_s, accepted_s: seconds on one clock.
        first_s, per_token_s: from there to the first token, and for each further one.
        tokens: that it generates if nobody stops it.

    >>> [generated_by(at_s, 10.0, 0.5, 0.25, 9) for at_s in (10.4, 10.5, 10.74, 10.75, 99.0)]
    [0, 1, 1, 2, 9]
    """
    if accepted_s + first_s > at_s:
        return 0
    if accepted_s + (first_s + (tokens - 1) * per_token_s) <= at_s:
        return tokens
    # Rounding of the quotient is put right by the times themselves, as the engines work them out.
    had = 1 + int((at_s - accepted_s - first_s) / per_token_s)
    while had > 1 and accepted_s + (first_s + (had - 1) * per_token_s) > at_s:
        had -= 1
    while accepted_s + (first_s + had * per_token_s) <= at_s:
        had += 1
    return had
