"""The wire models of OpenAI's endpoints: what a request may say, and what it means here.

A field that is not here is refused by name; one that is here does what its description says. A field that is null
counts as left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    Tag,
    ValidationError,
)
from pydantic.json_schema import models_json_schema
from pydantic_core import ErrorDetails, from_json, to_json

from serving.errors import InvalidRequest
from serving.http.problems import Problem
from serving.text.tools import CallFormat, calling
from serving.types import Grammar, Message, SamplingOptions, TemplateOptions

MOST_CHOICES = 16


class Wire(BaseModel):
    """Strict: no field that is not named, no text for a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(Wire):
    """A piece of a message; only text can be read."""

    type: Literal["text"]
    text: str


Content = str | Annotated[list[TextPart], Field(min_length=1)]


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_false(value: object) -> object:
    if value is not False:  # a Literal alone takes what equals it, and 0 does
        raise ValueError("Input should be false")
    return value


WHOLE = BeforeValidator(_whole)  # 3.0 is an integer in JSON; behind the bounds, which the schema would lose otherwise
Off = Annotated[Literal[False], BeforeValidator(_is_false)]


# What OpenAI's client library makes of the text beside it, and sends back with it.
Parsed = Annotated[JsonValue, Field(description="nothing is done with it")]


class SystemMessage(Wire):
    """How the model should behave. `developer` is another word for it."""

    role: Literal["system", "developer"]
    content: Content
    name: str | None = Field(None, description="who said it, for chat templates that tell the model")


class UserMessage(Wire):
    """What the user said."""

    role: Literal["user"]
    content: Content
    name: str | None = Field(None, description="who said it, for chat templates that tell the model")


class CalledFunction(Wire):
    """Which function was called, and with which arguments: a JSON object, as text."""

    name: str
    arguments: str
    parsed_arguments: Parsed = None


class ToolCall(Wire):
    """A call that the model made. index: its place in a stream, which client libraries keep."""

    id: str
    type: Literal["function"]
    function: CalledFunction
    index: Annotated[int, Field(ge=0), WHOLE] | None = None


class ToolMessage(Wire):
    """What a tool gave."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = None


class ProviderFields(Wire):
    """Where LiteLLM puts fields of an answer: they say nothing that the message does not."""

    refusal: None = None
    reasoning_content: str | None = None


class AssistantMessage(Wire):
    """What the model said before. The fields that can only be null are those that OpenAI's own answers carry."""

    role: Literal["assistant"]
    content: Content | None = None
    name: str | None = Field(None, description="who said it, for chat templates that tell the model")
    reasoning_content: str | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[JsonValue], Field(max_length=0)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1)] | None = None
    parsed: Parsed = None
    provider_specific_fields: ProviderFields | None = None

    def message(self) -> Message:
        """For the engine. Raises Problem for arguments that are no JSON object."""
        calls = [
            _call(call.id, call.function.name, call.function.arguments, "messages") for call in self.tool_calls or ()
        ]
        text = "" if self.content is None else text_of(self.content)
        return Message("assistant", text, self.reasoning_content, tuple(calls) or None, name=self.name)


ChatMessage = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


class Function(Wire):
    """A function that the model may call."""

    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    description: str | None = None
    parameters: dict[str, JsonValue] | None = Field(None, description="JSON schema of its arguments")
    strict: bool | None = Field(None, description="hold the model to valid calls; of all tools, if of any")


class Tool(Wire):
    """Only functions."""

    type: Literal["function"]
    function: Function


class ChosenName(Wire):
    """A function's name."""

    name: str


class ChosenTool(Wire):
    """This function and no other."""

    type: Literal["function"]
    function: ChosenName


