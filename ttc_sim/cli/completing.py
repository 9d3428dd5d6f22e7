"""What shells offer where something has a name: they ask when Tab is pressed, and get nothing where nothing can be said.

Where nothing is offered, bash and zsh go on with files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import typer

Offers = Callable[[str], list[str]]


def _offering(names: Callable[[], Iterable[str]]) -> Offers:
    """Those of the names that begin with what stands there."""

    def offers(incomplete: str) -> list[str]:
        try:
            return [name for name in names() if name.startswith(incomplete)]
        except Exception:  # whatever is wrong is said when the command is carried out, not as one types
            return []

    return offers


def _files(*endings: str) -> list[str]:
    return sorted(str(file) for ending in endings for file in Path().glob(f"*{ending}"))


@_offering
def scenarios() -> Iterable[str]:
    """Shipped scenarios, and YAML files here."""
    from ttc_sim.base.shipped import shipped_folders

    shipped = {file.stem for folder in shipped_folders("scenarios") for file in folder.glob("*.yaml")}
    return [*sorted(shipped), *_files(".yaml", ".yml")]


@_offering
def questions() -> Iterable[str]:
    """That plots of a result answer."""
    from ttc_sim.base.display import renderer
    from ttc_sim.simulation.result import Result

    return renderer(Result).plots


@_offering
def plans() -> Iterable[str]:
    """YAML files here."""
    return _files(".yaml", ".yml")


@_offering
def profiles() -> Iterable[str]:
    """Profiles that are found by name."""
    from ttc_sim.measured.folders import list_profiles

    return list_profiles()


@_offering
def predictors() -> Iterable[str]:
    """Shipped predictors, and ONNX files here."""
    from ttc_sim.base.shipped import PREDICTORS

    return [*PREDICTORS, *_files(".onnx")]


@_offering
def gpus() -> Iterable[str]:
    """GPUs of the catalogue."""
    from ttc_sim.scenario.gpu_prices import GPU_PRICES, GPUS_WITHOUT_PRICE

    return [*GPU_PRICES, *GPUS_WITHOUT_PRICE]


@_offering
def models_and_gpus() -> Iterable[str]:
    """Words that `ttc-sim gpus` knows."""
    from ttc_sim.scenario.gpu_prices import GPU_PRICES, GPUS_WITHOUT_PRICE
    from ttc_sim.serving import catalogue
    from ttc_sim.serving.model_names import ALIASES

    models = catalogue.models() if catalogue.installed() else ()
    return [*GPU_PRICES, *GPUS_WITHOUT_PRICE, *models, *ALIASES]


@_offering
def precisions() -> Iterable[str]:
    """Of weights."""
    from ttc_sim.serving.catalogue import PRECISIONS

    return PRECISIONS


@_offering
def backends() -> Iterable[str]:
    """Serving frameworks."""
    from ttc_sim.serving.catalogue import BACKENDS

    return BACKENDS


@_offering
def prices() -> Iterable[str]:
    """`PROVIDER/MODEL` of the price table."""
    from genai_prices.data import providers

    return sorted(f"{provider.id}/{model.id}" for provider in providers for model in provider.models)


@_offering
def formats() -> Iterable[str]:
    """Of logs."""
    from ttc_sim.measured.importing.importer import IMPORTERS

    return IMPORTERS


def paths(ctx: typer.Context, incomplete: str) -> list[str]:
    """Paths of the scenario, or plan, that stands before them, each with its equals sign."""
    from ttc_sim.optimizer.plan import planned_scenario
    from ttc_sim.optimizer.whatif.paths import paths_of
    from ttc_sim.scenario import as_plain, load_scenario

    # What stands before an option without its value is left over.
    given = next((one for one in (ctx.params.get("scenario"), *ctx.args) if one), None)
    if given is None:
        return []
    try:
        scenario = planned_scenario(given) or load_scenario(given)
        leaves = [path for path, value in paths_of(as_plain(scenario)) if not isinstance(value, dict) or not value]
    except Exception:  # as above
        return []
    return [f"{path}=" for path in leaves if path.startswith(incomplete) and path != "path"]


__all__ = [
    "backends",
    "formats",
    "gpus",
    "models_and_gpus",
    "paths",
    "plans",
    "precisions",
    "predictors",
    "prices",
    "profiles",
    "questions",
    "scenarios",
]
