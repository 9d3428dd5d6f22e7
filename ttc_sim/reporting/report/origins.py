"""Where the numbers behind a scenario come from, as tables."""

from __future__ import annotations

from rich.table import Table

from ttc_sim.base.errors import InputError
from ttc_sim.measured.cards import CARD_FILES, Card, read_card
from ttc_sim.measured.folders import find_folder
from ttc_sim.optimizer.health.assumed import source_of_times
from ttc_sim.scenario import Api, Scenario
from ttc_sim.simulation.model import Model


def times_table_of(scenario: Scenario, model: Model) -> Table:
    """Deployments in use: what they cost by, and where their times come from."""
    table = Table(title="Prices and times", title_justify="left")
    for name in ("deployment", "price", "times"):
        table.add_column(name)
    for name, prices in zip(model.deployment_names, model.prices, strict=True):
        item = scenario.deployments[name]
        price = f"${item.hourly_usd:.4g} a replica and hour" if not isinstance(item, Api) else ""
        table.add_row(name, price if prices is None else prices.in_words, source_of_times(item)[0])
    return table


def origins_table(scenario: Scenario, model: Model) -> Table:
    """Profiles, problem sets and traffic that were measured: from where, under which licence, of which day, and their limits."""
    table = Table()
    for name in ("data", "origin", "licence", "date", "limits"):
        table.add_column(name)
    for label, card in _cards(scenario).items():
        table.add_row(label, card.origin, card.licence, card.date, card.limits)
    if not table.row_count:
        table.add_row("none", "lengths and times are those of the scenario itself", "", "", "")
    return table


_NAMING = ("problem_set", "profile", "traffic", "sessions")
"""Keys of a workload that name measured data."""


def _cards(scenario: Scenario) -> dict[str, Card]:
    """By the names that the scenario has for them."""
    names = [arm.profile for arm in scenario.arms.values() if getattr(arm, "profile", None)]
    names += [str(value) for value in _values(scenario.workload.model_dump(mode="json"))]
    found: dict[str, Card] = {}
    for name in dict.fromkeys(map(str, names)):
        for file, kind in CARD_FILES.items():
            try:
                place = find_folder(name, file, scenario.folder)
                found[name] = read_card(place / file, kind)
            except InputError:
                continue
            break
    return found


def _values(content: object) -> list[str]:
    if isinstance(content, dict):
        return [
            value
            for key, one in content.items()
            for value in ([one] if key in _NAMING and isinstance(one, str) else _values(one))
        ]
    return [value for one in content for value in _values(one)] if isinstance(content, list) else []


__all__ = ["origins_table", "times_table_of"]
