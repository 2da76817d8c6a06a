"""A range of replicas: another one comes while people wait, on a real Ray (see test_replicas.py)."""

from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from serving.engine.remote import RemoteEngine
from serving.types import Message, Replicas, complete
from tests.cluster.test_replicas import SETTINGS, pytestmark  # noqa: F401 - the marks are this module's too
from tests.replicas import LONG
from tests.waiting import eventually


def replicas() -> int:
    """How many there are."""
    return sum("ServeReplica" in " ".join(each.cmdline()) for each in psutil.Process().children(recursive=True))


def test_another_replica_comes_while_people_wait_and_answers(demo_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serving.cluster.start import on_replicas

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ended = Event()

    def one(engine: RemoteEngine, number: int) -> None:
        while not ended.is_set():
            complete(engine.generate([Message("user", f"Story {number}.")], LONG, ended.is_set))

    with on_replicas(Replicas(1, 2), demo_model, SETTINGS) as engine:
        engine.warm_up()
        assert replicas() == 1
        threads = [Thread(target=one, args=(engine, number)) for number in range(12)]
        for thread in threads:
            thread.start()
        try:
            eventually(lambda: replicas() == 2, 180)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert complete(engine.generate([Message("user", "What is 17+25?")])).text
