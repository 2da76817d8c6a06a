"""Text becomes token blocks, from each kind of data set, or a clear error says why not."""

import argparse
import io
import json
import shutil
import zlib
from collections.abc import Iterable
from dataclasses import astuple
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
import pyarrow
import pytest
import zstandard
from pyarrow import parquet
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from builder import demo
from builder.checkpoint.checkpoint import read_settings
from builder.checkpoint.source import Source
from builder.errors import CalibrationError, SourceError
from builder.flags import add_build_flags, recipe_from
from builder.recipe import CHATS, HELDOUT, ExportTarget, QuantRecipe, recipe_hash
from builder.stages.calibration import Blocks, make_blocks
from builder.stages.datasets import _DRAWN_AT_ONCE, _PIECE, file_digest
from builder.stages.datasets import pile as pile_documents
from tests.hub import Hub, Repository, in_child, serve

HELD = HELDOUT[0] * HELDOUT[1]
PILE = "mit-han-lab/pile-val-backup"
WIKITEXT = "Salesforce/wikitext"
FROM_HUB = """
from dataclasses import asdict
from builder import demo
from builder.checkpoint.checkpoint import read_settings
from builder.stages.calibration import make_blocks
from builder.recipe import QuantRecipe
steps = []
recipe = QuantRecipe(dataset=sys.argv[1], num_calib_data=int(sys.argv[2]), seq_len=64, fallback_dataset=sys.argv[3])
blocks = asdict(make_blocks(read_settings(demo.CHECKPOINT), recipe, steps.append))
answer = {name: value if name == "dataset" else value.ravel().tolist() for name, value in blocks.items()}
answer["notes"] = [step.note for step in steps if step.stage == "calibrate"]
answer["heavy"] = sorted({"torch", "quark"} & set(sys.modules))
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


def blocks_of(checkpoint: Path, recipe: QuantRecipe) -> Blocks:
    """What a recipe makes of a checkpoint's tokenizer and template; it needs no weights."""
    return make_blocks(read_settings(checkpoint), recipe)


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


