"""How many cores there are to compute on."""

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


def num_cores() -> int:
    """The cores that this process may use: no more than its container's limit, rounded up."""
    cores = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    return math.ceil(min(cores, _quota()))


def _quota() -> float:
    """The least `cpu.max` of this process's cgroup and those around it, in cores.

    Of version 2, in which a container sees its own cgroup as the outermost.
    """
    try:
        lines = OWN_CGROUP.read_text().splitlines()
    except OSError:  # no Linux
        return math.inf
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = CGROUPS / own.lstrip("/")
    return min(_limit(each) for each in (folder, *folder.parents))


def _limit(cgroup: Path) -> float:
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return max(int(quota) / int(period), 1)
    except (OSError, ValueError, ZeroDivisionError):  # there is none; "max"
        return math.inf
