"""A plan for several worlds: what it comes to in each, which of them bind, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rich.console import Console
from rich.table import Table

from ttc_sim.base.errors import shortened
from ttc_sim.base.estimates import Estimate
from ttc_sim.base.figures import dollars, dollars_of, percent, percent_of, rounded_down, seconds, signed
from ttc_sim.optimizer.worlds import InWorld, Outcome, Robustness
from ttc_sim.reporting.paper import Paper, styled

_SHOWN_CHANGES = 4  # of a world; of more, how many


def print_robust(console: Console, found: Robustness) -> None:
    """The table, world by world, and what it says in words."""
    paper = Paper.of(console)
    paper.print(worlds_table(found))
    for line in robust_in_words(found):
        paper.say(f"  {line}")


def worlds_table(found: Robustness) -> Table:
    """What the plan comes to in every world, beside the plan for the scenario as it is."""
    title = "Over all worlds" if _worst(found) else f"Over {percent(float(found.over))} of the worlds"
    table = Table(title=title, title_justify="left", header_style="bold", pad_edge=False)
    table.add_column("world")
    if len({one.weight for one in found.worlds}) > 1:
        table.add_column("weight", justify="right")
    for name in ("least sure target", "accuracy", "$ / 1k requests", "p95 s"):
        table.add_column(name, justify="right")
    if not found.same_as_plain:
        table.add_column("without the other worlds", justify="right")
    for one in found.worlds:
        cells = [styled(one.name, *([] if one.counted else [("  not counted", "dim")]))]
        if len({other.weight for other in found.worlds}) > 1:
            cells.append(styled(f"{one.weight:g}"))
        summary = one.plan.summary
        cells.append(styled(f"{rounded_down(one.plan.chance)}%", *_missed(one.plan)))
        cells.append(styled("unknown" if summary.accuracy is None else percent_of(summary.accuracy)))
        cells.append(styled(dollars_of(summary.cost_usd_per_request, 1000)))
        cells.append(styled(seconds(summary.latency_s["p95"].value)))
        if not found.same_as_plain:
            cells.append(styled(_in_brief(one.plain), *_missed(one.plain)))
        table.add_row(*cells)
    return table


def _worst(found: Robustness) -> bool:
    return isinstance(found.over, str)


def _missed(outcome: Outcome) -> list[tuple[str, str]]:
    return [] if outcome.holds else [(f"  misses {', '.join(outcome.missed)}", "red")]


def _in_brief(outcome: Outcome) -> str:
    summary = outcome.summary
    accuracy = "" if summary.accuracy is None else f"{percent(summary.accuracy.value)}, "
    cost, p95 = summary.cost_usd_per_request.value, summary.latency_s["p95"].value
    return f"{accuracy}${dollars(1000 * cost)}, {seconds(p95)} s"


def robust_in_words(found: Robustness) -> Iterator[str]:
    """What the worlds are, which of them bind, and what robustness costs."""
    for one in found.worlds[1:]:
        yield f"{one.name}: {one.why or _changes(one)}"
        yield from (f"  {note}" for note in one.notes)
    yield from found.notes
    asked = "all worlds" if _worst(found) else f"{percent(float(found.over))} of the worlds, by weight"
    yield f"targets must hold in {asked}: they do in {_held(found.holds)}. {_binding(found)}"
    label, shown = _objective(found)
    yield (
        f"{label}, in the worst of these worlds ({found.decides}): {shown(found.worst)}; the plan for the scenario as it is "
        f"comes to {shown(found.worst_plain)} over them"
    )
    if found.same_as_plain:
        yield "the plan for the scenario as it is holds over the worlds as well as any: robustness costs nothing"
        return
    costs = f"in the scenario as it is, robustness costs {_more(found.cost_usd_per_request, 1000, '$ per 1k requests')}"
    if found.accuracy is not None:
        costs += f", with {_more(found.accuracy, 100, 'points of accuracy')}"
    yield costs
    breaks = [f"{one.name} ({', '.join(one.plain.missed)})" for one in found.worlds if not one.plain.holds]
    if breaks:
        yield f"the plan without it holds in {_held(found.plain_holds)} of the worlds; it misses targets in {', '.join(breaks)}"
    else:
        yield "the plan without it keeps its targets in all of these worlds too"


def _held(share: float) -> str:
    return "all" if share >= 1 - 1e-9 else "none" if share <= 0 else percent(share)


def _binding(found: Robustness) -> str:
    worlds: dict[str, list[str]] = {}
    for target, world in found.binding.items():
        worlds.setdefault(world, []).append(target)
    said = "; ".join(f"{', '.join(names)} in {world}" for world, names in worlds.items())
    return f"Nearest to being missed: {said}" if said else ""


def _changes(one: InWorld) -> str:
    said = [f"{path}: {shortened(now, 60)}" for path, now in one.changes.items()]
    more = len(said) - _SHOWN_CHANGES
    return "; ".join(said[:_SHOWN_CHANGES]) + (f"; and {more} more" if more > 0 else "")


def _objective(found: Robustness) -> tuple[str, Callable[[float], str]]:
    """What is made best, and how it is read."""
    if found.objective == "accuracy":
        return "accuracy", percent
    if found.objective == "cost_usd_per_request":
        return "cost per 1k requests", lambda usd: f"${dollars(1000 * usd)}"
    if found.objective == "cost_usd_per_day":
        return "cost a day", lambda usd: f"${dollars(usd)}"
    return found.objective, lambda value: f"{value:.4g}"


def _more(figure: Estimate, times: float, unit: str) -> str:
    low, high = sorted((times * figure.low, times * figure.high))
    return f"{signed(times * figure.value, 2)} {unit} ({signed(low, 2)} to {signed(high, 2)})"
