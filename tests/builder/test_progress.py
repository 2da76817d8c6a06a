"""What a build shows while it runs."""

import io
import re
import sys

import pytest

from builder import progress
from builder.progress import Step, spoken, terminal

BUILD = [
    Step("calibrate", 0, 0),
    Step("calibrate", 1, 1),
    Step("quantize", 0, 0),
    Step("quantize", 0, 2, "layer 1 of 2"),
    Step("quantize", 1, 2, "layer 2 of 2"),
    Step("quantize", 1, 1),
    Step("export", 0, 0),
]


class Screen(io.StringIO):
    """A terminal, as far as one can see from its file."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """These change what counts as a terminal."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_without_a_terminal_each_finished_stage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal() as report:
        for step in BUILD:
            report(step)
    shown = capsys.readouterr()
    assert shown.err == "  calibrate: done\n  quantize: done\n"
    assert shown.out == ""


def test_on_a_terminal_each_stage_that_has_begun_has_a_bar_with_its_note(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with terminal() as report:
        for step in [*BUILD, Step("export", 3, 9, "reading layer 3")]:
            report(step)
    final = screen.getvalue().rpartition("calibrate")[2]
    assert "quantize" in final
    assert "reading layer 3" in final
    assert "layer 2 of 2" not in final, "the note of a stage that has ended stays on the screen"
    assert "verify" not in screen.getvalue()


@pytest.mark.parametrize("screen", [io.StringIO, Screen])
def test_the_title_is_shown_as_it_is_once_and_only_when_something_begins(
    screen: type[io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    title = "Building /models/a[b]c[/d]:bug: by AWQ"
    shown = screen()
    monkeypatch.setattr(sys, "stderr", shown)
    with terminal(title):
        pass
    assert "Building" not in shown.getvalue()
    with terminal(title) as report:
        for step in BUILD:
            report(step)
    assert shown.getvalue().count(title) == 1


def test_a_long_step_without_a_terminal_is_reported_again_and_again_with_what_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.02)
    with terminal() as report:
        report(Step("quantize", 3, 32, "layer 4 of 32", left=7500))
        seen = ""
        while seen.count("\n") < 3:  # without a step in between
            seen += capsys.readouterr().err
    assert re.fullmatch(r"  quantize: layer 4 of 32, \d+ s so far, about 2 h [45] min left", seen.splitlines()[0])


@pytest.mark.parametrize(
    ("seconds", "said"), [(-2, "0 s"), (99, "99 s"), (100, "2 min"), (5940, "99 min"), (6000, "1 h 40 min")]
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert spoken(seconds) == said
