"""The page for those who do not see it, or have no mouse: axe-core's rules, names, the keyboard, what is heard."""

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, expect

from serving.http.server import Server
from serving.page.ui import build_chat
from tests.page.test_browser import Chat, browser, no_litter  # noqa: F401 - fixtures
from tests.page.test_ui import Speaker
from tests.pages import served

TEXT = "hm, so"
ANSWER = (
    "Use `this` and **that**.\n\n| a | b |\n|---|---|\n| 1 | [link](https://example.org) |\n\n> said\n\n"
    '```python\n# why\n@x\ndef f(x: int) -> str:\n    return "a" + str(1.5) if not x else None\n```'
)
SETTLED = """() => Promise.allSettled(
    document.getAnimations().filter((each) => each instanceof CSSTransition).map((each) => each.finished))"""
WIDE, PHONE = ViewportSize(width=1280, height=800), ViewportSize(width=390, height=844)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served(build_chat(Speaker(TEXT, ANSWER), name="m", examples=["x"])) as server:
        yield server


def faults(page: Page) -> list[str]:
    """What axe-core finds serious or critical, and where, once no colour is on its way to another."""
    page.evaluate(SETTLED)
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['target']} {node['failureSummary']}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def test_axe_finds_nothing_serious(browser: Browser, server: Server) -> None:  # noqa: F811
    """Light and dark, wide and on a phone, before and after an answer, and with what opens on the page."""
    context = browser.new_context(viewport=WIDE)
    chat = Chat(context.new_page(), server.url)
    page = chat.page
    found = {"empty": faults(page)}
    chat.send("go")
    expect(page.locator("#chat .log")).to_contain_text("ended by itself")
    expect(page.locator("#chat .token.keyword").first).to_be_visible()  # what draws code is loaded when it is needed
    for theme in ("light", "dark"):
        page.set_viewport_size(WIDE)
        found[f"{theme}, wide"] = faults(page)
        for name in ("Keys", "Address"):
            page.get_by_role("navigation", name="Page").get_by_role("button", name=name).click()
            expect(page.get_by_role("dialog")).to_be_visible()
            found[f"{theme}, {name}"] = faults(page)
            page.keyboard.press("Escape")
        page.set_viewport_size(PHONE)
        found[f"{theme}, phone"] = faults(page)
        page.keyboard.press("Alt+d")
        expect(page.locator("body.dark")).to_have_count(1 if theme == "light" else 0)
    context.close()
    assert not any(found.values()), found
