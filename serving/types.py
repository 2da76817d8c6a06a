"""What travels between the rooms: messages in, sampling options in, chunks out. A leaf: imports only errors."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from serving.errors import InvalidRequest

TokenIds = NDArray[np.int32]
Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "cancelled"]
GrammarKind = Literal["json_object", "json_schema", "regex", "lark", "gbnf"]
Kind = Literal["answer", "reasoning", "prompt"]
Policy = Literal["error", "trim"]
Ending = Literal["answer", "continue", "nothing"]
RuntimeName = Literal["auto", "oga", "ort"]
Provider = Literal["auto", "cpu", "cuda", "dml", "webgpu", "openvino"]
KEEP_BYTES = 4 << 30  # of kept conversations, where nothing else is said


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. A field that is None is not there for the chat template.

    reasoning_content: what an assistant thought before `content`.
    tool_calls: what an assistant called, each {"type": "function", "function": {"name": …, "arguments": {…}}}.
    tool_call_id, name: which call a tool's result answers, and which tool gave it.
    """

    role: Role
    content: str
    reasoning_content: str | None = None
    tool_calls: tuple[dict[str, Any], ...] | None = None
    tool_call_id: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        # Some templates write the role between the brackets of a control token.
        _require("role", self.role, self.role in get_args(Role), f"one of {', '.join(get_args(Role))}")


@dataclass(frozen=True, slots=True)
class TemplateOptions:
    """What a chat template takes besides the messages.

    tools: JSON schemas of functions that the model may call, as transformers' templates read them.
    arguments: the template's own variables, such as enable_thinking or reasoning_effort.
    hints: the same, but a template that reads no variable of that name is not given it.
    ending: what the prompt ends with: the beginning of an answer; the last message, which is the assistant's and is
        gone on with; or the end of the last message.
    overflow: what becomes of a conversation that outgrows the window, where that is not for the settings to say.
    """

    tools: tuple[dict[str, Any], ...] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict)
    ending: Ending = "answer"
    overflow: Policy | None = None


