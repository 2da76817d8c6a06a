"""Text becomes token blocks, to calibrate on and to measure with, or a clear error says why not."""

import argparse
import json
from dataclasses import astuple
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from builder import demo
from builder.checkpoint.source import Source
from builder.errors import CalibrationError, SourceError
from builder.flags import add_build_flags, recipe_from
from builder.recipe import CHATS, HELDOUT, ExportTarget, QuantRecipe, recipe_hash
from builder.stages.calibration import Blocks
from builder.stages.datasets import _PIECE
from tests.builder.stages.texts import HELD, blocks_of, encode, render, write_text


@pytest.mark.parametrize(("sequences", "length"), [(1, 16), (5, 100)])
def test_blocks_have_the_recipes_shape_and_held_out_text_always_its_own(sequences: int, length: int) -> None:
    blocks = blocks_of(demo.CHECKPOINT, QuantRecipe(dataset="demo", num_calib_data=sequences, seq_len=length))
    assert blocks.calibration.shape == (sequences, length)
    assert (blocks.heldout.shape, blocks.chats.shape) == (HELDOUT, CHATS)
    assert blocks.calibration.dtype == blocks.heldout.dtype == blocks.chats.dtype == np.int64


def test_tokens_are_of_the_vocabulary_and_the_text_is_a_chat(tokenizer: Tokenizer) -> None:
    blocks = blocks_of(demo.CHECKPOINT, QuantRecipe(dataset="demo", num_calib_data=4, seq_len=128))
    for block in (blocks.calibration, blocks.heldout, blocks.chats):
        assert 0 <= block.min() <= block.max() < tokenizer.get_vocab_size()
        assert "user" in tokenizer.decode(block[0].tolist(), skip_special_tokens=False)


def test_the_same_recipe_gives_the_same_blocks() -> None:
    recipe = QuantRecipe(dataset="demo", num_calib_data=2, seq_len=64)
    assert same(blocks_of(demo.CHECKPOINT, recipe), blocks_of(demo.CHECKPOINT, recipe))


def same(one: Blocks, other: Blocks) -> bool:
    return all(np.array_equal(*pair) for pair in zip(astuple(one), astuple(other), strict=True))


def test_every_recipe_is_measured_on_the_same_text_of_the_demo() -> None:
    small = blocks_of(demo.CHECKPOINT, QuantRecipe(dataset="demo", num_calib_data=1, seq_len=16))
    large = blocks_of(demo.CHECKPOINT, QuantRecipe(dataset="demo", num_calib_data=32, seq_len=256))
    assert np.array_equal(small.heldout, large.heldout)
    assert np.array_equal(small.chats, large.chats)


def test_the_demo_is_calibrated_on_wordings_of_its_training_and_measured_on_held_out_ones(tokenizer: Tokenizer) -> None:
    blocks = blocks_of(demo.CHECKPOINT, QuantRecipe(dataset="demo", num_calib_data=32, seq_len=128))
    calibrated, measured = (tokenizer.decode(block.ravel().tolist()) for block in (blocks.calibration, blocks.heldout))
    assert all(content in calibrated for content in first_chats("train"))
    assert all(content in measured for content in first_chats("heldout"))
    assert first_chats("train") != first_chats("heldout")


def first_chats(split: demo.Split) -> list[str]:
    """What is said in the demo's first chats."""
    return [message["content"] for chat in islice(demo.conversations(split), 3) for message in chat]


def test_the_demo_is_measured_on_twice_as_many_conversations_not_twice_on_the_same(tokenizer: Tokenizer) -> None:
    blocks = blocks_of(demo.CHECKPOINT, QuantRecipe(dataset="demo", num_calib_data=1, seq_len=16))
    rendered = render(demo.conversations("heldout"), demo.CHECKPOINT)
    ids = list(islice((id for text in rendered for id in encode(tokenizer, text)), 2 * HELD))
    assert blocks.heldout.ravel().tolist() == ids[:HELD]
    assert blocks.chats.ravel().tolist() == ids[HELD:]


