"""Kinds of cases: each changes files of the corpus and says what is then carried out on them."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import typer

from fuzzing import mutating
from fuzzing.dice import Dice
from ttc_sim.cli import app
from ttc_sim.deploying.exports import TARGETS

Commands = list[list[str]]

SCENARIOS = ("first", "second", "third", "loop", "trace", "azure", "mooncake", "clients", "turns", "laws")
WITH_SOURCES = SCENARIOS[:4]
_BUILD = (
    "profile build own.csv made --model m --origin o --licence l --date 2026-01-01 --tokenizer t --problem-set tiny"
)
_BUILD_ALL = "profile build attempts.csv made --by model --origin o --licence l --date 2026-01-01 --tokenizer t"
_INIT = "scenario init imported --no-predictor --price tiny/small=1/2 --price tiny/large=2/8"
_VALIDATE = "validate plan.yaml --problems problems.parquet --attempts attempts.csv --json made.json"
_QUALITY = (
    "predictor evaluate --problems problems.parquet --attempts attempts.csv --weak tiny/small --strong tiny/large"
)
_TRAIN = "predictor train --problems problems.parquet --attempts attempts.csv --out made.onnx --workers 1"


def _of(line: str, *more: str) -> list[str]:
    return [*line.split(), *more]


def _simulate(dice: Dice, name: str) -> list[str]:
    records = f"made.{dice.of(('parquet', 'csv'))}"
    plain = ["--no-baselines"] if dice.chance(0.5) else []
    return _of(f"simulate {name}.yaml --hours --json made.json --records {records}", *plain)


def scenarios(dice: Dice, folder: Path) -> Commands:
    """A scenario with a few places changed."""
    name = dice.of(SCENARIOS)
    mutating.mutate_file(folder / f"{name}.yaml", dice)
    if dice.chance(0.92):  # a search takes as long as fifty of these
        return [_simulate(dice, name)]
    line = dice.of(
        ("optimize {}.yaml --plan made.yaml", "optimize {}.yaml", "cross-validate {}.yaml --folds 2 --table made.csv")
    )
    return [_of(line.format(name), "--json", "made.json")]


def plans(dice: Dice, folder: Path) -> Commands:
    """A plan with a few places changed."""
    mutating.mutate_file(folder / "plan.yaml", dice)
    if dice.chance(0.25):  # it takes as long as ten exports
        return [_of(_VALIDATE)]
    return [_of(f"export plan.yaml --to {dice.of(tuple(TARGETS))} --out made --json made.json")]


_SET = (*(f"simulate {name}.yaml --json made.json" for name in WITH_SOURCES), "optimize second.yaml --json made.json")
_READ_BY: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("profiles/tiny/problems.parquet", _SET),
    ("profiles/tiny/scores.parquet", _SET),
    (
        "profiles/tiny/small/attempts.parquet",
        ("simulate first.yaml --json made.json --records made.csv", "evaluate tiny/small --strategy MajorityVote(n=3)",
         "profile show tiny/small --json made.json", "profile check tiny/small --json made.json", "profile list"),
    ),
    ("profiles/tiny/small/forced.csv", ("evaluate tiny/small --strategy BudgetForcing(cap=200) --json made.json",)),
    ("profiles/clients/arrivals.parquet", ("simulate clients.yaml --json made.json",)),
    ("profiles/clients/lengths.parquet", ("simulate clients.yaml --json made.json",)),
    ("trace.csv", ("simulate trace.yaml --json made.json --records made.parquet",)),
    ("azure.csv", ("simulate azure.yaml --json made.json",)),
    ("mooncake.jsonl", ("simulate mooncake.yaml --json made.json",)),
    ("turns.csv", ("simulate turns.yaml --json made.json --records made.csv", "optimize turns.yaml --json made.json",
                   "sessions turns.csv --json made.json", "sessions turns.csv --fit --json made.json")),
    ("own.csv", (_BUILD,)),
    ("attempts.csv", (_BUILD_ALL,)),
    ("imported/traffic.parquet", (_INIT,)),
    ("imported/problems.parquet", (_INIT,)),
    ("imported/attempts.parquet", (_INIT,)),
    ("imported/import.json", (_INIT,)),
    ("gpu/tp1/attention.csv", ("simulate azure.yaml --json made.json", "backtest run --gpu-profile gpu --json made.json")),
    ("gpu/tp1/dense.csv", ("simulate azure.yaml --json made.json", "backtest run --gpu-profile gpu --json made.json")),
    ("gpu/tp1/per_sequence.csv", ("simulate azure.yaml --json made.json",)),
)  # fmt: skip


def tables(dice: Dice, folder: Path) -> Commands:
    """A table that a command reads, with a few values, columns or bytes changed."""
    name, lines = dice.of(_READ_BY)
    mutating.mutate_file(folder / name, dice)
    return [_of(dice.of(lines))]


def logs(dice: Dice, folder: Path) -> Commands:
    """Problems, attempts, prompts, logs and scores of the predictor's commands."""
    name, lines = dice.of(
        (
            ("prompts.jsonl", ("predictor score prompts.jsonl --out made.parquet", "predictor score prompts.jsonl")),
            ("logs.jsonl", ("predictor check logs.jsonl --reference scores.parquet --json made.json",)),
            ("scores.parquet", ("predictor check logs.jsonl --reference scores.parquet --json made.json",)),
            ("problems.parquet", (*(_VALIDATE, f"{_QUALITY} --resamples 100 --json made.json") * 4, _TRAIN)),
            ("attempts.csv", (_VALIDATE, _VALIDATE, f"{_QUALITY} --resamples 100 --no-baselines --json made.json")),
        )
    )
    mutating.mutate_file(folder / name, dice)
    return [_of(dice.of(lines))]


