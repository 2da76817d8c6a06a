"""Measure served models, or GGUF files, against the checkpoint that they were made from. Runs as a child process.

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
from builder.measurement import Measurement, Paired
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
    """Measurements of each candidate by the kind of text; of two, also how they compare token by token.

    job: checkpoint, candidates (one or two paths), data_type; blocks (an .npz of int64 token ids [n, length] for each
    kind of text). Raises SourceError where a candidate cannot be read, or has another vocabulary.
    """
    # 1. What can be refused at once.
    checkpoint, candidates = read_folder(Path(job["checkpoint"])), [Path(name) for name in job["candidates"]]
    with np.load(job["blocks"]) as content:
        blocks = [(kind, block) for kind in content.files for block in content[kind]]
    length, token_ids = blocks[0][1].size, np.unique(np.concatenate([block for _, block in blocks]))
    opened = [gguf(each, length) if each.is_file() else folder(each, length) for each in candidates]
    for candidate in candidates:
        check_vocabulary(checkpoint, candidate, token_ids)

    # 2. The original, a layer at a time.
    ends, states = original(checkpoint, job["data_type"], [block for _, block in blocks], report)

    # 3. Each candidate, a sequence at a time.
    comparisons: list[dict[str, Comparison]] = []
    count, total = len(blocks), len(blocks) * len(candidates)
    for candidate, load in zip(candidates, opened, strict=True):
        model, found = load(), {kind: Comparison() for kind, _ in blocks}
        began, before = time.monotonic(), len(comparisons) * count
        for number, ((kind, block), state) in enumerate(zip(blocks, states, strict=True)):
            # By this one's own pace: the other may be much slower, or faster.
            left = (time.monotonic() - began) / number * (total - before - number) if number else None
            report(Step("compare", before + number, total, f"sequence {number + 1} of {count}", left=left))
            expected = ends.logits(state)[0].float().cpu().numpy()
            logits = model.all_logits(block.astype(np.int32))
            if logits.shape[1] < expected.shape[1]:
                raise SourceError(
                    f"{candidate} gives logits for {logits.shape[1]} tokens and {checkpoint.path} for "
                    f"{expected.shape[1]}: it was not made from this checkpoint."
                )
            found[kind].add(expected, logits, block)
        comparisons.append(found)
        del model  # before another one is loaded
    report(Step("compare", total, total))
    measured = [{kind: asdict(Measurement.of(each)) for kind, each in found.items()} for found in comparisons]
    first, *others = comparisons
    paired = [{kind: asdict(Paired.of(first[kind], other[kind])) for kind in first} for other in others]
    return {"measured": measured, "paired": paired}


def original(
    checkpoint: Checkpoint, data_type: str, blocks: list[NDArray[np.int64]], report: Report
) -> tuple[Any, list[Any]]:
    """A checkpoint's two ends, and what comes out of its last layer for each of `blocks` [length]."""
    import torch

    from builder.stages.decoder import Decoder
    from builder.stages.product_type import through

    decoder = Decoder(checkpoint, checkpoint.weights.loaded_type(data_type))
    ends = decoder.ends()
    states = [ends.embed(torch.from_numpy(block)[None]) for block in blocks]
    del ends  # while layers are loaded, there is room for one of them instead
    began = time.monotonic()
    for number in range(len(decoder)):
        left = (time.monotonic() - began) / number * (len(decoder) - number) if number else None
        report(Step("original", number, len(decoder), f"layer {number + 1} of {len(decoder)}", left=left))
        states = through(decoder.layer(number), states)
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
    from serving.gguf import GgufModel

    def load() -> Candidate:
        try:
            return GgufModel(path, length, usable_cores())
        except ServingError as error:
            raise SourceError(str(error)) from error

    return load


def check_vocabulary(checkpoint: Checkpoint, candidate: Path, token_ids: NDArray[np.int64]) -> None:
    """Each of these tokens [n] is the same for both. Raises SourceError that names the first one that is not."""
    own = Tokenizer.from_file(str(checkpoint.tokenizer.file))
    if candidate.is_file():
        from serving.gguf import spelled_by

        try:
            others = spelled_by(candidate, token_ids.tolist())
        except ServingError as error:
            raise SourceError(str(error)) from error
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
