"""A scripted model, with the tokenizer and the template of the real one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.text.prompt import Prompt
from tests.scripted import ScriptedRuntime, by_hash, vocab_size


@pytest.fixture(scope="module")
def prompt(demo_model: Path) -> Prompt:
    return Prompt.load(demo_model)


@pytest.fixture
def scripted(prompt: Prompt) -> Iterator[ScriptedRuntime]:
    yield ScriptedRuntime(by_hash(vocab_size(prompt)), vocab_size(prompt))
