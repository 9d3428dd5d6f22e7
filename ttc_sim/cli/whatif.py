"""``ttc-sim whatif``: a scenario or plan in variations, on the same random numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ttc_sim.base.errors import InputError
from ttc_sim.cli import completing
from ttc_sim.cli.options import (
    AllowCodeOption,
    JsonOption,
    PredictorOption,
    RememberCodeOption,
    ScenarioOrPlanArgument,
    consent,
    inputs_of,
    scenario_routed_by,
)
from ttc_sim.cli.output import check_outputs, paper_for_tables, progress, write_results

if TYPE_CHECKING:
    from ttc_sim.optimizer.plan import SavedPlan
    from ttc_sim.optimizer.whatif.saying import Variation
    from ttc_sim.scenario import Scenario


def _ready(incomplete: str) -> list[str]:
    """Names of ready-made variations that begin so."""
    from ttc_sim.optimizer.whatif.ready import READY_MADE

    return [f"{name}=" for name in READY_MADE if name.startswith(incomplete)]


def whatif(
    scenario: ScenarioOrPlanArgument,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="[NAME: ]PATH=VALUE[; ...]", help="A variation.", autocompletion=completing.paths
        ),
    ] = None,
    files: Annotated[
        list[str] | None, typer.Option("--vary", metavar="NAME=FILE", help="A variation that a YAML file holds.")
    ] = None,
    ready: Annotated[
        list[str] | None,
        typer.Option("--ready", metavar="[NAME: ]READY=VALUE", help="A ready-made variation.", autocompletion=_ready),
    ] = None,
    replan: Annotated[
        bool, typer.Option("--replan", help="Beside the policy as it is, plan anew for every variation.")
    ] = False,
    predictor: PredictorOption = None,
    requests: Annotated[int | None, typer.Option(min=1, help="Requests of each run instead of the scenario's.")] = None,
    replications: Annotated[int | None, typer.Option(min=1, help="Independent runs instead of the scenario's.")] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that share the variations out; they change no figure.")
    ] = 1,
    table: Annotated[
        Path | None, typer.Option(help="Write one row per variation and figure to this Parquet, CSV or JSONL file.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the differences to this file: PNG, SVG or PDF.")] = None,
    json_file: JsonOption = None,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """Carry a scenario or plan out as it is and in variations, and print what each changes.

    All see the same random numbers, request by request, and the same problems, so that a difference is known far better
    than the figures that it lies between. Each stands with its 95% interval, and with a word on whether it is more than
    noise.

    --set PATH=VALUE is a variation of its own. Changes that belong together are joined by semicolons, and a name may
    stand before them: --set "busy: workload.arrivals.rate_per_s=2x; arms.r1.strategy=Single(cap=1024)". PATH: the keys
    that lead to a value, joined by dots, steps of a list by their number from 0. VALUE: as it would stand in the file
    (YAML, files from where the scenario stands), or relative to what stands there in effect, be it a default, a
    looked-up price or a GPU's list price: 2x, +10%, -30%.

    --vary NAME=FILE takes the changes from a file: a part of a scenario, a mapping of paths to values, or a list of
    such mappings.

    --ready NAME=VALUE is ready-made; among paths it is ready.NAME. traffic=2x: so many times the requests (rates, steps
    of a day, or users). cap=1024, cap:ARM=1024, cap=none: another cap of all arms that take one, or of an arm and a
    plan's variants of it. swap:ARM=OTHER: the model and deployment of arm OTHER, or another profile, with
    @PROVIDER/MODEL for its price. prices-on=2026-01-31: prices of the table on that day. verifier=0.7,
    verifier:ARM=0.7: verifiers and judges of that AUROC. predictor=none (all alike), perfect (measured chances),
    noise:R (R of the correlation is left) or drift:D (log-odds of being hard plus D). lengths=1.5x, lengths:ARM=1.5x:
    so many times the output tokens; thinking=1.5x: of thinking alone; outcomes stay, unless a cap cuts. Of sessions:
    compact=100000: longer contexts are made shorter, to a fifth of that. cache=off: nothing is found again.
    cache-ttl=3600: endpoints keep prompts for so many seconds. switch=never, freely or if-it-pays: a session stays
    where its first turn went, goes where the policy says, or moves where that costs no more than to stay.

    The policy stays, with what it expects of the arms. With --replan it is planned anew for each variation too, as
    `ttc-sim optimize` would, and both are told apart. A month has 30 days.
    """
    from ttc_sim.optimizer.whatif import what_if
    from ttc_sim.reporting.what_if import print_what_if

    loaded = scenario_routed_by(scenario, predictor, consent(allow_code, remember_code), True)
    variations = _variations(loaded, changes or [], files or [], ready or [])
    read = [Path(one.partition("=")[2] or one) for one in files or []]
    check_outputs(*inputs_of(loaded), Path(scenario), *read, table=table, plot=plot, json=json_file)
    with progress() as say:
        found = what_if(
            _as_planned(scenario, loaded) if replan else loaded,
            variations,
            replan=replan,
            replications=replications,
            requests=requests,
            workers=workers,
            progress=say,
        )
    write_results(found, table=table, json_file=json_file, plot=plot)
    print_what_if(paper_for_tables(), found)


def _variations(scenario: Scenario, changes: list[str], files: list[str], ready: list[str]) -> list[Variation]:
    """What the options ask for, in their order."""
    from ttc_sim.optimizer.whatif.saying import in_file, said
    from ttc_sim.scenario import as_plain

    if not (changes or files or ready):
        raise InputError("ttc-sim whatif", "variations", "none", "--set, --vary or --ready: at least one variation")
    content = as_plain(scenario)
    return [
        *(said(text) for text in changes),
        *(in_file(text, content) for text in files),
        *(said(text, "--ready", ready=True) for text in ready),
    ]


def _as_planned(path: str, loaded: Scenario) -> SavedPlan | Scenario:
    """A plan, where the file is that of one."""
    from ttc_sim.optimizer.plan import SavedPlan, planned_scenario

    return loaded if planned_scenario(path) is None else SavedPlan(scenario=loaded, promised={}, status="met")
