"""Data sets to calibrate on: which there are, where they come from, and how their files are read."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, cast

import numpy as np

from builder.checkpoint.hub import download
from builder.errors import CalibrationError, SourceError
from builder.kept.results import sha256
from builder.progress import Report, Step
from builder.stages.reader import Reader

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


def stream(dataset: str, file: Path, reader: Reader) -> Iterator[int]:
    """Tokens of all of "offline", "wikitext" or a file, in their order. Raises CalibrationError."""
    if dataset == "offline":
        return chain.from_iterable(map(reader.ids, topics.values()))
    if dataset == "wikitext":
        return reader.long_ids(_wikitext(file))
    if file.suffix.lower() == ".jsonl":
        return chain.from_iterable(_json_lines(file, reader))
    return reader.long_ids(_text_file(file))


def pile(file: Path) -> Iterator[str]:
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


def _json_lines(file: Path, reader: Reader) -> Iterator[list[int]]:
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _json_document(line, f"line {number} of {str(file)!r}", reader)
    except OSError as error:
        raise _unreadable(str(file), error) from error


def _json_document(line: bytes, where: str, reader: Reader) -> list[int]:
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
