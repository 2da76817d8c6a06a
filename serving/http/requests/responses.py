"""POST /v1/responses."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import AliasChoices, BeforeValidator, Discriminator, Field, JsonValue, Tag
from pydantic_core import PydanticCustomError

from serving.http.problems import Problem
from serving.http.requests.calls import Calls, ChosenName, Function, call_of
from serving.http.requests.formats import JsonObjectFormat, SchemaFormat, TextFormat, grammar_of
from serving.http.requests.sampled import Chosen
from serving.http.requests.unasked import ITEM, NOTE, REASONING, RESPONSES, TOOL, TURN
from serving.http.requests.wire import (
    Count,
    Messages,
    PaddedStream,
    Parsed,
    Refusal,
    ServiceTier,
    Thought,
    Verbosity,
    Wire,
    few,
    text_of,
)
from serving.types import Message, Policy, SamplingOptions, TemplateOptions

Status = Literal["completed", "incomplete", "in_progress"]


class InputText(Wire):
    """A piece of what was said to the model."""

    unasked = NOTE
    type: Literal["input_text"]
    text: str


class OutputText(Wire):
    """A piece of what the model said, as it came from here."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[list[JsonValue], Field(max_length=0, fail_fast=True)] | None = None
    logprobs: Annotated[list[JsonValue], Field(max_length=0, fail_fast=True)] | None = None
    parsed: Parsed = None


MessagePart = Annotated[InputText | OutputText | Refusal, Field(discriminator="type")]


class InputMessage(Wire):
    """One turn. id and status are those of an answer that is sent back."""

    unasked = TURN
    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[MessagePart], Field(min_length=1, fail_fast=True)]
    id: str | None = None
    status: Status | None = None


class ThoughtText(Wire):
    """A piece of what the model thought, or of what another server tells of it."""

    type: Literal["reasoning_text", "summary_text", "text"]
    text: str


class ReasoningItem(Wire):
    """What the model thought before the answer that follows it; its summary where there is nothing else."""

    unasked = ITEM
    type: Literal["reasoning"]
    id: str | None = None
    summary: Annotated[list[ThoughtText], Field(fail_fast=True)] | None = None
    content: Annotated[list[ThoughtText], Field(fail_fast=True)] | None = None
    encrypted_content: str | None = Field(None, description="of another server: nothing is done with it")
    status: Status | None = None

    @property
    def text(self) -> str:
        """The thought."""
        return "".join(part.text for part in self.content or self.summary or ())


class FunctionCallItem(Wire):
    """A call that the model made. The fields that can only be null are those that the client library knows."""

    unasked = ITEM
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Status | None = None
    namespace: None = None
    caller: None = None
    async_: None = Field(None, validation_alias=AliasChoices("async", "async_"))
    parsed_arguments: Parsed = None


class FunctionOutputItem(Wire):
    """What a called function gave."""

    unasked = ITEM
    type: Literal["function_call_output"]
    call_id: str
    output: str | Annotated[list[InputText], Field(fail_fast=True)]
    id: str | None = None
    status: Status | None = None


def _item_type(item: object) -> str | None:
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)
    return kind if isinstance(kind, str) else None


def _is_whole(item: object) -> object:
    if _item_type(item) == "item_reference":
        told = "nothing is stored here, so that an item cannot be named by its id: send the item itself"
        raise PydanticCustomError("item_reference", told)
    return item


InputItem = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")],
    Discriminator(
        _item_type,
        custom_error_type="item_type",
        custom_error_message="Input should be a message, reasoning, function_call or function_call_output",
    ),
    BeforeValidator(_is_whole),
]


class FunctionTool(Function):
    """A function that the model may call, as /v1/responses writes it."""

    unasked = TOOL
    type: Literal["function"]


class ChosenFunction(ChosenName):
    """This function and no other, as /v1/responses writes it."""

    type: Literal["function"]


