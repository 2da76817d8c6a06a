"""The wire models of OpenAI's endpoints: what a request may say, and what it means here.

A field that is not here is refused by name; one that is here does what its description says. A field that is null
counts as left out.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError
from pydantic.json_schema import models_json_schema
from pydantic_core import ErrorDetails, from_json, to_json

from serving.errors import InvalidRequest
from serving.problems import Problem
from serving.tools import CallFormat, calling
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


class SystemMessage(Wire):
    """How the model should behave. `developer` is another word for it."""

    role: Literal["system", "developer"]
    content: Content


class UserMessage(Wire):
    """What the user said."""

    role: Literal["user"]
    content: Content


class CalledFunction(Wire):
    """Which function was called, and with which arguments: a JSON object, as text."""

    name: str
    arguments: str


class ToolCall(Wire):
    """A call that the model made."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class ToolMessage(Wire):
    """What a tool gave."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: str | None = None


class AssistantMessage(Wire):
    """What the model said before. The fields that can only be null are those that OpenAI's own answers carry."""

    role: Literal["assistant"]
    content: Content | None = None
    reasoning_content: str | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[JsonValue], Field(max_length=0)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(min_length=1)] | None = None

    def message(self) -> Message:
        """For the engine. Raises Problem for arguments that are no JSON object."""
        calls = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": _arguments(call.function.arguments)},
            }
            for call in self.tool_calls or ()
        ]
        text = "" if self.content is None else text_of(self.content)
        return Message("assistant", text, self.reasoning_content, tuple(calls) or None)


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

    def conversation(self) -> list[Message]:
        """The messages for the engine. Raises Problem."""
        return [_message(said) for said in self.messages]

    def callable(self) -> list[Tool]:
        """The tools that the model is told of. Raises Problem."""
        if self.tool_choice is not None and not self.tools:
            raise Problem.invalid("tool_choice needs tools.", "tool_choice")
        tools = [] if self.tool_choice == "none" else list(self.tools or ())
        if isinstance(self.tool_choice, ChosenTool):
            name = self.tool_choice.function.name
            tools = [tool for tool in tools if tool.function.name == name]
            if not tools:
                raise Problem.invalid(f"tool_choice names {name!r}, which is not among the tools.", "tool_choice")
        names = [tool.function.name for tool in tools]
        if len(set(names)) < len(names):
            raise Problem.invalid("two tools have the same name.", "tools")
        return tools

    @property
    def must_call(self) -> bool:
        """Whether the answer has to be a call."""
        return self.tool_choice == "required" or isinstance(self.tool_choice, ChosenTool)

    def call_grammar(self, form: CallFormat) -> Grammar | None:
        """What holds the answer to calls of its tools, where the request asks for more than that they be possible.

        An answer that must be a call has no text, and so none that a format could be for.
        """
        functions = [tool.function for tool in self.callable()]
        wanted, several = grammar_of(self.response_format), self.parallel_tool_calls is not False
        if not (self.must_call or wanted or not several or any(function.strict for function in functions)):
            return None
        schema = from_json(wanted.text or '{"type": "object"}') if wanted else None
        return calling(form, [function.model_dump() for function in functions], self.must_call, several, schema)

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
        tools = tuple(tool.model_dump(exclude_none=True, exclude={"function": {"strict"}}) for tool in self.callable())
        return TemplateOptions(tools or None, {**(self.chat_template_kwargs or {}), **effort})


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
    input: str | Annotated[list[InputMessage | ReasoningItem], Field(min_length=1)] = Field(
        description="a question, or the conversation so far; text only"
    )
    instructions: str | None = Field(None, description="a system message before it")
    stream: bool | None = Field(None, description="send the answer as it is made, as server-sent events")
    stream_options: ResponseStreamOptions | None = Field(None, description="only that nothing is padded")
    temperature: Temperature | None = Field(None, description="0 is greedy; the model's own suggestion, else 1")
    top_p: TopP | None = Field(None, description="nucleus sampling; the model's own suggestion, else 1")
    max_output_tokens: Count | None = Field(None, description="at most so many new tokens; the window's end without it")
    text: TextConfig | None = Field(None, description="`format`: `text`, `json_object` or `json_schema`")
    reasoning: Reasoning | None = Field(None, description="`effort`, where the model's chat template knows of it")
    metadata: dict[str, str] | None = Field(None, description="given back as it came")
    store: Off | None = Field(None, description="only false: nothing is stored, without it either")
    truncation: Literal["disabled"] | None = Field(None, description="only `disabled`; see --on-overflow")
    user: str | None = Field(None, description="whom a request is made for; nothing is done with it")

    def conversation(self) -> list[Message]:
        """The messages for the engine. Raises Problem for a thought that no answer follows."""
        said = [Message("system", self.instructions)] if self.instructions is not None else []
        if isinstance(self.input, str):
            return [*said, Message("user", self.input)]
        thought: str | None = None
        for item in self.input:
            if isinstance(item, ReasoningItem):
                thought = (thought or "") + "".join(part.text for part in item.content or ())
                continue
            if thought is not None and item.role != "assistant":
                break
            text = item.content if isinstance(item.content, str) else "".join(part.text for part in item.content)
            said.append(Message("system" if item.role == "developer" else item.role, text, thought or None))
            thought = None
        if thought is not None:
            raise Problem.invalid("a reasoning item must stand before a message of the assistant.", "input")
        return said

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
        return TemplateOptions(arguments={} if effort is None else {"reasoning_effort": effort})


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


def text_of(content: Content) -> str:
    """A message's text."""
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _message(said: SystemMessage | UserMessage | AssistantMessage | ToolMessage) -> Message:
    if isinstance(said, AssistantMessage):
        return said.message()
    if isinstance(said, ToolMessage):
        return Message("tool", text_of(said.content), tool_call_id=said.tool_call_id, name=said.name)
    return Message("system" if said.role == "developer" else said.role, text_of(said.content))


def _arguments(text: str) -> dict[str, Any]:
    try:
        arguments = from_json(text, allow_inf_nan=False)
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise Problem.invalid("the arguments of a tool call must be a JSON object, as text.", "messages")
    return arguments


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
    # Each member of a union has its say; the one that got furthest is what the client meant.
    faults = [(_path(fault, content), fault) for fault in error.errors(include_url=False)]
    path, fault = max((each for each in faults if each[0][:1] == faults[0][0][:1]), key=lambda each: len(each[0]))
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
