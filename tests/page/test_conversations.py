"""What a browser keeps, in a real one: conversations, drafts and settings; and how messages are drawn."""

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, TimeoutError, expect

from serving.http.server import Server
from serving.page.ui import build_chat
from serving.types import Chunk
from tests.page.test_browser import Chat, browser, context, eventually, no_litter  # noqa: F401 - fixtures
from tests.page.test_ui import Speaker
from tests.pages import keep, served

WALKS = int(os.environ.get("OGA_CHAT_WALKS", "1"))  # of 120 steps, which take a minute

LONG = [
    {"role": role, "content": [{"type": "text", "text": f"{role} {n}"}]}
    for n in range(40)
    for role in ("user", "assistant")
]

HOSTILE = (
    "Use the <button> element, not <div style='position:fixed;inset:0'>.\n\n"
    "<form action='/login'><input type=password name=p></form>\n\n<!-- unseen -->\n\n```html\n<b>so</b>\n```\n\n"
    "It costs $5 and $10; but $a^2$, \\(b^2\\) and \\[c^2\\] are formulas, and `$d^2$` is not."
)


@contextmanager
def page_of(*pieces: str, port: int = 0) -> Iterator[tuple[Speaker, Server]]:
    speaker = Speaker(*pieces)
    with served(build_chat(speaker, name="m", examples=["an example"]), port=port) as page:
        yield speaker, page


def kept(page: Page) -> list[dict[str, object]]:
    """What is stored, once it is."""
    page.wait_for_timeout(500)
    stored = page.evaluate("() => Object.entries(localStorage).filter(([key]) => key.startsWith('oga-chat/'))")
    return [json.loads(text) for _, text in sorted(stored)]


def listed(page: Page) -> Locator:
    return page.locator("#kept li .open")


@pytest.fixture
def chat(context: BrowserContext) -> Iterator[Chat]:  # noqa: F811
    with page_of("yes, ", "so it is") as (speaker, page):
        chat = Chat(context.new_page(), page.url)
        chat.speaker = speaker  # type: ignore[attr-defined]
        yield chat


def test_a_reload_keeps_conversation_settings_and_draft(chat: Chat) -> None:
    chat.set("System prompt", "You are brief.")
    chat.set("Seed", "7")
    chat.ask("Is it so?")
    chat.box.fill("and what I have not")
    chat.page.wait_for_timeout(600)
    chat.page.reload()
    expect(chat.questions).to_have_text("Is it so?")
    expect(chat.answers).to_have_text("yes, so it is")
    expect(chat.box).to_have_value("and what I have not")
    chat.ask("And now?")
    messages, options = chat.speaker.asked[1]  # type: ignore[attr-defined]
    assert [message.content for message in messages] == ["You are brief.", "Is it so?", "yes, so it is", "And now?"]
    assert options.seed == 7


def test_conversations_are_listed_chosen_renamed_found_and_deleted(chat: Chat) -> None:
    page = chat.page
    for name in ("about foxes", "about <i>wolves</i>"):
        page.get_by_role("button", name="New conversation").click()
        expect(chat.questions).to_have_count(0)
        chat.ask(name)
        page.wait_for_timeout(600)
    expect(listed(page)).to_have_text(["about <i>wolves</i>", "about foxes"])
    listed(page).last.click()
    expect(chat.questions).to_have_text("about foxes")
    expect(page.locator("#kept [aria-current]")).to_have_text("about foxes")

    page.get_by_role("button", name="Rename about foxes").click()
    page.get_by_label("Name of the conversation").fill("Foxes")
    page.keyboard.press("Enter")
    expect(listed(page)).to_have_text(["about <i>wolves</i>", "Foxes"])
    chat.ask("more")
    expect(listed(page)).to_have_text(["Foxes", "about <i>wolves</i>"])

    page.get_by_label("Search conversations").fill("WOLV")
    expect(listed(page)).to_have_text(["about <i>wolves</i>"])
    page.get_by_label("Search conversations").fill("")
    page.get_by_role("button", name="Delete Foxes").click()
    expect(listed(page)).to_have_text(["about <i>wolves</i>"])
    expect(chat.questions).to_have_count(0)
    page.get_by_role("button", name="Undo", exact=True).first.click()
    expect(listed(page)).to_have_text(["Foxes", "about <i>wolves</i>"])


def test_the_bin_begins_another_conversation_and_loses_none(chat: Chat) -> None:
    chat.ask("first")
    chat.page.wait_for_timeout(600)
    chat.page.locator("#chat").get_by_role("button", name="Clear", exact=True).first.click()
    expect(chat.questions).to_have_count(0)
    chat.ask("second")
    expect(listed(chat.page)).to_have_text(["second", "first"])
    assert [message.content for message in chat.speaker.asked[1][0]] == ["second"]  # type: ignore[attr-defined]


