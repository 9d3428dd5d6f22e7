"""Tokens of a text, by a tokenizer of Hugging Face's kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ttc_sim.files.opening import read_text
from ttc_sim.predictor.reading.tokens import parse_tokenizer


def tokens_by(path: str | Path) -> Callable[[str], int]:
    """What counts the tokens of a text, special ones that begin and end it left out.

    Raises:
        InputError: no ``tokenizer.json``, or library ``tokenizers`` is not installed.
    """
    made = parse_tokenizer(read_text(path, "--tokenizer", "an existing tokenizer.json"), path, "--tokenizer")
    return lambda said: len(made.encode(said, add_special_tokens=False).ids)
