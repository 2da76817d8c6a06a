"""What the process may use: affinity, kinds of cores, and a container's limits, on imitated machines."""

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil
import pytest

from serving.engine.oga import OgaRuntime
from serving.folder import ModelFolder
from serving.hardware import (
    MOST_THREADS,
    allowed_processors,
    available_memory,
    cpu_quota,
    multiplies_16_bits,
    usable_cores,
)

ROOT = Path(__file__).parent.parent
linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")


def write(root: Path, files: Mapping[str, object]) -> Path:
    """Files of an imitated machine, below its root."""
    for name, content in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def processors(
    root: Path,
    cores: Iterable[Iterable[int]],
    capacities: Mapping[int, int] | None = None,
    name: str = "thread_siblings",
) -> Path:
    """The processors of each core, and the capacity of some; the rest have none, as on machines with equal cores."""
    for core in cores:
        siblings = ",".join(map(str, core))
        write(root, {f"sys/devices/system/cpu/cpu{number}/topology/{name}_list": siblings for number in core})
    return write(root, {f"sys/devices/system/cpu/cpu{n}/cpu_capacity": c for n, c in (capacities or {}).items()})


# Cores


def test_this_machine_has_cores_and_no_more_than_processors() -> None:
    assert 1 <= usable_cores() <= len(allowed_processors()) <= (psutil.cpu_count() or 1)


@linux
def test_cores_follow_the_affinity() -> None:
    code = "import os; os.sched_setaffinity(0, {0}); from serving.hardware import usable_cores; print(usable_cores())"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "1"


PLAIN = [[0], [1]]
FAR_SIBLINGS = [[n, n + 4] for n in range(4)]
NEAR_SIBLINGS = [[n, n + 1] for n in range(0, 8, 2)]


@pytest.mark.parametrize(
    ("cores", "allowed", "count"),
    [
        (PLAIN, {0, 1}, 2),  # OGA takes one thread here
        (PLAIN, {1}, 1),
        (FAR_SIBLINGS, range(8), 4),
        (FAR_SIBLINGS, {0, 4}, 1),
        (FAR_SIBLINGS, {0, 1, 2, 3}, 4),
        (NEAR_SIBLINGS, range(8), 4),
        (NEAR_SIBLINGS, {0, 1}, 1),
        (NEAR_SIBLINGS, {1, 2}, 2),
        (NEAR_SIBLINGS, {0, 1, 2}, 2),
        ([[n] for n in range(64)], range(64), MOST_THREADS),
        ([[n] for n in range(64)], range(40, 50), 10),
    ],
)
@pytest.mark.parametrize("name", ["thread_siblings", "core_cpus"])
def test_a_core_counts_once_if_one_of_its_processors_is_allowed(
    tmp_path: Path, cores: list[list[int]], allowed: Iterable[int], count: int, name: str
) -> None:
    assert usable_cores(processors(tmp_path, cores, name=name), set(allowed)) == count


@pytest.mark.parametrize(
    ("fast", "slow", "speed", "allowed", "count"),
    [
        (4, 4, 397, range(8), 4),  # four more threads would wait for slow cores
        (4, 4, 600, range(8), 8),
        (8, 4, 650, range(12), 8),
        (6, 8, 650, range(14), 14),
        (4, 4, 397, range(4, 8), 4),  # nothing but slow ones
        (4, 4, 397, range(3, 8), 5),
        (1, 3, 500, range(4), 4),
    ],
)
def test_slow_cores_count_where_their_number_makes_up_for_it(
    tmp_path: Path, fast: int, slow: int, speed: int, allowed: Iterable[int], count: int
) -> None:
    capacities = dict.fromkeys(range(fast), 1024) | dict.fromkeys(range(fast, fast + slow), speed)
    root = processors(tmp_path, [[number] for number in capacities], capacities)
    assert usable_cores(root, set(allowed)) == count


