"""Private by default: the program on a local model, a real browser, and nobody else hears of it."""

import ast
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import Browser, expect

from tests.page.test_browser import Chat, browser, no_litter
from tests.servers import asked, ended
from tests.test_app import ROOT

__all__ = ["browser", "no_litter"]
SECRET = "the zebra's name is Quagmire"
SWITCHES = ("ORT_DISABLE_TELEMETRY", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE", "CI")
# Runs in every Python process of the program, the engine's too.
WATCH = """
import os, sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        target = arguments[0] if event.startswith("socket.get") else arguments[1]
        with open(os.environ["WATCH_LOG"], "a") as log:
            log.write(repr((event, target)) + "\\n")
sys.addaudithook(hook)
"""


def is_here(address: str) -> bool:
    return ip_address(address).is_loopback


class Connections(threading.Thread):
    """Looks at the sockets of a process and its children, where native libraries' show too."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self.process, self.elsewhere, self.looks, self.ended = process, set[str](), 0, threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.02):
            for process in [self.process, *self.process.children(recursive=True)]:
                try:
                    remotes = [connection.raddr.ip for connection in process.net_connections() if connection.raddr]
                except psutil.Error:
                    continue
                self.looks += 1
                self.elsewhere |= {address for address in remotes if not is_here(address)}


@contextmanager
def program(model: Path, home: Path) -> Iterator[tuple[str, Path, "subprocess.Popen[str]"]]:
    """The program without a word about telemetry; its address, and what its Python processes looked up."""
    (home / "sitecustomize.py").write_text(WATCH)
    log = home / "connections"
    log.touch()
    kept = {name: value for name, value in os.environ.items() if name not in SWITCHES}
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", "0", "--model", str(model)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**kept, "PYTHONPATH": str(home), "WATCH_LOG": str(log), "HOME": str(home)},
    )  # fmt: skip
    assert process.stdout
    try:
        yield process.stdout.readline().split()[-1].rstrip("/"), log, process
    finally:
        if process.poll() is None:
            ended(process)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_nothing_leaves_this_machine_and_no_message_is_kept(demo_model: Path, tmp_path: Path, browser: Browser) -> None:
    with program(demo_model, tmp_path) as (url, log, process):
        watching = Connections(psutil.Process(process.pid))
        watching.start()
        hosts: set[str | None] = set()
        context = browser.new_context()
        context.set_default_timeout(20_000)
        context.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
        chat = Chat(context.new_page(), url)
        chat.ask(SECRET)
        expect(chat.answers).to_have_count(1)
        body = {"model": "demo", "messages": [{"role": "user", "content": SECRET}], "max_tokens": 20}
        assert asked(url, "/v1/chat/completions", body)[0] == 200
        assert asked(url, "/v1/chat/completions", {**body, "wrong": SECRET})[0] == 400
        assert asked(url, "/v1/chat/completions", SECRET.encode())[0] == 400
        assert SECRET not in asked(url, "/metrics")[2].decode()
        context.close()
        watching.ended.set()
        watching.join()
        out, errors = ended(process)
    assert hosts <= {"127.0.0.1", None}
    assert watching.looks > 10 and not watching.elsewhere
    targets = [ast.literal_eval(line)[1] for line in log.read_text().splitlines()]
    names = {target[0] if isinstance(target, tuple) else target for target in targets}
    assert {name for name in names if name} <= {"127.0.0.1", "localhost", "::1"}, names
    assert SECRET not in out + errors
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file


def test_the_watch_would_see_a_connection(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    log = tmp_path / "connections"
    code = "import socket\ntry: socket.create_connection(('192.0.2.1', 9), timeout=0.01)\nexcept OSError: pass"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "WATCH_LOG": str(log)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert "192.0.2.1" in log.read_text()
