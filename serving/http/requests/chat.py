"""POST /v1/chat/completions."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, JsonValue

from serving.http.problems import Problem
from serving.http.requests.calls import Calls, ChosenName, Function, call_of
from serving.http.requests.formats import JsonObjectFormat, JsonSchemaFormat, TextFormat, grammar_of
from serving.http.requests.sampled import Sampled
from serving.http.requests.unasked import CALL, CHAT, GIVEN, GIVEN_PART, MESSAGE, NOTE, PART, THINKING, THOUGHT
from serving.http.requests.wire import (
    WHOLE,
    Count,
    Messages,
    Parsed,
    Refusal,
    Schema,
    ServiceTier,
    Thought,
    Verbosity,
    Wire,
    few,
    text_of,
)
from serving.types import Ending, Message, SamplingOptions, TemplateOptions


class TextPart(Wire):
    """A piece of a message; only text can be read."""

    unasked = PART
    type: Literal["text"]
    text: str


class RefusalPart(Refusal):
    """A piece of an answer that declines."""

    unasked = NOTE


Content = str | Annotated[list[TextPart], Field(min_length=1, fail_fast=True)]


class ThinkingPart(Wire):
    """What the model thought, as Anthropic's and Mistral's messages have it."""

    unasked = THOUGHT
    type: Literal["thinking"]
    thinking: str | Annotated[list[TextPart], Field(fail_fast=True)]

    @property
    def thought(self) -> str:
        """The thought."""
        return text_of(self.thinking)


class ReasoningPart(Wire):
    """The same as LangChain's messages have it, or the AI SDK's."""

    unasked = THOUGHT
    type: Literal["reasoning"]
    reasoning: str | None = None
    text_: str | None = Field(None, alias="text", description="another name of `reasoning`")

    @property
    def thought(self) -> str:
        """The thought."""
        return self.reasoning or self.text_ or ""


class RedactedPart(Wire):
    """What another model thought, and did not show."""

    unasked = NOTE
    type: Literal["redacted_thinking"]
    data: str | None = Field(None, description="nothing is done with it")
    thought: ClassVar[str] = ""


class GivenPart(TextPart):
    """A piece of what a tool gave."""

    unasked = GIVEN_PART


Given = str | Annotated[list[GivenPart], Field(fail_fast=True)] | None
ThoughtPart = ThinkingPart | ReasoningPart | RedactedPart
AnsweredPart = Annotated[TextPart | RefusalPart | ThoughtPart, Field(discriminator="type")]


class SystemMessage(Wire):
    """How the model should behave. `developer` is another word for it."""

    unasked = MESSAGE
    role: Literal["system", "developer"]
    content: Content
    name: str | None = Field(None, description="who said it, for chat templates that tell the model")


class UserMessage(Wire):
    """What the user said."""

    unasked = MESSAGE
    role: Literal["user"]
    content: Content | None = Field(description="null is an empty text")
    name: str | None = Field(None, description="who said it, for chat templates that tell the model")


class CalledFunction(Wire):
    """Which function was called, and with which arguments: a JSON object, as it is or as text, or nothing."""

    name: str
    arguments: str | Schema | None = None
    parsed_arguments: Parsed = None


class ToolCall(Wire):
    """A call that the model made. index: its place in a stream, which client libraries keep."""

    unasked = CALL
    id: str
    type: Literal["function"] | None = None
    function: CalledFunction
    index: Annotated[int, Field(ge=0), WHOLE] | None = None


class ToolMessage(Wire):
    """What a tool gave."""

    unasked = GIVEN
    role: Literal["tool"]
    content: Given = Field(description="null is an empty text")
    tool_call_id: str
    name: str | None = None


class FunctionMessage(Wire):
    """What a function gave that was called by `function_call`."""

    unasked = GIVEN
    role: Literal["function"]
    content: Given = Field(description="null is an empty text")
    name: str


class ProviderFields(Wire):
    """Where LiteLLM puts fields of an answer: they say nothing that the message does not."""

    refusal: None = None
    reasoning_content: str | None = None


class AssistantMessage(Wire):
    """What the model said before. The fields that can only be null are those that OpenAI's own answers carry."""

    unasked = MESSAGE
    role: Literal["assistant"]
    content: str | Annotated[list[AnsweredPart], Field(fail_fast=True)] | None = None
    name: str | None = Field(None, description="who said it, for chat templates that tell the model")
    reasoning_content: str | None = None
    reasoning: str | None = Field(None, description="another name of `reasoning_content`")
    refusal: str | None = None
    audio: None = None
    function_call: CalledFunction | None = Field(None, description="how a call was written before there were several")
    annotations: Annotated[list[JsonValue], Field(max_length=0, fail_fast=True)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1, fail_fast=True)] | None = None
    parsed: Parsed = None
    provider_specific_fields: ProviderFields | None = None

    def message(self) -> Message:
        """For the engine. Raises Problem for arguments that are no JSON object."""
        if self.tool_calls and self.function_call:
            raise Problem.invalid("tool_calls and function_call mean the same: send one.", "messages")
        called = [(call.id, call.function) for call in self.tool_calls or ()]
        called += [(_ONE, self.function_call)] if self.function_call else []
        calls = [call_of(id, function.name, function.arguments or "", "messages") for id, function in called]
        text, thought = self._said()
        return Message("assistant", text, thought, tuple(calls) or None, name=self.name)

    def _said(self) -> tuple[str, str | None]:
        """What was answered, and what was thought: by one of its names, or in parts of the content."""
        thought = self.reasoning if self.reasoning_content is None else self.reasoning_content
        if self.content is None or isinstance(self.content, str):
            return (self.refusal or "") if self.content is None else self.content, thought
        parts = "".join(part.thought for part in self.content if isinstance(part, ThoughtPart))
        text = text_of([part for part in self.content if not isinstance(part, ThoughtPart)])
        return text, (parts or None) if thought is None else thought