def test_without_files_about_cores_the_machines_share_counts(tmp_path: Path) -> None:
    logical = psutil.cpu_count() or 1
    assert usable_cores(tmp_path, range(logical)) == min(MOST_THREADS, psutil.cpu_count(logical=False) or logical)
    assert usable_cores(tmp_path, {0}) == 1


# A container's processors

V2 = "31 23 0:28 {root} {point} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {root} {point} rw,relatime - cgroup cgroup rw,{controllers}"


def group(root: Path, own: str, mounts: str, files: Mapping[str, object]) -> Path:
    """A process in control groups, on a machine with eight cores."""
    processors(root, [[number] for number in range(8)])
    return write(root, {"proc/self/cgroup": own, "proc/self/mountinfo": mounts, **files})


def of_version_2(root: Path, files: Mapping[str, object], own: str = "/", mounted: str = "/") -> Path:
    """The same with cgroup v2, mounted where it usually is."""
    mounts = V2.format(root=mounted, point="/sys/fs/cgroup")
    return group(root, f"0::{own}", mounts, {f"sys/fs/cgroup/{name}": content for name, content in files.items()})


@pytest.mark.parametrize(
    ("quota", "threads"),
    [
        ("max 100000", 8),
        ("400000 100000", 4),
        ("350000 100000", 4),  # seven eighths for each of four
        ("340000 100000", 3),
        ("175000 100000", 2),
        ("150000 100000", 1),  # two threads were slower here than one
        ("75000 50000", 1),
        ("20000 100000", 1),
        ("900000 100000", 8),
    ],
)
def test_threads_follow_a_quota(tmp_path: Path, quota: str, threads: int) -> None:
    assert usable_cores(of_version_2(tmp_path, {"cpu.max": quota}), range(8)) == threads


def test_a_quota_counts_above_the_process_and_nowhere_else(tmp_path: Path) -> None:
    files = {
        "cpu.max": "600000 100000",
        "app/cpu.max": "300000 100000",
        "app/own/cpu.max": "700000 100000",
        "app/own/below/cpu.max": "max 100000",
        "other/cpu.max": "100000 100000",
    }
    assert cpu_quota(of_version_2(tmp_path, files, own="/app/own/below")) == 3.0
    assert cpu_quota(of_version_2(tmp_path, files, own="/other")) == 1.0
    assert cpu_quota(of_version_2(tmp_path, files, own="/")) == 6.0


@pytest.mark.parametrize(
    ("own", "mounted"), [("/docker/abc", "/docker/abc"), ("/../..", "/"), ("/host/path", "/docker")]
)
def test_a_container_that_sees_its_own_group_as_the_topmost(tmp_path: Path, own: str, mounted: str) -> None:
    assert cpu_quota(of_version_2(tmp_path, {"cpu.max": "250000 100000"}, own, mounted)) == 2.5


def test_a_group_inside_such_a_container(tmp_path: Path) -> None:
    files = {"cpu.max": "250000 100000", "inner/cpu.max": "150000 100000"}
    assert cpu_quota(of_version_2(tmp_path, files, "/docker/abc/inner", "/docker/abc")) == 1.5


@pytest.mark.parametrize(("quota", "expected"), [("150000", 1.5), ("-1", None)])
@pytest.mark.parametrize("mounted", ["/", "/docker/abc"])
def test_a_quota_of_version_1(tmp_path: Path, quota: str, expected: float | None, mounted: str) -> None:
    own = "5:cpuset:/\n4:cpu,cpuacct:/docker/abc\n0::/elsewhere"
    mounts = "\n".join([
        V1.format(root="/", point="/sys/fs/cgroup/cpuset", controllers="cpuset"),
        V1.format(root=mounted, point="/sys/fs/cgroup/cpu,cpuacct", controllers="cpu,cpuacct"),
        V2.format(root="/", point="/sys/fs/cgroup/unified"),
    ])  # fmt: skip
    folder = "sys/fs/cgroup/cpu,cpuacct" + ("/docker/abc" if mounted == "/" else "")
    files = {
        f"{folder}/cpu.cfs_quota_us": quota,
        f"{folder}/cpu.cfs_period_us": 100000,
        "sys/fs/cgroup/cpuset/cpu.cfs_quota_us": 10000,  # of another controller
        "sys/fs/cgroup/cpuset/cpu.cfs_period_us": 100000,
    }
    assert cpu_quota(group(tmp_path, own, mounts, files)) == expected


