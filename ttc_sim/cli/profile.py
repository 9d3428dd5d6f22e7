"""``ttc-sim profile``: build, list and show measured profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

from ttc_sim.base.errors import InputError
from ttc_sim.base.figures import count, percent, signed
from ttc_sim.cli import completing
from ttc_sim.cli.agents import build_agents, is_agent_profile, show_agent
from ttc_sim.cli.commands import Commands
from ttc_sim.cli.options import JsonOption, files_of
from ttc_sim.cli.output import check_outputs, paper_for_tables, styled, write_json, written_together
from ttc_sim.files.tables import read_table
from ttc_sim.measured.folders import list_profiles
from ttc_sim.measured.profiles import (
    Profile,
    check_profile_folder,
    check_profile_folders,
    load_profile,
    save_profile,
    save_profiles,
)
from ttc_sim.measured.summaries import ProfileSummary, outcome_tables, summarize_profile

if TYPE_CHECKING:
    from ttc_sim.evaluation.thinning import Foretold
    from ttc_sim.measured.checking import ProfileCheck
    from ttc_sim.reporting.paper import Paper

app = Commands(no_args_is_help=True)
_Z = 1.96  # two-sided 95% of the normal
Column = Annotated[str | None, typer.Option(help="Column, if it has none of the usual names.")]


@app.command()
def build(
    table: Annotated[Path, typer.Argument(help="Attempts, a row each: Parquet, CSV or JSONL.")],
    out: Annotated[
        Path, typer.Argument(help="Folder to write; with --by, the folder to write a profile's folder each in.")
    ],
    origin: Annotated[str, typer.Option(help="Where the attempts come from.")],
    licence: Annotated[str, typer.Option(help="Licence of the numbers.")],
    date: Annotated[str, typer.Option(help="Day of the measurement.")],
    tokenizer: Annotated[str, typer.Option(help="Tokenizer that the tokens were counted with.")],
    model: Annotated[
        str | None, typer.Option(help="The model that made the attempts; with --by, each value unless given.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="COLUMN=VALUE: only such rows, as in --where model=small. May be given several times: one column has either of "
            "its values, several must all have theirs."
        ),
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="Column, such as model: a profile of each of its values, all of them or none.")
    ] = None,
    limits: Annotated[str, typer.Option(help="What the numbers do not cover.")] = "none stated",
    effort: Annotated[str | None, typer.Option(help="Effort setting of the model.")] = None,
    problem_set: Annotated[str | None, typer.Option(help="Problem set that the problems belong to.")] = None,
    output_limit_tokens: Annotated[
        int | None, typer.Option(min=1, help="Limit at which attempts were stopped.")
    ] = None,
    problem_column: Column = None,
    attempt_column: Column = None,
    prompt_tokens_column: Column = None,
    reasoning_tokens_column: Column = None,
    visible_tokens_column: Column = None,
    output_tokens_column: Column = None,
    correct_column: Column = None,
    truncated_column: Column = None,
    answer_column: Column = None,
    runs: Annotated[
        bool,
        typer.Option(
            "--runs",
            help="Each row is a whole run of an agent at an instance: whether it was right, its US dollars, turns and output "
            "tokens, as far as they were recorded. For sessions.",
        ),
    ] = False,
    replace: Annotated[
        bool, typer.Option(help="Replace the profile if there is one; other files in its folder stay.")
    ] = False,
) -> None:
    """Turn a table of attempts into a profile, or one for each model, check it, and print what it holds."""
    if runs:
        given = {
            "--reasoning-tokens-column": reasoning_tokens_column,
            "--visible-tokens-column": visible_tokens_column,
            "--prompt-tokens-column": prompt_tokens_column,
            "--truncated-column": truncated_column,
            "--answer-column": answer_column,
            "--output-limit-tokens": output_limit_tokens,
            "--problem-set": problem_set,
        }
        for option, value in given.items():
            if value is not None:
                raise InputError("profile build", option, value, "none beside --runs: nothing is read of it there")
        about = {"origin": origin, "licence": licence, "date": date, "tokenizer": tokenizer, "limits": limits}
        named = {
            "instance": problem_column,
            "run": attempt_column,
            "output_tokens": output_tokens_column,
            "correct": correct_column,
        }
        build_agents(table, out, {**about, "effort": effort}, named, model=model, where=where, by=by, replace=replace)
        return
    from ttc_sim.measured.building import build_profile, keyed_alike
    from ttc_sim.measured.naming import folder_names
    from ttc_sim.measured.selecting import part_of, rows_by, rows_where

    columns = {
        "problem": problem_column,
        "attempt": attempt_column,
        "prompt_tokens": prompt_tokens_column,
        "reasoning_tokens": reasoning_tokens_column,
        "visible_tokens": visible_tokens_column,
        "output_tokens": output_tokens_column,
        "correct": correct_column,
        "truncated": truncated_column,
        "answer": answer_column,
    }
    card: dict[str, object] = {
        "origin": origin,
        "licence": licence,
        "date": date,
        "tokenizer": tokenizer,
        "limits": limits,
        "effort": effort,
        "problem_set": problem_set,
        "output_limit_tokens": output_limit_tokens,
    }
    if by is None and model is None:
        raise InputError("profile build", "--model", "nothing", "the model that made the attempts, or --by COLUMN")
    if by is None:
        check_profile_folder(out, replace=replace, reads=table)
    rows, keys = read_table(table), list[str]()
    if where or by is not None:
        rows, keys = keyed_alike(rows, table, problem_column)
        rows = rows_where(rows, table, where or [])
    told = f"{table} ({' '.join(where)})" if where else str(table)
    paper = paper_for_tables()
    if by is None:
        profile, said = build_profile(rows, told, out.resolve().name, {**card, "model": model}, columns)
        save_profile(profile, out, replace=replace)
        _print_built(paper, profile, keys + said, out)
        return
    parts = rows_by(rows, table, by)
    names = folder_names(parts)
    check_profile_folders(out, list(names.values()), replace=replace, reads=table)
    built = {
        names[value]: build_profile(
            part, part_of(told, by, value), names[value], {**card, "model": value if model is None else model}, columns
        )
        for value, part in parts.items()
    }
    save_profiles({name: profile for name, (profile, _) in built.items()}, out, replace=replace)
    for line in keys:
        paper.say(line, "dim")
    for value, name in names.items():
        paper.say(styled((name, "bold"), "" if name == value else f" ({by} {value})"))
        _print_built(paper, *built[name], out / name)


def _print_built(paper: Paper, profile: Profile, said: list[str], at: Path) -> None:
    for line in said:
        paper.say(line, "dim")
    _print_summary(paper, summarize_profile(profile))
    paper.say(f"written to {at}")


@app.command(name="list")
def list_() -> None:
    """List the profiles that are found by name."""
    rows = Table(header_style="bold", pad_edge=False)
    rows.add_column("profile")
    for name in ("problems", "attempts", "accuracy", "median output", "p95 output", "thinking", "licence"):
        rows.add_column(name, justify="right")
    for name in list_profiles():
        profile = load_profile(name)
        summary = summarize_profile(profile)
        output = summary.tokens["output"]
        rows.add_row(
            name,
            f"{summary.problems:,}",
            f"{summary.attempts:,}",
            percent(summary.accuracy),
            count(output["p50"]),
            count(output["p95"]),
            profile.card.reasoning,
            profile.card.licence,
        )
    paper_for_tables().print(rows)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name or folder of a profile.", autocompletion=completing.profiles)],
    plot: Annotated[
        Path | None, typer.Option(help="Draw the length distribution by outcome to this file: PNG, SVG or PDF.")
    ] = None,
    than: Annotated[
        str | None,
        typer.Option(help="Agent profile: how many times its output tokens a turn this one's model writes."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Show a profile: where it comes from, what it holds, and how long right and wrong attempts are."""
    check_outputs(*files_of(name, folder=Path()), plot=plot, json=json_file)
    if is_agent_profile(name):
        if plot is not None:
            raise InputError("profile show", "--plot", plot, "none: an agent profile holds no lengths of answers")
        show_agent(name, than, json_file)
        return
    if than is not None:
        raise InputError("profile show", "--than", than, "none: only agent profiles are compared")
    profile = load_profile(name)
    summary = summarize_profile(profile)
    card = profile.card
    with written_together():
        if json_file is not None:
            write_json(json_file, {"card": card.model_dump(), **asdict(summary)})
        if plot is not None:
            from ttc_sim.reporting.plots import plot_profile

            plot_profile(profile).savefig(plot, dpi=150)
    paper = paper_for_tables()
    paper.say(styled((profile.name, "bold"), f"  {card.model}" + (f" ({card.effort})" if card.effort else "")))
    paper.say(f"{card.origin}; {card.licence}; {card.date}; tokens: {card.tokenizer}")
    paper.say(card.limits, "dim")
    if card.reasoning_source:
        paper.say(f"Thinking lengths are not its own: {card.reasoning_source}", "yellow")
    _print_summary(paper, summary)
    _draw_lengths(paper, profile)


