"""Off-policy estimates from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ttc_sim.base.arguments import location
from ttc_sim.base.consent import AllowCode
from ttc_sim.base.errors import InputError
from ttc_sim.deploying.decisions import PLAN_DIGITS
from ttc_sim.deploying.logs import read_logs
from ttc_sim.deploying.off_policy.estimating import estimate_instead
from ttc_sim.deploying.off_policy.result import OffPolicy
from ttc_sim.files.opening import is_file
from ttc_sim.optimizer.plan import Plan, SavedPlan, load_plan
from ttc_sim.policies import PerSource, Policy, parse_policy
from ttc_sim.policies.per_source import check_sources


def off_policy(
    plan: str | Path,
    logs: str | Path | Sequence[str | Path],
    instead: str | Path | SavedPlan | Plan | Policy,
    *,
    allow_code: AllowCode = False,
) -> OffPolicy:
    """What another plan would have come to on the requests that a plan's runtime logged.

    Without exploring (a runtime that tries other arms for a share of the requests on purpose) logs tell only of requests that both
    plans want on the same arm.

    Args:
        plan: file of the plan that was carried out.
        logs: its log files, in any order; decisions of other plans in them are left out.
        instead: another plan, or its file; or a policy on the same arms, such as ``Always('r1')``.
        allow_code: whether functions in files that the plans name may run, as for :func:`ttc_sim.load_plan`.

    Raises:
        InputError: not a plan, not a log or one of another plan; or another plan whose policy looks at live load, at scores that
            were not logged, or at those of another predictor.

    >>> off_policy("plan.yaml", "today.jsonl", "other.yaml")  # doctest: +SKIP
    <OffPolicy: other.yaml instead of plan.yaml on 20,000 requests: accuracy +0.021 (+0.008 to +0.034), ...>
    """
    path = location("off_policy", "plan", plan, "a plan's file")
    made = load_plan(path, allow_code=allow_code)
    other, name = _other(made, instead, allow_code)
    assert made.sha256 is not None  # it was read from a file
    found = read_logs(logs, made, digest=made.sha256[:PLAN_DIGITS])
    return estimate_instead(found, made, other, name=name, plan_name=path.name)


def _other(
    plan: SavedPlan, instead: str | Path | SavedPlan | Plan | Policy, allow_code: AllowCode
) -> tuple[SavedPlan, str]:
    """The other plan, and its name."""
    if isinstance(instead, (Plan, SavedPlan)):
        return (instead.saved() if isinstance(instead, Plan) else instead), "the other plan"
    said: str | dict[str, str]
    if isinstance(instead, PerSource):
        said = {source: repr(one) for source, one in instead.policies.items()}
    elif isinstance(instead, Policy) or ("(" in str(instead) and not is_file(instead)):
        said = repr(instead) if isinstance(instead, Policy) else str(instead)
    else:
        path = location("off_policy", "instead", instead, "a plan's file, or a policy such as Always('small')")
        return load_plan(path, allow_code=allow_code), path.name
    policy = parse_policy(said, where="off_policy", field="instead", allow_code=allow_code)
    if isinstance(policy, PerSource):
        check_sources(policy.policies, plan.scenario.workload.sources, "off_policy")
    for arm in policy.arm_names():
        if arm not in plan.scenario.arms:
            raise InputError("off_policy", "instead", said, f"a policy of the arms {', '.join(plan.scenario.arms)}")
    return replace(plan, scenario=plan.scenario.model_copy(update={"policy": said})), str(said)


__all__ = ["off_policy"]