def test_two_tabs_do_not_overwrite_each_other(chat: Chat) -> None:
    chat.ask("first")
    chat.page.wait_for_timeout(600)
    other = Chat(chat.page.context.new_page(), chat.page.url)
    listed(other.page).first.click()
    expect(other.questions).to_have_text("first")
    other.ask("of the other tab")
    other.page.wait_for_timeout(600)
    chat.ask("of this tab")
    found = {str(each["history"]).count("tab") for each in kept(chat.page)}
    assert len(kept(chat.page)) == 2 and found == {1}
    expect(listed(other.page)).to_have_count(2)


def test_what_is_exported_is_imported_and_what_is_not_ours_is_refused(chat: Chat, tmp_path: Path) -> None:
    page = chat.page
    chat.ask("use <b>this</b>")
    page.wait_for_timeout(600)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export all").click()
    download.value.save_as(tmp_path / "all.json")
    with page.expect_download() as download:
        page.get_by_role("button", name="as Markdown").click()
    download.value.save_as(tmp_path / "one.md")
    assert (tmp_path / "one.md").read_text() == (
        "# use <b>this</b>\n\n## You\n\nuse <b>this</b>\n\n## Assistant\n\nyes, so it is\n"
    )
    (content,) = json.loads((tmp_path / "all.json").read_text())
    assert content["version"] == 1 and content["history"][0]["content"] == [{"type": "text", "text": "use <b>this</b>"}]
    page.get_by_role("button", name="Delete use").click()
    page.locator("#kept input[type=file]").set_input_files(tmp_path / "all.json")
    listed(page).first.click()
    expect(chat.questions).to_have_text("use <b>this</b>")
    wrong = tmp_path / "wrong.json"
    for text in ("no JSON", "[]", '[{"version": 99}]', '{"version": 1, "title": "x", "changed": 1, "history": [7]}'):
        wrong.write_text(text)
        page.locator("#kept input[type=file]").set_input_files(wrong)
        expect(page.locator("#note")).to_contain_text("no conversations")
    expect(listed(page)).to_have_count(1)


def test_what_is_stored_and_cannot_be_read_harms_nothing(chat: Chat) -> None:
    put = "([key, value]) => localStorage.setItem('oga-chat/conversation/' + key, value)"
    stored = {"version": 1, "title": "old", "changed": 5, "settings": {"Temperature": 900, "Seed": 3, "Top p": None}}
    stored["history"] = [
        {"role": "user", "metadata": None, "options": None, "content": [{"type": "text", "text": "then"}]}
    ]
    for key, value in {"a": "{", "b": '{"version": 2}', "c": json.dumps(stored)}.items():
        chat.page.evaluate(put, [key, value])
    chat.page.reload()
    expect(listed(chat.page)).to_have_text(["old"])
    listed(chat.page).click()
    expect(chat.box).to_have_value("then")  # it had no answer
    chat.box.press("Enter")
    chat.finished()
    (_, options) = chat.speaker.asked[0]  # type: ignore[attr-defined]
    assert options.temperature == 2.0 and options.seed is None


def test_what_is_written_is_drawn_as_it_is_written(context: BrowserContext) -> None:  # noqa: F811
    with page_of(HOSTILE[:50], HOSTILE[50:]) as (speaker, page):
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        chat = Chat(context.new_page(), page.url)
        chat.ask("what of <i>this</i>?")
        expect(chat.questions).to_have_text("what of <i>this</i>?")
        expect(chat.answers.locator(".katex")).to_have_count(3)
        shown = chat.answers.last.inner_text()
        for part in ("the <button> element, not <div style", "<input type=password", "<!-- unseen -->", "<b>so</b>"):
            assert part in shown
        assert "It costs $5 and $10; but" in shown and "$d^2$ is not" in shown
        assert chat.answers.last.locator("form, input, b, [style*=fixed]").count() == 0
        chat.page.locator("#chat").get_by_role("button", name="Copy message").last.click()
        assert chat.page.evaluate("navigator.clipboard.readText()") == HOSTILE
        chat.ask("on")
        assert [message.content for message in speaker.asked[1][0]] == ["what of <i>this</i>?", HOSTILE, "on"]


def test_after_the_server_was_away_the_page_goes_on(context: BrowserContext) -> None:  # noqa: F811
    with page_of("y", "es") as (_, page):
        port = page.port
        chat = Chat(context.new_page(), page.url)
        chat.ask("first")
        chat.page.wait_for_timeout(600)
    chat.send("lost?")
    chat.page.wait_for_timeout(1500)
    with page_of("aga", "in", port=port) as (speaker, _):
        expect(chat.questions.first).to_have_text("first", timeout=30_000)
        eventually(chat.page, lambda: chat.box.is_editable())
        chat.page.wait_for_timeout(6000)  # the page notices, and loads itself again
        expect(chat.box).to_have_value("lost?")
        chat.box.press("Enter")
        expect(chat.answers.last).to_have_text("again")
        assert [message.content for message in speaker.asked[-1][0]] == ["first", "yes", "lost?"]


