"""A long conversation in a real browser: the end of it is drawn, and all of it is asked with, kept and gone back to."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, expect

from serving.http.problems import Problem
from serving.page.events import MOST_EARLIER, earlier
from serving.page.ui import build_chat
from tests.page.test_browser import Chat, browser, context, no_litter  # noqa: F401 - fixtures
from tests.page.test_conversations import kept
from tests.page.test_gate import text, turn
from tests.page.test_ui import Speaker
from tests.pages import keep, served

TURNS = 30  # questions, each with its answer
DRAWN = 10  # of them


def said(role: str, words: str) -> dict[str, Any]:
    return turn(text(words), role=role)


def conversation(turns: int) -> list[dict[str, Any]]:
    return [said(role, f"{role} {n}") for n in range(turns) for role in ("user", "assistant")]


class Long(Chat):
    """The page of a speaker, which shows a conversation that was kept."""

    speaker: Speaker

    def open(self, history: list[dict[str, Any]]) -> None:
        keep(self.page, self.url, history)
        self.page.goto(self.url)
        self.started()

    @property
    def more(self) -> Locator:
        return self.page.locator("#chat .earlier button")

    @property
    def told(self) -> Locator:
        return self.page.locator("#chat .earlier")

    def asked(self) -> list[str]:
        return [message.content for message in self.speaker.asked[-1][0]]


@pytest.fixture
def chat(context: BrowserContext) -> Iterator[Long]:  # noqa: F811
    speaker = Speaker("so.")
    with served(build_chat(speaker, name="m", examples=["x"])) as server:
        chat = Long(context.new_page(), server.url)
        chat.speaker = speaker
        chat.open(conversation(TURNS))
        yield chat


def texts(turns: int) -> list[str]:
    return [each["content"][0]["text"] for each in conversation(turns)]


def stored(chat: Long) -> list[str]:
    [value] = kept(chat.page)
    history: Any = value["history"]
    return [each["content"][0]["text"] for each in history]


def test_the_end_is_drawn_and_the_whole_is_asked_with_and_kept(chat: Long) -> None:
    expect(chat.questions).to_have_text([f"user {n}" for n in range(TURNS - DRAWN, TURNS)])
    expect(chat.told).to_contain_text(f"{2 * (TURNS - DRAWN)} earlier messages")
    for n in range(7):  # beyond what is drawn at most
        chat.send(f"more {n}")
        expect(chat.questions.last).to_have_text(f"more {n}")
        expect(chat.answers.last).to_have_text("so.")
        chat.finished()
    more = [text for n in range(7) for text in (f"more {n}", "so.")]
    assert chat.asked() == [*texts(TURNS), *more[:-1]]
    expect(chat.questions).to_have_text(
        [f"user {n}" for n in range(TURNS - 4, TURNS)] + [f"more {n}" for n in range(7)]
    )
    assert stored(chat) == [*texts(TURNS), *more]
    expect(chat.page.locator("#chat .about")).to_have_count(22)
    expect(chat.page.locator("#chat .bot-row .about").last).to_contain_text("ended by itself")
    chat.page.reload()
    chat.started()
    expect(chat.questions).to_have_count(DRAWN)
    assert stored(chat) == [*texts(TURNS), *more]


def test_more_is_drawn_for_whoever_asks_and_what_was_read_stays_in_its_place(chat: Long) -> None:
    chat.page.locator("#chat .bubble-wrap").evaluate("(place) => { place.scrollTop = 0 }")
    first = chat.questions.first
    before = first.bounding_box()
    chat.more.click()
    expect(chat.questions).to_have_count(2 * DRAWN)
    moved = chat.page.locator("#chat .user .prose", has_text="user 20")
    chat.page.wait_for_timeout(700)
    after = moved.bounding_box()
    assert before and after and abs(after["y"] - before["y"]) < 60
    chat.more.click()
    expect(chat.questions).to_have_text([f"user {n}" for n in range(TURNS)])
    expect(chat.told).to_have_count(0)
    assert stored(chat) == texts(TURNS)


def test_what_the_page_tells_of_the_time_before_a_cut_is_no_other_conversation(chat: Long) -> None:
    asked = TURNS + 6
    told = chat.page.evaluate(
        """([all, before]) => {
          ogaEarlier.cut(all);
          const late = ogaEarlier.whole(all.slice(before)), now = ogaEarlier.whole(all.slice(-20));
          return [late, now, ogaEarlier.whole([...all.slice(-20), all[0]])].map((each) => each.map(ogaPage.textOf));
        }""",
        [conversation(asked), 2 * (TURNS - DRAWN)],
    )
    assert told == [texts(asked), texts(asked), [*texts(asked), "user 0"]]


def test_versions_of_what_is_drawn_belong_to_their_messages(chat: Long) -> None:
    chat.button("Retry").click()
    expect(chat.answers.last).to_have_text("so.")
    chat.finished()
    versions = chat.page.locator("#chat .versions > span")
    expect(versions).to_have_text("2 of 2")
    expect(chat.page.locator("#chat .bot-row .versions")).to_have_count(1)
    chat.page.get_by_role("button", name="Previous version").click()
    expect(chat.answers.last).to_have_text(f"assistant {TURNS - 1}")
    assert stored(chat) == texts(TURNS)


def test_what_is_edited_at_the_beginning_of_what_is_drawn_goes_on_from_there(chat: Long) -> None:
    chat.page.locator("#chat").get_by_role("button", name="Edit", exact=True).first.click()
    chat.page.locator("#chat textarea").fill("else")
    chat.button("Submit").click()
    expect(chat.answers.last).to_have_text("so.")
    chat.finished()
    before = texts(TURNS - DRAWN)
    assert chat.asked() == [*before, "else"]
    expect(chat.questions).to_have_text([f"user {n}" for n in range(11, TURNS - DRAWN)] + ["else"])  # drawn again
    assert stored(chat) == [*before, "else", "so."]


def test_who_takes_back_all_that_is_drawn_sees_what_was_before(chat: Long) -> None:
    for n in range(DRAWN + 2):
        expect(chat.questions.last).to_have_text(f"user {TURNS - 1 - n}")
        chat.box.fill("")
        chat.button("Undo").click()
        expect(chat.box).to_have_value(f"user {TURNS - 1 - n}")
    expect(chat.questions.last).to_have_text("user 17")
    assert stored(chat) == texts(TURNS - DRAWN - 2)


def test_the_bin_takes_all_of_it_and_the_next_question_begins_with_nothing(chat: Long) -> None:
    chat.page.get_by_role("button", name="Clear").click()
    expect(chat.questions).to_have_count(0)
    expect(chat.told).to_have_count(0)
    chat.ask("anew")
    assert chat.asked() == ["anew"]
    assert len(kept(chat.page)) == 2


def test_another_conversation_has_none_of_it(chat: Long) -> None:
    chat.page.locator("#kept .new").click()
    expect(chat.questions).to_have_count(0)
    chat.ask("anew")
    assert chat.asked() == ["anew"]


@pytest.mark.parametrize(
    "value", ["", 0, {}, [1], [{"role": "system", "content": []}], [said("user", "x")] * (MOST_EARLIER + 1)]
)
def test_what_is_said_to_have_been_before_is_a_conversation(value: Any) -> None:
    with pytest.raises(Problem):
        earlier(value)


def test_there_may_be_nothing_before() -> None:
    assert earlier(None) == [] == earlier([])
    assert earlier(conversation(2)) == conversation(2)
