"""What travels between the rooms: messages in, sampling options in, chunks out. A leaf: imports only errors."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from serving.errors import InvalidRequest

if TYPE_CHECKING:
    from serving.folder import ModelFolder

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


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


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How an engine runs.

    context_length: serve a shorter window than the model has, in tokens.
    threads: to compute with; None takes the usable physical cores.
    parallel: answers that are made at the same time. queue: requests that may wait beyond them.
    slots: conversations whose KV cache is kept; None takes as many as kv_memory allows, up to 16.
    batch: decode them in one forward pass, on the CPU; otherwise they take turns.
    kv_memory: bytes for the KV caches of all conversations; None takes half of what is free.
    guess: check n-gram guesses at the next tokens. deterministic: an even number of rows in every forward pass.
    """

    context_length: int | None = None
    threads: int | None = None
    parallel: int = 4
    queue: int = 32
    slots: int | None = None
    batch: bool = False
    kv_memory: int | None = None
    guess: bool = True
    deterministic: bool = False

    def __post_init__(self) -> None:
        _require("--threads", self.threads, self.threads is None or self.threads >= 1, "1 or more")
        _require("--parallel", self.parallel, 1 <= self.parallel <= 64, "from 1 to 64")
        _require("--slots", self.slots, self.slots is None or 1 <= self.slots <= 64, "from 1 to 64")
        _require("--queue", self.queue, self.queue >= 0, "0 or more")
        _require("--kv-memory", self.kv_memory, self.kv_memory is None or self.kv_memory > 0, "above 0")


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
