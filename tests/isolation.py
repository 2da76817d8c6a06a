"""No conversation can see another's, with everything on that could mix them up.

    python -m tests.isolation FOLDER OTHER [--requests 300] [--seed 0]

FOLDER, OTHER: two models that compute in float32 (`python -m builder --accuracy-level 1`), so that logits do not depend
on who is beside. They share memory, in every other start for one of them only, so that one goes whenever the other is
asked for; conversations are kept, on a limit that holds a part of them; a model that nobody asks unloads; processes are
killed under answers, and the whole engine is started again twice. People talk with both models in many conversations,
edit, stop and ask again. Every answer is then compared with that of an engine that holds nothing else; the table says
how many differ, and how often each of these things happened.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from serving.engine.engine import Engine
from serving.engine.oga import OgaRuntime
from serving.engine.several import Member, Several, fitted
from serving.engine.watch import Patience
from serving.errors import EngineStopped
from serving.folder import ModelFolder
from serving.text.prompt import Prompt
from serving.types import Chunk, EngineSettings, Message, SamplingOptions
from tests.traffic import Asked, crowd
from tests.waiting import eventually

STARTS = 3
KILLED = 1 / 12  # of the requests: while they are answered
UNLOADED_AFTER = 0.4  # seconds
PEOPLE, CONVERSATIONS = 3, 3  # of each model
ALONE = EngineSettings(slots=1, guess=False)


def differing(folder: Path, asked: Sequence[Asked], deterministic: bool = False) -> list[str]:
    """The answers, also those that were stopped and the sampled ones, that an empty engine does not give."""
    runtime = OgaRuntime(ModelFolder.open(folder), None, 1, deterministic=deterministic)  # one thread: nobody is beside
    prompt, found = Prompt.load(folder), []
    for one in asked:
        with Engine(runtime, prompt, ALONE) as fresh:
            if difference := one.differs_from(list(fresh.generate(one.messages, one.options))):
                found.append(f"{one}: {difference}")
    return found


@dataclass
class Hurt:
    """A model whose process is killed now and then under an answer; the answer is then asked for again.

    kills: how often that was. again: how many answers were asked for again.
    """

    member: Member
    rng: random.Random
    kills: int = 0
    again: int = 0

    def generate(self, messages: Sequence[Message], options: SamplingOptions) -> Iterator[Chunk]:
        """An answer, as the engine's, whoever is killed meanwhile."""
        given, dies_at = 0, 1 + self.rng.randrange(8) if self.rng.random() < KILLED else None
        while True:
            made = 0
            try:
                with closing(self.member.generate(messages, options)) as stream:  # type: ignore[type-var]
                    for chunk in stream:
                        made += chunk.token_id is not None
                        if made > given or chunk.token_id is None:
                            given = max(given, made)
                            yield chunk
                        if dies_at == made and (pid := self.member.engine.pid):
                            dies_at = None
                            self.kills += 1
                            os.kill(pid, signal.SIGKILL)
                return
            except EngineStopped:
                self.again += 1


@dataclass
class Found:
    """What was asked of each model, and how often a process was killed and an answer asked for again."""

    asked: dict[Path, list[Asked]] = field(default_factory=dict)
    kills: int = 0
    again: int = 0

    @property
    def requests(self) -> list[Asked]:
        """All of them."""
        return [one for asked in self.asked.values() for one in asked]

    @property
    def waited(self) -> int:
        """Requests that waited for their model to be loaded, as the other one, or none, was there."""
        return sum(any(chunk.loading for chunk in one.chunks) for one in self.requests)

    @property
    def cached(self) -> int:
        """Requests of which tokens were found in a KV cache, of whatever conversation they came from."""
        return sum(one.chunks[-1].cached_tokens > 0 for one in self.requests)

    def table(self, differ: int) -> str:
        """One line of it."""
        columns = {
            "requests": len(self.requests), "differ": differ, "stopped": sum(one.stopped for one in self.requests),
            "sampled": sum(one.options.temperature > 0 for one in self.requests), "found tokens cached": self.cached,
            "waited for their model": self.waited, "starts": STARTS, "killed": self.kills,
            "asked for again": self.again,
        }  # fmt: skip
        lines = (columns, ("---",) * len(columns), map(str, columns.values()))
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def talk(folders: Sequence[Path], keep: Path, requests: int, seed: int) -> Found:
    """Have people talk with all these models, a part of them in each start; the same people come again."""
    found, opened = Found(), [ModelFolder.open(folder) for folder in folders]
    settings = EngineSettings(
        runtime="auto", slots=6, parallel=3, queue=64, kv_memory=64 << 20, idle_unload=UNLOADED_AFTER / 60,
        keep=str(keep), keep_bytes=12 << 20,
    )  # fmt: skip
    sizes = [fitted(folder, settings, 1 << 40)[1] for folder in opened]
    each = requests // (STARTS * len(folders))
    for start in range(STARTS):
        memory = sum(sizes) if start % 2 == 0 else max(sizes)
        with Several(memory, settings, patience=Patience(tick=0.05)) as several:
            members = [several.add(folder.path.name, folder, on_demand=bool(at)) for at, folder in enumerate(opened)]
            hurt = [Hurt(member, random.Random(seed + at)) for at, member in enumerate(members)]
            with ThreadPoolExecutor(len(hurt)) as pool:
                asked = list(pool.map(lambda one: crowd(one, PEOPLE, CONVERSATIONS, each, seed), hurt))
            for member in members:
                eventually(partial(getattr, member.engine, "unloaded"), seconds=20, pause=0.02)
            for folder, these in zip(folders, asked, strict=True):
                found.asked.setdefault(folder, []).extend(these)
            found.kills += sum(one.kills for one in hurt)
            found.again += sum(one.again for one in hurt)
    return found


def main() -> int:
    """Print the table, and every answer that differs. Returns 1 where there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs=2)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = talk(flags.folders, Path(work) / "conversations", flags.requests, flags.seed)
    differ = [said for folder, asked in found.asked.items() for said in differing(folder, asked)]
    print(found.table(len(differ)), *differ, sep="\n")
    return bool(differ)


if __name__ == "__main__":
    sys.exit(main())
