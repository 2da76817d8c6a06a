"""Kept conversations on the real demo model: what is cached after a restart, and that nobody gets what is another's."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import app
from serving.engine import choosing
from serving.engine.engine import ONLY_TEXT, Engine
from serving.engine.kept import Kept
from serving.engine.memory import KvMemory
from serving.engine.oga import OgaRuntime
from serving.engine.ort import OrtRuntime
from serving.engine.process import EngineProcess
from serving.engine.runtime import Runtime, Slot
from serving.engine.watch import Patience
from serving.errors import EngineStopped, InvalidRequest
from serving.flags import settings_from
from serving.folder import ModelFolder
from serving.types import (
    KEEP_BYTES,
    Completion,
    EngineSettings,
    Message,
    RuntimeName,
    SamplingOptions,
    TokenIds,
    complete,
)
from tests.isolation import differing
from tests.traffic import crowd

GREEDY = SamplingOptions(temperature=0.0, max_tokens=12, logprobs=0)
SYSTEM = Message("system", "You are a helpful assistant who knows all about foxes and about rain. " * 80)
MANY = 1 << 30
LIMIT = 60.0  # seconds in which whatever does not hang has ended, on a machine with other work too


@pytest.fixture
def keep(tmp_path: Path) -> Path:
    return tmp_path / "conversations"


@pytest.fixture
def batching(keep: Path) -> EngineSettings:
    return EngineSettings(runtime="ort", keep=str(keep))


def asked(engine: Engine | EngineProcess, *texts: str, system: Message = SYSTEM) -> Completion:
    roles = ("user", "assistant") * len(texts)
    talk = [system, *(Message(role, text) for role, text in zip(roles, texts, strict=False))]  # type: ignore[arg-type]
    return complete(engine.generate(talk, GREEDY))


def written(keep: Path) -> int:
    return len(list(keep.glob("*.kv")))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_after_a_restart_as_much_is_cached_as_before(exact_model: Path, batching: EngineSettings) -> None:
    """A system prompt, and a conversation behind it: to the token, asked for at once, without a moment of quiet."""
    with Engine.load(exact_model, batching) as engine:
        first = asked(engine, "tell me a story about a fox")
        follow_up = ("tell me a story about a fox", first.text, "and then?")
        before, other = asked(engine, *follow_up), asked(engine, "hi")
        again = asked(engine, "what is rain?")
    assert first.last.prompt_tokens > 1200 and first.last.cached_tokens == 0
    with Engine.load(exact_model, batching) as engine:
        after = asked(engine, *follow_up)
        assert after.last.cached_tokens >= before.last.cached_tokens > first.last.prompt_tokens
        assert after.token_ids == before.token_ids
        new = asked(engine, "what is rain?")
        assert new.last.cached_tokens >= again.last.cached_tokens and new.token_ids == again.token_ids
        assert asked(engine, "hi").token_ids == other.token_ids


@pytest.mark.parametrize("made", [OrtRuntime, OgaRuntime])
def test_a_runtime_has_kept_conversations_ready_before_anybody_asks(
    exact_model: Path, keep: Path, made: type[OrtRuntime] | type[OgaRuntime]
) -> None:
    """Those that can put keys and values back read them; others compute the last used conversations again."""

    def memory(runtime: Runtime) -> KvMemory:
        return KvMemory(runtime, runtime.kv_bytes_per_token * 8000, 4, 1, Kept(keep, MANY))

    runtime = made(ModelFolder.open(exact_model), None, 1)
    tokens = np.random.default_rng(0).integers(10, runtime.vocab_size, 700).astype(np.int32)
    first = memory(runtime)
    slot = first.slots[0]
    first.make_room(slot, 700)
    for begin in range(0, 700, 50):
        runtime.forward([(slot, tokens[begin : begin + 50])])
    slot.release()
    first.close()

    fresh = counting(made)(ModelFolder.open(exact_model), None, 1)
    fresh.passes = 0
    second = memory(fresh)
    while second.prepare():
        pass
    (held,) = [slot for slot in second.slots if slot.tokens]
    assert held.tokens == tokens.tolist()
    assert fresh.passes == (0 if made is OrtRuntime else -(-700 // 16))
    step = np.full(1, 11, np.int32)
    held.rewind(650)
    fresh.forward([(held, tokens[650:])])
    fresh.forward([(held, step)])
    expected = OgaRuntime(ModelFolder.open(exact_model), None, 1).all_logits(np.concatenate([tokens, step]))
    np.testing.assert_allclose(held.logits()[0], expected[-1], atol=1e-3)


def counting(made: type[OrtRuntime] | type[OgaRuntime]) -> type:
    class Counting(made):  # type: ignore[misc, valid-type]
        def forward(self, batch: object) -> None:
            self.passes = getattr(self, "passes", 0) + 1
            super().forward(batch)

    return Counting


def test_a_damaged_end_costs_what_was_in_it_and_no_more(
    exact_model: Path, batching: EngineSettings, keep: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Engine.load(exact_model, batching) as engine:
        before = asked(engine, "hi")
    last = max(keep.glob("*.kv"), key=lambda file: -file.stat().st_mtime_ns)
    content = bytearray(last.read_bytes())
    content[-100] ^= 1
    last.write_bytes(content)
    with Engine.load(exact_model, batching) as engine:
        after = asked(engine, "hi")
    assert before.last.prompt_tokens - 2 * 128 < after.last.cached_tokens < before.last.prompt_tokens
    assert after.token_ids == before.token_ids
    assert len([line for line in capfd.readouterr().err.splitlines() if "checksum" in line]) == 1


def test_another_model_and_another_runtime_use_nothing_of_it(
    exact_model: Path, batching: EngineSettings, tmp_path: Path
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(exact_model, changed)
    with Engine.load(exact_model, batching) as engine:
        asked(engine, "hi")
    with (changed / "model.onnx.data").open("r+b") as weights:
        weights.seek(-64, 2)
        weights.write(b"\1" * 64)
    for settings in (batching, replace(batching, deterministic=True)):
        folder = changed if settings is batching else exact_model
        with Engine.load(folder, settings) as engine:
            assert asked(engine, "hi").last.cached_tokens == 0
    with Engine.load(exact_model, batching) as engine:
        assert asked(engine, "hi").last.cached_tokens > 1200


@pytest.mark.parametrize("runtime", ["oga", "ort"])
def test_restarts_among_many_conversations_mix_nothing_up(
    exact_model: Path, keep: Path, runtime: RuntimeName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same people come again after each restart, on a limit that holds a part of what they say."""
    read: list[int] = []
    load = Kept.load

    def counted(self: Kept, slot: Slot, tokens: TokenIds) -> bool:
        held = len(slot.tokens)
        found = load(self, slot, tokens)
        read.append(len(slot.tokens) - held)
        return found

    monkeypatch.setattr(Kept, "load", counted)
    settings = EngineSettings(runtime=runtime, slots=6, parallel=3, keep=str(keep), keep_bytes=12 << 20)
    everything = []
    for _ in range(3):
        with Engine.load(exact_model, settings) as engine:
            everything += crowd(engine, people=4, conversations=3, requests=24)
        assert 0 < sum(file.stat().st_size for file in keep.glob("*.kv")) <= 12 << 20
    assert (sum(read) > 300) == (runtime == "ort"), sum(read)
    assert not differing(exact_model, everything)


