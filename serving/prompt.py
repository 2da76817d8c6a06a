"""Messages -> text, by the checkpoint's own chat template, -> token ids, by its own tokenizer; and back to text.

`tokenizers` and transformers' template renderer are used instead of OGA's own, which refuse some valid Hugging Face
files. Neither needs torch.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from transformers.utils.chat_template_utils import render_jinja_template

from serving.errors import ContextOverflow, InvalidRequest, ModelFolderError
from serving.prefix import TokenIds
from serving.types import Message

_MARK = "\N{BLACK HEART SUIT}mark\N{BLACK HEART SUIT}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """The tokenizer and chat template of one model folder.

    end_ids: every token id that ends an assistant turn; none of them is ever shown.
    """

    tokenizer: Tokenizer
    template: str
    special_tokens: dict[str, str]
    end_ids: frozenset[int]

    @classmethod
    def load(cls, folder: Path) -> "Prompt":
        """Read tokenizer.json, tokenizer_config.json, chat_template.jinja, generation_config.json, genai_config.json.

        Raises ModelFolderError where one of them is missing or unreadable, or there is no chat template.
        """
        tokenizer = _load_tokenizer(folder / "tokenizer.json")
        config = read_json(folder / "tokenizer_config.json")
        template = _chat_template(folder, config)
        special_tokens = {
            name: value["content"] if isinstance(value, dict) else value
            for name, value in config.items()
            if name.endswith("_token") and isinstance(value, str | dict)
        }
        declared = _declared_end_ids(folder, tokenizer, special_tokens)
        prompt = cls(tokenizer, template, special_tokens, frozenset(declared))
        return cls(tokenizer, template, special_tokens, frozenset(declared | prompt._end_of_turn_ids()))

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """The conversation as text, up to where the assistant's answer begins.

        Raises InvalidRequest where the template refuses the conversation (a system message, say, or two user turns).
        """
        if not messages:
            raise InvalidRequest("the conversation is empty: send at least one message.")
        conversation: list[dict[str, Any]] = [asdict(message) for message in messages]
        try:
            rendered, _ = render_jinja_template(
                [conversation],
                chat_template=self.template,
                add_generation_prompt=add_generation_prompt,
                **self.special_tokens,
            )
        except (TemplateError, TypeError, ValueError) as error:
            roles = ", ".join(message.role for message in messages)
            raise InvalidRequest(f"this model's chat template refuses the roles [{roles}]: {error}") from error
        return str(rendered[0])

    def encode(self, text: str) -> TokenIds:
        """Token ids of rendered text [n]; special tokens are those that the text spells out."""
        return np.asarray(self.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int32)

    def tokens(self, messages: Sequence[Message], context_length: int) -> TokenIds:
        """The rendered conversation as token ids [n]. Raises InvalidRequest; ContextOverflow if no answer would fit."""
        token_ids = self.encode(self.render(messages))
        if token_ids.size >= context_length:
            raise ContextOverflow(
                f"the conversation has {token_ids.size} tokens and the context window {context_length}: "
                "shorten it, start a new chat, or serve a longer window with --context-length."
            )
        return token_ids

    def detokenizer(self) -> "Detokenizer":
        """A fresh stream decoder for one answer."""
        return Detokenizer(self.tokenizer)

    def _end_of_turn_ids(self) -> set[int]:
        """The special token that the template itself writes after an assistant's turn, if it writes one.

        Base models' configurations often name only the end-of-text token, and then an answer never ends.
        """
        conversation = [Message("user", "hi"), Message("assistant", _MARK)]
        try:
            after = self.render(conversation, add_generation_prompt=False).rpartition(_MARK)[2]
        except InvalidRequest:
            return set()
        special = {id for id, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        following = [int(id) for id in self.encode(after)[:2]]
        return {id for id in following[:1] if id in special}


class Detokenizer:
    """Token ids in, whole characters out: bytes of a split character wait for the rest of it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)

    def feed(self, token_id: int) -> str:
        """The text that this token completes; empty while a character is incomplete."""
        return self._stream.step(self._tokenizer, token_id) or ""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a model folder. Raises ModelFolderError naming the file and the fault."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelFolderError(
            f"{path} is missing: the model folder is incomplete; build it again with --rebuild."
        ) from error
    except (OSError, ValueError) as error:
        raise ModelFolderError(f"{path} cannot be read ({error}); build the model again with --rebuild.") from error
    if not isinstance(content, dict):
        raise ModelFolderError(f"{path} does not hold a JSON object; build the model again with --rebuild.")
    return content


def _load_tokenizer(path: Path) -> Tokenizer:
    if not path.is_file():
        raise ModelFolderError(f"{path} is missing: a fast tokenizer (tokenizer.json) is needed to serve a model.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception for any fault of the file
        raise ModelFolderError(f"{path} cannot be read ({error}); build the model again with --rebuild.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _chat_template(folder: Path, tokenizer_config: dict[str, Any]) -> str:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = tokenizer_config.get("chat_template")
    if isinstance(template, list):
        template = {entry["name"]: entry["template"] for entry in template}.get("default")
    if not isinstance(template, str):
        raise ModelFolderError(
            f"{folder} has no chat template: this looks like a base model. Use its chat or instruct version, or put a "
            "chat_template.jinja beside the tokenizer."
        )
    return template


def _declared_end_ids(folder: Path, tokenizer: Tokenizer, special_tokens: dict[str, str]) -> set[int]:
    """The union of what the three configuration files name: each of them is wrong for some model."""
    ids: set[int] = set()
    generation = folder / "generation_config.json"
    sources = [read_json(generation)] if generation.is_file() else []
    sources.append(read_json(folder / "genai_config.json")["model"])
    for source in sources:
        declared = source.get("eos_token_id")
        ids.update(declared if isinstance(declared, list) else [declared] if declared is not None else [])
    eos = tokenizer.token_to_id(special_tokens["eos_token"]) if "eos_token" in special_tokens else None
    return ids | ({eos} if eos is not None else set())