_ANSWERS = (
    *("--reasoning outside", "--cached inside", "--time-unit ms", "--dates day-first", "--correct-from 0.5"),
    *("--keep-prompts", "--column prompt_tokens=a", "--format table"),
)


def imports(dice: Dice, folder: Path) -> Commands:
    """A log of another tool, with a few places or bytes changed, packed now and then."""
    file = dice.of(sorted(path for path in (folder / "logs").rglob("*") if path.is_file()))
    if file.suffix in (".jsonl", ".json", ".csv", ".parquet") and dice.chance(0.9):
        try:
            mutating.mutate_file(file, dice)
        except (pl.exceptions.PolarsError, ValueError):  # rows too different for one table, or no JSON in each line
            file.write_text(mutating.text(file.read_text(encoding="utf-8"), dice), encoding="utf-8", errors="replace")
    else:
        file.write_bytes(mutating.raw(file.read_bytes(), dice))
    if dice.chance(0.05):
        file.write_bytes(mutating.raw(gzip.compress(file.read_bytes()), dice))
    line = ["import", file.relative_to(folder).as_posix(), "--out", "made", "--json", "made.json"]
    if dice.chance(0.3):
        line += ["--format", file.parent.name]
    if dice.chance(0.7):
        line.append("--no-scores")
    for _ in range(dice.of((0, 0, 1, 2))):
        line += dice.of(_ANSWERS).split()
    return [line]


def cards(dice: Dice, folder: Path) -> Commands:
    """Cards of profiles, problem sets and traffic; a model's config.json; a GPU profile's meta.yaml; a result's JSON."""
    name, line = dice.of(
        (
            ("profiles/tiny/small/profile.yaml", "simulate first.yaml --json made.json"),
            ("profiles/tiny/small/profile.yaml", "profile show tiny/small --json made.json"),
            ("profiles/tiny/problem_set.yaml", "simulate second.yaml --json made.json"),
            ("profiles/clients/traffic.yaml", "simulate clients.yaml --json made.json"),
            ("config.json", "simulate third.yaml --no-baselines --json made.json"),
            ("gpu/meta.yaml", "simulate azure.yaml --json made.json"),
            ("result.json", "report result.json --out made.html"),
            ("result.json", "report result.json --format md"),
        )
    )
    mutating.mutate_file(folder / name, dice)
    return [_of(line)]


def runs(dice: Dice, folder: Path) -> Commands:
    """Measured runs and load experiments."""
    name, line = dice.of(
        (
            ("run/requests.jsonl", "backtest run --json made.json"),
            ("run/meta.json", "backtest run --json made.json"),
            ("run/meta.json", "backtest run --gpu-profile gpu --json made.json"),
            ("other-run/requests.jsonl", "backtest run --calibrate-on other-run --json made.json"),
            ("experiments.json", "backtest --experiments experiments.json --json made.json"),
        )
    )
    mutating.mutate_file(folder / name, dice)
    return [_of(line)]


