"""Open WebUI: its server started, the model in its list, a question asked through it, whole and streamed."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

with socket.create_server(("127.0.0.1", 0)) as free:
    port = free.getsockname()[1]
settings = {
    "WEBUI_AUTH": "False", "ENABLE_OLLAMA_API": "False", "OFFLINE_MODE": "True", "DATA_DIR": str(Path.cwd() / "data"),
    "RAG_EMBEDDING_ENGINE": "openai", "ENABLE_VERSION_UPDATE_CHECK": "False", "WEBUI_SECRET_KEY": "x" * 32,
    "OPENAI_API_BASE_URL": os.environ["OPENAI_BASE_URL"],
}  # fmt: skip
url, headers = f"http://127.0.0.1:{port}", {"content-type": "application/json"}


def asked(path: str, body: object = None) -> bytes:
    """What Open WebUI replies."""
    content = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url + path, content, headers), timeout=120) as reply:
        return reply.read()


def ready() -> bool:
    """Whether it answers yet."""
    try:
        return bool(asked("/health"))
    except (urllib.error.URLError, ConnectionError):
        return False


command = [str(Path(sys.executable).parent / "open-webui"), "serve", "--host", "127.0.0.1", "--port", str(port)]
server = subprocess.Popen(command, env={**os.environ, **settings})
try:
    until = time.monotonic() + 300
    while not ready():
        assert server.poll() is None and time.monotonic() < until, "it did not start"
        time.sleep(1)
    token = json.loads(asked("/api/v1/auths/signin", {"email": "", "password": ""}))["token"]
    headers["authorization"] = f"Bearer {token}"
    model = os.environ["MODEL"]
    assert model in [each["id"] for each in json.loads(asked("/api/models"))["data"]]
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    whole = json.loads(asked("/api/chat/completions", {**body, "stream": False}))
    assert whole["choices"][0]["message"]["content"]
    assert b"data: [DONE]" in asked("/api/chat/completions", {**body, "stream": True})
finally:
    server.terminate()
    server.wait(60)
