"""What a model computed when it was built, compared with what another device makes of the same tokens.

Every build is proved on the CPU. A device's own kernels may still compute something else, on one kind of it only
(onnxruntime-genai 2291), and nobody would see it. So a few hundred kB of the proof stay in the model's folder:
proof.npz has token_ids [t], and of each position's logits those of ids [t, k]: the largest, and some from everywhere.
"""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from serving.errors import InvalidRequest, ModelFolderError

PROOF = "proof.npz"
KL_LIMIT = 0.1  # nats; float16 makes 0.001, and an attention window that was lost made 0.6
_MOST_BYTES = 16 << 20  # unpacked
_MOST_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class Proof:
    """token_ids [t] int32; ids [t, k] int64, tokens whose logits [t, k] float64 are known after each of them."""

    token_ids: NDArray[np.int32]
    ids: NDArray[np.int64]
    logits: NDArray[np.float64]


def read_proof(folder: Path, vocab_size: int) -> Proof | None:
    """What a model's folder has of it; None where it has none. Raises ModelFolderError for one of another shape."""
    file = folder / PROOF
    if not file.is_file():
        return None
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
                raise ValueError(f"it has more than {_MOST_BYTES >> 20} MiB")
        with np.load(file) as content:
            token_ids, ids, logits = (content[name] for name in ("token_ids", "ids", "logits"))
        if not 2 <= len(token_ids) <= _MOST_TOKENS or token_ids.ndim != 1 or ids.ndim != 2 or not ids.size:
            raise ValueError(f"it has tokens of the shape {token_ids.shape}, and ids of {ids.shape}")
        if ids.shape != logits.shape or len(ids) != len(token_ids) or {token_ids.dtype.kind, ids.dtype.kind} != {"i"}:
            raise ValueError(f"it has ids of the shape {ids.shape}, and logits of {logits.shape}")
        known = np.concatenate([token_ids, ids.ravel()])
        if known.min() < 0 or known.max() >= vocab_size:
            raise ValueError(f"it has tokens beyond the {vocab_size} of the model")
        return Proof(token_ids.astype(np.int32), ids.astype(np.int64), logits.astype(np.float64))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ModelFolderError(f"{file} cannot be read ({error}): remove it, or build the model again.") from error


def check_proof(
    proof: Proof, all_logits: Callable[[NDArray[np.int32]], NDArray[np.float32]], provider: str, most: int
) -> str:
    """Compare, and say in a sentence what was found. most: tokens of the model's window.

    all_logits: computes on the provider, [n] -> [n, vocab]. Raises InvalidRequest where it computes something else.
    """
    count = min(len(proof.token_ids), most - 1)
    expected, ids = proof.logits[:count], proof.ids[:count]
    whole = all_logits(proof.token_ids[:count])
    found = np.take_along_axis(whole, ids, axis=1).astype(np.float64)
    p, q = _log_softmax(expected), _log_softmax(found)
    divergence = float((np.exp(p) * (p - q)).sum(axis=1).mean())
    agreement = float((whole.argmax(axis=1) == ids[np.arange(count), expected.argmax(axis=1)]).mean())
    measured = f"KL divergence {divergence:.2g}, top-1 agreement {agreement:.1%}, on {count} tokens"
    if not divergence <= KL_LIMIT:  # also refuses NaN
        raise InvalidRequest(
            f"the provider {provider} does not compute what this model was proved to compute ({measured}): its answers "
            "would be wrong. Start with --execution-provider cpu, or try another driver."
        )
    difference = float(np.abs(found - expected).max())
    return (
        f"on {provider} it computes what it was proved to: {measured}, largest difference of logits {difference:.2g}."
    )


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
