"""How far a build is: one event type, and a terminal, or a log, that renders it."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

LINE_SECONDS = 30.0  # between lines where there is no terminal, at most


@dataclass(frozen=True, slots=True)
class Step:
    """`done` of `total` pieces of a stage are finished; total 0 means that nobody can know.

    lasting: the note is worth a line of its own, which stays. left: seconds to the stage's end, where they are known.
    """

    stage: str
    done: int
    total: int
    note: str = ""
    lasting: bool = False
    left: float | None = None

    @property
    def ended(self) -> bool:
        """Whether this is the last step of its stage."""
        return self.total > 0 and self.done >= self.total


Report = Callable[[Step], None]


def silent(_: Step) -> None:
    """Report nothing."""


def spoken(seconds: float) -> str:
    """A duration as one says it: 40 s, 12 min, 3 h 5 min."""
    if seconds < 100:
        return f"{max(seconds, 0):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def megabytes(count: int) -> str:
    """Bytes as one says them: 12 kB, 208 MB, 5.9 GB."""
    if count < 1e6:
        return f"{count / 1e3:,.0f} kB"
    return f"{count / 1e6:,.0f} MB" if count < 1e9 else f"{count / 1e9:,.1f} GB"


@contextmanager
def terminal(title: str = "") -> Iterator[Report]:
    """One bar per stage on a terminal, elsewhere lines. The title comes with the first step."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        with _lines(title) as report:
            yield report
        return
    columns = (
        TextColumn("  {task.description:<10}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
        _Left(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, TaskID] = {}

        def report(step: Step) -> None:
            if title and not tasks:
                console.print(title, highlight=False, markup=False, emoji=False)  # a path may look like markup
            if step.lasting:
                console.print(step.note, highlight=False, markup=False, emoji=False)
                return
            if step.stage not in tasks:
                tasks[step.stage] = bars.add_task(step.stage, total=None, note="", end=None)
            bars.update(
                tasks[step.stage],
                completed=step.done,
                total=step.total or None,
                note="" if step.ended else step.note,
                end=None if step.left is None or step.ended else time.monotonic() + step.left,
            )

        yield report


class _Left(ProgressColumn):
    """What is left of a stage."""

    def render(self, task: Task) -> Text:
        end = task.fields["end"]
        return Text("" if end is None else f"about {spoken(end - time.monotonic())} left")


@dataclass(slots=True)
class _Lines:
    """A line where a stage ends, and one at least every LINE_SECONDS while it runs: logs are read too."""

    title: str
    began: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)
    reported: float = 0.0
    step: Step | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def report(self, step: Step) -> None:
        with self.lock:
            self._say(self.title)
            self.title = ""
            if step.lasting:
                self._say(step.note)
                return
            if self.step is None or step.stage != self.step.stage:
                self.began = time.monotonic()
            self.step, self.reported = step, time.monotonic()
            if step.ended:
                self._say(f"  {step.stage}: done")

    def remind(self) -> None:
        with self.lock:
            now, step = time.monotonic(), self.step
            if step is None or step.ended or now - self.told < LINE_SECONDS:
                return
            left = "" if step.left is None else f", about {spoken(step.left - (now - self.reported))} left"
            note = f"{step.note}, " if step.note else ""
            self._say(f"  {step.stage}: {note}{spoken(now - self.began)} so far{left}")

    def _say(self, line: str) -> None:
        if line:
            self.told = time.monotonic()
            print(line, file=sys.stderr, flush=True)


@contextmanager
def _lines(title: str) -> Iterator[Report]:
    lines, ended = _Lines(title), threading.Event()

    def remind() -> None:
        while not ended.wait(LINE_SECONDS / 10):
            lines.remind()

    reminder = threading.Thread(target=remind, daemon=True)
    reminder.start()
    try:
        yield lines.report
    finally:
        ended.set()
        reminder.join()
