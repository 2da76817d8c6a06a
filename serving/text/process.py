"""A model's tokenizer and chat template in processes of their own, which can be ended.

A chat template is a program that came with the model, and a conversation is its input: it need not end. A tokenizer
takes seconds and gigabytes for a few megabytes of text. A grammar may be anything. In the process of a web server, all
others would wait for them, and it would die of them.

There are two lanes, a process each, so that nobody who asks a short question waits for a long one. That of long ones
yields to everything else where there are not cores enough.
"""

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic_core import to_json

from serving.errors import InvalidRequest
from serving.text.ids import checked
from serving.text.lane import WORKER, Lane, Limits
from serving.text.limits import LEAST_MEMORY
from serving.text.prompt import Spelling
from serving.text.tools import CallFormat
from serving.types import Cancelled, Grammar, Message, Policy, TemplateOptions, TokenIds, never

SHORT = 32 << 10  # bytes of a request for the lane of short ones
_LONGEST_PLAIN = 64  # characters: "low" and "high" are
_NICENESS = 5  # of the lane of long ones: it gets a quarter of a core that somebody else computes on
_POLL_SECONDS = 0.1  # how often `cancelled` is asked
_REMEMBERED = 256  # grammars: those that could be compiled, and those that are being compiled
_FIELDS = tuple(field.name for field in fields(Message))
_NO_OPTIONS = TemplateOptions()
Line = dict[str, Any]


