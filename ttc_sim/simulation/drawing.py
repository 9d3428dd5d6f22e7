"""Everything random about a run, and what a policy may know of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ttc_sim.base.draws import F64, I64, columns, uniforms
from ttc_sim.policies import Requests
from ttc_sim.simulation.model import Model
from ttc_sim.workload import Traffic, generate, with_lengths


@dataclass(frozen=True)
class Draws:
    """Everything random about ``n`` requests of one run, fixed before any policy is known.

    Attributes:
        seed: of the scenario; run: number of the independent run; purpose: keeps runs for different ends apart.
        traffic: arrivals and, without a population, lengths.
        row: (n,) problem of each request in the population; ``None`` without one.
    """

    seed: int
    run: int
    purpose: str
    traffic: Traffic
    row: I64 | None

    def __len__(self) -> int:
        return len(self.traffic.arrival_s)

    def uniform(self, stream: str, width: int = 1) -> F64:
        """(n, width) uniform numbers of a named stream of this run."""
        return uniforms(self.seed, f"{self.purpose}/{self.run}/{stream}", len(self), width)

    def samples(self, stream: str, count: int, members: I64) -> F64:
        """(m, count) numbers for some requests; those of sample ``j`` do not depend on how many samples there are."""
        return columns(self.seed, f"{self.purpose}/{self.run}/{stream}", len(self), count)[members]


def draw(model: Model, run: int, *, purpose: str = "simulate", requests: int | None = None) -> Draws:
    """Fix all that is random about one run."""
    scenario, population = model.scenario, model.population
    workload = scenario.workload
    count = requests or workload.requests
    # Runs for different purposes must not share arrivals either.
    label = f"{purpose}/{run}"
    traffic = generate(workload.arrivals, count, scenario.seed, folder=scenario.folder, where=scenario.path, run=label)
    if workload.lengths is not None:
        seed, folder = scenario.seed, scenario.folder
        traffic = with_lengths(workload.lengths, traffic, seed, label, folder=folder, where=scenario.path)
    drawn = Draws(seed=scenario.seed, run=run, purpose=purpose, traffic=traffic, row=None)
    if population is None:
        return drawn
    source = np.searchsorted(np.cumsum(population.share)[:-1], drawn.uniform("source")[:, 0], side="right")
    size = np.bincount(population.source, minlength=len(population.sources))
    rows = np.argsort(population.source, kind="stable")
    first = np.concatenate([[0], np.cumsum(size)])[:-1]
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
        return Requests(arrival_s, zeros, ("traffic",), zeros if prompt is None else prompt, {})
    population = model.population
    return Requests(
        arrival_s=arrival_s,
        source=population.source[draws.row],
        sources=population.sources,
        prompt_tokens=population.prompt_tokens[draws.row],
        scores=_OfRows(population.scores, draws.row),
        responses=population.responses,
    )