@dataclass(frozen=True, slots=True)
class Grammar:
    """What an answer must be, from its first character to its last; reasoning that the prompt opens comes before it.

    kind: "json_object" is any JSON object and has no text. The text of the others is a JSON schema, a regular
    expression that the whole answer matches (Rust's syntax: no look-around, no back-references), or a grammar in
    llguidance's Lark or in llama.cpp's GBNF.
    """

    kind: GrammarKind
    text: str = ""

    def __post_init__(self) -> None:
        _require("grammar.kind", self.kind, self.kind in get_args(GrammarKind), f"one of {get_args(GrammarKind)}")
        empty = self.kind == "json_object"
        _require(
            "grammar.text", self.text, bool(self.text) != empty, "empty" if empty else f"the {self.kind} to follow"
        )


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How the next token is chosen, and when to stop. The defaults switch every rule off but the temperature.

    temperature: 0 is greedy; otherwise logits are divided by it.
    top_k: keep the k most likely tokens; 0 keeps all.
    top_p: keep the smallest set of tokens whose probability reaches it (nucleus sampling, arXiv:1904.09751).
    min_p: keep tokens at least min_p times as likely as the most likely one (arXiv:2407.01082).
    repetition_penalty: divide (or multiply) the logits of tokens seen in prompt or answer (arXiv:1909.05858).
    seed: same seed, same logits, same tokens; None draws a fresh one.
    max_tokens: at most this many new tokens; None goes on to the end of the context window. 0 only reads the prompt.
    stop: strings that end the answer; they are not part of it.
    typical_p: keep the tokens whose surprise is closest to the expected one until their probability reaches typical_p
        (locally typical sampling, arXiv:2202.00666).
    presence_penalty, frequency_penalty: taken off the logit of a token of this answer, once and for each time it came
        (OpenAI's definition; the prompt does not count).
    logit_bias: pairs of a token id and what is added to its logit.
    logprobs: also give the log-probability of each token and of this many of the likeliest; None gives none.
    prompt_logprobs: the same for the prompt's own tokens, for which nothing that is cached can be used.
    grammar: what the answer must be.
    reasoning_tokens: a reasoning that has taken so many is ended; None lets it go on.
    min_tokens: nothing but max_tokens, the window or a grammar ends the answer before it has so many tokens.
    ignore_eos: the model's own end of turn is never chosen.
    stop_token_ids: tokens that end the answer, as those of the model's own do.
    include_stop: the stop string, or the text of the token, that ended the answer is part of it.
    bad_words: texts that never come, in the tokens that the tokenizer makes of them with a blank before or without.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    typical_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None
    grammar: Grammar | None = None
    reasoning_tokens: int | None = None
    prompt_logprobs: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_token_ids: tuple[int, ...] = ()
    include_stop: bool = False
    bad_words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        thought = self.reasoning_tokens
        _require("reasoning_tokens", thought, thought is None or thought >= 0, "0 or more")
        _require("temperature", self.temperature, 0.0 <= self.temperature <= 100.0, "between 0 (greedy) and 100")
        _require("top_k", self.top_k, self.top_k >= 0, "0 (off) or more")
        _require("top_p", self.top_p, 0.0 < self.top_p <= 1.0, "above 0 and at most 1 (off)")
        _require("min_p", self.min_p, 0.0 <= self.min_p < 1.0, "from 0 (off) to below 1")
        _require("typical_p", self.typical_p, 0.0 < self.typical_p <= 1.0, "above 0 and at most 1 (off)")
        _require("repetition_penalty", self.repetition_penalty, 0.0 < self.repetition_penalty <= 10.0, "in (0, 10]")
        for name in ("presence_penalty", "frequency_penalty"):
            penalty = getattr(self, name)
            _require(name, penalty, -2.0 <= penalty <= 2.0, "in [-2, 2], 0 being off")
        for pair in self.logit_bias:
            wanted = "pairs of a token id, 0 or more, and a bias in [-100, 100]"
            _require("logit_bias", pair, pair[0] >= 0 and -100.0 <= pair[1] <= 100.0, wanted)
        repeated = [token for token, times in Counter(token for token, _ in self.logit_bias).items() if times > 1]
        _require("logit_bias", repeated, not repeated, "pairs that name each token once")
        for name in ("logprobs", "prompt_logprobs"):
            count = getattr(self, name)
            _require(name, count, count is None or 0 <= count <= 20, "from 0 to 20")
        _require("seed", self.seed, self.seed is None or 0 <= self.seed < 2**63, "0 or more, below 2**63")
        _require("max_tokens", self.max_tokens, self.max_tokens is None or self.max_tokens >= 0, "0 or more")
        for name in ("stop", "bad_words"):
            texts = getattr(self, name)
            _require(name, texts, all(texts), "non-empty strings")
        most = self.max_tokens
        _require("min_tokens", self.min_tokens, self.min_tokens >= 0, "0 or more")
        _require("min_tokens", self.min_tokens, most is None or self.min_tokens <= most, f"at most max_tokens ({most})")
        _require("stop_token_ids", self.stop_token_ids, all(id >= 0 for id in self.stop_token_ids), "0 or more each")
        _require("ignore_eos", True, not (self.ignore_eos and self.grammar), "false where a grammar ends the answer")


def options_from(fields: Mapping[str, Any]) -> SamplingOptions:
    """The options that `dataclasses.asdict` and JSON have taken apart. Raises what SamplingOptions raises."""
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in fields.items()}
    values["logit_bias"] = tuple((token, bias) for token, bias in values.get("logit_bias", ()))
    if values.get("grammar") is not None:
        values["grammar"] = Grammar(**values["grammar"])
    return SamplingOptions(**values)


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine runs.

    provider: OGA's execution provider; auto takes the one that the folder was exported for, or else the CPU.
    context_length: serve a shorter window than the model has, in tokens.
    threads: to compute with; None takes the usable physical cores.
    parallel: answers that are made at the same time. queue: requests that may wait beyond them.
    slots: conversations whose KV cache is kept; None takes as many as kv_memory allows, up to 64.
    runtime: "oga": answers take turns, on any device; "ort": they are decoded in one forward pass, on the CPU; "auto":
        "ort", where the export allows it, once two were wanted at a time, if others can reach the server (shared) or
        memory is short.
    kv_memory: bytes for the KV caches of all conversations; None takes half of what is free.
    guess: check n-gram guesses at the next tokens.
    deterministic: an even number of tokens in every forward pass, so that logits do not depend on how text is cut.
    overflow: refuse a conversation that outgrows the window, or leave out its oldest turns.
    idle_unload: minutes without a request after which the engine's process ends, until the next one; None never.
    keep: a folder in which conversations outlive the engine; None keeps none. keep_bytes: of all files there.
    """

    provider: Provider = "auto"
    context_length: int | None = None
    threads: int | None = None
    parallel: int = 4
    queue: int = 32
    slots: int | None = None
    runtime: RuntimeName = "oga"
    shared: bool = False
    kv_memory: int | None = None
    guess: bool = True
    deterministic: bool = False
    overflow: Policy = "error"
    idle_unload: float | None = None
    keep: str | None = None
    keep_bytes: int = KEEP_BYTES

    def __post_init__(self) -> None:
        _require("--execution-provider", self.provider, self.provider in get_args(Provider), "one that we know")
        _require("--runtime", self.runtime, self.runtime in get_args(RuntimeName), "auto, oga or ort")
        elsewhere = self.provider not in ("auto", "cpu")
        _require(
            "--execution-provider", self.provider, not (elsewhere and self.runtime == "ort"),
            "auto or cpu with --runtime ort",
        )  # fmt: skip
        _require("--threads", self.threads, self.threads is None or self.threads >= 1, "1 or more")
        _require("--parallel", self.parallel, 1 <= self.parallel <= 64, "from 1 to 64")
        _require("--slots", self.slots, self.slots is None or 1 <= self.slots <= 64, "from 1 to 64")
        _require("--queue", self.queue, self.queue >= 0, "0 or more")
        _require("--idle-unload", self.idle_unload, self.idle_unload is None or self.idle_unload > 0, "above 0 minutes")
        _require("--keep-conversations", self.keep_bytes, self.keep_bytes > 0, "above 0")
        _require("--kv-memory", self.kv_memory, self.kv_memory is None or self.kv_memory > 0, "above 0")

    @property
    def at_once(self) -> int:
        """Answers that are made at the same time: no more than there are slots."""
        return min(self.parallel, self.slots or self.parallel)


@dataclass(frozen=True, slots=True)
class Replicas:
    """How many engines there are: `least` of them, and up to `most` where that many are busy."""

    least: int
    most: int

    @classmethod
    def of(cls, text: str) -> "Replicas":
        """From "2", or from "1-4". Raises InvalidRequest."""
        least, dash, most = text.partition("-")
        numbers = [int(part) for part in (least, most if dash else least) if part.isascii() and part.isdecimal()]
        _require("--replicas", text, len(numbers) == 2 and 1 <= numbers[0] <= numbers[1], "N, or LEAST-MOST, 1 or more")
        return cls(*numbers)


def _require(name: str, value: object, holds: bool, want: str) -> None:
    if not holds or (isinstance(value, float) and not math.isfinite(value)):
        raise InvalidRequest(f"{name} must be {want}, not {value!r}.")


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token, or one of the prompt's. logprob and top are what SamplingOptions asked for; else None and ().

    logprob: natural logarithm of the token's probability under the model itself, before any option has its say.
    top: the likeliest tokens with theirs, most likely first. The chosen one need not be among them.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """One step of an answer. `text` may be empty (prefill, a split character, a possible stop string).

    prompt_tokens: tokens of the rendered prompt, of which `cached_tokens` were already in the KV cache and
    `prefilled_tokens` are there now. completion_tokens: sampled so far, the end-of-turn token included.
    prefill_seconds, decode_seconds: time from the start of the request to the first logits, and from there on.
    finish_reason: set on the last chunk only. logprob, top: as in Choice.
    kind: whether `text` is the model's reasoning or its answer. A chunk of the prompt has one of its tokens, in order,
    and no text; the first token of all has no logprob.
    dropped_messages: of the conversation, so that it fits the window.
    stop: the stop string that ended the answer; None until one has.
    loading: nothing has begun yet, as the model is being loaded.
    """

    text: str
    prompt_tokens: int
    cached_tokens: int
    prefilled_tokens: int
    completion_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    token_id: int | None = None
    finish_reason: FinishReason | None = None
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    kind: Kind = "answer"
    dropped_messages: int = 0
    stop: str | None = None
    loading: bool = False


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """How busy an engine is: answers being made, requests that wait, bytes held by KV caches, and their bound.

    loaded: whether the model is in memory, and not unloaded for want of requests.
    """

    running: int
    waiting: int
    kv_bytes: int
    kv_limit: int
    loaded: bool = True


Cancelled = Callable[[], bool]


def never() -> bool:
    """The default of `cancelled`."""
    return False


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer: its text, the sampled token ids, the last chunk's counts, and what was thought before it."""

    text: str
    token_ids: tuple[int, ...]
    last: Chunk
    reasoning: str = ""


def complete(chunks: Iterable[Chunk]) -> Completion:
    """Join a stream into one Completion."""
    texts: dict[Kind, str] = {"answer": "", "reasoning": "", "prompt": ""}
    token_ids: list[int] = []
    last: Chunk | None = None
    for last in chunks:
        texts[last.kind] += last.text
        if last.token_id is not None and last.kind != "prompt":
            token_ids.append(last.token_id)
    if last is None:
        raise InvalidRequest("the stream ended without a single chunk.")
    return Completion(texts["answer"], tuple(token_ids), last, texts["reasoning"])
