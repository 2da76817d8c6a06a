"""The Gradio chat page.

The history travels from the browser with every request, so nothing here is kept per session: a tab, a regenerated
answer and an edited question are the same to the engine.
"""

import json
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from html import escape
from typing import Any

import gradio as gr

from serving.engine.protocol import ChatEngine
from serving.errors import LimitReached, ServingError
from serving.folder import read_json
from serving.http.access import Places, client_of
from serving.page.chat import (
    AS_IT_DOES,
    DONE,
    OPEN,
    THINKING,
    Turn,
    answer_line,
    choices,
    continued,
    drafted,
    edited,
    error_line,
    goes_on,
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
    to_template,
    turn,
    unanswered,
    without_answer,
    without_question,
)
from serving.page.likely import ALTERNATIVES, scored, told
from serving.page.marks import FORMULAS
from serving.page.redraws import Redraws
from serving.text.template import has_switch
from serving.types import Kind, SamplingOptions

# A panel that is open from the start would cover a phone's whole screen.
OPEN_PANELS_WHERE_THEY_FIT = """() => {
  if (innerWidth >= 1024) document.querySelector('#settings .toggle-button')?.click();
  if (innerWidth >= 1280) document.querySelector('#conversations .toggle-button')?.click();
}"""
# In the browser, at once: what came late from here would make a box busy whose answer is there already.
BUSY_BOX = "() => ({__type__: 'update', interactive: false, submit_btn: false, stop_btn: true})"
_LOADING_SECONDS = 0.5  # between two looks at whether a model has been loaded
FITTED = "(history) => ogaEarlier.fitted(history)"
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
    others: Mapping[str, ChatEngine] | None = None,
    chosen: Callable[[str], None] = lambda _: None,
    loading: Callable[[str], bool] = lambda _: False,
) -> gr.Blocks:
    """The chat page of one engine, or of several.

    name: of the model. examples: prompts to click. notice: a line of markdown under the title.
    defaults: where the controls begin; without them, what the model folder's generation_config.json suggests.
    places: of those who read it. others: more engines to choose from, by their models' names. chosen: is told which
    one it is whenever a reader chooses; it returns at once. loading: whether that one is being loaded.
    """
    engines = {name: engine, **(others or {})}
    generation = engine.folder.path / "generation_config.json"
    defaults = defaults or suggested_options(read_json(generation) if generation.is_file() else {})
    with gr.Blocks(title=f"oga-chat · {name}", fill_height=True, analytics_enabled=False) as blocks:
        with gr.Sidebar(label="Conversations", open=False, width=260, elem_id="conversations"):
            gr.HTML('<nav id="kept" aria-label="Conversations"></nav>', padding=False)
        with gr.Sidebar(label="Settings", open=False, width=300, position="right", elem_id="settings"):
            longest = max(each.context_length for each in engines.values())
            controls = _controls(defaults, longest, any(has_switch(each.folder.path) for each in engines.values()))
        with gr.Column(elem_id="head"):
            title = "<h1>oga-chat</h1>" if others else f"<h1>{escape(name)}</h1><span>oga-chat</span>"
            gr.HTML(title, elem_id="title")
            gr.HTML(f'<nav id="menu" aria-label="Page" data-model="{escape(name)}"></nav>', padding=False)
            if others:
                kinds = {each: (one.folder, one.context_length) for each, one in engines.items()}
                picker = gr.Dropdown(
                    choices(kinds), value=name, label="Model", container=False, filterable=False, elem_id="picker"
                )
                controls.append(picker)
            facts = gr.Markdown(model_line(engine.folder.manifest), elem_id="model")
            if notice:
                gr.Markdown(notice, elem_id="notice")
        chatbot = gr.Chatbot(
            show_label=False,
            container=False,
            scale=1,
            elem_id="chat",
            editable="all",
            examples=[{"text": example} for example in examples],
            buttons=["copy", "copy_all"],
            feedback_options=None,
            latex_delimiters=FORMULAS,
            autoscroll=False,  # Gradio's own takes whoever has scrolled up back to the end: see assets/page.js
            layout="bubble",
        )
        box = gr.Textbox(
            label="Message",
            show_label=False,
            placeholder="Ask something",
            lines=1,
            max_lines=8,
            autofocus=True,
            submit_btn=True,
            elem_id="box",
        )
        with gr.Row(elem_id="below"):
            gr.HTML('<div id="tools"></div>', padding=False, min_width=0)
            status = gr.Markdown(elem_id="status", min_width=0)
        likely = gr.Textbox(visible="hidden", elem_id="likely")
        earlier = gr.JSON(visible="hidden")  # what is not drawn of a long conversation: see assets/earlier.js
        _wire(engines, chatbot, earlier, box, status, likely, controls, places or Places())
        if others:
            _show_the_chosen(picker, facts, engines, chosen, loading)
        _keep(blocks, chatbot, box, status, controls)
        likely.change(
            None, likely, None, js="(text) => { ogaLikely.take(text) }", queue=False, show_progress="hidden",
            api_visibility="private",
        )  # fmt: skip
        blocks.load(None, None, None, js=OPEN_PANELS_WHERE_THEY_FIT)
    page: gr.Blocks = blocks
    return page


