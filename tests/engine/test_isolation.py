"""No conversation can see another's: crowds of them, on few slots, against engines that hold nothing else."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from serving.engine.engine import Engine
from serving.engine.oga import OgaRuntime, OgaSlot
from serving.folder import ModelFolder
from serving.text.prompt import Prompt
from serving.types import EngineSettings, RuntimeName, TokenIds
from tests.isolation import differing, talk
from tests.traffic import crowd

FEW = {"slots": 8, "parallel": 3}  # for 20 conversations


@pytest.mark.parametrize("runtime", ["oga", "ort"], ids=["taking turns", "in one batch"])
def test_120_requests_of_20_conversations_are_answered_as_by_fresh_engines(
    exact_model: Path, runtime: RuntimeName
) -> None:
    with Engine.load(exact_model, EngineSettings(runtime=runtime, **FEW)) as engine:
        asked = crowd(engine, people=5, conversations=4, requests=120)
    assert not differing(exact_model, asked)
    last = [one.chunks[-1] for one in asked]
    assert len(asked) == 120
    assert sum(one.stopped for one in asked) > 8
    assert sum(one.options.temperature > 0 for one in asked) > 20
    # Conversations were continued, and given up: neither all of them were cached, nor none.
    follow_ups = [chunk for one, chunk in zip(asked, last, strict=True) if len(one.messages) > 2]
    begun_anew = [chunk for chunk in follow_ups if chunk.cached_tokens < chunk.prompt_tokens / 2]
    assert 8 < len(begun_anew) < len(follow_ups) - 8


@pytest.mark.parametrize("runtime", ["oga", "ort"], ids=["generators", "rows"])
def test_deterministic_answers_at_the_served_level_are_those_of_fresh_engines(
    demo_model: Path, runtime: RuntimeName
) -> None:
    """At int8 activations the shape of a forward pass decides its rounding, so an even one is needed every time."""
    with Engine.load(demo_model, EngineSettings(runtime=runtime, deterministic=True, **FEW)) as engine:
        asked = crowd(engine, people=5, conversations=4, requests=60)
    assert not differing(demo_model, asked, deterministic=True)


def test_at_the_served_level_every_logit_is_that_of_a_fresh_generator_with_the_same_passes(demo_model: Path) -> None:
    runtime = RecordingRuntime(ModelFolder.open(demo_model), None, 2)
    with Engine(runtime, Prompt.load(demo_model), EngineSettings(**FEW)) as engine:
        crowd(engine, people=5, conversations=4, requests=100)
        lives = [life for slot in runtime.slots for life in (*slot.lives, slot.life)]
    passes = rewinds = 0
    for life in lives:
        fresh = OgaSlot(0, runtime)
        fresh.reserve(1024)
        for tokens, kept, digest in life:
            if kept < len(fresh.tokens):
                rewinds += 1
                fresh.rewind(kept)
            fresh.append(tokens)
            assert digest_of(fresh) == digest
            passes += 1
    assert passes > 500 and rewinds > 25 and len(lives) > 6


def digest_of(slot: OgaSlot) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(slot.logits(1)).tobytes()).digest()


class RecordingRuntime(OgaRuntime):
    """The real one, with slots that remember."""

    def slot(self, index: int) -> OgaSlot:
        self.slots = [*getattr(self, "slots", []), RecordingSlot(index, self)]
        return self.slots[-1]


class RecordingSlot(OgaSlot):
    """Remembers every pass since its Generator was made: the tokens, after how many, and what came out."""

    def __init__(self, index: int, runtime: OgaRuntime) -> None:
        super().__init__(index, runtime)
        self.life: list[tuple[TokenIds, int, bytes]] = []
        self.lives: list[list[tuple[TokenIds, int, bytes]]] = []

    def drop(self) -> None:
        super().drop()
        self.lives.append(self.life)
        self.life = []

    def append(self, tokens: TokenIds) -> None:
        held = len(self.tokens)
        super().append(tokens)
        self.life.append((tokens.copy(), held, digest_of(self)))


def test_nothing_is_mixed_up_with_all_of_it_on(exact_model: Path, tmp_path: Path) -> None:
    """Two models on one server, conversations that are kept, unloading, kills, and starts in between."""
    other = tmp_path / "other"
    with_another_norm(exact_model, other)
    found = talk((exact_model, other), tmp_path / "conversations", requests=72, seed=1)
    for folder, asked in found.asked.items():
        assert not differing(folder, asked)
    assert len(found.requests) == 72
    assert differing(exact_model, found.asked[other])  # models that answer alike would prove nothing
    assert found.waited > 6 and found.cached > 24 and found.kills > 1 and found.again > 1


def with_another_norm(model: Path, folder: Path) -> None:
    """Another model: the same, with other gains in its first norm, so that all keys and values differ."""
    shutil.copytree(model, folder)
    graph = onnx.load(folder / "model.onnx")
    norm = next(tensor for tensor in graph.graph.initializer if "layers.0.input_layernorm" in tensor.name)
    gains = onnx.numpy_helper.to_array(norm)
    changed = gains * np.random.default_rng(0).uniform(0.7, 1.3, gains.shape).astype(gains.dtype)
    norm.CopyFrom(onnx.numpy_helper.from_array(changed, norm.name))
    onnx.save(graph, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data")
