"""What replicas on Ray Serve owe their users, counted: python -m tests.replicas FOLDER (some minutes).

20 interleaved conversations of six turns on one engine and on two replicas; answers made anew and edited questions; a
replica killed under open streams; a rolling update under traffic; answers that nobody waits for; the front's overhead.
"""

import argparse
import os
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import psutil

from serving.cluster.start import on_replicas
from serving.engine.process import EngineProcess
from serving.engine.remote import RemoteEngine
from serving.errors import ServingError
from serving.types import Chunk, Completion, EngineSettings, Message, Replicas, SamplingOptions, complete

GREEDY = SamplingOptions(temperature=0.0, max_tokens=12)
LONG = SamplingOptions(temperature=0.0, max_tokens=400, ignore_eos=True)
TURNS = ("What is {}+5?", "And plus 2?", "Spell the word rain.", "Sort 9 3 7.", "Who are you?", "What did I just say?")


class Conversation:
    """One person's, which goes on by a question at a time."""

    def __init__(self, number: int) -> None:
        self.messages = [Message("system", "You are a helpful assistant.")]
        self._number = number

    def ask(self, engine: RemoteEngine, text: str) -> Chunk:
        """The next turn; how its answer ended."""
        self.messages.append(Message("user", text.format(self._number)))
        answer = complete(engine.generate(self.messages, GREEDY))
        self.messages.append(Message("assistant", answer.text))
        return answer.last


def interleaved(engine: RemoteEngine, conversations: int, turns: int) -> tuple[list[Conversation], list[int]]:
    """So many, a turn of each after another; and the cached tokens of every turn."""
    people = [Conversation(number) for number in range(conversations)]
    return people, [each.ask(engine, TURNS[turn]).cached_tokens for turn in range(turns) for each in people]


def anew(engine: RemoteEngine, conversation: Conversation) -> Completion:
    """The last answer once more."""
    return complete(engine.generate(conversation.messages[:-1], GREEDY))


def edited(engine: RemoteEngine, conversation: Conversation) -> Completion:
    """The answer to another last question."""
    return complete(engine.generate([*conversation.messages[:-2], Message("user", "What is a cat?")], GREEDY))


def replica_pids() -> list[int]:
    """The processes of the replicas on this machine."""
    named = ((process.pid, process.info["cmdline"] or [""]) for process in psutil.process_iter(["cmdline"]))
    return sorted(pid for pid, command in named if command[0].startswith("ray::ServeReplica:oga-chat:replica"))


class Stream:
    """A long answer, read on a thread of its own; where an error ends it, the question is asked again for a short one.

    again_at: when that was answered, by the monotonic clock.
    """

    def __init__(self, engine: RemoteEngine, number: int) -> None:
        self.begun, self.error, self.tokens, self.again_at = threading.Event(), "", 0, 0.0
        self.messages = [Message("user", f"Tell me story number {number}.")]
        self._thread = threading.Thread(target=self._read, args=(engine,))
        self._thread.start()

    def join(self) -> "Stream":
        self._thread.join(120)
        assert not self._thread.is_alive()
        return self

    def _read(self, engine: RemoteEngine) -> None:
        try:
            for chunk in engine.generate(self.messages, LONG):
                self.tokens = chunk.completion_tokens
                if self.tokens:
                    self.begun.set()
        except ServingError as error:
            self.error = f"{type(error).__name__}: {error}"
            self.begun.set()
            complete(engine.generate(self.messages, GREEDY))
            self.again_at = time.monotonic()


def killed(engine: RemoteEngine, streams: int) -> tuple[list[Stream], list[Stream], float]:
    """Kill a replica under so many streams: those that it ended, the others, and the seconds until all are answered."""
    opened = [Stream(engine, number) for number in range(streams)]
    for stream in opened:
        assert stream.begun.wait(60)
    began = time.monotonic()
    os.kill(replica_pids()[0], signal.SIGKILL)
    hit = [stream for stream in opened if stream.join().error]
    others = [stream for stream in opened if not stream.error]
    return hit, others, max((stream.again_at for stream in hit), default=began) - began


def settled(engine: RemoteEngine, seconds: float = 30) -> bool:
    """Whether nothing is being made any more, within so long."""
    deadline = time.monotonic() + seconds
    while engine.status().running and time.monotonic() < deadline:
        time.sleep(0.2)
    return not engine.status().running


def left(engine: RemoteEngine) -> bool:
    """Whether an answer that its reader has left is made no more."""
    with closing(engine.generate([Message("user", "Tell me a story.")], LONG)) as stream:  # type: ignore[type-var]
        for chunk in stream:
            if chunk.completion_tokens > 3:
                break
    return settled(engine)


