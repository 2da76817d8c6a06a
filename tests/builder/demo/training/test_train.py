"""Training at toy size: it runs, it resumes, it repeats itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from builder.demo.training import model, shards, train
from builder.demo.training.drills import Drills
from builder.demo.training.tokens import END_OF_TEXT_ID, IM_END_ID, IM_START_ID

TOY = train.Plan(
    steps=12, rows=2, length=128, layers=1, hidden=128, intermediate=128, vocabulary=600, tokenizer_samples=200,
    shard_steps=4, workers=0, save_minutes=0.0,
)  # fmt: skip


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def trained(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train.train(TOY, tmp_path_factory.mktemp("trained"))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_it_ends_with_a_folder_that_transformers_loads(trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    net = AutoModelForCausalLM.from_pretrained(trained)
    assert net.dtype == torch.float16
    assert net.config.vocab_size == len(tokenizer) == 600
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert "12 steps" in (trained / "MODEL_CARD.md").read_text()


def test_it_learns(trained: Path) -> None:
    fresh = model.new_model(model.config(1, 128, 128, 600), seed=1, device="cpu")
    net = AutoModelForCausalLM.from_pretrained(trained, dtype=torch.float32)
    rows = shards.shard((trained / "tokenizer.json").read_text(), 9, 0, 4, 128)
    ids = torch.from_numpy(rows.astype(np.int64))
    assistant = AutoTokenizer.from_pretrained(trained).convert_tokens_to_ids("assistant")
    assert model.loss_of(net, ids, assistant) < model.loss_of(fresh, ids, assistant) - 0.5


def test_another_seed_gives_other_weights(trained: Path, tmp_path: Path) -> None:
    other = weights(train.train(replace(TOY, seed=2, steps=2), tmp_path))
    assert not torch.equal(other["model.norm.weight"], weights(trained)["model.norm.weight"])


def test_the_same_plan_gives_the_same_weights_though_it_was_interrupted(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    loss_of = model.loss_of

    def stops_at_six(*args: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise Stopped
        return loss_of(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "loss_of", stops_at_six)
    with pytest.raises(Stopped):
        train.train(TOY, tmp_path)
    resumed = weights(train.train(TOY, tmp_path))
    assert calls == 6 + 7
    assert all(torch.equal(resumed[name], weight) for name, weight in weights(trained).items())


def test_a_second_stage_begins_with_the_weights_of_the_first(trained: Path, tmp_path: Path) -> None:
    plan = replace(TOY, steps=1, rate=0.0, drills=Drills(0.3, 0.3))
    second = weights(train.train(plan, tmp_path, start=trained))
    assert all(torch.equal(second[name], weight) for name, weight in weights(trained).items())


def test_an_averaged_stage_ends_half_way(trained: Path, tmp_path: Path) -> None:
    plan = replace(TOY, steps=2, seed=3)
    whole = weights(train.train(plan, tmp_path / "whole", start=trained))
    half = weights(train.train(replace(plan, average=True), tmp_path / "half", start=trained))
    for name, weight in weights(trained).items():
        assert torch.allclose(half[name].float(), (weight.float() + whole[name].float()) / 2, atol=1e-3)
    assert not torch.equal(half["model.norm.weight"], whole["model.norm.weight"])


def test_only_assistant_turns_count_fully() -> None:
    assistant, user, newline, word = 10, 11, 12, 13
    turn = [IM_START_ID, user, newline, word, IM_END_ID, newline]
    reply = [IM_START_ID, assistant, newline, word, word, IM_END_ID, newline]
    found = model.target_weights(torch.tensor([[*turn, *reply, END_OF_TEXT_ID]]), assistant)[0].tolist()
    low = pytest.approx(model.BACKGROUND_WEIGHT)
    assert found == [low] * 6 + [low] * 3 + [1.0] * 3 + [low] * 2


def test_rows_hold_whole_chats_and_waste_little() -> None:
    chats = iter([[5] * n + [END_OF_TEXT_ID] for n in list(range(1, 60)) * 40])
    rows = shards.pack(chats, 20, 128)
    assert rows.shape == (20, 128)
    assert (rows[:, 0] == 5).all()
    assert (rows == 5).mean() > 0.9


def test_a_chat_longer_than_a_row_loses_its_end() -> None:
    rows = shards.pack(iter([[5] * 300] * 200), 2, 128)
    assert (rows == 5).all()