@dataclass(frozen=True, slots=True)
class Calls:
    """What an answer may call, or has to. several: more than one call at once."""

    functions: tuple[Function, ...]
    must: bool
    several: bool

    @classmethod
    def chosen(cls, functions: Sequence[Function], choice: str | ChosenName | None, several: bool | None) -> "Calls":
        """From tools, tool_choice and parallel_tool_calls. Raises Problem."""
        functions = [] if choice == "none" else functions
        if isinstance(choice, ChosenName):
            functions = [function for function in functions if function.name == choice.name]
            if not functions:
                raise Problem.invalid(
                    f"tool_choice names {choice.name!r}, which is not among the tools.", "tool_choice"
                )
        if len({function.name for function in functions}) < len(functions):
            raise Problem.invalid("two tools have the same name.", "tools")
        must = choice == "required" or isinstance(choice, ChosenName)
        return cls(tuple(functions), must, several is not False)

    def template(self) -> tuple[dict[str, Any], ...] | None:
        """The functions as chat templates read them."""
        unread = {"strict", "type"}
        written = [function.model_dump(exclude_none=True, exclude=unread) for function in self.functions]
        return tuple({"type": "function", "function": function} for function in written) or None

    def grammar(self, form: CallFormat, wanted: Grammar | None) -> Grammar | None:
        """What holds the answer to these calls, where the request asks for more than that they be possible.

        wanted: the answer's own format. An answer that must be a call has no text, and so none that it could be for.
        """
        strict = any(function.strict for function in self.functions)
        if not (self.must or wanted or not self.several or strict):
            return None
        schema = from_json(wanted.text or '{"type": "object"}') if wanted else None
        functions = [function.model_dump() for function in self.functions]
        return calling(form, functions, self.must, self.several, schema)


class StreamOptions(Wire):
    """What a stream carries besides the text."""

    include_usage: bool | None = Field(None, description="end with a chunk that has no choices but the usage")
    include_obfuscation: Off | None = Field(None, description="padding against eavesdroppers: not made")


class TextFormat(Wire):
    """Any text."""

    type: Literal["text"]


class JsonObjectFormat(Wire):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(Wire):
    """A named JSON schema."""

    name: str = Field(pattern=r"^[\w-]{1,64}$")
    description: str | None = None
    schema_: dict[str, JsonValue] = Field(alias="schema")
    strict: bool | None = Field(None, description="every answer follows the schema, with it or without")


class JsonSchemaFormat(Wire):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")]
Temperature = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
TopP = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, lt=2**31), WHOLE]
Stop = Annotated[str, Field(min_length=1, max_length=1000)]
ServiceTier = Literal["auto", "default"]


