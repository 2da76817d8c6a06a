"""The page that shows a build, in a real browser, and what everybody else is told meanwhile."""

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, expect

from builder.progress import Step
from serving.http.access import Access
from serving.http.server import Server, make_app
from serving.page.building import Building
from serving.page.ui import build_chat
from tests.page.test_browser import browser, context
from tests.page.test_ui import Speaker
from tests.pages import served
from tests.servers import asked

__all__ = ["browser", "context"]  # fixtures
QUALITY = {
    "text": {"kl_divergence": 0.013, "kl_divergence_error": 0.003},
    "chats": {"kl_divergence": 0.061, "kl_divergence_error": 0.002},
    "export": {"kl_divergence": 0.0001, "kl_divergence_error": 0.0},
}


@pytest.fixture
def building() -> Building:
    return Building("Building <b>m</b>: UINT4, awq, group 128, for cpu")


@pytest.fixture
def server(building: Building) -> Iterator[Server]:
    server = Server(make_app(building.routes(), Access().middleware()), "127.0.0.1", 0)
    try:
        yield server
    finally:
        server.close()


def test_a_build_is_drawn_as_it_goes_and_becomes_the_chat(
    context: BrowserContext,
    building: Building,
    server: Server,
) -> None:
    building.report(Step("calibrate", 1, 1))
    building.report(Step("quantize", 3, 32, "layer 4 of 32", left=5400.0))
    building.report(Step("quantize", 3, 32, "3 of 32 layers are <i>kept</i>.", lasting=True))
    page = context.new_page()
    page.goto(server.url)
    expect(page.locator("h1")).to_have_text("Building <b>m</b>: UINT4, awq, group 128, for cpu")
    stages = page.locator("#stages li")
    expect(stages.nth(0)).to_contain_text("✓")
    expect(stages.nth(1)).to_contain_text("layer 4 of 32, about 90 min left")
    assert stages.nth(1).locator("progress").evaluate("e => e.value") == pytest.approx(3 / 32)
    expect(page.locator("#lines")).to_have_text("3 of 32 layers are <i>kept</i>.")
    expect(page.locator("figure")).to_be_hidden()

    building.report(Step("quantize", 32, 32))
    building.built("It lost little.\nKL divergence 0.0130.", QUALITY, 0.05)
    expect(page.locator("figure svg")).to_have_attribute("aria-label", "on text: 0.0130, on conversations: 0.0610")
    expect(page.locator("#lines")).to_contain_text("KL divergence 0.0130.")
    expect(stages.last).to_contain_text("load")
    widths = [float(bar.get_attribute("width") or 0) for bar in page.locator("figure rect").all()]
    assert widths[1] / widths[0] == pytest.approx(0.061 / 0.013, rel=0.01)

    server.close()
    expect(page.locator("#state")).to_contain_text("does not answer")
    with served(build_chat(Speaker(), name="m", examples=["x"]), port=server.port):
        expect(page.locator("#box textarea")).to_be_visible()


def test_clients_are_told_that_it_is_too_early(building: Building, server: Server) -> None:
    building.report(Step("quantize", 3, 32, "layer 4 of 32"))
    for path in ("v1/chat/completions", "health", "gradio_api/queue/join"):
        status, headers, content = asked(server.url.rstrip("/"), f"/{path}", {"model": "m"})
        error = json.loads(content)["error"]
        assert (status, error["code"]) == (503, "building") and "quantize, layer 4 of 32" in error["message"]
        assert int(dict(headers)["retry-after"]) > 0


def test_whoever_may_not_see_the_chat_may_not_see_its_build(building: Building) -> None:
    access = Access(login=("chat", "x-y-z"))
    server = Server(make_app(building.routes(), access.middleware()), "127.0.0.1", 0)
    try:
        for path in ("/", "/building.json", "/building.js", "/health"):
            assert asked(server.url.rstrip("/"), path)[0] == 401
    finally:
        server.close()


def test_times_are_those_of_each_stage() -> None:
    now = 100.0
    building = Building("Building m", clock=lambda: now)
    building.report(Step("calibrate", 0, 4, "sequence 1 of 4", left=30.0))
    now = 110.0
    first = building.facts()["stages"][0]
    assert (first["seconds"], first["left"], first["ended"]) == (10.0, 20.0, False)
    building.report(Step("calibrate", 4, 4, "sequence 4 of 4"))
    building.report(Step("quantize", 0, 0, "reading"))
    now = 150.0
    ended, running = building.facts()["stages"]
    assert (ended["seconds"], ended["ended"], ended["note"]) == (10.0, True, "")
    assert (running["seconds"], running["left"], running["ended"]) == (40.0, None, False)
