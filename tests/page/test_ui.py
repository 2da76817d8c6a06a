"""What the chat page decides, and its server, without a browser."""

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import gradio as gr
import pytest
import segno

from serving.errors import EngineStopped, InvalidRequest, ServingError
from serving.folder import ModelFolder
from serving.http.access import Access
from serving.http.server import Server, make_app
from serving.page.chat import (
    CONTINUE,
    DONE,
    OPEN,
    answer_line,
    continued,
    edited,
    goes_on,
    is_open,
    made,
    model_line,
    offered,
    settled,
    status_line,
    suggested_options,
    text_of,
    thought,
    to_messages,
    to_options,
    turn,
    unanswered,
    without_answer,
    without_question,
)
from serving.page.mount import share
from serving.page.ui import answer, build_chat
from serving.types import Cancelled, Chunk, Kind, Message, SamplingOptions, TemplateOptions, never
from tests.pages import served, tidy
from tests.servers import asked

HELLO = turn("user", "hello")
HI = turn("assistant", "  hi\n    there")
CONTROLS = ("", 0.5, 0.9, 40, 0.05, 1.1, 100, "", "")


class Speaker:
    """Stands where the engine does, and says what it is told."""

    context_length = 2048

    def __init__(self, *pieces: str, folder: Path = Path("nowhere"), error: Exception | None = None) -> None:
        self.folder = ModelFolder(folder, self.context_length, 100, 0, 0, False, folder, {})
        self.pieces, self.error = pieces, error
        self.asked: list[tuple[list[Message], SamplingOptions]] = []
        self.cancelled: Cancelled = never

    def generate(
        self,
        messages: Sequence[Message],
        options: SamplingOptions | None = None,
        cancelled: Cancelled = never,
        template: TemplateOptions | None = None,
        client: str = "",
    ) -> Iterator[Chunk]:
        self.asked.append((list(messages), options or SamplingOptions()))
        self.cancelled, self.template, self.client = cancelled, template or TemplateOptions(), client
        return self._chunks()

    def _chunks(self) -> Iterator[Chunk]:
        yield Chunk("", 10, 4, 10)
        for n, piece in enumerate(self.pieces, 1):
            last = n == len(self.pieces) and not self.error
            kind: Kind = "reasoning" if piece.startswith("hm") else "answer"
            yield Chunk(piece, 10, 4, 10, n, 0.5, 0.1 * n, finish_reason="stop" if last else None, kind=kind)
        if self.error:
            raise self.error


@pytest.fixture(autouse=True)
def no_litter() -> Iterator[None]:
    with tidy():
        yield


def test_history_becomes_messages_word_for_word() -> None:
    question = {"role": "user", "metadata": None, "content": [{"type": "text", "text": "and\tnow?"}]}
    assert to_messages([HELLO, HI, question], "  be brief\n") == [
        Message("system", "be brief"),
        Message("user", "hello"),
        Message("assistant", "  hi\n    there"),
        Message("user", "and\tnow?"),
    ]


def test_the_page_keeps_what_the_model_wrote() -> None:
    page = gr.Chatbot(render=False)
    value = page.postprocess([HELLO, HI])
    assert value is not None
    kept = page.preprocess(value)
    assert to_messages(cast(list[dict[str, Any]], kept), "") == to_messages([HELLO, HI], "")


def test_questions_without_an_answer_are_joined() -> None:
    history = [HELLO, turn("assistant", ""), turn("user", "are you there?")]
    assert to_messages(history, "") == [Message("user", "hello\n\nare you there?")]


def test_regenerate_undo_and_edit_cut_the_history() -> None:
    history = [HELLO, HI, turn("user", "more"), HI]
    assert without_answer(history) == history[:3]
    assert without_question(history) == (history[:2], "more")
    assert without_question([]) == ([], "")
    assert unanswered(history) == (history, "")
    assert unanswered(history[:3]) == (history[:2], "more")
    assert unanswered([]) == ([], "")
    assert edited(history, 0, "bye") == [turn("user", "bye")]
    assert edited(history, 2, "less") == [*history[:2], turn("user", "less")]


