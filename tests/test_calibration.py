"""Text becomes token blocks, from each kind of data set, or a clear error says why not."""

import json
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import zstandard
from tokenizers import Tokenizer

from builder import demo
from builder.calibration import _DEMO_SEED, HELDOUT, make_blocks
from builder.demo import corpus
from builder.demo.draw import Split
from builder.errors import CalibrationError, SourceError
from builder.recipe import QuantRecipe
from tests.hub import Repository, in_child, serve

HELD = HELDOUT[0] * HELDOUT[1]
PILE = "mit-han-lab/pile-val-backup"
PILEVAL = """
from builder import demo
from builder.calibration import make_blocks
from builder.recipe import QuantRecipe
blocks = make_blocks(demo.CHECKPOINT, QuantRecipe(num_calib_data=2, seq_len=64))
answer = [block.ravel().tolist() for block in blocks]
"""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """The demo's."""
    return Tokenizer.from_file(str(demo.CHECKPOINT / "tokenizer.json"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """The demo's tokenizer and template, to be changed."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(demo.CHECKPOINT, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


@pytest.mark.parametrize(("sequences", "length"), [(1, 16), (5, 100)])
def test_blocks_have_the_recipes_shape_and_held_out_text_always_its_own(sequences: int, length: int) -> None:
    recipe = QuantRecipe(dataset="demo", num_calib_data=sequences, seq_len=length)
    calibration, heldout = make_blocks(demo.CHECKPOINT, recipe)
    assert calibration.shape == (sequences, length)
    assert heldout.shape == HELDOUT
    assert calibration.dtype == heldout.dtype == np.int64


def test_tokens_are_of_the_vocabulary_and_the_text_is_a_chat(tokenizer: Tokenizer) -> None:
    calibration, heldout = make_blocks(demo.CHECKPOINT, QuantRecipe(dataset="demo", num_calib_data=4, seq_len=128))
    for block in (calibration, heldout):
        assert 0 <= block.min() <= block.max() < tokenizer.get_vocab_size()
    assert "user" in tokenizer.decode(calibration[0].tolist(), skip_special_tokens=False)


def test_the_same_recipe_gives_the_same_blocks() -> None:
    recipe = QuantRecipe(dataset="demo", num_calib_data=2, seq_len=64)
    for first, second in zip(make_blocks(demo.CHECKPOINT, recipe), make_blocks(demo.CHECKPOINT, recipe), strict=True):
        assert np.array_equal(first, second)


def test_every_recipe_is_measured_on_the_same_text_of_the_demo() -> None:
    small = make_blocks(demo.CHECKPOINT, QuantRecipe(dataset="demo", num_calib_data=1, seq_len=16))[1]
    large = make_blocks(demo.CHECKPOINT, QuantRecipe(dataset="demo", num_calib_data=32, seq_len=256))[1]
    assert np.array_equal(small, large)


def test_the_demo_is_calibrated_on_wordings_of_its_training_and_measured_on_held_out_ones(tokenizer: Tokenizer) -> None:
    calibration, heldout = make_blocks(demo.CHECKPOINT, QuantRecipe(dataset="demo", num_calib_data=32, seq_len=128))
    calibrated, measured = (tokenizer.decode(block.ravel().tolist()) for block in (calibration, heldout))
    assert all(content in calibrated for content in first_chats("train"))
    assert all(content in measured for content in first_chats("heldout"))
    assert first_chats("train") != first_chats("heldout")


def first_chats(split: Split) -> list[str]:
    """What is said in the demo's first chats."""
    return [message["content"] for chat in islice(corpus.conversations(split, _DEMO_SEED), 3) for message in chat]


def test_a_text_file_is_calibrated_on_from_its_start_and_measured_on_what_follows(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    text = " ".join(f"The {number}th line, naïve and plain." for number in range(2000))
    (tmp_path / "mine.txt").write_text(text, encoding="utf-8")
    recipe = QuantRecipe(dataset=str(tmp_path / "mine.txt"), num_calib_data=3, seq_len=50)
    calibration, heldout = make_blocks(demo.CHECKPOINT, recipe)
    expected = tokenizer.encode(text, add_special_tokens=False).ids
    assert calibration.ravel().tolist() == expected[:150]
    assert heldout.ravel().tolist() == expected[150 : 150 + HELD]


@pytest.mark.parametrize("held", [0, 10, 128, 128 + HELD - 1])
def test_too_little_text_says_how_much_there_is_and_how_much_is_needed(
    checkpoint: Path, tmp_path: Path, held: int
) -> None:
    one_token_per_word(checkpoint)
    (tmp_path / "short.txt").write_text("word " * held)
    with pytest.raises(CalibrationError) as refused:
        make_blocks(checkpoint, QuantRecipe(dataset=str(tmp_path / "short.txt"), num_calib_data=2, seq_len=64))
    message = str(refused.value)
    assert "short.txt' is too short: 2 sequences of 64 tokens to calibrate on and 8 of 512 to measure with" in message
    assert f"need {128 + HELD} tokens, and it has {held}." in message
    assert "--num-calib-data or --seq-len" in message


def test_just_enough_text_is_enough(checkpoint: Path, tmp_path: Path) -> None:
    one_token_per_word(checkpoint)
    (tmp_path / "enough.txt").write_text("word " * (128 + HELD))
    recipe = QuantRecipe(dataset=str(tmp_path / "enough.txt"), num_calib_data=2, seq_len=64)
    assert [block.size for block in make_blocks(checkpoint, recipe)] == [128, HELD]


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
    assert np.array_equal(make_blocks(checkpoint, recipe)[0], make_blocks(demo.CHECKPOINT, recipe)[0])


@pytest.mark.parametrize("kind", ["missing", "a folder", "not UTF-8"])
def test_a_data_set_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "data.txt"
    if kind == "a folder":
        file.mkdir()
    elif kind == "not UTF-8":
        file.write_bytes("naïve".encode("latin-1"))
    with pytest.raises(CalibrationError) as refused:
        make_blocks(demo.CHECKPOINT, QuantRecipe(dataset=str(file)))
    assert f"--dataset {str(file)!r} is neither 'demo', nor 'pileval_for_awq_benchmark', nor" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"\xff"])
def test_a_tokenizer_that_cannot_be_read_is_named(checkpoint: Path, content: bytes) -> None:
    (checkpoint / "tokenizer.json").write_bytes(content)
    with pytest.raises(SourceError, match=r"tokenizer\.json cannot be read"):
        make_blocks(checkpoint, QuantRecipe(dataset="demo"))


def test_the_demos_chats_are_rendered_by_a_template_wherever_it_lies(checkpoint: Path) -> None:
    recipe = QuantRecipe(dataset="demo", num_calib_data=2, seq_len=64)
    expected = make_blocks(demo.CHECKPOINT, recipe)
    template = (checkpoint / "chat_template.jinja").read_text(encoding="utf-8")
    (checkpoint / "chat_template.jinja").unlink()
    config = json.loads((checkpoint / "tokenizer_config.json").read_text(encoding="utf-8"))
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
    for block, wanted in zip(make_blocks(checkpoint, recipe), expected, strict=True):
        assert np.array_equal(block, wanted)


def test_a_template_is_given_the_models_special_tokens(checkpoint: Path, tokenizer: Tokenizer) -> None:
    (checkpoint / "chat_template.jinja").write_text("{{ bos_token + 'hello' + eos_token }}")
    tokens = {"bos_token": "yes", "eos_token": {"content": "no", "special": True}}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(tokens))
    calibration, _ = make_blocks(checkpoint, QuantRecipe(dataset="demo", num_calib_data=1, seq_len=16))
    once = tokenizer.encode("yeshellono").ids
    assert calibration[0].tolist() == (once * 16)[:16]


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('no system message') }}", "{{ bos_token + 'x' }}", "{% if %}"]
)
def test_a_template_that_refuses_the_demos_chats_is_a_clear_error(checkpoint: Path, template: str) -> None:
    (checkpoint / "chat_template.jinja").write_text(template)
    (checkpoint / "tokenizer_config.json").write_text("{}")
    with pytest.raises(CalibrationError, match=r"refuses the demo's conversations \(.+\): give --dataset a text file"):
        make_blocks(checkpoint, QuantRecipe(dataset="demo"))


