"""``ttc-sim collect``: measure a live endpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ttc_sim.base.errors import InputError
from ttc_sim.base.figures import count, dollars, percent, seconds
from ttc_sim.cli import completing
from ttc_sim.cli.ending import UNREACHABLE
from ttc_sim.cli.options import AllowCodeOption, JsonOption, RememberCodeOption, consent
from ttc_sim.cli.output import check_outputs, note, paper_for_tables, progress, warn, write_json

if TYPE_CHECKING:
    from ttc_sim.collecting import Collected, DryRun
    from ttc_sim.reporting.paper import Paper


def collect(
    endpoint: Annotated[str, typer.Option(help="OpenAI-compatible address, as http://127.0.0.1:8000/v1.")],
    model: Annotated[str, typer.Option(help="The model's name there.")],
    prompts: Annotated[
        Path, typer.Option(help="Prompts: a key (problem, id, ...) and a text (prompt, question, ...) each.")
    ],
    out: Annotated[
        Path, typer.Option(help="Table to write (.parquet, .csv, .jsonl), or a folder for attempts.parquet.")
    ],
    samples: Annotated[int, typer.Option(min=1, help="Attempts at each prompt and cap.")] = 1,
    caps: Annotated[str, typer.Option(help="Limits of output tokens, reasoning included, as 1024,4096,none.")] = "none",
    budget_usd: Annotated[
        float | None, typer.Option(help="US dollars that are never exceeded, retries and earlier runs included.")
    ] = None,
    no_budget: Annotated[bool, typer.Option("--no-budget", help="No limit: the endpoint costs nothing.")] = False,
    price: Annotated[
        str | None,
        typer.Option(
            help="PROVIDER/MODEL in genai-prices' table, as openai/gpt-5-mini, at today's prices.",
            autocompletion=completing.prices,
        ),
    ] = None,
    input_usd_per_mtok: Annotated[float | None, typer.Option(help="US dollars per million prompt tokens.")] = None,
    output_usd_per_mtok: Annotated[float | None, typer.Option(help="The same of output tokens, reasoning too.")] = None,
    endpoint_limit_tokens: Annotated[
        int | None,
        typer.Option(
            help="Most output tokens that the endpoint generates without a cap; the model's context if left out."
        ),
    ] = None,
    key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the key, as OPENAI_API_KEY; none is sent if left out.")
    ] = None,
    grade: Annotated[
        str,
        typer.Option(help="exact, regex:PATTERN (its last match or group), FILE.py:NAME (of answer, row), or none."),
    ] = "none",
    target_column: Annotated[
        str | None, typer.Option(help="Column of the right answers, if not target, answer, gold, solution, ...")
    ] = None,
    problem_column: Annotated[
        str | None, typer.Option(help="Column of the keys, if it has none of the usual names.")
    ] = None,
    prompt_column: Annotated[
        str | None, typer.Option(help="Column of the prompts, if it has none of the usual names.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 8,
    timeout_s: Annotated[float, typer.Option(help="Seconds that one request may take in all.")] = 600.0,
    retries: Annotated[
        int, typer.Option(min=0, help="Further tries of a request that fails; one that is turned away (429) waits.")
    ] = 4,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    body: Annotated[
        str | None, typer.Option(help='Further keys of each request, as \'{"reasoning_effort": "high"}\'.')
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Send a seed with each request, another one for each attempt.")
    ] = None,
    cap_field: Annotated[
        str | None, typer.Option(help="max_tokens or max_completion_tokens; the latter at OpenAI's if left out.")
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="tokenizer.json, to tell reasoning from visible tokens, or to count, where the endpoint does not."
        ),
    ] = None,
    starts_thinking: Annotated[
        bool,
        typer.Option("--starts-thinking", help="Answers are thinking up to </think>, though no <think> begins them."),
    ] = False,
    env_proxy: Annotated[
        bool, typer.Option("--env-proxy", help="Use the proxy that HTTPS_PROXY and the like name; otherwise none is.")
    ] = False,
    keep_answers: Annotated[
        bool, typer.Option("--keep-answers", help="Keep the texts of answers and reasoning, in the table too.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many requests, and what they cost at worst; ask nothing.")
    ] = False,
    json_file: JsonOption = None,
    allow_code: AllowCodeOption = False,
    remember_code: RememberCodeOption = False,
) -> None:
    """Measure a live endpoint: ask it prompts, and write a table of attempts that `profile build` takes.

    What was answered is kept in OUT.journal: interrupted, the same command goes on and asks nothing twice.

    With several caps, give `profile build` the rows of one: --where cap=1024, or --where cap=none.

    Exit status 2 if some attempts have no answer: the budget was spent, or they failed for good.
    """
    from ttc_sim.collecting import plan_collecting
    from ttc_sim.collecting.endpoints import unencrypted
    from ttc_sim.collecting.wanted import parse_caps
    from ttc_sim.files.documents import parse_json

    planned = plan_collecting(
        prompts,
        endpoint=endpoint,
        model=model,
        out=out,
        samples=samples,
        caps=parse_caps(caps),
        budget_usd=budget_usd,
        no_budget=no_budget,
        price=price,
        input_usd_per_mtok=input_usd_per_mtok,
        output_usd_per_mtok=output_usd_per_mtok,
        endpoint_limit_tokens=endpoint_limit_tokens,
        cap_field=cap_field,
        key_env=key_env,
        system=system,
        body=None if body is None else parse_json(body, "collect", "--body", "a JSON object"),
        seed=seed,
        concurrency=concurrency,
        timeout_s=timeout_s,
        retries=retries,
        grade=grade,
        problem_column=problem_column,
        prompt_column=prompt_column,
        target_column=target_column,
        tokenizer=tokenizer,
        starts_thinking=starts_thinking,
        keep_answers=keep_answers,
        env_proxy=env_proxy,
        allow_code=consent(allow_code, remember_code),
        dry=dry_run,
    )
    check_outputs(prompts, tokenizer, planned.out, planned.journal, json=json_file)
    paper = paper_for_tables()
    if dry_run:
        found = planned.dry_run()
        if json_file is not None:
            write_json(json_file, found.as_json())
        _print_dry_run(paper, found)
        return
    if key_env is not None and (host := unencrypted(planned.endpoint.url)) is not None:
        warn(f"the key goes to {host} unencrypted, by http")
    try:
        with progress() as say:
            collected = planned.run(say)
    except InputError:
        if answers := planned.answers_so_far():
            note(f"{answers:,} answers are kept in {planned.journal}: the same command goes on from there")
        raise
    if json_file is not None:
        write_json(json_file, {"endpoint": planned.endpoint.url, "model": model, **collected.as_json()})
    _print_collected(paper, collected)
    if not collected.complete:
        raise typer.Exit(UNREACHABLE)


def _print_dry_run(paper: Paper, found: DryRun) -> None:
    paper.say(f"{found.requests:,} requests to {found.url}; caps go as {found.cap_field}")
    if found.earlier:
        paper.say(f"{found.earlier:,} of {found.wanted:,} attempts have their answer already")
    for cap, requests in found.by_cap.items():
        paper.say(f"cap {cap}: {requests:,}")
    if found.worst_usd is None or found.held_usd is None:
        paper.say("dollars unknown: no price is given")
        return
    if math.isinf(found.worst_usd):
        paper.say("worst case unknown: --endpoint-limit-tokens says how long an answer without a cap can be")
    else:
        paper.say(
            f"at worst ${dollars(found.worst_usd)}, each answer as long as it may be, and none sent again ({found.price})"
        )
        if "none" in found.by_cap:
            tokens = f"{found.without_cap_tokens:,}"
            paper.say(
                f"without a cap an answer counts as {tokens} tokens; --endpoint-limit-tokens sets another limit", "dim"
            )
    if found.held_usd and not math.isinf(found.held_usd):
        paper.say(f"spent before, or perhaps: ${dollars(found.held_usd)}")
    if found.budget_usd is not None and found.worst_usd + found.held_usd > found.budget_usd:
        paper.say(f"more than the budget of ${dollars(found.budget_usd)}: it ends there unless answers are shorter")


def _print_collected(paper: Paper, found: Collected) -> None:
    answers = f"{len(found.table):,} of {found.wanted:,} answers"
    earlier = f", {found.earlier:,} of them from before" if found.earlier else ""
    paper.say(f"{answers}{earlier}; {found.asked:,} requests sent")
    if len(found.table):
        table = Table(header_style="bold", pad_edge=False)
        table.add_column("cap")
        for heading in ("answers", "right", "at the cap", "reasoning", "visible", "first token s", "all of it s"):
            table.add_column(heading, justify="right")
        for row in found.as_json()["caps"]:
            table.add_row(
                str(row["cap"]),
                f"{row['attempts']:,}",
                "not graded" if row["accuracy"] is None else percent(row["accuracy"]),
                percent(row["truncated"]),
                count(row["reasoning_tokens"]),
                count(row["visible_tokens"]),
                "" if row["first_token_s"] is None else seconds(row["first_token_s"]),
                seconds(row["latency_s"]),
            )
        paper.print(table)
        paper.say("tokens are means, seconds medians", "dim")
    if found.spent_usd is not None and found.maybe_usd is not None:
        more = f", and up to ${dollars(found.maybe_usd)} by requests that failed" if found.maybe_usd else ""
        if math.isinf(found.maybe_usd):
            more = ", and an unknown amount by requests that failed without a cap"
        of = f" of ${dollars(found.budget_usd)}" if found.budget_usd is not None else ""
        paper.say(f"${dollars(found.spent_usd)} spent{more}{of} ({found.price})")
    for line in found.notes:
        paper.say(f"- {line}")
    for reason, times in found.failures.items():
        paper.say(f"- {times:,} attempts failed: {reason}")
    if found.budget_spent:
        paper.say("- the budget does not allow the next request: a larger one goes on from here")
    if len(found.table):
        paper.say(f"written to {found.out}")
    if not found.complete:
        paper.say(f"{found.wanted - len(found.table):,} attempts are missing: the same command asks for them again")
