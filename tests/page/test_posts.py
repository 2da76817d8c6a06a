"""What becomes of the page where the server refuses what it asks, or answers late: nothing locks it or mixes it up."""

import json
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.page.test_browser import Chat, browser, context, eventually, no_litter  # noqa: F401 - fixtures
from tests.page.test_conversations import chat, listed  # noqa: F401 - a fixture
from tests.page.test_gate import CLEAR, READY, STREAM, SUBMIT

UNDO = CLEAR - 2


def posts(page: Page, number: int, act: Callable[[Route], None]) -> None:
    """Do something about what is posted for one of Gradio's events, by its number."""

    def met(route: Route) -> None:
        found = json.loads(route.request.post_data or "{}").get("fn_index")
        act(route) if found == number else route.fallback()

    page.route("**/gradio_api/{run/predict,queue/join}*", met)


def refusing(times: int, status: int) -> Callable[[Route], None]:
    """Answer the first ones as a server that is busy, or that fails, would."""
    left = [times]

    def act(route: Route) -> None:
        if not left[0]:
            return route.continue_()
        left[0] -= 1
        error = json.dumps({"error": "too many requests at a time.", "detail": "too many"})
        route.fulfill(status=status, content_type="application/json", body=error)

    return act


@pytest.mark.parametrize("number", [SUBMIT, STREAM, READY])
def test_what_is_refused_for_now_is_asked_again(chat: Chat, number: int) -> None:  # noqa: F811
    posts(chat.page, number, refusing(2, 429))
    chat.ask("Is it so?")
    expect(chat.questions).to_have_text("Is it so?")
    expect(chat.page.get_by_test_id("toast-body")).to_have_count(0)


def test_after_an_answer_the_box_is_free_whatever_the_server_says(chat: Chat) -> None:  # noqa: F811
    posts(chat.page, READY, refusing(1, 500))
    chat.send("Is it so?")
    expect(chat.answers).to_have_text("yes, so it is")
    expect(chat.box).to_be_editable()
    expect(chat.stop).to_have_count(0)
    chat.ask("And now?")
    assert [message.content for message in chat.speaker.asked[1][0]][::2] == [  # type: ignore[attr-defined]
        "Is it so?",
        "And now?",
    ]


def test_a_question_whose_answer_is_refused_is_given_back(chat: Chat) -> None:  # noqa: F811
    posts(chat.page, STREAM, refusing(1, 503))
    posts(chat.page, READY + 4, refusing(1, 500))  # of an answer that failed
    chat.send("Is it so?")
    expect(chat.box).to_have_value("Is it so?")
    expect(chat.box).to_be_editable()
    expect(chat.questions).to_have_count(0)


def test_what_comes_late_comes_into_no_other_conversation(chat: Chat) -> None:  # noqa: F811
    page, held = chat.page, list[Route]()
    chat.ask("first")
    page.wait_for_timeout(600)
    page.get_by_role("button", name="New conversation").click()
    expect(chat.questions).to_have_count(0)
    for question in ("second", "more"):
        chat.ask(question)
    posts(page, UNDO, held.append)
    chat.button("Undo").click()
    eventually(page, lambda: bool(held))
    listed(page).last.click()
    held[0].continue_()
    expect(chat.box).to_have_value("more")  # it has come
    expect(chat.questions).to_have_text(["first"])
    listed(page).first.click()
    expect(chat.questions).to_have_text(["second"])
