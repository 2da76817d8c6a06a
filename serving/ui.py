"""The Gradio chat: a page that streams, and the pure decisions behind it.

The history travels from the browser with every request, so nothing here is kept per session: a tab, a regenerated
answer and an edited turn are the same to the engine, and open tabs survive a restart of the server.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from html import escape
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import Any

# Gradio reads these when it is imported, and this room is private by itself.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as AsgiMessage

from serving.engine import Engine
from serving.errors import ServingError
from serving.types import Chunk, Message, SamplingOptions

Turn = dict[str, Any]  # one message as gr.Chatbot has it: role, content (a list of parts) and more

ASSETS = Path(__file__).parent / "assets"
REFRESH_SECONDS = 0.04  # the page is redrawn at most this often, however fast the model is
DEFAULTS = SamplingOptions(temperature=0.7, top_p=0.95, max_tokens=512)
BUSY = " …"  # ends the status line while an answer is being made
# The browser itself refuses what another host offers: an image in an answer could otherwise carry the chat away.
CONTENT_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; form-action 'self'"
)


# Decisions


def turn(role: str, text: str) -> Turn:
    """One message for gr.Chatbot. A plain string would lose its indentation there."""
    return {"role": role, "content": [{"type": "text", "text": text}]}


def text_of(content: Any) -> str:
    """The text of a message's content, which gr.Chatbot gives as a string or as a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part.get("type") == "text")


def to_messages(history: Sequence[Turn], system: str) -> list[Message]:
    """The conversation for the engine.

    Answers that were stopped before their first word are left out, and what then stands side by side is joined:
    most chat templates refuse two user turns in a row.
    """
    said = [(turn["role"], text_of(turn["content"])) for turn in history]
    joined = [
        Message(role, "\n\n".join(text for _, text in group))
        for role, group in groupby((pair for pair in said if pair[1]), key=lambda pair: pair[0])
    ]
    return [Message("system", system.strip()), *joined] if system.strip() else joined


def before_answer(history: Sequence[Turn]) -> list[Turn]:
    """The history without the answer at its end."""
    kept = list(history)
    while kept and kept[-1]["role"] != "user":
        kept.pop()
    return kept


def without_last_question(history: Sequence[Turn]) -> tuple[list[Turn], str]:
    """The history without its last question and answer, and that question."""
    kept = before_answer(history)
    question = text_of(kept.pop()["content"]) if kept else ""
    return kept, question


def to_options(
    temperature: float,
    top_p: float,
    top_k: float,
    min_p: float,
    repetition_penalty: float,
    max_tokens: float,
    seed: float | None,
    stop: str,
) -> SamplingOptions:
    r"""What the controls say. Stop strings stand one on a line, and \n in one of them is a line break.

    Raises InvalidRequest for a value that is out of range.
    """
    return SamplingOptions(
        temperature=float(temperature),
        top_p=float(top_p),
        top_k=int(top_k),
        min_p=float(min_p),
        repetition_penalty=float(repetition_penalty),
        max_tokens=int(max_tokens),
        seed=None if seed is None else int(seed),
        stop=tuple(line.replace("\\n", "\n") for line in stop.splitlines() if line.strip()),
    )


def status_line(chunk: Chunk) -> str:
    """How far an answer is, or how fast it was."""
    if chunk.completion_tokens == 0 and chunk.finish_reason is None:
        return f"reading the conversation: {chunk.prefilled_tokens:,} of {chunk.prompt_tokens:,} tokens{BUSY}"
    parts = [f"{chunk.completion_tokens:,} tokens"]
    if chunk.completion_tokens > 1 and chunk.decode_seconds > 0:
        # The first token comes out of the prefill.
        parts.append(f"{(chunk.completion_tokens - 1) / chunk.decode_seconds:.1f} tokens/s")
    parts.append(f"first token after {chunk.prefill_seconds:.2f} s")
    parts.append(f"prompt {chunk.prompt_tokens:,} tokens, {chunk.cached_tokens:,} of them cached")
    if chunk.finish_reason == "length":
        parts.append("**ended at the token limit**")
    if chunk.finish_reason == "cancelled":
        parts.append("stopped")
    return " · ".join(parts) + ("" if chunk.finish_reason else BUSY)