def _show_the_chosen(
    picker: gr.Dropdown,
    facts: gr.Markdown,
    engines: Mapping[str, ChatEngine],
    chosen: Callable[[str], None],
    loading: Callable[[str], bool],
) -> None:
    """What is known of the model that is chosen, and for as long as it takes that it is being loaded."""
    again = gr.Timer(_LOADING_SECONDS, active=False)

    def show(name: str) -> tuple[str, gr.Timer]:
        loads = loading(name)
        return model_line(engines[name].folder.manifest, loads), gr.Timer(active=loads)

    def choose(name: str) -> tuple[str, gr.Timer]:
        chosen(name)
        return show(name)

    quick: Any = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    picker.change(choose, picker, [facts, again], **quick)
    again.tick(show, picker, [facts, again], **quick)


def _controls(defaults: SamplingOptions, context_length: int, thinks: bool) -> list[gr.components.Component]:
    """The side panel: the system prompt, the values in the order of `to_options`, whether to think, if it can, and
    whether to tell how likely each token was."""
    longest = min(defaults.max_tokens or context_length, context_length)
    placeholder = "How the model should behave"
    system = gr.Textbox(label="System prompt", lines=3, max_lines=12, placeholder=placeholder, elem_id="system")
    gr.HTML('<div id="presets"></div>', padding=False)
    return [
        system,
        gr.Slider(0, 2, defaults.temperature, step=0.05, label="Temperature"),
        gr.Slider(0.05, 1, defaults.top_p, step=0.05, label="Top p"),
        gr.Slider(0, 200, defaults.top_k, step=1, label="Top k, 0 is off"),
        gr.Slider(0, 0.5, defaults.min_p, step=0.01, label="Min p, 0 is off"),
        gr.Slider(1, 2, defaults.repetition_penalty, step=0.01, label="Repetition penalty"),
        gr.Slider(1, context_length, longest, step=1, label="Longest answer"),
        gr.Textbox("" if defaults.seed is None else str(defaults.seed), label="Seed", placeholder="random"),
        gr.Textbox("\n".join(defaults.stop), lines=2, max_lines=6, label="Stop strings", placeholder="one on a line"),
        *([gr.Radio([*THINKING], value=AS_IT_DOES, label="Thinking")] if thinks else []),
        gr.Checkbox(False, label="Token probabilities", elem_id="probable"),
    ]


