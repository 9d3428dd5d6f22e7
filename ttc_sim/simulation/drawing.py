"""Everything random about a run, and what a policy may know of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ttc_sim.base.draws import F64, I64, columns, uniforms
from ttc_sim.base.errors import InputError
from ttc_sim.engine.fleet import FailureTimes
from ttc_sim.policies import Requests
from ttc_sim.policies.turns import Turns
from ttc_sim.simulation.model import Model
from ttc_sim.workload import Part, Traffic, arrive
from ttc_sim.workload.expected import shares
from ttc_sim.workload.merging import drawn_by_share


class Keeps(Protocol):
    """What is kept of one run's draws, see :mod:`ttc_sim.simulation.memory`."""

    def numbers(self, kind: str, stream: str, width: int, drawn: Callable[[], F64]) -> F64:
        """Numbers of a stream, drawn when they are first asked for."""

    def carried(self, model: Model, draws: Draws, arm: I64, fallen: int) -> Any:
        """As :func:`ttc_sim.simulation.carrying.carry`."""

    def ran(self, model: Model, works: Sequence[Any], how: object, run: Callable[[], Any]) -> Any:
        """What came of works on the deployments, whatever those cost; ``how``: what else it depends on."""


@dataclass(frozen=True)
class Draws:
    """Everything random about ``n`` requests of one run, fixed before any policy is known.

    Attributes:
        seed: of the scenario; run: number of the independent run; purpose: keeps runs for different ends apart.
        traffic: arrivals and, without a population, lengths.
        row: (n,) problem of each request in the population; ``None`` without one.
        source: (n,) source of each, by number; ``None`` where the workload names none.
        parts: the requests of each process, which draws from streams of its own; empty where there is only that of all sources.
        rounds: how many times more requests of users than at first were generated for a duration, of which not all may be sent.
        ended: turns of sessions that are not among them, as the policy has ended those; stopped: (n,) whether it is the last turn
            before that; ``None`` if none is.
        lengthened: whether turns are as long as the arms that they were sent to make them (:mod:`ttc_sim.simulation.turn_lengths`).
        memory: what was made of these requests before, where that is kept; nothing comes out differently with it.
    """

    seed: int
    run: int
    purpose: str
    traffic: Traffic
    row: I64 | None
    source: I64 | None = None
    parts: tuple[Part, ...] = ()
    rounds: int = 1
    ended: int = 0
    stopped: NDArray[np.bool_] | None = None
    lengthened: bool = False
    memory: Keeps | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.traffic.arrival_s)

    @property
    def cut_by_run(self) -> bool:
        """Whether only the run tells which requests users send before it ends, and how many more must be drawn."""
        return self.traffic.lasts_s is not None and self.traffic.after is not None

    @property
    def failure_times(self) -> FailureTimes:
        """Of replicas that fail at random."""
        return FailureTimes(self.seed, f"{self.purpose}/{self.run}")

    def uniform(self, stream: str, width: int = 1) -> F64:
        """(n, width) uniform numbers of a named stream of this run."""
        return self._drawn(uniforms, stream, width)

    def samples(self, stream: str, count: int, members: I64) -> F64:
        """(m, count) numbers for some requests; those of sample ``j`` do not depend on how many samples there are."""
        return self._drawn(columns, stream, count)[members]

    def _drawn(self, numbers: Callable[[int, str, int, int], F64], stream: str, width: int) -> F64:
        if self.memory is None:
            return self._drawn_anew(numbers, stream, width)
        return self.memory.numbers(numbers.__name__, stream, width, lambda: self._drawn_anew(numbers, stream, width))

    def _drawn_anew(self, numbers: Callable[[int, str, int, int], F64], stream: str, width: int) -> F64:
        if not self.parts:
            return numbers(self.seed, f"{self.purpose}/{self.run}/{stream}", len(self), width)
        out = np.empty((len(self), width))
        for part in self.parts:
            count = int(part.position.max(initial=-1)) + 1
            out[part.at] = numbers(self.seed, f"{part.label}/{stream}", count, width)[part.position]
        return out

    def taken(self, at: I64) -> Draws:
        """Some of the requests, in order, with the same draws; none of them waits for one that is left out."""
        place = np.full(len(self), -1, dtype=np.int64)
        place[at] = np.arange(len(at))
        everyone = np.arange(len(self))
        parts = []
        for part in self.parts or (Part(f"{self.purpose}/{self.run}", everyone, everyone),):
            kept = place[part.at] >= 0
            parts.append(Part(part.label, place[part.at[kept]], part.position[kept]))
        return replace(
            self,
            traffic=self.traffic.taken(at),
            row=None if self.row is None else self.row[at],
            source=None if self.source is None else self.source[at],
            stopped=None if self.stopped is None else self.stopped[at],
            parts=tuple(parts),
            memory=None,
        )