def settled(status: str) -> str:
    """The status line once nothing runs any more: an answer that did not end by itself was stopped."""
    return status.removesuffix(BUSY) + " · stopped" if status.endswith(BUSY) else status


def model_line(manifest: Mapping[str, Any]) -> str:
    """Recipe and measured quality of the served model, as markdown; says so where a folder records none."""
    return "" if manifest else "made elsewhere: no recipe and no measured quality recorded"


# One answer


def answer(engine: Engine, history: Sequence[Turn], system: str, *controls: Any) -> Iterator[tuple[list[Turn], str]]:
    """Stream the answer to the last turn: the history with what there is of it, and the status line.

    Raises gr.Error, which Gradio shows beside the conversation. Closing the iterator cancels the generation.
    """
    if not history or history[-1]["role"] != "user":
        return
    closed = threading.Event()
    text, drawn = "", 0.0
    try:
        for chunk in engine.generate(to_messages(history, system), to_options(*controls), closed.is_set):
            text += chunk.text
            now = time.perf_counter()
            if chunk.finish_reason is not None or now - drawn >= REFRESH_SECONDS:
                drawn = now
                yield [*history, turn("assistant", text)] if text else list(history), status_line(chunk)
    except ServingError as error:
        raise gr.Error(escape(str(error)), title="No answer", duration=None, print_exception=False) from error
    finally:
        closed.set()


# The page


def build_chat(
    engine: Engine,
    *,
    name: str,
    examples: Sequence[str],
    notice: str = "",
    defaults: SamplingOptions = DEFAULTS,
) -> gr.Blocks:
    """The chat page for one engine. name: of the model; notice: a line of markdown above the conversation."""
    with gr.Blocks(title=f"{name} · oga-chat", fill_height=True, analytics_enabled=False) as blocks:
        with gr.Sidebar(label="Settings", elem_id="settings"):
            settings = _settings(defaults, engine.context_length)
        gr.Markdown(f"# oga-chat\n{name}", elem_id="title")
        gr.Markdown(model_line(engine.folder.manifest), elem_id="model")
        if notice:
            gr.Markdown(notice, elem_id="notice")
        chatbot = gr.Chatbot(
            show_label=False,
            scale=1,
            elem_id="chat",
            editable="user",
            examples=[{"text": example} for example in examples],
            placeholder=f"### {name}\nEverything stays on this machine.",
            buttons=["copy", "copy_all"],
            feedback_options=None,
            latex_delimiters=[],
            layout="bubble",
        )
        box = gr.Textbox(
            show_label=False,
            placeholder="Message",
            lines=1,
            max_lines=8,
            autofocus=True,
            submit_btn=True,
            elem_id="box",
        )
        status = gr.Markdown(elem_id="status")
        _wire(engine, chatbot, box, status, settings)
    page: gr.Blocks = blocks
    return page


def _settings(defaults: SamplingOptions, context_length: int) -> list[gr.components.Component]:
    """The side panel; the values come in the order of `to_options`, after the system prompt."""
    limit = min(defaults.max_tokens or context_length, context_length)
    return [
        gr.Textbox(label="System prompt", lines=3, max_lines=12),
        gr.Slider(0, 2, defaults.temperature, step=0.05, label="Temperature", info="0 is greedy"),
        gr.Slider(0.05, 1, defaults.top_p, step=0.05, label="Top p", info="1 is off"),
        gr.Slider(0, 200, defaults.top_k, step=1, label="Top k", info="0 is off"),
        gr.Slider(0, 0.5, defaults.min_p, step=0.01, label="Min p", info="0 is off"),
        gr.Slider(1, 2, defaults.repetition_penalty, step=0.01, label="Repetition penalty", info="1 is off"),
        gr.Slider(1, context_length, limit, step=1, label="Longest answer", info="in tokens"),
        gr.Number(defaults.seed, precision=0, minimum=0, label="Seed", placeholder="random"),
        gr.Textbox("\n".join(defaults.stop), lines=2, label="Stop strings", placeholder="one on a line"),
    ]