ChatMessage = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage, Field(discriminator="role")
]


class Tool(Wire):
    """Only functions."""

    unasked = NOTE
    type: Literal["function"]
    function: Function


class ChosenTool(Wire):
    """This function and no other."""

    type: Literal["function"]
    function: ChosenName


class AllowedNames(Wire):
    """These functions and no others. mode: whether one must be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[ChosenTool], Field(min_length=1, max_length=128, fail_fast=True)]


class AllowedTools(Wire):
    """Some of the functions."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedNames


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]


class ThinkingBudget(Wire):
    """How much to think."""

    unasked = THINKING
    effort: str | None = None
    max_tokens: Thought | None = None
    enabled: bool | None = None


class UsageWanted(Wire):
    """How OpenRouter's clients ask for the usage."""

    include: bool | None = None


class ChatRequest(Sampled):
    """POST /v1/chat/completions."""

    unasked = CHAT
    messages: Messages[ChatMessage] = Field(description="the conversation so far; text only")
    max_completion_tokens: Count | None = Field(None, description="another name of `max_tokens`")
    logprobs: bool | None = Field(None, description="also give the log-probability of each token")
    top_logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] | None = Field(
        None, description="and of so many of the likeliest; only with `logprobs`"
    )
    response_format: ResponseFormat | None = Field(None, description="`text`, `json_object` or `json_schema`")
    chat_template_kwargs: dict[str, JsonValue] | None = Field(
        None, description="variables of the model's own chat template, such as enable_thinking"
    )
    reasoning_effort: str | None = Field(
        None, description="where the model's chat template knows of it, or of `enable_thinking`: not with `none`"
    )
    enable_thinking: bool | None = Field(None, description="where the model's chat template knows of it")
    reasoning: ThinkingBudget | None = Field(
        None, description="`effort` is `reasoning_effort`, `enabled` is `enable_thinking`; one of `max_tokens` is ended"
    )
    thinking_token_budget: Thought | None = Field(None, description="another name of `reasoning.max_tokens`")
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128, fail_fast=True)] | None = Field(
        None, description="functions that the model may call, where its chat template knows of tools"
    )
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | AllowedTools | None = Field(
        None,
        description="`auto`, `none`, `required`, or one function by name; the last two always give one valid call; "
        "`allowed_tools`: some of the functions",
    )
    parallel_tool_calls: bool | None = Field(None, description="false: at most one call in an answer")
    continue_final_message: bool | None = Field(
        None, description="true, or left out where it is the assistant's: the last message is gone on with"
    )
    add_generation_prompt: bool | None = Field(
        None, description="true: a new answer, whoever said the last message; false: the template begins none"
    )
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1, fail_fast=True)] | None = Field(
        None, description="only `text`"
    )
    store: bool | None = Field(None, description="nothing is stored, whatever it says")
    metadata: Annotated[dict[str, JsonValue], few(16)] | None = Field(None, description="nothing is done with it")
    service_tier: ServiceTier | None = Field(None, description="there is one, whatever it says")
    verbosity: Verbosity | None = Field(None, description="nothing is done with it")
    usage: UsageWanted | None = Field(None, description="`include` is `stream_options.include_usage`")

    def conversation(self) -> list[Message]:
        """The messages for the engine. Raises Problem."""
        return messages_of(self.messages)

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return super().include_usage or bool(self.usage and self.usage.include)

    def calls(self) -> Calls:
        """What the answer may call. Raises Problem."""
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise Problem.invalid("tool_choice needs tools.", "tool_choice")
        functions, several = [tool.function for tool in self.tools or ()], self.parallel_tool_calls
        if isinstance(self.tool_choice, AllowedTools):
            allowed = self.tool_choice.allowed_tools
            return Calls.chosen(functions, allowed.mode, several, [tool.function for tool in allowed.tools])
        choice = self.tool_choice.function if isinstance(self.tool_choice, ChosenTool) else self.tool_choice
        return Calls.chosen(functions, choice, several)

    def sampling(self, defaults: SamplingOptions) -> SamplingOptions:
        """The sampling options. Raises Problem, InvalidRequest."""
        if self.max_tokens not in (None, self.max_completion_tokens or self.max_tokens):
            raise Problem.invalid("max_tokens and max_completion_tokens mean the same: send one.", "max_tokens")
        if self.top_logprobs and not self.logprobs:
            raise Problem.invalid("top_logprobs needs logprobs to be true.", "top_logprobs")
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        more = {"max_tokens": self.max_completion_tokens} if self.max_completion_tokens else {}
        if (thought := self.reasoning.max_tokens if self.reasoning else None) is None:
            thought = self.thinking_token_budget
        grammar = self.wanted(response_format=grammar_of(self.response_format))
        return self.options(defaults, logprobs=logprobs, grammar=grammar, reasoning_tokens=thought, **more)

    def template(self) -> TemplateOptions:
        """What the chat template is given besides the messages."""
        effort = self.reasoning_effort or (self.reasoning.effort if self.reasoning else None)
        enabled = self.reasoning.enabled if self.reasoning and self.enable_thinking is None else self.enable_thinking
        named = {"reasoning_effort": effort, "enable_thinking": enabled}
        given = {name: value for name, value in named.items() if value is not None}
        ending = ending_of(self.messages[-1], self.continue_final_message, self.add_generation_prompt)
        return TemplateOptions(self.calls().template(), {**(self.chat_template_kwargs or {}), **given}, ending=ending)


