"""Messages -> text, by the checkpoint's own chat template, -> token ids, by its own tokenizer; and back to text.

`tokenizers` and transformers' template renderer are used instead of OGA's own, which refuse some valid Hugging Face
files. Neither needs torch. The renderer takes longer to import than a small model to load, so it is imported when the
first conversation is rendered, and a process that renders none never does.
"""

import json
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from serving.errors import InvalidRequest, ModelFolderError, PanicException, unpanicked
from serving.folder import read_json
from serving.text.calls import history
from serving.text.channels import Splitter, splitter_of
from serving.text.context import AtLeast, fit
from serving.text.control_tokens import ControlTokens, Inputs
from serving.text.detokenizer import Detokenizer, text_or_bytes
from serving.text.encoder import Encoder, Weights
from serving.text.files import declared_end_ids, load_tokenizer
from serving.text.ids import check_known, check_utf8, checked, too_long
from serving.text.reasoning import Budget, Markers, find_markers
from serving.text.template import (
    fitting_arguments,
    knows,
    named_tools,
    read_templates,
    takes_tools,
    with_short_ids,
    with_thoughts,
    with_tools,
    with_whole_tools,
)
from serving.text.tools import CallFormat, format_of
from serving.types import Ending, Grammar, Message, Policy, TemplateOptions, TokenIds

if TYPE_CHECKING:
    from serving.text.grammar import GrammarCheck

_MARK = "\N{BLACK HEART SUIT}mark\N{BLACK HEART SUIT}"
_FIELDS = tuple(field.name for field in fields(Message))
_NO_OPTIONS = TemplateOptions()
# The renderer's own, which a client must not set.
_RESERVED = {
    "messages",
    "conversations",
    "tools",
    "documents",
    "chat_template",
    "add_generation_prompt",
    "continue_final_message",
    "return_assistant_tokens_mask",
}
ANSWER_ROOM = 512  # tokens
LONG = 1 << 16  # characters; shorter texts are encoded sooner than they are weighed
_SHOWN, _LONGEST_FAULT = 20, 500  # roles and characters in an error
_TAIL = 16  # tokens at a prompt's end among which the template may have opened the reasoning


@dataclass(frozen=True, slots=True)
class Spelling:
    """What each token spells by itself, and which of them end an assistant turn and so spell nothing of it."""

    texts: Sequence[str]
    end_ids: frozenset[int]

    def of(self, token: int) -> str:
        """Empty for an id that is no token: a model may have more rows of logits than its tokenizer has tokens."""
        return self.texts[token] if token < len(self.texts) else ""


