"""One case: made from its seed, carried out in a folder of its own, and what came of it."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fuzzing.carrying_out import carry_out
from fuzzing.checking import NonsenseError, check_outputs, read, records_agree
from fuzzing.dice import Dice
from fuzzing.kinds import KINDS, Commands
from fuzzing.special import SPECIAL

STATUSES = (0, 1, 2)
_COMMANDS = ".commands"
_READ_LOGS = ("imports", "command_lines", "kills")


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        kind, seed: of the case.
        found: ``""`` where all is well, else ``traceback``, ``nonsense``, ``hang`` or ``crash``.
        place: line of the project that the traceback ends in, or what cannot be.
        trace: all of it; refused: whether the input was (which is well).
    """

    kind: str
    seed: int
    found: str = ""
    place: str = ""
    trace: str = ""
    refused: bool = False


def kind_of(seed: int) -> str:
    """The kind of a seed, as often as :data:`KINDS` says."""
    weights = [weight for weight, _ in KINDS.values()]
    return Dice("kind", seed).random.choices(list(KINDS), weights)[0]


def make(kind: str, seed: int, corpus: Path, folder: Path) -> Commands:
    """Fill the folder and say what is to be carried out there."""
    unread = [] if kind in _READ_LOGS else ["logs"]  # many files, which few kinds read
    shutil.copytree(corpus, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*unread))
    commands = KINDS[kind][1](Dice(kind, seed), folder)
    (folder / _COMMANDS).write_text(json.dumps(commands))
    return commands


def carried_out(kind: str, seed: int, corpus: Path, folder: Path) -> Outcome:
    """Make a case and carry it out; what fails while it is made is a fault of the harness's own, and said to be."""
    try:
        commands = make(kind, seed, corpus, folder)
    except Exception as error:
        return Outcome(kind, seed, "harness", place_of(error), "".join(traceback.format_exception(error)))
    return run(kind, seed, folder, commands)


def run(kind: str, seed: int, folder: Path, commands: Commands) -> Outcome:
    """Carry the commands out."""
    try:
        refused = False
        with _inside(folder):
            for words in commands:
                refused = _carry_out(words, folder)
        return Outcome(kind, seed, refused=refused)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        found = "nonsense" if isinstance(error, NonsenseError) else "traceback"
        place = str(error) if found == "nonsense" else f"{place_of(error)} {type(error).__name__}"
        return Outcome(kind, seed, found, place, "".join(traceback.format_exception(error)))


def place_of(error: BaseException) -> str:
    """The innermost line of the project; of the chain of causes, that of the last."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/ttc_sim/" in frame.filename]
    frame = (ours or frames)[-1]
    return f"{frame.filename.rpartition('/ttc_sim/')[2]}:{frame.lineno} {frame.name}"


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _carry_out(words: list[str], folder: Path) -> bool:
    """Whether the input was refused; files that were written are checked."""
    before = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    if words[:1] and words[0] in SPECIAL:
        SPECIAL[words[0]](words[1:], folder)
        return False
    status, said = carry_out(words)
    if status not in STATUSES:
        raise NonsenseError(f"exit status {status}")
    check_said(said)
    if status == 1:
        return True
    check_outputs(folder, before)
    wanted = [
        words[k + 1] for k, word in enumerate(words[:-1]) if word in ("--json", "--records") and words[0] == "simulate"
    ]
    if status == 0 and not {"--help", "-h", "--version"} & set(words):
        missing = [name for name in wanted if name.startswith("made") and not Path(name).exists()]
        if missing:
            raise NonsenseError("status 0, yet what was asked for is not written")
        if len(wanted) == 2 and wanted[0] == "made.json" and wanted[1] in ("made.csv", "made.parquet"):
            records_agree(read(Path(wanted[1])), json.loads(Path("made.json").read_text()))
    return False


def check_said(said: str) -> None:
    """A refusal is one line of a readable length, and sends nothing to the terminal but text.

    Raises:
        NonsenseError: it is not.
    """
    for line in said.splitlines():
        if line.startswith("error: ") and len(line) > 2000:
            raise NonsenseError("a refusal of more than 2,000 letters")
    if "\x1b" in said or "\x07" in said or "\x00" in said:
        raise NonsenseError("a refusal with control characters")
    if "Traceback (most recent call last)" in said:
        raise NonsenseError("a traceback on stderr")


def kept(outcome: Outcome, corpus: Path, folder: Path, at: Path) -> Path:
    """Write a finding so that it can be replayed: seed, commands, and the files that are not the corpus's own."""
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.is_symlink() and name != _COMMANDS and not name.startswith("made"):
            content = path.read_bytes()
            if not (corpus / name).is_file() or (corpus / name).read_bytes() != content:
                files[name] = base64.b64encode(content).decode()
    commands = json.loads((folder / _COMMANDS).read_text()) if (folder / _COMMANDS).is_file() else []
    content_of = {**outcome.__dict__, "commands": commands, "files": files}
    at.mkdir(parents=True, exist_ok=True)
    file = at / f"{outcome.kind}-{outcome.seed}.json"
    file.write_text(json.dumps(content_of, indent=1))
    return file


def replay(file: Path, corpus: Path) -> Outcome:
    """Carry a kept finding out again."""
    content = json.loads(file.read_text())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(corpus, folder, dirs_exist_ok=True)
        for path, text in content["files"].items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(base64.b64decode(text))
        return run(content["kind"], content["seed"], folder, content["commands"])


__all__ = ["Outcome", "carried_out", "kept", "kind_of", "place_of", "replay"]
