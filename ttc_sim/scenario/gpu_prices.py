"""What an hour of a GPU costs unless the scenario says so: dated list prices with their origin.

A planner pays another price: spot, reserved for years, or a neocloud's. ``usd_per_replica_hour`` in the scenario replaces these.
"""

from __future__ import annotations

from typing import NamedTuple


class GpuPrice(NamedTuple):
    """List price of one GPU, on demand.

    Attributes:
        usd_per_hour: of one GPU; a share of the node where only whole nodes are sold.
        on: day that it was read, ``YYYY-MM-DD``.
        origin: who asks it.
    """

    usd_per_hour: float
    on: str
    origin: str


_HYPERSTACK = "Hyperstack, on demand, hyperstack.cloud/gpu-pricing"
_COREWEAVE = "CoreWeave, on demand, coreweave.com/pricing"

GPU_PRICES: dict[str, GpuPrice] = {
    "a100_sxm": GpuPrice(1.60, "2026-08-26", _HYPERSTACK),
    "h100_sxm": GpuPrice(3.20, "2026-08-26", _HYPERSTACK),
    "h200_sxm": GpuPrice(3.99, "2026-08-26", _HYPERSTACK),
    "b200_sxm": GpuPrice(6.00, "2026-08-26", _HYPERSTACK),
    "b300_sxm": GpuPrice(7.40, "2026-08-26", _HYPERSTACK),
    "rtx_pro_6000_server": GpuPrice(1.85, "2026-08-26", _HYPERSTACK),
    "l40s": GpuPrice(18.00 / 8, "2026-09-20", _COREWEAVE + ", node of 8"),
    "gb200": GpuPrice(42.00 / 4, "2026-09-20", _COREWEAVE + ", tray of 4"),
}
"""By the catalogue's name of the GPU."""

GPUS_WITHOUT_PRICE = ("b60", "gb300")
"""Of the catalogue's GPUs, those for which no public list price was found; GB300s are sold by quotation."""
