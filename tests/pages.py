"""A chat page being served, and what Gradio leaves behind cleared away."""

import asyncio
import gc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from serving.ui import ServedChat, serve_chat


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


@contextmanager
def served(page: gr.Blocks, auth: list[tuple[str, str]] | None = None, share: bool = False) -> Iterator[ServedChat]:
    """Serve a page on a free port of this machine."""
    chat = serve_chat(page, host="127.0.0.1", port=0, share=share, auth=auth)
    try:
        yield chat
    finally:
        chat.close()
