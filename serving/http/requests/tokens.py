"""POST /tokenize and /detokenize, with the fields of vLLM and of llama.cpp."""

from typing import Annotated

from pydantic import Field, JsonValue

from serving.http.problems import Problem
from serving.http.requests.chat import ChatMessage, Tool, ending_of, messages_of
from serving.http.requests.unasked import TOKENS
from serving.http.requests.wire import WHOLE, Messages, Wire
from serving.types import Message, TemplateOptions


class TokenizeRequest(Wire):
    """POST /tokenize."""

    unasked = TOKENS
    model: str | None = Field(None, description="the name that /v1/models gives")
    prompt: str | None = Field(None, description="a text")
    content: str | None = Field(None, description="another name of `prompt`, without `add_special_tokens`")
    messages: Messages[ChatMessage] | None = Field(
        None, description="a conversation in place of a text, as the chat template writes it"
    )
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128, fail_fast=True)] | None = Field(
        None, description="with `messages`"
    )
    chat_template_kwargs: dict[str, JsonValue] | None = Field(None, description="with `messages`")
    continue_final_message: bool | None = Field(None, description="with `messages`, as in a chat")
    add_generation_prompt: bool | None = Field(None, description="with `messages`, as in a chat")
    add_special_tokens: bool | None = Field(
        None, description="what the tokenizer puts around a text, such as its beginning; true for `prompt`"
    )
    add_special: bool | None = Field(None, description="another name of `add_special_tokens`")
    return_token_strs: bool | None = Field(None, description="also give what each token spells, in `token_strs`")
    with_pieces: bool | None = Field(
        None, description="give each token as its `id` and its `piece`: a text, or the bytes of a part of a character"
    )

    def text(self) -> str | None:
        """The text to encode; None for a conversation. Raises Problem for anything but one of them."""
        given = [name for name in ("prompt", "content", "messages") if getattr(self, name) is not None]
        if len(given) != 1:
            raise Problem.invalid("send one of prompt, content and messages.", given[1] if given else "prompt")
        return self.content if self.prompt is None else self.prompt

    def special(self) -> bool:
        """Whether what begins a text is added to it."""
        named = self.add_special if self.add_special_tokens is None else self.add_special_tokens
        return self.prompt is not None if named is None else named

    def conversation(self) -> tuple[list[Message], TemplateOptions]:
        """The messages, and what else the chat template is given. Raises Problem."""
        messages = self.messages or []
        tools = tuple(tool.function.written() for tool in self.tools or ()) or None
        ending = ending_of(messages[-1], self.continue_final_message, self.add_generation_prompt)
        return messages_of(messages), TemplateOptions(tools, self.chat_template_kwargs or {}, ending=ending)


class DetokenizeRequest(Wire):
    """POST /detokenize."""

    model: str | None = Field(None, description="the name that /v1/models gives")
    tokens: Annotated[list[Annotated[int, WHOLE]], Field(fail_fast=True)] = Field(
        description="token ids; the answer has their text as `prompt` and as `content`"
    )
