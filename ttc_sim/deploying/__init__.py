"""A plan at work on live requests."""

from ttc_sim.deploying.decisions import Decision, Outcome, Predicted
from ttc_sim.deploying.endpoints import Endpoint, read_endpoints
from ttc_sim.deploying.runtime import Runtime

__all__ = ["Decision", "Endpoint", "Outcome", "Predicted", "Runtime", "read_endpoints"]
