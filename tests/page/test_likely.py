"""How likely each token was: told for who asks, drawn beneath the answer, and nothing of it for who does not."""

import json
from collections.abc import Iterator
from math import log
from types import SimpleNamespace

import pytest
from playwright.sync_api import BrowserContext, expect

from serving.page.likely import scored
from serving.page.ui import build_chat
from serving.text.prompt import Spelling
from serving.types import Chunk
from tests.page.test_accessible import faults
from tests.page.test_browser import Chat, browser, context, no_litter  # noqa: F401 - fixtures
from tests.page.test_ui import Speaker
from tests.pages import served

SPELLING = Spelling(["The", " <b>", " fox", " hare", ""], frozenset({4}))


class Sure(Speaker):
    """Says "The <b> fox", and how sure it is where it is asked."""

    prompt = SimpleNamespace(spelling=SPELLING)

    def _chunks(self) -> Iterator[Chunk]:
        asked = self.asked[-1][1].logprobs is not None
        for n, (token, probability) in enumerate(((0, 1.0), (1, 0.5), (2, 0.04), (4, 0.9)), 1):
            scores = {"logprob": log(probability), "top": ((token, log(probability)), (3, log(0.03)))} if asked else {}
            text, end = SPELLING.of(token), "stop" if token == 4 else None
            yield Chunk(text, 9, 0, 9, n, 0.5, 0.1 * n, token_id=token, finish_reason=end, **scores)  # type: ignore[arg-type]


def test_of_a_token_its_text_probability_and_alternatives_are_told() -> None:
    chunk = Chunk("x", 1, 0, 1, token_id=2, logprob=log(0.25), top=((3, log(0.5)), (99, log(0.125))))
    assert scored(chunk, SPELLING) == [" fox", 0.25, [[" hare", 0.5], ["", 0.125]]]
    for none in (Chunk("x", 1, 0, 1), Chunk("x", 1, 0, 1, token_id=2), Chunk("", 1, 0, 1, token_id=4, logprob=0.0)):
        assert scored(none, SPELLING) is None


@pytest.fixture
def chat(context: BrowserContext) -> Iterator[Chat]:  # noqa: F811
    speaker = Sure()
    with served(build_chat(speaker, name="m", examples=["x"])) as server:
        chat = Chat(context.new_page(), server.url)
        chat.speaker = speaker  # type: ignore[attr-defined]
        yield chat


def test_who_asks_sees_the_tokens_and_what_else_could_have_come(chat: Chat) -> None:
    page, asked = chat.page, chat.speaker.asked  # type: ignore[attr-defined]
    chat.ask("go")
    expect(page.locator("#chat .likely")).to_have_count(0)
    assert asked[0][1].logprobs is None  # it costs nothing where nobody asks

    page.locator("#settings").get_by_label("Token probabilities").check()
    chat.send("on")
    tokens = page.locator("#chat .likely p span")
    expect(tokens).to_have_text(["The", " <b>", " fox"])
    assert asked[1][1].logprobs == 5
    assert [each.get_attribute("style") for each in tokens.all()] == [
        "--unlikely: 0", "--unlikely: 50", "--unlikely: 96",
    ]  # fmt: skip
    expect(page.locator("#chat .about + .likely")).to_have_count(1)  # beneath what the answer took
    tokens.last.hover()
    expect(page.locator("#chat .likely output")).to_have_text("“ fox” 4.0 %, of “ fox” 4.0 % · “ hare” 3.0 %")
    page.locator("#chat .likely p").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#chat .likely output")).to_contain_text("“ <b>” 50 %")
    assert not faults(page)
    page.locator("#settings").get_by_label("Token probabilities").uncheck()
    chat.send("more")
    expect(chat.questions).to_have_count(3)
    chat.finished()
    expect(page.locator("#chat .likely")).to_have_count(0)
    kept = page.evaluate("() => Object.values(localStorage).join()")
    assert "hare" not in kept and json.dumps("go") in kept  # they are of this page alone
