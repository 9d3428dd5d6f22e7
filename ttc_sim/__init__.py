"""Plan test-time compute before you deploy: accuracy, cost and latency from measured data.

>>> import ttc_sim as ttc
>>> scenario = ttc.load_scenario("reasoning-gateway")
>>> result = ttc.simulate(scenario)  # doctest: +SKIP
>>> plan = ttc.optimize(scenario)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ttc_sim.base.errors import InputError
    from ttc_sim.evaluation.evaluate import Evaluation, evaluate
    from ttc_sim.measured.profiles import list_profiles, load_problem_set, load_profile
    from ttc_sim.optimizer.cross_validating import CrossValidation, cross_validate
    from ttc_sim.optimizer.plan import Plan, load_plan
    from ttc_sim.optimizer.planning import optimize
    from ttc_sim.optimizer.validating import Validation, validate
    from ttc_sim.policies import Always, Banded, PerSource, Threshold, Utility
    from ttc_sim.predictor import Predictor
    from ttc_sim.scenario import Scenario, load_scenario
    from ttc_sim.simulation.result import Result, simulate
    from ttc_sim.strategies import BestOfN, BudgetForcing, Cascade, MajorityVote, Single

# Names are looked up when they are first used, so that `import ttc_sim` stays well under a second.
_HOME = {
    "Always": "policies",
    "Banded": "policies",
    "BestOfN": "strategies",
    "BudgetForcing": "strategies",
    "Cascade": "strategies",
    "CrossValidation": "optimizer.cross_validating",
    "Evaluation": "evaluation.evaluate",
    "InputError": "base.errors",
    "LeastLoaded": "policies",
    "MajorityVote": "strategies",
    "Overflow": "policies",
    "PerSource": "policies",
    "Plan": "optimizer.plan",
    "Predictor": "predictor",
    "Result": "simulation.result",
    "Scenario": "scenario",
    "Single": "strategies",
    "Threshold": "policies",
    "Utility": "policies",
    "Validation": "optimizer.validating",
    "cross_validate": "optimizer.cross_validating",
    "evaluate": "evaluation.evaluate",
    "list_profiles": "measured.profiles",
    "load_plan": "optimizer.plan",
    "load_problem_set": "measured.profiles",
    "load_profile": "measured.profiles",
    "load_scenario": "scenario",
    "optimize": "optimizer.planning",
    "register": "base.plugins",
    "simulate": "simulation.result",
    "validate": "optimizer.validating",
}

__all__ = [
    "Always",
    "Banded",
    "BestOfN",
    "BudgetForcing",
    "Cascade",
    "CrossValidation",
    "Evaluation",
    "InputError",
    "MajorityVote",
    "PerSource",
    "Plan",
    "Predictor",
    "Result",
    "Scenario",
    "Single",
    "Threshold",
    "Utility",
    "Validation",
    "__version__",
    "cross_validate",
    "evaluate",
    "list_profiles",
    "load_plan",
    "load_problem_set",
    "load_profile",
    "load_scenario",
    "optimize",
    "simulate",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ttc_sim' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ttc_sim.{_HOME[name]}"), name)
