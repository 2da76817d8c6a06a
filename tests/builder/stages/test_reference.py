"""Exports of checkpoints that came quantized: what they stand for is computed, and what misreads them is refused.

One run of tests/quantized_chain.py packs and exports all of them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.comparison import Comparison
from builder.progress import silent
from builder.stages.quantize import PROOF
from builder.stages.stage import run_stage
from serving.engine.oga import OgaRuntime
from serving.engine.ort import OrtRuntime
from serving.errors import InvalidRequest
from serving.folder import ModelFolder
from tests.conftest import Stages
from tests.quantized_chain import EIGHT_BITS, MISREAD, SOUND, run

EXACT = 1e-3  # of logits whose standard deviation is 2 to 4


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the chain runs."""
    return tmp_path_factory.mktemp("quantized")


@pytest.fixture(scope="module")
def measured(work: Path) -> dict[str, dict[str, Any]]:
    """What the chain has found."""
    return run(work)


@pytest.mark.parametrize("name", SOUND)
def test_the_export_is_what_the_packed_weights_stand_for(measured: dict[str, dict[str, Any]], name: str) -> None:
    assert 1 < measured[name]["std"] < 5
    assert measured[name]["max_difference"] < EXACT and not measured[name]["refused"]


def test_embeddings_in_8_bits_are_what_their_integers_stand_for(
    measured: dict[str, dict[str, Any]], work: Path
) -> None:
    assert measured[EIGHT_BITS]["max_difference"] < EXACT
    folder = ModelFolder.open(work / EIGHT_BITS / "exported")
    assert folder.size < ModelFolder.open(work / "awq" / "exported").size  # untied, and smaller all the same
    token_ids = np.arange(3, 40, dtype=np.int32)
    runtime = OrtRuntime(folder, None, 1)
    slot = runtime.slot(0)
    slot.reserve(64)
    runtime.forward([(slot, token_ids)])
    assert np.abs(slot.logits()[0] - OgaRuntime(folder, None, 1).all_logits(token_ids)[-1]).max() < EXACT


@pytest.mark.parametrize("name", MISREAD)
def test_an_export_that_misreads_them_is_refused(measured: dict[str, dict[str, Any]], name: str) -> None:
    assert measured[name]["refused"] and measured[name]["kl_divergence"] > 0.3


# Exports as others make them


@pytest.mark.usefixtures("measured")
def test_a_head_that_prunes_to_the_last_token_is_served_without_guesses(work: Path) -> None:
    plain, pruned = (ModelFolder.open(work / name / "exported") for name in ("gptq", "pruned"))
    token_ids = np.arange(3, 9, dtype=np.int32)
    runtime = OgaRuntime(pruned, None, 1)
    assert (runtime.whole, runtime.rewinds) == (False, True) and "last token only" in runtime.notes[0]
    slot = runtime.slot(0)
    slot.reserve(16)
    slot.append(token_ids)
    expected = OgaRuntime(plain, None, 1).all_logits(token_ids)
    assert np.abs(slot.logits()[0] - expected[-1]).max() < EXACT
    with pytest.raises(InvalidRequest, match="start without --deterministic"):
        OgaRuntime(pruned, None, 1, deterministic=True)
    with pytest.raises(InvalidRequest, match="last token only: start with --runtime oga"):
        OrtRuntime(pruned, None, 1)


@pytest.mark.usefixtures("measured")
def test_a_kv_cache_in_8_bits_is_served(work: Path) -> None:
    plain, small = (ModelFolder.open(work / name / "exported") for name in ("gptq", "kv8"))
    token_ids = np.arange(3, 67, dtype=np.int32)
    comparison = Comparison()
    expected, found = (OgaRuntime(folder, None, 1).all_logits(token_ids) for folder in (plain, small))
    comparison.add(expected, found, token_ids.astype(np.int64))
    assert 0 < comparison.kl_divergence < 0.1
    with pytest.raises(InvalidRequest, match="start with --runtime oga"):
        OrtRuntime(small, None, 1)


def test_what_quark_packed_stands_for_what_quark_computed(stages: Stages, tmp_path: Path) -> None:
    """The proof that Quark's own model left is nobody's reading of the packed weights."""
    with np.load(stages.job["proof"]) as content:
        token_ids, expected = content["token_ids"], content["logits"]
    np.savez(tmp_path / "blocks.npz", proof=token_ids)
    job = {
        "checkpoint": stages.job["quantized"], "prompts": stages.job["prompts"], "data_type": "float32",
        "blocks": str(tmp_path / "blocks.npz"), "output": str(tmp_path / "made"),
    }  # fmt: skip
    run_stage("builder.stages.reference", job, tmp_path / "log", silent)
    with np.load(tmp_path / "made" / PROOF) as content:
        assert np.abs(content["logits"] - expected).max() < 1e-3
