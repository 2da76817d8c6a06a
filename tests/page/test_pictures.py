"""The pictures in docs/images: `OGA_CHAT_PICTURES=docs/images pytest tests/page/test_pictures.py` makes them anew.

With OGA_CHAT_PICTURES_OF=FOLDER the chat is one with the model there, and else with the demo.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from builder.demo import EXAMPLES
from builder.progress import Step
from serving.engine.engine import Engine
from serving.http.access import Access
from serving.http.server import Server, make_app
from serving.page.building import Building
from serving.page.ui import build_chat
from serving.types import EngineSettings
from tests.page.test_browser import Chat, browser, context, no_litter  # noqa: F401
from tests.pages import served, tidy

FOLDER, MODEL = os.environ.get("OGA_CHAT_PICTURES", ""), os.environ.get("OGA_CHAT_PICTURES_OF", "")
QUESTIONS = ("My name is Anna.", "What is my name?")
CUT_OFF, TOKENS = "Tell me a story about a fox.", "30"
if MODEL:
    QUESTIONS = ("What is the capital of France?", "Explain in two sentences why leaves are green.")
    CUT_OFF, TOKENS = "How do I make tea?", "16"
pytestmark = pytest.mark.skipif(not FOLDER, reason="OGA_CHAT_PICTURES names no folder to write to")


def picture(page: Page, name: str) -> None:
    page.mouse.move(0, 0)
    page.evaluate("document.querySelector('#chat .bubble-wrap')?.scrollTo(0, 1e6)")
    page.screenshot(path=Path(FOLDER) / f"{name}.png", animations="disabled")


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    folder = Path(MODEL) if MODEL else request.getfixturevalue("demo_model")
    with tidy(), Engine.load(folder, EngineSettings()) as engine:
        name = Path(engine.folder.source).name
        with served(build_chat(engine, name=name, examples=EXAMPLES)) as page:
            yield page.url


def test_of_the_chat(url: str, context: BrowserContext) -> None:  # noqa: F811
    chat = Chat(context.new_page(), url)
    chat.set("number input for Temperature", "0")
    for question in QUESTIONS:
        chat.ask(question)
    chat.set("number input for Longest answer", TOKENS)
    chat.ask(CUT_OFF)
    expect(chat.page.locator("#chat .option")).to_have_text("Continue")
    expect(chat.page.locator("#settings.open")).to_be_visible()
    picture(chat.page, "desktop")
    chat.page.locator("#settings").get_by_label("Token probabilities").check()
    chat.button("Retry").click()
    tokens = chat.page.locator("#chat .likely p span")
    tokens.nth(6).hover()
    chat.page.keyboard.press("Alt+d")
    expect(chat.page.locator("body.dark")).to_have_count(1)
    picture(chat.page, "dark")
    chat.page.locator("#settings .toggle-button").click()
    chat.page.locator("#conversations .toggle-button").click()
    chat.page.keyboard.press("Alt+d")
    chat.page.set_viewport_size({"width": 390, "height": 844})
    expect(chat.page.locator("#settings.open, #conversations.open")).to_have_count(0)
    picture(chat.page, "phone")


def test_of_a_build(context: BrowserContext) -> None:  # noqa: F811
    """As one is reported; its figures are made up."""
    now = [0.0]
    building = Building("Building SmolLM2-135M: UINT4, awq, group 64, for cpu", clock=lambda: now[0])
    for stage, seconds in (("calibrate", 12.0), ("quantize", 140.0)):
        building.report(Step(stage, 0, 30))
        now[0] += seconds
        last = stage == "quantize"
        building.report(
            Step(stage, 17 if last else 30, 30, "layer 18 of 30" if last else "", left=107.0 if last else 0.0)
        )
    building.report(
        Step("quantize", 17, 30, "17 of 30 layers are kept: a build that is stopped goes on there.", lasting=True)
    )
    server = Server(make_app(building.routes(), Access().middleware()), "127.0.0.1", 0)
    try:
        page = context.new_page()
        page.set_viewport_size({"width": 900, "height": 420})
        page.goto(server.url)
        expect(page.locator("#stages li")).to_have_count(2)
        picture(page, "building")
    finally:
        server.close()