class Sampled(Wire):
    """What the two completion endpoints have in common."""

    model: str = Field(description="the name that /v1/models gives")
    stream: bool | None = Field(None, description="send the answer as it is made, as server-sent events")
    stream_options: StreamOptions | None = Field(None, description="only with `stream`")
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES), WHOLE] | None = Field(
        None, description="answers to make; each takes a place in the queue, and the next seed"
    )
    temperature: Temperature | None = Field(None, description="0 is greedy; the model's own suggestion, else 1")
    top_p: TopP | None = Field(None, description="nucleus sampling; the model's own suggestion, else 1")
    top_k: Annotated[int, Field(ge=0, lt=2**31), WHOLE] | None = Field(
        None, description="keep the k likeliest tokens, 0 keeps all; the model's own suggestion, else 0"
    )
    min_p: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = Field(
        None, description="keep tokens at least so many times as likely as the likeliest"
    )
    repetition_penalty: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] | None = Field(
        None, description="against tokens of prompt and answer; 1 is off"
    )
    frequency_penalty: Penalty | None = Field(None, description="for each time that a token came in the answer")
    presence_penalty: Penalty | None = Field(None, description="once for a token that came in the answer")
    logit_bias: dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], Bias] | None = Field(
        None, description="token id to what is added to its logit"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63 - MOST_CHOICES), WHOLE] | None = Field(
        None, description="same seed, same prompt, same draws"
    )
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = Field(
        None, description="strings that end the answer; not part of it"
    )
    max_tokens: Count | None = Field(None, description="at most so many new tokens; the window's end without it")
    user: str | None = Field(None, description="whom a request is made for; nothing is done with it")

    def options(self, defaults: SamplingOptions, **more: Any) -> SamplingOptions:
        """The sampling options: what is given here, over what the model suggests. Raises InvalidRequest."""
        if self.stream_options and not self.stream:
            raise Problem.invalid("stream_options needs stream to be true.", "stream_options")
        bias = [(int(token), value) for token, value in (self.logit_bias or {}).items()]
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        given: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty,
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
            "logit_bias": tuple(bias) or None,
            "stop": tuple(stop) if stop else None,
            **more,
        }
        return replace(defaults, **{name: value for name, value in given.items() if value is not None})

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(Sampled):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)] = Field(
        description="the conversation so far; text only"
    )
    max_completion_tokens: Count | None = Field(None, description="another name of `max_tokens`")
    logprobs: bool | None = Field(None, description="also give the log-probability of each token")
    top_logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] | None = Field(
        None, description="and of so many of the likeliest; only with `logprobs`"
    )
    response_format: ResponseFormat | None = Field(None, description="`text`, `json_object` or `json_schema`")
    chat_template_kwargs: dict[str, JsonValue] | None = Field(
        None, description="variables of the model's own chat template, such as enable_thinking"
    )
    reasoning_effort: str | None = Field(None, description="where the model's chat template knows of it")
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128)] | None = Field(
        None, description="functions that the model may call, where its chat template knows of tools"
    )
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = Field(
        None, description="`auto`, `none`, `required`, or one function by name; the last two always give one valid call"
    )
    parallel_tool_calls: bool | None = Field(None, description="false: at most one call in an answer")
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = Field(
        None, description="only `text`"
    )
    store: Off | None = Field(None, description="only false: nothing is stored")
    metadata: Annotated[dict[str, str], Field(max_length=0)] | None = Field(
        None, description="only empty: nothing is stored that it could be kept with"
    )
    service_tier: ServiceTier | None = Field(None, description="only `auto` or `default`: there is one")
    verbosity: Literal["medium"] | None = Field(None, description="only `medium`, which is OpenAI's default")

    def conversation(self) -> list[Message]:
        """The messages for the engine. Raises Problem."""
        return [_message(said) for said in self.messages]

    def calls(self) -> Calls:
        """What the answer may call. Raises Problem."""
        if self.tool_choice is not None and not self.tools:
            raise Problem.invalid("tool_choice needs tools.", "tool_choice")
        choice = self.tool_choice.function if isinstance(self.tool_choice, ChosenTool) else self.tool_choice
        return Calls.chosen([tool.function for tool in self.tools or ()], choice, self.parallel_tool_calls)

    def sampling(self, defaults: SamplingOptions) -> SamplingOptions:
        """The sampling options. Raises Problem, InvalidRequest."""
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise Problem.invalid("max_tokens and max_completion_tokens mean the same: send one.", "max_tokens")
        if self.top_logprobs is not None and not self.logprobs:
            raise Problem.invalid("top_logprobs needs logprobs to be true.", "top_logprobs")
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        more = {"max_tokens": self.max_completion_tokens} if self.max_completion_tokens else {}
        return self.options(defaults, logprobs=logprobs, grammar=grammar_of(self.response_format), **more)

    def template(self) -> TemplateOptions:
        """What the chat template is given besides the messages."""
        effort = {} if self.reasoning_effort is None else {"reasoning_effort": self.reasoning_effort}
        return TemplateOptions(self.calls().template(), {**(self.chat_template_kwargs or {}), **effort})


