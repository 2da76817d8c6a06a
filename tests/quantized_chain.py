"""Tiny random checkpoints in every packing that is read, exported, and compared with what they stand for.

A stage of one process, as tests/family_chain.py is: torch and the model builder are imported once.
"""

import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from builder.checkpoint.checkpoint import read_folder
from builder.checkpoint.quantization import Packing
from builder.comparison import Comparison
from builder.demo import CHECKPOINT
from builder.errors import VerificationFailed
from builder.progress import Report, silent
from builder.quality import Quality, judge
from builder.stages.graph import UNTOUCHED
from builder.stages.quantize import PROOF
from builder.stages.stage import Job, run_stage, stage_main
from builder.steps import knobs_of
from tests import packings
from tests.family_cases import CASES, VOCABULARY
from tests.family_chain import TOKENIZER, TOKENS, make_checkpoint

BIASED = "llama, tied, biases"
# Of phi3 the linears of queries, keys and values are one, and so are those of the gate and what it gates.
SOUND: dict[str, tuple[str, Packing, dict[str, Any]]] = {
    "awq": (BIASED, "awq", {}),
    "awq, fused linears": ("phi3", "awq", {}),
    "awq, the output layer too": ("llama", "awq", {"head": True}),
    "gptq": (BIASED, "gptq", {}),
    "gptq, fused linears": ("phi3", "gptq", {}),
    "gptq_v2": (BIASED, "gptq_v2", {}),
    "gptq_v2, asymmetric, window": ("mistral, window", "gptq_v2", {}),
}  # fmt: skip
EIGHT_BITS = "embeddings in 8 bits"  # of which only its own table is
# What an exporter that misreads one would write.
MISREAD: dict[str, tuple[str, Callable[[packings.Tensors], packings.Tensors]]] = {
    "awq: swapped nibbles": ("awq", packings.swapped_nibbles),
    "awq: plain order": ("awq", packings.plain_order),
    "awq: lost zero points": ("awq", packings.lost_zero_points),
    "gptq: swapped nibbles": ("gptq", packings.swapped_nibbles),
    "gptq: off by one": ("gptq", packings.off_by_one),
    "gptq_v2: lost zero points": ("gptq_v2", packings.lost_zero_points),
    "gptq_v2: off by one": ("gptq_v2", packings.off_by_one),
}

# Exports as others make them.
UNUSUAL = {
    "pruned": {"prune_lm_head": "true"},
    "kv8": {"kv_cache_quant_scheme": "int8_per_tensor", "kv_cache_scale_file": "{work}/scales.json"},
}
_SCALE = 0.06  # of the keys and values of either layer


def exported(checkpoint: Path, proof: Path, work: Path, embedding_bits: int = UNTOUCHED) -> dict[str, Any]:
    """An export that rounds nothing more, or the embeddings besides, against a proof."""
    from builder.stages.export import export
    from serving.engine.oga import OgaRuntime
    from serving.folder import ModelFolder

    job = {
        **knobs_of(read_folder(checkpoint)), "quantized": str(checkpoint), "output": str(work / "exported"),
        "prompts": str(work.parent / "prompts"), "execution_provider": "cpu", "accuracy_level": 1,
        "lm_head_bits": UNTOUCHED, "embedding_bits": embedding_bits,
    }  # fmt: skip
    work.mkdir(exist_ok=True)
    export(job, silent)
    if work.name in UNUSUAL:
        return {}
    with np.load(proof) as content:
        token_ids, logits = content["token_ids"], content["logits"]
    runtime = OgaRuntime(ModelFolder.open(work / "exported"), None, 1, provider="cpu")
    comparison = Comparison()
    comparison.add(logits, runtime.all_logits(token_ids.astype(np.int32)), token_ids)
    quality = Quality(export=comparison.difference())
    try:
        judge(quality)
        refused = False
    except VerificationFailed:
        refused = True
    return {**asdict(comparison.difference()), "std": float(logits.std()), "refused": refused}


def chain(job: Job, report: Report) -> Job:
    """job: work, an empty folder. Returns `measured`: differences of every case, and whether they are refused."""
    import torch

    from builder.stages.reference import reference

    torch.set_num_threads(1)
    work = Path(job["work"])
    (work / "prompts").mkdir()
    for name in TOKENIZER:
        shutil.copyfile(CHECKPOINT / name, work / "prompts" / name)
    np.savez(work / "blocks.npz", proof=np.random.default_rng(0).integers(0, VOCABULARY, TOKENS))
    found = {}
    for name, (case, packing, how) in {**SOUND, EIGHT_BITS: ("llama", "awq", {})}.items():
        own = work / name
        own.mkdir()
        make_checkpoint(CASES[case], zlib.crc32(name.encode()), own / "whole")
        if name == EIGHT_BITS:
            round_embeddings(own / "whole")
        checkpoint = packings.pack(own / "whole", own / "packed", packing, **how)
        task = {"checkpoint": checkpoint, "prompts": work / "prompts", "blocks": work / "blocks.npz"}
        paths = {key: str(path) for key, path in {**task, "output": own / "reference"}.items()}
        reference({**paths, "data_type": "float32"}, silent)
        bits = 8 if name == EIGHT_BITS else UNTOUCHED
        found[name] = exported(checkpoint, own / "reference" / PROOF, own, bits)
    for name, (sound, spoil) in MISREAD.items():
        own = work / name
        own.mkdir()
        _, packing, _ = SOUND[sound]
        checkpoint = packings.pack(work / sound / "whole", own / "packed", packing, spoil)
        found[name] = exported(checkpoint, work / sound / "reference" / PROOF, own)
    (work / "scales.json").write_text(json.dumps({"scales": {"k_scales": [_SCALE] * 2, "v_scales": [_SCALE] * 2}}))
    for name, options in UNUSUAL.items():
        with told({option: value.format(work=work) for option, value in options.items()}):
            exported(work / "gptq" / "packed", work / "gptq" / "reference" / PROOF, work / name)
    (work / "measured.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return {"measured": found}


def round_embeddings(checkpoint: Path) -> None:
    """Let the embeddings be 8-bit integers times a power of two, so that 16-bit floats and an export have them too."""
    import torch
    from safetensors.torch import load_file, save_file

    from builder.stages.embeddings import GROUP

    file, name = checkpoint / "model.safetensors", "model.embed_tokens.weight"
    tensors = load_file(file)
    integers = torch.randint(-127, 128, tensors[name].shape, generator=torch.Generator().manual_seed(0))
    integers[:, ::GROUP] = 127  # by which each group's scale is known
    tensors[name] = integers.float() * 2.0**-12
    save_file(tensors, file, metadata={"format": "pt"})


@contextmanager
def told(options: dict[str, str]) -> Iterator[None]:
    """Let the model builder be told more than our exports are made with."""
    from builder.stages import export

    usual = export.builder_options
    export.builder_options = lambda *given: {**usual(*given), **options}
    try:
        yield
    finally:
        export.builder_options = usual


def run(work: Path) -> dict[str, dict[str, Any]]:
    """`chain` in a process of its own."""
    measured: dict[str, dict[str, Any]] = run_stage("tests.quantized_chain", {"work": str(work)}, work / "log", silent)[
        "measured"
    ]
    return measured


if __name__ == "__main__":
    stage_main(chain)
