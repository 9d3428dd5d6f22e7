"""A plan as other gateways and servers take it: one file for each of them, that registers its name."""

from ttc_sim.deploying.exports.target import TARGETS, Export, Target, export_plan

__all__ = ["TARGETS", "Export", "Target", "export_plan"]
