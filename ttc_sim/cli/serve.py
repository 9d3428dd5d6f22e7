"""``ttc-sim serve``: a plan as a routing proxy on one machine."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from ttc_sim.base.errors import InputError
from ttc_sim.cli import completing
from ttc_sim.cli.options import AllowCodeOption, RememberCodeOption, consent
from ttc_sim.cli.output import check_outputs, paper_for_tables, warn

_NEEDS = ("uvicorn", "starlette", "httpx2")


def serve(
    plan: Annotated[
        Path, typer.Argument(help="Plan file that `ttc-sim optimize --plan` wrote.", autocompletion=completing.plans)
    ],
    endpoints: Annotated[
        Path,
        typer.Option(help="YAML file with an url, a model's name and, in key_env, a key's variable by deployment."),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen at; with others than this, others may ask too.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 takes one that is free.")] = 8000,
    log: Annotated[
        Path | None, typer.Option(help="Append each decision and what became of it to this file: no text of prompts.")
    ] = None,
    explore: Annotated[
        float, typer.Option(min=0, max=1, help="Share of requests that any arm is tried on, to learn about others.")
    ] = 0.0,
    fallback_arm: Annotated[
        str | None, typer.Option(help="Arm of requests that the predictor fails on, if not the plan's most used one.")
    ] = None,
    predictor: Annotated[
        Path | None,
        typer.Option(help="Where the ONNX file of the plan's predictor stands now; where the plan says if left out."),
    ] = None,
    other_predictor: Annotated[
        bool, typer.Option("--other-predictor", help="Route by --predictor even if the plan was made with another one.")
    ] = False,
    pass_authorization: Annotated[
        bool,
        typer.Option("--pass-authorization", help="Pass callers' own keys on to deployments that have no key_env."),
    ] = False,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """Try a plan: an OpenAI-compatible server whose requests go where the plan sends them.

    Ctrl-C ends it, with exit status 130; SIGTERM with 0. Answers under way are finished first, for ten seconds at most.
    """
    for name in _NEEDS:
        if find_spec(name) is None:
            raise InputError("packages", name, "not installed", "pip install 'ttc-sim[serve]'")
    from ttc_sim.deploying.arms import deployments_of
    from ttc_sim.deploying.proxy.app import Proxy, carrying_for
    from ttc_sim.deploying.proxy.running import address_of, listening, warnings
    from ttc_sim.deploying.proxy.running import serve as run
    from ttc_sim.deploying.proxy.upstreams import read_upstreams
    from ttc_sim.optimizer.plan import load_plan

    check_outputs(plan, endpoints, predictor, log=log)
    saved = load_plan(plan, allow_code=consent(allow_code, remember_code))
    runtime = saved.runtime(
        endpoints=endpoints,
        predictor=predictor,
        other_predictor=other_predictor,
        log=log,
        explore=explore,
        fallback_arm=fallback_arm,
    )
    needed = [name for arm in runtime.strategies for name in deployments_of(saved.scenario, arm)]
    upstreams = read_upstreams(saved, runtime.endpoints, needed, endpoints)
    carrying = carrying_for(runtime)
    for arm in carrying.arms if carrying is not None and pass_authorization else ():
        for name in deployments_of(saved.scenario, arm):
            if runtime.endpoints[name].key_env is None:
                expected = (
                    f"a key_env for {name}: callers' keys go with arms of one call alone, and {arm} is part of several"
                )
                raise InputError(endpoints, f"{name}.key_env", None, expected)
    with listening(host, port) as at:
        for line in (*runtime.notes, *warnings(host, upstreams.values())):
            warn(f"- {line}")
        paper_for_tables().say(f"{saved.scenario.name} listens at {address_of(at)}; Ctrl-C ends it")
        run(Proxy(runtime, upstreams, carrying, pass_authorization), at)
