"""A chat page being served, and what Gradio leaves behind cleared away."""

import asyncio
import gc
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from playwright.sync_api import Page

from serving.http.access import Access
from serving.http.api import Api
from serving.http.server import Server, make_app
from serving.page.mount import mount_chat


@contextmanager
def tidy() -> Iterator[None]:
    """Gradio makes event loops for its locks and never closes them: let them go here, and not in another's test."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed", ResourceWarning)
        try:
            yield
        finally:
            asyncio.set_event_loop(None)
            gc.collect()


def keep(page: Page, url: str, history: list[dict[str, Any]]) -> None:
    """Have the browser keep a conversation, as the one that its tab shows when the chat is opened next."""
    value = {"version": 1, "title": "kept", "changed": 1, "history": history, "settings": {}}
    page.goto(f"{url}config")  # which has no script that would keep what it shows
    page.evaluate(
        "(text) => { localStorage['oga-chat/conversation/kept'] = text; sessionStorage['oga-chat/current'] = 'kept' }",
        json.dumps(value),
    )


@contextmanager
def served(page: gr.Blocks, access: Access | None = None, port: int = 0, api: Api | None = None) -> Iterator[Server]:
    """Serve a page, beside an API if there is one, on a port of this machine, a free one if it is 0."""
    app = make_app(api.routes() if api else [], (access or Access()).middleware())
    close = mount_chat(app, page)
    server = Server(app, "127.0.0.1", port)
    try:
        yield server
    finally:
        close()
        server.close()
