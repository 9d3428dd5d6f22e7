"""Prompts as the tokens of a text encoder, by the Rust library ``tokenizers``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.errors import InputError
from ttc_sim.predictor.reading.features import MAX_BYTES

I32 = NDArray[np.int32]
MAX_TOKENS = 256
"""Of a longer prompt the first and the last half of these are read: the question often stands at the end."""
PADDING = 0


def parse_tokenizer(text: str, origin: str | Path, field: str = "tokenizer") -> Any:
    """A tokenizer of the library ``tokenizers``, which neither cuts texts nor fills them up.

    Args:
        text: of a ``tokenizer.json``; origin: and ``field``, that errors name.

    Raises:
        InputError: library ``tokenizers`` is not installed, or cannot read it.
    """
    try:
        import tokenizers
    except ImportError:
        raise InputError("packages", "tokenizers", "not installed", "pip install 'ttc-sim[encoder]'") from None
    try:
        made = tokenizers.Tokenizer.from_str(text)
    except Exception:  # its errors share no base of their own, and are its own words
        raise InputError(origin, field, text, "a tokenizer.json of Hugging Face") from None
    made.no_truncation()
    made.no_padding()
    return made


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer and what it does with prompts. Token 0 must be its padding."""

    _made: Any

    @property
    def vocabulary(self) -> int:
        """How many tokens it knows."""
        return int(self._made.get_vocab_size())

    @classmethod
    def of(cls, text: str, origin: str | Path) -> Tokenizer:
        """From the text of a ``tokenizer.json``; errors name ``origin``.

        Raises:
            InputError: library ``tokenizers`` is not installed, or cannot read it.
        """
        made = parse_tokenizer(text, origin)
        if made.id_to_token(PADDING) not in ("[PAD]", "<pad>"):
            raise InputError(origin, "tokenizer", made.id_to_token(PADDING), "padding ([PAD] or <pad>) as token 0")
        return cls(made)

    def __call__(self, prompts: Sequence[str]) -> I32:
        """Tokens (n, t) with those that begin and end a text, 0 where a prompt has no more; t is at most ``MAX_TOKENS``."""
        # Lone surrogates are no characters; the library takes none.
        read = [text[:MAX_BYTES].encode("utf-8", "replace").decode("utf-8") for text in prompts]
        found = [one.ids for one in self._made.encode_batch_fast(read)]
        half = MAX_TOKENS // 2
        kept = [ids if len(ids) <= MAX_TOKENS else ids[:half] + ids[-half:] for ids in found]
        tokens = np.full((len(kept), max(map(len, kept), default=1)), PADDING, dtype=np.int32)
        for row, ids in enumerate(kept):
            tokens[row, : len(ids)] = ids
        return tokens


__all__ = ["MAX_TOKENS", "PADDING", "Tokenizer", "parse_tokenizer"]
