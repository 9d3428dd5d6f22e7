"""Picture and figures of README's first screen: they are what runs say.

    python scripts/make_readme.py measure FOLDER     # a plan, a cross-validation and a day of traffic; minutes
    python scripts/make_readme.py write FOLDER       # puts picture, lines and table in their places

The page keeps its text; what stands between ``<!-- lines -->`` or ``<!-- table -->`` and ``<!-- end -->`` is written anew.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import ttc_sim as ttc
from ttc_sim.base.figures import dollars, dollars_of, percent, percent_of, rounded_down, seconds
from ttc_sim.files.writing import write_atomically
from ttc_sim.measured.importing.importer import IMPORTERS

ROOT = Path(__file__).resolve().parents[1]
README, PICTURE, FIDELITY = ROOT / "README.md", ROOT / "docs" / "reasoning-gateway.png", ROOT / "docs" / "fidelity.md"
SCENARIO = "reasoning-gateway"
FOLDS = 4
POLICIES = {
    "always-small": "Mistral Small on own GPUs",
    "always-maverick": "Llama-4 Maverick",
    "always-large": "Claude Sonnet 4, on hard problems DeepSeek-R1",
    "always-r1": "DeepSeek-R1",
    "uncapped": "the plan without its caps",
}
"""What the scenario's baselines are, in words; the last but one is what the first line compares with."""
RIVAL = "always-r1"


def plan_figures(plan: ttc.Plan) -> dict[str, Any]:
    """What the page says of a plan: of it and each baseline its row; and how sure it is."""
    rows = {"plan": plan.predicted, **{name: plan.baselines[name] for name in POLICIES}}
    known = {name: summary.accuracy for name, summary in rows.items() if summary.accuracy is not None}
    asked = plan.scenario.targets
    assert asked is not None
    assert asked.accuracy is not None
    return {
        "rows": {
            name: {
                "accuracy": percent_of(known[name]),
                "dollars": dollars_of(summary.cost_usd_per_request, 1000),
                "p50": seconds(summary.latency_s["p50"].value),
                "p95": seconds(summary.latency_s["p95"].value),
                "timed out": percent(summary.timeout_rate.value),
                "brief": f"{percent(known[name].value)} right at ${dollars(1000 * summary.cost_usd_per_request.value)}",
            }
            for name, summary in rows.items()
        },
        "low": f"{100 * known['plan'].low:.0f}",
        "high": f"{100 * known['plan'].high:.0f}",
        "asked": percent(asked.accuracy, 0),
        "confidence": rounded_down(next(one.confidence for one in plan.checks if one.name == "accuracy")),
        "problems": f"{plan.predicted.problems:,}",
    }


def measure(folder: Path) -> None:
    """Carry out what the page's figures are of."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = ttc.optimize(SCENARIO)
    plan.plot().savefig(folder / PICTURE.name, dpi=130)
    (folder / "plan.json").write_text(json.dumps(plan_figures(plan)), encoding="utf-8")
    found = ttc.cross_validate(SCENARIO, folds=FOLDS)
    inside = [verdict.inside for fold in found.folds for verdict in fold.verdicts.values()]
    checked = {
        "inside": sum(inside),
        "figures": len(inside),
        **{name: [one.promised, one.realized] for name, one in found.overall.items()},
    }
    (folder / "checked.json").write_text(json.dumps(checked), encoding="utf-8")
    day = [sys.executable, "-m", "benchmarks.day", "--json", str((folder / "day.json").resolve())]
    subprocess.run(day, cwd=ROOT, check=True)


def lines(plan: dict[str, Any], checked: dict[str, Any], day: dict[str, Any], fidelity: str) -> list[str]:
    """What nobody else does, with figures."""
    rows = plan["rows"]
    promised, realized = (percent(x) for x in checked["accuracy"])
    cost = [dollars(1000 * x) for x in checked["cost_usd_per_request"]]
    runs = [float(x.replace("−", "-")) for x in re.findall(r"^\| \S+ \| 300 \| ([+−][\d.]+)%", fidelity, re.MULTILINE)]
    experiments = re.search(r"^\| \*\*median absolute\*\* \| ([\d.]+%)", fidelity, re.MULTILINE)
    assert experiments is not None
    runs_percent, experiments_percent = max(map(abs, runs)), experiments[1]
    day_s = day["seconds"]["all"]["processor"]
    said = {
        "Accuracy, cost and latency in one plan": f"{rows['plan']['brief']} per 1,000 requests, p95 {rows['plan']['p95']} s; "
        f"all to DeepSeek-R1 is {rows[RIVAL]['brief']}, p95 {rows[RIVAL]['p95']} s.",
        "How sure it is": f"{plan['low']} to {plan['high']}% on kinds of tasks that nobody has measured; the {plan['asked']} "
        f"asked for hold with a chance of {plan['confidence']}%.",
        "Promises are checked on problems held back": f"{FOLDS} times planned on the others: promised {promised} for ${cost[0]}, "
        f"came {realized} for ${cost[1]}; {checked['inside']} of {checked['figures']} figures inside their intervals.",
        "Servers as they are run": f"recorded vLLM runs are met within {runs_percent:.1f}% end to end, load experiments within "
        f"{experiments_percent} (median, whole models left out of the fit).",
        "A day in seconds": f"{day['requests']:,} requests, hour by hour, in {day_s:.0f} s of one core; the engine equals a "
        "SimPy reference to the last digit, and queueing theory.",
        "From your own logs": f"{len(IMPORTERS)} formats are read; what had to be assumed is said in a line, or refused.",
    }
    return [f"**{name}**: {line}" for name, line in said.items()]


def table(plan: dict[str, Any]) -> list[str]:
    """The plan and its baselines."""
    out = ["| policy | accuracy (95%) | $ / 1k requests | p50 s | p95 s | timed out |", "|---|---|---|---|---|---|"]
    for name, row in plan["rows"].items():
        cells = [name + (f": {POLICIES[name]}" if name in POLICIES else "")]
        cells += [row[key] for key in ("accuracy", "dollars", "p50", "p95", "timed out")]
        out.append("| " + " | ".join(f"**{cell}**" if name == "plan" else cell for cell in cells) + " |")
    return out


def put(page: str, name: str, text: list[str]) -> str:
    """The page with these lines between its marks.

    Raises:
        SystemExit: the marks are not there.
    """
    body = "\n".join(text)
    page, count = re.subn(
        rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{body}\n{m[2]}", page, flags=re.DOTALL
    )
    if count != 1:
        raise SystemExit(f"{README.name}: {count} places for {name}")
    return page


def write(folder: Path) -> None:
    """Put what was measured into the page."""
    plan, checked, day = (json.loads((folder / f"{name}.json").read_text()) for name in ("plan", "checked", "day"))
    page = README.read_text(encoding="utf-8")
    said = [f"- {line}" for line in lines(plan, checked, day, FIDELITY.read_text(encoding="utf-8"))]
    page = put(put(page, "lines", said), "table", table(plan))
    write_atomically(PICTURE, (folder / PICTURE.name).read_bytes())
    write_atomically(README, page)


def main() -> None:
    """Carry out what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["measure", "write"])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    (measure if given.what == "measure" else write)(given.folder)


if __name__ == "__main__":
    main()
