"""POST /v1/messages and /v1/messages/count_tokens: a conversation in Anthropic's blocks."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, JsonValue, Tag
from pydantic_core import to_json

from serving.http.problems import Problem
from serving.http.requests.calls import Calls, ChosenName, Function
from serving.http.requests.sampled import Stops, with_given
from serving.http.requests.unasked import ANSWERED, BLOCK, MESSAGES, NOTE, TOOL
from serving.http.requests.wire import WHOLE, Count, Messages, Schema, Temperature, Thought, TopP, Wire, few, text_of
from serving.types import Ending, Grammar, Message, SamplingOptions, TemplateOptions


class TextBlock(Wire):
    """A piece of text."""

    unasked = BLOCK
    type: Literal["text"]
    text: str


class ThinkingBlock(Wire):
    """What the model thought, as it came from here."""

    type: Literal["thinking"]
    thinking: str
    signature: str | None = Field(None, description="nothing is done with it")


class RedactedThinkingBlock(Wire):
    """What another model thought, and did not show."""

    type: Literal["redacted_thinking"]
    data: str = Field(description="nothing is done with it")


class ToolUseBlock(Wire):
    """A call that the model made."""

    unasked = BLOCK
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, JsonValue]


class ToolResultBlock(Wire):
    """What a called tool gave."""

    unasked = BLOCK
    type: Literal["tool_result"]
    tool_use_id: str
    content: str | Annotated[list[TextBlock], Field(fail_fast=True)] | None = None
    is_error: bool | None = Field(None, description="nothing is done with it: the content says what went wrong")


def _kind(block: object) -> str | None:
    kind = block.get("type") if isinstance(block, dict) else getattr(block, "type", None)
    return kind if isinstance(kind, str) else None


SaidBlock = Annotated[
    Annotated[TextBlock, Tag("text")] | Annotated[ToolResultBlock, Tag("tool_result")],
    Discriminator(
        _kind,
        custom_error_type="block_type",
        custom_error_message="Input should be a text or tool_result block: images and files cannot be read",
    ),
]
AnsweredBlock = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ToolUseBlock, Tag("tool_use")]
    | Annotated[ThinkingBlock, Tag("thinking")]
    | Annotated[RedactedThinkingBlock, Tag("redacted_thinking")],
    Discriminator(
        _kind,
        custom_error_type="block_type",
        custom_error_message="Input should be a text, tool_use, thinking or redacted_thinking block",
    ),
]
Text = str | Annotated[list[TextBlock], Field(fail_fast=True)]


class SaidMessage(Wire):
    """What the user said, and what tools gave."""

    unasked = NOTE
    role: Literal["user"]
    content: str | Annotated[list[SaidBlock], Field(min_length=1, fail_fast=True)]


class AnsweredMessage(Wire):
    """What the model said before."""

    unasked = ANSWERED
    role: Literal["assistant"]
    content: str | Annotated[list[AnsweredBlock], Field(fail_fast=True)]


class ToldMessage(Wire):
    """How the model should behave from here on."""

    unasked = NOTE
    role: Literal["system"]
    content: Text


SentMessage = Annotated[SaidMessage | AnsweredMessage | ToldMessage, Field(discriminator="role")]


class CustomTool(Wire):
    """A function that the model may call."""

    unasked = TOOL
    type: Literal["custom"] | None = None
    name: str = Field(pattern=r"^[\w.-]{1,128}$")
    description: str | None = None
    input_schema: Schema = Field(description="JSON schema of its arguments")
    input_examples: Annotated[list[Schema], Field(max_length=100, fail_fast=True)] | None = Field(
        None, description="arguments as they may be: `examples` of the schema"
    )
    strict: bool | None = Field(None, description="hold the model to valid calls; of all tools, if of any")

    def function(self) -> Function:
        """The same as the other endpoints write it."""
        shown = {"examples": self.input_examples} if self.input_examples else {}
        parameters = {**self.input_schema, **shown}
        return Function(name=self.name, description=self.description, parameters=parameters, strict=self.strict)


class ToolChoice(Wire):
    """Whether the model has to call, and whom."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Wire):
    """Whether to think, how long at most, and whether it is shown."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Thought | None = None
    display: Literal["summarized", "omitted"] | None = None


class SchemaOutput(Wire):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    schema_: Schema = Field(alias="schema")


class OutputConfig(Wire):
    """What the answer must be, and how much is done for it."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: SchemaOutput | None = None


