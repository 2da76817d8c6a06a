"""Programs in processes of their own: watched from their first line, interrupted, or without a library."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Runs in every Python process before the program: says when the file named is about to run, and hides a library, or
# as many as are named, which then cannot even be looked for.
# A signal that comes at once waits for the first import, as nothing in this file could answer it.
SITE = """
import _signal, os, sys
first, hidden, interrupt = os.environ.get("FIRST_LINE_OF"), os.environ.get("HIDDEN_LIBRARY"), {_signal.SIGINT}
sys.modules.update(dict.fromkeys(os.environ.get("MISSING_LIBRARIES", "").split()))
def at_the_first_line(event, arguments):
    if event == "exec" and arguments[0].co_filename.endswith(first):
        _signal.pthread_sigmask(_signal.SIG_BLOCK, interrupt)
        os.write(2, b"first line\\n")
    elif event == "import":
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, interrupt)
class Hide:
    def find_spec(name, path=None, target=None):
        if name == hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
if first:
    sys.addaudithook(at_the_first_line)
if hidden:
    sys.meta_path.insert(0, Hide)
"""


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    code: int
    out: str
    err: str


def environment(site: Path, **variables: str) -> dict[str, str]:
    """Of a process that runs SITE, which is written into this folder, first."""
    (site / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, **variables}


def interrupted(command: Sequence[str], moment: float, env: Mapping[str, str], cwd: Path) -> Ended:
    """Ctrl+C, which a whole terminal gets, so many seconds after the first line."""
    process = subprocess.Popen(
        command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stderr and process.stderr.readline() == "first line\n"
        time.sleep(moment)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
        return Ended(process.returncode, out, err)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