def traffic(engine: RemoteEngine, people: int, until: threading.Event) -> Counter[str]:
    """Short questions of so many, one after another each, until told otherwise: how often what came of them."""
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()

    def person(number: int) -> None:
        while not until.is_set():
            try:
                outcome = complete(engine.generate([Message("user", f"Spell {number}.")], GREEDY)).last.finish_reason
            except ServingError as error:
                outcome = f"{type(error).__name__}: {error}"  # type: ignore[assignment]
            with lock:
                outcomes[str(outcome)] += 1

    threads = [threading.Thread(target=person, args=(number,)) for number in range(people)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def updated(engine: RemoteEngine, update: Callable[[], None], people: int) -> Counter[str]:
    """What came of traffic while all replicas were replaced."""
    until = threading.Event()

    def work() -> None:
        try:
            update()
        finally:
            until.set()

    thread = threading.Thread(target=work)
    thread.start()
    outcomes = traffic(engine, people, until)
    thread.join()
    return outcomes


def first_token(engine: RemoteEngine, times: int) -> list[float]:
    """Seconds from a question to its answer's first token, the same question each time, from the cache."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        chunks = engine.generate([Message("user", "What is 17+25?")], GREEDY)
        found.append(next(time.perf_counter() - began for chunk in chunks if chunk.completion_tokens))
        for _ in chunks:
            pass
    return found


def by_turns(
    folder: Path, settings: EngineSettings, replicas: RemoteEngine, times: int
) -> tuple[list[float], list[float]]:
    """Seconds to the first token, direct and through replicas: both are open, and are asked by turns, ten each."""
    direct: list[float] = []
    through: list[float] = []
    with EngineProcess.load(folder, settings) as one:
        for engine in (one, replicas):
            first_token(engine, 10)
        while len(direct) < times:
            direct += first_token(one, 10)
            through += first_token(replicas, 10)
    return direct, through


def per_second(engine: RemoteEngine, people: int, requests: int, tokens: int) -> float:
    """Requests with answers of so many tokens, finished in a second."""
    numbers, lock = iter(range(requests)), threading.Lock()
    options = SamplingOptions(temperature=0.0, max_tokens=tokens, ignore_eos=True)

    def person() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            complete(engine.generate([Message("user", f"Question {number % 16}")], options))

    threads = [threading.Thread(target=person) for _ in range(people)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return requests / (time.perf_counter() - began)


def processor_seconds(pids: Sequence[int]) -> float:
    """What these processes have computed, by themselves, without their children."""
    times = [psutil.Process(pid).cpu_times() for pid in pids]
    return sum(each.user + each.system for each in times)


def cost(engine: RemoteEngine, requests: int, tokens: int, pids: Sequence[int] = ()) -> tuple[float, float, float]:
    """Requests in a second; and what one costs this process, and those of the replicas, in ms of a processor."""
    here, there = processor_seconds([os.getpid()]), processor_seconds(pids)
    rate = per_second(engine, 8, requests, tokens)
    here, there = processor_seconds([os.getpid()]) - here, processor_seconds(pids) - there
    return rate, 1000 * here / requests, 1000 * there / requests


def spread(values: Sequence[float]) -> str:
    """Median and 90th percentile, in ms."""
    ranked = sorted(values)
    return f"{statistics.median(ranked) * 1000:.1f} ms (90 %: {ranked[int(0.9 * (len(ranked) - 1))] * 1000:.1f})"


def main() -> None:
    """Everything, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--conversations", type=int, default=20)
    parser.add_argument("--times", type=int, default=100, help="questions to measure the first token by")
    flags = parser.parse_args()
    settings = EngineSettings(threads=1, parallel=16, queue=16, slots=32, kv_memory=512 << 20)
    asked = ((4 * flags.times, 1), (flags.times, 200))

    def say(text: str) -> None:
        print(text, flush=True)

    with EngineProcess.load(flags.folder, settings) as one:
        one.warm_up()
        _, alone = interleaved(one, flags.conversations, len(TURNS))
        say(f"one engine: {sum(alone)} cached tokens in {len(alone)} turns")
        alone_costs = [cost(one, requests, tokens) for requests, tokens in asked]
    with on_replicas(Replicas(2, 2), flags.folder, settings) as engine:
        engine.warm_up()
        people, cached = interleaved(engine, flags.conversations, len(TURNS))
        say(f"two replicas: {sum(cached)} cached tokens, {sum(cached) / sum(alone):.3f} of one engine's")
        whole = [anew(engine, each).last for each in people]
        from_cache = sum(last.cached_tokens == last.prompt_tokens - 1 for last in whole)
        say(f"answers anew: {from_cache} of {len(whole)} from the cache")
        other = [edited(engine, each).last for each in people]
        part = sum(last.cached_tokens for last in other) / sum(last.prompt_tokens for last in other)
        say(f"another last question: {part:.2f} of the tokens from the cache")
        say(f"an answer that its reader left is made no more: {left(engine)}")
        direct, through = by_turns(flags.folder, settings, engine, flags.times)
        say(f"first token: direct {spread(direct)}, through Ray {spread(through)}")
        for (requests, tokens), (alone_rate, alone_here, _) in zip(asked, alone_costs, strict=True):
            rate, here, there = cost(engine, requests, tokens, replica_pids())
            say(f"requests/s, 8 at a time, tokens of each {tokens}: direct {alone_rate:.1f}, through Ray {rate:.1f}")
            say(
                f"processor time of such a request: the front's {alone_here:.1f} ms direct, {here:.1f} through Ray; "
                f"and {there:.1f} of a replica's actor"
            )

        from ray import serve

        from serving.cluster.replica import QUIET, deployed
        from serving.cluster.start import APPLICATION

        def update() -> None:
            settings_now = EngineSettings(threads=1, parallel=16, queue=17, slots=32, kv_memory=512 << 20)
            serve.run(
                deployed(Replicas(2, 2), engine.folder, settings_now), name=APPLICATION, route_prefix=None,
                logging_config=QUIET,
            )  # fmt: skip

        before = replica_pids()
        outcomes = updated(engine, update, 4)
        say(f"rolling update: {len(set(before) - set(replica_pids()))} of {len(before)} replaced, {dict(outcomes)}")
        hit, others, seconds = killed(engine, 16)
        say(f"killed: {len(hit)} streams ended ({hit[0].error if hit else ''}), {len(others)} went on to their end")
        say(f"the conversations of those went on {seconds:.1f} s later")


if __name__ == "__main__":
    main()
