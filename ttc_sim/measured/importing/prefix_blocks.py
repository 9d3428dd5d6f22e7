"""How many tokens a block of a prompt has whose ids a trace lists."""

from __future__ import annotations

from ttc_sim.measured.importing.reading import Sample

_SIZES = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)


def block_of(sample: Sample, documented: int) -> int:
    """Tokens of a block: what the format documents, unless the numbers of ids fit another size alone.

    >>> row = {"input_length": 130, "hash_ids": [1, 2, 3]}
    >>> block_of(Sample("x", "json", (row,)), 512), block_of(Sample("x", "json", (row,)), 64)
    (64, 64)
    """
    rows = [
        (len(ids), length)
        for record in sample.records
        if isinstance(record, dict)
        and isinstance(ids := record.get("hash_ids"), list)
        and ids
        and isinstance(length := record.get("input_length"), int)
        and not isinstance(length, bool)
    ]

    def fits(size: int) -> int:  # the last block may be left out where it is not whole
        return sum(ids in (length // size, -(-length // size)) for ids, length in rows)

    best = max(_SIZES, key=fits)
    others = any(fits(size) == len(rows) for size in _SIZES if size != best)
    clear = rows and fits(best) == len(rows) and not others and 2 * fits(documented) < len(rows)
    return best if clear else documented


def block_note(sample: Sample, documented: int) -> list[str]:
    """For the audit, where it is another size than documented."""
    found = block_of(sample, documented)
    if found == documented:
        return []
    return [f"prefix blocks: {found} tokens, since the numbers of ids fit nothing else; {documented} are documented"]
