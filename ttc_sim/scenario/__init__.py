"""Everything a user can say: the scenario, one YAML file, validated.

Units stand in the names: seconds, tokens, US dollars. Shares and probabilities are 0 to 1.
"""

from ttc_sim.scenario.api_cache import ApiCache
from ttc_sim.scenario.autoscaling_search import AutoscalingRule
from ttc_sim.scenario.budget import DailyBudget, SourceBudget, SpendingBudget
from ttc_sim.scenario.budget_checks import check_degraded, first_turn_s
from ttc_sim.scenario.changes import as_plain, as_scenario, changed, checked, with_changes
from ttc_sim.scenario.deployments import (
    Api,
    GpuPool,
    Latency,
    LayerStepTime,
    LinearStepTime,
    PhysicsStepTime,
    StepTime,
    has_fixed_cost,
)
from ttc_sim.scenario.document import MOST_REPLICATIONS, Arm, Scenario
from ttc_sim.scenario.failing import Errors, Outage, PoolRetry, Retry, Slow
from ttc_sim.scenario.fleet import Autoscaling, Failure, Failures, ScaleRule, ScheduleStep, StartUp
from ttc_sim.scenario.hardware import PoolOption, PoolSearch
from ttc_sim.scenario.lengths import Lengths, LogNormal
from ttc_sim.scenario.load import find_scenario, load_scenario, read_mapping, scenario_from_dict
from ttc_sim.scenario.price import Price, PriceChange, PriceHours
from ttc_sim.scenario.search import CascadeSearch, Search
from ttc_sim.scenario.sessions import Compact, Sessions
from ttc_sim.scenario.shapes import Shape
from ttc_sim.scenario.speculative import Speculative
from ttc_sim.scenario.targets import Slo, SourceTargets, Target, Targets
from ttc_sim.scenario.tiers import Tier
from ttc_sim.scenario.traffic import (
    Arrivals,
    Clients,
    ClosedLoop,
    Columns,
    Even,
    Piecewise,
    Poisson,
    Renewal,
    Source,
    Step,
    Stream,
    Trace,
    Workload,
)

__all__ = [
    "MOST_REPLICATIONS",
    "Api",
    "ApiCache",
    "Arm",
    "Arrivals",
    "Autoscaling",
    "AutoscalingRule",
    "CascadeSearch",
    "Clients",
    "ClosedLoop",
    "Columns",
    "Compact",
    "DailyBudget",
    "Errors",
    "Even",
    "Failure",
    "Failures",
    "GpuPool",
    "Latency",
    "LayerStepTime",
    "Lengths",
    "LinearStepTime",
    "LogNormal",
    "Outage",
    "PhysicsStepTime",
    "Piecewise",
    "Poisson",
    "PoolOption",
    "PoolRetry",
    "PoolSearch",
    "Price",
    "PriceChange",
    "PriceHours",
    "Renewal",
    "Retry",
    "ScaleRule",
    "Scenario",
    "ScheduleStep",
    "Search",
    "Sessions",
    "Shape",
    "Slo",
    "Slow",
    "Source",
    "SourceBudget",
    "SourceTargets",
    "Speculative",
    "SpendingBudget",
    "StartUp",
    "Step",
    "StepTime",
    "Stream",
    "Target",
    "Targets",
    "Tier",
    "Trace",
    "Workload",
    "as_plain",
    "as_scenario",
    "changed",
    "check_degraded",
    "checked",
    "find_scenario",
    "first_turn_s",
    "has_fixed_cost",
    "load_scenario",
    "read_mapping",
    "scenario_from_dict",
    "with_changes",
]