class Slow(Speaker):
    """Says a line at a time."""

    def _chunks(self) -> Iterator[Chunk]:
        for chunk in super()._chunks():
            time.sleep(0.05)
            yield chunk


def test_a_reader_scrolls_selects_and_stops_while_an_answer_is_made(context: BrowserContext) -> None:  # noqa: F811
    speaker = Slow(*(f"line {n}\n\n" for n in range(400)))
    with served(build_chat(speaker, name="m", examples=["x"])) as server:
        chat = Chat(context.new_page(), server.url)
        place = "() => { const e = document.querySelector('#chat .bubble-wrap');"
        left = f"{place} return e.scrollHeight - e.scrollTop - e.clientHeight; }}"
        top = f"{place} return e.scrollTop; }}"
        chat.send("go")
        expect(chat.answers.last).to_contain_text("line 30")
        assert chat.page.evaluate(left) < 100  # it follows
        chat.page.locator("#chat .bubble-wrap").hover()
        chat.page.mouse.wheel(0, -500)
        chat.page.wait_for_timeout(200)
        before = chat.page.evaluate(top)
        chat.page.evaluate("() => getSelection().selectAllChildren(document.querySelector('#chat .bot .prose p'))")
        chat.grows()
        assert chat.page.evaluate(top) == before and chat.page.evaluate("String(getSelection())") == "line 0"
        chat.page.mouse.wheel(0, 90_000)
        chat.page.wait_for_timeout(200)
        chat.grows()
        assert chat.page.evaluate(left) < 100
        chat.page.keyboard.press("Escape")
        expect(chat.status).to_contain_text("stopped")
        expect(chat.page.locator("#chat .log")).to_contain_text("stopped")


def test_a_file_that_is_dropped_becomes_a_text_in_the_box(chat: Chat) -> None:
    drop = """([name, bytes]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], name));
      document.querySelector('#chat').dispatchEvent(
        new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
    }"""
    chat.box.fill("What does this do?")
    chat.page.evaluate(drop, ["a.py", list(b"print('```')\n")])
    expect(chat.box).to_have_value("What does this do?\n\na.py:\n````py\nprint('```')\n````\n")
    chat.page.evaluate(drop, ["b.png", [137, 80, 78, 71, 0]])
    expect(chat.page.locator("#note")).to_contain_text("b.png cannot be read here: it is no text")
    chat.box.press("Enter")
    chat.finished()
    asked = chat.speaker.asked[0][0][0].content  # type: ignore[attr-defined]
    assert asked.startswith("What does this do?\n\na.py:\n````py\nprint('```')\n````")


@pytest.mark.parametrize("seed", range(11, 11 + WALKS))
def test_no_sequence_of_clicks_and_keys_locks_the_page(chat: Chat, seed: int) -> None:
    page, rng = chat.page, random.Random(seed)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    keep(page, chat.url, LONG)
    page.goto(chat.url)
    chat.started()

    def click(locator: Locator) -> None:
        if (count := locator.count()) and (one := locator.nth(rng.randrange(count))).is_visible():
            with suppress(TimeoutError):  # it has gone meanwhile
                one.dispatch_event("click", timeout=2000)

    steps: list[Callable[[], None]] = [
        lambda: chat.box.press("Enter"),
        lambda: chat.box.fill(rng.choice(["", " ", "hello", "<b>", "$x$", "\n"])),
        lambda: chat.send(rng.choice(["", "hello"])),
        lambda: click(page.locator("#chat button")),
        lambda: click(page.locator("#kept button")),
        lambda: click(page.locator(".toggle-button")),
        lambda: click(page.locator("#menu button, #presets button, #tools button")),
        lambda: click(page.locator("dialog button, #chat .about button, #chat .option")),
        lambda: page.keyboard.press(rng.choice(["Escape", "Tab", "Enter", "?", "/", "Alt+n", "Alt+d"])),
        lambda: page.reload() and None,
    ]
    for step in range(120):
        rng.choices(steps, weights=[4, 4, 4, 6, 6, 1, 3, 3, 3, 1])[0]()
        try:
            expect(chat.box).to_be_editable(timeout=10_000)
        except AssertionError as error:
            raise AssertionError(f"locked at step {step}") from error
    page.evaluate("() => document.querySelectorAll('dialog[open]').forEach((each) => each.close())")
    page.reload()  # what the last steps began may be on its way still
    chat.started()
    page.locator("#kept .new").dispatch_event("click")
    expect(chat.questions).to_have_count(0)
    chat.ask("still there?")
    assert not faults
