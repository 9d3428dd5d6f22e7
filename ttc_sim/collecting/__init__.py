"""A live endpoint, measured: prompts are asked, and answers become a table of attempts."""

from __future__ import annotations

from ttc_sim.collecting.carrying_out import Collecting, DryRun
from ttc_sim.collecting.planning import collect, plan_collecting
from ttc_sim.collecting.tabulating import Collected

__all__ = ["Collected", "Collecting", "DryRun", "collect", "plan_collecting"]