def _print_summary(paper: Paper, summary: ProfileSummary) -> None:
    paper.say(
        f"{summary.problems:,} problems, {summary.attempts:,} attempts; accuracy {percent(summary.accuracy)} "
        f"({percent(summary.accuracy_low)} to {percent(summary.accuracy_high)}); {percent(summary.truncated)} stopped at the "
        f"limit; answers {'recorded' if summary.answers_recorded else 'not recorded'}"
    )
    table = Table(header_style="bold", pad_edge=False)
    table.add_column("tokens")
    for column in ("mean", "p50", "p90", "p95", "p99", "max"):
        table.add_column(column, justify="right")
    rows = {**summary.tokens, **{f"output, {name}": figures for name, figures in summary.output_by_outcome.items()}}
    for name, figures in rows.items():
        table.add_row(name, *(count(figures[column]) for column in ("mean", "p50", "p90", "p95", "p99", "max")))
    paper.print(table)


def _draw_lengths(paper: Paper, profile: Profile) -> None:
    """A histogram in characters: a row a doubling of length, a bar an outcome."""
    tables = {name: values.to_numpy() for name, values in outcome_tables(profile).items() if len(values)}
    total = sum(len(values) for values in tables.values())
    top = int(np.ceil(np.log2(max(values.max() for values in tables.values()) + 1)))
    counts = {name: np.histogram(np.log2(values), bins=np.arange(0, top + 1))[0] for name, values in tables.items()}
    most = max(sum(int(c[k]) for c in counts.values()) for k in range(top)) or 1
    colors = {"correct": "green", "wrong": "red", "stopped at the limit": "yellow"}
    block = "█" if paper.encoding.startswith("utf") else "#"
    paper.say()
    legend = [part for n in tables for part in ((block, colors[n]), f" {n}", ", ")][:-1]
    paper.say(styled("output tokens, share of attempts: ", *legend))
    for k in range(top):
        share = sum(int(c[k]) for c in counts.values()) / total
        bar = [(block * round(50 * int(c[k]) / most), colors[name]) for name, c in counts.items()]
        paper.say(styled(f"{2**k:>7,} - {2 ** (k + 1) - 1:<7,} {share:>5.1%} ", *bar))


