"""Workloads: when requests arrive and, where the process carries them, how long they are."""

from ttc_sim.workload.generating import generate
from ttc_sim.workload.lengths import with_lengths
from ttc_sim.workload.merging import Arrived, Part, arrive
from ttc_sim.workload.traffic import Traffic

__all__ = ["Arrived", "Part", "Traffic", "arrive", "generate", "with_lengths"]
