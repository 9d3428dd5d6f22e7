"""Step times of speculative decoding, from those of plain decoding."""

from __future__ import annotations

import numpy as np

from ttc_sim.scenario.speculative import Speculative
from ttc_sim.serving.step_time import StepTable


def speculative_table(
    plain: StepTable, speculative: Speculative | None, max_sequences: int, per_draft_token_s: float = 0.0
) -> StepTable:
    """Step times of a server that verifies draft tokens.

    The tokens of a verification pass through the dense layers and the LM head as other tokens do. Attention is that of one token:
    it takes the time of reading keys and values, which are read once for all tokens of a sequence. Drafting comes on top: seconds
    of each iteration in which sequences decode, or a share of a plain decode iteration for each draft token, its attention too.

    Args:
        plain: of the same server, for batches of ``max_sequences`` times as many sequences as are verified tokens of each.
        speculative: nothing changes without it, or without draft tokens.
        max_sequences: most sequences in a batch.
        per_draft_token_s: further seconds that each draft token takes, where ``plain`` says nothing of tokens in general.

    Time per token of a full batch, by hand: ``(step(batch * verified) + drafting) / acceptance_length``.

    >>> import numpy as np
    >>> from ttc_sim.serving.step_time import step_seconds, step_table
    >>> plain = step_table(64, 4 * 5, base_s=0.01, per_kv_s=1e-6, dense_s=1e-4 * np.arange(65.0))
    >>> said = Speculative(draft_tokens=4, acceptance_length=2.5, draft_s=0.001)
    >>> table = speculative_table(plain, said, 4)
    >>> round(step_seconds(table, 0, 0.0, 4, 4000, 4) / table.advance, 9)
    0.0068
    >>> (0.01 + 4 * 5 * 1e-4 + 4000 * 1e-6 + 0.001) / 2.5
    0.0068
    """
    if speculative is None or not speculative.draft_tokens:
        return plain
    drafted = speculative.draft_tokens
    decode_s = plain.decode_s[: max_sequences + 1].copy()
    decode_s[1:] += speculative.drafting_s
    share = drafted * speculative.share_of_a_draft
    one_each = plain.base_s + plain.dense_s[: max_sequences + 1] + plain.decode_s[: max_sequences + 1]
    decode_s[1:] += share * (one_each + plain.sampled_s[: max_sequences + 1])[1:]
    decode_s += drafted * per_draft_token_s * np.arange(max_sequences + 1)
    return plain._replace(
        decode_s=decode_s,
        per_kv_s=(1 + share) * plain.per_kv_s,
        attention_s=plain.attention_s + share * plain.attention_s[:1, :1],
        decode_attention_s=(1 + share) * plain.decode_attention_s[: max_sequences + 1],
        verified=drafted + 1,
        advance=speculative.length,
    )
