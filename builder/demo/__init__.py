"""The bundled demo chat model: what building it and talking to it need. What trained it is in `training`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

Split = Literal["train", "heldout"]
Conversation = list[dict[str, str]]

CHECKPOINT: Path = Path(__file__).parent / "checkpoint"
"""Folder of the shipped float16 Hugging Face checkpoint."""

TEXTS: dict[Split, Path] = {"train": CHECKPOINT.parent / "train.jsonl", "heldout": CHECKPOINT.parent / "heldout.jsonl"}
"""Conversations of its corpus, one on a line: to calibrate on, and to measure with. `training.texts` writes them."""

EXAMPLES: tuple[str, ...] = (
    "What can you do?",
    "What is AWQ?",
    "My name is Anna.",
    "What is 17 + 25?",
    "Tell me a story about a fox.",
    "Spell the word lantern backwards.",
)
"""Prompts that the chat page offers."""

NOTICE: str = (
    "A tiny demo model: it knows a few things only. For a real one, start with `--model ` and a Hugging Face id or a "
    "folder."
)
"""What it says of the model, in Markdown."""


def conversations(split: Split) -> Iterator[Conversation]:
    """The conversations of a split, in their order.

    Messages are `{"role": "system" | "user" | "assistant", "content": text}`: at most one system message, first;
    then user and assistant in turn, ending with the assistant.
    """
    with TEXTS[split].open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["messages"]
