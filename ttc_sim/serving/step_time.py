"""How long one iteration of a continuous-batching server takes."""

from __future__ import annotations

from typing import Protocol

from ttc_sim.scenario import LinearStepTime


class StepTime(Protocol):
    """Anything that says how long an iteration takes."""

    def seconds(self, prefill_tokens: int, decode_sequences: int, kv_tokens: int) -> float:
        """Seconds of one iteration.

        Args:
            prefill_tokens: prompt tokens taken in.
            decode_sequences: sequences that get one token each.
            kv_tokens: KV tokens that those sequences attend to, at the start of the iteration.
        """
        ...


class Linear:
    """Step time linear in prefilled tokens, sequences and KV tokens.

    >>> model = LinearStepTime(base_s=0.02, per_prefill_token_s=1e-4, per_sequence_s=5e-5, per_kv_token_s=0.0)
    >>> round(Linear(model).seconds(100, 10, 5000), 6)
    0.0305
    """

    def __init__(self, model: LinearStepTime) -> None:
        self.base_s = model.base_s
        self.per_prefill_token_s = model.per_prefill_token_s
        self.per_sequence_s = model.per_sequence_s
        self.per_kv_token_s = model.per_kv_token_s

    def seconds(self, prefill_tokens: int, decode_sequences: int, kv_tokens: int) -> float:
        """Seconds of one iteration; see :class:`StepTime`."""
        return (
            self.base_s
            + self.per_prefill_token_s * prefill_tokens
            + self.per_sequence_s * decode_sequences
            + self.per_kv_token_s * kv_tokens
        )
