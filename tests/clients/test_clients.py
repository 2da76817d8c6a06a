"""The table of clients is well formed, and one that is installed here does its part. All: `python -m tests.clients`."""

import re
import sys
from pathlib import Path

import pytest

from serving.engine.process import EngineProcess
from tests.clients import environment
from tests.clients.__main__ import HEAD, row
from tests.clients.environment import Fault, Served, used
from tests.clients.table import CLIENTS, SCRIPTS
from tests.servers import api_served
from tests.tool_template import with_tools

DOC = Path(__file__).parents[2] / "docs" / "clients.md"
BY_NAME = {client.name: client for client in CLIENTS}


def test_the_table_is_well_formed() -> None:
    assert len(BY_NAME) == len({client.script for client in CLIENTS}) == len(CLIENTS)
    assert {client.script for client in CLIENTS} == {file.name for file in SCRIPTS.iterdir() if file.is_file()}
    for client in CLIENTS:
        assert client.packages and re.fullmatch(r"\w[^|\n]+\w", client.what), client
        assert row(client, "1.0", "a|b").count("|") == HEAD.partition("\n")[0].count("|"), client


def test_the_page_tells_of_every_client() -> None:
    told = DOC.read_text(encoding="utf-8")
    for client in CLIENTS:
        assert f"| {client.name} | " in told and f" | {client.what} | " in told, client


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("openai (Python)", r"AssertionError: assert client\.models\.list"),
        ("anthropic (Python)", r"NotFoundError: .*no model 'gone' here"),
    ],
)
def test_a_client_does_its_part_and_a_fault_is_told(exact_model: Path, tmp_path: Path, name: str, fault: str) -> None:
    client = BY_NAME[name]
    model = with_tools(exact_model, tmp_path / "model")
    with EngineProcess.load(model) as engine, api_served(engine) as url:
        used(client, tmp_path, Served(url, "demo", model), tmp_path, sys.executable)
        with pytest.raises(Fault, match=fault):
            used(client, tmp_path, Served(url, "gone", model), tmp_path, sys.executable)


def test_a_script_that_does_not_end_is_ended(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"not done after 0 s"):
        environment.run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, {}, 0.1)