class CompletionRequest(Sampled):
    """POST /v1/completions."""

    prompt: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
        | Annotated[list[Annotated[int, WHOLE]], Field(min_length=1)]
        | Annotated[list[Annotated[list[Annotated[int, WHOLE]], Field(min_length=1)]], Field(min_length=1)]
    ) = Field(description="a text, token ids, or several of either; no chat template is applied")
    logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] | None = Field(
        None, description="also give the log-probability of each token and of so many of the likeliest"
    )
    echo: Off | None = Field(None, description="only false")
    best_of: Annotated[int, Field(ge=1, le=1), WHOLE] | None = Field(None, description="only 1")

    def prompts(self) -> list[str | list[int]]:
        """Each prompt by itself."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [[token for token in self.prompt if isinstance(token, int)]]
        return [prompt for prompt in self.prompt if not isinstance(prompt, int)]

    def sampling(self, defaults: SamplingOptions) -> SamplingOptions:
        """The sampling options. Raises Problem, InvalidRequest."""
        return self.options(defaults, logprobs=self.logprobs)


class InputText(Wire):
    """A piece of what was said to the model."""

    type: Literal["input_text"]
    text: str


class OutputText(Wire):
    """A piece of what the model said, as it came from here."""

    type: Literal["output_text"]
    text: str
    annotations: Annotated[list[JsonValue], Field(max_length=0)] | None = None
    logprobs: Annotated[list[JsonValue], Field(max_length=0)] | None = None
    parsed: Parsed = None


class InputMessage(Wire):
    """One turn. id and status are those of an answer that is sent back."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[Annotated[InputText | OutputText, Field(discriminator="type")]], Field(min_length=1)]
    id: str | None = None
    status: Literal["completed", "incomplete"] | None = None
    phase: None = None


class ReasoningText(Wire):
    """A piece of what the model thought."""

    type: Literal["reasoning_text"]
    text: str


class ReasoningItem(Wire):
    """What the model thought before the answer that follows it."""

    type: Literal["reasoning"]
    id: str | None = None
    summary: Annotated[list[JsonValue], Field(max_length=0)]
    content: list[ReasoningText] | None = None
    encrypted_content: None = None
    status: Literal["completed", "incomplete"] | None = None


class FunctionCallItem(Wire):
    """A call that the model made. The fields that can only be null are those that the client library knows."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str
    id: str | None = None
    status: Literal["completed"] | None = None
    namespace: None = None
    caller: None = None
    async_: None = Field(None, validation_alias=AliasChoices("async", "async_"))
    parsed_arguments: Parsed = None


class FunctionOutputItem(Wire):
    """What a called function gave."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | Annotated[list[InputText], Field(min_length=1)]
    id: str | None = None
    status: Literal["completed"] | None = None


def _item_type(item: object) -> str | None:
    kind = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", None)
    return kind if isinstance(kind, str) else None


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
]


class FunctionTool(Function):
    """A function that the model may call, as /v1/responses writes it."""

    type: Literal["function"]


class ChosenFunction(ChosenName):
    """This function and no other, as /v1/responses writes it."""

    type: Literal["function"]


class SchemaFormat(Wire):
    """JSON that follows a schema, as /v1/responses writes it."""

    type: Literal["json_schema"]
    name: str = Field(pattern=r"^[\w-]{1,64}$")
    description: str | None = None
    schema_: dict[str, JsonValue] = Field(alias="schema")
    strict: bool | None = None


