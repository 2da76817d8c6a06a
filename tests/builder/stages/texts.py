"""Text in the demo's tokens, and data sets as files."""

import json
from collections.abc import Iterable
from pathlib import Path

import zstandard
from tokenizers import Tokenizer

from builder import demo
from builder.checkpoint.checkpoint import read_settings
from builder.recipe import HELDOUT, QuantRecipe
from builder.stages.calibration import Blocks, make_blocks

HELD = HELDOUT[0] * HELDOUT[1]


def blocks_of(checkpoint: Path, recipe: QuantRecipe) -> Blocks:
    """What a recipe makes of a checkpoint's tokenizer and template; it needs no weights."""
    return make_blocks(read_settings(checkpoint), recipe)


def render(conversations: Iterable[demo.Conversation], checkpoint: Path) -> Iterable[str]:
    """The conversations as transformers renders them."""
    from transformers.utils.chat_template_utils import render_jinja_template

    template = (checkpoint / "chat_template.jinja").read_text(encoding="utf-8")
    for conversation in conversations:
        yield render_jinja_template([conversation], chat_template=template)[0][0]


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of a text, without what a tokenizer may add."""
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def write_text(file: Path, lines: int = 2000) -> str:
    """A text long enough for small recipes."""
    text = "\n".join(f"The {number}th line, naïve and plain." for number in range(lines))
    file.write_bytes(text.encode())
    return text


def pile(*documents: str) -> bytes:
    """A data set as the Hub holds it, in more than one frame."""
    lines = [json.dumps({"text": document, "meta": {}}) + "\n" for document in documents]
    return b"".join(zstandard.compress("".join(part).encode()) for part in (lines[:1], lines[1:]))
