"""Log-probabilities of a prompt's own tokens: those of one forward pass over all of it, however they came about."""

from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import onnxruntime as ort
import pytest

from serving.engine.engine import Engine
from serving.engine.wire import is_last
from serving.errors import InvalidRequest
from serving.folder import ModelFolder
from serving.text.prompt import Prompt
from serving.types import Chunk, EngineSettings, SamplingOptions, TokenIds, never
from tests.scripted import ScriptedGenerator, ScriptedRuntime

SCORED = SamplingOptions(temperature=0.0, max_tokens=3, prompt_logprobs=3)
TAKING_TURNS, BATCHING = EngineSettings(slots=2), EngineSettings(slots=2, runtime="ort")


def whole_pass(path: Path, tokens: TokenIds) -> np.ndarray:
    """Log-probabilities [n, vocab] after each token, by ONNX Runtime alone, in one pass."""
    folder = ModelFolder.open(path)
    session = ort.InferenceSession(str(folder.graph), providers=["CPUExecutionProvider"])
    feeds = {"input_ids": tokens[None].astype(np.int64), "attention_mask": np.ones((1, tokens.size), dtype=np.int64)}
    for entry in session.get_inputs():
        if entry.name.startswith("past_key_values"):
            feeds[entry.name] = np.zeros((1, entry.shape[1], 0, folder.head_size), dtype=np.float32)
    (logits,) = session.run(["logits"], feeds)
    shifted = logits[0].astype(np.float64) - logits[0].max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def asked(engine: Engine, tokens: TokenIds, options: SamplingOptions) -> list[Chunk]:
    """All chunks of an answer."""
    batches: SimpleQueue = SimpleQueue()
    engine.submit(tokens, options, never, batches.put)
    chunks: list[Chunk] = []
    while not chunks or chunks[-1].finish_reason is None:
        batch = batches.get(timeout=60)
        if isinstance(batch, Exception):
            raise batch
        chunks += batch
    assert is_last(chunks)
    return chunks


def of_prompt(chunks: list[Chunk]) -> list[Chunk]:
    return [chunk for chunk in chunks if chunk.kind == "prompt"]


def random_tokens(engine: Engine, n: int) -> TokenIds:
    return np.random.default_rng(n).integers(10, engine.folder.vocab_size, n).astype(np.int32)


@pytest.mark.parametrize("settings", [TAKING_TURNS, BATCHING], ids=["taking turns", "batching"])
@pytest.mark.parametrize("model", ["exact_model", "demo_model"])
def test_they_are_those_of_one_pass_however_the_prompt_is_cut_and_whatever_is_cached(
    model: str, settings: EngineSettings, request: pytest.FixtureRequest
) -> None:
    """Prompts of several chunks, of an even and an odd number of tokens, and of one; first unknown, then cached."""
    path = request.getfixturevalue(model)
    with Engine.load(path, settings) as engine:
        for n in (1, 2, 64, 65, 201):
            tokens = random_tokens(engine, n)
            expected = whole_pass(path, tokens)
            for _ in range(2):
                asked(engine, tokens, replace(SCORED, prompt_logprobs=None))
                chunks = asked(engine, tokens, SCORED)
                found = of_prompt(chunks)
                assert chunks[-1].cached_tokens == 0
                assert [chunk.token_id for chunk in found] == tokens.tolist()
                assert (found[0].logprob, found[0].top) == (None, ())
                following = expected[np.arange(n - 1), tokens[1:]]
                np.testing.assert_allclose([chunk.logprob for chunk in found[1:]], following, atol=2e-4)
                for chunk, row in zip(found[1:], expected, strict=False):
                    best = np.sort(row)[::-1][:3]
                    np.testing.assert_allclose([logprob for _, logprob in chunk.top], best, atol=2e-4)


def test_the_answer_is_what_it_is_without_and_the_prompt_is_cached_for_the_next(exact_model: Path) -> None:
    with Engine.load(exact_model, TAKING_TURNS) as engine:
        tokens = random_tokens(engine, 100)
        chunks = asked(engine, tokens, SCORED)
        plain = asked(engine, tokens, replace(SCORED, prompt_logprobs=None))
    assert plain[-1].cached_tokens == 99 and not of_prompt(plain)
    answers = [
        [c.token_id for c in found if c.kind == "answer" and c.token_id is not None] for found in (chunks, plain)
    ]
    assert answers[0] == answers[1] and len(answers[0]) == chunks[-1].completion_tokens > 0


def test_a_prompt_that_is_only_read_has_no_answer(exact_model: Path) -> None:
    with Engine.load(exact_model, TAKING_TURNS) as engine:
        tokens = random_tokens(engine, 130)
        chunks = asked(engine, tokens, replace(SCORED, max_tokens=0))
    assert [chunk.token_id for chunk in chunks if chunk.token_id is not None] == tokens.tolist()
    assert (chunks[-1].finish_reason, chunks[-1].completion_tokens) == ("length", 0)


def test_scoring_throws_no_conversation_away_that_was_used_later(prompt: Prompt, scripted: ScriptedRuntime) -> None:
    with Engine(scripted, prompt, EngineSettings(slots=2, guess=False)) as engine:
        old, new = (np.full(40, 20 + n, dtype=np.int32) for n in range(2))
        for tokens in (old, new):
            asked(engine, tokens, replace(SCORED, prompt_logprobs=None))
        asked(engine, new, SCORED)
        again = asked(engine, new, replace(SCORED, prompt_logprobs=None))
    assert again[-1].cached_tokens == 39


def test_a_graph_that_gives_the_last_logits_only_is_named(
    prompt: Prompt, scripted: ScriptedRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ScriptedGenerator.get_output
    monkeypatch.setattr(ScriptedGenerator, "get_output", lambda self, name: whole(self, name)[:, -1:])
    with Engine(scripted, prompt) as engine, pytest.raises(InvalidRequest, match="prune_lm_head"):
        asked(engine, np.arange(20, 40, dtype=np.int32), SCORED)
