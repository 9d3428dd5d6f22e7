"""Which predictor scores are by: its name, and the content of its file.

A Parquet file of scores names it in its metadata. The shipped problem sets' scores do not: their files' names tell which shipped
predictor they are by.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import polars as pl

from ttc_sim.base.errors import InputError
from ttc_sim.base.shipped import PREDICTORS
from ttc_sim.files.opening import readable

FAST = "fast"
"""The predictor that scores are by where nothing else is said."""
SUFFIX = ".onnx"
_NAME, _CONTENT = "ttc_sim.predictor", "ttc_sim.predictor_sha256"


@dataclass(frozen=True)
class ScoredBy:
    """A predictor: its name (a shipped one's, or its file's), and the SHA-256 of its file in hexadecimal digits."""

    name: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} (sha256 {self.sha256[:12]})"

    def as_metadata(self) -> dict[str, str]:
        """What a Parquet file of its scores says of it."""
        return {_NAME: self.name, _CONTENT: self.sha256}


def is_predictor(name: str) -> bool:
    """Whether this can name a predictor: a shipped one, or an ONNX file."""
    return name in PREDICTORS or name.endswith(SUFFIX)


def predictor_file(predictor: str | Path) -> Path:
    """The file of a shipped predictor that is named, or the path itself."""
    return PREDICTORS.get(str(predictor), Path(predictor))


def identify(predictor: str | Path) -> ScoredBy:
    """A predictor by its name and content.

    Args:
        predictor: name of a shipped one, or an ONNX file.

    Raises:
        InputError: neither.

    >>> identify("fast").name
    'fast'
    """
    file = predictor_file(predictor)
    if not is_predictor(str(predictor)):
        raise InputError("predictor", "file", str(predictor), f"{' or '.join(PREDICTORS)}, or an ONNX file")
    try:
        readable(file, "predictor", "an existing ONNX file")
        stat = file.stat()
        sha256 = _sha256(file.resolve(), stat.st_mtime_ns, stat.st_size)
    except OSError:
        raise InputError(file, "predictor", str(predictor), "an existing ONNX file") from None
    return ScoredBy(str(predictor) if str(predictor) in PREDICTORS else file.name, sha256)


@lru_cache(maxsize=16)
def _sha256(file: Path, changed_ns: int, size: int) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def scores_name(predictor: str | Path) -> str:
    """Name of the file, in a problem set's folder, of its scores by a predictor."""
    if str(predictor) == FAST:
        return "scores.parquet"
    stem = str(predictor) if str(predictor) in PREDICTORS else Path(predictor).stem
    return f"scores-{stem}.parquet"


def said_by(file: Path) -> ScoredBy | None:
    """The predictor that a file of scores names; ``None`` if it names none."""
    try:
        found = pl.read_parquet_metadata(file)
    except (pl.exceptions.PolarsError, OSError):
        return None  # what is wrong with the table is said where it is read
    if _NAME not in found or _CONTENT not in found:
        return None
    return ScoredBy(found[_NAME], found[_CONTENT])


def check_scores(file: Path, predictor: str | Path, *, shipped: bool) -> tuple[ScoredBy, tuple[str, ...]]:
    """Whose scores these are, if they are the predictor's.

    Args:
        file: of a problem set's scores; shipped: whether the set is a shipped one.

    Returns:
        The predictor, and what was assumed where the file names none.

    Raises:
        InputError: scores by another predictor, or that name none where it is the user's own.
    """
    wanted, said = identify(predictor), said_by(file)
    if said is not None and said.sha256 == wanted.sha256:
        return wanted, ()
    command = f"`ttc-sim predictor score PROMPTS --model {predictor} --out {file}` makes them"
    if said is not None:
        expected = f"scores by {wanted}; {command}"
        if str(predictor) in PREDICTORS and said.name.endswith(SUFFIX):
            expected += f"; or `predictor: {said.name}` in the scenario, and these as {scores_name(said.name)}"
        raise InputError(file, "predictor", str(said), expected)
    if str(predictor) not in PREDICTORS:
        raise InputError(file, "predictor", "none that the file names", f"scores by {wanted}; {command}")
    if shipped:
        return wanted, ()
    return wanted, (
        f"{file.name} of {file.parent.name} names no predictor: taken to be by the shipped {predictor} one",
    )
