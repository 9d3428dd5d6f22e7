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
    from ttc_sim.measured.folders import list_profiles
    from ttc_sim.measured.problem_sets import load_problem_set
    from ttc_sim.measured.profiles import load_profile
    from ttc_sim.optimizer.plan import Plan, load_plan
    from ttc_sim.optimizer.search import optimize
    from ttc_sim.optimizer.validate import Validation, validate
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
    "Validation": "optimizer.validate",
    "evaluate": "evaluation.evaluate",
    "list_profiles": "measured.folders",
    "load_plan": "optimizer.plan",
    "load_problem_set": "measured.problem_sets",
    "load_profile": "measured.profiles",
    "load_scenario": "scenario",
    "optimize": "optimizer.search",
    "register": "base.plugins",
    "simulate": "simulation.result",
    "validate": "optimizer.validate",
}

__all__ = [
    "Always",
    "Banded",
    "BestOfN",
    "BudgetForcing",
    "Cascade",
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
