"""Real child processes: what they answer, what they leave in the log, and how they end."""

import inspect
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from builder import errors
from builder.errors import BuildError, StageFailed
from builder.progress import Step, silent
from builder.stages.stage import Job, run_stage
from tests.hub import ROOT

# A stage that does as its job says.
STAGE = """
import os, signal, subprocess, sys, time
from builder import errors
from builder.progress import Step
from builder.stages.stage import stage_main

def run(job, report):
    match job["do"]:
        case "answer":
            return {"heard": job["word"], "offline": os.environ["HF_HUB_OFFLINE"]}
        case "count":
            for done in range(job["to"]):
                report(Step("count", done, job["to"], f"naïve {done}"))
        case "hold":
            held = b"x" * job["bytes"]
            return {"held": len(held)}
        case "chatter":
            print("a library prints")
            os.write(1, b"native code prints\\n")
            subprocess.run([sys.executable, "-c", "print('a grandchild prints')"], check=True)
            print("a library warns", file=sys.stderr)
        case "refuse":
            raise getattr(errors, job["error"])("no thanks: é")
        case "raise":
            raise ValueError("the reason")
        case "exit":
            os._exit(3)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            report(Step("sleep", os.getpid(), 0))
            time.sleep(600)
    return {}

if __name__ == "__main__":
    stage_main(run)
"""

posix = pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
Stage = Callable[..., Job]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """The build's log."""
    return tmp_path / "build.log"


@pytest.fixture
def stage(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Runs STAGE on a job given as keywords."""
    (tmp_path / "some_stage.py").write_text(STAGE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))

    def run(report: Callable[[Step], None] = silent, **job: object) -> Job:
        return run_stage("some_stage", job, log, report)

    return run


def ended(pid: int) -> bool:
    """No process of this number runs, waiting for that a while; a dead one that nobody has buried does not run."""
    for _ in range(600):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


def test_a_result_comes_back_from_an_environment_of_its_own(stage: Stage) -> None:
    before = dict(os.environ)
    answer = stage(do="answer", word="naïve\n✓")
    assert (answer["heard"], answer["offline"]) == ("naïve\n✓", "1")
    assert dict(os.environ) == before


def test_the_peak_of_a_childs_memory_is_its_own(stage: Stage) -> None:
    ballast = bytes(300 << 20)  # of this process, which the child does not inherit
    small = stage(do="hold", bytes=0)["peak_memory"]
    large = stage(do="hold", bytes=200 << 20)["peak_memory"]
    assert 190 << 20 < large - small < 230 << 20
    assert small < 200 << 20 < len(ballast)


def test_a_package_of_the_same_name_in_the_working_directory_is_not_ours(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "builder").mkdir()
    (tmp_path / "builder" / "__init__.py").write_text("raise SystemExit('the wrong builder')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StageFailed, match=r"No module named builder\.no_such_stage"):
        run_stage("builder.no_such_stage", {}, log, silent)


def test_progress_arrives_whole_and_in_order(stage: Stage) -> None:
    steps: list[Step] = []
    stage(steps.append, do="count", to=200)
    assert steps == [Step("count", done, 200, f"naïve {done}") for done in range(200)]


def test_whatever_is_printed_goes_to_the_log_and_nowhere_else(
    stage: Stage, log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stage(do="chatter")
    written = log.read_text(encoding="utf-8")
    for line in ("a library prints", "native code prints", "a grandchild prints", "a library warns"):
        assert line in written
    assert capfd.readouterr() == ("", "")


def test_the_log_keeps_what_earlier_stages_wrote(stage: Stage, log: Path) -> None:
    stage(do="chatter")
    earlier = log.read_text(encoding="utf-8")
    stage(do="answer", word="hi")
    assert log.read_text(encoding="utf-8").startswith(earlier)


@pytest.mark.parametrize("name", [name for name, kind in inspect.getmembers(errors, inspect.isclass)])
def test_an_error_of_ours_is_raised_in_the_parent_as_what_it_is(stage: Stage, name: str) -> None:
    with pytest.raises(BuildError, match=r"^no thanks: é$") as raised:
        stage(do="refuse", error=name)
    assert type(raised.value) is getattr(errors, name)


def test_a_crash_names_the_log_and_its_last_line(stage: Stage, log: Path) -> None:
    with pytest.raises(StageFailed) as raised:
        stage(do="raise")
    assert str(raised.value) == (
        f"the stage some_stage ended with exit code 1: ValueError: the reason. Its log is {log}."
    )
    assert "Traceback" in log.read_text(encoding="utf-8")


def test_a_silent_exit_is_not_explained_by_what_an_earlier_stage_wrote(stage: Stage, log: Path) -> None:
    stage(do="chatter")
    with pytest.raises(StageFailed) as raised:
        stage(do="exit")
    assert str(raised.value) == f"the stage some_stage ended with exit code 3: no message. Its log is {log}."


@posix
def test_a_kill_is_called_a_kill(stage: Stage, log: Path) -> None:
    with pytest.raises(StageFailed, match="was killed, most likely because memory ran out") as raised:
        stage(do="killed")
    assert str(log) in str(raised.value)


def test_a_module_that_cannot_start_is_a_failed_stage(log: Path) -> None:
    with pytest.raises(StageFailed, match="No module named") as raised:
        run_stage("builder.no_such_stage", {}, log, silent)
    assert str(log) in str(raised.value)


def test_a_stage_that_ends_before_it_has_read_a_long_job_has_failed(log: Path) -> None:
    with pytest.raises(StageFailed) as raised:
        run_stage("builder.no_such_stage", {"long": "x" * 1_000_000}, log, silent)
    assert str(log) in str(raised.value)


def test_when_the_parent_gives_up_the_child_is_gone(stage: Stage) -> None:
    seen: list[int] = []

    def give_up(step: Step) -> None:
        seen.append(step.done)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage(give_up, do="sleep")
    assert ended(seen[0])


def test_a_child_that_does_not_listen_is_ended_all_the_same(stage: Stage, tmp_path: Path, log: Path) -> None:
    (tmp_path / "deaf_stage.py").write_text(
        "import json, pathlib, sys, time\n"
        "job = json.loads(sys.stdin.readline())\n"
        "print(json.dumps({'step': {'stage': 'deaf', 'done': 0, 'total': 0}}), flush=True)\n"
        "time.sleep(5)\n"
        "pathlib.Path(job['end']).touch()\n"
    )

    def give_up(_: Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage("deaf_stage", {"end": str(tmp_path / "reached its end")}, log, give_up)
    assert not (tmp_path / "reached its end").exists()


@posix
def test_when_the_parent_is_killed_the_child_ends_itself(stage: Stage, log: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from builder.stages.stage import run_stage\n"
        "run_stage('some_stage', {'do': 'sleep'}, Path(sys.argv[1]), lambda step: print(step.done, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(log)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert ended(child)