class TextConfig(Wire):
    """What the text must be."""

    format: Annotated[TextFormat | JsonObjectFormat | SchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Literal["medium"] | None = None


class Reasoning(Wire):
    """How much to think."""

    effort: str | None = None
    summary: None = None


class ResponseStreamOptions(Wire):
    """What a stream carries besides the text."""

    include_obfuscation: Off | None = None


class ResponsesRequest(Wire):
    """POST /v1/responses."""

    model: str = Field(description="the name that /v1/models gives")
    input: str | Annotated[list[InputItem], Field(min_length=1)] = Field(
        description="a question, or the conversation so far; text only"
    )
    instructions: str | None = Field(None, description="a system message before it")
    stream: bool | None = Field(None, description="send the answer as it is made, as server-sent events")
    stream_options: ResponseStreamOptions | None = Field(None, description="only that nothing is padded")
    temperature: Temperature | None = Field(None, description="0 is greedy; the model's own suggestion, else 1")
    top_p: TopP | None = Field(None, description="nucleus sampling; the model's own suggestion, else 1")
    max_output_tokens: Count | None = Field(None, description="at most so many new tokens; the window's end without it")
    text: TextConfig | None = Field(None, description="`format`: `text`, `json_object` or `json_schema`")
    tools: Annotated[list[FunctionTool], Field(max_length=128)] | None = Field(
        None, description="functions that the model may call, where its chat template knows of tools"
    )
    tool_choice: Literal["none", "auto", "required"] | ChosenFunction | None = Field(
        None, description="`auto`, `none`, `required`, or one function by name; the last two always give one valid call"
    )
    parallel_tool_calls: bool | None = Field(None, description="false: at most one call in an answer")
    include: Annotated[list[str], Field(max_length=0)] | None = Field(None, description="only empty")
    service_tier: ServiceTier | None = Field(None, description="only `auto` or `default`: there is one")
    reasoning: Reasoning | None = Field(None, description="`effort`, where the model's chat template knows of it")
    metadata: dict[str, str] | None = Field(None, description="given back as it came")
    store: Off | None = Field(None, description="only false: nothing is stored, without it either")
    truncation: Literal["disabled"] | None = Field(None, description="only `disabled`; see --on-overflow")
    user: str | None = Field(None, description="whom a request is made for; nothing is done with it")

    def conversation(self) -> list[Message]:
        """The messages for the engine. Raises Problem for a thought that no answer follows, or an output of no call."""
        said = [Message("system", self.instructions)] if self.instructions is not None else []
        if isinstance(self.input, str):
            return [*said, Message("user", self.input)]
        thought: str | None = None
        called: dict[str, str] = {}
        for item in self.input:
            if isinstance(item, ReasoningItem):
                thought = (thought or "") + "".join(part.text for part in item.content or ())
                continue
            if isinstance(item, FunctionCallItem):
                called[item.call_id] = item.name
                call = _call(item.call_id, item.name, item.arguments, "input")
                if thought is None and said and said[-1].role == "assistant":  # its text, or its call before this one
                    said[-1] = replace(said[-1], tool_calls=(*(said[-1].tool_calls or ()), call))
                else:
                    said.append(Message("assistant", "", thought or None, (call,)))
                thought = None
                continue
            if thought is not None and not (isinstance(item, InputMessage) and item.role == "assistant"):
                break
            if isinstance(item, FunctionOutputItem):
                if item.call_id not in called:
                    raise Problem.invalid(f"no function_call has the call_id {item.call_id!r} of this output.", "input")
                said.append(Message("tool", text_of(item.output), tool_call_id=item.call_id, name=called[item.call_id]))
                continue
            role = "system" if item.role == "developer" else item.role
            said.append(Message(role, text_of(item.content), thought or None))
            thought = None
        if thought is not None:
            raise Problem.invalid("a reasoning item must stand before a message of the assistant, or a call.", "input")
        return said

    def calls(self) -> Calls:
        """What the answer may call. Raises Problem."""
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise Problem.invalid("tool_choice needs tools.", "tool_choice")
        return Calls.chosen(self.tools or (), self.tool_choice, self.parallel_tool_calls)

    def sampling(self, defaults: SamplingOptions) -> SamplingOptions:
        """The sampling options."""
        wanted = self.text.format if self.text else None
        if isinstance(wanted, SchemaFormat):
            grammar: Grammar | None = Grammar("json_schema", to_json(wanted.schema_).decode())
        else:
            grammar = grammar_of(wanted)
        given: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_output_tokens,
            "grammar": grammar,
        }
        return replace(defaults, **{name: value for name, value in given.items() if value is not None})

    def template(self) -> TemplateOptions:
        """What the chat template is given besides the messages."""
        effort = self.reasoning.effort if self.reasoning else None
        return TemplateOptions(self.calls().template(), {} if effort is None else {"reasoning_effort": effort})


