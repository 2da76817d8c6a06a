"""A crowd over HTTP while the engine's process is killed, stopped, and out of memory: see tests/engine_faults.py."""

from pathlib import Path

from serving.engine.watch import Patience
from tests.engine_faults import faults


def test_nothing_is_lost_whatever_becomes_of_the_process(demo_model: Path) -> None:
    kinds = ("killed", "stopped", "no memory")
    rounds = faults(demo_model, kinds, clients=16, seed=1, patience=Patience(tick=0.1, idle=5.0))
    assert sum(each.ends["engine_stopped"] for each in rounds) > 3
