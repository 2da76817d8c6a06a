"""Text -> equal-length token blocks: for AWQ to look at, and held out to measure the result on."""

import io
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, cast

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray
from tokenizers import Tokenizer

from builder import demo
from builder.checkpoint.hub import download
from builder.checkpoint.source import read_chat_template, read_tokenizer_config
from builder.errors import CalibrationError, SourceError
from builder.kept.results import sha256
from builder.progress import Report, Step, silent
from builder.recipe import CHATS, HELDOUT, QuantRecipe

TokenBlocks = NDArray[np.int64]

_REFUSALS = 100  # conversations in a row that a template may refuse before no more are tried
_PIECE = 1 << 16  # characters of a long text that are tokenized at once
_PILE_SEED = 42  # Quark's
_DRAWN_AT_ONCE = 2048  # documents that one pass over the Pile picks out


@dataclass(frozen=True, slots=True)
class HubFile:
    """A data set that is one file of a dataset repository on the Hub."""

    repository: str
    path: str


HUB_DATASETS = {
    "pileval_for_awq_benchmark": HubFile("mit-han-lab/pile-val-backup", "val.jsonl.zst"),
    "wikitext": HubFile("Salesforce/wikitext", "wikitext-2-raw-v1/train-00000-of-00001.parquet"),
}
DATASETS = ("demo", "offline", *HUB_DATASETS)
"""The data sets that go by a name; any other name is a file's."""


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Token ids, int64, in sequences of equal length.

    calibration: [n, seq_len], what AWQ looks at; n is the recipe's num_calib_data, but see `make_blocks` on the Pile.
    heldout: [4, 512], text of the same data set that is not calibrated on.
    chats: [4, 512], conversations of the demo's held-out split in the model's own chat template; fewer sequences, or
    none, where the template takes few of them.
    dataset: the data set that was used: the recipe's, or its fallback.
    """

    calibration: TokenBlocks
    heldout: TokenBlocks
    chats: TokenBlocks
    dataset: str


def make_blocks(checkpoint: Path, recipe: QuantRecipe, report: Report = silent) -> Blocks:
    """Tokens to calibrate on, and to measure with.

    The data sets, each calibrated on from its start and held out from where that ended:

    - demo: conversations of the demo's training (about 137,000 of its tokens); its held-out split is measured on.
    - offline: no download. Python's reference manual, which the standard library carries (about 120,000 tokens). Of
      what every installation has it did best on other text: see benchmarks/calibration_text.py.
    - pileval_for_awq_benchmark: the Pile's validation split as Quark reads it: shuffled by a fixed seed, the first
      num_calib_data documents of at most seq_len tokens, joined and cut. That gives fewer sequences than documents.
    - wikitext: the rows of WikiText-2's training split in their order, joined by blank lines. (Quark takes the first
      num_calib_data rows, many of them empty, and pads each to the longest. Padding is no text: it is left out here.)
    - a file: UTF-8 text; or, if its name ends with .jsonl, an object on each line with "text", or with chat "messages"
      which the model's own template renders.

    Every document begins as the tokenizer begins a text; conversations begin as their template says. Raises
    CalibrationError for a data set that cannot be had or read or that is too short, and SourceError for a tokenizer
    that cannot be read.
    """
    dataset, file = find_dataset(recipe.dataset, recipe.fallback_dataset, report)
    reader = _Reader.of(checkpoint)
    chats = chain.from_iterable(_conversations(reader, "heldout"))
    calibrated: Iterator[int]
    measured: Iterator[int]
    if dataset == "demo":
        calibrated, measured = chain.from_iterable(_conversations(reader, "train")), chats
    elif dataset == "pileval_for_awq_benchmark":
        documents = map(reader.ids, _pile(file))
        short = (ids for ids in documents if 0 < len(ids) <= recipe.seq_len)
        calibrated = chain.from_iterable(islice(short, recipe.num_calib_data))
        measured = chain.from_iterable(documents)
    else:
        calibrated = measured = _stream(dataset, file, reader)
    calibration = np.fromiter(islice(calibrated, recipe.num_calib_data * recipe.seq_len), dtype=np.int64)
    heldout = np.fromiter(islice(measured, math.prod(HELDOUT)), dtype=np.int64)
    _check_size(dataset, recipe, calibration.size, heldout.size)
    return Blocks(
        calibration=calibration[: calibration.size // recipe.seq_len * recipe.seq_len].reshape(-1, recipe.seq_len),
        heldout=heldout.reshape(HELDOUT),
        chats=_chat_blocks(chats),
        dataset=dataset,
    )


def file_digest(dataset: str) -> str:
    """SHA-256 of a data set that is a file, in hexadecimal digits, and "" for one that goes by a name.

    Raises CalibrationError for a file that cannot be read.
    """
    if dataset in DATASETS:
        return ""
    try:
        return sha256(Path(dataset).expanduser())
    except OSError as error:
        raise _unreadable(dataset, error) from error


def find_dataset(dataset: str, fallback: str, report: Report) -> tuple[str, Path]:
    """The data set to use, and the file it is read from, if any: downloaded, if need be. Raises CalibrationError."""
    if dataset not in HUB_DATASETS:
        return dataset, Path(dataset).expanduser()
    wanted = HUB_DATASETS[dataset]
    try:
        return dataset, download(wanted.repository, "dataset", None, [wanted.path], report=report) / wanted.path
    except SourceError as error:
        if not fallback:
            raise CalibrationError(
                f"the data set {dataset!r} cannot be had: {error} Or calibrate on text that needs no download with "
                "--dataset offline, on your own with --dataset FILE, or name what may stand in with "
                "--fallback-dataset offline."
            ) from error
        report(Step("calibrate", 0, 0, f"{dataset} cannot be had: {fallback} stands in"))
        return find_dataset(fallback, "", report)


def _check_size(dataset: str, recipe: QuantRecipe, calibrated: int, measured: int) -> None:
    sequences, length = recipe.num_calib_data, recipe.seq_len
    if dataset == "pileval_for_awq_benchmark":
        if calibrated < length:
            raise CalibrationError(
                f"the {sequences} documents of {dataset!r} that --num-calib-data asks for have {calibrated} tokens, "
                f"and one sequence needs {length}: raise --num-calib-data."
            )
        sequences = 1
    held, needed = calibrated + measured, sequences * length + math.prod(HELDOUT)
    if calibrated < sequences * length or measured < math.prod(HELDOUT):
        raise CalibrationError(
            f"the data set {dataset!r} is too short: {sequences} sequences of {length} tokens to calibrate on and "
            f"{HELDOUT[0]} of {HELDOUT[1]} to measure with need {needed} tokens, and it has {held}. Add text, or "
            "lower --num-calib-data or --seq-len."
        )


def _chat_blocks(tokens: Iterator[int]) -> TokenBlocks:
    try:
        ids = np.fromiter(islice(tokens, math.prod(CHATS)), dtype=np.int64)
    except CalibrationError:  # a template may be made for other talk, and the model is measured on text all the same
        ids = np.empty(0, dtype=np.int64)
    return ids[: ids.size // CHATS[1] * CHATS[1]].reshape(-1, CHATS[1])


@dataclass(frozen=True, slots=True)
class _Reader:
    """A checkpoint's tokenizer and chat template, without transformers' tokenizer classes, which import torch."""

    tokenizer: Tokenizer
    template: str | None
    special_tokens: dict[str, str]

    @classmethod
    def of(cls, checkpoint: Path) -> "_Reader":
        file = checkpoint / "tokenizer.json"
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers raises bare Exception for any fault of the file
            raise SourceError(f"{file} cannot be read: {error}.") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        special_tokens = {
            name: value["content"] if isinstance(value, dict) else value
            for name, value in read_tokenizer_config(checkpoint).items()
            if name.endswith("_token") and isinstance(value, str | dict)
        }
        return cls(tokenizer, read_chat_template(checkpoint), special_tokens)

    def ids(self, document: str) -> list[int]:
        return list(self.tokenizer.encode(document).ids)

    def long_ids(self, pieces: Iterable[str]) -> Iterator[int]:
        """Tokens of one document that is too long to be tokenized at once, or more than is needed."""
        for number, piece in enumerate(pieces):
            yield from self.tokenizer.encode(piece, add_special_tokens=number == 0).ids

    def chat_ids(self, messages: list[dict[str, str]]) -> list[int]:
        """Tokens of a conversation. Raises CalibrationError where the template refuses it."""
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            rendered, _ = render_jinja_template([messages], chat_template=self.template, **self.special_tokens)
        except (TemplateError, TypeError, ValueError) as error:
            raise CalibrationError(f"this model's chat template refuses the conversation ({error}).") from error
        return list(self.tokenizer.encode(str(rendered[0]), add_special_tokens=False).ids)


def _conversations(reader: _Reader, split: demo.Split) -> Iterator[list[int]]:
    """Conversations of the demo's corpus, without those that the model's template refuses.

    Raises CalibrationError once it refused a hundred in a row.
    """
    refused = 0
    reason = "it renders nothing"
    for conversation in demo.conversations(split):
        try:
            ids = reader.chat_ids(conversation)
        except CalibrationError as error:
            ids, reason = [], str(error.__cause__)
        refused = 0 if ids else refused + 1
        if refused == _REFUSALS:
            raise CalibrationError(
                f"this model's chat template refuses the demo's conversations ({reason}): give --dataset a text file."
            )
        yield ids


def _stream(dataset: str, file: Path, reader: _Reader) -> Iterator[int]:
    if dataset == "offline":
        return chain.from_iterable(map(reader.ids, topics.values()))
    if dataset == "wikitext":
        return reader.long_ids(_wikitext(file))
    if file.suffix.lower() == ".jsonl":
        return chain.from_iterable(_json_lines(file, reader))
    return reader.long_ids(_text_file(file))


def _pile(file: Path) -> Iterator[str]:
    """The documents, in the order into which `datasets` shuffles them; one pass over the file per 2,048 of them."""
    from zstandard import ZstdDecompressor, ZstdError

    def lines() -> Iterator[bytes]:
        with file.open("rb") as compressed:
            stream = ZstdDecompressor().stream_reader(compressed, read_across_frames=True)
            yield from io.BufferedReader(cast(io.RawIOBase, stream), 1 << 20)

    try:
        order = np.random.default_rng(_PILE_SEED).permutation(sum(1 for _ in lines()))
        for start in range(0, len(order), _DRAWN_AT_ONCE):
            drawn = order[start : start + _DRAWN_AT_ONCE].tolist()
            wanted = set(drawn)
            found = {number: line for number, line in enumerate(lines()) if number in wanted}
            for number in drawn:
                yield str(json.loads(found[number])["text"]).strip()
    except (OSError, ValueError, KeyError, TypeError, ZstdError) as error:
        raise _damaged(file, error) from error


def _wikitext(file: Path) -> Iterator[str]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as table:
            for batch in table.iter_batches(columns=["text"], batch_size=512):
                yield "\n\n".join([*map(str, batch.column("text").to_pylist()), ""])
    except (OSError, ValueError, KeyError, ArrowException) as error:
        raise _damaged(file, error) from error


def _text_file(file: Path) -> Iterator[str]:
    try:
        with file.open(encoding="utf-8-sig") as text:
            while piece := text.read(_PIECE) + text.readline(_PIECE):
                if "\0" in piece:
                    raise ValueError("it has null characters, as binary files do")
                yield piece
    except (OSError, ValueError) as error:
        raise _unreadable(str(file), error) from error


def _json_lines(file: Path, reader: _Reader) -> Iterator[list[int]]:
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _json_document(line, f"line {number} of {str(file)!r}", reader)
    except OSError as error:
        raise _unreadable(str(file), error) from error


def _json_document(line: bytes, where: str, reader: _Reader) -> list[int]:
    try:
        document = json.loads(line.decode("utf-8-sig"))
    except ValueError as error:
        raise CalibrationError(f"{where} is not JSON in UTF-8: {error}.") from error
    if isinstance(document, dict):
        if _is_chat(document.get("messages")):
            try:
                return reader.chat_ids(document["messages"])
            except CalibrationError as error:
                raise CalibrationError(f"{where}: {error}") from error
        if "messages" not in document and isinstance(document.get("text"), str):
            return reader.ids(document["text"])
    raise CalibrationError(
        f"{where} is neither "
        '{"text": "…"} nor {"messages": [{"role": "user", "content": "…"}, …]}: every line of a .jsonl data set has '
        "to be one of them."
    )


def _is_chat(messages: Any) -> bool:
    return (
        isinstance(messages, list)
        and bool(messages)
        and all(
            isinstance(message, dict) and all(isinstance(message.get(key), str) for key in ("role", "content"))
            for message in messages
        )
    )


def _unreadable(dataset: str, error: Exception) -> CalibrationError:
    return CalibrationError(
        f"the data set {dataset!r} is neither {', '.join(map(repr, DATASETS))} nor a readable UTF-8 text file: {error}."
    )


def _damaged(file: Path, error: Exception) -> CalibrationError:
    return CalibrationError(
        f"{file} cannot be read ({error}): remove it from the Hub cache to fetch it again, or calibrate on your own "
        "text with --dataset FILE."
    )
