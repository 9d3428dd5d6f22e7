"""Records of a log, one after the other, whatever its size: of lines of JSON, of a JSON document, of CSV or of Parquet."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import islice
from typing import Any

from ttc_sim.base.errors import InputError
from ttc_sim.measured.importing.json_records import read_json, records_of
from ttc_sim.measured.importing.opening import UNPACKING, LogFile, cut_off, open_bytes
from ttc_sim.measured.importing.records import Left, Read, Sample
from ttc_sim.measured.importing.table_records import decimal_mark, read_csv, read_parquet

SAMPLED = 50
_LOOKED_INTO = 128_000_000  # bytes of a document that are searched for its first record


def read_records(
    file: LogFile,
    arrays: tuple[str, ...],
    at: Callable[[int], None],
    head: dict[str, Any],
    *,
    within: float = math.inf,
) -> Read:
    """The records of a log.

    Args:
        arrays: keys of a document that is one object under which its records may stand.
        at: told now and then how many bytes of the file have been read.
        head: filled with what such a document holds beside its records.
        within: bytes of a JSON document within which its first record must stand.

    Raises:
        InputError: the file cannot be read as what it begins like.
    """
    if file.kind == "parquet":
        yield from read_parquet(file, at)
        return
    try:
        with open_bytes(file) as (stream, raw):
            if file.kind == "table":
                yield from read_csv(file, stream, lambda: at(raw.tell()))
            else:
                yield from read_json(file, stream, arrays, lambda: at(raw.tell()), head, within)
    except UNPACKING:
        raise cut_off(file.path, file.packed) from None


def sample_of(file: LogFile, arrays: tuple[str, ...] = ()) -> Sample:
    """The beginning of a log, for recognising its format.

    Raises:
        InputError: none of its first records can be read.
    """
    head: dict[str, Any] = {}
    records = read_records(file, arrays, lambda _: None, head, within=_LOOKED_INTO)
    found = [record for _, record in islice(records, SAMPLED)]
    good = tuple(record for record in found if not isinstance(record, Left))
    if found and not good:
        first = next(record for record in found if isinstance(record, Left))
        raise InputError(file.path, "file", first.said or file.path.name, f"a log; here: {first.why}")
    if file.kind in ("table", "parquet"):
        return Sample(file.path.name, "table", good, tuple(good[0]) if good else (), path=file.path)
    return Sample(file.path.name, "json", good, head=head, path=file.path)


def inside(sample: Sample, arrays: tuple[str, ...]) -> Sample:
    """The sample of a document's records, from that of the document as one record; the same sample if it is none."""
    if sample.kind == "json" and len(sample.records) == 1 and isinstance(sample.records[0], dict):
        head: dict[str, Any] = {}
        records = tuple(record for _, record in islice(records_of(sample.records[0], arrays, head), SAMPLED))
        return Sample(sample.name, "json", records, head=head, path=sample.path)
    return sample


__all__ = ["SAMPLED", "Left", "Read", "Sample", "decimal_mark", "inside", "read_records", "sample_of"]
