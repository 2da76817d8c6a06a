"""Text -> equal-length token blocks: for AWQ to look at, and held out to measure the result on."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from builder import demo
from builder.checkpoint.checkpoint import Checkpoint
from builder.errors import CalibrationError
from builder.progress import Report, silent
from builder.recipe import CHATS, HELDOUT, QuantRecipe
from builder.stages.datasets import find_dataset, pile, stream
from builder.stages.reader import Reader

TokenBlocks = NDArray[np.int64]

_REFUSALS = 100  # conversations in a row that a template may refuse before no more are tried


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


def make_blocks(checkpoint: Checkpoint, recipe: QuantRecipe, report: Report = silent) -> Blocks:
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
    reader = Reader.of(checkpoint.tokenizer)
    chats = chain.from_iterable(_conversations(reader, "heldout"))
    calibrated: Iterator[int]
    measured: Iterator[int]
    if dataset == "demo":
        calibrated, measured = chain.from_iterable(_conversations(reader, "train")), chats
    elif dataset == "pileval_for_awq_benchmark":
        documents = map(reader.ids, pile(file))
        short = (ids for ids in documents if 0 < len(ids) <= recipe.seq_len)
        calibrated = chain.from_iterable(islice(short, recipe.num_calib_data))
        measured = chain.from_iterable(documents)
    else:
        calibrated = measured = stream(dataset, file, reader)
    calibration = np.fromiter(islice(calibrated, recipe.num_calib_data * recipe.seq_len), dtype=np.int64)
    heldout = np.fromiter(islice(measured, math.prod(HELDOUT)), dtype=np.int64)
    _check_size(dataset, recipe, calibration.size, heldout.size)
    return Blocks(
        calibration=calibration[: calibration.size // recipe.seq_len * recipe.seq_len].reshape(-1, recipe.seq_len),
        heldout=heldout.reshape(HELDOUT),
        chats=_chat_blocks(chats),
        dataset=dataset,
    )


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


def _conversations(reader: Reader, split: demo.Split) -> Iterator[list[int]]:
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