def test_an_answer_that_was_cut_off_is_offered_to_go_on_and_goes_on_where_it_ended() -> None:
    cut = [HELLO, made("so <b>", "1 tokens …", OPEN)]
    shown = offered(cut)
    assert shown[1]["options"] == [CONTINUE] and shown[1]["metadata"]["log"] == "1 tokens · stopped"
    assert not goes_on(shown) and list(answer(Speaker("x"), shown, *CONTROLS)) == [(shown, "")]
    speaker = Speaker(" far", ".")
    *_, (history, _) = answer(speaker, continued(shown), *CONTROLS)
    assert text_of(history[1]["content"]) == "so <b> far." and not is_open(history)
    assert speaker.template.ending == "continue"
    assert speaker.asked[0][0] == [Message("user", "hello"), Message("assistant", "so <b>")]
    for whole in ([], [HELLO], [HELLO, HI], [HELLO, made("", "", OPEN)], [HELLO, made("a", "", DONE)]):
        assert offered(whole) == continued(whole) == whole and not goes_on(whole)


def test_an_answer_that_cannot_go_on_stays() -> None:
    cut = [HELLO, made("so", "1 token", OPEN)]
    [(history, status)] = answer(Speaker("a"), cut, *CONTROLS[:-2], "x", "")
    assert history == cut and "seed must be" in status


def test_an_answer_is_edited_in_place_and_the_last_can_go_on_from_there() -> None:
    history = [HELLO, thought("hm"), made("a <b>", "l", DONE), turn("user", "more"), made("c", "l", DONE)]
    first, last = edited(history, 2, "x <i>"), edited(history, 4, "y")
    assert [text_of(each["content"]) for each in first] == ["hello", "hm", "x <i>", "more", "c"]
    assert first[1] == history[1] and first[4] == history[4] and not is_open(first)
    assert not goes_on(last) and "options" not in last[4], "not before what the edit began has ended"
    [(after, _)] = answer(Speaker("a"), last, *CONTROLS)
    assert after == last and is_open(offered(after)) and offered(after)[4]["options"] == [CONTINUE]
    assert edited(history, 9, "z") == history
    # Gradio's page has put a part in already, and says so of each part.
    raw = [HELLO, thought("hm"), {**history[2], "content": [{"type": "text", "text": "x <i>"}]}, *history[3:]]
    assert edited(raw, 1, "hm")[2] == turn("assistant", "x <i>") | {"metadata": history[2]["metadata"]}


def test_whether_to_think_is_the_templates_own_choice_unless_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    for template, thinks in {
        "{% if enable_thinking %}": True,
        "{%- set thinking = thinking | default(true) %}": True,
        "{{ m.thinking }} thinking {{ 'thinking' }}": False,
        "{{ m.content }}": False,
    }.items():
        (tmp_path / "chat_template.jinja").write_text(template)
        page = build_chat(Speaker(folder=tmp_path), name="m", examples=["x"])
        assert any(block.label == "Thinking" for block in page.blocks.values() if isinstance(block, gr.Radio)) == thinks
    speaker = Speaker("a")
    for said, hints in (
        ("as the model does", {}),
        ("on", {"enable_thinking": True}),
        ("off", {"enable_thinking": False}),
    ):
        list(answer(speaker, [HELLO], *CONTROLS, said))
        assert speaker.template.hints == hints


def test_the_address_of_the_page_is_a_qr_code_of_what_the_browser_asked_for() -> None:
    with served(build_chat(Speaker("a"), name="m", examples=["x"])) as chat:
        status, headers, content = asked(chat.url, "/address.svg")
        assert status == 200 and headers["content-type"] == "image/svg+xml" and content.startswith(b"<svg")
        drawn = BytesIO()
        segno.make_qr(chat.url).save(drawn, kind="svg", scale=4, dark="#000", light="#fff", xmldecl=False)
        assert content.split(b"<path")[1:] == drawn.getvalue().split(b"<path")[1:]
        assert asked(chat.url, "/address.svg", headers={"host": "evil.example"})[0] == 403


def test_controls_become_options() -> None:
    assert to_options(0, 1, 40, 0.05, 1.1, 100, " 7 ", "User:\n\n\\nQ:") == SamplingOptions(
        0.0, 40, 1.0, 0.05, 1.1, 7, 100, ("User:", "\nQ:")
    )
    assert to_options(0, 1, 0, 0, 1, 1, "", "").seed is None


@pytest.mark.parametrize("seed", ["-1", "abc", "1.5", str(2**63)])
def test_a_bad_seed_is_named(seed: str) -> None:
    with pytest.raises(InvalidRequest, match="seed must be"):
        to_options(0, 1, 0, 0, 1, 1, seed, "")


