"""Run a heavy stage as a child process, so that its memory, its crashes and its environment stay its own.

The job goes to the child's stdin as one JSON line, progress comes back on its stdout as JSON lines, and everything
that libraries print goes to the build's log. The child ends itself when its stdin closes: it never outlives the build.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from builder import errors
from builder.errors import BuildError, StageFailed
from builder.progress import Report, Step

Job = dict[str, Any]

_PACKAGES = str(Path(__file__).resolve().parent.parent.parent)
_DISK_IS_FULL = 16 << 20  # bytes free

_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # the checkpoint is on this disk by now
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "QUARK_DISABLE_COMPILE": "1",  # torch.compile costs more than it saves, and needs a C++ compiler
    "QUARK_LOG_LEVEL": "error",
    "PYTHONUTF8": "1",
    "PYTHONSAFEPATH": "1",  # a folder named builder or serving in the working directory is not ours
}


def run_stage(module: str, job: Job, log: Path, report: Report, seconds: float | None = None) -> Job:
    """Run `python -m module` on `job` and return its result, with the child's `peak_memory` in bytes.

    seconds: after which it is ended, where what it reads may never end. Raises the child's BuildError, or StageFailed.
    """
    with log.open("a", encoding="utf-8") as log_file:
        print(f"== {module} {json.dumps(job)}", file=log_file, flush=True)
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log_file,
            text=True,
            encoding="utf-8",
            env=environment(),
        )
    assert process.stdin and process.stdout
    outcome: Job = {}
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    limit = threading.Timer(seconds or 0, end)
    limit.daemon = True
    if seconds is not None:
        limit.start()
    try:
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            event = json.loads(line)
            if "step" in event:
                report(Step(**event["step"]))
            else:
                outcome = event
        process.wait()
    except OSError as error:
        raise StageFailed(f"the stage {module} ended before it took its job ({error}); its log is {log}.") from error
    finally:
        limit.cancel()
        process.kill()
        process.stdin.close()
        process.stdout.close()
        process.wait()
    if "error" in outcome:
        raise getattr(errors, outcome["type"])(outcome["error"])
    if late.is_set():
        raise StageFailed(f"the stage {module} took longer than {seconds:.0f} s, and was ended. Its log is {log}.")
    if process.returncode != 0 or "result" not in outcome:
        raise StageFailed(_post_mortem(module, process.returncode, log))
    return dict(outcome["result"])


def stage_main(run: Callable[[Job, Report], Job]) -> None:
    """The child's side: take the job, run it, answer with its result or its BuildError."""
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print to stdout belongs in the log

    def send(event: Job) -> None:
        print(json.dumps(event), file=events, flush=True)

    def report(step: Step) -> None:
        send({"step": asdict(step)})

    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        result = run(job, report)
        send({"result": {**result, "peak_memory": _peak_memory()}})
    except BuildError as error:
        send({"error": str(error), "type": type(error).__name__})


def environment() -> dict[str, str]:
    """What a stage's process is told by its environment."""
    return os.environ | _ENVIRONMENT | {"PYTHONPATH": _python_path()}


def _python_path() -> str:
    return os.pathsep.join(filter(None, [_PACKAGES, os.environ.get("PYTHONPATH")]))


def _peak_memory() -> int:
    """The most bytes that this process has held in memory."""
    if sys.platform == "linux":
        # Not getrusage: its maximum begins with what the parent held when it started this process.
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) << 10
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


def _post_mortem(module: str, returncode: int, log: Path) -> str:
    if returncode == -9:
        why = "was killed, most likely because memory ran out"
    elif shutil.disk_usage(log.parent).free < _DISK_IS_FULL:
        why = f"failed because the disk of {log.parent} is full: free some space, then build again"
    else:
        own = log.read_text(encoding="utf-8", errors="replace").rpartition(f"== {module} ")[2]
        lines = [line for line in own.splitlines()[1:] if line.strip()]  # the first one is the job
        why = f"ended with exit code {returncode}: {lines[-1].strip() if lines else 'no message'}"
    return f"the stage {module} {why}. Its log is {log}."
