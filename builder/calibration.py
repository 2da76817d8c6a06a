"""Text -> equal-length token blocks: for AWQ to look at, and held out to measure the result on."""

import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from builder.demo import corpus
from builder.demo.draw import Split
from builder.errors import CalibrationError
from builder.recipe import QuantRecipe
from builder.source import hub_call

TokenBlocks = NDArray[np.int64]

HELDOUT = (8, 512)  # sequences, tokens in each: the same text measures every recipe
_DEMO_SEED = 20_260_101
_PILEVAL = ("mit-han-lab/pile-val-backup", "val.jsonl.zst")


def make_blocks(checkpoint: Path, recipe: QuantRecipe) -> tuple[TokenBlocks, TokenBlocks]:
    """Calibration blocks [num_calib_data, seq_len] and held-out blocks [8, 512] of token ids.

    The demo's held-out text comes from wordings and values that its training never saw; any other data set's is what
    follows the calibration text. Raises CalibrationError for a data set that cannot be read or is too short.
    """
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if recipe.dataset == "demo":
        train, heldout = (_tokens(_demo_texts(checkpoint, split), tokenizer) for split in ("train", "heldout"))
    else:
        texts = _pileval() if recipe.dataset == "pileval_for_awq_benchmark" else _text_file(Path(recipe.dataset))
        train = heldout = _tokens(texts, tokenizer)
    calibration = _take(train, recipe.num_calib_data, recipe.seq_len, recipe)
    return calibration, _take(heldout, *HELDOUT, recipe)


def _take(tokens: Iterator[int], count: int, length: int, recipe: QuantRecipe) -> TokenBlocks:
    wanted = count * length
    taken = np.fromiter(islice(tokens, wanted), dtype=np.int64)
    if taken.size < wanted:
        needed = recipe.num_calib_data * recipe.seq_len + HELDOUT[0] * HELDOUT[1]
        raise CalibrationError(
            f"the data set {recipe.dataset!r} is too short: {recipe.num_calib_data} sequences of {recipe.seq_len} tokens "
            f"to calibrate on and {HELDOUT[0]} of {HELDOUT[1]} to measure with need {needed} tokens, and it ended "
            f"{wanted - taken.size} short. Add text, or lower --num-calib-data or --seq-len."
        )
    return taken.reshape(count, length)


def _tokens(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[int]:
    for text in texts:
        yield from tokenizer.encode(text, add_special_tokens=False).ids


def _demo_texts(checkpoint: Path, split: str) -> Iterator[str]:
    # The template alone is needed here, not transformers' tokenizer classes, which would import torch.
    from transformers.utils.chat_template_utils import render_jinja_template

    template = (checkpoint / "chat_template.jinja").read_text(encoding="utf-8")
    for conversation in corpus.conversations(cast(Split, split), _DEMO_SEED):
        rendered, _ = render_jinja_template([conversation], chat_template=template)
        yield str(rendered[0])


def _pileval() -> Iterator[str]:
    """The validation split of the Pile that AWQ's authors calibrate on; one document per line."""
    import zstandard
    from huggingface_hub import hf_hub_download

    repository, file = _PILEVAL
    path = hub_call(repository, None, lambda: hf_hub_download(repository, file, repo_type="dataset"))
    with open(path, "rb") as compressed, zstandard.ZstdDecompressor().stream_reader(compressed) as stream:
        for line in io.TextIOWrapper(stream, encoding="utf-8"):
            document: dict[str, Any] = json.loads(line)
            yield str(document["text"]).strip()


def _text_file(path: Path) -> Iterator[str]:
    try:
        yield path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(
            f"--dataset {str(path)!r} is neither 'demo', nor 'pileval_for_awq_benchmark', nor a readable UTF-8 text "
            f"file: {error}."
        ) from error