class KeptTurns(Wire):
    """Of how many of the last turns that thought the thoughts are kept."""

    type: Literal["thinking_turns"]
    value: Count


class ClearThinking(Wire):
    """Leaves older thoughts out of the conversation."""

    type: Literal["clear_thinking_20251015"]
    keep: Literal["all"] | Count | KeptTurns | None = Field(None, description="null is 1")

    def cleared(self, said: list[Message]) -> list[Message]:
        """The conversation without those thoughts. A turn lasts until the user speaks, whatever it calls meanwhile."""
        if self.keep == "all":
            return said
        left = self.keep.value if isinstance(self.keep, KeptTurns) else self.keep or 1
        kept: list[Message] = []
        thought = False  # this turn
        for message in reversed(said):
            if message.role == "user":
                left, thought = left - thought, False
            thought = thought or message.reasoning_content is not None
            kept.append(message if left > 0 else replace(message, reasoning_content=None))
        return kept[::-1]


class ContextManagement(Wire):
    """What is left out of the conversation before it is read."""

    edits: Annotated[list[ClearThinking], Field(max_length=16, fail_fast=True)]


class CountTokensRequest(Wire):
    """POST /v1/messages/count_tokens."""

    unasked = MESSAGES
    model: str = Field(description="the name that /v1/models gives")
    messages: Messages[SentMessage] = Field(
        description="the conversation so far, text only; one of the assistant's at its end is gone on with"
    )
    system: Text | None = Field(None, description="a system message before it")
    tools: Annotated[list[CustomTool], Field(max_length=128, fail_fast=True)] | None = Field(
        None, description="functions that the model may call, where its chat template knows of tools"
    )
    tool_choice: ToolChoice | None = Field(
        None,
        description="`type`: `auto`, `none`, `any`, or `tool` and its `name`; the last two always give a valid call",
    )
    thinking: Thinking | None = Field(
        None,
        description="`enabled`, for `budget_tokens` at most, `adaptive` or `disabled`; `display: omitted` hides it",
    )
    context_management: ContextManagement | None = Field(
        None, description="`edits`: only `clear_thinking_20251015`, which leaves out all but the last thoughts"
    )
    output_config: OutputConfig | None = Field(
        None, description="`format`: a `json_schema`; `effort`, where the model's chat template knows of it"
    )

    def conversation(self) -> list[Message]:
        """The messages for the engine: turns of one role that follow each other are one. Raises Problem."""
        system = text_of(self.system or "")
        said = [Message("system", system)] if system else []
        called: dict[str, str] = {}
        for sent in self.messages:
            if isinstance(sent, AnsweredMessage):
                message = _answered(sent)
                called |= {call["id"]: call["function"]["name"] for call in message.tool_calls or ()}
                messages = [message]
            elif isinstance(sent, SaidMessage):
                messages = _said(sent, called)
            else:
                messages = [Message("system", text_of(sent.content))]
            for message in messages:
                if said and said[-1].role == message.role in ("user", "assistant"):
                    message = _joined(said.pop(), message)
                said.append(message)
        for edit in self.context_management.edits if self.context_management else ():
            said = edit.cleared(said)
        return said

    def calls(self) -> Calls:
        """What the answer may call. Raises Problem."""
        chosen = self.tool_choice or ToolChoice(type="auto")
        if chosen.type in ("any", "tool") and not self.tools:
            raise Problem.invalid("tool_choice needs tools.", "tool_choice")
        if (chosen.type == "tool") != (chosen.name is not None):
            raise Problem.invalid("tool_choice has a name where its type is tool, and only there.", "tool_choice")
        choice = ChosenName(name=chosen.name) if chosen.name is not None else _CHOICES[chosen.type]
        functions = [tool.function() for tool in self.tools or ()]
        return Calls.chosen(functions, choice, not chosen.disable_parallel_tool_use)

    def template(self) -> TemplateOptions:
        """What the chat template is given besides the messages."""
        hints: dict[str, Any] = {}
        if self.thinking:
            hints["enable_thinking"] = self.thinking.type != "disabled"
        if self.output_config and self.output_config.effort:
            hints["reasoning_effort"] = self.output_config.effort
        last = self.conversation()[-1]
        ending: Ending = "continue" if last.role == "assistant" and not last.tool_calls else "answer"
        return TemplateOptions(self.calls().template(), hints=hints, ending=ending)


