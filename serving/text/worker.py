"""The child's side of a text process: `python -m serving.text.worker` does what comes on its stdin, line by line.

The first line says what to load. The replies to it are {"loaded": true} and, after the template has written its first
conversation, what is known of the model (see `facts`), or an error. Then there is one reply for each request.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from serving.errors import InvalidRequest, ModelFolderError, ServingError, unpanicked
from serving.heap import give_back, resident_memory
from serving.text.limits import LEAST_MEMORY, limited
from serving.text.prompt import Prompt
from serving.text.renderer import import_renderer
from serving.types import Grammar, Message, TemplateOptions

GROWN = 64 << 20  # bytes more than at first: beyond them, and half as much again, a process is replaced
ORPHANED_SECONDS = 2.0  # beyond the limit, which the parent keeps itself as long as it lives
_LONGEST_MESSAGE = 2000  # characters; it may quote what was sent
Line = dict[str, Any]


class Texts:
    """What one model's tokenizer and chat template are asked for."""

    def __init__(self, prompt: Prompt) -> None:
        self._prompt = prompt

    def facts(self) -> Line:
        """What does not change: end_ids, the size of the vocabulary, and how calls are written."""
        calls = self._prompt.calls
        return {
            "end_ids": sorted(self._prompt.end_ids),
            "vocabulary": self._prompt.vocabulary,
            "calls": asdict(calls) if calls else None,
        }

    def answer(self, request: Line) -> Line:
        """The reply to one request. Raises ServingError."""
        match request:
            case {"messages": messages, "tools": tools, "arguments": arguments, "hints": hints}:
                said = [_message(fields) for fields in messages]
                options = TemplateOptions(None if tools is None else tuple(tools), arguments, hints, request["ending"])
                if request["window"] is None:
                    return {"tokens": self._prompt.conversation_ids(said, options).tolist()}
                window, policy, most = request["window"], request["policy"], request["max_tokens"]
                token_ids, dropped = self._prompt.tokens(said, window, options, policy, most)
                return {"tokens": token_ids.tolist(), "dropped": dropped}
            case {"text": text, "window": window}:
                return {"tokens": self._prompt.raw_ids(text, window).tolist()}
            case {"text": text, "special": special}:
                return {"tokens": self._prompt.text_ids(text, special).tolist()}
            case {"grammar": fields}:
                self._prompt.check(Grammar(**fields))
                return {"compiled": True}
            case {"decoded": token_ids}:
                return {"text": self._prompt.decoded(token_ids)}
            case {"spelled": "all"}:
                return {"texts": self._prompt.spelling.texts}
            case {"spelled": token_ids}:
                return {"pieces": self._prompt.pieces(token_ids)}
        raise InvalidRequest("this is not a request that a text process knows.")


def main() -> None:
    """Load what the first line names, then reply to requests until stdin closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to end
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there is one text at a time
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the lines

    def send(line: Line) -> None:
        replies.write(json.dumps(line).encode() + b"\n")
        replies.flush()

    lines: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(lines,), name="requests", daemon=True).start()
    setup = json.loads(lines.get())
    if hasattr(os, "nice"):  # all but Windows
        os.nice(setup["niceness"])

    def replied(work: Callable[[], Line], seconds: float, memory: int) -> Line:
        try:
            with limited(seconds + ORPHANED_SECONDS, memory), unpanicked():
                return work()
        except MemoryError:
            return {"exhausted": True}
        except ServingError as error:
            return _error(error)
        except Exception as error:
            return _error(ServingError(f"this request could not be written out: {error!r}"))

    texts = _loaded(setup["path"])
    send({"loaded": True} if isinstance(texts, Texts) else texts)
    if not isinstance(texts, Texts):
        return
    facts = replied(texts.facts, setup["start"], setup["memory"])
    give_back()  # the tokenizer's file, read
    send(facts)
    at_first = resident_memory()
    while True:
        request = json.loads(lines.get())
        memory = LEAST_MEMORY if "grammar" in request else setup["memory"]  # ten times what the largest take
        reply = replied(lambda: texts.answer(request), setup["seconds"], memory)  # noqa: B023 - called at once
        del request
        if resident_memory() > at_first + GROWN // 8:
            give_back()
        send({**reply, "grown": resident_memory() > at_first * 1.5 + GROWN})


def _loaded(path: str) -> Texts | Line:
    try:
        prompt = Prompt.load(Path(path))
    except ServingError as error:
        return _error(error)
    # What takes seconds the first time, while others wait, and memory that is then there for good.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it misses torch, and nothing here does
    import_renderer()

    with suppress(ModelFolderError):  # told to those who send its control tokens
        prompt.controls.private  # noqa: B018
    return Texts(prompt)


def _error(error: ServingError) -> Line:
    return {"error": type(error).__name__, "message": str(error)[:_LONGEST_MESSAGE]}


def _message(fields: Line) -> Message:
    calls = fields.get("tool_calls")
    return Message(**{**fields, "tool_calls": None if calls is None else tuple(calls)})


def _read(lines: SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        lines.put(line)
    os._exit(0)  # the parent is gone or has closed us: whatever is being done is for nobody


if __name__ == "__main__":
    main()
