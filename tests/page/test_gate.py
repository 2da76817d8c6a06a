"""What may be sent to Gradio: what the page sends, and nothing that names a file, a component or another's tab."""

import http.client
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from starlette.routing import Mount

import serving.http.pace
import serving.page.gate
from serving.http.access import Access
from serving.http.server import Server, make_app
from serving.page.mount import mount_chat
from serving.page.ui import build_chat
from tests.page.test_ui import Speaker
from tests.pages import served, tidy
from tests.servers import asked
from tests.waiting import eventually

PREDICT, JOIN, CANCEL, RESET = (f"/gradio_api/{path}" for path in ("run/predict", "queue/join", "cancel", "reset"))
JSON = {"content-type": "application/json"}
CONTROLS = ["", 0.7, 0.95, 0, 0, 1, 512, "", "", False]
READY, STREAM, SUBMIT, EDIT, EXAMPLE, RETRY, OPTION, CLEAR = 15, 6, 0, 3, 1, 2, 4, 59


@pytest.fixture(autouse=True)
def no_litter() -> Iterator[None]:
    with tidy():
        yield


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A page whose model says little. Gradio numbers its events in the order in which ui.py wires them."""
    with tidy(), served(build_chat(Speaker("so", "."), name="m", examples=["x"])) as server:
        yield server.url.rstrip("/")


def turn(*parts: Any, role: str = "user", **more: Any) -> dict[str, Any]:
    return {"role": role, "metadata": None, "content": list(parts), "options": None, **more}


def text(text: str = "hi") -> dict[str, str]:
    return {"type": "text", "text": text}


def event(number: int, *data: Any, session: str = "tab", **more: Any) -> dict[str, Any]:
    return {"data": list(data), "fn_index": number, "session_hash": session, **more}


def posted(url: str, path: str, body: Any) -> tuple[int, bytes]:
    status, _, content = asked(url, path, body, JSON)
    return status, content


def answered(url: str, session: str) -> str:
    """Everything that a tab gets for what it has asked."""
    return asked(url, f"/gradio_api/queue/data?session_hash={session}")[2].decode()


TOLD = {"log": "5 tokens/s", "status": "pending"}
GO_ON = {"value": "continue", "label": "Continue"}
AGAIN, CHANGED = (
    {"index": 1, "value": "so"},
    {"value": "b", "previous_value": "a", "_dispatch_value": [{"type": "text", "text": "b"}]},
)


def page_for(url: str, client: str, path: str) -> int | None:
    """The status that somebody at an address gets; None where there is no answer within a second."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=1, source_address=(client, 0))
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except TimeoutError:
        return None
    finally:
        connection.close()


def test_one_clients_pages_come_one_after_the_other_while_another_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    # A server of its own: who was told to wait here would wait in the next test as well.
    with served(build_chat(Speaker("so", "."), name="m", examples=["x"])) as server:
        url = server.url.rstrip("/")
        assert [page_for(url, "127.0.0.1", "/") for _ in range(3)] == [200] * 3
        monkeypatch.setattr(serving.http.pace, "GAP_SECONDS", 60.0)
        monkeypatch.setattr(serving.http.pace, "_OTHERS_SECONDS", 60.0)
        found = [page_for(url, "127.0.0.2", "/"), page_for(url, "127.0.0.1", "/config")]
        found += [page_for(url, "127.0.0.1", path) for path in ("/", "/config", "/static/nothing.js")]
        assert found == [200, 200, None, None, 404]
        assert page_for(url, "127.0.0.3", "/") == 200


GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "a question": (PREDICT, event(SUBMIT, "more", [turn(text())], trigger_id=None)),
    "an empty chat": (PREDICT, event(SUBMIT, "hi", [])),
    "an example": (PREDICT, event(EXAMPLE, event_data={"index": 0, "value": {"text": "x"}})),
    "again": (PREDICT, event(RETRY, [turn(text()), turn(text(), role="assistant")], event_data=AGAIN)),
    "again, in parts": (PREDICT, event(RETRY, [turn(text())], event_data={"index": [0, 0], "value": [text()]})),
    "an edit": (PREDICT, event(EDIT, [turn(text())], event_data={"index": 0, **CHANGED})),
    "thoughts": (PREDICT, event(READY, [turn(text()), turn(text(), metadata={"title": "Reasoning"})], "s", "")),
    "an answer with its counts": (PREDICT, event(READY, [turn(text(), role="assistant", metadata=TOLD)], "s", "")),
    "an answer that can go on": (
        PREDICT,
        event(OPTION, [turn(text(), role="assistant", metadata=TOLD) | {"options": [GO_ON]}],
              event_data={"index": 0, "value": "continue"}),
    ),
    "no status": (PREDICT, event(READY, [turn(text())], None, None)),
    "nothing": (PREDICT, event(CLEAR, event_data=None)),
}  # fmt: skip


