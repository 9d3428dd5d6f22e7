"""``ttc-sim export``: a plan as another gateway or server takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ttc_sim.base.errors import InputError
from ttc_sim.cli import completing
from ttc_sim.cli.options import AllowCodeOption, JsonOption, RememberCodeOption, consent, inputs_of
from ttc_sim.cli.output import check_outputs, paper_for_tables, write_json, written_together


def _targets(incomplete: str) -> list[str]:
    """Names of consumers that begin so, for shells that complete."""
    from ttc_sim.deploying.exports import TARGETS

    return [name for name in TARGETS if name.startswith(incomplete)]


def export(
    plan: Annotated[
        Path, typer.Argument(help="Plan file that `ttc-sim optimize --plan` wrote.", autocompletion=completing.plans)
    ],
    to: Annotated[str, typer.Option(help="Name of the consumer, such as litellm.", autocompletion=_targets)],
    out: Annotated[Path, typer.Option(help="Write the files to this folder.")],
    endpoints: Annotated[
        Path | None, typer.Option(help="YAML file: url, model and key_env of the plan's deployments.")
    ] = None,
    predictor: Annotated[
        Path | None, typer.Option(help="Where the ONNX file of the plan's predictor stands now, if elsewhere.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Write over what stands there under the files' names.")
    ] = False,
    json_file: JsonOption = None,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """Write a plan as another gateway or server takes it, and list what of the plan it cannot do.

    --to: litellm, semantic-router (gateways); openai, anthropic, gemini (bodies of requests); vllm, kubernetes (servers of
    pools); python, typescript (routes as a function); onnx (the predictor).

    The folder holds all files at the end, or is as it was. An earlier export to the same consumer is replaced; a folder with
    anything else in it is refused unless --replace is given.
    """
    from ttc_sim.deploying.endpoints import read_endpoints
    from ttc_sim.deploying.exports import export_plan
    from ttc_sim.deploying.exports.folder import check_folder, write_export
    from ttc_sim.optimizer.plan import load_plan
    from ttc_sim.reporting.export import print_export

    saved = load_plan(plan, allow_code=consent(allow_code, remember_code))
    check_outputs(plan, endpoints, predictor, *inputs_of(saved.scenario), json=json_file)
    if json_file is not None and json_file.resolve().is_relative_to(out.resolve()):
        raise InputError("ttc-sim export", "--json", str(json_file), f"a file outside of {out}, which is written whole")
    stand = {} if endpoints is None else read_endpoints(endpoints, saved)
    made = export_plan(saved, to, stand, predictor=predictor)
    check_folder(to, out, replace=replace)
    with written_together():
        if json_file is not None:
            said = {"to": to, "folder": str(out), "files": sorted(made.files)}
            more = {"not_expressed": list(made.not_expressed), "how": list(made.how)}
            write_json(json_file, {"scenario": saved.scenario.name, **said, **more})
        write_export(made, to, out, replace=replace)
    print_export(paper_for_tables(), made, out)
