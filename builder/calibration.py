"""Text -> equal-length token blocks: for AWQ to look at, and held out to measure the result on."""

import io
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray
from tokenizers import Tokenizer

from builder.demo import corpus
from builder.demo.draw import Split
from builder.errors import CalibrationError, SourceError
from builder.recipe import QuantRecipe
from builder.source import download, read_chat_template, read_tokenizer_config

TokenBlocks = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Blocks:
    calibration: TokenBlocks
    heldout: TokenBlocks
    chats: TokenBlocks
    dataset: str


HELDOUT = (8, 512)  # sequences, tokens in each: the same text measures every recipe
_DEMO_SEED = 20_260_101
_PILEVAL = ("mit-han-lab/pile-val-backup", "val.jsonl.zst")


def make_blocks(checkpoint: Path, recipe: QuantRecipe) -> Blocks:
    """Calibration blocks [num_calib_data, seq_len] and held-out blocks [8, 512] of token ids.

    The demo's held-out text comes from wordings and values that its training never saw; any other data set's is what
    follows the calibration text. Raises CalibrationError for a data set that cannot be read or is too short, and
    SourceError for a tokenizer that cannot be read.
    """
    tokenizer = _load_tokenizer(checkpoint / "tokenizer.json")
    if recipe.dataset == "demo":
        train, heldout = (_tokens(_demo_texts(checkpoint, split), tokenizer) for split in ("train", "heldout"))
    else:
        texts = _pileval() if recipe.dataset == "pileval_for_awq_benchmark" else _text_file(Path(recipe.dataset))
        train = heldout = _tokens(texts, tokenizer)
    wanted = recipe.num_calib_data * recipe.seq_len
    calibration = np.fromiter(islice(train, wanted), dtype=np.int64)
    measured = np.fromiter(islice(heldout, math.prod(HELDOUT)), dtype=np.int64)
    held, needed = calibration.size + measured.size, wanted + math.prod(HELDOUT)
    if held < needed:
        raise CalibrationError(
            f"the data set {recipe.dataset!r} is too short: {recipe.num_calib_data} sequences of {recipe.seq_len} "
            f"tokens to calibrate on and {HELDOUT[0]} of {HELDOUT[1]} to measure with need {needed} tokens, and it "
            f"has {held}. Add text, or lower --num-calib-data or --seq-len."
        )
    m = measured.reshape(HELDOUT)
    return Blocks(calibration.reshape(-1, recipe.seq_len), m[:4], m[4:], recipe.dataset)


def _load_tokenizer(file: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception for any fault of the file
        raise SourceError(f"{file} cannot be read: {error}.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _tokens(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[int]:
    for text in texts:
        yield from tokenizer.encode(text, add_special_tokens=False).ids


def _demo_texts(checkpoint: Path, split: str) -> Iterator[str]:
    # The template alone is needed here, not transformers' tokenizer classes, which would import torch.
    from transformers.utils.chat_template_utils import render_jinja_template

    template = read_chat_template(checkpoint)
    special_tokens = {
        name: value["content"] if isinstance(value, dict) else value
        for name, value in read_tokenizer_config(checkpoint).items()
        if name.endswith("_token") and isinstance(value, str | dict)
    }
    for conversation in corpus.conversations(cast(Split, split), _DEMO_SEED):
        try:
            rendered, _ = render_jinja_template([conversation], chat_template=template, **special_tokens)
        except (TemplateError, TypeError, ValueError) as error:
            raise CalibrationError(
                f"this model's chat template refuses the demo's conversations ({error}): give --dataset a text file."
            ) from error
        yield str(rendered[0])


def _pileval() -> Iterator[str]:
    """The validation split of the Pile that AWQ's authors calibrate on; one document per line."""
    from zstandard import ZstdDecompressor, ZstdError

    repository, name = _PILEVAL
    try:
        # A snapshot, because the download of a single file takes 20 s to notice that the Hub cannot be reached.
        folder = download(repository, "dataset", None, [name], instead="calibrate on your own text with --dataset FILE")
        with (folder / name).open("rb") as compressed:
            stream = ZstdDecompressor().stream_reader(compressed, read_across_frames=True)
            for line in io.TextIOWrapper(stream, encoding="utf-8"):
                yield str(json.loads(line)["text"]).strip()
    except SourceError as error:
        raise CalibrationError(f"the calibration text cannot be had: {error}") from error
    except (OSError, ValueError, KeyError, TypeError, ZstdError) as error:
        raise CalibrationError(
            f"{name} of {repository} cannot be read ({error}): remove it from the Hub cache to fetch it again, or "
            "calibrate on your own text with --dataset FILE."
        ) from error


def _text_file(path: Path) -> Iterator[str]:
    try:
        yield path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(
            f"--dataset {str(path)!r} is neither 'demo', nor 'pileval_for_awq_benchmark', nor a readable UTF-8 text "
            f"file: {error}."
        ) from error
