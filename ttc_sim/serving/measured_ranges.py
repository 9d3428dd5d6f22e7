"""Where predictions were compared with measured servers, and whether a deployment lies outside of that.

The ranges are those of real vLLM runs, of operating points published by InferenceMAX and ML.ENERGY, and of load experiments;
``scripts/measured_ranges.py`` makes the file again. They hold for a GPU and a kind of model: how many sequences were in a server's
batch, and how long the longest were. The file also says how far off times between tokens were, by model and GPU.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

FILE = Path(__file__).with_name("measured_ranges.json")
Kind = Literal["dense", "experts", "hybrid"]
IN_WORDS = {
    "dense": "dense models",
    "experts": "mixtures of experts",
    "hybrid": "models whose layers attend only in part",
}


class Range(NamedTuple):
    """What was measured of a kind of model on a GPU.

    Attributes:
        sequences: most in a server's batch.
        context_tokens: of the longest sequence, prompt and answer together.
    """

    sequences: int
    context_tokens: int


@dataclass(frozen=True)
class Outside:
    """A deployment, and what of it lies outside of what was measured.

    Attributes:
        deployment: its name.
        what: ``gpu``, ``model``, ``batch`` or ``context``.
        value: its own: a name, sequences, or tokens.
        measured: what was measured, in words.
    """

    deployment: str
    what: Literal["gpu", "model", "batch", "context"]
    value: str | int
    measured: str

    def in_words(self) -> str:
        """As part of a line.

        >>> Outside("small", "batch", 900, "up to 512 of dense models on h100_sxm").in_words()
        'small: a batch of 900 sequences (measured: up to 512 of dense models on h100_sxm)'
        """
        value = f"{self.value:,}" if isinstance(self.value, int) else self.value
        said = {
            "gpu": f"servers on {value}",
            "model": value,
            "batch": f"a batch of {value} sequences",
            "context": f"sequences of {value} tokens",
        }
        return f"{self.deployment}: {said[self.what]} (measured: {self.measured})"


class ServedError(NamedTuple):
    """What servers at work said about predictions for a model on a GPU.

    Attributes:
        rows: points measured, of those that nothing was fitted to.
        percent: median absolute error of the median time between tokens.
    """

    rows: int
    percent: float


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return content


@cache
def served_errors() -> dict[tuple[str, str], ServedError]:
    """By the catalogue's names of model and GPU, those that were measured at work."""
    return {(one["model"], one["gpu"]): ServedError(one["rows"], one["percent"]) for one in _content()["errors"]}


@cache
def measured_ranges() -> dict[tuple[str, str], Range]:
    """By GPU and kind of model."""
    return {(one["gpu"], one["kind"]): Range(one["sequences"], one["context_tokens"]) for one in _content()["ranges"]}


def outside(deployment: str, gpu: str, kind: str, sequences: int, context_tokens: int) -> list[Outside]:
    """What of a deployment lies outside of what was measured; nothing if all of it lies inside.

    Args:
        deployment: its name.
        gpu: by its name in the catalogue.
        kind: of the model.
        sequences: in a replica's batch; context_tokens: of the longest sequence.

    >>> outside("small", "h100_sxm", "dense", 8, 2000)
    []
    """
    ranges = measured_ranges()
    here = {of: one for (on, of), one in ranges.items() if on == gpu}
    if not here:
        return [Outside(deployment, "gpu", gpu, f"on {', '.join(sorted({on for on, _ in ranges}))}")]
    if kind not in here:
        words = " and ".join(IN_WORDS[of] for of in sorted(here))
        return [Outside(deployment, "model", f"one of {IN_WORDS[kind]} on {gpu}", f"{words} on it")]
    of = f"of {IN_WORDS[kind]} on {gpu}"
    return beyond(deployment, sequences, context_tokens, *here[kind], of)


def beyond(deployment: str, sequences: int, context_tokens: int, most: int, longest: int, of: str) -> list[Outside]:
    """A batch of more sequences than ``most``, and sequences of more tokens than ``longest``; ``of`` what, in words."""
    found = []
    if sequences > most:
        found.append(Outside(deployment, "batch", sequences, f"up to {most:,} {of}"))
    if context_tokens > longest:
        found.append(Outside(deployment, "context", context_tokens, f"up to {longest:,} {of}"))
    return found
