"""Several models on one server: each has processes of its own, which are there while memory allows and it is used.

A model that is asked for and is not there is loaded. Where there is no room for it, others go: first what has nothing
to answer, and of that what was not used for longest. One that still answers is waited for, and begins nothing new until
then; so nobody waits for ever, however much another model is used.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace

from serving.engine.child import WORKER
from serving.engine.process import EngineProcess
from serving.engine.remote import RemoteEngine
from serving.engine.watch import Patience
from serving.engine.wire import Batch, Sink, Wanted, is_last
from serving.errors import Busy, EngineStopped, InvalidRequest, ServingError
from serving.folder import ModelFolder
from serving.types import Chunk, EngineSettings, EngineStatus

PROCESSES = 256 << 20  # bytes of a model's three processes, beside its weights and its KV caches
KV_PART = 4  # a model's KV caches have at most this part of the memory of all


@dataclass(frozen=True, slots=True)
class Held:
    """A model that is loaded: the bytes that it may take, whether it has nothing to answer, and when it last had."""

    size: int
    idle: bool
    used: float


def to_go(wanted: int, memory: int, held: Mapping[str, Held]) -> tuple[str, ...]:
    """Which models have to go so that one has room that takes so many bytes; none where there is room already."""
    missing = wanted + sum(each.size for each in held.values()) - memory
    going: list[str] = []
    for name in sorted(held, key=lambda name: (not held[name].idle, held[name].used)):
        if missing > 0:
            going.append(name)
            missing -= held[name].size
    return tuple(going)


def fitted(folder: ModelFolder, settings: EngineSettings, memory: int) -> tuple[EngineSettings, int]:
    """How one of several models runs, and the bytes that it may take of `memory`.

    Its window is at most its own. Its KV caches have what is said, or what conversations that fill the window take, as
    many as are answered at a time, and of `memory` the KV_PART at most. Raises InvalidRequest where that is too much.
    """
    window = min(settings.context_length or folder.context_length, folder.context_length)
    full = settings.at_once * window * folder.kv_bytes_per_token
    kv_memory = settings.kv_memory or max(1, min(full, memory // KV_PART))
    size = folder.size + PROCESSES + kv_memory
    if size > memory:
        raise InvalidRequest(
            f"{folder.source} takes {size >> 20:,} MiB, {kv_memory >> 20:,} of them for KV caches, and there are "
            f"{memory >> 20:,} MiB for models: start with more --memory or less --kv-memory, or without this model."
        )
    return replace(settings, context_length=window, kv_memory=kv_memory), size


@dataclass(eq=False, slots=True)
class _Asked:
    """Answers that are asked of a model, and begun once there is room for it. stop: ends them from then on."""

    member: "Member"
    wanted: Wanted
    sink: Callable[[int, Batch], None]
    client: str
    session: str
    stop: Callable[[], None] | None = field(default=None, init=False)

    def begin(self) -> None:
        """Have them made; an error comes to the sink."""
        try:
            self.stop = self.member.engine.start(self.wanted, self.sink, self.client, self.session)
        except ServingError as error:
            self.give(error)

    def give(self, end: ServingError | Chunk) -> None:
        """Give each of them the same: why there is none, or one chunk, with the tokens of its own prompt."""
        for index, (token_ids, _) in enumerate(self.wanted):
            self.sink(index, [replace(end, prompt_tokens=token_ids.size)] if isinstance(end, Chunk) else end)


class Several:
    """The memory that models share, in bytes, and who waits for it. Safe to use from any number of threads.

    settings: of each of them, as `fitted` has it. watch, patience, command: as EngineProcess takes them.
    """

    def __init__(
        self,
        memory: int,
        settings: EngineSettings,
        watch: Callable[[Sink], Sink] | None = None,
        patience: Patience | None = None,
        command: Sequence[str] = WORKER,
    ) -> None:
        self._memory, self._settings = memory, settings
        self._watch, self._patience, self._command = watch, patience, command
        self._members: dict[str, Member] = {}
        self._asked: list[_Asked] = []  # and waiting, who came first at the beginning
        self._leaving: tuple[str, ...] = ()  # those that have to go for the first who waits
        self._closing = False
        self._lock = threading.Lock()  # never held over anything that waits
        self.due = threading.Event()  # set when something may have changed
        self._thread = threading.Thread(target=self._work, name="models", daemon=True)
        self._thread.start()

    def add(self, name: str, folder: ModelFolder, on_demand: bool = True) -> "Member":
        """Offer a model; without on_demand it is loaded now, and there have to be no others that are.

        Raises InvalidRequest where there is not memory enough for it, and what EngineProcess.load raises.
        """
        settings, size = fitted(folder, self._settings, self._memory)
        engine = EngineProcess.load(folder.path, settings, self._watch, self._patience, self._command, on_demand)
        member = Member(self, name, engine, settings, size)
        with self._lock:
            self._members[name] = member
        return member

    def start(self, asked: _Asked) -> Callable[[], None]:
        """As EngineProcess.start, as soon as there is room for the model. What is returned cancels the answers."""
        member = asked.member
        with self._lock:
            if self._closing:
                raise EngineStopped("the engine is closed.")
            if not member.engine.unloaded and member.name not in self._leaving:
                return member.engine.start(asked.wanted, asked.sink, asked.client, asked.session)
            if self._waiting(member) + len(asked.wanted) > member.places:
                raise Busy(f"too many requests wait for {member.name} to be loaded: try again later.", 5.0)
            self._asked.append(asked)
            asked.give(Chunk("", 0, 0, 0, loading=True))
        self.due.set()

        def cancel() -> None:
            with self._lock:
                waits = asked in self._asked
                if waits:
                    self._asked.remove(asked)
            if waits:
                asked.give(Chunk("", 0, 0, 0, finish_reason="cancelled"))
                self.due.set()
            elif asked.stop:
                asked.stop()

        return cancel

    def load_ahead(self, member: "Member") -> None:
        """Have a model loaded before it is asked for, unless one that still answers would have to go for it.

        Waits for the processes that write its prompts. Raises what they do.
        """
        if not self._is_free_for(member):
            return
        _ = member.prompt.end_ids
        if self._is_free_for(member):
            with self._lock:
                self._asked.append(_Asked(member, (), lambda *_: None, "", ""))
            self.due.set()

    def _is_free_for(self, member: "Member") -> bool:
        with self._lock:
            if self._closing or not member.engine.unloaded:
                return False
            held = self._held()
            return all(held[name].idle for name in to_go(member.size, self._memory, held))

    def is_loading(self, member: "Member") -> bool:
        """Whether a model is being loaded, or others go for it so that it can be."""
        with self._lock:
            waits = any(each.member is member for each in self._asked)
            return (waits and member.engine.unloaded) or member.engine.loading

    def waiting(self, member: "Member") -> int:
        """How many answers wait for a model to be loaded."""
        with self._lock:
            return self._waiting(member)

    def close(self) -> None:
        """End all processes. Answers still being made, or waited for, end with EngineStopped."""
        with self._lock:
            self._closing = True
            asked, self._asked = self._asked, []
        self.due.set()
        self._thread.join()
        for each in asked:
            each.give(EngineStopped("the engine is closed."))
        engines = [member.engine for member in self._members.values()]
        with ThreadPoolExecutor(max(1, len(engines))) as pool:  # each may still write what it keeps, for a second
            list(pool.map(EngineProcess.close, engines))

    def __enter__(self) -> "Several":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        """Whenever something has changed: begin what has room, and end what has to go for it."""
        while True:
            self.due.wait()
            self.due.clear()
            if self._closing:
                return
            while going := self._settled():
                for member in going:
                    member.engine.unload()

    def _settled(self) -> list["Member"]:
        """Begin what can be begun; gives what has to go first, if all of that has nothing to answer any more."""
        with self._lock:
            self._leaving, ready = (), True
            for member in dict.fromkeys(asked.member for asked in self._asked):
                if member.engine.unloaded and not self._leaving:
                    held = self._held()
                    self._leaving = to_go(member.size, self._memory, held)
                    ready = all(held[name].idle for name in self._leaving)
                if self._leaving and (member.engine.unloaded or member.name in self._leaving):
                    continue
                together = [asked for asked in self._asked if asked.member is member]  # one load for all of them
                self._asked = [asked for asked in self._asked if asked.member is not member]
                for asked in together:
                    asked.begin()
            return [self._members[name] for name in self._leaving] if ready else []

    def _held(self) -> dict[str, Held]:
        uses = {name: member.engine.use() for name, member in self._members.items()}
        return {name: Held(self._members[name].size, *use) for name, use in uses.items() if use}

    def _waiting(self, member: "Member") -> int:
        return sum(len(each.wanted) for each in self._asked if each.member is member)


class Member(RemoteEngine):
    """One of several models, which is loaded when it is asked for. Safe to use from any number of threads.

    size: bytes that it may take while it is loaded.
    """

    def __init__(self, several: Several, name: str, engine: EngineProcess, settings: EngineSettings, size: int) -> None:
        super().__init__(engine.folder, engine.prompt, settings)
        self.name, self.engine, self.size = name, engine, size
        self._several = several
        self._ahead: threading.Thread | None = None

    @property
    def context_length(self) -> int:
        """The served window, in tokens."""
        return self.engine.context_length

    @property
    def notes(self) -> tuple[str, ...]:
        """What the device does otherwise than asked for, or cannot do, where that is known already."""
        return self.engine.notes

    @property
    def places(self) -> int:
        """Answers that can be under way at once, those that wait included."""
        return self.engine.places

    def start(
        self, wanted: Wanted, sink: Callable[[int, Batch], None], client: str = "", session: str = ""
    ) -> Callable[[], None]:
        """Ask for answers, as EngineProcess.start does; they are begun once there is room for the model."""
        _ = self.prompt.end_ids  # waited for here, where nobody else has to

        def watched(index: int, batch: Batch) -> None:
            sink(index, batch)
            if is_last(batch):
                self._several.due.set()

        return self._several.start(_Asked(self, wanted, watched, client, session))

    def load_ahead(self) -> None:
        """Begin to load it, as somebody is about to ask; what still answers does not go for that. Returns at once."""

        def load() -> None:
            with suppress(ServingError):  # whoever asks is told
                self._several.load_ahead(self)

        if not (self._ahead and self._ahead.is_alive()):
            self._ahead = threading.Thread(target=load, name="load ahead", daemon=True)
            self._ahead.start()

    @property
    def loading(self) -> bool:
        """Whether it is being loaded, or is about to be."""
        begins = bool(self._ahead and self._ahead.is_alive())  # looked at first: it goes before the rest comes
        return begins or self._several.is_loading(self)

    def close(self) -> None:
        """End the processes of all models."""
        self._several.close()

    def status(self) -> EngineStatus:
        """How busy it is; not loaded where it is being loaded, or started again."""
        waiting = self._several.waiting(self)
        try:
            status = self.engine.status()
        except EngineStopped:
            return EngineStatus(0, waiting, 0, 0, loaded=False)
        return replace(status, waiting=status.waiting + waiting)