class AllowedFunctions(Wire):
    """These functions and no others, as /v1/responses writes it. mode: whether one must be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[ChosenFunction], Field(min_length=1, max_length=128, fail_fast=True)]


class TextConfig(Wire):
    """What the text must be."""

    format: Annotated[TextFormat | JsonObjectFormat | SchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Verbosity | None = None


class Reasoning(Wire):
    """How much to think. summary: the best that there is; there is none, as the reasoning itself is given."""

    unasked = REASONING
    effort: str | None = None
    summary: Literal["auto"] | None = None
    max_tokens: Thought | None = None


_POLICIES: Mapping[str, Policy] = {"auto": "trim", "disabled": "error"}


class ResponsesRequest(Chosen):
    """POST /v1/responses."""

    unasked = RESPONSES
    input: str | Messages[InputItem] = Field(description="a question, or the conversation so far; text only")
    instructions: str | None = Field(None, description="a system message before it")
    stream_options: PaddedStream | None = Field(None, description="of no effect without `stream`")
    max_output_tokens: Count | None = Field(None, description="at most so many new tokens; the window's end without it")
    text: TextConfig | None = Field(None, description="`format`: `text`, `json_object` or `json_schema`")
    tools: Annotated[list[FunctionTool], Field(max_length=128, fail_fast=True)] | None = Field(
        None, description="functions that the model may call, where its chat template knows of tools"
    )
    tool_choice: Literal["none", "auto", "required"] | ChosenFunction | AllowedFunctions | None = Field(
        None,
        description="`auto`, `none`, `required`, or one function by name; the last two always give one valid call; "
        "`allowed_tools`: some of the functions",
    )
    parallel_tool_calls: bool | None = Field(None, description="false: at most one call in an answer")
    include: list[Literal["reasoning.encrypted_content"]] | None = Field(
        None, description="only `reasoning.encrypted_content`: the reasoning is there as it is"
    )
    service_tier: ServiceTier | None = Field(None, description="there is one, whatever it says")
    reasoning: Reasoning | None = Field(
        None, description="`effort`, where the model's chat template knows of it; one of `max_tokens` is ended"
    )
    metadata: Annotated[dict[str, str], few(16)] | None = Field(None, description="given back as it came")
    store: bool | None = Field(None, description="nothing is stored, whatever it says")
    truncation: Literal["auto", "disabled"] | None = Field(
        None,
        description="`auto`: the oldest turns are left out where the window is too small; else as --on-overflow says",
    )

    def conversation(self) -> list[Message]:
        """The messages for the engine. Raises Problem for an output of no call.

        A thought that no answer follows, as where a client ended one, is left out.
        """
        said = [Message("system", self.instructions)] if self.instructions is not None else []
        if isinstance(self.input, str):
            return [*said, Message("user", self.input)]
        thought: str | None = None
        called: dict[str, str] = {}
        for item in self.input:
            if isinstance(item, ReasoningItem):
                thought = (thought or "") + item.text
                continue
            if isinstance(item, FunctionCallItem):
                called[item.call_id] = item.name
                call = call_of(item.call_id, item.name, item.arguments, "input")
                if thought is None and said and said[-1].role == "assistant":  # its text, or its call before this one
                    said[-1] = replace(said[-1], tool_calls=(*(said[-1].tool_calls or ()), call))
                else:
                    said.append(Message("assistant", "", thought or None, (call,)))
                thought = None
                continue
            if not (isinstance(item, InputMessage) and item.role == "assistant"):
                thought = None
            if isinstance(item, FunctionOutputItem):
                if item.call_id not in called:
                    raise Problem.invalid(f"no function_call has the call_id {item.call_id!r} of this output.", "input")
                said.append(Message("tool", text_of(item.output), tool_call_id=item.call_id, name=called[item.call_id]))
                continue
            role = "system" if item.role == "developer" else item.role
            said.append(Message(role, text_of(item.content), thought or None))
            thought = None
        return said

    @property
    def padded(self) -> bool:
        """Whether the events of a stream are brought to lengths that tell little."""
        return bool(self.stream_options and self.stream_options.include_obfuscation)

    def calls(self) -> Calls:
        """What the answer may call. Raises Problem."""
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise Problem.invalid("tool_choice needs tools.", "tool_choice")
        choice, tools, several = self.tool_choice, self.tools or (), self.parallel_tool_calls
        if isinstance(choice, AllowedFunctions):
            return Calls.chosen(tools, choice.mode, several, choice.tools)
        return Calls.chosen(tools, choice, several)

    def sampling(self, defaults: SamplingOptions) -> SamplingOptions:
        """The sampling options. Raises Problem, InvalidRequest."""
        grammar = self.wanted(**{"text.format": grammar_of(self.text.format if self.text else None)})
        thought = self.reasoning.max_tokens if self.reasoning else None
        return self.options(defaults, max_tokens=self.max_output_tokens, reasoning_tokens=thought, grammar=grammar)

    def template(self) -> TemplateOptions:
        """What the chat template is given besides the messages."""
        effort = self.reasoning.effort if self.reasoning else None
        arguments = {} if effort is None else {"reasoning_effort": effort}
        overflow = _POLICIES.get(self.truncation or "")
        return TemplateOptions(self.calls().template(), arguments, overflow=overflow)
