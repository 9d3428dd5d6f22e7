"""A plan at work on live requests."""

from ttc_sim.deploying.live_plan import LivePlan, Route

__all__ = ["LivePlan", "Route"]
