"""What every importer of logs keeps."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from ttc_sim.measured.importing import IMPORTERS, Call, Importer
from ttc_sim.measured.importing.call import COUNTS, as_rows
from ttc_sim.measured.importing.opening import look_at
from ttc_sim.measured.importing.reading import Left, Sample

_STATUSES = ("ok", "failed", "partial", "retry")
_ODD: tuple[Any, ...] = (
    None,
    "",
    "many",
    -1,
    1e308,
    float("nan"),
    True,
    [],
    {},
    [{}],
    {"a": [None]},
    "\x1b[31m",
    10**30,
)
_MOST_RECORDS = 3


class ImporterConformance:
    """Tests of :attr:`importer` on a log of its own format.

    Attributes:
        log: a small one, as text or bytes; name: of its file.
        calls: how many it holds, failed ones among them.

    >>> from ttc_sim.measured.importing.formats.mooncake import Mooncake
    >>> class TestMooncake(ImporterConformance):
    ...     importer = Mooncake()
    ...     log = '{"timestamp": 0, "input_length": 900, "output_length": 12, "hash_ids": [1, 2]}'
    ...     calls = 1
    >>> TestMooncake().test_the_log_is_recognised()
    """

    importer: ClassVar[Importer]
    log: ClassVar[str | bytes]
    calls: ClassVar[int]
    name: ClassVar[str] = "log"

    def test_the_log_is_recognised(self) -> None:
        """It bears marks of the format, and more of them than of any other that is known."""
        sample = self._sample()
        own = self.importer.recognises(sample)
        assert own > 0, "no mark of the format in its own log"
        for name in IMPORTERS:
            if name == "table" or isinstance(self.importer, IMPORTERS[name]):
                continue
            assert IMPORTERS[name]().recognises(sample) < own, f"format {name} bears as many marks"

    def test_another_log_is_not(self) -> None:
        """Objects and tables of something else bear no mark."""
        for sample in (
            Sample("other.json", "json", ({"colour": "red"}, [], 7, None, "text", {"usage": None, "data": []})),
            Sample("other.csv", "table", ({"colour": "red", "size": "3"},), ("colour", "size")),
            Sample("empty.json", "json", ()),
        ):
            assert self.importer.recognises(sample) == 0, f"taken for one of this format: {sample}"

    def test_all_calls_are_found(self) -> None:
        """As many as there are, and nothing is remembered from one reading to the next."""
        first, again = self._calls(), self._calls()
        assert len(first) == self.calls, f"{len(first)} calls found"
        assert first == again, "another result the second time"

    def test_numbers_stand_as_the_log_has_them(self) -> None:
        """Counts are not added up or turned around: each stands in the log."""
        text = self.log if isinstance(self.log, str) else self.log.decode("utf-8", "replace")
        for call in self._calls():
            assert call.status in _STATUSES, f"status {call.status!r}: one of {', '.join(_STATUSES)}"
            for name in COUNTS:
                value = getattr(call, name)
                if isinstance(value, int) and self.log and isinstance(self.log, str):
                    assert str(value) in text, f"{name} {value} does not stand in the log"

    def test_odd_values_are_no_errors(self) -> None:
        """Whatever stands in a field, there is no traceback: what cannot be is left out later."""
        records = self._records()[:_MOST_RECORDS]
        odd_ones = [(odd, head) for record, head in records for odd in _variations(record)]
        as_rows(enumerate((call for odd, head in odd_ones for call in self.importer.calls(odd, head)), 1), 0)
        sample = self._sample()
        for record in sample.records[:_MOST_RECORDS]:
            for odd in _variations(record):
                if sample.kind == "json" or isinstance(odd, dict):
                    self.importer.recognises(Sample(sample.name, sample.kind, (odd,), sample.columns, sample.head))

    def test_no_record_is_changed(self) -> None:
        """Making calls of a record leaves it as it is."""
        for record, head in self._records():
            before = copy.deepcopy(record)
            list(self.importer.calls(record, head))
            assert repr(record) == repr(before)

    def _sample(self) -> Sample:
        with tempfile.TemporaryDirectory() as folder:
            sample = self.importer.sample(look_at(self._written(folder)))
        assert sample is not None, "no sample of its own log"
        return sample

    def _records(self) -> list[tuple[Any, dict[str, Any]]]:
        with tempfile.TemporaryDirectory() as folder:
            file = look_at(self._written(folder))
            sample = self.importer.sample(file)
            assert sample is not None
            head = self.importer.prepared(sample)
            read = [record for _, record in self.importer.read(file, lambda _: None, head)]
        return [(record, head) for record in read if not isinstance(record, Left)]

    def _calls(self) -> list[Call]:
        return [call for record, head in self._records() for call in self.importer.calls(record, head)]

    def _written(self, folder: str) -> Path:
        path = Path(folder) / self.name
        path.write_bytes(self.log.encode() if isinstance(self.log, str) else self.log)
        return path


def _variations(record: Any, depth: int = 0) -> Iterator[Any]:
    """The record with one value in it replaced by an odd one or gone, each in turn."""
    if depth > 6 or not isinstance(record, (dict, list)):
        return
    for key in list(record) if isinstance(record, dict) else range(min(len(record), 2)):
        for odd in _ODD:
            made = copy.copy(record)
            made[key] = odd
            yield made
        for inner in _variations(record[key], depth + 1):
            made = copy.copy(record)
            made[key] = inner
            yield made
        if isinstance(record, dict):
            yield {name: value for name, value in record.items() if name != key}


__all__ = ["ImporterConformance"]
