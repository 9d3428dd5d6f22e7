"""From logs to tables: read in a stream, understood as a whole, written together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ttc_sim.base.errors import InputError
from ttc_sim.base.progress import Step, Telling
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.files.opening import is_folder
from ttc_sim.files.writing import check_room, unwritable
from ttc_sim.measured.importing.audit import Audit
from ttc_sim.measured.importing.detecting import importer_of, recognise
from ttc_sim.measured.importing.opening import LogFile
from ttc_sim.measured.importing.output import OUTPUTS, write_tables
from ttc_sim.measured.importing.reading import Sample
from ttc_sim.measured.importing.spool import FOLDER, Spool, check_own
from ttc_sim.measured.importing.spooling import Scoring, spool_all
from ttc_sim.measured.importing.understanding import Answers, understand

_WORTH_KEEPING = 100_000_000


@shows_progress()
def import_logs(
    files: Sequence[str | Path],
    out: str | Path,
    *,
    format: str | None = None,  # what users call it
    columns: Mapping[str, str] | None = None,
    answers: Answers | None = None,
    keep_prompts: bool = False,
    scoring: Scoring | None = None,
    replace: bool = False,
    progress: Telling = None,
) -> Audit:
    """Turn logs of calls into ``traffic.parquet`` (``lengths.parquet`` where nothing says when calls came) and, where answers are
    graded, ``problems.parquet`` and ``attempts.parquet`` in ``out``.

    Memory does not grow with the size of a log; an interrupted import goes on where it was when it is called again.

    Args:
        files: logs of one format, or folders of them.
        out: folder to write to; what an earlier import wrote there is replaced with ``replace`` alone.
        format: a name of :data:`~ttc_sim.measured.importing.importer.IMPORTERS`; found out if left out.
        columns: of a table whose columns have other names than the usual ones, by role (``ROLES`` of
            :mod:`~ttc_sim.measured.importing.formats.table`).
        answers: what the log does not say of itself.
        keep_prompts: write the prompts' text too; otherwise it is forgotten.
        scoring: by what prompts are scored before they are forgotten.
        progress: ``True`` shows how far it is and the time left, a function is told by lines, ``False`` is silent; left out, it is
            shown in an open notebook (:func:`ttc_sim.base.showing.telling`).

    Returns:
        The audit, which stands in ``import.json`` as well.

    Raises:
        InputError: a log that cannot be read, an unknown format, no row that can be used, outputs that are there already.
    """
    say = telling("import", progress)
    out, answers = Path(out), answers or Answers()
    _check_out(out, replace)
    name, logs, notes = _recognised(files, format, columns)
    importer = importer_of(name, columns)
    audit = Audit(name, importer.title, notes=notes)
    identity = [(str(log.path.resolve()), log.size, log.path.stat().st_mtime_ns) for log, _ in logs]
    identity.append((str(dict(columns or {})), 0, 0))
    check_own(out / FOLDER)
    made = not out.exists()
    spool, goes_on = Spool.begun(
        out, {"files": identity, "format": name, "keep": keep_prompts, "scored": str(scoring and scoring.by)}
    )
    if goes_on:
        audit.notes.append("went on where an interrupted import had left off")
    try:
        spool_all(logs, importer, spool, keep_prompts, scoring, say)
    except InputError:
        spool.clear()
        _remove_if_empty(out, made)
        raise
    except KeyboardInterrupt as interrupted:
        if spool.parts:
            interrupted.add_note(_kept(spool))
        else:
            spool.clear()
            _remove_if_empty(out, made)
        raise
    try:
        made_of_it = understand(logs, importer, spool, audit, answers, say)
        say(Step("writing"))
        write_tables(
            spool, made_of_it, audit, out, keep_prompts=keep_prompts, scored_by=None if scoring is None else scoring.by
        )
    except InputError:
        # What took long to read is there for a second try, such as one that answers a question.
        if sum(log.size for log, _ in logs) < _WORTH_KEEPING:
            spool.clear()
            _remove_if_empty(out, made)
        raise
    except KeyboardInterrupt as interrupted:
        interrupted.add_note(_kept(spool))
        raise
    spool.clear()
    return audit


def _kept(spool: Spool) -> str:
    return f"what was read is kept in {spool.folder}: the same command goes on from there"


def _remove_if_empty(folder: Path, made: bool) -> None:
    if made:
        with suppress(OSError):
            folder.rmdir()


def _check_out(out: Path, replace: bool) -> None:
    try:
        if out.exists() and not out.is_dir():
            raise InputError(out, "folder", str(out), "a folder to write to")
        there = [name for name in OUTPUTS if (out / name).exists()]
        above = next(parent for parent in [out, *out.resolve().parents] if parent.exists())
        folder = above.is_dir()
    except (OSError, ValueError) as error:  # a name that no folder can have
        if isinstance(error, InputError):
            raise
        raise unwritable(out, error) from None
    if there and not replace:
        raise InputError(out, "folder", ", ".join(there), "a folder without them, or --replace")
    if not folder:
        raise InputError(out, "folder", str(above), "a folder, to write it in")
    check_room(out, above)


def _recognised(
    files: Sequence[str | Path], named: str | None, columns: Mapping[str, str] | None
) -> tuple[str, list[tuple[LogFile, Sample]], list[str]]:
    """The format, files with what they begin with, and what is to be said of them."""
    paths: list[tuple[Path, bool]] = []
    for given in files:
        path = Path(given)
        if is_folder(path):
            inside = sorted(one for one in path.rglob("*") if one.is_file() and not _hidden(one.relative_to(path)))
            if not inside:
                raise InputError(path, "folder", str(path), "a folder with logs in it")
            paths += [(one, True) for one in inside]
        else:
            paths.append((path, False))
    if not paths:
        raise InputError("import", "files", "none", "at least one log")
    notes: list[str] = []
    logs: list[tuple[LogFile, Sample]] = []
    formats: dict[str, Path] = {}
    skipped: list[InputError] = []
    for path, of_folder in paths:
        try:
            name, file, sample = recognise(path, named, columns)
        except InputError as error:
            if not of_folder:
                raise
            skipped.append(error)
            continue
        formats.setdefault(name, path)
        logs.append((file, sample))
        notes += [line for line in (*file.notes, *importer_of(name, columns).notes(sample)) if line not in notes]
    if not logs:
        raise skipped[0]
    again = next((path for path, times in Counter(log.path.resolve() for log, _ in logs).items() if times > 1), None)
    if again is not None:
        raise InputError(again, "file", str(again), "each file once")
    if skipped:
        notes.append(f"{len(skipped):,} files of the folder are no logs of a known format: {skipped[0].where} first")
    if len(formats) > 1:
        (first, one), (second, other), *_ = formats.items()
        raise InputError(other, "format", second, f"{first} as {one}: logs of one format at a time, or --format")
    return next(iter(formats)), logs, notes


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


__all__ = ["import_logs"]