def test_what_the_page_sends_is_answered(url: str) -> None:
    for name, sent in GOOD.items():
        status, content = posted(url, *sent)
        assert status == 200 and "data" in json.loads(content), name


def file(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def hostile(path: str) -> dict[str, Any]:
    """Histories that make Gradio open a file, fetch an address or build a component, and others that no page sends."""
    data = file(path)
    component = {"type": "component", "constructor_args": {"value": path}, "props": {}, "value": data}
    return {
        "a file": [turn({"type": "file", "file": data})],
        "a file in a text": [turn({**text(), "file": data})],
        "a file as a text": [turn({"type": "text", "text": data})],
        "a file with the text's type": [turn({"type": "text", **data})],
        "a file for a part": [turn(data)],
        "a file for parts": [turn() | {"content": data}],
        "a file for a turn": [data],
        "a file for a history": data,
        "a file in metadata": [turn(text(), metadata={"title": "Reasoning", "log": data})],
        "a file for a title": [turn(text(), metadata={"title": data})],
        "a file among the options": [turn(text(), options=[{"value": data}])],
        "a file among two options": [turn(text()) | {"options": [GO_ON, {"value": data}]}],
        "a file in an option": [turn(text()) | {"options": [GO_ON | {"path": path}]}],
        "another option": [turn(text()) | {"options": [{"value": "x", "label": "Continue"}]}],
        "a file for options": [turn(text()) | {"options": data}],
        "a file for what is told": [turn(text(), metadata=TOLD | {"log": data})],
        "a file beside what is told": [turn(text(), metadata=TOLD | {"path": path})],
        "a title beside what is told": [turn(text(), metadata=TOLD | {"title": "Reasoning"})],
        "a long tale": [turn(text(), metadata=TOLD | {"log": "x" * 501})],
        "another status": [turn(text(), metadata=TOLD | {"status": "x"})],
        "a status alone": [turn(text(), metadata={"status": "done"})],
        "a file for a role": [turn(text(), role=cast(str, data))],
        "an address": [turn({"type": "file", "file": {**file("http://127.0.0.1:9/x"), "url": "http://127.0.0.1:9/x"}})],
        "a stream": [turn({"type": "file", "file": {**data, "is_stream": True}})],
        "a component": [turn({**component, "component": "file"})],
        "a component that runs code": [turn({**component, "component": "html"})],
        "a system's turn": [turn(text(), role="system")],
        "text for parts": [turn() | {"content": "hi"}],
        "another title": [turn(text(), metadata={"title": "x"})],
        "nothing for a role": [{"content": [text()]}],
        "more keys": [turn(text(), url="x")],
        "half a surrogate pair": [turn(text("\ud800"))],
        "a number for a text": [turn({"type": "text", "text": 1})],
        "too many turns": [turn(text()) for _ in range(1001)],
    }  # fmt: skip


def test_a_history_that_is_not_text_is_refused_wherever_it_is_sent(
    url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    private = tmp_path / "private"
    private.write_text("the key")
    for path in (str(private), "/dev/zero"):
        for name, history in hostile(path).items():
            bodies = [
                (JOIN, event(STREAM, history, [], *CONTROLS)),
                (PREDICT, event(SUBMIT, "hi", history)),
                (PREDICT, event(READY, history, "", "")), (PREDICT, event(RETRY, history)),
                (PREDICT, event(EDIT, history, event_data={"index": 0, "value": "x"})),
                (PREDICT, event(OPTION, history, event_data={"index": 0, "value": "continue"})),
            ]  # fmt: skip
            if name != "too many turns":  # before what is shown there may be more
                bodies.append((JOIN, event(STREAM, [turn(text())], history, *CONTROLS)))
            for route, body in bodies:
                status, content = posted(url, route, body)
                assert status == 400, (name, route)
                assert b"the key" not in content and str(private).encode() not in content
    assert posted(url, *GOOD["a question"])[0] == 200  # and the server is there
    assert capfd.readouterr() == ("", "") and not caplog.records
    assert not files()


def files() -> list[Path]:
    return [path for path in Path(os.environ["GRADIO_TEMP_DIR"]).rglob("*") if path.is_file()]


SECRET = "the zebra's name is Quagmire"
FILE = file("/dev/zero")
BAD: dict[str, tuple[str, Any]] = {
    "no JSON": (PREDICT, SECRET.encode()),
    "no UTF-8": (PREDICT, b'{"data": ["\xff"]}'),
    "UTF-16": (PREDICT, json.dumps(GOOD["a question"][1]).encode("utf-16")),
    "deep": (PREDICT, b"[" * 200_000),
    "a list": (PREDICT, [SECRET]),
    "no data": (PREDICT, {"fn_index": SUBMIT, "session_hash": "tab"}),
    "too much data": (PREDICT, event(SUBMIT, SECRET, [], "more")),
    "too little data": (PREDICT, event(SUBMIT, SECRET)),
    "an unknown event": (PREDICT, event(99, SECRET)),
    "an event by name": (PREDICT, event(cast(int, "submit"), SECRET, [])),
    "true for an event": (PREDICT, event(True)),
    "an event of the browser's own": (PREDICT, event(16)),
    "a stream without the queue": (PREDICT, event(STREAM, [turn(text(SECRET))], [], *CONTROLS)),
    "the queue without a stream": (JOIN, event(SUBMIT, SECRET, [])),
    "no tab": (PREDICT, {"data": [SECRET, []], "fn_index": SUBMIT}),
    "a tab that is null": (PREDICT, event(SUBMIT, SECRET, [], session=cast(str, None))),
    "a tab of a path": (PREDICT, event(SUBMIT, SECRET, [], session="../x")),
    "a long tab": (PREDICT, event(SUBMIT, SECRET, [], session="x" * 1000)),
    "simple_format": (PREDICT, event(SUBMIT, SECRET, [], simple_format=True)),
    "batched": (PREDICT, event(SUBMIT, [SECRET], [[]], batched=True)),
    "an event's id": (PREDICT, event(SUBMIT, SECRET, [], event_id="x")),
    "a token": (PREDICT, event(SUBMIT, SECRET, [], oauth_token="x")),
    "a file for a text": (PREDICT, event(SUBMIT, FILE, [])),
    "a number for a text": (PREDICT, event(SUBMIT, 1, [])),
    "a file for the status": (PREDICT, event(READY, [], FILE, "")),
    "a trigger that is nowhere": (PREDICT, event(SUBMIT, SECRET, [], trigger_id=9999)),
    "a file for a trigger": (PREDICT, event(SUBMIT, SECRET, [], trigger_id=FILE)),
    "event data of nothing": (PREDICT, event(SUBMIT, SECRET, [], event_data={"index": 0})),
    "an example that is a file": (PREDICT, event(EXAMPLE, event_data={"index": 0, "value": FILE})),
    "an example with files": (PREDICT, event(EXAMPLE, event_data={"index": 0, "value": {"text": "x", "files": []}})),
    "no example": (PREDICT, event(EXAMPLE)),
    "an option that is a file": (PREDICT, event(OPTION, [], event_data={"index": 0, "value": FILE})),
    "an option with a file": (PREDICT, event(OPTION, [], event_data={"index": 0, "value": "continue", "path": "x"})),
    "another option": (PREDICT, event(OPTION, [], event_data={"index": 0, "value": SECRET})),
    "no option": (PREDICT, event(OPTION, [])),
    "an edit to a file": (PREDICT, event(EDIT, [], event_data={"index": 0, "value": [FILE]})),
    "an edit before the first": (PREDICT, event(EDIT, [], event_data={"index": -1, "value": "x"})),
    "an edit of nothing": (PREDICT, event(EDIT, [turn(text(SECRET))])),
    "a text for a slider": (JOIN, event(STREAM, [turn(text(SECRET))], [], "", "0.7", *CONTROLS[2:])),
    "nothing for a slider": (JOIN, event(STREAM, [turn(text(SECRET))], [], "", None, *CONTROLS[2:])),
    "a slider beyond its end": (JOIN, event(STREAM, [turn(text(SECRET))], [], "", 2.1, *CONTROLS[2:])),
    "a slider at infinity": (JOIN, event(STREAM, [], [], "", float("inf"), *CONTROLS[2:])),
    "a number that is infinite": (PREDICT, b'{"data": [], "session_hash": "tab", "fn_index": 1e999}'),
    "a text for a switch": (JOIN, event(STREAM, [turn(text(SECRET))], [], *CONTROLS[:-1], "on")),
    "a number for a switch": (JOIN, event(STREAM, [turn(text(SECRET))], [], *CONTROLS[:-1], 1)),
    "not a number": (JOIN, event(STREAM, [], [], "", float("nan"), *CONTROLS[2:])),
    "to cancel what is not made": (CANCEL, {"event_id": "0" * 32, "session_hash": "tab", "fn_index": SUBMIT}),
    "to cancel a path": (CANCEL, {"event_id": "../x", "session_hash": "tab", "fn_index": STREAM}),
    "to cancel more": (CANCEL, {"event_id": "0" * 32, "session_hash": "tab", "fn_index": STREAM, "x": 1}),
    "to reset nothing": (RESET, {}),
    "to reset a list": (RESET, {"event_id": ["x"]}),
}  # fmt: skip


def test_what_no_page_sends_is_refused_in_a_line_that_tells_nothing_of_it(
    url: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name, (path, body) in BAD.items():
        status, content = posted(url, path, body)
        assert status == 400, (name, content)
        said = json.loads(content)
        assert said["error"] == said["detail"] and len(said["error"]) < 200, name
        assert SECRET not in content.decode(), name
    assert capfd.readouterr() == ("", "") and not caplog.records


ROUTES = [
    ("POST", PREDICT, {}, 415),
    ("POST", PREDICT, {"content-type": "text/plain"}, 415),
    ("POST", PREDICT, {"content-type": "multipart/form-data; boundary=x"}, 415),
    ("POST", f"{PREDICT}?x=1", JSON, 400),
    ("POST", f"{PREDICT}/", JSON, 404),
    ("GET", PREDICT, {}, 405),
    ("POST", "/gradio_api/run/submit", JSON, 404),
    ("POST", "/gradio_api/api/predict", JSON, 404),
    ("POST", "/gradio_api/call/predict", JSON, 404),
    ("POST", "/gradio_api/queue/data", JSON, 405),
    ("POST", "/gradio_api/component_server", JSON, 404),
    ("POST", "/gradio_api/upload", JSON, 404),
    ("POST", "/gradio_api/process_recording", JSON, 404),
    ("POST", "/gradio_api/vibe-edit", JSON, 404),
    ("POST", "/", JSON, 405),
    ("GET", "/gradio_api/heartbeat/tab", {}, 404),
    ("GET", "/gradio_api/stream/x", {}, 404),
    ("GET", "/gradio_api/file=/etc/hosts", {}, 404),
    ("GET", "/gradio_api/startup-events", {}, 404),
    ("GET", "/gradio_api/queue/data", {}, 400),
    ("GET", "/gradio_api/queue/data?session_hash=", {}, 400),
    ("GET", "/gradio_api/queue/data?session_hash=..%2Fx", {}, 400),
    ("GET", "/gradio_api/queue/data?session_hash=a&session_hash=b", {}, 400),
    ("GET", "/gradio_api/queue/data?session_hash=nobody", {}, 404),
    ("GET", "/config?deep_link=x", {}, 200),
    ("GET", "/theme.css?v=../x", {}, 200),
    ("GET", "/static/../config", {}, 404),
    ("GET", "/static/%2e%2e/%2e%2e/routes.py", {}, 404),
    ("GET", "/static/..%2f..%2froutes.py", {}, 404),
    ("GET", "/static//etc/passwd", {}, 404),
    ("GET", "/assets/..%5c..%5croutes.py", {}, 404),
    ("GET", "/static/img/%00", {}, 400),
    ("GET", "/static/.hidden", {}, 404),
    ("GET", "/static/nothing.js", {}, 404),
    ("GET", "/svelte/x.js", {}, 404),
    ("GET", "/?deep_link=../../x&__theme=dark", {}, 200),
]  # fmt: skip


def test_of_routes_only_those_that_the_page_needs(url: str) -> None:
    for method, path, headers, expected in ROUTES:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        connection.putrequest(method, path)
        body = b"{}" if method == "POST" else b""
        for name, value in {**headers, "content-length": str(len(body))}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        assert connection.getresponse().status == expected, (method, path)
        connection.close()


def test_a_query_says_nothing_to_gradio(url: str) -> None:
    """Its page repeats its own everywhere; `__theme` is for the browser, others would have Gradio open files."""
    for path, query in (
        ("/config", "deep_link=x"),
        ("/gradio_api/info", "all_endpoints=1"),
        ("/", "deep_link=x&page=x"),
    ):
        assert asked(url, f"{path}?{query}")[2] == asked(url, path)[2], path
    path, body = GOOD["a question"]
    assert posted(url, f"{path}?__theme=dark&fn_index=5", body)[0] == 200


def test_gradio_believes_no_header_about_where_the_page_is(url: str) -> None:
    for name in ("x-forwarded-host", "x-gradio-server"):
        for path in ("/", "/config"):
            assert b"evil.example" not in asked(url, path, headers={name: "http://evil.example"})[2]


def test_of_choices_only_those_that_are_offered(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "chat_template.jinja").write_text("{% if enable_thinking %}{% endif %}")
    with served(build_chat(Speaker("so", folder=tmp_path), name="m", examples=["x"])) as server:
        for choice in ("x", "", None, 1, True, ["on"], FILE):
            body = event(STREAM, [turn(text(SECRET))], [], *CONTROLS[:-1], choice, False)
            status, content = posted(server.url, JOIN, body)
            assert status == 400 and SECRET not in content.decode(), choice
        assert posted(server.url, JOIN, event(STREAM, [turn(text())], [], *CONTROLS))[0] == 400
        assert posted(server.url, JOIN, event(STREAM, [turn(text())], [], *CONTROLS[:-1], "off", False))[0] == 200


def test_of_models_only_those_that_are_offered() -> None:
    first, other = Speaker("so"), Speaker("no")
    with served(build_chat(first, name="m", examples=["x"], others={"n": other})) as server:
        for model in ("x", "", None, ["m"], FILE):
            status, content = posted(server.url, JOIN, event(STREAM, [turn(text(SECRET))], [], *CONTROLS, model))
            assert status == 400 and SECRET not in content.decode(), model
        assert posted(server.url, JOIN, event(STREAM, [turn(text())], [], *CONTROLS, "n"))[0] == 200
        assert "no" in answered(server.url, "tab") and (len(first.asked), len(other.asked)) == (0, 1)


def test_a_long_chat_is_refused_by_its_length(url: str) -> None:
    status, content = posted(url, PREDICT, event(SUBMIT, "x" * (1 << 20), []))
    assert status == 413 and b"start a new one" in content


def test_behind_the_gate_too_gradio_copies_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As if something had got past it."""
    private = tmp_path / "private"
    private.write_text("the key")
    application = make_app([])
    close = mount_chat(application, build_chat(Speaker("a"), name="m", examples=["x"]))
    mounted = cast(Mount, application.routes[-1])
    mounted.app = cast(Any, mounted.app)._app
    server = Server(application, "127.0.0.1", 0)
    for path in (str(private), "/dev/zero"):
        for history in (
            [turn({"type": "file", "file": file(path)})],
            [turn(text(), metadata={"title": "x", "log": file(path)})],
        ):
            status, content = posted(server.url, PREDICT, event(READY, history, "", ""))
            assert status == 500 and b"key" not in content
    assert asked(server.url, "/config")[0] == 200
    close()
    server.close()
    assert not files()
    assert "Error in" in caplog.text and str(private) not in caplog.text


def test_what_fails_in_an_answer_is_told_in_one_line_without_what_was_said(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    speaker = Speaker("so", error=RuntimeError(f"cannot go on after {SECRET}"))
    with served(build_chat(speaker, name="m", examples=["x"])) as server:
        assert posted(server.url, JOIN, event(STREAM, [turn(text(SECRET))], [], *CONTROLS))[0] == 200
        events = answered(server.url, "tab")
        assert '"success":false' in events and SECRET not in events.rpartition("process_completed")[2]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and "RuntimeError in _chunks, test_ui.py" in record.getMessage()
    assert SECRET not in caplog.text and "\n" not in record.getMessage() and record.exc_info is None
    assert capfd.readouterr() == ("", "")


class Slow(Speaker):
    """Says a word now and then, until it is told to stop."""

    def __init__(self) -> None:
        super().__init__()
        self.going = 0

    def _chunks(self) -> Iterator[Any]:
        self.going += 1
        try:
            for chunk in [*Speaker("so", "on")._chunks()][:-1] * 1000:
                if self.cancelled():
                    return
                time.sleep(0.02)
                yield chunk
        finally:
            self.going -= 1


def test_an_answer_that_no_tab_reads_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.page.gate, "_UNREAD_SECONDS", 0.3)
    speaker = Slow()
    with served(build_chat(speaker, name="m", examples=["x"])) as server:
        assert posted(server.url, JOIN, event(STREAM, [turn(text())], [], *CONTROLS))[0] == 200
        eventually(lambda: speaker.going == 1)
        eventually(lambda: speaker.going == 0)
        assert answered(server.url, "tab") == 'data: {"msg":"close_stream"}\n\n'


def test_one_tab_asks_for_few_answers_at_a_time_and_reads_them_on_few_connections() -> None:
    with served(build_chat(Slow(), name="m", examples=["x"])) as server:
        body = event(STREAM, [turn(text())], [], *CONTROLS)
        assert [posted(server.url, JOIN, body)[0] for _ in range(6)] == [200] * 4 + [429] * 2
        streams = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(3)]
        statuses = []
        for stream in streams:
            stream.sendall(b"GET /gradio_api/queue/data?session_hash=tab HTTP/1.1\r\nhost: localhost\r\n\r\n")
            statuses.append(stream.recv(12).split()[1])
        assert statuses == [b"200", b"200", b"429"]
        for stream in streams:
            stream.close()


def test_one_client_has_few_answers_made_that_it_does_not_read() -> None:
    with served(build_chat(Slow(), name="m", examples=["x"])) as server:

        def asks(name: str) -> int:
            return posted(server.url, JOIN, event(STREAM, [turn(text())], [], *CONTROLS, session=name))[0]

        assert [asks(f"tab{n}") for n in range(6)] == [200] * 4 + [429] * 2
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as stream:
            stream.sendall(b"GET /gradio_api/queue/data?session_hash=tab1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert stream.recv(12).split()[1] == b"200"
            assert [asks("tab4"), asks("tab5")] == [200, 429]  # what is read does not count


def test_a_tab_is_its_own_clients() -> None:
    page, body = build_chat(Slow(), name="m", examples=["x"]), event(STREAM, [turn(text())], [], *CONTROLS)
    with served(page, Access(keys=("a-long-key-of-anna", "a-long-key-of-tom"))) as server:
        anna, tom = ({**JSON, "authorization": f"Bearer a-long-key-of-{name}"} for name in ("anna", "tom"))
        status, _, content = asked(server.url, JOIN, body, anna)
        cancel = {"event_id": json.loads(content)["event_id"], "session_hash": "tab", "fn_index": STREAM}
        for method, path, sent in (
            ("POST", JOIN, body), ("POST", CANCEL, cancel), ("GET", "/gradio_api/queue/data?session_hash=tab", None),
        ):  # fmt: skip
            assert asked(server.url, path, sent, tom, method)[0] == 404, path
        assert status == 200 and asked(server.url, CANCEL, cancel, anna)[0] == 200


def test_tabs_without_end_are_refused_and_forgotten() -> None:
    page = build_chat(Speaker("a"), name="m", examples=["x"])
    with served(page) as server:
        statuses = [posted(server.url, PREDICT, event(CLEAR, session=f"tab{n}"))[0] for n in range(60)]
        assert statuses.count(200) >= 32 and statuses.count(429) > 10 and statuses[0] == 200
        assert len(page.state_holder.session_data) <= 32
        assert posted(server.url, PREDICT, event(CLEAR, session="tab31"))[0] == 200  # one that is known goes on


def test_one_clients_posts_wait_for_their_turn_and_few_of_them_at_a_time(url: str) -> None:
    host = ("127.0.0.1", cast(int, urlsplit(url).port))
    head = (
        f"POST {PREDICT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{{"
    )
    places, waiting = (serving.page.gate._MOST_AT_ONCE, serving.page.gate._MOST_WAITING)
    connections = [socket.create_connection(host, timeout=30) for _ in range(places + waiting)]
    for connection in connections:
        connection.sendall(head.encode())
    eventually(lambda: posted(url, *GOOD["nothing"])[0] == 429)
    for connection in connections[places:]:
        connection.close()
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(posted(url, *GOOD["nothing"])[0])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for connection in connections[:places]:
        connection.sendall(b"}" * 8)
        assert connection.recv(12).split()[1] == b"400"
        connection.close()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 3


def test_many_threads_may_use_the_page_at_once(url: str) -> None:
    """A page is several requests at a time; each is answered."""
    statuses: list[int] = []
    threads = [threading.Thread(target=lambda: statuses.append(posted(url, *GOOD["a question"])[0])) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 6
