"""Tokens of a text, by a tokenizer of Hugging Face's kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ttc_sim.base.errors import InputError
from ttc_sim.files.opening import read_text


def tokens_by(path: str | Path) -> Callable[[str], int]:
    """What counts the tokens of a text, special ones that begin and end it left out.

    Raises:
        InputError: no ``tokenizer.json``, or library ``tokenizers`` is not installed.
    """
    text = read_text(path, "--tokenizer", "an existing tokenizer.json")
    try:
        import tokenizers
    except ImportError:
        raise InputError("packages", "tokenizers", "not installed", "pip install 'ttc-sim[encoder]'") from None
    try:
        made = tokenizers.Tokenizer.from_str(text)
    except Exception:  # its errors share no base of their own, and are its own words
        raise InputError(path, "--tokenizer", text, "a tokenizer.json of Hugging Face") from None
    made.no_truncation()
    made.no_padding()
    return lambda said: len(made.encode(said, add_special_tokens=False).ids)
