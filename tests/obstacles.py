"""What becomes of families that are refused, when they are tried: `python -m tests.obstacles`.

A tiny random checkpoint of each goes through our chain, or to OGA's model builder as it is, for the CPU; what comes out
is run, and compared with what it was made of. One line each: the error as it comes, or how far the logits are apart.
"""

import argparse
import contextlib
import io
import json
import os
import runpy
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from builder.checkpoint.families import FAMILIES
from serving.engine.oga import OgaRuntime
from serving.folder import ModelFolder
from tests.family_cases import VOCABULARY, Case
from tests.family_chain import (
    TOKENIZER,
    Measured,
    compared,
    export_case,
    folder,
    job_of,
    make_blocks,
    make_checkpoint,
    quantize_case,
)

_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_ROPE = {
    "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "rope_theta": 1_000_000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
}
_GEMMA4 = {
    "head_dim": 32, "global_head_dim": 64, "layer_types": ["sliding_attention", "full_attention"],
    "sliding_window": 48, "rope_parameters": _ROPE,
}  # fmt: skip
_MORE = {"hidden_size_per_layer_input": 32, "vocab_size_per_layer_input": VOCABULARY}
_GEMMA4_EXPERTS = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 96}


@dataclass(frozen=True)
class Attempt:
    """A case, and how it is tried: by our whole chain, or by the model builder alone, which is told an architecture.

    told: what that needs in config.json besides.
    """

    case: Case
    architecture: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)


TRIED: dict[str, Attempt] = {
    "gemma4, per-layer inputs": Attempt(
        Case("gemma4_text", {**_GEMMA4, **_MORE}), "Gemma4UnifiedForConditionalGeneration"
    ),
    "gemma4, experts": Attempt(
        Case("gemma4_text", {**_GEMMA4, **_GEMMA4_EXPERTS, "hidden_size_per_layer_input": 0})
    ),
    "granitemoehybrid, Mamba": Attempt(
        Case(
            "granitemoehybrid",
            {
                "num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 256,
                "layer_types": ["mamba", "attention"], "mamba_n_heads": 8, "mamba_d_head": 32, "mamba_d_state": 16,
            },
        ),
        "GraniteMoeHybridForCausalLM",
    ),
    "olmo": Attempt(Case("olmo", {}), "OlmoForCausalLM"),
    "phimoe": Attempt(
        Case("phimoe", {**_EXPERTS, "sliding_window": None}),
        "PhiMoEForCausalLM",
        {"original_max_position_embeddings": 256},
    ),
}  # fmt: skip


def tried(name: str, work: Path) -> str:
    """What came of it, in a line."""
    attempt = TRIED[name]
    checkpoint, exported = folder(work, name) / "checkpoint", folder(work, name) / "exported"
    make_checkpoint(attempt.case, 0, checkpoint)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            found = (by_builder if attempt.architecture else by_chain)(work, name, checkpoint, exported)
    except (Exception, SystemExit) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return f"exported, and its logits differ by up to {found.max_difference:.2g}"


def by_chain(work: Path, name: str, checkpoint: Path, exported: Path) -> Measured:
    """As a supported family goes, with the refusal of its configuration lifted."""
    own, model_type = FAMILIES.copy(), TRIED[name].case.model_type
    make_blocks(work)
    (work / "prompts").mkdir(exist_ok=True)
    for file in TOKENIZER:
        shutil.copyfile(checkpoint / file, work / "prompts" / file)
    FAMILIES[model_type] = replace(own[model_type], refused=lambda config: "")
    try:
        job = {**job_of(work, name), "quant_algo": "none"}
        quantize_case(job)
        return export_case(job, exported)
    finally:
        FAMILIES.update(own)


def by_builder(work: Path, name: str, checkpoint: Path, exported: Path) -> Measured:
    """The model builder in this process, from its command line: float32, for the CPU."""
    token_ids = np.random.default_rng(0).integers(3, VOCABULARY, 96)
    expected = logits(checkpoint, token_ids)
    config, attempt = checkpoint / "config.json", TRIED[name]
    told = {**attempt.told, "architectures": [attempt.architecture]}
    config.write_text(json.dumps({**json.loads(config.read_text()), **told}))
    sys.argv = ["builder", "-i", str(checkpoint), "-o", str(exported), "-p", "fp32", "-e", "cpu", "-c", str(exported)]
    runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__", alter_sys=True)
    runtime = OgaRuntime(ModelFolder.open(exported), None, 1, provider="cpu")
    return compared(runtime.all_logits(token_ids.astype(np.int32)), expected)


def logits(checkpoint: Path, token_ids: Any) -> Any:
    """What the model itself says, [n, vocabulary]."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.from_numpy(token_ids)[None]).logits[0].numpy()


def main() -> None:
    """Try them, or one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(TRIED)}; all by default")
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    for name in parser.parse_args().names or TRIED:
        with tempfile.TemporaryDirectory() as work:
            print(f"{name}: {tried(name, Path(work))}", flush=True)


if __name__ == "__main__":
    main()
