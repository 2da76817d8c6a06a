"""How the programs end: Ctrl+C at any moment, and a library that is missing."""

import gc
import os
import signal
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from builder.console import exit_code, interrupts_end_it, interrupts_raise, signals_call
from builder.errors import StageFailed
from serving.engine.process import EngineProcess
from serving.errors import InvalidRequest
from serving.http.server import Server, make_app
from tests.programs import Ended, environment, interrupted

ROOT = Path(__file__).parent.parent
posix = pytest.mark.skipif(os.name == "nt", reason="there are no process groups")
# Seconds after the first line.
MOMENTS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.45, 0.7, 1.0, 1.4, 2.0)


@posix
@pytest.mark.parametrize("program", ["app", "engine", "builder"])
def test_ctrl_c_ends_a_program_with_one_word_whenever_it_comes(program: str, demo_model: Path, tmp_path: Path) -> None:
    command, file, moments = {
        "app": (["app.py", "--port", "0", "--model", str(demo_model)], "app.py", MOMENTS),
        "engine": (["app.py", "--port", "0", "--model", str(demo_model)], "serving/engine/worker.py", MOMENTS[:8:2]),
        "builder": (["-m", "builder", "--models-dir"], "builder/__main__.py", MOMENTS[::2]),
    }[program]
    env = environment(tmp_path, FIRST_LINE_OF=file)

    def at(moment: float) -> Ended:
        own = (
            [str(tmp_path / str(moment))] if program == "builder" else []
        )  # two builds of one model lock each other out
        return interrupted([sys.executable, *command, *own], moment, env, ROOT)

    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(at, moments))
    for moment, end in zip(moments, ends, strict=True):
        assert end.code == 130, (moment, end)
        *steps, last = end.err.strip().splitlines()  # of a build, those that were done by then
        assert last.startswith("stopped") and all(step.strip() in ("", "calibrate: done") for step in steps), end


@posix
def test_ctrl_c_does_not_reach_the_engines_process(demo_model: Path) -> None:
    with EngineProcess.load(demo_model) as engine:
        assert engine.pid and os.getpgid(engine.pid) != os.getpgid(0)


@pytest.mark.parametrize(
    ("library", "command"),
    [
        ("filelock", ["app.py", "--help"]),
        ("numpy", ["app.py", "--model", "{model}"]),
        ("pydantic", ["app.py", "--model", "{model}"]),
        ("gradio", ["app.py", "--model", "{model}"]),
        ("onnxruntime_genai", ["app.py", "--model", "{model}"]),  # only the engine's process imports it
        ("safetensors", ["-m", "builder"]),
    ],
)
def test_a_library_that_is_missing_is_named_in_one_line(
    library: str, command: list[str], demo_model: Path, tmp_path: Path
) -> None:
    run = subprocess.run(
        [sys.executable, *(word.format(model=demo_model) for word in command)],
        cwd=ROOT, env=environment(tmp_path, HIDDEN_LIBRARY=library), capture_output=True, text=True,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith(f"error: {library} cannot be imported (No module named '{library}')")
    assert run.stderr.count("\n") == 1 and "pip install -e ." in run.stderr


@pytest.mark.parametrize("module", ["app", "builder.__main__"])
def test_a_program_that_is_imported_changes_no_signal_and_loads_no_library(module: str) -> None:
    code = (
        "import signal, sys; before = set(sys.modules); numbers = [n for n in signal.Signals if n not in (9, 19)]\n"
        f"handlers = [signal.getsignal(n) for n in numbers]; import {module}\n"
        "print(handlers == [signal.getsignal(n) for n in numbers], sorted(set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    packages = ["builder"] if "." in module else []
    assert run.stdout.strip() == f"True {[*packages, module]}"


def test_signals_are_handled_as_before_once_a_program_has_ended() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts_end_it():
        assert signal.getsignal(signal.SIGINT) is not before
        with pytest.raises(KeyboardInterrupt), interrupts_raise():
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_that_comes_in_a_callback_of_the_garbage_collector_is_not_lost() -> None:
    server = Server(make_app([]), "127.0.0.1", 0)
    with signals_call(server.stop) as came:
        dropped = {1}
        reference = weakref.ref(dropped, lambda _: signal.raise_signal(signal.SIGINT))
        del dropped
        gc.collect()
        server.wait()
    assert reference() is None
    assert came == [signal.SIGINT]
    server.close()


def test_a_program_that_is_held_up_ends_with_the_same_word() -> None:
    code = (
        "import signal, time; from builder.console import signals_call\n"
        "with signals_call(lambda: None, 0.01): signal.raise_signal(signal.SIGTERM); time.sleep(60)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "\nstopped.\n")


def test_what_is_a_mistake_of_ours_is_not_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(StageFailed("so."), InvalidRequest) == exit_code(InvalidRequest("so."), InvalidRequest) == 2
    assert capsys.readouterr().err == "error: so.\n" * 2
    for error in (KeyError("x"), InvalidRequest("x"), ImportError("x", name="serving.x")):
        with pytest.raises(type(error)):
            exit_code(error)
