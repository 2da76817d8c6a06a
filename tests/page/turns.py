"""What a turn on the page takes in a long conversation, over one in a short one: `python -m tests.page.turns`.

A scripted model answers at once, so that nothing but the page is timed. Interleaved; medians of so many rounds.
"""

import shutil
import sys
import time
from statistics import median
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from serving.page.ui import build_chat
from tests.page.test_browser import QUIET
from tests.page.test_ui import Speaker
from tests.pages import keep, served

TURNS, ROUNDS = (2, 50, 200), 5  # a question and its answer are one
SAID = "The fox ran over the hill, and *saw* a hare in the `grass`.\n\n- one\n- two\n\n" * 3


def conversation(turns: int) -> list[dict[str, Any]]:
    """What was said before the turn that is timed."""

    def one(role: str) -> dict[str, Any]:
        return {"role": role, "metadata": None, "options": None, "content": [{"type": "text", "text": SAID}]}

    return [one(role) for _ in range(turns - 1) for role in ("user", "assistant")]


def opened(browser: Browser, url: str, turns: int) -> tuple[Page, float]:
    """A tab that shows such a conversation, and the seconds until it took questions."""
    page = browser.new_context().new_page()
    page.set_default_timeout(120_000)
    keep(page, url, conversation(turns))
    began = time.perf_counter()
    page.goto(url)
    expect(page.locator("body[data-started]")).to_be_attached()
    expect(page.locator("#chat .user .prose")).to_have_count(min(turns - 1, 10))
    return page, time.perf_counter() - began


def turn(page: Page) -> float:
    """The seconds of one turn, after which it is taken back."""
    box, answers = page.locator("#box textarea"), page.locator("#chat .bot .prose")
    box.fill("and now?")
    began = time.perf_counter()
    box.press("Enter")
    expect(answers.last).to_have_text("so it is")
    expect(box).to_be_editable()
    took = time.perf_counter() - began
    page.locator("#chat").get_by_role("button", name="Undo", exact=True).last.click()
    expect(answers.last).not_to_have_text("so it is")
    expect(box).to_have_value("and now?")
    return took


def main() -> None:
    """Print a line for each length."""
    expect.set_options(timeout=120_000)
    with (
        served(build_chat(Speaker("so it ", "is"), name="m", examples=["x"])) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=QUIET)
        tabs = {turns: opened(browser, server.url, turns) for turns in TURNS}
        times: dict[int, list[float]] = {turns: [] for turns in TURNS}
        for _ in range(ROUNDS):
            for turns, (page, _) in tabs.items():
                times[turns].append(turn(page))
        for turns, (_, ready) in tabs.items():
            took = median(times[turns])
            ratio = took / median(times[TURNS[0]])
            sys.stdout.write(f"turn {turns}: {took * 1000:.0f} ms, x{ratio:.2f}; page ready in {ready:.1f} s\n")
        browser.close()


if __name__ == "__main__":
    main()
