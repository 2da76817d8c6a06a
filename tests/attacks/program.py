"""The program in a process of its own, as one starts it, watched from outside."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import psutil

ROOT = Path(__file__).parent.parent.parent
START_SECONDS = 120.0
MOST_MEMORY = 6 << 30  # a server that takes more is ended, before the machine suffers
# Runs in each of its Python processes: notes the files that are opened, and the hosts that are looked for.
WATCH = """
import os, sys
def hook(event, arguments):
    if event in ("open", "socket.connect", "socket.getaddrinfo"):
        line = f"{event} {arguments[1] if event == 'socket.connect' else arguments[0]!r}" + chr(10)
        os.write(log, line.encode(errors="replace"))
log = os.open(os.environ["WATCH_LOG"], os.O_WRONLY | os.O_APPEND)
sys.addaudithook(hook)
"""


class Program:
    """`python app.py --model FOLDER` on a free port, what it writes, what memory it takes, and how it ends.

    work: an empty folder for what it writes; Gradio is told to keep its files in `work/files`. watched: what it opens
    and connects to is noted.
    """

    def __init__(self, folder: Path, work: Path, flags: Sequence[str] = (), watched: bool = False) -> None:
        self.work = work
        self.files = work / "files"
        self.peak = 0
        self.too_large = False
        self._ended = threading.Event()
        environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "GRADIO_TEMP_DIR": str(self.files),
            "TMPDIR": str(work),
            "OGA_CHAT_API_KEYS": "",
        }
        if watched:
            (work / "sitecustomize.py").write_text(WATCH)
            (work / "opened").touch()
            environment |= {"PYTHONPATH": str(work), "WATCH_LOG": str(work / "opened")}
        with (work / "out").open("wb") as out, (work / "errors").open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "app.py", "--model", str(folder), "--port", "0", *flags],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=environment,
            )  # fmt: skip
        self._watch = threading.Thread(target=self._watch_memory, daemon=True)
        self._watch.start()
        try:
            self.port = self._wait_for_port()
        except BaseException:
            self.kill()
            raise

    @property
    def out(self) -> str:
        """What it has written on stdout."""
        return (self.work / "out").read_text(errors="replace")

    @property
    def errors(self) -> str:
        """What it has written on stderr."""
        return (self.work / "errors").read_text(errors="replace")

    @property
    def opened(self) -> str:
        """A line for each file that it opened and each host that it looked for, where it is watched."""
        return (self.work / "opened").read_text(errors="replace")

    @property
    def written(self) -> list[Path]:
        """Files that Gradio keeps."""
        return [file for file in self.files.rglob("*") if file.is_file()] if self.files.exists() else []

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def processes(self) -> list[psutil.Process]:
        """It and its children."""
        try:
            process = psutil.Process(self._process.pid)
            return [process, *process.children(recursive=True)]
        except psutil.Error:
            return []

    def memory(self) -> int:
        """Bytes that its processes have to themselves, and their part of what they share."""
        return sum(self.memory_by_process().values())

    def memory_by_process(self) -> dict[str, int]:
        """The same for each process, by what it runs."""
        held: dict[str, int] = {}
        for process in self.processes():
            try:
                command = process.cmdline()
                name = command[2].rpartition(".")[2] if command[1:2] == ["-m"] else Path(command[1]).stem
                held[name] = held.get(name, 0) + process.memory_full_info().pss
            except (psutil.Error, IndexError):
                continue
        return held

    def terminate(self, patience: float = 20.0) -> float | None:
        """Seconds from SIGTERM to its end; None if it goes on, and has to be killed."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return None
        finally:
            self.kill()
        return time.monotonic() - began

    def kill(self) -> None:
        """End it and its children, whatever they do."""
        self._ended.set()
        for process in reversed(self.processes()):
            try:
                process.kill()
            except psutil.Error:
                continue
        self._process.wait()
        self._watch.join()

    def _wait_for_port(self) -> int:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self.alive:
            for line in self.out.splitlines():
                if line.startswith("API at ") and (port := urlsplit(line.split()[2].rstrip(",")).port):
                    return port
            time.sleep(0.05)
        raise RuntimeError(f"the program did not start: {self.errors[-2000:] or 'it wrote nothing'}")

    def _watch_memory(self) -> None:
        while not self._ended.wait(0.1):
            held = 0
            for process in self.processes():
                try:
                    held += process.memory_info().rss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, held)
            if held > MOST_MEMORY:
                self.too_large = True
                for process in reversed(self.processes()):
                    try:
                        process.kill()
                    except psutil.Error:
                        continue