def test_a_text_file_is_calibrated_on_from_its_start_and_measured_on_what_follows(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    text = write_text(tmp_path / "mine.txt")
    recipe = QuantRecipe(dataset=str(tmp_path / "mine.txt"), num_calib_data=3, seq_len=50)
    blocks = blocks_of(demo.CHECKPOINT, recipe)
    expected = encode(tokenizer, text)
    assert blocks.calibration.ravel().tolist() == expected[:150]
    assert blocks.heldout.ravel().tolist() == expected[150 : 150 + HELD]
    assert blocks.dataset == recipe.dataset


def test_whatever_the_data_set_the_chats_are_of_the_held_out_split_in_the_models_own_words(
    checkpoint: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    write_text(tmp_path / "mine.md")
    own = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    (checkpoint / "chat_template.jinja").write_text(own)
    blocks = blocks_of(checkpoint, QuantRecipe(dataset=str(tmp_path / "mine.md"), num_calib_data=1, seq_len=16))
    rendered = "".join(islice(render(demo.conversations("heldout"), checkpoint), 60))
    assert blocks.chats.shape == CHATS
    assert rendered.startswith(tokenizer.decode(blocks.chats.ravel().tolist(), skip_special_tokens=False)[:5000])


def test_conversations_that_a_template_refuses_are_left_out(checkpoint: Path, tokenizer: Tokenizer) -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system message') }}{% endif %}"
    template = checkpoint / "chat_template.jinja"
    template.write_text(refusing + template.read_text(encoding="utf-8"), encoding="utf-8")
    takes_all, takes_some = (
        blocks_of(folder, QuantRecipe(dataset="demo", num_calib_data=16, seq_len=256))
        for folder in (demo.CHECKPOINT, checkpoint)
    )
    for part in ("calibration", "heldout", "chats"):
        everything, taken = (
            tokenizer.decode(getattr(blocks, part).ravel().tolist(), skip_special_tokens=False)
            for blocks in (takes_all, takes_some)
        )
        assert "<|im_start|>system" in everything
        assert "<|im_start|>system" not in taken


def test_a_model_whose_template_takes_no_conversation_is_measured_on_text_alone(
    checkpoint: Path, tmp_path: Path
) -> None:
    write_text(tmp_path / "mine.txt")
    (checkpoint / "chat_template.jinja").write_text("{{ raise_exception('not for talk') }}")
    blocks = blocks_of(checkpoint, QuantRecipe(dataset=str(tmp_path / "mine.txt"), num_calib_data=1, seq_len=16))
    assert blocks.chats.shape == (0, CHATS[1])
    assert blocks.heldout.shape == HELDOUT


def test_a_model_whose_template_takes_few_conversations_is_measured_on_fewer_sequences(
    checkpoint: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    write_text(tmp_path / "mine.txt")
    template = (checkpoint / "chat_template.jinja").read_text(encoding="utf-8")
    picky = "{% if messages | length < 44 %}{{ raise_exception('too short a talk') }}{% endif %}"
    (checkpoint / "chat_template.jinja").write_text(picky + template, encoding="utf-8")
    blocks = blocks_of(checkpoint, QuantRecipe(dataset=str(tmp_path / "mine.txt"), num_calib_data=1, seq_len=16))
    taken = render((chat for chat in demo.conversations("heldout") if len(chat) >= 44), demo.CHECKPOINT)
    ids = [id for text in taken for id in encode(tokenizer, text)]
    assert CHATS[1] < len(ids) < CHATS[0] * CHATS[1], "the test would show nothing"
    assert blocks.chats.shape == (len(ids) // CHATS[1], CHATS[1])
    assert blocks.chats.ravel().tolist() == ids[: blocks.chats.size]


def test_the_demos_conversations_come_to_an_end(checkpoint: Path) -> None:
    with pytest.raises(CalibrationError, match="data set 'demo' is too short: 512 sequences of 512 tokens"):
        blocks_of(checkpoint, QuantRecipe(dataset="demo", num_calib_data=512))


def test_no_more_text_is_read_than_is_needed(tmp_path: Path) -> None:
    text = write_text(tmp_path / "long.txt", 20_000)
    with (tmp_path / "long.txt").open("ab") as file:
        file.write(b"\xff")
    assert len(text) > 500_000
    blocks_of(demo.CHECKPOINT, QuantRecipe(dataset=str(tmp_path / "long.txt"), num_calib_data=1, seq_len=16))


def test_a_document_begins_as_the_tokenizer_begins_a_text_and_a_conversation_as_its_template_says(
    checkpoint: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    begins = Tokenizer.from_str(tokenizer.to_str())
    first = begins.id_to_token(0)
    begins.post_processor = TemplateProcessing(single=f"{first} $A", special_tokens=[(first, 0)])
    begins.save(str(checkpoint / "tokenizer.json"))
    chat = [{"role": "user", "content": "Hi"}]
    lines = [{"text": "One."}, {"messages": chat}, {"text": "Two."}] * 500
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    text = write_text(tmp_path / "mine.txt", 10_000)

    def calibration(name: str, sequences: int) -> list[int]:
        recipe = QuantRecipe(dataset=str(tmp_path / name), num_calib_data=sequences, seq_len=64)
        return blocks_of(checkpoint, recipe).calibration.ravel().tolist()

    one, two = ([0, *encode(tokenizer, word)] for word in ("One.", "Two."))
    talk = [id for text in render([chat], demo.CHECKPOINT) for id in encode(tokenizer, text)]
    assert calibration("mine.jsonl", 1) == ((one + talk + two) * 20)[:64]
    ids = calibration("mine.txt", 1000)
    assert len(text) > len(tokenizer.decode(ids)) > _PIECE + 1000, "the test would show nothing"
    assert [place for place, id in enumerate(ids) if id == 0] == [0]


def recipe_of(*flags: str) -> QuantRecipe:
    """What the command line means for a model on the Hub."""
    parser = argparse.ArgumentParser()
    add_build_flags(parser)
    return recipe_from(parser.parse_args(flags), Source("hub", "acme/chat", "acme--chat"))


def test_an_edited_file_is_another_recipe_also_where_it_only_may_stand_in(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    for flags in (["--dataset", str(file)], ["--fallback-dataset", str(file)]):
        file.write_text("one")
        before = recipe_of(*flags)
        assert recipe_of(*flags) == before
        file.write_text("two")
        assert recipe_hash(recipe_of(*flags), ExportTarget()) != recipe_hash(before, ExportTarget())
        file.unlink()
        with pytest.raises(CalibrationError, match="nor a readable UTF-8 text file"):
            recipe_of(*flags)


def test_a_fallback_that_cannot_be_needed_is_no_part_of_the_recipe(tmp_path: Path) -> None:
    for needless in ("offline", str(tmp_path / "none.txt")):
        assert recipe_of("--dataset", "demo", "--fallback-dataset", needless) == recipe_of("--dataset", "demo")
    assert recipe_of("--fallback-dataset", "offline").fallback_dataset == "offline"
    assert recipe_of().fallback_dataset == ""


@pytest.mark.parametrize("held", [0, 10, 128, 128 + HELD - 1])
def test_too_little_text_says_how_much_there_is_and_how_much_is_needed(
    checkpoint: Path, tmp_path: Path, held: int
) -> None:
    one_token_per_word(checkpoint)
    (tmp_path / "short.txt").write_text("word " * held)
    with pytest.raises(CalibrationError) as refused:
        blocks_of(checkpoint, QuantRecipe(dataset=str(tmp_path / "short.txt"), num_calib_data=2, seq_len=64))
    message = str(refused.value)
    assert "short.txt' is too short: 2 sequences of 64 tokens to calibrate on and 4 of 512 to measure with" in message
    assert f"need {128 + HELD} tokens, and it has {held}." in message
    assert "--num-calib-data or --seq-len" in message


def test_just_enough_text_is_enough(checkpoint: Path, tmp_path: Path) -> None:
    one_token_per_word(checkpoint)
    (tmp_path / "enough.txt").write_text("word " * (128 + HELD))
    recipe = QuantRecipe(dataset=str(tmp_path / "enough.txt"), num_calib_data=2, seq_len=64)
    blocks = blocks_of(checkpoint, recipe)
    assert (blocks.calibration.size, blocks.heldout.size) == (128, HELD)


def one_token_per_word(checkpoint: Path) -> None:
    """Give the checkpoint a tokenizer whose tokens can be counted by eye."""
    tokenizer = {
        "version": "1.0",
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {"type": "WordLevel", "vocab": {"word": 0, "?": 1}, "unk_token": "?"},
    }
    (checkpoint / "tokenizer.json").write_text(json.dumps(tokenizer))


def test_a_tokenizer_that_cuts_or_pads_text_does_neither_here(checkpoint: Path, tokenizer: Tokenizer) -> None:
    recipe = QuantRecipe(dataset="demo", num_calib_data=2, seq_len=64)
    changed = Tokenizer.from_str(tokenizer.to_str())
    changed.enable_truncation(5)
    changed.enable_padding(length=40)
    changed.save(str(checkpoint / "tokenizer.json"))
    assert same(blocks_of(checkpoint, recipe), blocks_of(demo.CHECKPOINT, recipe))


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff"])
def test_a_tokenizer_that_cannot_be_read_is_named(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "tokenizer.json").write_bytes(content)
    with pytest.raises(SourceError, match=r"tokenizer\.json cannot be read"):
        blocks_of(checkpoint, QuantRecipe(dataset="demo"))


def test_the_demos_chats_are_rendered_by_a_template_wherever_it_lies(checkpoint: Path) -> None:
    recipe = QuantRecipe(dataset="demo", num_calib_data=2, seq_len=64)
    expected = blocks_of(demo.CHECKPOINT, recipe)
    template = (checkpoint / "chat_template.jinja").read_text(encoding="utf-8")
    (checkpoint / "chat_template.jinja").unlink()
    config = json.loads((checkpoint / "tokenizer_config.json").read_text(encoding="utf-8"))
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    assert same(blocks_of(checkpoint, recipe), expected)


def test_a_template_is_given_the_models_special_tokens(checkpoint: Path, tokenizer: Tokenizer) -> None:
    (checkpoint / "chat_template.jinja").write_text("{{ (bos_token + 'hello' + eos_token) * 10 }}")
    tokens = {"bos_token": "yes", "eos_token": {"content": "no", "special": True}}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(tokens))
    calibration = blocks_of(checkpoint, QuantRecipe(dataset="demo", num_calib_data=1, seq_len=16)).calibration
    assert calibration[0].tolist() == tokenizer.encode("yeshellono" * 10).ids[:16]


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('no talk') }}", "{{ bos_token + 'x' }}", "{% if %}", "{{ '' }}"]
)
def test_a_template_that_refuses_the_demos_chats_is_a_clear_error(checkpoint: Path, template: str) -> None:
    (checkpoint / "chat_template.jinja").write_text(template)
    (checkpoint / "tokenizer_config.json").write_text("{}")
    with pytest.raises(CalibrationError, match=r"refuses the demo's conversations \(.+\): give --dataset a text file"):
        blocks_of(checkpoint, QuantRecipe(dataset="demo"))