_NOTATIONS = {
    "strategy": (
        *("Single()", "Single(cap=400, on_cap='force_answer')", "BudgetForcing(min_tokens=50, cap=900, extensions=2)"),
        *("MajorityVote(n=3, stop_early=0.95, ties='shortest')", "MajorityVote(n=3, of=BudgetForcing(cap=200))"),
        *("BestOfN(n=2, auroc=0.8)", "BestOfN(n=4, tpr=0.9, fpr=0.1, verifier_tokens=5)", "BestOfN(n=2, scores=True)"),
        "Cascade(stages=[Single(cap=100), Single()], tpr=0.9, fpr=0.2)",
    ),
    "policy": (
        *(
            "Always('small')",
            "Threshold(at=0.5, below='small', above='large')",
            "Utility(price_of_accuracy=0.01, price_of_second=1e-5)",
        ),
        *(
            "Banded(edges=[0.2, 0.6], arms=['small', 'large', 'small'], score='p:tiny/small')",
            "own.py:choose",
            "own.py:leaves",
        ),
        *("Overflow(arms=['small', 'large'], waiting=2)", "LeastLoaded(arms=['small', 'large'])"),
    ),
}


def notation(kind: str, dice: Dice) -> str:
    """A strategy or policy as it might be mistyped."""
    said = dice.of(_NOTATIONS[kind])
    if dice.chance(0.3):
        return mutating.text(said, dice)
    if dice.chance(0.1):
        return said[: len(said) // 2] + "(" * dice.of((1, 50, 3000)) + said[len(said) // 2 :]
    parts = said.split("=")
    if len(parts) > 1:
        at = dice.whole(1, len(parts) - 1)
        value, separator, rest = parts[at].partition(",")
        new = dice.of((repr(mutating.anything(dice)), dice.of(_NOTATIONS["strategy"]), value + "0" * dice.whole(1, 30)))
        parts[at] = new + (separator + rest if separator else ")" if value.endswith(")") else "")
    return "=".join(parts)


def notations(dice: Dice, folder: Path) -> Commands:
    """Strategies and policies, as text on the command line; and values put into their classes from Python."""
    if dice.chance(0.4):
        return [["@values", dice.of(("strategies", "policies")), dice.bytes(dice.of((16, 64, 400))).hex()]]
    if dice.chance(0.5):
        return [_of("evaluate tiny/small --json made.json --strategy", notation("strategy", dice))]
    line = _of("simulate second.yaml --no-baselines --json made.json --policy", notation("policy", dice))
    consents = any("--allow-code" in one.opts for one in COMMANDS[("simulate",)].params)
    return [[*line, "--allow-code"] if consents and dice.chance(0.8) else line]


_LINES = (
    *("simulate first.yaml --requests 20 --replications 2", "simulate second.yaml --policy Always('small')", "gpus qwen3 h100"),
    *("optimize second.yaml --plan made.yaml", _VALIDATE, "cross-validate second.yaml --folds 2", "profile list", _BUILD),
    *(_BUILD_ALL, f"{_INIT} --models tiny/small,tiny/large --name a --on 2026-11-24 --replace"),
    *("evaluate tiny/small --strategy Single() --input-usd-per-mtok 1 --output-usd-per-mtok 2 --subset a", "predictor --help"),
    *("backtest run --calibrate-on other-run", "backtest --experiments experiments.json", "profile check tiny/small", "--version"),
    *("predictor score prompts.jsonl --out made.csv", "profile show tiny/small"),
    *("predictor check logs.jsonl --reference scores.parquet", "export plan.yaml --to python --out made"),
    *(f"{_QUALITY} --resamples 100", _TRAIN, "import logs/table/gateway.csv --out made"),
    *("report plan.yaml --no-variations --out made.html", "check plan.yaml --checks all", "sessions turns.csv", "schema"),
    *("list tiny", "whatif second.yaml --set workload.requests=20 --ready traffic=2x"),
)  # fmt: skip
# Nothing outside of the case's folder is ever written to.
_PATHS = (
    *(
        "made.json",
        "made.csv",
        "made.parquet",
        "made.yaml",
        "made.png",
        "made.onnx",
        "made",
        "nowhere/made.json",
        ".",
        "gpu",
        "x" * 300,
    ),
    *(
        "first.yaml",
        "plan.yaml",
        "trace.csv",
        "own.csv",
        "problems.parquet",
        "attempts.csv",
        "run",
        "config.json",
        "",
        "-",
        "ä.json",
        "[x].json",
    ),
)


def _commands() -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    waiting: list[tuple[tuple[str, ...], Any]] = [((), typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop()
        found[name] = command
        for word, one in getattr(command, "commands", {}).items():
            waiting.append(((*name, word), one))
    return found


COMMANDS = _commands()


def _value(parameter: Any, dice: Dice) -> str:
    kind = str(parameter.type_descriptor)
    if dice.chance(0.15) and "Path" not in kind:
        return str(mutating.scalar(dice))
    if "'int'" in kind or "'float'" in kind:
        return str(dice.of((0, 1, 2, 3, 10, 40, -1, 0.5, "nan", "inf", "1e3", "1_0", 10**13, 2**63)))
    if "Path" in kind:
        return dice.of(_PATHS)
    if "polic" in str(parameter.name):
        return notation("policy", dice)
    return notation("strategy", dice) if "strateg" in str(parameter.name) else dice.of((*_PATHS[:-4], *mutating.TEXTS))


def command_lines(dice: Dice, folder: Path) -> Commands:
    """All commands and options, with values that fit and values that do not."""
    line = _of(dice.of(_LINES))
    name = next(tuple(line[:k]) for k in (2, 1, 0) if tuple(line[:k]) in COMMANDS)
    for _ in range(dice.few()):
        options = [one for one in COMMANDS[name].params if dice.chance(0.97) or one.name == "help"]
        at = dice.whole(len(name), len(line))
        kind = dice.whole(0, 9)
        if kind < 6 and options:
            one = dice.of(options)
            flag = dice.of(one.opts)
            given = [flag] if flag.startswith("-") else []
            line[at:at] = given if getattr(one, "is_flag", False) else [*given, _value(one, dice)]
        elif kind == 6 and len(line) > len(name):
            del line[min(at, len(line) - 1)]
        elif kind == 7 and len(line) > len(name):
            at = min(at, len(line) - 1)
            safe = line[0] in ("profile", "import") or line[at - 1 : at] in (
                ["--out"],
                ["--json"],
                ["--plan"],
                ["--plot"],
                ["--records"],
                ["--table"],
            )
            line[at] = dice.of(_PATHS) if safe else str(mutating.scalar(dice))
        elif kind == 8:
            line.insert(at, dice.of(("--", "-", "--x", "-h", "--json", "--plot", "--help")))
        else:
            line = line[:at]
    return [_inside(line)]


def _inside(line: list[str]) -> list[str]:
    """No word that leads out of the folder, whatever it has come to stand for."""
    return [word if not word.startswith(("/", "~")) and ".." not in word else "made" for word in line]


def models(dice: Dice, folder: Path) -> Commands:
    """A predictor's ONNX file: its bytes, or what its metadata say."""
    return [["@model", *(["raw"] if dice.chance(0.3) else ["metadata"]), str(dice.whole(0, 10**9))]]


def caches(dice: Dice, folder: Path) -> Commands:
    """Compiled code and operator times on disk, damaged."""
    return [["@cache", dice.of(("code", "operators")), str(dice.whole(0, 10**9))]]


_WRITING = (
    "simulate first.yaml --json made.json --records made.parquet --plot made.png",
    "optimize second.yaml --plan made.yaml --json made.json",
    f"{_BUILD} --replace",
    f"{_BUILD_ALL} --replace",
    f"{_INIT} --replace",
    "predictor score prompts.jsonl --out made.parquet",
    "cross-validate second.yaml --folds 2 --table made.csv --json made.json",
    "import logs/table/gateway.csv --out made --replace",
    "export plan.yaml --to python --out made --replace",
)


def kills(dice: Dice, folder: Path) -> Commands:
    """A command that writes, killed at some moment, and carried out again."""
    line = _of(dice.of(_WRITING))
    return [["@kill", f"{dice.random.random():.4f}", *line]]


KINDS: dict[str, tuple[float, Callable[[Dice, Path], Commands]]] = {
    "scenarios": (30, scenarios),
    "plans": (8, plans),
    "tables": (24, tables),
    "logs": (6, logs),
    "imports": (12, imports),
    "cards": (6, cards),
    "runs": (7, runs),
    "notations": (10, notations),
    "command_lines": (7, command_lines),
    "models": (1, models),
    "caches": (0.7, caches),
    "kills": (0.05, kills),
}
"""By name: how many in a hundred or so, and what makes one."""
