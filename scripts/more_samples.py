"""Write the tables of ``docs/more-samples.md``: what some of a profile's attempts say of the others, what is believed beforehand.

Figures of the thinking pairs need the measured data (``--shared FOLDER``); without it their rows are left out.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import logit, ndtri
from scipy.stats import rankdata

from ttc_sim.evaluation.thinning import Foretold, foretell
from ttc_sim.files.writing import write_atomically
from ttc_sim.measured.aligning import align, predicted
from ttc_sim.measured.folders import list_profiles
from ttc_sim.measured.problem_sets import load_problem_set
from ttc_sim.measured.profiles import load_profile
from ttc_sim.strategies.outcomes import Attempts

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "more-samples.md"


def shipped(least: int) -> Iterator[tuple[str, Attempts]]:
    """Shipped profiles on the problems of a subset, where most have so many attempts."""
    for name in list_profiles():
        profile = load_profile(name)
        problems = load_problem_set(str(profile.card.problem_set)).problems
        made = problems.join(
            profile.attempts.select("problem").unique(), on="problem", how="semi", maintain_order="left"
        )
        for subset in made["subset"].unique().sort():
            table = made.filter(pl.col("subset") == subset)
            attempts = align(profile, table["problem"], predicted(table, name))
            if np.median(attempts.count) >= least:
                yield f"{name}, {subset}", attempts


def thinking_pairs(shared: Path) -> list[tuple[str, Attempts]]:
    """Models asked three times, by name; every second one tells what to believe beforehand."""
    table = pl.read_parquet(shared / "thinking-pairs" / "attempts.parquet").sort("model", "problem", "attempt")
    out = []
    for (model,), mine in table.group_by("model", maintain_order=True):
        owner = np.unique(mine["problem"].to_numpy().astype(str), return_inverse=True)[1]
        thought = mine["thinking_text_tokens"].fill_null(0) + mine["visible_tokens"]
        tokens = np.maximum(mine["output_tokens_reported"].fill_null(thought).to_numpy().astype(np.int64), 1)
        zero = np.zeros_like(tokens)
        start = np.concatenate([[0], np.cumsum(np.bincount(owner))]).astype(np.int64)
        right = (mine["score"] >= 0.99).to_numpy()
        if len(start) > 20:
            out.append((str(model), Attempts(str(model), start, zero + 1, zero, tokens, right, None, False)))
    return out


def spread(attempts: Attempts) -> tuple[float, float]:
    """Concentration of the chances to be right over problems, and how alike two attempts at a problem are in length."""
    several = np.flatnonzero(attempts.count >= 2)
    right, count = attempts.right[several], attempts.count[several]
    within = np.mean(right * (count - right) / (count * (count - 1)))
    mean = np.mean(right / count)
    ratio = within / (mean * (1 - mean))
    total = attempts.reasoning_tokens + attempts.visible_tokens
    score = ndtri((rankdata(total) - 0.5) / len(total))
    owner = attempts.owner
    rest = score - (np.bincount(owner, weights=score) / np.maximum(attempts.count, 1))[owner]
    noise = float(rest @ rest) / float((attempts.count[several] - 1).sum())
    return float(ratio / (1 - ratio)), float(1 - noise / np.var(score))


def believed(sets: dict[str, list[tuple[str, Attempts]]]) -> str:
    lines = [
        "| attempts | concentration: median | deviation of its logarithm | alike in length: median | deviation of its logit |",
        "|---|---|---|---|---|",
    ]
    for name, members in sets.items():
        found = np.array([spread(attempts) for _, attempts in members])
        log, alike = np.log(np.clip(found[:, 0], 1e-3, None)), np.clip(found[:, 1], 0.01, 0.99)
        lines.append(
            f"| {name} | {np.exp(np.median(log)):.2f} | {log.std():.2f} | {np.median(alike):.2f} | {logit(alike).std():.2f} |"
        )
    return "\n".join(lines)


def off(one: Foretold, *, part: bool) -> float:
    return 100 * (one.predicted / one.seen - 1 if part else one.predicted - one.seen)


def errors(members: list[tuple[str, Attempts]], kept: int) -> str:
    lines = ["| attempts | pass@2 | pass@3 | vote of 3 | longest of 3 | tokens |", "|---|---|---|---|---|---|"]
    for name, attempts in members:
        found = foretell(attempts, kept)
        cells = []
        for figure in ("pass_at_2", "pass_at", "vote", "longest", "tokens"):
            if figure not in found:
                cells.append("")
                continue
            one, part = found[figure], figure in ("longest", "tokens")
            seen = f"{one.seen:,.0f}" if part else f"{100 * one.seen:.1f}"
            doubt = 1.96 * 100 * one.doubt / (one.seen if part else 1)
            cells.append(f"{seen}: {off(one, part=part):+.1f}{'%' if part else ''} ± {doubt:.1f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(members: list[tuple[str, Attempts]]) -> str:
    lines = ["| from | figure | mean error | root mean square | within 95% |", "|---|---|---|---|---|"]
    for kept in (1, 2):
        found = [foretell(attempts, kept) for _, attempts in members]
        for figure, label in (("pass_at", "pass@3, points"), ("longest", "longest of 3, %")):
            error = np.array([off(one[figure], part=figure == "longest") for one in found])
            scale = [one[figure].seen if figure == "longest" else 1.0 for one in found]
            doubt = np.array([196 * one[figure].doubt / by for one, by in zip(found, scale, strict=True)])
            inside = np.mean(np.abs(error) <= doubt)
            lines.append(
                f"| {kept} | {label} | {error.mean():+.1f} | {np.sqrt(np.mean(error**2)):.1f} | {inside:.0%} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, help="Folder of the measured data.")
    shared: Path | None = parser.parse_args().shared
    several = list(shipped(3))
    gym = [(name, made) for name, made in several if name.startswith("reasoning-gym")]
    maths = [(name, made) for name, made in several if name.startswith("math")]
    tables = {"from one": errors([*gym, *maths], 1), "from two": errors([*gym, *maths], 2)}
    sets = {"mathematics (believed)": maths, "Reasoning Gym (judged)": gym}
    if shared is not None:
        pairs = thinking_pairs(shared)
        sets = {
            "thinking pairs, every second model (believed)": pairs[::2],
            **sets,
            "thinking pairs, the others (judged)": pairs[1::2],
        }
        tables["thinking pairs"] = summary(pairs[1::2])
    tables["believed"] = believed(sets)
    page = PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        before, rest = page.split(f"<!-- {name} -->\n")
        page = f"{before}<!-- {name} -->\n{table}\n<!-- end -->{rest.split('<!-- end -->', 1)[1]}"
    write_atomically(PAGE, page)


if __name__ == "__main__":
    main()