def render(conversations: Iterable[demo.Conversation], checkpoint: Path) -> Iterable[str]:
    """The conversations as transformers renders them."""
    from transformers.utils.chat_template_utils import render_jinja_template

    template = (checkpoint / "chat_template.jinja").read_text(encoding="utf-8")
    for conversation in conversations:
        yield render_jinja_template([conversation], chat_template=template)[0][0]


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of a text, without what a tokenizer may add."""
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def write_text(file: Path, lines: int = 2000) -> str:
    """A text long enough for small recipes."""
    text = "\n".join(f"The {number}th line, naïve and plain." for number in range(lines))
    file.write_bytes(text.encode())
    return text


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


def test_lines_of_json_are_texts_and_chats_which_the_models_template_renders(
    tmp_path: Path, tokenizer: Tokenizer
) -> None:
    chats = list(islice(demo.conversations("train"), 40))
    lines = [line for chat in chats for line in ({"messages": chat, "source": "x"}, {"text": "Naïve prose.", "id": 1})]
    (tmp_path / "mine.jsonl").write_text("\n\n".join(map(json.dumps, lines)) + "\n")
    recipe = QuantRecipe(dataset=str(tmp_path / "mine.jsonl"), num_calib_data=4, seq_len=100)
    blocks = blocks_of(demo.CHECKPOINT, recipe)
    ids = [
        id
        for rendered in render(chats, demo.CHECKPOINT)
        for id in encode(tokenizer, rendered) + encode(tokenizer, "Naïve prose.")
    ]
    assert blocks.calibration.ravel().tolist() == ids[:400]
    assert blocks.heldout.ravel().tolist() == ids[400 : 400 + HELD]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        pytest.param(b"{", "is not JSON in UTF-8", id="not JSON"),
        pytest.param(b'{"text": "\xff"}', "is not JSON in UTF-8", id="not UTF-8"),
        pytest.param(b'["text"]', "is neither", id="no object"),
        pytest.param(b"{}", "is neither", id="nothing"),
        pytest.param(b'{"text": 1}', "is neither", id="a number"),
        pytest.param(b'{"messages": []}', "is neither", id="no messages"),
        pytest.param(b'{"messages": [{"role": "user"}]}', "is neither", id="no content"),
        pytest.param(b'{"messages": ["Hi"], "text": "Hi"}', "is neither", id="bad messages beside a text"),
        pytest.param(b'{"messages": [{"role": "tool", "content": "x"}]}', "template refuses", id="refused"),
    ],
)
def test_a_bad_line_of_json_is_named_with_its_number_and_what_is_expected(
    checkpoint: Path, tmp_path: Path, line: bytes, reason: str
) -> None:
    template = checkpoint / "chat_template.jinja"
    refusing = "{% if messages[0].role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    template.write_text(refusing + template.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "mine.jsonl").write_bytes(b'{"text": "good"}\n\n' + line + b"\n")
    with pytest.raises(CalibrationError) as refused:
        blocks_of(checkpoint, QuantRecipe(dataset=str(tmp_path / "mine.jsonl"), num_calib_data=1, seq_len=16))
    message = str(refused.value)
    assert message.startswith(f"line 3 of '{tmp_path / 'mine.jsonl'}'")
    assert reason in message
    assert reason != "is neither" or '{"text": "…"} nor {"messages": [{"role"' in message
    assert reason != "template refuses" or "(no tools)" in message


def test_a_file_is_told_by_its_content_and_a_name_by_itself(tmp_path: Path) -> None:
    for name in ("demo", "offline", "pileval_for_awq_benchmark", "wikitext"):
        assert file_digest(name) == ""
    file = tmp_path / "mine.txt"
    file.write_text("abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(str(file)) == abc
    file.write_text("abd")
    assert file_digest(str(file)) not in ("", abc)
    for missing in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(CalibrationError, match="nor a readable UTF-8 text file") as refused:
            file_digest(str(missing))
        assert repr(str(missing)) in str(refused.value)


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


@pytest.mark.parametrize("kind", ["missing", "a folder", "not UTF-8", "binary"])
def test_a_data_set_that_cannot_be_read_is_named(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "data.txt"
    if kind == "a folder":
        file.mkdir()
    elif kind == "not UTF-8":
        file.write_bytes("naïve".encode("latin-1"))
    elif kind == "binary":
        file.write_bytes(b"PK\3\4\0\0")
    with pytest.raises(CalibrationError) as refused:
        blocks_of(demo.CHECKPOINT, QuantRecipe(dataset=str(file)))
    assert f"the data set {str(file)!r} is neither 'demo', 'offline', " in str(refused.value)
    assert "nor a readable UTF-8 text file" in str(refused.value)


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


def pile(*documents: str) -> bytes:
    """A data set as the Hub holds it, in more than one frame."""
    lines = [json.dumps({"text": document, "meta": {}}) + "\n" for document in documents]
    return b"".join(zstandard.compress("".join(part).encode()) for part in (lines[:1], lines[1:]))


def wikitext(*rows: str) -> bytes:
    """A data set as the Hub holds it."""
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": list(rows)}), file)
    return file.getvalue()


def shuffled(documents: list[str]) -> list[str]:
    """As `datasets` shuffles them, and with it Quark."""
    import datasets

    return list(datasets.Dataset.from_dict({"text": documents}).shuffle(seed=42)["text"])


def test_the_pile_is_drawn_from_in_quarks_order(tmp_path: Path) -> None:
    documents = [f"Document {number}" for number in range(_DRAWN_AT_ONCE + 100)]
    (tmp_path / "val.jsonl.zst").write_bytes(pile(*documents))
    assert list(pile_documents(tmp_path / "val.jsonl.zst")) == shuffled(documents)


def test_pileval_is_what_quark_makes_of_it_from_the_hub(tmp_path: Path, tokenizer: Tokenizer) -> None:
    documents = [f" Document {n}: naïve.\n" + "And more. " * (zlib.crc32(b"%d" % n) % 50) for n in range(400)]
    data = Repository({"val.jsonl.zst": pile("", *documents), "README.md": b"words"}, kind="dataset")
    with serve({PILE: data}) as hub:
        answer = in_child(FROM_HUB, hub.url, tmp_path, "pileval_for_awq_benchmark", "12", "")["answer"]
    encoded = [encode(tokenizer, text.strip()) for text in shuffled(["", *documents])]
    kept = [place for place, ids in enumerate(encoded) if 0 < len(ids) <= 64][:12]
    joined = [id for place in kept for id in encoded[place]]
    following = [id for ids in encoded[kept[-1] + 1 :] for id in ids]
    assert 64 < len(joined) < 12 * 64, "the test would show nothing"
    assert answer["calibration"] == joined[: len(joined) // 64 * 64]
    assert answer["heldout"] == following[:HELD]
    assert answer["dataset"] == "pileval_for_awq_benchmark"
    assert hub.served == ["val.jsonl.zst"]
    assert answer["heavy"] == [], "loaded while calibrating, where the whole app lives"


def test_wikitext_is_its_training_rows_joined_by_blank_lines(tmp_path: Path, tokenizer: Tokenizer) -> None:
    rows = ["", " = Title = \n", "", *(f" Row {number} . \n" for number in range(2400))]
    name = "wikitext-2-raw-v1/train-00000-of-00001.parquet"
    data = Repository({name: wikitext(*rows), name.replace("train", "test"): b"not asked for"}, kind="dataset")
    with serve({WIKITEXT: data}) as hub:
        answer = in_child(FROM_HUB, hub.url, tmp_path, "wikitext", "200", "")["answer"]
    ids = encode(tokenizer, "\n\n".join(rows))
    assert answer["calibration"] == ids[:12800]
    assert answer["heldout"] == ids[12800 : 12800 + HELD]
    assert hub.served == [name]


def test_a_hub_data_set_that_cannot_be_had_is_a_clear_error_and_not_replaced(tmp_path: Path) -> None:
    def refusal(hub: Hub, dataset: str, **environment: str) -> str:
        answer = in_child(FROM_HUB, hub.url, tmp_path, dataset, "2", "", **environment)
        assert answer["error"] == "CalibrationError"
        assert f"the data set {dataset!r} cannot be had: " in answer["message"]
        assert "--dataset offline" in answer["message"]
        assert "--dataset FILE" in answer["message"]
        assert "--fallback-dataset offline" in answer["message"]
        return str(answer["message"])

    with serve({}) as hub:
        assert f"the Hub has no {PILE}" in refusal(hub, "pileval_for_awq_benchmark")
    assert "the Hub cannot be reached" in refusal(hub, "wikitext")
    assert "HF_HUB_OFFLINE is set" in refusal(hub, "wikitext", HF_HUB_OFFLINE="1")


def test_the_users_fallback_stands_in_for_a_hub_data_set_that_cannot_be_had_and_is_named(tmp_path: Path) -> None:
    with serve({}) as hub:
        fallen = in_child(FROM_HUB, hub.url, tmp_path, "pileval_for_awq_benchmark", "2", "offline")["answer"]
    assert fallen["dataset"] == "offline"
    assert fallen["notes"] == ["pileval_for_awq_benchmark cannot be had: offline stands in"]
    direct = blocks_of(demo.CHECKPOINT, QuantRecipe(dataset="offline", num_calib_data=2, seq_len=64))
    assert fallen["calibration"] == direct.calibration.ravel().tolist()
    assert fallen["heldout"] == direct.heldout.ravel().tolist()


def test_the_fallback_stays_out_of_the_way_of_a_data_set_that_is_there(tmp_path: Path) -> None:
    name = "wikitext-2-raw-v1/train-00000-of-00001.parquet"
    rows = [f"Row {number} of many words." for number in range(500)]
    with serve({WIKITEXT: Repository({name: wikitext(*rows)}, kind="dataset")}) as hub:
        answer = in_child(FROM_HUB, hub.url, tmp_path, "wikitext", "2", "offline")["answer"]
    assert (answer["dataset"], answer["notes"]) == ("wikitext", [])


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
    (tmp_path / "val.jsonl.zst").write_bytes(content)
    with pytest.raises(CalibrationError, match=r"val\.jsonl\.zst cannot be read .+ remove it from the Hub cache"):
        list(pile_documents(tmp_path / "val.jsonl.zst"))


@pytest.mark.parametrize(
    ("dataset", "path", "content"),
    [
        pytest.param("pileval_for_awq_benchmark", "val.jsonl.zst", b"plain text", id="the Pile"),
        pytest.param("wikitext", "wikitext-2-raw-v1/train-00000-of-00001.parquet", b"PAR1", id="WikiText"),
    ],
)
def test_a_damaged_hub_data_set_is_a_clear_error_and_not_replaced(
    tmp_path: Path, dataset: str, path: str, content: bytes
) -> None:
    repository = Repository({path: content}, kind="dataset")
    with serve({WIKITEXT if dataset == "wikitext" else PILE: repository}) as hub:
        answer = in_child(FROM_HUB, hub.url, tmp_path, dataset, "2", "offline")
    assert answer["error"] == "CalibrationError"
    assert f"{path} cannot be read" in answer["message"]


def test_a_pileval_of_too_few_short_documents_says_how_much_is_needed(tmp_path: Path) -> None:
    with serve({PILE: Repository({"val.jsonl.zst": pile(*["Short."] * 20)}, kind="dataset")}) as hub:
        answer = in_child(FROM_HUB, hub.url, tmp_path, "pileval_for_awq_benchmark", "2", "")
    assert answer["error"] == "CalibrationError"
    assert "the 2 documents of 'pileval_for_awq_benchmark' that --num-calib-data asks for have" in answer["message"]
    assert "and one sequence needs 64: raise --num-calib-data." in answer["message"]


def test_the_offline_data_set_is_the_same_every_time_and_asks_nobody(tmp_path: Path) -> None:
    with serve({}) as hub:
        answer = in_child(FROM_HUB, hub.url, tmp_path, "offline", "100", "")["answer"]
    assert not hub.asked
    assert len(answer["calibration"]) == 6400
    here = blocks_of(demo.CHECKPOINT, QuantRecipe(dataset="offline", num_calib_data=100, seq_len=64))
    assert here.calibration.ravel().tolist() == answer["calibration"]


def test_the_offline_data_set_is_pythons_manual_and_long_enough_for_the_seeds_command(tokenizer: Tokenizer) -> None:
    blocks = blocks_of(demo.CHECKPOINT, QuantRecipe(dataset="offline"))
    ids = [id for topic in topics.values() for id in encode(tokenizer, topic)]
    assert blocks.calibration.shape == (128, 512)
    assert blocks.calibration.ravel().tolist() == ids[: 128 * 512]
    assert blocks.heldout.ravel().tolist() == ids[128 * 512 :][:HELD]
    with pytest.raises(CalibrationError, match="'offline' is too short: 4096 sequences of 512"):
        blocks_of(demo.CHECKPOINT, QuantRecipe(dataset="offline", num_calib_data=4096))
