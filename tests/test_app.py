"""The program: first errors, the second start, the login."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import app
from builder.demo import CHECKPOINT
from serving.http.server import Server, make_app
from tests.pages import tidy
from tests.servers import asked, ended

ROOT = Path(__file__).parent.parent
KNOBS = ["--num-calib-data", "4", "--seq-len", "128"]  # those of tests/conftest.py


def checkpoint(folder: Path, **changes: Any) -> Path:
    """A copy of the demo checkpoint with another config.json."""
    shutil.copytree(CHECKPOINT, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run the program; it must end with code 2 and one sentence. Returns that sentence."""
    assert app.main(list(argv)) == 2
    output = capsys.readouterr()
    assert output.err.startswith("error: ") and output.err.count("\n") == 1 and output.out == ""
    return output.err


def test_a_folder_without_a_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "has no config.json" in refused(
        capsys, "--model", str(tmp_path), "--models-dir", str(tmp_path / "m"), "--port", "0"
    )


def test_an_unsupported_architecture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = checkpoint(tmp_path / "c", model_type="mamba")
    sentence = refused(capsys, "--model", str(model), "--models-dir", str(tmp_path / "m"), "--port", "0")
    assert "'mamba' is not supported" in sentence and "llama" in sentence


def test_a_group_size_that_does_not_divide(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = checkpoint(tmp_path / "c", intermediate_size=704)
    sentence = refused(capsys, "--model", str(model), "--models-dir", str(tmp_path / "m"), "--port", "0")
    assert "704" in sentence and "--group-size 64 or 32" in sentence


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        assert f"127.0.0.1:{port}" in refused(capsys, "--port", port)


def test_a_model_folder_with_a_file_missing_or_cut_short(
    tmp_path: Path, demo_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = Path(shutil.copytree(demo_model, tmp_path / "broken"))
    with (broken / "model.onnx.data").open("r+b") as data:
        data.truncate(1000)
    sentence = refused(capsys, "--model", str(broken), "--port", "0")
    assert "model.onnx.data has 1000 bytes instead of" in sentence
    (broken / "model.onnx.data").unlink()
    assert "model.onnx.data is missing" in refused(capsys, "--model", str(broken), "--port", "0")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--model", "no such thing"], "'no such thing' is neither"),
        (["--auth", "user"], "--auth must be USER:PASSWORD"),
        (["--port", "70000"], "not 70000"),
        (["--host", "host.invalid", "--port", "0"], "host.invalid"),
        (["--num-calib-data", "0"], "--num-calib-data must be 1 or more, not 0"),
    ],
)
def test_other_mistakes(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in refused(capsys, "--port", "0", *argv) if "--port" not in argv else said in refused(capsys, *argv)


def test_a_window_that_the_model_does_not_have(demo_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "not 99999" in refused(capsys, "--model", str(demo_model), "--context-length", "99999", "--port", "0")


def test_the_process_ends_with_code_2_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "app.py", "--model", str(tmp_path), "--port", "0", "--models-dir", str(tmp_path / "m")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr


@contextmanager
def running(*argv: str) -> Iterator[tuple[list[str], str]]:
    """The program in a process of its own: the lines it prints up to its address and login, and the address."""
    process = subprocess.Popen(
        [sys.executable, "app.py", "--port", "0", *argv],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines = [process.stdout.readline().strip()]
    if "--auth" in argv:
        lines.append(process.stdout.readline().strip())
    try:
        yield lines, lines[0].removeprefix("Chat at ").rstrip("/")
    finally:
        _, errors = ended(process)
    assert "Traceback" not in errors
    assert "Building" not in errors


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_second_start_finds_the_model_and_serves_it(demo_model: Path) -> None:
    with running("--models-dir", str(demo_model.parent.parent), *KNOBS) as (lines, url):
        assert lines[0].startswith("Chat at http://127.0.0.1:")
        assert status_of(url) == 200


def test_an_exported_folder_is_served_as_it_is_behind_a_login(demo_model: Path) -> None:
    with running("--model", str(demo_model), "--auth", "anna:secret:word") as (lines, url):
        assert lines[1] == "Login: user anna, password secret:word"
        assert status_of(f"{url}/config") == 401


def test_telemetry_is_off_unless_asked_for() -> None:
    names = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "GRADIO_ANALYTICS_ENABLED")
    code = f"import app, os; print([os.environ[name] for name in {names}])"
    clean = {key: value for key, value in os.environ.items() if key not in names}
    for given, expected in (({}, ["1", "1", "False"]), (dict.fromkeys(names, "x"), ["x", "x", "x"])):
        result = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=clean | given, capture_output=True, text=True, check=True
        )
        assert result.stdout.strip() == str(expected)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_api_alone_is_served_without_gradio(demo_model: Path, number: int) -> None:
    code = "import sys; sys.modules['gradio'] = None; import app; sys.argv[0] = 'app.py'; sys.exit(app.main())"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--no-ui", "--port", "0", "--model", str(demo_model), "--api-key", "s3cret"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("API at http://127.0.0.1:") and line.endswith("/v1, model 'demo'\n")
    url = line.split()[2].removesuffix(",")
    assert status_of(f"{url}/models") == 401
    request = urllib.request.Request(f"{url}/models", headers={"authorization": "Bearer s3cret"})
    with urllib.request.urlopen(request) as response:
        assert json.load(response)["data"][0]["id"] == "demo"
    out, errors = ended(process, number)
    assert (process.returncode, out, errors) == (130, "", "\nstopped.\n")
    assert "s3cret" not in line


def test_a_shared_chat_answers_at_its_public_address_and_asks_for_the_password(demo_model: Path) -> None:
    """The tunnel alone is a double: it needs the internet."""
    code = """
import sys, app, gradio.networking
gradio.networking.setup_tunnel = lambda host, port, *_: 'https://abc.gradio.live'
sys.exit(app.main(sys.argv[1:]))"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--share", "--port", "0", "--model", str(demo_model)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    chat, login, _, public = (process.stdout.readline().split() for _ in range(4))
    try:
        url, password = chat[-1].rstrip("/"), login[-1]
        assert public == ["Shared", "at", "https://abc.gradio.live"]
        key = {"authorization": f"Bearer {password}"}
        there = {"host": "abc.gradio.live", "origin": "https://abc.gradio.live"}
        for path in ("/", "/v1/models", "/config", "/gradio_api/info", "/metrics"):
            assert asked(url, path, headers=there)[0] == 401
        assert asked(url, "/v1/models", headers={**there, **key})[0] == 200
        assert asked(url, "/", headers={**there, **key})[0] == 200
        assert asked(url, "/v1/models", headers={**key, "host": "another.gradio.live"})[0] == 403
        assert asked(url, "/v1/models", headers={**key, **there, "origin": "https://evil.example"})[0] == 403
        # Of Gradio's own routes, only what a chat needs.
        assert asked(url, "/gradio_api/upload", b"", {**there, **key})[0] == 404
    finally:
        _, errors = ended(process)
    assert errors == "\nstopped.\n"


def test_a_tunnel_that_cannot_be_had_leaves_the_chat(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_tunnel(*_: object) -> str:
        raise RuntimeError("Could not get share link")

    monkeypatch.setattr("gradio.networking.setup_tunnel", no_tunnel)
    with tidy():
        server = Server(make_app([]), "127.0.0.1", 0)
        assert app.shared(server) is None
        server.close()
    said = capsys.readouterr()
    assert said.out == "" and "tunnel cannot be reached" in said.err
    assert said.err.endswith(f"The chat goes on at {server.url}\n")


@pytest.fixture(scope="module")
def endless(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose chat template never ends."""
    folder = shutil.copytree(demo_model, tmp_path_factory.mktemp("endless") / "model")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]["chat_template.jinja"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    loops = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    (folder / "chat_template.jinja").write_text(loops)
    return folder


@pytest.mark.parametrize("number", [None, signal.SIGINT, signal.SIGTERM])
def test_a_template_that_never_ends_is_refused_and_keeps_nobody_from_stopping(
    endless: Path, number: int | None
) -> None:
    process = subprocess.Popen(
        [sys.executable, "app.py", "--no-ui", "--port", "0", "--model", str(endless)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline().startswith("API at ")
    _, errors = ended(process, number) if number else process.communicate(timeout=120)
    if number:
        assert (process.returncode, errors) == (130, "\nstopped.\n")
    else:
        assert process.returncode == 2
        assert re.fullmatch(r"error: .* cannot be served: writing out two messages with .* longer than 5 s\.\n", errors)
