"""How much memory is left, so that what cannot fit is refused before it is begun."""

from __future__ import annotations

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


def available_bytes() -> float:
    """Bytes that can be taken without swapping, within the limit of the process's control group; infinite where nobody says."""
    found = float("inf")
    try:
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found = 1024.0 * int(line.split()[1])
    except (OSError, ValueError):
        pass
    try:
        most, used = ((_GROUP / f"memory.{name}").read_text().strip() for name in ("max", "current"))
        if most != "max":
            found = min(found, max(float(most) - float(used), 0.0))
    except (OSError, ValueError):
        pass
    return found
