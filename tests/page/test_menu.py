"""What stands around the chat, in a real browser: themes, keys, addresses, kept prompts, files that become texts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from serving.engine.process import EngineProcess
from serving.http.api import Api
from serving.page.ui import build_chat
from tests.page.test_browser import Chat, browser, context, no_litter  # noqa: F401 - fixtures
from tests.pages import served, tidy


@pytest.fixture(scope="module")
def url(demo_model: Path) -> Iterator[str]:
    """A page beside the API, as the program serves them."""
    with tidy(), EngineProcess.load(demo_model) as engine:
        page = build_chat(engine, name="demo", examples=["x"])
        with served(page, api=Api(engine, "demo")) as server:
            yield server.url


@pytest.fixture
def chat(url: str, context: BrowserContext) -> Chat:  # noqa: F811
    return Chat(context.new_page(), url)


def test_a_theme_is_kept_until_it_is_changed(chat: Chat) -> None:
    dark = chat.page.get_by_role("button", name="Dark mode")
    expect(dark).to_have_attribute("aria-pressed", "false")
    dark.click()
    chat.page.reload()
    expect(chat.page.locator("body.dark")).to_have_count(1)
    expect(dark).to_have_attribute("aria-pressed", "true")
    chat.page.keyboard.press("Alt+d")
    expect(chat.page.locator("body.dark")).to_have_count(0)


def test_the_keyboard_alone_does_it(chat: Chat) -> None:
    page = chat.page
    page.keyboard.press("?")
    expect(chat.box).to_have_value("?")  # it is a letter where one writes
    chat.box.fill("")
    page.locator("#chat .bubble-wrap").focus()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_contain_text("a new conversation")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("/")
    expect(chat.box).to_be_focused()
    page.keyboard.type("Hello!")
    page.keyboard.press("Enter")
    expect(chat.answers).to_have_count(1)
    chat.finished()
    expect(page.locator("#heard-status")).to_contain_text("of the window are used")
    page.keyboard.press("Alt+f")
    expect(page.get_by_label("Search conversations")).to_be_focused()
    names = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        names.add(page.evaluate("() => document.activeElement.ariaLabel || document.activeElement.innerText"))
    assert {"Edit", "Retry", "Keys", "Send", "Add files as text", "Keep this system prompt", "Hello!"} <= names
    page.keyboard.press("Alt+n")
    expect(chat.questions).to_have_count(0)


def test_an_error_is_heard_at_once(chat: Chat) -> None:
    chat.send("far too long " * 1000)
    expect(chat.page.locator("#heard-alert")).to_contain_text("shorten it")
    assert chat.page.locator("#heard-alert").get_attribute("role") == "alert"


def test_addresses_are_shown_to_be_copied(chat: Chat, context: BrowserContext) -> None:  # noqa: F811
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    origin = chat.page.evaluate("location.origin")
    chat.page.get_by_role("button", name="Address of the API").click()
    for name, text in (("Copy the base address", f"{origin}/v1"), ("Copy the link", f"{origin}/")):
        chat.page.get_by_role("button", name=name).click()
        expect(chat.page.locator("#note")).to_have_text("Copied.")
        assert chat.page.evaluate("navigator.clipboard.readText()") == text
    dialog = chat.page.get_by_role("dialog")
    expect(dialog).to_contain_text('"model":"demo"')
    expect(dialog).to_contain_text("Only this machine can open it")
    assert chat.page.evaluate(
        "() => new Promise((ok) => { const i = new Image(); i.onload = () => ok(i.width); i.src = 'address.svg' })"
    )


def test_system_prompts_are_kept_chosen_and_deleted(chat: Chat) -> None:
    page = chat.page
    for text in ("You are brief.", "You are <b>a poet</b>."):
        chat.set("System prompt", text)
        page.get_by_role("button", name="Keep this system prompt").click()
    page.reload()
    prompts = page.get_by_label("Kept system prompts")
    prompts.select_option("You are brief.")
    expect(page.locator("#system textarea")).to_have_value("You are brief.")
    page.get_by_role("button", name="Delete the chosen").click()
    expect(prompts.locator("option")).to_have_text(["Kept prompts", "You are <b>a poet</b>."])


def test_a_file_says_its_tokens_and_what_is_left_of_the_window(chat: Chat, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("so it is " * 100)
    (tmp_path / "b.png").write_bytes(b"PNG\n\xff\x00")
    chat.page.locator("#tools input").set_input_files([tmp_path / "a.md", tmp_path / "b.png"])
    expect(chat.box).to_have_value("a.md:\n```md\n" + "so it is " * 100 + "\n```\n")
    expect(chat.page.locator("#note")).to_contain_text("b.png cannot be read here: it is no text")
    expect(chat.page.locator("#note")).to_contain_text("a.md: ")
    expect(chat.page.locator("#tools .left")).to_contain_text("tokens of the window are left")
    chat.box.fill("so it is " * 3000)
    expect(chat.page.locator("#tools .left")).to_contain_text("tokens too long for the window")
    chat.box.fill("")
    expect(chat.page.locator("#tools .left")).to_have_text("")
