"""A plan's file, examined anew: what was in order when it was made may be so no more."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ttc_sim.base.arguments import location
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.progress import Step, Telling, counted
from ttc_sim.base.showing import shows_progress, telling
from ttc_sim.base.threads import one_thread
from ttc_sim.files.documents import read_yaml
from ttc_sim.optimizer.chances import chance_of
from ttc_sim.optimizer.health.check import Check
from ttc_sim.optimizer.health.examine import aged, examine
from ttc_sim.optimizer.health.subject import Subject
from ttc_sim.optimizer.novelty import novelty_of
from ttc_sim.optimizer.plan import SavedPlan, load_plan
from ttc_sim.optimizer.promises import TargetCheck, as_mapping, check_targets
from ttc_sim.simulation.drawing import draw
from ttc_sim.simulation.expectations import expected_under
from ttc_sim.simulation.model import load_model
from ttc_sim.simulation.pooling import Pooled
from ttc_sim.simulation.response_fit import with_responses
from ttc_sim.simulation.running import run_once
from ttc_sim.simulation.summary import Summary, summarize_pooled


@dataclass(frozen=True)
class Examined:
    """What was found.

    Attributes:
        plan: as its file has it; checks: of its health, as of a day.
        targets: each beside what the plan promises of it.
    """

    plan: SavedPlan
    checks: tuple[Check, ...]
    targets: tuple[TargetCheck, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Plain mapping."""
        return {"scenario": self.plan.scenario.name, "health": [check.as_json() for check in self.checks]}


@shows_progress()
@one_thread()
def check_plan(
    path: str | Path,
    as_of: datetime.date | None = None,
    progress: Telling = None,
    *,
    allow_code: AllowCode = False,
) -> Examined:
    """Simulate a plan on the requests that it was verified on, and carry every check out anew.

    Only what it gains over simpler policies is taken from the file, as the policies that it was compared with are not kept.

    Args:
        path: of the plan's file; as_of: that prices and measurements are old as of; today if left out.

    Raises:
        InputError: no plan, or one that cannot be simulated any more.
    """
    say = telling("check_plan", progress)
    path = location("check_plan", "path", path, "a plan's file")
    saved = load_plan(path, allow_code=allow_code)
    raw: Any = read_yaml(path)
    policy = saved.scenario.parsed_policy()
    assert policy is not None
    policy.get_ready()
    model = with_responses(load_model(saved.scenario), policy)
    runs = [
        run_once(model, policy, draw(model, k, purpose="verify"))
        for k in counted(
            range(saved.scenario.replications), say, "simulating", f"runs of {saved.scenario.workload.extent}"
        )
    ]
    pooled = Pooled(model, runs, expected_under(model, policy, runs))
    summary = summarize_pooled(pooled)
    say(Step("examining"))
    novelty = None if model.population is None else novelty_of(model.population)
    highest = raw.get("highest_confidence")
    known = float(highest) if isinstance(highest, int | float) else None
    targets = _targets(saved, summary)
    found = examine(Subject(pooled, policy, summary, targets, known, novelty, None))
    kept = {check.name: check for check in saved.health if check.name == "gain"}
    checks = (_as_promised(saved, summary), *(kept.get(check.name, check) for check in found))
    return Examined(saved, aged(checks, as_of or datetime.date.today()), targets)


def _targets(saved: SavedPlan, summary: Summary) -> tuple[TargetCheck, ...]:
    """Every target beside the figure that the plan promises, which was corrected for how it was chosen."""
    targets = saved.scenario.targets
    if targets is None:
        return ()
    found = []
    for target, now in zip(targets.asked(), check_targets(summary, targets), strict=True):
        figure = saved.promised.get(target.name, now.promised)
        chance = chance_of(summary, target, figure)
        found.append(
            TargetCheck(
                target.name, target.bound, target.at_least, figure, chance, target.confidence, now.hour, target.words
            )
        )
    return tuple(found)


def _as_promised(saved: SavedPlan, summary: Summary) -> Check:
    """Whether the plan's simulation still comes to what it promises."""
    name = "promises"
    apart: dict[str, dict[str, dict[str, float]]] = {}
    for key, promised in saved.promised.items():
        now = summary.quantity(key)
        if now is not None and not promised.low - 1e-9 <= now.value <= promised.high + 1e-9:
            apart[key] = {"promised": as_mapping(promised), "simulated": as_mapping(now)}
    figures: dict[str, object] = {"apart": apart}
    if not apart:
        return Check(name, "ok", "simulated again, the plan comes to what it promises, within its intervals", figures)
    key = next(iter(apart))
    was, comes_to = (apart[key][which]["value"] for which in ("promised", "simulated"))
    says = f"simulated again, {key} comes to {comes_to:.4g} where the plan promises {was:.4g}: profiles, prices or the "
    says += "predictor have changed "
    return Check(name, "problem", f"{says}since it was made. Plan anew", figures)


__all__ = ["Examined", "check_plan"]