@dataclass(frozen=True)
class Prompt:
    """The tokenizer and chat template of one model folder.

    declared_end_ids: what its files say ends an assistant turn.
    markers: what the model writes around its reasoning, if it writes any.
    tool_template: the chat template for conversations with tools, where that is another one.
    fixed_end_ids: what ends a turn, whatever files and template say.
    """

    tokenizer: Tokenizer
    template: str
    special_tokens: dict[str, str]
    declared_end_ids: frozenset[int]
    controls: ControlTokens
    markers: Markers | None
    tool_template: str | None = None
    fixed_end_ids: frozenset[int] | None = None

    @classmethod
    def load(cls, folder: Path) -> "Prompt":
        """Read tokenizer.json, tokenizer_config.json, chat_template.jinja, generation_config.json, genai_config.json.

        Raises ModelFolderError where one of them is missing or unreadable, or there is no chat template.
        """
        try:
            with unpanicked():
                return cls._read(folder)
        except (AttributeError, KeyError, TypeError, ValueError, PanicException) as error:  # JSON of another shape
            raise ModelFolderError(
                f"the tokenizer of {folder} cannot be used ({error!r}): build the model again with --rebuild."
            ) from error

    @classmethod
    def _read(cls, folder: Path) -> "Prompt":
        tokenizer = load_tokenizer(folder / "tokenizer.json")
        config = read_json(folder / "tokenizer_config.json")
        template, tool_template = read_templates(folder, config)
        special_tokens = {
            name: value["content"] if isinstance(value, dict) else value
            for name, value in config.items()
            if name.endswith("_token") and isinstance(value, str | dict)
        }
        declared = declared_end_ids(folder, tokenizer, special_tokens)
        added = {token.content: id for id, token in tokenizer.get_added_tokens_decoder().items()}
        markers = find_markers(added, template)
        calls = format_of(tool_template or template, tokenizer)
        written = template + (tool_template or "")
        controls = ControlTokens(tokenizer, written, markers, calls.tokens if calls else ())
        return cls(tokenizer, template, special_tokens, frozenset(declared), controls, markers, tool_template)

    @cached_property
    def calls(self) -> CallFormat | None:
        """How the model writes tool calls; None for none, or a way that cannot be read."""
        return format_of(self.tool_template or self.template, self.tokenizer)

    @property
    def read_tokens(self) -> dict[str, int]:
        """Special tokens that are looked for in the text of an answer, by those who read calls or reasoning in it."""
        return {**(self.calls.tokens if self.calls else {}), **(self.markers.parts if self.markers else {})}

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return int(self.tokenizer.get_vocab_size(with_added_tokens=True))

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Every token id that ends an assistant turn; none of them is ever shown. Renders a conversation once."""
        if self.fixed_end_ids is not None:
            return self.fixed_end_ids
        return self.declared_end_ids | self._end_of_turn_ids()

    def render(
        self,
        messages: Sequence[Message],
        add_generation_prompt: bool = True,
        template_options: TemplateOptions = _NO_OPTIONS,
    ) -> str:
        """The conversation as text, up to where the assistant's answer begins.

        Raises InvalidRequest where the template refuses the conversation (a system message, say, or two user turns),
        or knows nothing of the tools or arguments it is given.
        """
        return self._render(self._inputs(messages, template_options), add_generation_prompt)

    def encode(self, text: str) -> TokenIds:
        """Token ids of rendered text [n]; special tokens are those that the text spells out."""
        return np.asarray(self._encoder.ids(text), dtype=np.int32)

    def conversation_ids(
        self, messages: Sequence[Message], template_options: TemplateOptions = _NO_OPTIONS
    ) -> TokenIds:
        """The rendered conversation as token ids [n]; control tokens are those that the template wrote.

        What a message, a tool or an argument spells out is encoded as text. Raises InvalidRequest.
        """
        encoder, text = self._written(messages, template_options)
        return np.asarray(encoder.ids(text), dtype=np.int32)

    def count(self, messages: Sequence[Message], template_options: TemplateOptions = _NO_OPTIONS) -> int:
        """How many tokens `conversation_ids` gives."""
        return self.conversation_ids(messages, template_options).size

    def tokens(
        self,
        messages: Sequence[Message],
        context_length: int,
        template_options: TemplateOptions = _NO_OPTIONS,
        policy: Policy = "error",
        max_tokens: int | None = None,
    ) -> tuple[TokenIds, int]:
        """`conversation_ids` of what fits, [n], and how many messages were left out for it.

        Room for one token of the answer is enough, unless turns are left out anyway: then there is room for a longer
        one, of `max_tokens` at most. Raises InvalidRequest; ContextOverflow where no answer would fit.
        """
        room = 1 if policy == "error" else min(max_tokens or ANSWER_ROOM, ANSWER_ROOM, context_length // 4)
        encoded: dict[int, TokenIds] = {}

        def count(part: Sequence[Message]) -> int:
            encoder, text = self._written(part, template_options)
            if len(text) > LONG and (least := encoder.at_least(text, context_length)) > context_length:
                return AtLeast(least)
            encoded[len(part)] = np.asarray(encoder.ids(text), dtype=np.int32)
            return encoded[len(part)].size

        fitted = fit(messages, count, context_length, room, policy)
        left = encoded.get(len(fitted.messages))
        return self.conversation_ids(fitted.messages, template_options) if left is None else left, fitted.dropped

    def raw_ids(self, text: str, context_length: int) -> TokenIds:
        """Token ids of a text that is no conversation [n], with what the tokenizer itself puts before one.

        Raises InvalidRequest for no text, ContextOverflow where no answer would fit.
        """
        check_utf8(text)
        if len(text) > LONG and (least := self._encoder.at_least(text, context_length)) > context_length:
            raise too_long(AtLeast(least), context_length)
        return checked(self.tokenizer.encode_batch_fast([text])[0].ids, self.vocabulary, context_length)

    def checked_ids(self, token_ids: Sequence[int], context_length: int) -> TokenIds:
        """Token ids of a prompt that came encoded [n].

        Raises InvalidRequest for none, or one that the tokenizer does not have; ContextOverflow as `raw_ids`.
        """
        return checked(token_ids, self.vocabulary, context_length)

    def text_ids(self, text: str, special: bool) -> TokenIds:
        """Token ids of any text [n]. special: with what the tokenizer itself puts around one. Raises InvalidRequest."""
        check_utf8(text)
        return np.asarray(self.tokenizer.encode_batch_fast([text], add_special_tokens=special)[0].ids, dtype=np.int32)

    def pieces(self, token_ids: Sequence[int]) -> list[str | list[int]]:
        """What each token of a text spells: a text, or the bytes of a part of a character. Raises as `decoded` does."""
        check_known(token_ids, self.vocabulary)
        detokenizer = Detokenizer(self.tokenizer, ())
        return [text_or_bytes(detokenizer.bytes_of(token)) for token in token_ids]

    def decoded(self, token_ids: Sequence[int]) -> str:
        """The text that tokens spell, the special ones too. Raises InvalidRequest for what is no token."""
        check_known(token_ids, self.vocabulary)
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=False))

    def spelled(self, words: Sequence[str]) -> list[list[int]]:
        """The tokens of each word, at the beginning of a text and after a blank."""
        return [ids for word in words for text in (word, f" {word.lstrip()}") if (ids := self._encoder.ids(text))]

    def check(self, grammar: Grammar) -> None:
        """Compile a grammar. Raises InvalidRequest for one that cannot be used."""
        self._grammars.check(grammar)

    @cached_property
    def spelling(self) -> Spelling:
        """What each token spells."""
        texts = [str(self.tokenizer.decode([token], skip_special_tokens=False)) for token in range(self.vocabulary)]
        return Spelling(tuple(texts), self.end_ids)

    def detokenizer(self) -> Detokenizer:
        """A fresh stream decoder for one answer."""
        return Detokenizer(self.tokenizer, self.controls.special_ids - set(self.read_tokens.values()))

    def budget(self, most: int | None) -> Budget:
        """What ends an answer's reasoning after so many tokens."""
        if most is None or self.markers is None:
            return Budget(None, ())
        if self.markers.ids:
            return Budget(most, (*self._encoder.ids("\n"), self.markers.ids[1]))
        return Budget(most, self._encoder.ids(f"\n{self.markers.closing}"))

    def splitter(self, token_ids: TokenIds) -> Splitter:
        """A fresh splitter for the answer to an encoded prompt [n]."""
        return splitter_of(self.markers, self.starts_in_reasoning(token_ids))

    def starts_in_reasoning(self, token_ids: TokenIds) -> bool:
        """Whether an encoded prompt [n] ends with the opening marker, which templates of some models write."""
        if self.markers is None:
            return False
        tail: list[int] = token_ids[-_TAIL:].tolist()
        if self.markers.ids is None:
            return self._text(tail).endswith(self.markers.opening)
        opening = self.markers.ids[0]
        return opening in tail and not self._text(tail[len(tail) - tail[::-1].index(opening) :])

    def _text(self, token_ids: list[int]) -> str:
        return str(self.tokenizer.decode(token_ids, skip_special_tokens=False)).rstrip()

    @cached_property
    def _grammars(self) -> "GrammarCheck":
        from serving.text.grammar import GrammarCheck  # at the first grammar: it loads a native library

        return GrammarCheck(self.tokenizer)

    @cached_property
    def _encoder(self) -> Encoder:
        return Encoder(self.tokenizer, self._weights)

    @cached_property
    def _private_encoder(self) -> Encoder:
        return Encoder(self.controls.private, self._weights)

    @cached_property
    def _weights(self) -> Weights:
        return Weights(self.tokenizer)

    def _written(self, messages: Sequence[Message], options: TemplateOptions) -> tuple[Encoder, str]:
        """The rendered conversation, and what encodes it."""
        inputs = self._inputs(messages, options)
        marked = self.controls.mark(inputs)
        if marked is None:
            return self._encoder, self._ended(inputs, options.ending)
        return self._private_encoder, self.controls.named(self._ended(marked, options.ending))

    def _ended(self, inputs: Inputs, ending: Ending) -> str:
        if ending != "continue":
            return self._render(inputs, ending == "answer")
        *before, last = inputs.conversation
        end = secrets.token_hex(12)  # a template leaves it as it is, and no message has it
        conversation = [*before, {**last, "content": last["content"] + end}]
        text, found, _ = self._render(replace(inputs, conversation=conversation), False).rpartition(end)
        if not found:
            raise InvalidRequest("this model's chat template leaves out the last message: it cannot be continued.")
        return text

    def _inputs(self, messages: Sequence[Message], options: TemplateOptions) -> Inputs:
        """What the template is given. Raises InvalidRequest for what it does not know of."""
        if not messages:
            raise InvalidRequest("the conversation is empty: send at least one message.")
        for name in options.arguments:
            if name in _RESERVED or name in self.special_tokens or name.endswith("_token"):
                raise InvalidRequest(f"the template argument {name!r} is set by the server: leave it out.")
        tools = None if options.tools is None else list(options.tools)
        template = self._template(tools)
        arguments = fitting_arguments(template, {**options.hints, **options.arguments})
        arguments = {n: v for n, v in arguments.items() if n in options.arguments or knows(template, n)}
        unknown = [name for name in arguments if not knows(template, name)]
        if unknown := [*unknown, *(["tools"] if tools and not takes_tools(template) else [])]:
            raise InvalidRequest(f"this model's chat template knows nothing of {unknown[0]!r}: leave it out.")
        conversation = [
            {name: value for name in _FIELDS if (value := getattr(message, name)) is not None} for message in messages
        ]
        conversation = with_thoughts(template, conversation)
        inputs = Inputs(conversation, tools, arguments)
        try:
            json.dumps([conversation, tools, inputs.arguments], ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:  # half of a surrogate pair among them
            raise InvalidRequest(f"the conversation cannot be written as JSON in UTF-8: {error}.") from error
        if any(message.tool_calls or message.role == "tool" for message in messages):
            conversation = history.as_the_template_reads(conversation, self._shown(tools), self.calls)
        if tools:
            conversation = with_tools(template, conversation, tools)
        return Inputs(conversation, tools, inputs.arguments)

    def _template(self, tools: list[Any] | None) -> str:
        return self.tool_template if tools and self.tool_template else self.template

    def _shown(self, tools: list[Any] | None) -> history.Shown:
        """What the template writes of calls and their results, told from how it writes one."""
        template = self._template(tools)
        if template not in self._known:
            given = history.PROBE_TOOLS if tools else None
            for as_text in (False, True):
                said = history.probe(as_text)
                try:
                    text = self._render(Inputs(with_tools(template, said, given) if given else said, given, {}))
                except InvalidRequest:  # it says itself what is wrong
                    continue
                self._known[template] = history.shown(text, given is None, as_text)
                break
        return self._known.setdefault(template, history.Shown())

    @cached_property
    def _known(self) -> dict[str, history.Shown]:
        return {}

    def _render(self, inputs: Inputs, add_generation_prompt: bool = True) -> str:
        """Rendered as it is, or else as templates take it that are narrower than the protocol."""
        try:
            return self._rendered(inputs, add_generation_prompt)
        except InvalidRequest:
            renamed, whole = with_short_ids(inputs.conversation), with_whole_tools(inputs.tools)
            for conversation, tools in product((inputs.conversation, renamed), (inputs.tools, whole)):
                if (other := replace(inputs, conversation=conversation, tools=tools)) != inputs:
                    with suppress(InvalidRequest):  # what it says of what was sent is what the client can use
                        return self._rendered(other, add_generation_prompt)
            raise

    def _rendered(self, inputs: Inputs, add_generation_prompt: bool) -> str:
        from transformers.utils.chat_template_utils import render_jinja_template

        template = self._template(inputs.tools)
        try:
            rendered, _ = render_jinja_template(
                [inputs.conversation],
                tools=inputs.tools,
                chat_template=template,
                add_generation_prompt=add_generation_prompt,
                **self.special_tokens,
                **{**named_tools(template, inputs.tools), **inputs.arguments},
            )
        except MemoryError:
            raise
        except Exception as error:  # a template is a program: it may fail in any way
            roles = [message["role"] for message in inputs.conversation]
            shown = ", ".join(roles if len(roles) <= _SHOWN else [*roles[:_SHOWN], "..."])
            fault = str(error)[:_LONGEST_FAULT] or repr(error)[:_LONGEST_FAULT]
            raise InvalidRequest(f"this model's chat template refuses the roles [{shown}]: {fault}") from error
        return str(rendered[0])

    def _end_of_turn_ids(self) -> set[int]:
        """The first control token that the template itself writes after an assistant's turn, if it writes one.

        Base models' configurations often name only the end-of-text token, and then an answer never ends. Some
        templates write it before the next turn only, or after a line break.
        """
        said = [Message("user", "hi"), Message("assistant", _MARK)]
        added = self.tokenizer.get_added_tokens_decoder()
        ends: set[int] = set()
        for conversation in (said, [*said, Message("user", _MARK)]):
            try:
                after = self.render(conversation, add_generation_prompt=False).split(_MARK)[1]
            except (InvalidRequest, IndexError):
                continue
            controls = (id for id in map(int, self.encode(after)) if id in added and self.controls.ends(added[id]))
            ends.update(list(controls)[:1])
        return ends
