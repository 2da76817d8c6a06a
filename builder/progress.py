"""How far a build is: one event type, and a terminal that renders it."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


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


Report = Callable[[Step], None]


def silent(_: Step) -> None:
    """Report nothing."""


@contextmanager
def terminal(title: str = "") -> Iterator[Report]:
    """One bar per stage on a terminal; elsewhere one line when a stage ends. The title comes with the first step."""
    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield _lines(title)
        return
    columns = (
        TextColumn("  {task.description:<10}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
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
                tasks[step.stage] = bars.add_task(step.stage, total=None, note="")
            ended = step.total > 0 and step.done >= step.total
            bars.update(
                tasks[step.stage], completed=step.done, total=step.total or None, note="" if ended else step.note
            )

        yield report


def _lines(title: str) -> Report:
    untitled = [title] if title else []

    def report(step: Step) -> None:
        if untitled:
            print(untitled.pop(), file=sys.stderr, flush=True)
        if step.lasting:
            print(step.note, file=sys.stderr, flush=True)
        elif step.total and step.done >= step.total:
            print(f"  {step.stage}: done", file=sys.stderr, flush=True)

    return report