def ending_of(last: ChatMessage, continued: bool | None, new: bool | None) -> Ending:
    """What a prompt ends with. new: whether an answer is begun. Raises Problem where the two exclude each other."""
    ours = isinstance(last, AssistantMessage) and not (last.tool_calls or last.function_call)
    if continued and new:
        message = "continue_final_message and add_generation_prompt exclude each other: one of them has to be false."
        raise Problem.invalid(message, "continue_final_message")
    if continued and not ours:
        message = "continue_final_message needs a message of the assistant at the end, and one that calls nothing."
        raise Problem.invalid(message, "continue_final_message")
    if continued or (continued is None and new is None and ours):
        return "continue"
    return "nothing" if new is False else "answer"


_ONE = "call_function"  # a call by `function_call` has no id


def messages_of(sent: Sequence[ChatMessage]) -> list[Message]:
    """For the engine. Raises Problem."""
    for before, said in zip((None, *sent), sent, strict=False):
        if isinstance(said, FunctionMessage):
            called = before.function_call if isinstance(before, AssistantMessage) else None
            if called is None or called.name != said.name:
                message = f"messages: no function_call of {said.name!r} stands before what that function gave."
                raise Problem.invalid(message, "messages")
    return [_message_of(said) for said in sent]


def _message_of(said: ChatMessage) -> Message:
    if isinstance(said, AssistantMessage):
        return said.message()
    if isinstance(said, FunctionMessage):
        return Message("tool", text_of(said.content or ""), tool_call_id=_ONE, name=said.name)
    if isinstance(said, ToolMessage):
        return Message("tool", text_of(said.content or ""), tool_call_id=said.tool_call_id, name=said.name)
    return Message("system" if said.role == "developer" else said.role, text_of(said.content or ""), name=said.name)
