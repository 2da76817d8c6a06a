"""The checkpoint's own template and tokenizer, against transformers; and what may be shown of an answer."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from builder.demo import CHECKPOINT
from serving.errors import InvalidRequest, ModelFolderError
from serving.prompt import Prompt
from serving.types import Message

CONVERSATIONS = [
    [Message("user", "hi")],
    [Message("system", "Answer in capitals."), Message("user", "hello")],
    [Message("user", "a"), Message("assistant", "b"), Message("user", "c")],
    [Message("user", "  spaces and\n\nlines\t"), Message("assistant", ""), Message("user", "")],
    [Message("user", "h\u00e9llo \U0001f30d {{ braces }} {% tags %} <b>html</b> \u0000")],
    [Message("user", "x" * 5000)],
    [Message("assistant", "I begin"), Message("assistant", "and go on"), Message("system", "late")],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What serving reads of a model folder, without a graph."""
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        shutil.copyfile(CHECKPOINT / name, tmp_path / name)
    write(tmp_path / "genai_config.json", {"model": {"eos_token_id": 2}})
    return tmp_path


def write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_text_and_tokens_equal_those_of_transformers(folder: Path, conversation: list[Message]) -> None:
    prompt, theirs = Prompt.load(folder), AutoTokenizer.from_pretrained(CHECKPOINT)
    dicts = [{"role": m.role, "content": m.content} for m in conversation]
    text = prompt.render(conversation)
    assert text == theirs.apply_chat_template(dicts, tokenize=False, add_generation_prompt=True)
    expected = theirs.apply_chat_template(dicts, add_generation_prompt=True, return_dict=False)
    np.testing.assert_array_equal(prompt.encode(text), expected)


def test_special_tokens_reach_the_template(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    write(folder / "tokenizer_config.json", {**config, "bos_token": {"content": "<|endoftext|>"}})
    (folder / "chat_template.jinja").write_text("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}")
    assert Prompt.load(folder).render([Message("user", "x")]) == "<|endoftext|>x<|im_end|>"


def test_a_template_in_the_tokenizer_config_is_found(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for template in ("T1", [{"name": "tool", "template": "no"}, {"name": "default", "template": "T1"}]):
        write(folder / "tokenizer_config.json", {**config, "chat_template": template})
        assert Prompt.load(folder).render([Message("user", "x")]) == "T1"


def test_end_ids_are_the_union_of_what_the_files_and_the_template_say(folder: Path) -> None:
    write(folder / "generation_config.json", {"eos_token_id": [7, 8]})
    write(folder / "genai_config.json", {"model": {"eos_token_id": 9}})
    config = json.loads((folder / "tokenizer_config.json").read_text())
    write(folder / "tokenizer_config.json", {**config, "eos_token": "<|endoftext|>"})
    # The template ends a turn with <|im_end|>, id 2, which none of the files names here.
    assert Prompt.load(folder).end_ids == {0, 2, 7, 8, 9}


def test_a_conversation_that_the_template_refuses_is_an_invalid_request(folder: Path) -> None:
    refuse = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}x"
    (folder / "chat_template.jinja").write_text(refuse)
    prompt = Prompt.load(folder)
    with pytest.raises(InvalidRequest, match=r"\[system, user\]: no system role"):
        prompt.render([Message("system", "s"), Message("user", "u")])
    with pytest.raises(InvalidRequest, match="empty"):
        prompt.render([])


@pytest.mark.parametrize(
    "text", ["h\u00e9llo w\u00f6rld", "\U0001f30d\U0001f9ea ok", "\u65e5\u672c\u8a9e", "a\n\n b\t"]
)
def test_split_characters_wait_until_they_are_whole(folder: Path, text: str) -> None:
    prompt = Prompt.load(folder)
    detokenizer = prompt.detokenizer()
    pieces = [detokenizer.feed(int(token)) for token in prompt.encode(text)]
    assert "".join(pieces) == text
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "genai_config.json", "chat_template.jinja"]
)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelFolderError, match="chat template" if name.endswith("jinja") else name):
        Prompt.load(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
@pytest.mark.parametrize("content", ["{broken", "[]"])
def test_a_broken_file_is_named(folder: Path, name: str, content: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(ModelFolderError, match=name):
        Prompt.load(folder)
