"""Gradio as a part of the server: behind the gate, without files of its own, and without a word on the terminal."""

import logging
import secrets
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NoReturn, cast
from urllib.parse import urlsplit

import gradio as gr
import gradio.queueing
import gradio.routes
from gradio import networking
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from serving.errors import ServingError
from serving.http.wrapper import told
from serving.page import events, pdf
from serving.page.address import QR_PATH, qr_code
from serving.page.events import Event
from serving.page.gate import Gate, Page
from serving.page.tabs import MOST_TABS

ASSETS = Path(__file__).parent / "assets"
STYLES = ("chat.css", "parts.css", "code.css")
# Each may use those before it.
SCRIPTS = (
    "posts.js", "page.js", "earlier.js", "versions.js", "likely.js", "pdf.js", "files.js", "conversations.js",
    "menu.js",
)  # fmt: skip
# Bytes of a conversation that the page may send: a window's worth of it several times over.
_FEWEST_BYTES, _BYTES_OF_A_TOKEN = 1 << 20, 32
_MOST_QUEUED = 64  # answers that wait for a thread of Gradio's
_EVENT_DATA = {
    "edit": events.edit, "example_select": events.example, "option_select": events.option, "retry": events.message,
    "undo": events.message,
}  # fmt: skip
logger = logging.getLogger("oga_chat")


def mount_chat(app: Starlette, blocks: gr.Blocks, context_length: int = 1 << 15) -> Callable[[], None]:
    """Put the page at `/` of an application, behind the application's own routes; what is returned ends its streams.

    context_length: of the model, in tokens: a conversation that is many times longer is refused.
    """
    _quieten()
    app.router.routes += [Route(QR_PATH, qr_code, methods=["GET"]), *pdf.routes()]
    blocks.queue(max_size=_MOST_QUEUED)
    blocks.state_session_capacity = MOST_TABS
    gr.mount_gradio_app(
        cast(Any, app),
        blocks,
        path="/",
        show_error=False,
        ssr_mode=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=_theme(),
        css_paths=[ASSETS / name for name in STYLES],
        head="".join(f"<script>{(ASSETS / name).read_text(encoding='utf-8')}</script>" for name in SCRIPTS),
    )
    _without_files(blocks)
    mounted = cast(Mount, app.routes[-1])
    most_bytes = max(_FEWEST_BYTES, context_length * _BYTES_OF_A_TOKEN)
    mounted.app = Gate(mounted.app, Page(_events(blocks), _triggers(blocks), most_bytes), _Answers(blocks))
    blocks.is_running = True

    def close() -> None:
        blocks.is_running = False
        cast(Any, blocks._queue).close()

    return close


def share(port: int) -> str:
    """Gradio's tunnel to a server on this machine; its address. Raises ServingError where it cannot be had."""
    try:
        with redirect_stdout(StringIO()):  # what Gradio prints, the caller says in its own words
            url = networking.setup_tunnel("127.0.0.1", port, secrets.token_urlsafe(32), None, None)
    except Exception as error:  # a download, a check of it, a process, a connection: any of them fails in its own way
        raise ServingError(f"no share link: Gradio's tunnel cannot be reached ({error}).") from error
    return f"https://{urlsplit(url).netloc}"


def _events(blocks: gr.Blocks) -> dict[int, Event]:
    """What each event that runs something here sends, by what it is made of."""
    found = {}
    for number, fn in blocks.fns.items():
        if fn.fn is None:
            continue
        read = next((_EVENT_DATA[name] for _, name in fn.targets if name in _EVENT_DATA), events.no_data)
        found[number] = Event(tuple(_input(block) for block in fn.inputs), bool(fn.queue), read)
    return found


def _input(block: Any) -> events.Read:
    match block:
        case gr.Chatbot():
            return events.conversation
        case gr.JSON():
            return events.earlier
        case gr.Slider():
            return events.number(block.minimum, block.maximum)
        case gr.Radio() | gr.Dropdown():
            return events.choice([str(value) for _, value in block.choices])
        case gr.Checkbox():
            return events.switch
        case gr.Textbox() | gr.Markdown():
            return events.text
    raise TypeError(f"what a {type(block).__name__} sends is not known here.")


def _triggers(blocks: gr.Blocks) -> frozenset[int]:
    return frozenset(block for fn in blocks.fns.values() for block, _ in fn.targets if block is not None)


class _Answers:
    """What Gradio's queue keeps of tabs: it forgets them only when nobody is left to read."""

    def __init__(self, blocks: gr.Blocks) -> None:
        self._blocks, self._queue = blocks, cast(Any, blocks._queue)

    def pending(self, name: str) -> int:
        """How many answers it makes for a tab, or has made and not sent."""
        return len(self._queue.pending_event_ids_session.get(name, ()))

    async def forget(self, name: str) -> None:
        """End them, and keep nothing of the tab."""
        await self._queue.clean_events(session_hash=name)
        self._queue.pending_event_ids_session.pop(name, None)
        self._queue.pending_messages_per_session.pop(name, None)
        self._blocks.state_holder.session_data.pop(name, None)
        self._blocks.state_holder.time_last_used.pop(name, None)


def _without_files(blocks: gr.Blocks) -> None:
    """Take from Gradio what copies files: the page has none. What is sent never gets so far, as it is read before."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise gr.Error("this page takes no files.", print_exception=False)

    async def refuse_later(*_: Any, **__: Any) -> NoReturn:
        refuse()

    blocks.has_launched = True  # only then does Gradio look which folder a file is in
    for block in blocks.blocks.values():
        cast(Any, block).move_resource_to_block_cache = refuse
        cast(Any, block).async_move_resource_to_block_cache = refuse_later


class _Quiet:
    """Stands where Gradio has `traceback`: the message of an error may have a conversation in it."""

    @staticmethod
    def print_exc() -> None:
        """Say what kind of error there is."""
        error = sys.exc_info()[1]
        if error is not None:
            logger.error("error: the page: %s", told(error))


def _quieten() -> None:
    for module in (gradio.routes, gradio.queueing):
        cast(Any, module).traceback = _Quiet


def _theme() -> gr.themes.Base:
    """The system's own fonts: nothing is loaded from elsewhere."""
    theme: gr.themes.Base = gr.themes.Base(
        primary_hue="teal",
        neutral_hue="slate",
        radius_size="lg",
        font=["ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=["ui-monospace", "Consolas", "monospace"],
    )
    # Gradio's own are too pale for their backgrounds (WCAG 2.1, 1.4.3: 4.5 to 1).
    pale = {"body_text_color_subdued": "*neutral_600", "body_text_color_subdued_dark": "*neutral_400"}
    theme.set(**pale, block_info_text_color="*neutral_600", block_info_text_color_dark="*neutral_400")
    return theme