REQUESTS: dict[str, type[Wire]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/responses": ResponsesRequest,
}


def schemas(template: str) -> tuple[dict[str, str], dict[str, Any]]:
    """For each path the reference to its schema, and all schemas by name. template: of references, with {model}."""
    refs, definitions = models_json_schema(
        [(model, "validation") for model in REQUESTS.values()], by_alias=True, ref_template=template
    )
    return {path: refs[model, "validation"]["$ref"] for path, model in REQUESTS.items()}, definitions["$defs"]


def text_of(content: str | Sequence[TextPart | InputText | OutputText]) -> str:
    """A message's text."""
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _message(said: SystemMessage | UserMessage | AssistantMessage | ToolMessage) -> Message:
    if isinstance(said, AssistantMessage):
        return said.message()
    if isinstance(said, ToolMessage):
        return Message("tool", text_of(said.content), tool_call_id=said.tool_call_id, name=said.name)
    return Message("system" if said.role == "developer" else said.role, text_of(said.content), name=said.name)


def _call(id: str, name: str, text: str, param: str) -> dict[str, Any]:
    try:
        arguments = from_json(text, allow_inf_nan=False)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise Problem.invalid("the arguments of a tool call must be a JSON object, as text.", param)
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def grammar_of(wanted: TextFormat | JsonObjectFormat | JsonSchemaFormat | None) -> Grammar | None:
    """What the answer must be."""
    if isinstance(wanted, JsonObjectFormat):
        return Grammar("json_object")
    if isinstance(wanted, JsonSchemaFormat):
        return Grammar("json_schema", to_json(wanted.json_schema.schema_).decode())
    return None


def defaults_from(generation: Mapping[str, Any]) -> SamplingOptions:
    """What a model's generation_config.json suggests, as far as it can be used; OpenAI's defaults without it."""
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    usable: dict[str, Any] = {
        n: v for n in names if isinstance(v := generation.get(n), int | float) and not isinstance(v, bool)
    }
    try:
        return SamplingOptions(**usable)
    except InvalidRequest:
        return SamplingOptions()


Model = TypeVar("Model", bound=Wire)


def parse(model: type[Model], body: bytes) -> Model:
    """A request from its body. Raises Problem, naming the first field that is wrong."""
    try:
        content = from_json(body, allow_inf_nan=False)
    except ValueError as error:  # not JSON, not UTF-8, NaN, or nested too deeply
        raise Problem.invalid(f"the body is not JSON that can be read: {error}.", code="invalid_json") from None
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise _problem(error, content) from None


def _problem(error: ValidationError, content: Any) -> Problem:
    # Each member of a union has its say; the one that got furthest is what the client meant. What was sent and is wrong
    # tells more than what was not sent.
    faults = [(_path(fault, content), fault) for fault in error.errors(include_url=False)]
    path, fault = max(
        (each for each in faults if each[0][:1] == faults[0][0][:1]),
        key=lambda each: (len(each[0]), each[1]["type"] != "missing"),
    )
    param = ".".join(path) or None
    if fault["type"] == "extra_forbidden":
        return Problem.invalid(f"{param} is not supported: leave it out.", param, "unknown_parameter")
    if fault["type"] == "missing":
        return Problem.invalid(f"{param} is missing.", param, "missing_required_parameter")
    given = repr(fault["input"])
    shown = given if len(given) <= 100 else given[:100] + "…"
    return Problem.invalid(f"{param or 'the body'}: {fault['msg']}, not {shown}.", param, "invalid_value")


def _path(fault: ErrorDetails, content: Any) -> list[str]:
    """The steps that lead to a fault through the content: pydantic's own go through the members of a union too."""
    steps, path = fault["loc"], []
    for n, step in enumerate(steps, 1):
        try:
            content = content[step]
        except (LookupError, TypeError):
            if n < len(steps) or fault["type"] not in {"missing", "extra_forbidden"}:
                continue
        path.append(str(step))
    return path
