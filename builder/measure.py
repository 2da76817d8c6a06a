"""`python -m builder measure`: a model folder, or a GGUF file, against the checkpoint that it was made from."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.checkpoint.checkpoint import Checkpoint, Fetched, is_export, read_settings, with_weights
from builder.checkpoint.preflight import check_measure_memory, check_tokenizer
from builder.checkpoint.source import Source, add_weights, locate_settings
from builder.errors import CalibrationError, SourceError
from builder.measurement import Figure, Measurement
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
    """Measurements by the kind of text. text: a SHA-256 of the tokens: only what has the same can be compared."""

    text: str
    measurements: Mapping[str, Measurement]


def measure(
    candidate: Path, against: Source, text: Path | None, tokens: int | None, data_type: str, report: Report
) -> Measured:
    """Measure a model folder or a GGUF file against a checkpoint, on the text of a file.

    Without a file: on the held-out text of the build that made the folder, or else of a build with its defaults.
    tokens: at most so many. data_type: of the original's weights. Raises BuildError.
    """
    # 1. What can be refused before anything is read.
    check_candidate(candidate)
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
    digest = hashlib.sha256(b"".join(each.tobytes() for each in blocks.values())).hexdigest()
    check_measure_memory(fetched.checkpoint, data_type, sum(each.size for each in blocks.values()), bytes_of(candidate))

    # 3. Both models, in a process of their own.
    with tempfile.TemporaryDirectory() as name:
        content: dict[str, Any] = dict(blocks)
        np.savez(Path(name) / "blocks.npz", **content)
        job = {
            "checkpoint": str(fetched.checkpoint.path),
            "candidate": str(candidate.absolute()),
            "blocks": str(Path(name) / "blocks.npz"),
            "data_type": data_type,
        }
        found = run_stage("builder.stages.measure", job, Path(name) / "measure.log", report)["measured"]
    return Measured(digest, {kind: measurement_of(facts) for kind, facts in found.items()})


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
