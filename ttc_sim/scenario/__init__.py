"""Everything a user can say: the scenario, one YAML file, validated.

Units stand in the names: seconds, tokens, US dollars. Shares and probabilities are 0 to 1.
"""

from ttc_sim.scenario.deployments import (
    Api,
    GpuPool,
    Latency,
    LayerStepTime,
    LinearStepTime,
    PhysicsStepTime,
    Price,
    Retry,
)
from ttc_sim.scenario.document import Arm, Scenario, Search, Targets
from ttc_sim.scenario.load import find_scenario, load_scenario, scenario_from_dict
from ttc_sim.scenario.traffic import (
    Clients,
    ClosedLoop,
    Columns,
    Even,
    Piecewise,
    Poisson,
    Renewal,
    Source,
    Step,
    Trace,
    Workload,
)

__all__ = [
    "Api",
    "Arm",
    "Clients",
    "ClosedLoop",
    "Columns",
    "Even",
    "GpuPool",
    "Latency",
    "LayerStepTime",
    "LinearStepTime",
    "PhysicsStepTime",
    "Piecewise",
    "Poisson",
    "Price",
    "Renewal",
    "Retry",
    "Scenario",
    "Search",
    "Source",
    "Step",
    "Targets",
    "Trace",
    "Workload",
    "find_scenario",
    "load_scenario",
    "scenario_from_dict",
]
