"""How many draft tokens pay, by the number of sequences that decode together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ttc_sim.base.errors import InputError
from ttc_sim.scenario import GpuPool
from ttc_sim.scenario.acceptance_lengths import ACCEPTANCE_LENGTHS
from ttc_sim.serving.pools import pool_table
from ttc_sim.serving.step_time import step_seconds


def note_on_drafts(name: str, pool: GpuPool) -> str | None:
    """What a reader of a pool's times must know of its speculative decoding; ``None`` where it has none.

    Args:
        name: of the deployment.
    """
    said = pool.speculative
    if said is None or not said.draft_tokens:
        return None
    of = f"{name} verifies {said.draft_tokens} draft token{'s' if said.draft_tokens > 1 else ''} a step and gets "
    of += f"{said.length:g} tokens of it in the mean"
    if said.profile is not None:
        of += f", as {ACCEPTANCE_LENGTHS[said.profile].model} does on coding prompts"
    if said.draft_s is None and said.draft_share is None:
        of += f" (drafting one is assumed to take {said.share_of_a_draft:.0%} of a plain iteration: draft_s or draft_share say it)"
    return f"{of}: times per token have no spread of acceptance in them"


@dataclass(frozen=True)
class Drafting:
    """Mean seconds between tokens of one batch.

    Attributes:
        sequences: in the batch; kv_tokens: of each of them.
        per_token_s: by number of draft tokens, 0 for plain decoding.
    """

    sequences: int
    kv_tokens: int
    per_token_s: Mapping[int, float]

    @property
    def best(self) -> int:
        """Draft tokens with which tokens come soonest."""
        return min(self.per_token_s, key=lambda drafted: (self.per_token_s[drafted], drafted))

    @property
    def gain(self) -> float:
        """Times as many tokens a second as plain decoding yields."""
        return self.per_token_s[0] / self.per_token_s[self.best]


def drafting_by_batch(
    pool: GpuPool, batches: Sequence[int], kv_tokens: int, folder: str | Path = "."
) -> list[Drafting]:
    """What each number of draft tokens of which something is known makes of decode iterations: ``step / acceptance_length``.

    Args:
        pool: with ``speculative``.
        batches: numbers of sequences that decode, none of them above the pool's ``max_num_seqs``; prompts are not taken in.
        kv_tokens: tokens of each sequence.
        folder: that relative paths of the scenario start from.

    Raises:
        InputError: a pool that does not speculate, a batch beyond its limits, or as :func:`pool_table`.

    >>> from ttc_sim.scenario import LinearStepTime, Speculative
    >>> step = LinearStepTime(base_s=0.02, per_prefill_token_s=1e-4, per_sequence_s=1e-4, per_kv_token_s=0.0)
    >>> drafts = Speculative(draft_tokens=4, acceptance_length={1: 1.8, 2: 2.3, 4: 2.9}, draft_share=0.05)
    >>> pool = GpuPool(kind="gpu_pool", replicas=1, usd_per_replica_hour=1.0, step_time=step, speculative=drafts)
    >>> [(one.sequences, one.best, round(one.gain, 2)) for one in drafting_by_batch(pool, [1, 64, 256], 1000)]
    [(1, 4, 2.38), (64, 2, 1.45), (256, 1, 1.12)]
    """
    if pool.speculative is None:
        raise InputError(
            "drafting_by_batch", "speculative", None, "a pool that says what is accepted and what drafting takes"
        )
    found: list[dict[int, float]] = [{} for _ in batches]
    for drafted in (0, *pool.speculative.lengths):
        try:
            speculative = pool.speculative.with_draft_tokens(drafted)
        except ValueError:
            continue  # what drafting takes is not known of so many
        table = pool_table(pool.model_copy(update={"speculative": speculative}), folder)
        for times, batch in zip(found, batches, strict=True):
            if not 1 <= batch <= pool.max_num_seqs:
                expected = f"from 1 to max_num_seqs {pool.max_num_seqs} sequences"
                raise InputError("drafting_by_batch", "batches", batch, expected)
            if batch * table.verified <= pool.max_num_batched_tokens:
                seconds = step_seconds(table, 0, 0.0, batch, batch * kv_tokens, batch)
                times[drafted] = seconds / table.advance
    return [Drafting(batch, kv_tokens, times) for batch, times in zip(batches, found, strict=True)]
