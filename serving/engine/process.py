"""The engine in a process of its own.

OGA's Python binding holds the interpreter's lock during every forward pass. In one process with a web server, a page
would stand still for as long as a chunk of prefill takes, which is seconds for a large model. A crash, a hung call, or
a kill because memory ran out, ends that process only, and another one is started.

Everything but loading, and waiting for an answer, returns at once, whatever state the process is in. How many answers
are under way is known here: what does not fit is refused before a line of it is written.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from serving.engine.admission import Admission
from serving.engine.child import WORKER, Child
from serving.engine.keeper import Keeper
from serving.engine.remote import RemoteEngine
from serving.engine.watch import Patience
from serving.engine.wire import CLOSING_SECONDS, Batch, Sink, Wanted, encoded, is_last
from serving.errors import EngineStopped
from serving.folder import ModelFolder
from serving.text.lane import Limits
from serving.text.process import TextProcess
from serving.types import Chunk, EngineSettings, EngineStatus

FRESH_SECONDS = 0.25  # what `status` waits for the process: beyond it, what it last said has to do


class EngineProcess(RemoteEngine):
    """What Engine is to its callers, with the model in a child process. Safe to use from any number of threads.

    watch: is given what takes an answer's chunks, and returns what shall take them in its place. patience: with a
    process that is silent. command: what is run. on_demand: nothing is loaded before it is asked for.
    """

    def __init__(
        self,
        folder: ModelFolder,
        prompt: TextProcess,
        settings: EngineSettings,
        watch: Callable[[Sink], Sink] | None = None,
        patience: Patience | None = None,
        command: Sequence[str] = WORKER,
        on_demand: bool = False,
    ) -> None:
        super().__init__(folder, prompt, settings)
        self._window = folder.window(settings.context_length)
        self._watch = watch
        self._admission = Admission(settings.at_once, settings.queue)
        self._numbers = itertools.count()
        self._told: Child | None = None  # which process knows what ends an answer
        setup = {"path": str(folder.path), "settings": asdict(settings)}
        idle = None if settings.idle_unload is None else 60 * settings.idle_unload
        closing = CLOSING_SECONDS if settings.keep else 0.0
        self._keeper = Keeper(command, setup, patience or Patience(), idle, on_demand, closing)

    @classmethod
    def load(
        cls,
        path: Path | str,
        settings: EngineSettings | None = None,
        watch: Callable[[Sink], Sink] | None = None,
        patience: Patience | None = None,
        command: Sequence[str] = WORKER,
        on_demand: bool = False,
    ) -> "EngineProcess":
        """Start the process and load a model folder in it. Raises what Engine.load raises.

        Its prompts are written in other processes, which are started at the same time; see `warm_up`. on_demand: all of
        them start when they are needed first, and only what can be told from the folder is raised.
        """
        folder = ModelFolder.open(Path(path).resolve())  # it may be started again from elsewhere
        settings = settings or EngineSettings()
        waiting = max(Limits().waiting, settings.at_once + settings.queue)  # whom the engine has a place for
        prompt = TextProcess(folder.path, Limits(waiting=waiting), on_demand=on_demand)
        try:
            return cls(folder, prompt, settings, watch, patience, command, on_demand)
        except BaseException:
            prompt.close()
            raise

    @property
    def context_length(self) -> int:
        """The served window, in tokens."""
        return self._window

    @property
    def notes(self) -> tuple[str, ...]:
        """What the device does otherwise than asked for, or cannot do; a sentence each."""
        return tuple(self._keeper.hello.get("notes", ()))

    @property
    def places(self) -> int:
        """Answers that can be under way at once, those that wait included."""
        return self._admission.places

    @property
    def pid(self) -> int | None:
        """The process' id, another one after each start; None while there is none, or while it is unloaded."""
        return self._keeper.pid

    @property
    def unloaded(self) -> bool:
        """Whether there is no process because nobody has asked for anything."""
        return self._keeper.unloaded

    @property
    def loading(self) -> bool:
        """Whether the model is being loaded now."""
        return self._keeper.loading

    def use(self) -> tuple[bool, float] | None:
        """Whether it has nothing to answer, and when it last had, on the monotonic clock; None while it is unloaded."""
        return self._keeper.use()

    def unload(self) -> None:
        """End the processes until there is a request again; what still has something to do goes on."""
        if self._keeper.unload():
            self.prompt.rest()

    def start(
        self, wanted: Wanted, sink: Callable[[int, Batch], None], client: str = "", session: str = ""
    ) -> Callable[[], None]:
        """Ask for answers, as RemoteEngine.start says; whatever the session, here is where it goes on.

        Raises Busy, InvalidRequest where they can never fit, EngineStopped while there is no process.
        """
        end_ids = self.prompt.end_ids
        requests = []
        for index, (token_ids, options) in enumerate(wanted):
            number = next(self._numbers)
            request = {"id": number, "tokens": token_ids.tolist(), "options": asdict(options), "client": client}
            requests.append((number, encoded(request), self._placed(partial(sink, index), client)))
        with self._keeper.child() as child:
            self._admission.enter(len(requests), client)
            if child is not self._told:  # it renders nothing, and so cannot find them itself
                child.tell({"end_ids": sorted(end_ids)})
                self._told = child
            if not child.loaded:  # told first, whatever the process says then
                for index, (token_ids, _) in enumerate(wanted):
                    sink(index, [Chunk("", token_ids.size, 0, 0, loading=True)])
            for number, line, placed in requests:
                child.ask(number, line, placed)
        return lambda: child.cancel([number for number, *_ in requests])

    def status(self) -> EngineStatus:
        """How busy it is. Raises EngineStopped while no model is loaded, unless that is for want of requests."""
        if self._keeper.unloaded:
            return EngineStatus(0, 0, 0, 0, loaded=False)
        with self._keeper.child() as child:
            pong = child.ping()
        if not child.loaded:
            raise EngineStopped("the engine is being started again.")
        pong.wait(FRESH_SECONDS)
        said = child.status
        return EngineStatus(*self._admission.counts(), said.kv_bytes if said else 0, said.kv_limit if said else 0)

    def close(self) -> None:
        """End the process. Answers still being made end with EngineStopped."""
        self._keeper.close()
        self.prompt.close()

    def __enter__(self) -> "EngineProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _placed(self, sink: Sink, client: str) -> Sink:
        """A sink that gives an answer's place back with its end."""
        began = time.perf_counter()
        watching = self._watch(sink) if self._watch else sink

        def placed(batch: Batch) -> None:
            if is_last(batch):
                self._admission.leave(time.perf_counter() - began, client)
            watching(batch)

        return placed