class MessagesRequest(CountTokensRequest):
    """POST /v1/messages."""

    max_tokens: Annotated[int, Field(ge=0, lt=2**31), WHOLE] | None = Field(
        None, description="at most so many new tokens; the window's end without it; 0 only reads"
    )
    stop_sequences: Stops | None = Field(None, description="strings that end the answer; not part of it")
    stream: bool | None = Field(None, description="send the answer as it is made, as server-sent events")
    temperature: Temperature | None = Field(None, description="0 is greedy; the model's own suggestion, else 1")
    top_p: TopP | None = Field(None, description="nucleus sampling; the model's own suggestion, else 1")
    top_k: Annotated[int, Field(ge=-1, lt=2**31), WHOLE] | None = Field(
        None, description="keep the k likeliest tokens, 0 or -1 keeps all; the model's own suggestion, else 0"
    )
    metadata: Annotated[dict[str, JsonValue], few(16)] | None = Field(None, description="nothing is done with it")
    service_tier: Literal["auto", "standard_only"] | None = Field(None, description="there is one, whatever it says")

    def sampling(self, defaults: SamplingOptions) -> SamplingOptions:
        """The sampling options."""
        thinking, wanted = self.thinking, self.output_config.format if self.output_config else None
        given: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k and max(self.top_k, 0),
            "max_tokens": self.max_tokens,
            "stop": tuple(self.stop_sequences) if self.stop_sequences else None,
            "reasoning_tokens": (0 if thinking.type == "disabled" else thinking.budget_tokens) if thinking else None,
            "grammar": Grammar("json_schema", to_json(wanted.schema_).decode()) if wanted else None,
        }
        return with_given(defaults, given)

    @property
    def hides_thinking(self) -> bool:
        """Whether what is thought is not to be shown."""
        return self.thinking is not None and self.thinking.display == "omitted"


_CHOICES = {"auto": "auto", "any": "required", "none": "none"}


def _said(sent: SaidMessage, called: dict[str, str]) -> list[Message]:
    """A message for each result, and one for the text on each side of them. called: names of functions by call."""
    if isinstance(sent.content, str):
        return [Message("user", sent.content)]
    messages: list[Message] = []
    for block in sent.content:
        if isinstance(block, ToolResultBlock):
            name = called.get(block.tool_use_id)
            if name is None:
                raise Problem.invalid(
                    f"messages: no tool_use before this tool_result has the id {block.tool_use_id!r}.", "messages"
                )
            given = text_of(block.content or "")
            messages.append(Message("tool", given, tool_call_id=block.tool_use_id, name=name))
        elif messages and messages[-1].role == "user":
            messages[-1] = replace(messages[-1], content=messages[-1].content + block.text)
        else:
            messages.append(Message("user", block.text))
    return messages


def _answered(sent: AnsweredMessage) -> Message:
    if isinstance(sent.content, str):
        return Message("assistant", sent.content)
    text = "".join(block.text for block in sent.content if isinstance(block, TextBlock))
    thought = "".join(block.thinking for block in sent.content if isinstance(block, ThinkingBlock))
    calls = tuple(
        {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": block.input}}
        for block in sent.content
        if isinstance(block, ToolUseBlock)
    )
    return Message("assistant", text, thought or None, calls or None)


def _joined(first: Message, then: Message) -> Message:
    """Two messages of one role as one."""
    thought = _lines(first.reasoning_content, then.reasoning_content)
    calls = (*(first.tool_calls or ()), *(then.tool_calls or ()))
    return Message(first.role, _lines(first.content, then.content), thought or None, calls or None)


def _lines(*texts: str | None) -> str:
    return "\n".join(filter(None, texts))
