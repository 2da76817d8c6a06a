"""A text process, and those who wait for it: one at a time has its turn, clients in turn, within a limit of time.

A process that misses the limit, ends, or says what makes no sense is ended, and another one is started at once: it is
loaded by the time that somebody asks again.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from serving import errors
from serving.errors import Busy, EngineStopped, InvalidRequest, ModelFolderError, ServingError
from serving.text.child import Child, Ended, Late, Line
from serving.text.turns import Turns

WORKER = (sys.executable, "-m", "serving.text.worker")
_EXHAUSTED = "takes more memory than there is for it"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the texts of requests may take.

    short, long: seconds for one request, on the lane for short ones and on the other. 32 KiB take a twentieth of one,
    and what fills a window of a million tokens up to ten.
    grammar: seconds to compile one; the largest that OpenAI takes need half a second.
    memory: bytes that a request of the other lane may take; half of what is free, where that is less.
    load: seconds to read the tokenizer and import the template's renderer, from a slow disk.
    start: seconds to write out the two messages that a template is given at first.
    waiting: requests on one lane, the one that has its turn included. patience: seconds that they wait for it.
    """

    short: float = 10.0
    long: float = 30.0
    grammar: float = 3.0
    memory: int = 2 << 30
    load: float = 120.0
    start: float = 5.0
    waiting: int = 64
    patience: float = 60.0


class Lane:
    """A text process for any number of threads.

    folder: what it is to load. seconds, memory: for one request. command: what is run. niceness: as the system has it,
    more for what yields to others.
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        seconds: float,
        memory: int,
        command: Sequence[str] = WORKER,
        niceness: int = 0,
    ) -> None:
        self._folder, self._limits, self._seconds, self._command = folder, limits, seconds, command
        self._setup = {
            "path": str(folder), "memory": memory, "start": limits.start, "seconds": seconds, "niceness": niceness,
        }  # fmt: skip
        self._turns = Turns(limits.waiting)
        self._closed = False
        self._child: Child | None = None
        self._facts: Line | None = None  # of the child

    @property
    def pid(self) -> int | None:
        """The process' id, another one after each start; None while there is none."""
        child = self._child
        return child.pid if child else None

    def start(self) -> None:
        """Start the process, and do not wait until it has loaded. Nothing is done while somebody has the turn."""
        if self._turns.acquire(0):
            try:
                with suppress(EngineStopped):
                    self._child = self._child or self._start()
            finally:
                self._turns.release()

    def facts(self) -> Line:
        """What the process knows of the model, as soon as it has loaded it. Raises ModelFolderError, EngineStopped."""
        with self._turns.always():
            self._loaded()
            assert self._facts
            return self._facts

    def ask(self, line: bytes, work: str, wanted: str, seconds: float | None = None) -> Line:
        """The reply to one request.

        work: what it asks for, in the words of an error. wanted: what the reply has to have. seconds: fewer than usual.

        Raises what the process replies with; InvalidRequest for what takes too much time or memory; Busy where too many
        wait; EngineStopped; ModelFolderError where a process cannot be started again.
        """
        with self._a_turn():
            reply, fault = self._asked(self._loaded(), line, seconds or self._seconds)
            if not fault and wanted not in reply and "error" not in reply:
                fault = _EXHAUSTED
            if fault or reply.get("grown"):
                self._start()
        if fault:
            raise InvalidRequest(f"{work} {fault}: shorten it.")
        if "error" in reply:
            raise _error_of(reply)
        return reply

    def rest(self) -> None:
        """End the process until it is asked again. Nothing is done while somebody has the turn."""
        if self._turns.acquire(0):
            try:
                if self._child:
                    self._child.close()
                self._child = self._facts = None
            finally:
                self._turns.release()

    def close(self) -> None:
        """End the process. Those who wait for it get EngineStopped."""
        self._closed = True
        if child := self._child:
            child.kill()
        with self._turns.always():
            if self._child:
                self._child.close()

    @contextmanager
    def _a_turn(self) -> Iterator[None]:
        if not self._turns.acquire(self._limits.patience):
            raise self._busy()
        try:
            yield
        finally:
            self._turns.release()

    def _busy(self) -> Busy:
        return Busy(
            "too many long conversations, or such with tools or grammars, wait to be read: try again later.", 5.0
        )

    # What has the turn calls these.

    def _asked(self, child: Child, line: bytes, seconds: float) -> tuple[Line, str]:
        """What it replies, and what is wrong with the request."""
        try:
            return child.reply(seconds, line), ""
        except Late:
            return {}, f"takes longer than {seconds:g} s"
        except Ended:
            return {}, _EXHAUSTED

    def _loaded(self) -> Child:
        """The process, started if need be, once it is ready."""
        child = self._start() if self._child is None or self._child.ended else self._child
        if self._facts is None:
            try:
                self._facts = self._greeted(child)
            except BaseException:
                child.close()
                self._child = None
                raise
        return child

    def _start(self) -> Child:
        if self._child:
            self._child.close()
        if self._closed:
            raise EngineStopped("the engine is closed.")
        try:
            self._facts, self._child = None, Child(self._command, self._setup)
        except OSError as error:
            raise EngineStopped(f"a process for the prompt cannot be started ({error}).") from error
        if self._closed:  # by somebody who has not seen it
            self._child.kill()
        return self._child

    def _greeted(self, child: Child) -> Line:
        work, seconds = "reading its tokenizer", self._limits.load
        try:
            said = child.reply(seconds)
            if "loaded" in said:
                work, seconds = "writing out two messages with its chat template", self._limits.start
                said = child.reply(seconds)
        except (Late, Ended) as failure:
            if self._closed:
                raise EngineStopped("the engine is closed.") from failure
            fault = f"takes longer than {seconds:g} s" if isinstance(failure, Late) else "ends its process"
            raise ModelFolderError(f"{self._folder} cannot be served: {work} {fault}.") from failure
        if "error" in said:
            raise _error_of(said)
        if "end_ids" not in said:
            raise ModelFolderError(f"{self._folder} cannot be served: {work} {_EXHAUSTED}.")
        return said


def _error_of(reply: Line) -> ServingError:
    error: ServingError = getattr(errors, str(reply["error"]), ServingError)(str(reply.get("message")))
    return error