def answer(
    engine: ChatEngine,
    history: Sequence[Turn],
    system: str,
    *controls: Any,
    client: str = "",
    name: str = "",
    tokens: list[list[Any]] | None = None,
    earlier: Sequence[Turn] = (),
    redraws: Redraws | None = None,
) -> Generator[tuple[list[Turn], str], None, None]:
    """Stream the answer to the last question: the history with what there is of it, and the status line.

    Or more of an answer that is to go on. controls: those of `to_options`, and perhaps one of THINKING.
    An error of ours ends the stream with its message as the status line. Closing the iterator cancels the generation.
    client: who asks. name: of the model, to be told with what the answer took. tokens: gets how likely each was.
    earlier: what was said before that history. redraws: those of all answers.
    """
    more = goes_on(history)
    if not more and not (history and history[-1]["role"] == "user"):
        yield [*history], ""  # nothing at all would empty the page
        return
    closed, redraws = threading.Event(), redraws or Redraws()
    before = history[:-1] if more else history
    texts: dict[Kind, str] = {"reasoning": "", "answer": text_of(history[-1]["content"]) if more else ""}
    line = history[-1]["metadata"]["log"] if more else ""
    drawn = 0.0

    def shown(status: str, ended: bool) -> list[Turn]:
        thoughts = [thought(texts["reasoning"])] if texts["reasoning"] else []
        answers = [made(texts["answer"], line, status)] if texts["answer"] or ended else []
        return [*before, *thoughts, *answers]

    try:
        messages, options = to_messages([*earlier, *history], system), to_options(*controls[:8])
        options = replace(options, max_tokens=min(options.max_tokens or 1, engine.context_length))
        spelling = None
        if tokens is not None:
            options, spelling = replace(options, logprobs=ALTERNATIVES), engine.prompt.spelling
        template = to_template(str([*controls, AS_IT_DOES][8]), more)
        for chunk in engine.generate(messages, options, closed.is_set, template, client):
            texts[chunk.kind] += chunk.text
            if tokens is not None and spelling and (token := scored(chunk, spelling)):
                tokens.append(token)
            now = time.perf_counter()
            ended = chunk.finish_reason is not None
            if ended or now - drawn >= redraws.seconds:
                drawn, line = now, answer_line(chunk, name) if chunk.completion_tokens else line
                status = DONE if chunk.finish_reason == "stop" else OPEN
                yield shown(status, ended), status_line(chunk, engine.context_length)
    except ServingError as error:
        yield shown(OPEN, False), error_line(error)
    finally:
        closed.set()