@app.command()
def check(
    name: Annotated[str, typer.Argument(help="Profile, by name or folder.", autocompletion=completing.profiles)],
    json_file: JsonOption = None,
) -> None:
    """Fit the model of repeated attempts to some of them, and compare it with the others."""
    from ttc_sim.evaluation.thinning import foretell
    from ttc_sim.measured.aligning import align
    from ttc_sim.measured.checking import check_parametric

    check_outputs(*files_of(name, folder=Path()), json=json_file)
    profile = load_profile(name, Path())
    found = check_parametric(profile)
    attempts = align(profile, profile.attempts["problem"].unique().sort())
    n = found.samples
    kept = sorted({1, n // 2, n - 1})
    foretold = [foretell(attempts, few, n) for few in kept]
    if json_file is not None:
        said = [{name: asdict(figure) for name, figure in one.items()} for one in foretold]
        write_json(json_file, {**asdict(found), "foretold": said})
    _print_check(paper_for_tables(), name, found, dict(zip(kept, foretold, strict=True)))


def _print_check(paper: Paper, name: str, found: ProfileCheck, foretold: Mapping[int, Mapping[str, Foretold]]) -> None:
    model = found.model
    paper.say(
        styled(
            (name, "bold"),
            f": {found.problems:,} problems with several attempts. Fitted to the first half of each: chance to be "
            f"right Beta({model.a:.2f}, {model.b:.2f}), {model.never:.0%} of problems never solved.",
        )
    )
    table = Table(title="held-back attempts, by how many of those fitted to were right", header_style="bold")
    for column in ("right", "problems", "predicted", "seen", "off by (standard errors)"):
        table.add_column(column, justify="right")
    for group in found.groups:
        off = (group.seen - group.predicted) / group.noise if group.noise > 0 else 0.0
        shares = percent(group.predicted), percent(group.seen), signed(off)
        table.add_row(f"{group.right} of {group.fitted}", f"{group.problems:,}", *shares)
    paper.print(table)
    n = found.samples
    paper.say(f"at least one right of {n}: predicted {percent(found.pass_at[0])}, seen {percent(found.pass_at[1])}")
    if found.vote is not None:
        paper.say(f"majority of {n}: predicted {percent(found.vote[0])}, seen {percent(found.vote[1])}")
        paper.say(f"two wrong answers to a problem are the same with chance {found.agreement:.0%}")
    for kind, ratio in found.length_ratio.items():
        paper.say(f"median length of {kind} attempts, held back over fitted to: {ratio:.2f}")
    # In brackets, how far off what is fitted may be; that problems are a sample is not in it.
    table = Table(title=f"{n} samples, from fewer attempts (95%: what is fitted) and from {n}", header_style="bold")
    table.add_column("")
    for few in foretold:
        table.add_column(f"from {few}", justify="right")
    table.add_column("seen", justify="right")
    for figure, first in next(iter(foretold.values())).items():
        tokens = figure in ("longest", "tokens")
        cells = []
        for one in (each[figure] for each in foretold.values()):
            low, high = one.predicted - _Z * one.doubt, one.predicted + _Z * one.doubt
            cells.append(
                f"{one.predicted:,.0f} ({low:,.0f}-{high:,.0f})"
                if tokens
                else f"{one.predicted:.1%} ({100 * low:.1f}-{100 * high:.1f})"
            )
        label = f"pass at {n}" if figure == "pass_at" else figure.replace("_", " ")
        table.add_row(label, *cells, f"{first.seen:,.0f}" if tokens else f"{first.seen:.1%}")
    paper.print(table)