def test_the_model_suggests_where_the_controls_begin() -> None:
    suggested = suggested_options({"temperature": 0.6, "top_p": 0.9, "top_k": 20, "eos_token_id": 2})
    assert (suggested.temperature, suggested.top_p, suggested.top_k) == (0.6, 0.9, 20)
    assert suggested_options({"top_p": 7.0, "temperature": "hot"}) == suggested_options({})
    assert suggested_options({"temperature": None, "top_k": True}) == suggested_options({})


def test_status_tells_progress_then_speed_then_how_full_the_window_is() -> None:
    assert status_line(Chunk("", 2000, 0, 0, loading=True), 4096) == "loading the model …"
    assert status_line(Chunk("", 2000, 0, 512), 4096) == "reading 512 of 2,000 tokens …"
    assert status_line(Chunk("a", 40, 30, 40, 11, 0.25, 0.5), 4096).startswith("20.0 tokens/s · 11 tokens")
    done = Chunk("", 4000, 30, 4000, 11, 0.25, 0.5, finish_reason="stop")
    assert status_line(done, 4096) == "4,011 of 4,096 tokens of the window are used"


def test_each_answer_tells_its_speed_its_counts_and_how_it_ended() -> None:
    line = answer_line(Chunk("", 40, 30, 40, 11, 0.25, 0.5, finish_reason="stop"))
    assert line == "20.0 tokens/s · 11 tokens, the first after 0.25 s · prompt 40 tokens, 30 cached · ended by itself"
    cut = answer_line(Chunk("", 40, 30, 40, 11, 0.0042, 0.5, finish_reason="length"))
    assert "the first after 4 ms" in cut
    assert cut.endswith("cut off at the token limit")
    short = answer_line(Chunk("", 40, 30, 40, 1, 0.25, 0.0, finish_reason="stop", dropped_messages=1))
    assert short.startswith("1 token, the first after") and "1 message left out, the oldest" in short


def test_a_status_that_still_runs_was_stopped() -> None:
    running = status_line(Chunk("a", 40, 30, 40, 11, 0.25, 0.5), 4096)
    assert settled(running).endswith("30 cached · stopped")
    assert settled("") == ""
    assert settled("20 tokens/s") == "20 tokens/s"


def test_model_line_tells_recipe_and_quality() -> None:
    manifest = {
        "recipe": {"quant_algo": "awq", "group_size": 128},
        "target": {"execution_provider": "cpu"},
        "quality": {
            "text": {"perplexity_original": 9.0, "perplexity_exported": 9.5, "top1_agreement": 0.8},
            "chats": {"perplexity_original": 5.1426, "perplexity_exported": 5.2, "top1_agreement": 0.9426},
        },
    }
    line = "UINT4 AWQ, group 128 · cpu · perplexity 5.14 → 5.20 · same next token as the original 94%"
    assert model_line(manifest) == line
    manifest["quality"] = {"text": manifest["quality"]["text"], "chats": None}
    assert "perplexity 9.00 → 9.50" in model_line(manifest)


@pytest.mark.parametrize(
    "manifest", [{}, {"recipe": None}, {"quality": []}, {"quality": {"text": {"perplexity_original": 1}}}]
)
def test_model_line_of_a_folder_made_elsewhere(manifest: dict[str, Any]) -> None:
    assert model_line(manifest) == "recipe and quality not recorded in this folder"


def test_an_answer_streams_and_its_options_are_the_controls() -> None:
    speaker = Speaker("a", "b")
    *_, (history, status) = answer(speaker, [HELLO], "be brief", *CONTROLS[1:])
    line = "5.0 tokens/s · 2 tokens, the first after 0.50 s · prompt 10 tokens, 4 cached · ended by itself"
    assert history == [HELLO, made("ab", line, DONE)]
    assert status == "12 of 2,048 tokens of the window are used"
    messages, options = speaker.asked[0]
    assert messages == [Message("system", "be brief"), Message("user", "hello")]
    assert options == SamplingOptions(0.5, 40, 0.9, 0.05, 1.1, None, 100)


