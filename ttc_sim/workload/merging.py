"""What arrives in a run: the requests of all processes, in order of arrival.

Every source with arrivals of its own draws by its name, and from the first of its requests on, so that nothing another source does
disturbs it (common random numbers).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ttc_sim.base.draws import F64, I64, uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_REQUESTS
from ttc_sim.base.prefix_tree import PrefixTree, beside_one_another
from ttc_sim.scenario import Arrivals, Clients, ClosedLoop, Renewal, Sessions, Trace, Workload
from ttc_sim.scenario.lengths import Lengths
from ttc_sim.scenario.shapes import WHOLE_TRACE
from ttc_sim.workload.beginnings import Beginnings
from ttc_sim.workload.expected import Expected, check_few_enough, check_memory, is_own, named_as, seconds_of_run
from ttc_sim.workload.generating import first_of, generate
from ttc_sim.workload.lengths import with_lengths
from ttc_sim.workload.sessions import all_turns, turns_a_session
from ttc_sim.workload.traces import recorded
from ttc_sim.workload.traffic import Traffic

_DEVIATIONS = 6  # of the number expected, that are generated beyond it at first
_ROUNDS = 4  # requests of each user that are generated at first, where it is not known how many are sent in time


@dataclass(frozen=True)
class Part:
    """The requests of one process among all of a run.

    Attributes:
        label: that its draws are named by; at: (m,) places of its requests in the run; position: (m,) places in the process.
    """

    label: str
    at: I64
    position: I64


@dataclass(frozen=True)
class Arrived:
    """What arrives in one run.

    Attributes:
        traffic: of all processes, by time.
        source: (n,) of each request, by number; ``None`` where the workload names none, or where all share one process: then they
            are drawn by share.
        parts: of each process; empty where there is only that of all sources.
    """

    traffic: Traffic
    source: I64 | None
    parts: tuple[Part, ...]


def label_of(label: str, source: str | None) -> str:
    """What the draws of a source with arrivals of its own are named by, in the run of that label."""
    return label if source is None else f"{label}/source/{source!r}"


def arrive(
    workload: Workload,
    seed: int,
    label: str,
    *,
    folder: Path,
    where: str,
    requests: int | None = None,
    rounds: int = 1,
) -> Arrived:
    """All that arrives in a run.

    Args:
        seed: of the draws; label: of the independent run.
        folder: where relative files start; where: the file that errors name.
        requests: of the run, instead of what the workload says.
        rounds: how many times more requests of users who wait for answers to generate for a duration, of which only those count
            that are sent in time.

    Raises:
        InputError: what :func:`generate` refuses; a duration in which nothing arrives, or too much; users who wait for answers
            beside others, and a number of requests instead of a duration.
    """
    if requests is not None:
        workload = workload.model_copy(update={"requests": requests, "duration": None})
    if workload.requests is not None:
        check_memory(workload.requests, workload, where)
    many = _Streams(workload, seed, label, folder, where, rounds)
    traffics = many.by_number() if workload.requests is not None else many.by_time()
    traffics = [many.with_lengths(k, one) for k, one in enumerate(traffics)]
    if len(traffics) == 1:
        traffic, parts, source = traffics[0], list[Part](), None
        own = many.streams[0].source
        if own is not None:
            everyone = np.arange(len(traffic.arrival_s))
            parts, source = [Part(label_of(label, own), everyone, everyone)], np.zeros_like(everyone)
    else:
        order, stream = _order(traffics)
        traffic = _merged(traffics, order)
        starts = np.cumsum([0, *(len(one.arrival_s) for one in traffics)])
        parts = []
        source = np.empty(len(order), dtype=np.int64)
        for k, one in enumerate(many.streams):
            at = np.flatnonzero(stream == k)
            parts.append(Part(label_of(label, one.source), at, order[at] - starts[k]))
            source[at] = many.sources(k, traffics[k])[order[at] - starts[k]]
    n = len(traffic.arrival_s)
    if not n:
        come = many.counted(many.lasts_s or 0.0)
        expected = f"a longer one: nothing arrives in it, and {come:.3g} requests are expected in the mean"
        raise InputError(where, "workload.duration", workload.duration, expected)
    if len(traffics) == 1 and workload.requests is not None:
        return Arrived(replace(traffic, goes_on_per_s=many.goes_on(n)), source, tuple(parts))
    changed: dict[str, Any] = {"goes_on_per_s": many.goes_on(n)}
    if workload.requests is not None:
        changed["rate_per_s"] = n / many.expected.seconds(n)
    elif not many.is_one_trace:
        assert many.lasts_s is not None
        changed |= {"lasts_s": many.lasts_s, "rate_per_s": many.counted(many.lasts_s) / many.lasts_s}
    return Arrived(replace(traffic, **changed), source, tuple(parts))


class _Streams:
    """The processes of a workload in one run."""

    def __init__(self, workload: Workload, seed: int, label: str, folder: Path, where: str, rounds: int) -> None:
        self.workload, self.seed, self.label, self.folder, self.where = workload, seed, label, folder, where
        self.rounds = rounds
        self.streams = workload.streams
        self.once = workload.duration == WHOLE_TRACE
        self.lasts_s = seconds_of_run(workload, folder)

    @cached_property
    def expected(self) -> Expected:
        return Expected(self.workload, self.folder, self.where, once=self.once)

    @property
    def is_one_trace(self) -> bool:
        """Whether the run is one trace to its end, which is the same as so many requests of it."""
        return self.once and len(self.streams) == 1

    def counted(self, seconds: float) -> float:
        """Requests expected of all processes in the run."""
        expected = self.expected
        upto_s = float(np.nextafter(seconds, np.inf)) if self.once else seconds
        return sum(expected.until(k, upto_s) for k in range(len(self.streams)))

    def goes_on(self, requests: int) -> tuple[float, ...]:
        """Mean rates in the long run after it, where they are not those of the run."""
        if self.lasts_s is None and len(self.streams) == 1 and not _grows(self.workload):
            return ()
        expected = self.expected
        at_s = self.lasts_s if self.lasts_s is not None else expected.seconds(requests)
        return expected.goes_on(at_s)

    def generated(self, k: int, requests: int, first: Callable[..., Traffic] = first_of) -> Traffic:
        """The first requests of a process."""
        return self._made(k, self.streams[k].arrivals, requests, first)

    def _made(self, k: int, arrivals: Arrivals, count: int, first: Callable[..., Traffic] = first_of) -> Traffic:
        stream = self.streams[k]
        run = label_of(self.label, stream.source)
        with named_as(stream):
            made = first(arrivals, count, self.seed, folder=self.folder, where=self.where, run=run)
        return made.with_ends()  # before any are left out

    def by_number(self) -> list[Traffic]:
        """Of each process those among the first requests of all."""
        requests = self.workload.requests
        assert requests is not None
        if len(self.streams) == 1:
            return [self.generated(0, requests, generate)]
        waiting = next((one for one in self.streams if isinstance(one.arrivals, (ClosedLoop, Sessions))), None)
        if waiting is not None:
            who = "users" if waiting.arrivals.begins is waiting.arrivals else "sessions"
            expected = f"'duration' instead: how many requests the {who} of "
            expected += f"{'workload.arrivals' if waiting.source is None else f'source {waiting.source}'} send while others come "
            expected += "follows from the run"
            raise InputError(self.where, "workload.requests", requests, expected)
        expects = self.expected
        at_s = expects.seconds(requests)
        most = [min(requests, self._at_most(k)) for k in range(len(self.streams))]
        counts = [self._with_room(one.arrivals, expects.until(k, at_s), most[k]) for k, one in enumerate(self.streams)]
        while True:
            traffics = [self._open(k, self.streams[k].arrivals, count) for k, count in enumerate(counts)]
            times = np.concatenate([one.arrival_s for one in traffics])
            last_s = np.partition(times, requests - 1)[requests - 1] if len(times) >= requests else np.inf
            short = [k for k, one in enumerate(traffics) if one.arrival_s[-1] <= last_s and counts[k] < most[k]]
            if not short and np.isinf(last_s):
                self.expected.never(requests)
            if not short:
                break
            for k in short:
                counts[k] = min(2 * counts[k], most[k])
        before, upto = (
            [int(np.searchsorted(one.arrival_s, last_s, side)) for one in traffics] for side in ("left", "right")
        )
        left, found = requests - sum(before), []
        # Of those that come at the last instant the first process's come first.
        for one, first, last in zip(traffics, before, upto, strict=True):
            together = min(last - first, left)
            left -= together
            found.append(one.taken(slice(0, first + together)))
        return found

    def _at_most(self, k: int) -> int:
        """Requests that a process has: as many as are asked for, but of a trace whose rows have one time and that has no rate."""
        arrivals = self.streams[k].arrivals
        if isinstance(arrivals, Trace) and not is_own(arrivals) and np.isnan(self.expected.rates[k]):
            return len(recorded(arrivals, self.folder).arrival_s)
        return MOST_REQUESTS

    def by_time(self) -> list[Traffic]:
        """Of each process those that come in time."""
        expects = self.expected
        upto_s = self.lasts_s
        assert upto_s is not None
        if self.once:  # with the last row
            upto_s = float(np.nextafter(upto_s, np.inf))
        counts = [expects.until(k, upto_s) for k in range(len(self.streams))]
        check_few_enough(float(np.nansum(counts)), self.workload, self.where)
        return [self._in_time(k, counts[k], upto_s) for k in range(len(self.streams))]

    def _in_time(self, k: int, expected: float, upto_s: float) -> Traffic:
        arrivals = self.streams[k].arrivals
        if isinstance(arrivals, Sessions) and not is_own(arrivals):
            turns = turns_a_session(arrivals, self.folder)
            begun = self._begun_in_time(k, arrivals.starts, expected / turns, upto_s, turns)
            run = label_of(self.label, self.streams[k].source)
            return all_turns(arrivals, begun, self.seed, run, folder=self.folder, where=self.where)
        return self._begun_in_time(k, arrivals, expected, upto_s)

    def _begun_in_time(self, k: int, arrivals: Arrivals, expected: float, upto_s: float, turns: float = 1.0) -> Traffic:
        """What a process begins, of which so much is expected: requests, or sessions of so many turns in the mean."""
        if isinstance(arrivals, ClosedLoop):
            requests = arrivals.users * _ROUNDS * self.rounds
            check_few_enough(requests * turns, self.workload, self.where)
            return self._made(k, arrivals, requests)
        if isinstance(arrivals, Trace) and not is_own(arrivals):
            found = self.generated(k, int(expected))
            rows = len(recorded(arrivals, self.folder).arrival_s)
            if int(expected) <= rows or self.once:
                return found
            said = f"{Path(arrivals.file).name} ends within {self.workload.duration} and starts over: "
            said += f"it is played {expected / rows:.3g} times"
            return replace(found, notes=(*found.notes, said))
        count = self._with_room(arrivals, expected, most=MOST_REQUESTS)
        while True:
            found = self._open(k, arrivals, count)
            if found.arrival_s[-1] >= upto_s:
                return found.taken(slice(0, int(np.searchsorted(found.arrival_s, upto_s, side="left"))))
            count *= 2
            check_few_enough(count * turns, self.workload, self.where)

    def _open(self, k: int, arrivals: Arrivals, count: int) -> Traffic:
        """Requests of a process that wait for no answers."""
        found = self._made(k, arrivals, count)
        if found.after is None:
            return found
        process, field = self.streams[k].arrivals.process, self.streams[k].field
        alone = "a number of requests, and no other arrivals beside it: how many of its own come in time follows from the run"
        raise InputError(self.where, field, process, alone)

    def _with_room(self, arrivals: Arrivals, expected: float, most: int) -> int:
        """How many to generate of a process of which so many are expected."""
        cv = arrivals.cv if isinstance(arrivals, Renewal) else 4.0 if isinstance(arrivals, Clients) else 1.0
        return min(int(expected + _DEVIATIONS * max(cv, 1.0) * np.sqrt(expected)) + 50, most)

    def sources(self, k: int, traffic: Traffic) -> I64:
        """(n,) source of each of a process's requests: drawn by share where several send them, of sessions for all of a session."""
        numbers = np.array(self.streams[k].sources, dtype=np.int64)
        if len(numbers) == 1:
            return np.full(len(traffic.arrival_s), numbers[0])
        everyone = list(self.workload.sources.values())
        share = np.array([everyone[s].weight for s in numbers])
        return numbers[drawn_by_share(share / share.sum(), self.seed, label_of(self.label, None), traffic)]

    def with_lengths(self, k: int, traffic: Traffic) -> Traffic:
        """The traffic with the lengths of its sources, or of all, drawn."""
        stream, everyone = self.streams[k], list(self.workload.sources.values())
        laws = [everyone[s].lengths or self.workload.lengths for s in stream.sources] or [self.workload.lengths]
        if self.workload.has_problems or all(law is None for law in laws):
            return traffic
        if stream.arrivals.carries_lengths and self.workload.sources:
            return traffic  # workload.lengths are of others
        run = label_of(self.label, stream.source)

        def drawn(law: Lengths | None) -> Traffic:
            assert law is not None
            return with_lengths(law, traffic, self.seed, run, folder=self.folder, where=self.where)

        made = [drawn(law) for law in dict.fromkeys(laws)]
        if len(made) == 1:
            return made[0]
        which = np.array([list(dict.fromkeys(laws)).index(law) for law in laws])
        number = np.searchsorted(stream.sources, self.sources(k, traffic))
        row = which[number], np.arange(len(number))
        return replace(
            made[0],
            prompt_tokens=np.stack([_known(one.prompt_tokens) for one in made])[row],
            reasoning_tokens=np.stack([_known(one.reasoning_tokens) for one in made])[row],
            visible_tokens=np.stack([_known(one.visible_tokens) for one in made])[row],
            notes=tuple(dict.fromkeys(note for one in made for note in one.notes)),
        )


