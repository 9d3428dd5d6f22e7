"""``python -m fuzzing --minutes 10``: broken inputs until time is up; exit status 1 if anything gave way."""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fuzzing.case import Outcome, replay
from fuzzing.corpus import write_corpus
from fuzzing.kinds import KINDS
from fuzzing.workers import Job, minutes, outcomes

FINDINGS = Path("fuzz-findings")
EVERY_S = 10.0


def main() -> int:
    """Exit status: 0 if nothing was found, else 1."""
    parser = argparse.ArgumentParser(prog="python -m fuzzing", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--cases", type=int, help="so many instead")
    parser.add_argument("--seed", type=int, help="of the first case; another each time if left out")
    parser.add_argument(
        "--workers", type=int, default=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    )
    parser.add_argument("--kinds", nargs="*", default=[], choices=list(KINDS))
    parser.add_argument("--replay", nargs="+", type=Path, metavar="FILE", help="carry findings out again instead")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ttc-sim-corpus-") as name:
        corpus = Path(name)
        write_corpus(corpus)
        if given.replay:
            return _replay(given.replay, corpus)
        seed = random.SystemRandom().randrange(10**9) * 1000 if given.seed is None else given.seed
        print(f"first seed {seed}, {given.workers} workers; findings go to {FINDINGS}/", flush=True)
        seeds = itertools.count(seed) if given.cases is None else iter(range(seed, seed + given.cases))
        until = minutes(given.minutes) if given.cases is None else lambda: False
        found: dict[tuple[str, str], list[Outcome]] = {}
        kinds: Counter[str] = Counter()
        refused, said = 0, time.monotonic()
        for one in outcomes(seeds, Job(corpus, FINDINGS, tuple(given.kinds)), given.workers, until):
            kinds[one.kind] += 1
            refused += one.refused
            if one.found:
                found.setdefault((one.found, one.place), []).append(one)
            if time.monotonic() > said + EVERY_S:
                said = time.monotonic()
                print(f"{kinds.total():,} cases, {refused:,} refused, {len(found)} places", file=sys.stderr, flush=True)
    print(
        f"{kinds.total():,} cases ({', '.join(f'{count:,} {kind}' for kind, count in kinds.items())}); {refused:,} were refused"
    )
    _print(found)
    return 1 if found else 0


def _print(found: dict[tuple[str, str], list[Outcome]]) -> None:
    for (what, place), cases in sorted(found.items(), key=lambda item: -len(item[1])):
        first = cases[0]
        print(f"{len(cases):>6}  {what:<9}  {place}  ({first.kind}-{first.seed}.json)")
    if found:
        print(f"{sum(map(len, found.values())):,} findings at {len(found)} places; --replay {FINDINGS}/FILE shows one")
    else:
        print("no traceback, no hang, no nonsense")


def _replay(files: list[Path], corpus: Path) -> int:
    status = 0
    for file in files:
        outcome = replay(file, corpus)
        print(f"{file}: {outcome.found or 'nothing any more'} {outcome.place}\n{outcome.trace}")
        status = 1 if outcome.found else status
    return status


if __name__ == "__main__":
    raise SystemExit(main())
