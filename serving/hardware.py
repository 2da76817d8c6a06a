"""What this process may use of the machine."""

import math
import os
from pathlib import Path

import psutil

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Physical cores this process may run on, respecting CPU affinity and a container's quota; at least 1.

    Two hardware threads of one core share its arithmetic units, so more threads than cores only slow decoding down.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    allowed = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    logical = psutil.cpu_count() or allowed
    physical = psutil.cpu_count(logical=False) or logical
    cores = math.ceil(allowed * physical / logical)
    quota = _quota(cgroup)
    return max(1, min(cores, math.ceil(quota)) if quota else cores)


def available_memory(cgroup: Path = CGROUP) -> int:
    """Bytes that can still be allocated without swapping, also inside a container with a memory limit."""
    available = int(psutil.virtual_memory().available)
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):
        return available
    return available if limit == "max" else max(0, min(available, int(limit) - used))


def _quota(cgroup: Path) -> float | None:
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else int(quota) / int(period)
