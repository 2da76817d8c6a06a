"""`python -m builder measure`: a model folder, or a GGUF file, against the checkpoint that it was made from.

With another one beside it both are measured on the same tokens, and so is what they differ by.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.checkpoint.checkpoint import Checkpoint, Fetched, is_export, read_settings, with_weights
from builder.checkpoint.preflight import check_measure_memory, check_tokenizer
from builder.checkpoint.source import Source, add_weights, locate_settings
from builder.errors import CalibrationError, SourceError
from builder.measurement import Figure, Measurement, Paired
from builder.progress import Report
from builder.recipe import CALIBRATION, HELDOUT, QuantRecipe, usual_recipe
from builder.stages.calibration import make_blocks
from builder.stages.datasets import stream
from builder.stages.reader import Reader
from builder.stages.stage import run_stage

LENGTH = HELDOUT[1]  # tokens of a sequence, as in a build's own proof
_GGUF = b"GGUF"
LEAST_TOKENS = 1024  # with fewer, errors are known too badly to say anything of a difference

Blocks = dict[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Measured:
    """Measurements by the kind of text. text: a SHA-256 of the tokens: only what has the same can be compared.

    beside, paired: of the model beside it, and how the two compare; empty where there is none.
    """

    text: str
    measurements: Mapping[str, Measurement]
    beside: Mapping[str, Measurement] = field(default_factory=dict)
    paired: Mapping[str, Paired] = field(default_factory=dict)


def measure(
    candidate: Path,
    against: Source,
    text: Path | None,
    tokens: int | None,
    data_type: str,
    report: Report,
    beside: Path | None = None,
) -> Measured:
    """Measure a model folder or a GGUF file against a checkpoint, on the text of a file.

    Without a file: on the held-out text of the build that made the folder, or else of a build with its defaults.
    tokens: at most so many. data_type: of the original's weights. beside: another one, measured on the same tokens.
    Raises BuildError.
    """
    # 1. What can be refused before anything is read.
    candidates = [candidate, beside] if beside else [candidate]
    for each in candidates:
        check_candidate(each)
    located = locate_settings(against)
    settings = read_settings(located.path)
    if settings.quantization is not None:
        raise SourceError(
            f"--against {against.name} is quantized itself ({settings.quantization.method}): name the original."
        )
    check_tokenizer(settings)
    add_weights(located, report)
    fetched = Fetched(against, located.revision, with_weights(settings))

    # 2. The text, as tokens.
    blocks = (
        text_blocks(fetched.checkpoint, text, tokens) if text else heldout_blocks(fetched, candidate, tokens, report)
    )
    return compare(fetched.checkpoint, candidates, blocks, data_type, report)


def compare(
    checkpoint: Checkpoint, candidates: Sequence[Path], blocks: Blocks, data_type: str, report: Report
) -> Measured:
    """One or two candidates against a checkpoint on the same tokens, in a process of their own. Raises BuildError."""
    digest = hashlib.sha256(b"".join(each.tobytes() for each in blocks.values())).hexdigest()
    largest = max(map(bytes_of, candidates))
    check_measure_memory(checkpoint, data_type, sum(each.size for each in blocks.values()), largest)
    with tempfile.TemporaryDirectory() as name:
        content: dict[str, Any] = dict(blocks)
        np.savez(Path(name) / "blocks.npz", **content)
        job = {
            "checkpoint": str(checkpoint.path),
            "candidates": [str(each.absolute()) for each in candidates],
            "blocks": str(Path(name) / "blocks.npz"),
            "data_type": data_type,
        }
        found = run_stage("builder.stages.measure", job, Path(name) / "measure.log", report)
    first, *others = [{kind: measurement_of(facts) for kind, facts in each.items()} for each in found["measured"]]
    beside = others[0] if others else {}
    paired = {kind: paired_of(facts) for each in found["paired"] for kind, facts in each.items()}
    return Measured(digest, first, beside, paired)


def check_candidate(candidate: Path) -> None:
    """It is an export, or a GGUF file. Raises SourceError."""
    if candidate.is_dir() and is_export(candidate):
        return
    if candidate.is_file():
        with candidate.open("rb") as file:
            if file.read(len(_GGUF)) == _GGUF:
                return
    what = "is not there" if not candidate.exists() else "is neither"
    raise SourceError(
        f"{candidate} {what}: name a model folder, with its genai_config.json and .onnx file, or a GGUF file."
    )


def bytes_of(candidate: Path) -> int:
    """What a candidate's weights take on the disk."""
    files = [candidate] if candidate.is_file() else list(candidate.glob("*.onnx*"))
    return sum(file.stat().st_size for file in files)


def text_blocks(checkpoint: Checkpoint, file: Path, tokens: int | None) -> Blocks:
    """A file's tokens: .txt, or .jsonl as for --dataset. Raises CalibrationError where it is too short."""
    reader = Reader.of(checkpoint.tokenizer)
    found = np.fromiter(islice(stream(str(file), file, reader), tokens), dtype=np.int64)
    if found.size < LEAST_TOKENS:
        raise CalibrationError(
            f"{found.size} tokens of {str(file)!r} are too few to measure with: nothing could be said that is larger "
            f"than its error. Give it {LEAST_TOKENS} at least, better 50,000."
        )
    return {"text": found[: found.size // LENGTH * LENGTH].reshape(-1, LENGTH)}


def heldout_blocks(fetched: Fetched, candidate: Path, tokens: int | None, report: Report) -> Blocks:
    """What a build measures with: text, and conversations where the model's template takes them."""
    manifest = candidate / "manifest.json"
    recorded = json.loads(manifest.read_text(encoding="utf-8")).get("recipe", {}) if manifest.is_file() else {}
    of_build = {name: recorded[name] for name in CALIBRATION if name in recorded}
    demo = fetched.source.kind == "demo"
    usual = usual_recipe(demo) if demo else replace(usual_recipe(demo), fallback_dataset="offline")
    made = make_blocks(fetched.checkpoint, QuantRecipe(**of_build) if of_build else usual, report)
    kinds = {"text": made.heldout, "chats": made.chats}
    each = None if tokens is None else max(1, tokens // LENGTH)
    return {kind: blocks[:each] for kind, blocks in kinds.items() if len(blocks)}


def measurement_of(facts: Mapping[str, Any]) -> Measurement:
    """The reverse of dataclasses.asdict."""
    figures = {
        name: {key: Figure(**figure) for key, figure in facts[name].items()} for name in ("perplexity", "kl", "p")
    }
    return Measurement(facts["tokens"], facts["sequences"], facts["block"], **figures)


def paired_of(facts: Mapping[str, Any]) -> Paired:
    """The reverse of dataclasses.asdict."""
    return Paired(**{name: Figure(**figure) for name, figure in facts.items()})
