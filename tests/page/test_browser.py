"""The chat page in a real browser, on a real engine."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from builder.demo import EXAMPLES
from serving.engine.engine import Engine
from serving.engine.runtime import Slot
from serving.http.access import Access, Places
from serving.page.ui import build_chat
from serving.types import Cancelled, Chunk, EngineSettings, Message, SamplingOptions, TemplateOptions, TokenIds, never
from tests.page.test_ui import Speaker
from tests.pages import served, tidy

QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Notes every length that the last answer has on the page.
WATCH = """() => {
  window.lengths = [];
  new MutationObserver(() => {
    const answers = document.querySelectorAll('#chat .bot .prose');
    if (answers.length) window.lengths.push(answers[answers.length - 1].textContent.length);
  }).observe(document.body, {subtree: true, childList: true, characterData: true});
}"""


expect.set_options(timeout=20_000)  # beside other tests a page takes its time


@dataclass
class Asked:
    """One request as the engine got it, and what became of it."""

    messages: list[Message]
    options: SamplingOptions
    chunks: list[Chunk] = field(default_factory=list)
    closed: Event = field(default_factory=Event)

    @property
    def text(self) -> str:
        return "".join(chunk.text for chunk in self.chunks)


Forward = Callable[[Sequence[tuple[Slot, TokenIds]]], None]


def unhurried(forward: Forward, batch: Sequence[tuple[Slot, TokenIds]]) -> None:
    """A forward pass, and some time before it."""
    time.sleep(0.02)
    forward(batch)


class WatchedEngine(Engine):
    """A real engine that remembers what it was asked. An endless one never ends an answer by itself, nor hurries."""

    def watch(self, endless: bool) -> None:
        self.asked: list[Asked] = []
        if endless:
            self.prompt = replace(self.prompt, fixed_end_ids=frozenset())
            runtime = self._memory.runtime
            runtime.forward = partial(unhurried, runtime.forward)  # type: ignore[method-assign]

    def generate(
        self,
        messages: Sequence[Message],
        options: SamplingOptions | None = None,
        cancelled: Cancelled = never,
        template: TemplateOptions | None = None,
        client: str = "",
    ) -> Iterator[Chunk]:
        asked = Asked(list(messages), options or SamplingOptions())
        self.asked.append(asked)
        return self._watched(asked, super().generate(messages, options, cancelled, template, client))

    def _watched(self, asked: Asked, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        try:
            for chunk in chunks:
                asked.chunks.append(chunk)
                yield chunk
        finally:
            asked.closed.set()

    @property
    def held_tokens(self) -> list[int]:
        return [len(slot.tokens) for slot in self._memory.slots]

    @property
    def busy(self) -> int:
        return sum(slot.busy for slot in self._memory.slots)


class Chat:
    """The page, by what a person sees of it."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        page.goto(url)
        self.box = page.locator("#box textarea")
        self.started()
        self.questions = page.locator("#chat .user .prose")
        self.answers = page.locator("#chat .bot .prose")
        self.stop = page.locator("#box .stop-button")
        self.status = page.locator("#status")

    def started(self) -> None:
        """Wait until the page shows what was kept, and takes questions."""
        expect(self.page.locator("body[data-started]")).to_be_attached()
        expect(self.box).to_be_editable()

    def send(self, text: str) -> None:
        self.box.fill(text)
        self.box.press("Enter")

    def button(self, name: str) -> Locator:
        return self.page.locator("#chat").get_by_role("button", name=name, exact=True).last

    def set(self, label: str, value: str) -> None:
        field = self.page.locator("#settings").get_by_label(label, exact=False).first
        field.fill(value)
        field.press("Tab")

    def finished(self) -> None:
        expect(self.status).to_contain_text("of the window")
        expect(self.box).to_be_editable()

    def ask(self, text: str) -> None:
        answered = self.answers.count()
        self.send(text)
        expect(self.answers).to_have_count(answered + 1)
        self.finished()

    def grows(self) -> None:
        """Wait until more text than now is there."""
        length = len(self.answers.last.inner_text())
        self.page.wait_for_function(
            "n => [...document.querySelectorAll('#chat .bot .prose')].at(-1).innerText.length > n + 20", arg=length
        )