# Processes


@pytest.fixture
def started(demo_model: Path) -> Iterator[Callable[[EngineSettings], EngineProcess]]:
    open_ones: list[EngineProcess] = []

    def start(settings: EngineSettings) -> EngineProcess:
        open_ones.append(EngineProcess.load(demo_model, settings, patience=Patience(tick=0.05)))
        return open_ones[-1]

    yield start
    for one in open_ones:
        one.close()


def test_what_was_said_last_is_kept_when_the_program_ends(
    started: Callable[[EngineSettings], EngineProcess], batching: EngineSettings
) -> None:
    """Also of an answer that is cut off by it: until then nobody was without a question, and nothing was written."""
    engine = started(batching)
    endless = SamplingOptions(temperature=0.0, max_tokens=500, ignore_eos=True)
    with closing(engine.generate([SYSTEM, Message("user", "hi")], endless)) as stream:  # type: ignore[type-var]
        begun = next(chunk for chunk in stream if chunk.completion_tokens)
        engine.close()
        with pytest.raises(EngineStopped, match="closed"):
            list(stream)
    assert asked(started(batching), "hi").last.cached_tokens == begun.prompt_tokens - 1


def test_a_process_that_is_killed_leaves_what_it_had_written(
    started: Callable[[EngineSettings], EngineProcess], batching: EngineSettings, keep: Path
) -> None:
    engine = started(batching)
    first = asked(engine, "hi")
    until(lambda: written(keep) > first.last.prompt_tokens // 128)  # while nobody asks
    assert engine.pid
    os.kill(engine.pid, getattr(signal, "SIGKILL", 9))
    assert asked(started(batching), "hi").last.cached_tokens >= first.last.prompt_tokens - 1


def test_unloading_keeps_them_too(
    started: Callable[[EngineSettings], EngineProcess], batching: EngineSettings, keep: Path
) -> None:
    engine = started(replace(batching, idle_unload=0.3 / 60))
    first = asked(engine, "hi")
    until(lambda: engine.pid is None and written(keep) > first.last.prompt_tokens // 128)
    assert asked(engine, "hi").last.cached_tokens == first.last.prompt_tokens - 1


def test_nothing_is_written_unless_it_is_asked_for(
    demo_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for variable in ("HOME", "OGA_CHAT_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR"):
        monkeypatch.setenv(variable, str(home))
    with EngineProcess.load(demo_model, EngineSettings(runtime="ort")) as engine:
        asked(engine, "hi")
    assert not list(home.rglob("*.kv")) and not list(demo_model.parent.rglob("*.kv"))


# What is asked for


def test_the_flag_says_where_and_how_much(tmp_path: Path) -> None:
    def settings(*arguments: str) -> EngineSettings:
        return settings_from(app.parser().parse_args(arguments), tmp_path)

    assert settings().keep is None
    asked_for = settings("--keep-conversations")
    assert asked_for.keep == str(tmp_path / ".cache" / "conversations") and asked_for.keep_bytes == KEEP_BYTES
    assert settings("--keep-conversations", "300M").keep_bytes == 300 << 20
    for arguments in (("--keep-conversations", "0"), ("--keep-conversations", "--replicas", "2")):
        with pytest.raises(InvalidRequest, match="--keep-conversations"):
            settings(*arguments)


def test_auto_takes_the_runtime_that_can_keep_keys_and_values(exact_model: Path, batching: EngineSettings) -> None:
    folder = ModelFolder.open(exact_model)
    assert isinstance(choosing.load_runtime(folder, replace(batching, runtime="auto")), OrtRuntime)
    assert isinstance(choosing.load_runtime(folder, replace(batching, runtime="auto", keep=None)), OgaRuntime)


def test_the_start_says_what_cannot_be_kept(exact_model: Path, batching: EngineSettings) -> None:
    with Engine.load(exact_model, replace(batching, runtime="oga")) as engine:
        assert ONLY_TEXT in engine.notes
    with Engine.load(exact_model, batching) as engine:
        assert ONLY_TEXT not in engine.notes


def test_a_place_that_cannot_be_used_is_refused_at_the_start(demo_model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(json.dumps({}))
    with pytest.raises(InvalidRequest, match="name another --models-dir"):
        EngineProcess.load(demo_model, EngineSettings(keep=str(tmp_path / "file" / "conversations")))
