"""What travels between the rooms: messages in, sampling options in, chunks out. A leaf: imports only errors."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from serving.errors import InvalidRequest

if TYPE_CHECKING:
    from serving.folder import ModelFolder

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "cancelled"]
Kind = Literal["answer", "reasoning"]


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
    """

    tools: tuple[dict[str, Any], ...] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How the next token is chosen, and when to stop. The defaults switch every rule off but the temperature.

    temperature: 0 is greedy; otherwise logits are divided by it.
    top_k: keep the k most likely tokens; 0 keeps all.
    top_p: keep the smallest set of tokens whose probability reaches it (nucleus sampling, arXiv:1904.09751).
    min_p: keep tokens at least min_p times as likely as the most likely one (arXiv:2407.01082).
    repetition_penalty: divide (or multiply) the logits of tokens seen in prompt or answer (arXiv:1909.05858).
    seed: same seed, same logits, same tokens; None draws a fresh one.
    max_tokens: at most this many new tokens; None goes on to the end of the context window.
    stop: strings that end the answer; they are not part of it.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require("temperature", self.temperature, 0.0 <= self.temperature <= 100.0, "between 0 (greedy) and 100")
        _require("top_k", self.top_k, self.top_k >= 0, "0 (off) or more")
        _require("top_p", self.top_p, 0.0 < self.top_p <= 1.0, "above 0 and at most 1 (off)")
        _require("min_p", self.min_p, 0.0 <= self.min_p < 1.0, "from 0 (off) to below 1")
        _require("repetition_penalty", self.repetition_penalty, 0.0 < self.repetition_penalty <= 10.0, "in (0, 10]")
        _require("seed", self.seed, self.seed is None or 0 <= self.seed < 2**63, "0 or more, below 2**63")
        _require("max_tokens", self.max_tokens, self.max_tokens is None or self.max_tokens >= 1, "1 or more")
        _require("stop", self.stop, all(self.stop), "non-empty strings")


def _require(name: str, value: object, holds: bool, want: str) -> None:
    if not holds or (isinstance(value, float) and not math.isfinite(value)):
        raise InvalidRequest(f"{name} must be {want}, not {value!r}.")


@dataclass(frozen=True, slots=True)
class Chunk:
    """One step of an answer. `text` may be empty (prefill, a split character, a possible stop string).

    prompt_tokens: tokens of the rendered prompt, of which `cached_tokens` were already in the KV cache and
    `prefilled_tokens` are there now. completion_tokens: sampled so far, the end-of-turn token included.
    prefill_seconds, decode_seconds: time from the start of the request to the first logits, and from there on.
    finish_reason: set on the last chunk only.
    kind: whether `text` is the model's reasoning or its answer.
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
    kind: Kind = "answer"


Cancelled = Callable[[], bool]


def never() -> bool:
    """The default of `cancelled`."""
    return False


class ChatEngine(Protocol):
    """What a page or an API needs of an engine, be it in this process or in one of its own."""

    folder: "ModelFolder"

    @property
    def context_length(self) -> int:
        """The served window, in tokens."""

    def generate(
        self, messages: Sequence[Message], options: SamplingOptions | None = None, cancelled: Cancelled = never
    ) -> Iterator[Chunk]:
        """Stream the assistant's answer; closing the iterator cancels it."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer: the text, the sampled token ids, and the last chunk's counts."""

    text: str
    token_ids: tuple[int, ...]
    last: Chunk


def complete(chunks: Iterable[Chunk]) -> Completion:
    """Join a stream into one Completion."""
    texts: list[str] = []
    token_ids: list[int] = []
    last: Chunk | None = None
    for last in chunks:
        texts.append(last.text)
        if last.token_id is not None:
            token_ids.append(last.token_id)
    if last is None:
        raise InvalidRequest("the stream ended without a single chunk.")
    return Completion("".join(texts), tuple(token_ids), last)