@pytest.fixture(autouse=True)
def no_litter() -> Iterator[None]:
    with tidy():
        yield


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if not chromium:
        # Where everything must run, a missing browser is a failure; at home it is a part that cannot run.
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no chromium here: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(20_000)
    yield context
    context.close()


Open = Callable[[bool], tuple[WatchedEngine, str]]


def watched(model: Path, endless: bool) -> Iterator[tuple[WatchedEngine, str]]:
    with tidy(), WatchedEngine.load(model, EngineSettings(guess=not endless)) as engine:
        assert isinstance(engine, WatchedEngine)
        engine.watch(endless)
        with served(build_chat(engine, name="demo", examples=EXAMPLES)) as chat:
            yield engine, chat.url


@pytest.fixture(scope="module")
def _normal(demo_model: Path) -> Iterator[tuple[WatchedEngine, str]]:
    yield from watched(demo_model, endless=False)


@pytest.fixture(scope="module")
def _endless(demo_model: Path) -> Iterator[tuple[WatchedEngine, str]]:
    yield from watched(demo_model, endless=True)


@pytest.fixture
def normal(_normal: tuple[WatchedEngine, str]) -> tuple[WatchedEngine, str]:
    """An engine and the address of its page."""
    _normal[0].asked.clear()
    return _normal


@pytest.fixture
def endless(_endless: tuple[WatchedEngine, str]) -> tuple[WatchedEngine, str]:
    """The same, where answers go on until they are stopped."""
    _endless[0].asked.clear()
    return _endless


def eventually(page: Page, holds: Callable[[], bool]) -> None:
    """Wait for something that happens on the server, while the browser goes on."""
    for _ in range(500):
        if holds():
            return
        page.wait_for_timeout(10)
    raise AssertionError("it did not happen within five seconds")


def test_two_messages_travel_with_their_history_and_nothing_comes_from_elsewhere(
    normal: tuple[WatchedEngine, str], context: BrowserContext
) -> None:
    engine, url = normal
    hosts: set[str] = set()
    faults: list[str] = []
    context.on("request", lambda request: hosts.add(urlsplit(request.url).hostname or urlsplit(request.url).scheme))
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    chat = Chat(page, url)
    assert "demo" in page.title() and "oga-chat" in page.title()
    expect(page.locator("#model")).to_contain_text("UINT4 AWQ, group 128")
    expect(page.locator("footer")).to_have_count(0)
    chat.set("System prompt", "You are brief.")

    chat.ask("Tell me a story about a fox.")
    assert chat.answers.last.inner_text() == engine.asked[0].text
    chat.ask("What is 17 + 25?")

    system, first = Message("system", "You are brief."), Message("user", "Tell me a story about a fox.")
    assert engine.asked[0].messages == [system, first]
    said = Message("assistant", engine.asked[0].text)
    assert engine.asked[1].messages == [system, first, said, Message("user", "What is 17 + 25?")]
    assert engine.asked[1].chunks[-1].cached_tokens > engine.asked[0].chunks[-1].prompt_tokens
    for n in (0, 1):
        expect(page.locator("#chat .about .log").nth(n)).to_contain_text("tokens/s")
    expect(page.locator("#chat .about .log").last).to_contain_text("cached")
    expect(chat.box).to_be_focused()
    assert hosts <= {"127.0.0.1", "data", "blob"}
    assert not faults


