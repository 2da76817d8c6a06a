"""Several models on the page: a picker with what is known of each, and answers of the one that is chosen."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from serving.folder import ModelFolder
from serving.http.api import Api
from serving.page.chat import answer_line, choices
from serving.page.ui import answer, build_chat
from serving.types import Chunk
from tests.page.test_accessible import faults
from tests.page.test_browser import Chat, browser, context, no_litter  # noqa: F401 - fixtures
from tests.page.test_ui import CONTROLS, HELLO, Speaker
from tests.pages import served

AWQ: dict[str, Any] = {"recipe": {"quant_algo": "awq", "group_size": 128}}
GPTQ: dict[str, Any] = {"recipe": {"quant_algo": "gptq", "group_size": 32}}


class Named(Speaker):
    """A model with a manifest and a window of its own."""

    def __init__(self, *pieces: str, manifest: dict[str, Any], window: int) -> None:
        super().__init__(*pieces)
        self.context_length = window
        self.folder = ModelFolder(Path("nowhere"), window, 100, 0, 0, False, Path("nowhere"), manifest)


@pytest.fixture
def speakers() -> dict[str, Named]:
    return {
        "first": Named("of the first", manifest=AWQ, window=2048),
        "second": Named("of the second", manifest=GPTQ, window=512),
    }


@pytest.fixture
def chosen() -> list[str]:
    return []


@pytest.fixture
def loading() -> set[str]:
    return set()


@pytest.fixture
def url(speakers: dict[str, Named], chosen: list[str], loading: set[str]) -> Iterator[str]:
    first, second = speakers.values()
    page = build_chat(
        first, name="first", examples=["x"], others={"second": second}, chosen=chosen.append,
        loading=loading.__contains__,
    )  # fmt: skip
    api = Api(first, "first", others={"second": second})  # type: ignore[arg-type, dict-item]
    with served(page, api=api) as server:
        yield server.url


@pytest.fixture
def chat(context: BrowserContext, url: str) -> Chat:  # noqa: F811
    return Chat(context.new_page(), url)


def choose(page: Page, name: str) -> None:
    page.locator("#picker input").click()
    page.get_by_role("option", name=name).click()


def test_the_choices_tell_size_and_window(tmp_path: Path) -> None:
    (tmp_path / "model.onnx.data").write_bytes(b"x" * 3_000_000)
    folder = ModelFolder(tmp_path, 2048, 100, 0, 0, False, tmp_path, {})
    assert choices({"m": (folder, 2048)}) == [("m · 3 MB, window of 2,048 tokens", "m")]


def test_one_model_needs_no_picker() -> None:
    page = build_chat(Speaker("a"), name="m", examples=["x"])
    assert not any(isinstance(block, gr.Dropdown) for block in page.blocks.values())


def test_an_answer_tells_whose_it_is_and_keeps_to_its_window(speakers: dict[str, Named]) -> None:
    last = Chunk("", 10, 0, 10, 5, 0.5, 0.1, finish_reason="stop")
    assert answer_line(last, "m") == f"m · {answer_line(last)}"
    *_, (history, _) = answer(speakers["second"], [HELLO], *CONTROLS[:6], 2000, *CONTROLS[7:], name="second")
    assert history[-1]["metadata"]["log"].startswith("second · ")
    assert speakers["second"].asked[0][1].max_tokens == 512


def test_the_chosen_model_answers_and_its_facts_are_shown(
    chat: Chat, speakers: dict[str, Named], chosen: list[str]
) -> None:
    page, facts = chat.page, chat.page.locator("#model")
    expect(facts).to_contain_text("UINT4 AWQ, group 128")
    chat.ask("Who are you?")
    choose(page, "second")
    expect(facts).to_contain_text("UINT4 GPTQ, group 32")
    assert chosen == ["second"]  # so that it can be loaded meanwhile
    chat.ask("And you?")
    expect(chat.answers).to_have_text(["of the first", "of the second"])
    assert [message.content for message in speakers["second"].asked[0][0]] == [
        "Who are you?",
        "of the first",
        "And you?",
    ]
    expect(chat.status).to_contain_text("of 512 tokens")


def test_it_is_told_that_the_chosen_model_is_being_loaded(chat: Chat, loading: set[str]) -> None:
    page, facts = chat.page, chat.page.locator("#model")
    loading.add("second")
    choose(page, "second")
    expect(facts).to_contain_text("loading the model …")
    expect(facts).to_contain_text("UINT4 GPTQ, group 32")
    choose(page, "first")
    expect(facts).to_have_text("UINT4 AWQ, group 128")
    choose(page, "second")
    expect(facts).to_contain_text("loading the model …")
    loading.clear()
    expect(facts).to_have_text("UINT4 GPTQ, group 32")


def test_a_conversation_keeps_its_model(chat: Chat, speakers: dict[str, Named]) -> None:
    page, picked = chat.page, chat.page.locator("#picker input")
    choose(page, "second")
    chat.ask("Who are you?")
    page.wait_for_timeout(600)
    page.reload()
    expect(picked).to_have_value("second · 0 MB, window of 512 tokens")
    expect(page.locator("#model")).to_contain_text("UINT4 GPTQ, group 32")
    page.get_by_role("button", name="New conversation").click()
    expect(picked).to_have_value("first · 0 MB, window of 2,048 tokens")
    chat.ask("And you?")
    page.locator("#kept li .open").last.click()
    expect(picked).to_have_value("second · 0 MB, window of 512 tokens")
    expect(chat.answers).to_have_text("of the second")


def test_the_command_for_the_api_names_the_chosen_model(chat: Chat) -> None:
    page = chat.page
    choose(page, "second")
    expect(page.locator("#model")).to_contain_text("GPTQ")
    page.get_by_role("button", name="Address of the API").click()
    expect(page.locator("dialog code").nth(1)).to_contain_text('"model":"second"')


def test_axe_finds_nothing_serious_about_it(chat: Chat) -> None:
    page = chat.page
    found = faults(page)
    page.locator("#picker input").click()
    expect(page.get_by_role("listbox").get_by_role("option")).to_have_count(2)
    assert found + faults(page) == []