class TextProcess:
    """What Prompt is to a server, with the work done elsewhere. Safe to use from any number of threads.

    on_demand: no process is started before the first request.

    >>> with TextProcess(Path("models/demo")) as texts:
    ...     token_ids, dropped = texts.tokens([Message("user", "hello")], context_length=2048)
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits | None = None,
        command: Sequence[str] = WORKER,
        on_demand: bool = False,
    ) -> None:
        limits = limits or Limits()
        self._grammar_seconds = limits.grammar
        self._short = Lane(folder, limits, limits.short, LEAST_MEMORY, command)
        self._long = Lane(folder, limits, limits.long, limits.memory, command, _NICENESS)
        self._facts: Future[Line] | None = None
        self._checks: dict[bytes, Future[None]] = {}  # oldest first
        self._lock = threading.Lock()  # of them; never held over anything that waits
        self._loading: threading.Thread | None = None
        if not on_demand:
            self._begun()

    @property
    def pids(self) -> list[int]:
        """Of the processes that there are."""
        return [lane.pid for lane in (self._short, self._long) if lane.pid is not None]

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Every token id that ends an assistant turn. Waits until the model is loaded; raises ModelFolderError."""
        return frozenset(self._begun().result()["end_ids"])

    @cached_property
    def calls(self) -> CallFormat | None:
        """How the model writes tool calls; None for none, or a way that cannot be read. Waits as `end_ids` does."""
        form = self._begun().result()["calls"]
        return CallFormat.of(form) if form else None

    def wait(self, cancelled: Cancelled = never) -> None:
        """Until the model is loaded, or nobody waits for it any more. Then the other lane is started as well.

        Raises ModelFolderError.
        """
        while not cancelled():
            with suppress(TimeoutError):
                self._begun().result(_POLL_SECONDS)
                self._long.start()
                return

    def tokens(
        self,
        messages: Sequence[Message],
        context_length: int,
        template_options: TemplateOptions = _NO_OPTIONS,
        policy: Policy = "error",
        max_tokens: int | None = None,
    ) -> tuple[TokenIds, int]:
        """What Prompt.tokens gives. Raises what it raises, and what Lane.ask does."""
        fitting = {"window": context_length, "policy": policy, "max_tokens": max_tokens}
        reply = self._written(messages, template_options, fitting)
        return np.asarray(reply["tokens"], dtype=np.int32), int(reply["dropped"])

    def conversation_ids(
        self, messages: Sequence[Message], template_options: TemplateOptions = _NO_OPTIONS
    ) -> TokenIds:
        """What Prompt.conversation_ids gives. Raises what it raises, and what Lane.ask does."""
        return np.asarray(self._written(messages, template_options, {"window": None})["tokens"], dtype=np.int32)

    def text_ids(self, text: str, special: bool) -> TokenIds:
        """What Prompt.text_ids gives. Raises what it raises, and what Lane.ask does."""
        reply = self._ask({"text": text, "special": special}, "tokens", "encoding this text")
        return np.asarray(reply["tokens"], dtype=np.int32)

    def pieces(self, token_ids: Sequence[int]) -> list[str | list[int]]:
        """What Prompt.pieces gives. Raises what it raises, and what Lane.ask does."""
        return list(self._ask({"spelled": list(token_ids)}, "pieces", "spelling these tokens")["pieces"])

    def raw_ids(self, text: str, context_length: int) -> TokenIds:
        """What Prompt.raw_ids gives. Raises what it raises, and what Lane.ask does."""
        reply = self._ask({"text": text, "window": context_length}, "tokens", "encoding this prompt")
        return np.asarray(reply["tokens"], dtype=np.int32)

    def checked_ids(self, token_ids: Sequence[int], context_length: int) -> TokenIds:
        """What Prompt.checked_ids gives. Raises what it raises."""
        return checked(token_ids, self._begun().result()["vocabulary"], context_length)

    def decoded(self, token_ids: Sequence[int]) -> str:
        """What Prompt.decoded gives. Raises what it raises, and what Lane.ask does."""
        return str(self._ask({"decoded": list(token_ids)}, "text", "decoding these tokens")["text"])

    def check(self, grammar: Grammar) -> None:
        """Compile a grammar where it can do no harm; once, for all who ask for it at the same time or later.

        Raises InvalidRequest for one that cannot be used, and what Lane.ask does.
        """
        name = hashlib.sha256(repr(grammar).encode(errors="surrogatepass")).digest()
        with self._lock:
            check = self._checks.get(name)
            mine = check is None
            if check is None:
                check = self._checks[name] = Future()
                if len(self._checks) > _REMEMBERED:
                    del self._checks[next(iter(self._checks))]
        if mine:
            try:
                self._compile(grammar)
                check.set_result(None)
            except BaseException as error:
                with self._lock:
                    self._checks.pop(name, None)  # what was too slow once need not be the next time
                check.set_exception(error)
        check.result()

    @cached_property
    def spelling(self) -> Spelling:
        """What Prompt.spelling is. Asked for once: it takes a second for 150,000 tokens. Raises what Lane.ask does."""
        texts = self._ask({"spelled": "all"}, "texts", "spelling all tokens", plain=False)["texts"]
        return Spelling(tuple(texts), self.end_ids)

    def rest(self) -> None:
        """End the processes until there is a request; one that works on something stays."""
        for lane in (self._short, self._long):
            lane.rest()

    def close(self) -> None:
        """End the processes. Requests that wait for them get EngineStopped."""
        for lane in (self._short, self._long):
            lane.close()
        if self._loading:
            self._loading.join()

    def __enter__(self) -> "TextProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _written(self, messages: Sequence[Message], options: TemplateOptions, more: Line) -> Line:
        said = [
            {name: value for name in _FIELDS if (value := getattr(message, name)) is not None} for message in messages
        ]
        request = {
            "messages": said,
            "tools": options.tools,
            "arguments": dict(options.arguments),
            "hints": dict(options.hints),
            "ending": options.ending,
            **more,
        }
        plain = not options.tools and all(map(_is_plain, options.arguments.values()))
        work = "writing this conversation out with the model's chat template, and encoding it,"
        return self._ask(request, "tokens", work, plain)

    def _compile(self, grammar: Grammar) -> None:
        work = f"compiling this {grammar.kind}"
        self._ask({"grammar": asdict(grammar)}, "compiled", work, plain=False, seconds=self._grammar_seconds)

    def _begun(self) -> Future[Line]:
        """What the model's processes know of it, once they do; the first who asks has them started."""
        with self._lock:
            if self._facts is None:
                self._facts = Future()
                # The lane of short requests is what somebody waits for; see `wait`.
                self._loading = threading.Thread(target=self._load, args=(self._facts,), name="texts", daemon=True)
                self._loading.start()
            return self._facts

    def _load(self, facts: Future[Line]) -> None:
        try:
            facts.set_result(self._short.facts())
        except BaseException as error:
            with self._lock:
                self._facts = None  # whoever asks next has it tried again
            facts.set_exception(error)

    def _ask(self, request: Line, wanted: str, work: str, plain: bool = True, seconds: float | None = None) -> Line:
        try:
            line = to_json(request) + b"\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidRequest(f"the request cannot be written as JSON in UTF-8: {error}.") from error
        lane = self._short if plain and len(line) <= SHORT else self._long
        return lane.ask(line, work, wanted, seconds)


def _is_plain(value: Any) -> bool:
    """Whether a template can do nothing much with the value of one of its variables."""
    return value is None or isinstance(value, bool) or (isinstance(value, str) and len(value) <= _LONGEST_PLAIN)
