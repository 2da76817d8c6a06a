"""Every kind of data set is read as it is meant, or a clear error says why not."""

import io
import json
import zlib
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics

import pyarrow
import pytest
import zstandard
from pyarrow import parquet
from tokenizers import Tokenizer

from builder import demo
from builder.errors import CalibrationError
from builder.recipe import QuantRecipe
from builder.stages.datasets import _DRAWN_AT_ONCE, file_digest
from builder.stages.datasets import pile as pile_documents
from tests.builder.stages.texts import HELD, blocks_of, encode, pile, render
from tests.hub import Hub, Repository, in_child, serve

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