def draw(model: Model, run: int, *, purpose: str = "simulate", requests: int | None = None, rounds: int = 1) -> Draws:
    """Fix all that is random about one run.

    Args:
        run: number of the independent run; purpose: keeps runs for different ends apart.
        requests: of the run, instead of what the scenario says.
        rounds: as of :class:`Draws`.
    """
    scenario, population, workload = model.scenario, model.population, model.scenario.workload
    # Runs for different purposes must not share arrivals either.
    label, folder, where = f"{purpose}/{run}", scenario.folder, scenario.path
    arrived = arrive(workload, scenario.seed, label, folder=folder, where=where, requests=requests, rounds=rounds)
    source = arrived.source
    if model.instances is not None and population is None and arrived.traffic.session is None:
        arm, profile = next((name, one.profile) for name, one in scenario.arms.items() if one.profile is not None)
        expected = "none: an agent profile is of whole sessions, and no request is a turn of one"
        raise InputError(where, f"arms.{arm}.profile", profile, expected)
    if source is None and (population is not None or workload.sources):
        share = shares(workload, folder, where) if population is None else population.share
        source = drawn_by_share(share, scenario.seed, label, arrived.traffic)
    drawn = Draws(scenario.seed, run, purpose, arrived.traffic.with_ends(), None, source, arrived.parts, rounds)
    if population is None or source is None:
        return drawn
    size = np.bincount(population.source, minlength=len(population.sources))
    rows = np.argsort(population.source, kind="stable")
    first = np.concatenate([[0], np.cumsum(size)])[:-1]
    if len(size) <= source.max():  # the rows of traffic alone, which are of no source
        source = np.zeros_like(source)
    within = (drawn.uniform("problem")[:, 0] * size[source]).astype(np.int64)
    return replace(drawn, row=rows[first[source] + within].astype(np.int64))


class _OfRows(Mapping[str, F64]):
    """Scores of the requests' problems, each looked up when it is asked for: of dozens a policy reads one or two."""

    def __init__(self, scores: Mapping[str, F64], row: I64) -> None:
        self._scores, self._row, self._found = scores, row, dict[str, F64]()

    def __getitem__(self, name: str) -> F64:
        if name not in self._found:
            self._found[name] = self._scores[name][self._row]
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)


def as_requests(model: Model, draws: Draws) -> Requests:
    """What a policy may know of the requests."""
    arrival_s = draws.traffic.arrival_s
    if model.population is None or draws.row is None:
        prompt = draws.traffic.prompt_tokens
        zeros = np.zeros(len(draws), dtype=np.int64)
        source = zeros if draws.source is None else draws.source
        sources = tuple(model.scenario.workload.sources) or ("traffic",)
        prompt = zeros if prompt is None else prompt
        return Requests(arrival_s, source, sources, prompt, {}, **_of_sessions(model, draws.traffic))
    population = model.population
    return Requests(
        arrival_s=arrival_s,
        source=population.source[draws.row],
        sources=population.sources,
        prompt_tokens=population.prompt_tokens[draws.row],
        scores=_OfRows(population.scores, draws.row),
        responses=population.responses,
        **_of_sessions(model, draws.traffic),
    )


def _of_sessions(model: Model, traffic: Traffic) -> dict[str, Any]:
    """What is known of them as turns, and of what turns cost, if they are any."""
    turns = turns_of(traffic)
    return {} if turns is None else {"turns": turns, "costs": model.arm_costs}


def turns_of(traffic: Traffic) -> Turns | None:
    """What is known of requests as turns of sessions, if any is."""
    if traffic.session is None or traffic.turn is None or traffic.reused_tokens is None:
        return None
    n = len(traffic.session)
    none = np.full(n, -1, dtype=np.int64)
    output = np.zeros(n, dtype=np.int64)
    for part in (traffic.reasoning_tokens, traffic.visible_tokens):
        output = output if part is None else output + part
    return Turns(
        session=traffic.session,
        turn=traffic.turn,
        after=none if traffic.after is None else traffic.after,
        think_s=np.zeros(n) if traffic.think_s is None else traffic.think_s,
        reused_tokens=traffic.reused_tokens,
        output_tokens=output,
        head_tokens=None if traffic.beginnings is None else traffic.beginnings.head_tokens,
        summary=traffic.summary,
    )
