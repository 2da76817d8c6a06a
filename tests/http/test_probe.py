"""The health check of a container: well or not, whatever the server asks for."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.responses import Response
from starlette.routing import Route

from serving.engine.process import EngineProcess
from serving.http import probe
from serving.http.access import Access
from serving.http.server import Server, make_app
from tests.servers import api_served


def test_a_server_is_well_with_its_key_and_where_it_asks_for_one(
    worker: EngineProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api_served(worker, access=Access(keys=("s3cret",))) as url:
        monkeypatch.delenv("OGA_CHAT_API_KEYS", raising=False)
        assert probe.main([f"{url}/health"]) == 0  # it asks for a key: it is there
        monkeypatch.setenv("OGA_CHAT_API_KEYS", "s3cret another")
        for _ in range(20):  # a wrong key would be refused for a while after eight
            assert probe.main([f"{url}/health"]) == 0


def test_a_server_that_is_not_well_or_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OGA_CHAT_API_KEYS", raising=False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert probe.main([f"http://127.0.0.1:{free.getsockname()[1]}/health"]) == 1
    server = Server(make_app([Route("/health", lambda _: Response(status_code=503))]), "127.0.0.1", 0)
    try:
        assert probe.main([f"{server.url}health"]) == 1
    finally:
        server.close()


def test_it_imports_nothing_of_ours(tmp_path: Path) -> None:
    command = [sys.executable, "-I", probe.__file__, "http://127.0.0.1:1/health"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (1, "", "")
