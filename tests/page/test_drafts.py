"""Answers and questions as drafts, in a real browser: gone on with, edited, asked for again; what was there is kept."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import BrowserContext, Locator, expect

from serving.page.ui import build_chat
from serving.types import Chunk, Message
from tests.page.test_browser import Chat, browser, context, no_litter  # noqa: F401 - fixtures
from tests.page.test_conversations import kept
from tests.page.test_ui import Speaker
from tests.pages import served


class CutOff(Speaker):
    """Says what it is told, and is cut off there unless it has said a full stop."""

    def _chunks(self) -> Iterator[Chunk]:
        for chunk in super()._chunks():
            cut = chunk.finish_reason and not self.pieces[-1].endswith(".")
            yield replace(chunk, finish_reason="length") if cut else chunk


class Drafts(Chat):
    """The page of a speaker, who is told before each answer what to say."""

    speaker: CutOff

    def asks(self, text: str, *pieces: str) -> None:
        self.speaker.pieces = pieces
        self.send(text)
        self.answered("".join(pieces))

    def answered(self, text: str) -> None:
        expect(self.answers.last).to_have_text(text)
        self.finished()

    def edit(self, n: int, text: str) -> None:
        self.page.locator("#chat").get_by_role("button", name="Edit", exact=True).nth(n).click()
        self.page.locator("#chat textarea").fill(text)
        self.button("Submit").click()

    @property
    def versions(self) -> Locator:
        return self.page.locator("#chat .versions > span")

    def turn(self, name: str, n: int = 0) -> None:
        self.page.get_by_role("button", name=f"{name} version").nth(n).click()


@pytest.fixture
def chat(context: BrowserContext) -> Iterator[Drafts]:  # noqa: F811
    speaker = CutOff()
    with served(build_chat(speaker, name="m", examples=["x"])) as server:
        chat = Drafts(context.new_page(), server.url)
        chat.speaker = speaker
        yield chat


def test_a_cut_off_answer_goes_on_where_it_ended(chat: Drafts) -> None:
    more = chat.page.get_by_role("button", name="Continue", exact=True)
    chat.asks("go", "one <b>", " two ")
    expect(chat.page.locator("#chat .log")).to_contain_text("cut off at the token limit")
    beside, again = (each.bounding_box() for each in (more, chat.button("Retry")))
    assert beside and again and again["x"] + again["width"] < beside["x"]
    assert beside["y"] < again["y"] + again["height"] and again["y"] < beside["y"] + beside["height"]
    above, text = (chat.page.locator(f"#chat {each}").bounding_box() for each in (".top-panel", ".bubble-wrap"))
    assert above and text and above["y"] + above["height"] <= text["y"]  # it covers no question
    chat.speaker.pieces = ("three", ".")
    more.click()
    chat.answered("one <b> two three.")
    expect(more).to_have_count(0)
    assert chat.speaker.template.ending == "continue"
    assert chat.speaker.asked[1][0] == [Message("user", "go"), Message("assistant", "one <b> two ")]
    expect(chat.page.locator("#chat .log")).to_contain_text("ended by itself")
    expect(chat.versions).to_have_count(0)


def test_an_edited_answer_is_what_the_model_is_told_and_goes_on_from_there(chat: Drafts) -> None:
    chat.asks("go", "yes.")
    chat.edit(1, "no <i>,")
    expect(chat.answers).to_have_text("no <i>,")
    expect(chat.versions).to_have_text("2 of 2")
    chat.speaker.pieces = (" never.",)
    chat.page.get_by_role("button", name="Continue", exact=True).click()
    chat.answered("no <i>, never.")
    chat.asks("why?", "so.")
    assert [message.content for message in chat.speaker.asked[-1][0]] == ["go", "no <i>, never.", "why?"]


def test_every_version_of_answers_and_questions_stays_over_a_reload(chat: Drafts) -> None:
    chat.asks("go", "one.")
    chat.asks("on", "more.")
    chat.speaker.pieces = ("else.",)
    chat.button("Retry").click()
    chat.answered("else.")
    expect(chat.versions).to_have_text("2 of 2")
    chat.turn("Previous")
    expect(chat.answers).to_have_text(["one.", "more."])
    chat.speaker.pieces = ("of start.",)
    chat.edit(0, "start")
    chat.answered("of start.")
    expect(chat.versions).to_have_text("2 of 2")
    assert len(kept(chat.page)) == 1
    chat.page.reload()
    expect(chat.questions).to_have_text("start")
    chat.turn("Previous")
    expect(chat.questions).to_have_text(["go", "on"])
    expect(chat.versions).to_have_text(["1 of 2", "2 of 2"])
    chat.turn("Previous", 1)
    expect(chat.answers).to_have_text(["one.", "more."])
    chat.asks("then", "so.")
    assert [message.content for message in chat.speaker.asked[-1][0]] == ["go", "one.", "on", "more.", "then"]


def test_a_version_that_is_not_stored_yet_stays_when_another_is_chosen(chat: Drafts) -> None:
    never = "() => { const later = setTimeout; setTimeout = (f, ...more) => f.name === 'write' || later(f, ...more) }"
    chat.asks("go", "one.")
    assert len(kept(chat.page)) == 1
    chat.page.evaluate(never)
    chat.speaker.pieces = ("else.",)
    chat.button("Retry").click()
    chat.answered("else.")
    chat.turn("Previous")
    expect(chat.answers).to_have_text("one.")
    chat.turn("Next")
    expect(chat.answers).to_have_text("else.")


def test_versions_that_are_stored_and_cannot_be_read_harm_nothing(chat: Drafts) -> None:
    chat.asks("go", "one.")
    (value,) = kept(chat.page)
    put = "value => localStorage.setItem(Object.keys(localStorage).find((key) => key.includes('conversation')), value)"
    turns = value["history"]
    assert isinstance(turns, list)
    wrong = turns[1] | {"metadata": {"log": 7, "path": "x"}, "options": [{"value": "x"}]}
    for versions in ({"at": 99, "others": [{"same": 1, "tail": [wrong]}]}, {"at": "x", "others": 5}, 7):
        chat.page.goto(f"{chat.url}nothing")  # beside the page, which writes when it is left
        chat.page.evaluate(put, json.dumps(value | {"history": [turns[0], wrong], "versions": versions}))
        chat.page.goto(chat.url)
        expect(chat.answers).to_have_text("one.")
        chat.asks("on", "so.")
