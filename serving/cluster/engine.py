"""The engine of a front: answers come from replicas, which Ray Serve chooses by a conversation's name."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import CancelledError
from contextlib import aclosing, suppress
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from serving.engine.remote import RemoteEngine
from serving.engine.wire import Batch, Line, Sink, Wanted, batch_of, is_last
from serving.errors import Busy, EngineStopped, ServingError
from serving.folder import ModelFolder
from serving.text.lane import Limits
from serving.text.process import TextProcess
from serving.types import Chunk, EngineSettings, EngineStatus

STATUS_SECONDS = 1.0  # what replicas have to say how busy they are, and for how long that counts
_TRIES = 3  # for a request of which nothing has come when its replica ended
_END_SECONDS = 2.0
_START_SECONDS = 600.0  # of a replica that is there already, to say what it has loaded
_NOTHING_YET = Chunk("", 0, 0, 0)
_COUNTED = ("running", "waiting", "kv_bytes", "kv_limit")


class ReplicaEngine(RemoteEngine):
    """What EngineProcess is to its callers, with the engines on replicas. Safe to use from any number of threads.

    handle: to the replicas. folder: theirs, which is here too, as prompts are written here. watch: as EngineProcess's.
    """

    def __init__(
        self,
        handle: "DeploymentHandle[Any]",
        folder: ModelFolder,
        settings: EngineSettings,
        watch: Callable[[Sink], Sink] | None = None,
    ) -> None:
        waiting = max(Limits().waiting, settings.at_once + settings.queue)
        super().__init__(folder, TextProcess(folder.path, Limits(waiting=waiting)), settings)
        self._handle = handle.options(_by_reference=False)  # by gRPC: half of what Ray's own calls cost
        self._watch = watch
        self._closed = False
        self._status: tuple[float, EngineStatus | None] = (-STATUS_SECONDS, None)
        self._status_lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="replicas", daemon=True)
        self._thread.start()
        try:
            self._hello: Line = self._handle.hello.remote().result(timeout_s=_START_SECONDS)
        except BaseException:
            self.close()
            raise

    @property
    def context_length(self) -> int:
        """The served window, in tokens."""
        return int(self._hello["context_length"])

    @property
    def notes(self) -> tuple[str, ...]:
        """What the replicas' device does otherwise than asked for, or cannot do; a sentence each."""
        return tuple(self._hello["notes"])

    @property
    def places(self) -> int:
        """Answers that one request can have, as one replica makes them all."""
        return self._settings.at_once + self._settings.queue

    def start(
        self, wanted: Wanted, sink: Callable[[int, Batch], None], client: str = "", session: str = ""
    ) -> Callable[[], None]:
        """Ask for answers, as RemoteEngine.start says. Whatever keeps them from being made comes to the sink."""
        requests = [{"tokens": token_ids.tolist(), "options": asdict(options)} for token_ids, options in wanted]
        sinks: list[Sink] = [partial(sink, index) for index in range(len(requests))]
        if self._watch:
            sinks = [self._watch(each) for each in sinks]
        if self._closed:
            raise EngineStopped("the engine is closed.")
        following = asyncio.run_coroutine_threadsafe(self._follow(requests, sinks, client, session), self._loop)

        def cancel() -> None:
            following.cancel()

        return cancel

    def status(self) -> EngineStatus:
        """How busy all of them are together. Raises EngineStopped where none says so."""
        with self._status_lock:
            asked_at, known = self._status
            if time.monotonic() - asked_at >= STATUS_SECONDS:
                known = self._asked_status() or known  # one that hangs keeps all of them from being known
                self._status = time.monotonic(), known
        if known is None:
            raise EngineStopped("no replica is running.")
        return known

    def close(self) -> None:
        """Leave the replicas. Answers still being made end with EngineStopped."""
        self._closed = True
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(_cancel_all(), self._loop).result(_END_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.prompt.close()

    def __enter__(self) -> "ReplicaEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _follow(self, requests: Sequence[Line], sinks: Sequence[Sink], client: str, session: str) -> None:
        """Give each sink its answer, to its end."""
        open_ = dict.fromkeys(range(len(sinks)), _NOTHING_YET)  # the last chunk of each answer that has not ended

        def end_with(error: ServingError) -> None:
            while open_:
                sinks[open_.popitem()[0]](error)

        try:
            async with aclosing(self._lines(requests, client, session)) as lines:
                async for index, line in lines:
                    batch = batch_of(line)
                    if isinstance(batch, ServingError):
                        return end_with(batch)
                    if is_last(batch):
                        open_.pop(index, None)
                    else:
                        open_[index] = batch[-1]
                    sinks[index](batch)
        except asyncio.CancelledError:
            if self._closed:
                end_with(EngineStopped("the server was closed."))
            for index, chunk in open_.items():
                sinks[index]([replace(_NOTHING_YET, **_counts(chunk), finish_reason="cancelled")])
        except Exception as error:
            end_with(_ours(error))

    async def _lines(
        self, requests: Sequence[Line], client: str, session: str
    ) -> AsyncGenerator[tuple[int, Line], None]:
        """What a replica says. Another one is asked if the first ends before it has said anything."""
        handle = self._handle.options(stream=True, method_name="answers", session_id=session)
        for tries in range(1, _TRIES + 1):
            begun = False
            response: Any = handle.remote(requests, client)
            try:
                async for index, line in response:
                    begun = True
                    yield index, line
                return
            except RayActorError:
                if begun or tries == _TRIES:
                    raise
            finally:
                with suppress(Exception):  # it has ended by itself, and so may its replica have
                    response.cancel()

    def _asked_status(self) -> EngineStatus | None:
        if self._closed:
            raise EngineStopped("the engine is closed.")
        asking = asyncio.run_coroutine_threadsafe(self._said_status(), self._loop)
        with suppress(TimeoutError, CancelledError, RayError, RayServeException):
            if known := [each for each in asking.result(2 * STATUS_SECONDS) if isinstance(each, dict)]:
                sums = {name: sum(each[name] for each in known) for name in _COUNTED}
                return EngineStatus(**sums, loaded=any(each["loaded"] for each in known))
        return None

    async def _said_status(self) -> list[Any]:
        """What each replica says, or the error that kept it from that."""
        asked = self._handle.broadcast("status")
        return await asked.results_async(timeout_s=STATUS_SECONDS, return_exceptions=True)


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _counts(chunk: Chunk) -> dict[str, Any]:
    """How far an answer was."""
    names = ("prompt_tokens", "cached_tokens", "prefilled_tokens", "completion_tokens", "prefill_seconds")
    return {name: getattr(chunk, name) for name in (*names, "decode_seconds", "kind")}


def _ours(error: Exception) -> ServingError:
    """What went wrong between here and a replica, as an error of ours."""
    if isinstance(error, BackPressureError):
        return Busy("every replica that may answer this is full: try again in a second, or start more of them.")
    if isinstance(error, RayActorError):
        return EngineStopped("the replica that made this answer has ended: ask again, and another one answers.")
    return ServingError(f"the replica failed on this request: {type(error).__name__}.")