def drawn_by_share(share: F64, seed: int, label: str, traffic: Traffic) -> I64:
    """(n,) number of the source of each request; that of a session is of all its turns."""
    of = np.arange(len(traffic.arrival_s)) if traffic.session is None else traffic.session
    u = uniforms(seed, f"{label}/source", int(of.max(initial=-1)) + 1)[:, 0]
    return np.searchsorted(np.cumsum(share)[:-1], u, side="right").astype(np.int64)[of]


def _known(values: I64 | None) -> I64:
    assert values is not None
    return values


def _grows(workload: Workload) -> bool:
    return any(
        (shape := getattr(one.begins, "shape", None)) is not None and shape.growth_per_week
        for one in workload.processes
    )


def _order(traffics: list[Traffic]) -> tuple[I64, I64]:
    """Requests of all processes one after another, by time, and the process of each; at one instant the first process's come first.
    Those that wait for answers stand last, in their own order."""
    order = np.argsort(np.concatenate([one.arrival_s for one in traffics]), kind="stable")
    stream = np.repeat(np.arange(len(traffics)), [len(one.arrival_s) for one in traffics])
    return order, stream[order]


def _merged(traffics: list[Traffic], order: I64) -> Traffic:
    """The requests of all processes in this order."""
    traffics = [one.with_ends() for one in traffics]
    sizes = [len(one.arrival_s) for one in traffics]
    place = np.empty(len(order) + 1, dtype=np.int64)
    place[order], place[-1] = np.arange(len(order)), -1

    def joined(name: str, missing: int | None = None) -> Any:
        values = [getattr(one, name) for one in traffics]
        if all(one is None for one in values) or (missing is None and any(one is None for one in values)):
            return None
        filled = [np.full(size, missing) if one is None else one for one, size in zip(values, sizes, strict=True)]
        return np.concatenate(filled)[order]

    def of_sessions(name: str) -> Any:
        some = any(one.session is not None for one in traffics)
        return joined(name, missing=0) if some else None

    def numbered(name: str) -> Any:
        """Numbers of things of one process, none of which is another's."""
        found, next_one = [], 0
        for one, size in zip(traffics, sizes, strict=True):
            values = getattr(one, name)
            values = np.full(size, -1) if values is None else values
            found.append(np.where(values < 0, -1, values + next_one))
            nodes = (
                len(one.prefixes)
                if name == "prefix_id" and one.prefixes is not None
                else int(values.max(initial=-1)) + 1
            )
            next_one += nodes
        return np.concatenate(found)[order]

    after = None
    if any(one.after is not None for one in traffics):
        starts = np.cumsum([0, *sizes])
        waits_for = [
            np.full(size, -1) if one.after is None else np.where(one.after < 0, -1, one.after + start)
            for one, size, start in zip(traffics, sizes, starts, strict=False)
        ]
        after = place[np.concatenate(waits_for)[order]]
    begin = Beginnings.beside([(one.beginnings, one.session, size) for one, size in zip(traffics, sizes, strict=True)])
    shared = any(one.prefix_id is not None for one in traffics)
    prefix_tokens = None
    if shared and any(one.prefix_tokens is not None for one in traffics):
        whole = [one.prompt_tokens if one.prefix_tokens is None else one.prefix_tokens for one in traffics]
        parts = [np.zeros(size, dtype=np.int64) if one is None else one for one, size in zip(whole, sizes, strict=True)]
        prefix_tokens = np.concatenate(parts)[order]
    return Traffic(
        arrival_s=np.concatenate([one.arrival_s for one in traffics])[order],
        client=numbered("client"),
        prompt_tokens=joined("prompt_tokens"),
        reasoning_tokens=_reasoning(traffics, order),
        visible_tokens=joined("visible_tokens"),
        prefix_id=numbered("prefix_id") if shared else None,
        rate_per_s=float("nan"),
        after=after,
        think_s=None if after is None else joined("think_s", missing=0),
        prefix_tokens=prefix_tokens,
        prefixes=_prefixes(traffics),
        session=numbered("session") if any(one.session is not None for one in traffics) else None,
        turn=of_sessions("turn"),
        reused_tokens=of_sessions("reused_tokens"),
        recorded=numbered("recorded") if any(one.recorded is not None for one in traffics) else None,
        ends=None if (ends := of_sessions("ends")) is None else ends.astype(np.bool_),
        beginnings=None if begin is None else begin.ordered(order),
        notes=tuple(dict.fromkeys(note for one in traffics for note in one.notes)),
    )


def _prefixes(traffics: list[Traffic]) -> PrefixTree | None:
    """Trees side by side, numbered as the prefixes are."""
    if all(one.prefixes is None for one in traffics):
        return None
    trees = [
        PrefixTree.of_roots(0 if one.prefix_id is None else int(one.prefix_id.max(initial=-1)) + 1)
        if one.prefixes is None
        else one.prefixes
        for one in traffics
    ]
    return beside_one_another(trees)


def _reasoning(traffics: list[Traffic], order: I64) -> I64 | None:
    """Of those that carry lengths without it, none."""
    if all(one.reasoning_tokens is None for one in traffics):
        return None
    parts = [
        np.zeros(len(one.arrival_s), dtype=np.int64) if one.reasoning_tokens is None else one.reasoning_tokens
        for one in traffics
    ]
    return np.asarray(np.concatenate(parts)[order])