def _wire(
    engines: Mapping[str, ChatEngine],
    chatbot: gr.Chatbot,
    earlier: gr.JSON,
    box: gr.Textbox,
    status: gr.Markdown,
    likely: gr.Textbox,
    controls: list[gr.components.Component],
    places: Places,
) -> None:
    """What each event of the page does. Five of them end in an answer, which stop cuts short."""
    first, redraws = next(iter(engines)), Redraws()

    def submit(text: str, history: list[Turn]) -> tuple[str, list[Turn]]:
        return "", [*history, turn("user", text)] if text.strip() else history

    def edit(history: list[Turn], data: gr.EditData) -> list[Turn]:
        index = data.index if isinstance(data.index, int) else data.index[0]
        return edited(history, index, text_of(data.value))

    def example(data: gr.SelectData) -> list[Turn]:
        return [turn("user", data.value["text"])]

    def go_on(history: list[Turn], _: gr.SelectData) -> list[Turn]:
        return continued(history)

    def stream(
        history: list[Turn], before: list[Turn], request: gr.Request, *values: Any
    ) -> Iterator[tuple[Any, Any, Any]]:
        try:
            client = client_of(request.request.scope if request.request else {})
            with places.taken(client, 1), redraws.one_more():
                name = values[-1] if len(engines) > 1 else ""  # the last control is the picker, where there is one
                *said, probable = values[:-1] if name else values
                tokens: list[list[Any]] | None = [] if probable else None
                shown = history
                about: Any = {"client": client, "name": name, "tokens": tokens, "earlier": before, "redraws": redraws}
                answers = answer(engines[name or first], history, *said, **about)
                with closing(answers):
                    for shown, line in answers:
                        yield shown, line, ""
                if tokens:
                    yield gr.skip(), gr.skip(), told(text_of(shown[-1]["content"]), tokens)
        except LimitReached as error:
            yield history, error_line(error), ""

    def ready(history: list[Turn], line: str, draft: str) -> tuple[Any, gr.Textbox, str]:
        kept, question = unanswered(history)
        box = gr.Textbox(drafted(question, draft), interactive=True, submit_btn=True, stop_btn=False)
        shown = offered(kept)  # what stays is not sent again: a browser draws a long conversation for seconds
        return gr.skip() if shown == history else shown, box, settled(line)

    def undo(history: list[Turn], draft: str) -> tuple[list[Turn], str]:
        kept, question = without_question(history)
        return kept, drafted(question, draft)

    quick: Any = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    questions = [
        box.submit(submit, [box, chatbot], [box, chatbot], **quick),
        chatbot.example_select(example, None, chatbot, **quick),
        chatbot.retry(without_answer, chatbot, chatbot, **quick),
        chatbot.edit(edit, chatbot, chatbot, **quick),
        chatbot.option_select(go_on, chatbot, chatbot, **quick),
    ]
    # No concurrency limit: the engine itself gives every conversation its turn.
    asked = [chatbot, earlier, *controls]
    streaming: Any = {
        "concurrency_limit": None, "show_progress": "hidden", "api_visibility": "private",
        "js": f"(...values) => ogaEarlier.sent(values.slice(0, {len(asked)}))",
    }  # fmt: skip
    answers = [
        question.success(None, None, box, js=BUSY_BOX, **quick).success(
            stream, asked, [chatbot, status, likely], **streaming
        )
        for question in questions
    ]
    for each in answers:
        for ended in (each.success, each.failure):  # a stopped answer is a success to Gradio
            has, gets = [chatbot, status, box], [chatbot, box, status]
            free = ended(ready, has, gets, **quick)
            free.failure(None, has, gets, js="(...values) => ogaChat.freed(...values)", **quick)
            free.then(None, None, None, js=FOCUS).then(None, chatbot, chatbot, js=FITTED, **quick)
    box.stop(None, None, None, cancels=answers, **quick)
    # These, regenerate and edit are hidden by chat.css while an answer is made: a late piece would undo what they do.
    undone = chatbot.undo(undo, [chatbot, box], [chatbot, box], **quick)
    undone.then(None, chatbot, chatbot, js=FITTED, **quick)
    chatbot.clear(lambda: "", None, status, **quick)


def _keep(
    blocks: gr.Blocks,
    chatbot: gr.Chatbot,
    box: gr.Textbox,
    status: gr.Markdown,
    controls: list[gr.components.Component],
) -> None:
    """Conversations are kept in the browser, by assets/conversations.js: none of this reaches the server."""
    said, shown = [chatbot, box, *controls], [chatbot, status, *controls]
    in_the_browser: Any = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    for changed in (chatbot.change, box.change, *(control.change for control in controls)):  # type: ignore[attr-defined]
        changed(None, said, None, js="(...values) => { ogaChat.keep(values) }", **in_the_browser)
    opened = gr.Button(visible="hidden", elem_id="opened")  # clicked where one is chosen
    opened.click(None, None, shown, js="() => ogaChat.opened()", **in_the_browser)
    settings = json.dumps([_setting(control) for control in controls])
    started = blocks.load(
        None,
        said,
        [chatbot, box, status, *controls],
        js=f"(...values) => ogaChat.start(values, {settings})",
        **in_the_browser,
    )
    # The sign that questions are taken: one that is asked sooner may be lost where the page is slow to start.
    started.then(None, None, None, js="() => { document.body.dataset.started = '' }")


def _setting(control: gr.components.Component) -> dict[str, Any]:
    """What the browser knows of a control, to hold against what it has kept."""
    match control:
        case gr.Slider():
            return {"name": control.label, "least": control.minimum, "most": control.maximum}
        case gr.Radio() | gr.Dropdown():
            return {"name": control.label, "choices": [value for _, value in control.choices]}
    return {"name": control.label}
