"""What the process may use: affinity, and a container's limits."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from serving.hardware import available_memory, usable_cores


def test_cores_are_those_of_the_machine_at_most(tmp_path: Path) -> None:
    assert 1 <= usable_cores(tmp_path) <= (psutil.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity on this system")
def test_cores_follow_the_affinity() -> None:
    code = "import os; os.sched_setaffinity(0, {0}); from serving.hardware import usable_cores; print(usable_cores())"
    root = Path(__file__).parent.parent
    result = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "1"


@pytest.mark.parametrize(("quota", "cores"), [("50000 100000", 1), ("100000 100000", 1)])
def test_cores_follow_a_containers_quota(tmp_path: Path, quota: str, cores: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert usable_cores(tmp_path) == cores


def test_without_a_quota_all_cores_count(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("max 100000")
    assert usable_cores(tmp_path) == usable_cores(tmp_path / "none")


def test_memory_is_what_a_containers_limit_leaves(tmp_path: Path) -> None:
    free = available_memory(tmp_path)
    assert 0 < free <= psutil.virtual_memory().total
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert available_memory(tmp_path) == 600_000
    (tmp_path / "memory.current").write_text("1400000\n")
    assert available_memory(tmp_path) == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) > 1_000_000