def test_example_regenerate_edit_undo_and_clear(normal: tuple[WatchedEngine, str], context: BrowserContext) -> None:
    engine, url = normal
    chat = Chat(context.new_page(), url)

    chat.page.get_by_text("My name is Anna.").click()
    expect(chat.answers).to_have_count(1)
    chat.finished()
    chat.ask("What is my name?")
    two = engine.asked[1].messages
    assert [message.content for message in two] == ["My name is Anna.", engine.asked[0].text, "What is my name?"]

    chat.button("Retry").click()
    eventually(chat.page, lambda: len(engine.asked) == 3)
    chat.finished()
    expect(chat.answers).to_have_count(2)
    assert engine.asked[2].messages == two

    chat.button("Undo").click()
    expect(chat.questions).to_have_count(1)
    expect(chat.box).to_have_value("What is my name?")

    chat.page.locator("#chat").get_by_role("button", name="Edit", exact=True).first.click()  # the question's
    field = chat.page.locator("#chat textarea")
    field.fill("My name is Tom.")
    chat.button("Submit").click()
    eventually(chat.page, lambda: len(engine.asked) == 4)
    chat.finished()
    expect(chat.questions).to_have_text(["My name is Tom."])
    assert engine.asked[3].messages == [Message("user", "My name is Tom.")]
    expect(chat.answers).to_have_count(1)

    chat.button("Clear").click()
    expect(chat.questions).to_have_count(0)
    expect(chat.status).to_have_text("")
    chat.ask("Hello!")
    assert engine.asked[4].messages == [Message("user", "Hello!")]


def test_an_answer_streams_and_stop_ends_the_generation_keeps_the_answer_and_the_chat_goes_on(
    endless: tuple[WatchedEngine, str], context: BrowserContext
) -> None:
    engine, url = endless
    chat = Chat(context.new_page(), url)
    chat.set("number input for Longest answer", "2000")
    chat.page.evaluate(WATCH)
    chat.send("Tell me a story about a fox.")
    expect(chat.answers).to_have_count(1)
    expect(chat.box).not_to_be_editable()
    chat.page.wait_for_function("() => new Set(window.lengths).size >= 4")
    chat.stop.click()
    eventually(chat.page, engine.asked[0].closed.is_set)
    held = max(engine.held_tokens)
    eventually(chat.page, lambda: engine.busy == 0)
    assert max(engine.held_tokens) <= held + 1
    assert engine.asked[0].chunks[-1].finish_reason is None

    lengths = chat.page.evaluate("window.lengths")
    assert lengths == sorted(lengths)
    expect(chat.status).to_contain_text("stopped")
    expect(chat.stop).to_have_count(0)
    kept = chat.answers.last.inner_text()
    assert len(kept) > 20

    chat.send("And a hare?")
    expect(chat.answers).to_have_count(2)
    chat.grows()
    first, partial, second = engine.asked[1].messages
    assert (first.content, second.content) == ("Tell me a story about a fox.", "And a hare?")
    assert engine.asked[0].text.startswith(partial.content) and partial.content.startswith(kept[:20])
    for name in ("Clear", "Edit"):
        expect(chat.page.locator(f"#chat [aria-label={name}]").last).to_be_hidden()
    chat.stop.click()
    eventually(chat.page, lambda: engine.busy == 0)
    expect(chat.box).to_be_editable()
    expect(chat.button("Retry")).to_be_visible()


def test_two_tabs_stream_at_the_same_time_and_a_closed_tab_ends_its_answer(
    endless: tuple[WatchedEngine, str], context: BrowserContext, browser: Browser
) -> None:
    engine, url = endless
    other = browser.new_context()
    here, there = Chat(context.new_page(), url), Chat(other.new_page(), url)
    for chat in (here, there):
        chat.set("number input for Longest answer", "2000")
    for chat, question in ((here, "Tell me a story about a fox."), (there, "What is AWQ?")):
        chat.send(question)
        expect(chat.answers).to_have_count(1)
        chat.grows()
    here.grows()
    assert engine.busy == 2
    assert [asked.messages[0].content for asked in engine.asked] == ["Tell me a story about a fox.", "What is AWQ?"]
    here.stop.click()
    expect(here.status).to_contain_text("stopped")
    there.grows()

    other.close()
    eventually(here.page, engine.asked[1].closed.is_set)
    eventually(here.page, lambda: engine.busy == 0)
    assert engine.asked[1].chunks[-1].finish_reason is None
    text = here.answers.last.inner_text().split()[:8]
    assert engine.asked[0].text.split()[:8] == text


