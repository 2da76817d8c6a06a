"""Measure a served model, or a GGUF file, against the checkpoint that it was made from. Runs as a child process.

The original goes through a layer at a time, so that memory follows a layer and the text, not the model.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from builder.checkpoint.checkpoint import Checkpoint, read_folder
from builder.comparison import Comparison
from builder.errors import SourceError
from builder.measurement import Measurement
from builder.progress import Report, Step
from builder.stages.stage import Job, stage_main
from serving.engine.oga import OgaRuntime
from serving.errors import ServingError
from serving.folder import ModelFolder
from serving.hardware import usable_cores


class Candidate(Protocol):
    """A model that is measured. vocab_size: of its logits."""

    vocab_size: int

    def all_logits(self, token_ids: NDArray[np.int32]) -> NDArray[np.float32]:
        """Logits [n, vocab] after each of `token_ids` [n]."""


def measure(job: Job, report: Report) -> Job:
    """Measurements by the kind of text.

    job: checkpoint, candidate, data_type; blocks (an .npz of int64 token ids [n, length] for each kind of text).
    Raises SourceError where the candidate cannot be read, or has another vocabulary.
    """
    # 1. What can be refused at once.
    checkpoint, candidate = read_folder(Path(job["checkpoint"])), Path(job["candidate"])
    with np.load(job["blocks"]) as content:
        kinds = {kind: list(content[kind]) for kind in content.files}
    blocks = [(kind, block) for kind, found in kinds.items() for block in found]
    open_candidate = gguf(candidate, blocks[0][1].size) if candidate.is_file() else folder(candidate, blocks[0][1].size)
    check_vocabulary(checkpoint, candidate, np.unique(np.concatenate([block for _, block in blocks])))

    # 2. The original, a layer at a time.
    ends, states = original(checkpoint, job["data_type"], [block for _, block in blocks], report)

    # 3. Both, a sequence at a time.
    model, comparisons, began = open_candidate(), {kind: Comparison() for kind in kinds}, time.monotonic()
    for done, ((kind, block), state) in enumerate(zip(blocks, states, strict=True)):
        left = (time.monotonic() - began) / done * (len(blocks) - done) if done else None
        report(Step("compare", done, len(blocks), f"sequence {done + 1} of {len(blocks)}", left=left))
        expected = ends.logits(state)[0].float().cpu().numpy()
        found = model.all_logits(block.astype(np.int32))
        if found.shape[1] < expected.shape[1]:
            raise SourceError(
                f"{candidate} gives logits for {found.shape[1]} tokens and {checkpoint.path} for {expected.shape[1]}: "
                "it was not made from this checkpoint."
            )
        comparisons[kind].add(expected, found, block)
    report(Step("compare", len(blocks), len(blocks)))
    return {"measured": {kind: asdict(Measurement.of(found)) for kind, found in comparisons.items()}}


def original(
    checkpoint: Checkpoint, data_type: str, blocks: list[NDArray[np.int64]], report: Report
) -> tuple[Any, list[Any]]:
    """A checkpoint's two ends, and what comes out of its last layer for each of `blocks` [length]."""
    import torch

    from builder.stages.decoder import Decoder

    decoder = Decoder(checkpoint, checkpoint.weights.loaded_type(data_type))
    ends = decoder.ends()
    states = [ends.embed(torch.from_numpy(block)[None]) for block in blocks]
    del ends  # while layers are loaded, there is room for one of them instead
    began = time.monotonic()
    for number in range(len(decoder)):
        left = (time.monotonic() - began) / number * (len(decoder) - number) if number else None
        report(Step("original", number, len(decoder), f"layer {number + 1} of {len(decoder)}", left=left))
        layer = decoder.layer(number)
        with torch.no_grad():
            states = [layer(state) for state in states]
    report(Step("original", len(decoder), len(decoder)))
    return decoder.ends(), states


def folder(path: Path, length: int) -> Callable[[], Candidate]:
    """What loads a model folder; it is checked at once."""
    try:
        found = ModelFolder.open(path)
    except ServingError as error:
        raise SourceError(f"{path} cannot be measured: {error}") from error
    if found.context_length < length:
        raise SourceError(f"{path} has a window of {found.context_length} tokens, and sequences of {length} are read.")

    def load() -> Candidate:
        try:
            return OgaRuntime(found, None, usable_cores(), provider="cpu")
        except ServingError as error:
            raise SourceError(f"{path} cannot be measured: {error}") from error

    return load


def gguf(path: Path, length: int) -> Callable[[], Candidate]:
    """What loads a GGUF file."""
    from builder.stages.gguf import GgufModel

    return lambda: GgufModel(path, length, usable_cores())


def check_vocabulary(checkpoint: Checkpoint, candidate: Path, token_ids: NDArray[np.int64]) -> None:
    """Each of these tokens [n] is the same for both. Raises SourceError that names the first one that is not."""
    own = Tokenizer.from_file(str(checkpoint.tokenizer.file))
    if candidate.is_file():
        from builder.stages.gguf import spelled_by

        others = spelled_by(candidate, token_ids.tolist())
    else:
        tokenizer = Tokenizer.from_file(str(candidate / "tokenizer.json"))
        others = [tokenizer.id_to_token(token) for token in token_ids.tolist()]
    for token, other in zip(token_ids.tolist(), others, strict=True):
        if own.id_to_token(token) != other:
            raise SourceError(
                f"token {token} is {own.id_to_token(token)!r} for {checkpoint.path} and {other!r} for {candidate}: "
                "their vocabularies differ, so that nothing can be compared. Name the checkpoint that it was made from."
            )


if __name__ == "__main__":
    stage_main(measure)
