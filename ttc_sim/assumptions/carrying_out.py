"""``ttc.sensitivity``: one assumption at a time, and all at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from ttc_sim.assumptions.asked import WHERE, asked_ranges, check_size, figure_asked
from ttc_sim.assumptions.dials import NO_PREDICTOR, Range
from ttc_sim.assumptions.found import Assumed, Joint, Sensitivity, range_of
from ttc_sim.assumptions.joint import all_at_once, salib
from ttc_sim.assumptions.one_at_a_time import check_ends, looked_at
from ttc_sim.assumptions.worlds import Given, Worlds
from ttc_sim.base.arguments import count, location, whole
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.errors import InputError
from ttc_sim.base.limits import MOST_REQUESTS, MOST_WORKERS
from ttc_sim.base.progress import Counting, Progress, Step, Telling
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.base.threads import one_thread
from ttc_sim.base.workers import processes
from ttc_sim.files.writing import check_outputs
from ttc_sim.optimizer.plan import Plan, SavedPlan
from ttc_sim.optimizer.whatif.carrying_out import scenario_of
from ttc_sim.scenario import MOST_REPLICATIONS, Scenario, with_changes
from ttc_sim.simulation.differences import figures


@shows_progress()
@one_thread()
def sensitivity(
    plan: Scenario | Plan | SavedPlan | str | Path,
    *,
    figure: str | None = None,
    ranges: Mapping[str, tuple[float | str, float | str]] | None = None,
    sobol: int | None = None,
    out: str | Path | None = None,
    seed: int | None = None,
    replications: int | None = None,
    requests: int | None = None,
    workers: int = 1,
    progress: Telling = None,
    allow_code: AllowCode = False,
) -> Sensitivity:
    """Which assumption moves a plan, or a scenario with a policy, most.

    Each is taken to both ends of a range in which it may well lie, all others as they stand and on the same random numbers, so that
    differences have paired intervals; where targets break on the way is found by bisection. The policy stays.

    Args:
        plan: itself, a scenario, the file of either, or the name of a shipped scenario.
        figure: to sort by: ``cost``, ``accuracy``, ``latency_p95``, or any other that ``what_if`` has; what the scenario makes best
            of if left out. All figures are in the result.
        ranges: by assumption, other ends than the usual ones: factors, as in ``{"traffic": (0.5, 3)}``, or text as ``"-30%"``;
            ``predictor-noise`` and ``predictor-drift`` take the numbers that ``ready.predictor`` does.
        sobol: vary all at once too, for Sobol indices by so many points of a sequence, a power of two from 8; that many times the
            number of assumptions plus two are simulated. Needs SALib: ``pip install 'ttc-sim[sensitivity]'``.
        out: Parquet file for these worlds. What is finished stands in ``OUT.journal`` until then: the same call goes on from there.
        seed: instead of the scenario's; replications, requests: of every run, instead of the scenario's.
        workers: processes that share the work out; the figures do not depend on them.
        progress: ``True`` shows how far it is and the time left, a function is told by lines, ``False`` is silent; left out, it is
            shown in an open notebook (:func:`ttc_sim.base.showing.telling`).
        allow_code: as for :func:`ttc_sim.simulate`.

    Raises:
        InputError: no policy, a figure that the scenario does not have, a range of an assumption that is none, is reversed or does
            not apply, no SALib, or an argument out of its range.

    >>> found = sensitivity("reasoning-gateway", figure="cost", ranges={"prices": (0.5, 2)}, requests=200, replications=2)
    >>> found["gpu-prices"].notes  # its policy uses APIs alone
    ('changes nothing: no request meets it',)
    """
    say = telling(WHERE, progress)
    whole(WHERE, "workers", workers, 1, MOST_WORKERS, "processes")
    changes: dict[str, object] = {}
    if replications is not None:
        changes["replications"] = count(WHERE, "replications", replications, 1, MOST_REPLICATIONS, "runs")
    if seed is not None:
        changes["seed"] = count(WHERE, "seed", seed, 0, math.inf)
    if requests is not None:
        requests = count(WHERE, "requests", requests, 1, MOST_REQUESTS, "requests")
    place = _check_sobol(sobol, out)
    scenario, _ = scenario_of(plan, WHERE, allow_code)
    scenario = with_changes(scenario, changes) if changes else scenario
    if scenario.parsed_policy() is None:
        expected = "a policy such as Always('small'), or a plan that `ttc-sim optimize` made"
        raise InputError(scenario.path, "policy", None, expected)
    if place is not None:
        check_outputs(scenario.path, results=place)
    given = Given(scenario, requests)
    worlds = Worlds(given)
    absent = {name: why for name, dial in worlds.dials.items() if (why := worlds.why_not(dial)) is not None}
    asked = asked_ranges(ranges or {}, worlds.dials, absent)
    present = {name: dial for name, dial in worlds.dials.items() if name not in absent}
    for name, dial in present.items():
        if dial.usual is not None:
            check_ends(worlds, dial, asked.get(name) or dial.usual, WHERE)
    say(Step("as it stands"))
    _, summary = worlds.standing
    known = figures(summary)
    wanted = figure_asked(figure, known, scenario)
    found = _one_at_a_time(worlds, given, list(present), asked, workers, say)
    joint: Joint | None = None
    if sobol is not None:
        dials = {
            name: (dial, asked.get(name) or range_of(dial)) for name, dial in present.items() if name != NO_PREDICTOR
        }
        joint = all_at_once(given, dials, sobol, out=place, workers=workers, progress=say)
    ordered = sorted(found, key=lambda one: (-_size(one, wanted), found.index(one)))
    return Sensitivity(
        scenario.name, wanted, known, summary, worlds.checks(summary), tuple(ordered), absent, joint, summary.notes
    )


def _check_sobol(sobol: int | None, out: str | Path | None) -> Path | None:
    """Refuse what cannot be carried out, before anything is."""
    if sobol is not None:
        check_size(sobol)
        salib("analyze.sobol")
    if out is None:
        return None
    place = location(WHERE, "out", out, "a Parquet file to write")
    if sobol is None:
        raise InputError(
            WHERE, "out", str(out), "--sobol N beside it (sobol=N): it is for the worlds that this simulates"
        )
    if place.suffix.lower() != ".parquet":
        raise InputError(place, "file", place.suffix, "a name ending in .parquet")
    return place


def _size(one: Assumed, figure: str) -> float:
    effect = one.effect(figure)
    return -1.0 if math.isnan(effect) else effect


# ------------------------------------------------------------------------------------------------- one at a time

_HERE: list[Worlds] = []


def _open(given: Given) -> None:
    _HERE[:] = [Worlds(given)]


def _looked_at(item: tuple[str, Range | None]) -> Assumed:
    worlds, (name, asked) = _HERE[0], item
    with one_thread():
        return looked_at(worlds, worlds.dials[name], asked)


def _one_at_a_time(
    worlds: Worlds,
    given: Given,
    names: list[str],
    asked: Mapping[str, Range],
    workers: int,
    progress: Progress,
) -> list[Assumed]:
    items = [(name, asked.get(name)) for name in names]
    found: list[Assumed] = []
    tell = Counting(progress, "one at a time", len(items), "assumptions")
    if workers == 1 or len(items) == 1:
        for name, one in items:
            tell.about(name)
            found.append(looked_at(worlds, worlds.dials[name], one))
            tell(len(found))
        return found
    with processes(min(workers, len(items)), _open, (given,)) as mapped:
        for made in mapped(_looked_at, items):
            found.append(made)
            tell(len(found), made.name)
    return found


__all__ = ["sensitivity"]
