"""Plan test-time compute before you deploy: accuracy, cost and latency from measured data.

>>> import ttc_sim as ttc
>>> result = ttc.simulate("reasoning-gateway", "Always('maverick')", requests=200)
>>> result.summary().accuracy.value > 0.3
True
>>> plan = ttc.optimize("reasoning-gateway")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ttc_sim.base.display import rendered_by
from ttc_sim.base.live import carried_out_by

__version__ = "0.2.0"

if TYPE_CHECKING:
    from ttc_sim.assumptions import Sensitivity, sensitivity
    from ttc_sim.base.errors import InputError, Interrupted
    from ttc_sim.base.estimates import Estimate
    from ttc_sim.base.plugins import register
    from ttc_sim.collecting import Collected, collect
    from ttc_sim.deploying.monitoring import Monitored, monitor
    from ttc_sim.deploying.off_policy import OffPolicy, off_policy
    from ttc_sim.evaluation.evaluate import Evaluation, Evaluations, evaluate
    from ttc_sim.exploring import explore
    from ttc_sim.measured.folders import list_profiles
    from ttc_sim.measured.problem_sets import load_problem_set
    from ttc_sim.measured.profiles import load_profile
    from ttc_sim.optimizer.capacity.result import Capacity
    from ttc_sim.optimizer.capacity.sizing import capacity
    from ttc_sim.optimizer.cross_validating import CrossValidation, cross_validate
    from ttc_sim.optimizer.optimizing import optimize
    from ttc_sim.optimizer.plan import Plan, SavedPlan, load_plan
    from ttc_sim.optimizer.validating import Validation, validate
    from ttc_sim.optimizer.whatif import WhatIf, what_if
    from ttc_sim.policies import (
        Always,
        Banded,
        Escalate,
        LeastLoaded,
        Load,
        Overflow,
        PerSource,
        Policy,
        Request,
        Requests,
        SessionBudget,
        Sticky,
        Threshold,
        Utility,
        parse_policy,
    )
    from ttc_sim.predictor import Predictor
    from ttc_sim.reporting.report.making import ReportPage, report
    from ttc_sim.scenario import Scenario, load_scenario, scenario_from_dict, with_changes
    from ttc_sim.serving.prices import TokenPrices
    from ttc_sim.simulation.result import Result, simulate
    from ttc_sim.simulation.summary import Summary
    from ttc_sim.strategies import BestOfN, BudgetForcing, Cascade, MajorityVote, Single, Strategy, parse_strategy
    from ttc_sim.strategies.outcomes import Outcome, Trial
    from ttc_sim.sweeping import Sweep, sweep

# Names are looked up when they are first used, so that `import ttc_sim` stays well under a second.
_HOME = {
    "Always": "policies",
    "Banded": "policies",
    "BestOfN": "strategies",
    "BudgetForcing": "strategies",
    "Capacity": "optimizer.capacity.result",
    "Cascade": "strategies",
    "Collected": "collecting",
    "CrossValidation": "optimizer.cross_validating",
    "Escalate": "policies",
    "Estimate": "base.estimates",
    "Evaluation": "evaluation.evaluate",
    "Evaluations": "evaluation.evaluate",
    "InputError": "base.errors",
    "Interrupted": "base.errors",
    "LeastLoaded": "policies",
    "Load": "policies",
    "MajorityVote": "strategies",
    "Monitored": "deploying.monitoring",
    "OffPolicy": "deploying.off_policy",
    "Outcome": "strategies.outcomes",
    "Overflow": "policies",
    "PerSource": "policies",
    "Plan": "optimizer.plan",
    "Policy": "policies",
    "Predictor": "predictor",
    "ReportPage": "reporting.report.making",
    "Request": "policies",
    "Requests": "policies",
    "Result": "simulation.result",
    "SavedPlan": "optimizer.plan",
    "Scenario": "scenario",
    "Sensitivity": "assumptions",
    "SessionBudget": "policies",
    "Single": "strategies",
    "Sticky": "policies",
    "Strategy": "strategies",
    "Summary": "simulation.summary",
    "Sweep": "sweeping",
    "Threshold": "policies",
    "TokenPrices": "serving.prices",
    "Trial": "strategies.outcomes",
    "Utility": "policies",
    "Validation": "optimizer.validating",
    "WhatIf": "optimizer.whatif",
    "capacity": "optimizer.capacity.sizing",
    "collect": "collecting",
    "cross_validate": "optimizer.cross_validating",
    "evaluate": "evaluation.evaluate",
    "explore": "exploring",
    "list_profiles": "measured.folders",
    "load_plan": "optimizer.plan",
    "load_problem_set": "measured.problem_sets",
    "load_profile": "measured.profiles",
    "load_scenario": "scenario",
    "monitor": "deploying.monitoring",
    "off_policy": "deploying.off_policy",
    "optimize": "optimizer.optimizing",
    "parse_policy": "policies",
    "parse_strategy": "strategies",
    "register": "base.plugins",
    "report": "reporting.report.making",
    "scenario_from_dict": "scenario",
    "sensitivity": "assumptions",
    "simulate": "simulation.result",
    "sweep": "sweeping",
    "validate": "optimizer.validating",
    "what_if": "optimizer.whatif",
    "with_changes": "scenario",
}

__all__ = [
    "Always",
    "Banded",
    "BestOfN",
    "BudgetForcing",
    "Capacity",
    "Cascade",
    "Collected",
    "CrossValidation",
    "Escalate",
    "Estimate",
    "Evaluation",
    "Evaluations",
    "InputError",
    "Interrupted",
    "LeastLoaded",
    "Load",
    "MajorityVote",
    "Monitored",
    "OffPolicy",
    "Outcome",
    "Overflow",
    "PerSource",
    "Plan",
    "Policy",
    "Predictor",
    "ReportPage",
    "Request",
    "Requests",
    "Result",
    "SavedPlan",
    "Scenario",
    "Sensitivity",
    "SessionBudget",
    "Single",
    "Sticky",
    "Strategy",
    "Summary",
    "Sweep",
    "Threshold",
    "TokenPrices",
    "Trial",
    "Utility",
    "Validation",
    "WhatIf",
    "__version__",
    "capacity",
    "collect",
    "cross_validate",
    "evaluate",
    "explore",
    "list_profiles",
    "load_plan",
    "load_problem_set",
    "load_profile",
    "load_scenario",
    "monitor",
    "off_policy",
    "optimize",
    "parse_policy",
    "parse_strategy",
    "register",
    "report",
    "scenario_from_dict",
    "sensitivity",
    "simulate",
    "sweep",
    "validate",
    "what_if",
    "with_changes",
]

rendered_by("ttc_sim.reporting.display")
carried_out_by("ttc_sim.deploying.runtime")


if not TYPE_CHECKING:  # for whom any name would be one otherwise

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module 'ttc_sim' has no attribute {name!r}")
        return getattr(importlib.import_module(f"ttc_sim.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