def pile(*documents: str) -> bytes:
    """A data set as the Hub holds it, in more than one frame."""
    lines = [json.dumps({"text": document, "meta": {}}) + "\n" for document in documents]
    return b"".join(zstandard.compress("".join(part).encode()) for part in (lines[:1], lines[1:]))


def test_pileval_comes_from_the_hub_document_by_document(tmp_path: Path, tokenizer: Tokenizer) -> None:
    documents = [f"Document {number}: naïve words of it.\n\nAnd more. " * 30 for number in range(60)]
    data = Repository({"val.jsonl.zst": pile(*documents), "README.md": b"words"}, kind="dataset")
    with serve({PILE: data}) as hub:
        calibration, heldout = in_child(PILEVAL, hub.url, tmp_path)["answer"]
    ids = [id for text in documents for id in tokenizer.encode(text.strip(), add_special_tokens=False).ids]
    assert calibration == ids[:128]
    assert heldout == ids[128 : 128 + HELD]
    assert hub.served == ["val.jsonl.zst"]


def test_a_pileval_that_cannot_be_had_is_a_clear_error_and_not_replaced(tmp_path: Path) -> None:
    with serve({}) as hub:
        unknown = in_child(PILEVAL, hub.url, tmp_path)
    unreachable = in_child(PILEVAL, hub.url, tmp_path)
    offline = in_child(PILEVAL, hub.url, tmp_path, HF_HUB_OFFLINE="1")
    for answer in (unknown, unreachable, offline):
        assert answer["error"] == "CalibrationError"
        assert PILE in answer["message"]
    assert "the Hub cannot be reached" in unreachable["message"]
    assert "HF_HUB_OFFLINE is set" in offline["message"]
    assert "--dataset FILE" in unreachable["message"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"plain text", id="not compressed"),
        pytest.param(zstandard.compress(b"{\n"), id="not JSON"),
        pytest.param(zstandard.compress(b'{"words": "none"}\n'), id="no text"),
        pytest.param(zstandard.compress(b'{"text": "\xff"}\n'), id="not UTF-8"),
    ],
)
def test_a_damaged_pileval_is_a_clear_error(tmp_path: Path, content: bytes) -> None:
    with serve({PILE: Repository({"val.jsonl.zst": content}, kind="dataset")}) as hub:
        answer = in_child(PILEVAL, hub.url, tmp_path)
    assert answer["error"] == "CalibrationError"
    assert f"val.jsonl.zst of {PILE} cannot be read" in answer["message"]