def test_what_was_thought_is_folded_away_and_not_said_again() -> None:
    *_, (history, _) = answer(Speaker("hm", "hm, so", "yes"), [HELLO], *CONTROLS)
    assert [(text_of(said["content"]), said.get("metadata", {}).get("title")) for said in history] == [
        ("hello", None),
        ("hmhm, so", "Reasoning"),
        ("yes", None),
    ]
    assert to_messages(history, "") == [Message("user", "hello"), Message("assistant", "yes")]
    assert without_answer(history) == [HELLO]


def test_no_question_no_answer_and_the_page_stays_as_it_is() -> None:
    assert list(answer(Speaker("a"), [], *CONTROLS)) == [([], "")]
    assert list(answer(Speaker("a"), [HELLO, HI], *CONTROLS)) == [([HELLO, HI], "")]


def test_closing_an_answer_cancels_it() -> None:
    speaker = Speaker("a", "b")
    running = answer(speaker, [HELLO], *CONTROLS)
    next(running)
    assert not speaker.cancelled()
    running.close()  # type: ignore[attr-defined]
    assert speaker.cancelled()


def test_our_errors_are_messages_and_what_there_is_stays() -> None:
    speaker = Speaker("so", error=EngineStopped("the engine <b> stopped."))
    *_, (history, status) = answer(speaker, [HELLO], *CONTROLS)
    assert [text_of(each["content"]) for each in history] == ["hello", "so"] and is_open(history)
    assert status == "**the engine \\<b\\> stopped**"
    [(history, status)] = answer(Speaker("a"), [HELLO], *CONTROLS[:-2], "x", "")
    assert history == [HELLO]
    assert "seed must be" in status


def test_controls_begin_where_the_model_folder_says(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.35}')
    page = build_chat(Speaker(folder=tmp_path), name="m", examples=["x"])
    values = {block.label: block.value for block in page.blocks.values() if isinstance(block, gr.Slider)}
    assert values["Temperature"] == 0.35
    assert values["Longest answer"] == 512


def test_the_server_names_no_endpoint_and_tells_browsers_to_load_nothing_from_elsewhere() -> None:
    with served(build_chat(Speaker("a"), name="m <i>", examples=["x"])) as chat:
        assert chat.url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(chat.url) as response:
            assert response.headers["content-security-policy"].startswith("default-src 'self'")
            assert "m &lt;i&gt;" in response.read().decode()
        with urllib.request.urlopen(chat.url + "gradio_api/info") as response:
            assert json.load(response)["named_endpoints"] == {}


def test_only_what_a_chat_needs_is_there() -> None:
    with served(build_chat(Speaker("a"), name="m", examples=["x"])) as chat:
        for path in ("gradio_api/upload", "gradio_api/file=/etc/hosts", "gradio_api/proxy=http://x/", "monitoring",
                     "openapi.json", "login", "docs", "gradio_api/component_server"):  # fmt: skip
            assert asked(chat.url, f"/{path}")[0] == 404, path
            assert asked(chat.url, f"/{path}", b"")[0] == 404, path


def test_a_login_is_asked_for() -> None:
    page = build_chat(Speaker("a"), name="m", examples=["x"])
    with served(page, Access(login=("me", "secret"))) as chat:
        assert asked(chat.url, "/config")[0] == 401


def test_a_share_link_that_fails_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def no_tunnel(*_: object) -> str:
        raise RuntimeError("Could not get share link from Gradio API Server.")

    monkeypatch.setattr("gradio.networking.setup_tunnel", no_tunnel)
    with pytest.raises(ServingError, match="tunnel cannot be reached"):
        share(1)
    monkeypatch.setattr("gradio.networking.setup_tunnel", lambda *_: "http://abc.example.org")
    assert share(1) == "https://abc.example.org"
    assert capsys.readouterr().out == ""


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"port {port} on 127.0.0.1 cannot be had"):
            Server(make_app([]), "127.0.0.1", port)


def test_importing_the_page_loads_no_torch_turns_telemetry_off_and_parses_no_component() -> None:
    code = (
        "import ast, os, sys; os.environ.pop('GRADIO_ANALYTICS_ENABLED', None); parse, parsed = ast.parse, []\n"
        "def noted(code, *a, **b): parsed.append(code); return parse(code, *a, **b)\n"
        "ast.parse = noted; import serving.page.ui\n"
        "print({'torch', 'quark', 'builder'} & set(sys.modules), os.environ['GRADIO_ANALYTICS_ENABLED'],"
        "sum('class Chatbot(' in str(code) for code in parsed))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "set() False 0"
