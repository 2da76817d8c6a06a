"""What this process may use of the machine: its cores and its memory, also inside a container.

`root` is where /proc and /sys are; another one stands for another machine.
"""

import math
import os
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")
# A thread that has used up its share of a quota stops in the middle of a pass, and the others wait for it. Of two
# threads with 7/8 of a processor each, decoding was 1.4 times as fast as on one thread; with 3/4, 0.8 times.
FULL_ENOUGH = 7 / 8
MOST_THREADS = 16  # beyond it, as OGA itself has it, threads cost more in waiting for each other than they compute


def usable_cores(root: Path = ROOT, allowed: Collection[int] | None = None) -> int:
    """How many threads to compute with: the cores this process may really use, from 1 to MOST_THREADS.

    allowed: numbers of the processors it may run on; None asks the system. Two hardware threads of one core share its
    arithmetic units, so a core counts once. Under a container's quota each thread has FULL_ENOUGH of a processor.
    """
    allowed = allowed_processors() if allowed is None else allowed
    quota = cpu_quota(root)
    cores = balanced(core_speeds(root, allowed))
    return max(1, min(cores, MOST_THREADS, int(quota / FULL_ENOUGH) if quota else cores))


def multiplies_16_bits(root: Path = ROOT) -> bool:
    """Whether products of 16-bit numbers are computed by the processor, and not ten times slower than float32's.

    Of x86 those with AVX-512 do; where the system does not say, true.
    """
    flags = [line for line in (_text(root / "proc/cpuinfo") or "").splitlines() if line.startswith("flags")]
    return all("avx512f" in line.split() for line in flags)


def allowed_processors() -> Collection[int]:
    """Numbers of the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    import psutil

    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        return process.cpu_affinity() or [0]
    return range(os.cpu_count() or 1)


def core_speeds(root: Path, allowed: Collection[int]) -> list[float]:
    """The speed of each physical core that has one of these processors, relative to the machine's fastest kind."""
    found: dict[str, float] = {}
    for number in allowed:
        folder = root / "sys/devices/system/cpu" / f"cpu{number}"
        # The first name is the older one; both list the processors of one core.
        siblings = _text(folder / "topology/thread_siblings_list") or _text(folder / "topology/core_cpus_list")
        if siblings is None:
            return _speeds_elsewhere(len(allowed))
        found[siblings] = _number(folder / "cpu_capacity") or 1024.0  # only machines with cores of several kinds say
    fastest = max(found.values(), default=1.0)
    return [speed / fastest for speed in found.values()]


def balanced(speeds: Collection[float]) -> int:
    """How many of the fastest cores compute most, if each gets an equal part and all wait for the slowest."""
    ranked = sorted(speeds, reverse=True)
    return max(range(1, len(ranked) + 1), key=lambda count: count * ranked[count - 1], default=1)


def _speeds_elsewhere(allowed: int) -> list[float]:
    """Where no file tells of cores: the share of the machine's that so many processors make."""
    import psutil

    logical = psutil.cpu_count() or allowed
    physical = psutil.cpu_count(logical=False) or logical
    cores = math.ceil(allowed * physical / logical)
    if sys.platform == "darwin":
        import subprocess

        command = ["sysctl", "-n", "hw.perflevel0.physicalcpu"]  # the fast ones; Macs with Intel do not know it
        fast = subprocess.run(command, capture_output=True, text=True).stdout.strip()
        cores = min(cores, int(fast)) if fast.isdecimal() else cores
    return [1.0] * cores


def cpu_quota(root: Path = ROOT) -> float | None:
    """Processors' worth of time that a container may use, the least of what any group above it leaves; or None."""
    found = []
    for folder in _groups(root, "cpu"):
        if limit := _text(folder / "cpu.max"):  # cgroup v2
            quota, _, period = limit.partition(" ")
        else:
            quota = _text(folder / "cpu.cfs_quota_us") or "-1"
            period = _text(folder / "cpu.cfs_period_us") or ""
        if quota.isdecimal() and period.isdecimal() and int(period):
            found.append(int(quota) / int(period))
    return min(found, default=None)


def available_memory(root: Path = ROOT) -> int:
    """Bytes that can still be allocated without swapping, also inside a container with a memory limit."""
    available = _available_on_machine(root)
    for folder in _groups(root, "memory"):
        # As version 2 calls them, and as version 1 does.
        for limit_file, used_file, spare_name in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit, used = _number(folder / limit_file), _number(folder / used_file)
            if limit is not None and used is not None:
                # Files that were read count as used, and those not in use are given up for whoever needs the memory.
                spare = _field(folder / "memory.stat", spare_name) or 0
                available = min(available, limit - used + min(spare, used))
    return max(0, available)


def _available_on_machine(root: Path) -> int:
    kibibytes = _field(root / "proc/meminfo", "MemAvailable:")
    if kibibytes is not None:
        return kibibytes * 1024
    import psutil

    return int(psutil.virtual_memory().available)


@dataclass(frozen=True, slots=True)
class Effort:
    """What a process has done since its start: processor time in seconds, bytes read from disks (0 if unknown)."""

    seconds: float
    read_bytes: int


def effort_of(pid: int) -> Effort:
    """The effort of another process; none at all where the system does not say."""
    import psutil

    seconds, read = 0.0, 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        times = process.cpu_times()
        seconds = times.user + times.system
        if hasattr(process, "io_counters"):  # not on macOS
            read = process.io_counters().read_bytes
    return Effort(seconds, read)


def peak_memory(pid: int) -> int | None:
    """The most bytes that a process has held in memory; None where the system does not say."""
    if sys.platform == "win32":
        import psutil

        with suppress(psutil.Error):
            return int(psutil.Process(pid).memory_info().peak_wset)
    kibibytes = _field(ROOT / f"proc/{pid}/status", "VmHWM:")  # ru_maxrss of a child would begin with its parent's
    return None if kibibytes is None else kibibytes << 10


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups that this process is in, its own first, where they limit what `controller` does.

    A machine may have version 1, version 2, or both; each has its own path in /proc/self/cgroup, and is mounted
    somewhere, maybe from a group other than the topmost on.
    """
    paths: dict[str, str] = {}  # by controller, "" for version 2
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        paths.update(dict.fromkeys(controllers.split(","), path))
    for line in (_text(root / "proc/self/mountinfo") or "").splitlines():
        mount, _, system = line.partition(" - ")
        kind, _, options = system.partition(" ")
        version_1 = kind == "cgroup" and controller in options.split(" ")[-1].split(",")
        joined = paths.get(controller) if version_1 else paths.get("") if kind == "cgroup2" else None
        if joined is None:
            continue
        mounted, point = mount.split(" ")[3:5]
        top = root / point.lstrip("/")
        below = joined.removeprefix(mounted) if joined.startswith(mounted) else ""
        folder = top / below.strip("/") if ".." not in below else top
        yield folder
        while folder != top:
            folder = folder.parent
            yield folder


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text and text.isdecimal() else None


def _field(path: Path, name: str) -> int | None:
    """The number behind a name at the beginning of a line."""
    for line in (_text(path) or "").splitlines():
        words = line.split()
        if words and words[0] == name:
            return int(words[1])
    return None