def _wire(
    engine: Engine, chatbot: gr.Chatbot, box: gr.Textbox, status: gr.Markdown, settings: list[gr.components.Component]
) -> None:
    def stream(history: list[Turn], *values: Any) -> Iterator[tuple[list[Turn], str]]:
        yield from answer(engine, history, *values)

    def submit(text: str, history: list[Turn]) -> tuple[str, list[Turn]]:
        return "", [*history, turn("user", text)] if text.strip() else history

    def edit(history: list[Turn], edited: gr.EditData) -> list[Turn]:
        index = edited.index[0] if isinstance(edited.index, tuple | list) else edited.index
        return [*history[:index], turn("user", text_of(edited.value))]

    def example(chosen: gr.SelectData) -> list[Turn]:
        return [turn("user", chosen.value["text"])]

    quick: Any = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    starts = [
        box.submit(submit, [box, chatbot], [box, chatbot], **quick),
        chatbot.retry(before_answer, chatbot, chatbot, **quick),
        chatbot.edit(edit, chatbot, chatbot, **quick),
        chatbot.example_select(example, None, chatbot, **quick),
    ]
    answers = [
        start.success(
            lambda: gr.Textbox(interactive=False, submit_btn=False, stop_btn=True), None, box, **quick
        ).success(
            stream,
            [chatbot, *settings],
            [chatbot, status],
            concurrency_limit=None,
            show_progress="minimal",
            api_visibility="private",
        )
        for start in starts
    ]
    for finished in answers:
        finished.then(settled, status, status, **quick).then(
            lambda: gr.Textbox(interactive=True, submit_btn=True, stop_btn=False), None, box, **quick
        )
    box.stop(None, None, None, cancels=answers, **quick)
    chatbot.clear(lambda: "", None, status, cancels=answers, **quick)
    chatbot.undo(without_last_question, chatbot, [chatbot, box], cancels=answers, **quick)


# The server


@dataclass(frozen=True, slots=True)
class ServedChat:
    """A running chat. share_url: None unless a share link was asked for and could be made."""

    url: str
    share_url: str | None
    blocks: gr.Blocks

    def wait(self) -> None:
        """Block until the program is interrupted."""
        self.blocks.block_thread()

    def close(self) -> None:
        """Stop the server."""
        self.blocks.close(verbose=False)


def serve_chat(
    blocks: gr.Blocks, *, host: str, port: int, share: bool, auth: list[tuple[str, str]] | None
) -> ServedChat:
    """Serve the page in the background; port 0 takes a free one.

    Raises ServingError where the port cannot be had. A share link that cannot be made is a line on stderr.
    """
    chatter = StringIO()  # Gradio prints what the caller says better
    try:
        with redirect_stdout(chatter):
            _, url, share_url = blocks.launch(
                server_name=host,
                server_port=port or _free_port(host),
                share=share,
                auth=auth,
                prevent_thread_lock=True,
                quiet=True,
                ssr_mode=False,
                footer_links=[],
                run_history=False,
                enable_monitoring=False,
                pwa=False,
                mcp_server=False,
                theme=_theme(),
                css_paths=ASSETS / "chat.css",
                app_kwargs={"middleware": [Middleware(_ContentPolicy)], "docs_url": None, "redoc_url": None},
            )
    except OSError as error:
        raise ServingError(f"port {port} on {host} cannot be had ({error}): choose another with --port.") from error
    if share and not share_url:
        print(f"No share link: Gradio's tunnel could not be reached. The chat goes on at {url}", file=sys.stderr)
    return ServedChat(url, share_url or None, blocks)


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host.strip("[]"), 0))
        return int(probe.getsockname()[1])


def _theme() -> gr.Theme:
    """Gradio's default asks Google for its fonts; the system's own are as good."""
    return gr.themes.Soft(
        primary_hue="teal",
        neutral_hue="stone",
        font=["ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    )


class _ContentPolicy:
    """Adds the content security policy to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_policy(message: AsgiMessage) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["content-security-policy"] = CONTENT_POLICY
            await send(message)

        await self._app(scope, receive, with_policy if scope["type"] == "http" else send)
