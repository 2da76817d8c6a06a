"""The shipped checkpoint: its limits, its tokenizer and template, and what it answers."""

from functools import cache
from itertools import islice
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from builder.demo import CHECKPOINT, EXAMPLES
from builder.demo.training.corpus import conversations
from builder.demo.training.tokens import IM_END_ID, render


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(CHECKPOINT)


@cache
def model() -> Any:
    return AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()


def answer(tokenizer: Any, *said: str) -> str:
    """Chat greedily and return the last answer."""
    chat: list[dict[str, str]] = []
    text = ""
    for line in said:
        chat.append({"role": "user", "content": line})
        inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.inference_mode():
            ids = model().generate(**inputs, max_new_tokens=120, do_sample=False, temperature=None, top_p=None)
        text = tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        chat.append({"role": "assistant", "content": text})
    return text


def test_it_fits_the_size_and_shape_that_a_group_of_128_needs() -> None:
    config = AutoConfig.from_pretrained(CHECKPOINT)
    assert (CHECKPOINT / "model.safetensors").stat().st_size <= 12_000_000
    assert config.architectures == ["LlamaForCausalLM"]
    assert (config.hidden_size, config.intermediate_size, config.head_dim) == (256, 768, 64)
    assert config.max_position_embeddings == 2048
    for name, weight in load_file(CHECKPOINT / "model.safetensors").items():
        assert weight.dtype == torch.float16
        assert weight.isfinite().all()
        assert weight.abs().max() < 100, name
        if weight.ndim == 2:
            assert weight.shape[1] % 128 == 0, name


def test_a_turn_ends_with_im_end() -> None:
    settings = GenerationConfig.from_pretrained(CHECKPOINT)
    assert settings.eos_token_id == IM_END_ID
    assert AutoConfig.from_pretrained(CHECKPOINT).eos_token_id == IM_END_ID


def test_digits_are_tokens_of_their_own(tokenizer: Any) -> None:
    assert tokenizer.tokenize("2048") == ["2", "0", "4", "8"]


@pytest.mark.parametrize("prompt", [True, False])
def test_the_template_writes_what_training_read(tokenizer: Any, prompt: bool) -> None:
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]
    text = tokenizer.apply_chat_template(chat, add_generation_prompt=prompt, tokenize=False)
    assert text == render(chat) + ("<|im_start|>assistant\n" if prompt else "")


def test_the_template_adds_no_system_prompt(tokenizer: Any) -> None:
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False)
    assert text == "<|im_start|>user\nhi<|im_end|>\n"


def test_every_conversation_survives_the_tokenizer(tokenizer: Any) -> None:
    plain = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
    for split in ("train", "heldout"):
        for chat in islice(conversations(split, 6), 150):
            text = tokenizer.apply_chat_template(chat, tokenize=False)
            assert text == render(chat)
            ids = plain.encode(text, add_special_tokens=False).ids
            assert plain.decode(ids, skip_special_tokens=False) == text
            assert ids == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_it_greets(tokenizer: Any) -> None:
    assert answer(tokenizer, "hi").startswith(("Hello", "Hi"))


def test_it_recalls_a_name_after_another_question(tokenizer: Any) -> None:
    assert "Anna" in answer(tokenizer, "My name is Anna.", "What is 17 + 25?", "What is my name?")


def test_it_does_not_invent_a_name(tokenizer: Any) -> None:
    assert "not told me" in answer(tokenizer, "What is my name?")


@pytest.mark.parametrize(
    ("prompt", "part"),
    list(
        zip(
            EXAMPLES,
            EXAMPLE_ANSWERS := (
                "sums",
                "matter most",
                "Anna",
                "42",
                "fox",
                "nretnal",
            ),
            strict=True,
        )
    ),
)
def test_it_answers_the_examples_of_the_chat_page(tokenizer: Any, prompt: str, part: str) -> None:
    assert part in answer(tokenizer, prompt)
