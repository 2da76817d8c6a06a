"""The API on the real demo model, for modules that have no engine of their own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.engine.process import EngineProcess
from serving.types import EngineSettings
from tests.servers import api_served


@pytest.fixture(scope="module")
def worker(exact_model: Path) -> Iterator[EngineProcess]:
    with EngineProcess.load(exact_model, EngineSettings()) as worker:
        yield worker


@pytest.fixture(scope="module")
def url(worker: EngineProcess) -> Iterator[str]:
    with api_served(worker) as url:
        yield url
