"""Open WebUI: its server started, the model in its list, questions, and a tool run by native calls and by a prompt."""

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
    "CHAT_RESPONSE_MAX_TOOL_CALL_ITERATIONS": "1",  # a model that has to call would call again and again
}  # fmt: skip
ran = Path.cwd() / "ran"
TOOL = f'''
from typing import Literal


class Tools:
    def weather(self, city: Literal["Rome", "Oslo"]) -> str:
        """
        What the weather is.
        :param city: the city
        """
        with open({str(ran)!r}, "a") as file:
            file.write(city + "\\n")
        return "sunny in " + city
'''
url, headers = f"http://127.0.0.1:{port}", {"content-type": "application/json"}


def asked(path: str, body: object = None) -> bytes:
    """What Open WebUI replies."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, content, headers)
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.read()
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{path}: {error.read().decode()}") from error


def in_a_chat(model: str, params: dict[str, object]) -> dict[str, object]:
    """Ask in a new chat, with the tool. Returns the answer, as the chat keeps it."""
    question, answer = {"id": "q", "role": "user", "content": "hello"}, {"id": "a", "role": "assistant", "content": ""}
    messages = {"q": {**question, "parentId": None, "childrenIds": ["a"]}, "a": {**answer, "parentId": "q"}}
    history = {"currentId": "a", "messages": messages}
    chat = json.loads(asked("/api/v1/chats/new", {"chat": {"title": "t", "models": [model], "history": history}}))["id"]
    said = {"messages": [{"role": "user", "content": "hello"}], "tool_ids": ["weather"], "stream": True}
    asked("/api/chat/completions", {**said, "model": model, "params": params, "chat_id": chat, "id": "a"})
    return json.loads(asked(f"/api/v1/chats/{chat}"))["chat"]["history"]["messages"]["a"]


def ready() -> bool:
    """Whether it answers yet."""
    try:
        return bool(asked("/health"))
    except (urllib.error.URLError, ConnectionError, RuntimeError):
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
    asked("/api/v1/tools/create", {"id": "weather", "name": "weather", "content": TOOL, "meta": {}})
    # Whether to call is left to the model: it is answered, by whatever the model says.
    left = json.loads(asked("/api/chat/completions", {**body, "tool_ids": ["weather"], "stream": False}))
    assert left["choices"][0]["message"], left
    kept = in_a_chat(model, {"max_tokens": 300, "custom_params": {"tool_choice": "required"}})
    assert ran.read_text().split() and "sunny in" in json.dumps(kept["output"]), kept
    # By its own prompt the model says in JSON what to call; this one cannot say anything else.
    city = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]}
    call = {"type": "object", "properties": {"name": {"enum": ["weather"]}, "parameters": city}}
    form = {
        "type": "json_schema",
        "json_schema": {"name": "call", "schema": {**call, "required": [*call["properties"]]}},
    }
    must = {"max_tokens": 300, "custom_params": {"response_format": form}}
    asked(
        "/api/v1/models/create",
        {"id": "caller", "base_model_id": model, "name": "caller", "meta": {}, "params": must},
    )
    assert "caller" in [each["id"] for each in json.loads(asked("/api/models"))["data"]]
    ran.unlink()
    in_a_chat("caller", {"function_calling": "legacy"})
    assert ran.read_text().split()
finally:
    server.terminate()
    server.wait(60)