def test_no_groups_and_unreadable_ones_are_no_limit(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None
    assert cpu_quota(of_version_2(tmp_path, {"cpu.max": "nonsense"})) is None


# Threads


@linux
@pytest.mark.parametrize("threads", [1, 3])
def test_the_runtime_has_as_many_threads_as_it_is_told(exact_model: Path, threads: int) -> None:
    before = len(os.listdir("/proc/self/task"))
    runtime = OgaRuntime(ModelFolder.open(exact_model), None, threads)
    assert len(os.listdir("/proc/self/task")) == before + threads - 1  # the calling thread is one
    del runtime


# Memory


def meminfo(root: Path, available: int) -> Path:
    """A machine with so many bytes available."""
    return write(root, {"proc/meminfo": f"MemTotal: 9000000 kB\nMemAvailable:   {available // 1024} kB"})


def test_this_machine_has_memory() -> None:
    assert 0 < available_memory() <= psutil.virtual_memory().total


def test_memory_is_what_the_machine_has_available(tmp_path: Path) -> None:
    assert available_memory(meminfo(tmp_path, 512 << 20)) == 512 << 20
    assert available_memory(of_version_2(tmp_path, {"memory.max": "max", "memory.current": 1000})) == 512 << 20


def test_memory_is_what_a_containers_limit_leaves(tmp_path: Path) -> None:
    root = of_version_2(meminfo(tmp_path, 1 << 30), {"memory.max": 1_000_000, "memory.current": 400_000})
    assert available_memory(root) == 600_000
    write(root, {"sys/fs/cgroup/memory.current": 1_400_000})
    assert available_memory(root) == 0
    write(root, {"sys/fs/cgroup/memory.current": 0})
    assert available_memory(root) == 1_000_000


def test_what_a_container_has_read_from_files_does_not_count_as_used(tmp_path: Path) -> None:
    files = {"memory.max": 1_000_000, "memory.current": 900_000, "memory.stat": "anon 200000\ninactive_file 700000"}
    assert available_memory(of_version_2(meminfo(tmp_path, 1 << 30), files)) == 800_000


def test_memory_of_version_1_and_of_groups_above(tmp_path: Path) -> None:
    mounts = V1.format(root="/", point="/sys/fs/cgroup/memory", controllers="memory")
    files = {
        "sys/fs/cgroup/memory/memory.limit_in_bytes": 2**63 - 4096,  # no limit
        "sys/fs/cgroup/memory/memory.usage_in_bytes": 5_000_000,
        "sys/fs/cgroup/memory/app/memory.limit_in_bytes": 3_000_000,
        "sys/fs/cgroup/memory/app/memory.usage_in_bytes": 2_500_000,
        "sys/fs/cgroup/memory/app/memory.stat": "inactive_file 1\ntotal_inactive_file 100000",
        "sys/fs/cgroup/memory/app/own/memory.limit_in_bytes": 2_000_000,
        "sys/fs/cgroup/memory/app/own/memory.usage_in_bytes": 100_000,
    }
    root = group(meminfo(tmp_path, 1 << 30), "3:memory:/app/own", mounts, files)
    assert available_memory(root) == 600_000


@pytest.mark.parametrize(
    ("cpuinfo", "fast"),
    [
        ("flags\t\t: fpu avx2 f16c\nmodel name\t: old", False),
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", True),
        ("Features\t: fp asimd bf16", True),  # not an x86
    ],
)
def test_a_processor_that_only_emulates_16_bits_is_known(tmp_path: Path, cpuinfo: str, fast: bool) -> None:
    assert multiplies_16_bits(write(tmp_path, {"proc/cpuinfo": cpuinfo})) is fast
    assert multiplies_16_bits(tmp_path / "nothing")