def test_an_error_is_a_message_and_the_conversation_stays(
    normal: tuple[WatchedEngine, str], context: BrowserContext
) -> None:
    engine, url = normal
    chat = Chat(context.new_page(), url)
    chat.ask("Hello!")
    too_long = "far too long " * 1000
    chat.send(too_long)
    expect(chat.box).to_have_value(too_long)  # it is given back, to be shortened
    expect(chat.status).to_contain_text("shorten it, start a new chat")
    expect(chat.page.get_by_test_id("toast-body")).to_have_count(0)
    expect(chat.questions).to_have_text(["Hello!"])
    chat.ask("What is 17 + 25?")
    assert [message.content for message in engine.asked[-1].messages][::2] == ["Hello!", "What is 17 + 25?"]


def test_one_reader_may_have_so_many_answers(context: BrowserContext) -> None:
    places, speaker = Places(1), Speaker("so", ".")
    with served(build_chat(speaker, name="m", examples=["x"], places=places)) as page:
        chat = Chat(context.new_page(), page.url)
        with places.taken("127.0.0.1", 1):
            chat.send("go")
            expect(chat.status).to_contain_text("one client may have 1 answers at a time")
            expect(chat.box).to_have_value("go")
        chat.ask("go")
    assert speaker.client == "127.0.0.1"  # by which the engine shares out its slots


def test_a_reader_logs_in(context: BrowserContext) -> None:
    with served(build_chat(Speaker("so", "."), name="m", examples=["x"]), Access(login=("anna", "s3cret"))) as server:
        page = context.new_page()
        page.goto(server.url)
        for word, said in (("wrong", "That is not the login."), ("s3cret", None)):
            page.get_by_label("User").fill("anna")
            page.get_by_label("Password").fill(word)
            page.get_by_role("button", name="Log in").click()
            if said:
                expect(page.get_by_role("alert")).to_have_text(said)
        expect(page.locator("#box textarea")).to_be_editable()
        Chat(page, server.url).ask("go")


def test_what_was_thought_goes_back_and_forth_and_a_theme_is_the_readers_choice(context: BrowserContext) -> None:
    speaker = Speaker("hm, so", "yes")
    with served(build_chat(speaker, name="m", examples=["x"])) as page:
        chat = Chat(context.new_page(), f"{page.url}?__theme=dark")
        expect(chat.page.locator("body.dark")).to_have_count(1)
        for question in ("go", "on"):
            chat.send(question)
            expect(chat.questions).to_have_count(1 if question == "go" else 2)
            chat.finished()
        chat.button("Retry").click()
        eventually(chat.page, lambda: len(speaker.asked) == 3)
        chat.finished()
        chat.page.locator("#chat").get_by_role("button", name="Edit", exact=True).first.click()
        chat.page.locator("#chat textarea").fill("go back")
        chat.button("Submit").click()
        eventually(chat.page, lambda: len(speaker.asked) == 4)
        chat.finished()
    said = [[message.content for message in messages] for messages, _ in speaker.asked]
    assert said == [["go"], ["go", "yes", "on"], ["go", "yes", "on"], ["go back"]]


def test_what_a_model_writes_neither_runs_nor_loads_anything(context: BrowserContext) -> None:
    loaded: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            loaded.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    elsewhere = ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    Thread(target=elsewhere.serve_forever, daemon=True).start()
    speaker = Speaker(
        "<think>wait</think> costs $5 and $6, <b>bold</b>, 1 < 2\n\n<script>window.ran = 1</script>",
        f"<img src=x onerror='window.ran = 1'>\n\nlook: ![x](http://127.0.0.1:{elsewhere.server_port}/x.png)\n\n"
        "```python\nif a < b:\n    print('<b>')\n```\n\nthe end",
    )
    with served(build_chat(speaker, name="m", examples=["x"])) as page:
        chat = Chat(context.new_page(), page.url)
        chat.ask("go")
        expect(chat.answers.last).to_contain_text("the end")  # the part that draws code is loaded when it is needed
        shown = chat.answers.last.inner_text()
        for part in ("<think>wait</think>", "costs $5 and $6", "1 < 2", "if a < b:\n    print('<b>')", "the end"):
            assert part in shown
        chat.ask("on")
        assert speaker.asked[1][0][1].content == "".join(speaker.pieces)
        assert chat.page.evaluate("window.ran") is None
    elsewhere.shutdown()
    elsewhere.server_close()
    assert not loaded
