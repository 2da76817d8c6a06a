"""The Gradio chat page.

The history travels from the browser with every request, so nothing here is kept per session: a tab, a regenerated
answer and an edited question are the same to the engine.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import gradio as gr

from serving.engine.protocol import ChatEngine
from serving.errors import LimitReached, ServingError
from serving.folder import read_json
from serving.http.access import Places, client_of
from serving.page.chat import (
    Turn,
    edited,
    error_line,
    model_line,
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
from serving.types import Kind, SamplingOptions

REFRESH_SECONDS = 0.04  # the page is redrawn at most this often, however fast the model is
# A panel that is open from the start would cover a phone's whole screen.
OPEN_PANEL_WHERE_IT_FITS = (
    "() => { if (innerWidth >= 1024) document.querySelector('#settings .toggle-button').click() }"
)
# A disabled box loses the cursor; on a phone the keyboard is better left down.
FOCUS = "() => { if (matchMedia('(hover: hover)').matches) document.querySelector('#box textarea').focus() }"


def build_chat(
    engine: ChatEngine,
    *,
    name: str,
    examples: Sequence[str],
    notice: str = "",
    defaults: SamplingOptions | None = None,
    places: Places | None = None,
) -> gr.Blocks:
    """The chat page of one engine.

    name: of the model. examples: prompts to click. notice: a line of markdown under the title.
    defaults: where the controls begin; without them, what the model folder's generation_config.json suggests.
    places: of those who read it.
    """
    generation = engine.folder.path / "generation_config.json"
    defaults = defaults or suggested_options(read_json(generation) if generation.is_file() else {})
    with gr.Blocks(title=f"oga-chat · {name}", fill_height=True, analytics_enabled=False) as blocks:
        with gr.Sidebar(label="Settings", open=False, width=300, elem_id="settings"):
            controls = _controls(defaults, engine.context_length)
        with gr.Column(elem_id="head"):
            gr.HTML(f"<h1>{escape(name)}</h1><span>oga-chat</span>", elem_id="title")
            gr.Markdown(model_line(engine.folder.manifest), elem_id="model")
            if notice:
                gr.Markdown(notice, elem_id="notice")
        chatbot = gr.Chatbot(
            show_label=False,
            container=False,
            scale=1,
            elem_id="chat",
            editable="user",
            examples=[{"text": example} for example in examples],
            buttons=["copy", "copy_all"],
            feedback_options=None,
            latex_delimiters=[],
            layout="bubble",
        )
        box = gr.Textbox(
            show_label=False,
            placeholder="Ask something",
            lines=1,
            max_lines=8,
            autofocus=True,
            submit_btn=True,
            elem_id="box",
        )
        status = gr.Markdown(elem_id="status")
        _wire(engine, chatbot, box, status, controls, places or Places())
        blocks.load(None, None, None, js=OPEN_PANEL_WHERE_IT_FITS)
    page: gr.Blocks = blocks
    return page


def _controls(defaults: SamplingOptions, context_length: int) -> list[gr.components.Component]:
    """The side panel: the system prompt, then the values in the order of `to_options`."""
    longest = min(defaults.max_tokens or context_length, context_length)
    return [
        gr.Textbox(label="System prompt", lines=3, max_lines=12, placeholder="How the model should behave"),
        gr.Slider(0, 2, defaults.temperature, step=0.05, label="Temperature"),
        gr.Slider(0.05, 1, defaults.top_p, step=0.05, label="Top p"),
        gr.Slider(0, 200, defaults.top_k, step=1, label="Top k, 0 is off"),
        gr.Slider(0, 0.5, defaults.min_p, step=0.01, label="Min p, 0 is off"),
        gr.Slider(1, 2, defaults.repetition_penalty, step=0.01, label="Repetition penalty"),
        gr.Slider(1, context_length, longest, step=1, label="Longest answer"),
        gr.Textbox("" if defaults.seed is None else str(defaults.seed), label="Seed", placeholder="random"),
        gr.Textbox("\n".join(defaults.stop), lines=2, max_lines=6, label="Stop strings", placeholder="one on a line"),
    ]


def answer(
    engine: ChatEngine, history: Sequence[Turn], system: str, *controls: Any, client: str = ""
) -> Iterator[tuple[list[Turn], str]]:
    """Stream the answer to the last question: the history with what there is of it, and the status line.

    An error of ours ends the stream with its message as the status line. Closing the iterator cancels the generation.
    client: who asks.
    """
    if not history or history[-1]["role"] != "user":
        return
    closed = threading.Event()
    texts: dict[Kind, str] = {"reasoning": "", "answer": ""}
    drawn = 0.0

    def shown(ended: bool) -> list[Turn]:
        thoughts = [thought(texts["reasoning"])] if texts["reasoning"] else []
        return [*history, *thoughts, *([turn("assistant", texts["answer"])] if texts["answer"] or ended else [])]

    try:
        messages, options = to_messages(history, system), to_options(*controls)
        for chunk in engine.generate(messages, options, closed.is_set, client=client):
            texts[chunk.kind] += chunk.text
            now = time.perf_counter()
            if chunk.finish_reason is not None or now - drawn >= REFRESH_SECONDS:
                drawn = now
                yield shown(ended=chunk.finish_reason is not None), status_line(chunk)
    except ServingError as error:
        yield shown(ended=False), error_line(error)
    finally:
        closed.set()


def _wire(
    engine: ChatEngine,
    chatbot: gr.Chatbot,
    box: gr.Textbox,
    status: gr.Markdown,
    controls: list[gr.components.Component],
    places: Places,
) -> None:
    """What each event of the page does. Four of them end in an answer, which stop cuts short."""

    def submit(text: str, history: list[Turn]) -> tuple[str, list[Turn]]:
        return "", [*history, turn("user", text)] if text.strip() else history

    def edit(history: list[Turn], data: gr.EditData) -> list[Turn]:
        index = data.index if isinstance(data.index, int) else data.index[0]
        return edited(history, index, text_of(data.value))

    def example(data: gr.SelectData) -> list[Turn]:
        return [turn("user", data.value["text"])]

    def stream(history: list[Turn], request: gr.Request, *values: Any) -> Iterator[tuple[list[Turn], str]]:
        try:
            client = client_of(request.request.scope if request.request else {})
            with places.taken(client, 1):
                yield from answer(engine, history, *values, client=client)
        except LimitReached as error:
            yield history, error_line(error)

    def busy() -> gr.Textbox:
        return gr.Textbox(interactive=False, submit_btn=False, stop_btn=True)

    def ready(history: list[Turn], line: str) -> tuple[list[Turn], gr.Textbox, str]:
        kept, question = unanswered(history)
        return kept, gr.Textbox(question, interactive=True, submit_btn=True, stop_btn=False), settled(line)

    quick: Any = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    questions = [
        box.submit(submit, [box, chatbot], [box, chatbot], **quick),
        chatbot.example_select(example, None, chatbot, **quick),
        chatbot.retry(without_answer, chatbot, chatbot, **quick),
        chatbot.edit(edit, chatbot, chatbot, **quick),
    ]
    # No concurrency limit: the engine itself gives every conversation its turn.
    streaming: Any = {"concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private"}
    answers = [
        question.success(busy, None, box, **quick).success(stream, [chatbot, *controls], [chatbot, status], **streaming)
        for question in questions
    ]
    for made in answers:
        for ended in (made.success, made.failure):  # a stopped answer is a success to Gradio
            ended(ready, [chatbot, status], [chatbot, box, status], **quick).then(None, None, None, js=FOCUS)
    box.stop(None, None, None, cancels=answers, **quick)
    # These, regenerate and edit are hidden by chat.css while an answer is made: a late piece would undo what they do.
    chatbot.undo(without_question, chatbot, [chatbot, box], **quick)
    chatbot.clear(lambda: "", None, status, **quick)
