"""Tiny random checkpoints of every family through the whole chain, in one process: a stage, as the build's are.

Importing torch, Quark and the model builder takes most of a minute when each family does it for itself, and a second
per family when they share a process.
"""

import json
import re
import shutil
import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from builder.demo import CHECKPOINT
from builder.progress import Report, Step, silent
from builder.stages.quantize import CHECKPOINT as QUANTIZED
from builder.stages.quantize import ORIGINAL, PROOF
from builder.stages.stage import Job, run_stage, stage_main
from tests.builder.stages.whole_model import quantize_whole
from tests.family_cases import CASES, SHAPE, VOCABULARY, WHOLE_MODELS, Case, config_of

TOKENS = 192  # more than any window below
_FEW = 48
_FIRST_LAYERS = 2
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")

# Other targets and formats, shown on the families whose graphs differ most: float16 has other nodes for the rotation.
PROVIDERS = ("dml", "cuda", "webgpu")
PROVIDER_CASES = ("llama", "smollm3", "gemma3_text", "olmo3")
HEAD_CASES = ("llama", "llama, tied, biases")
MIXED = ("none", "gptq", "gptaq")  # algorithms that can have 8 bits among the 4
FORMAT_CASES = ("llama, tied, biases",)
# Exported from one file too, and by the model builder's own way of loading: it gets names that are already its own.
JOINED_CASES = ("llama", "llama, tied, biases", "granitemoehybrid, no RoPE")
PLAIN_CASES = ("llama", "llama, tied, biases", "olmo3")
# Quantized by Quark with the whole model in memory too: grouped queries, a tied head, two kinds of rotary embedding.
WHOLE_CASES = ("llama", "llama, tied, biases", "gemma3_text")
DEMO = "demo"
WHOLE_ALGORITHMS = ("awq", "gptq", "none")


@dataclass(frozen=True)
class Measured:
    """An export against the quantized model. std: of the quantized model's logits, all positions."""

    max_difference: float
    top1_agreement: float
    std: float


def folder(work: Path, case: str) -> Path:
    """Where a case has its checkpoint, quantized/ and exports."""
    return work / re.sub(r"\W+", "-", case)


def make_checkpoint(case: Case, seed: int, checkpoint: Path) -> None:
    """A random model whose every tensor matters: norms are not ones, biases are not zeros, attention is sharp."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config_of(case))
    write_random(model, case.model_type, seed, checkpoint)


def make_whole(model_type: str, case: Case, settings: Mapping[str, Any], seed: int, checkpoint: Path) -> None:
    """A random model that also sees."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    text = {**SHAPE, **case.settings, "model_type": case.model_type}
    config = AutoConfig.for_model(model_type, text_config=text, **settings)
    write_random(AutoModelForImageTextToText.from_config(config), case.model_type, seed, checkpoint)


def write_random(model: Any, model_type: str, seed: int, checkpoint: Path) -> None:
    """Draw its weights, and write it with the demo's tokenizer."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    around_zero = (
        model_type.startswith(("gemma", "qwen3_5")) and "gemma4" not in model_type
    ) or model_type == "nemotron"  # 1 is added to their norms
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                one = "norm" in name and name.endswith("weight") and not around_zero
                parameter.copy_(int(one) + 0.3 * values)
            else:
                scale = 2.0 if "embed" in name or "lm_head" in name else 1.5
                parameter.copy_(scale * values / parameter.shape[-1] ** 0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("layer_scalar"):
                buffer.fill_(0.7)
            elif name.endswith("expert_bias"):
                buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
    model.save_pretrained(checkpoint)
    for name in TOKENIZER:
        shutil.copyfile(CHECKPOINT / name, checkpoint / name)


def job_of(work: Path, case: str) -> Job:
    """Quantization in groups of 32, and an export that rounds nothing more."""
    return {
        "checkpoint": str(folder(work, case) / "checkpoint"),
        "prompts": str(work / "prompts"),
        "blocks": str(work / "blocks.npz"),
        "quantized": str(folder(work, case) / "quantized"),
        "quant_algo": "awq",
        "group_size": 32,
        "data_type": "float32",
        "execution_provider": "cpu",
        "accuracy_level": 1,
        "lm_head_bits": 16,
        "embedding_bits": 16,
        "exclude_layers": ["lm_head"],
        "custom_mode": "quark",
        "quantize_on": "cpu",
        "awq_search": "fast",
        "mixture": "none",
    }


def quantize_case(job: Job) -> None:
    """What the build's stage does; `quantized` is the folder that gets it all."""
    from builder.stages.quantize import quantize

    layers = Path(f"{job['quantized']}-layers")
    layers.mkdir()
    quantize({**job, "layers": str(layers), "output": job["quantized"]}, silent)


def quantize_demo(work: Path) -> None:
    """The first layers of the demo, as its recipe has it."""
    own = folder(work, DEMO)
    write_first_layers(CHECKPOINT, _FIRST_LAYERS, own / "checkpoint")
    quantize_both({**job_of(work, DEMO), "group_size": 128}, own, "awq")


def write_first_layers(checkpoint: Path, count: int, shorter: Path) -> None:
    """The same model, which ends after so many layers."""
    shutil.copytree(checkpoint, shorter)
    config = json.loads((shorter / "config.json").read_text())
    (shorter / "config.json").write_text(json.dumps({**config, "num_hidden_layers": count}))
    layer = re.compile(r"model\.layers\.(\d+)\.")
    kept = {
        name: tensor
        for name, tensor in load_file(checkpoint / "model.safetensors").items()
        if not (found := layer.match(name)) or int(found[1]) < count
    }
    save_file(kept, shorter / "model.safetensors", {"format": "pt"})


def quantize_both(job: Job, own: Path, algorithm: str) -> None:
    """Quark's own searches, a layer at a time and with the whole model in memory: layered-* and whole-*.

    On few tokens: its search multiplies each with all weights, for every ratio that it tries.
    """
    few = own / "few.npz"
    with np.load(job["blocks"]) as blocks:
        np.savez(few, **{name: block[:1, :_FEW] for name, block in blocks.items()})
    job = {**job, "blocks": str(few), "quant_algo": algorithm, "awq_search": "quark"}
    quantize_case({**job, "quantized": str(own / f"layered-{algorithm}")})
    quantize_whole(job, own / f"whole-{algorithm}")


def export_case(job: Job, exported: Path) -> Measured:
    """What the build's stage does, and how its result compares with the quantized model."""
    from builder.stages.export import export

    quantized = Path(job["quantized"])
    export({**job, "quantized": str(quantized / QUANTIZED), "output": str(exported)}, silent)
    return measure(exported, quantized)


def join_files(checkpoint: Path, whole: Path) -> None:
    """The same checkpoint in one file, without an index."""
    shutil.copytree(checkpoint, whole, ignore=shutil.ignore_patterns("*.safetensors*"))
    tensors = {name: tensor for file in checkpoint.glob("*.safetensors") for name, tensor in load_file(file).items()}
    save_file(tensors, whole / "model.safetensors", {"format": "pt"})


def export_plainly(job: Job, exported: Path) -> None:
    """The stage with all layers in memory, as the model builder has it."""
    from builder.stages import export

    sparing, export.layer_by_layer = export.layer_by_layer, lambda *_: nullcontext()
    try:
        export_case(job, exported)
    finally:
        export.layer_by_layer = sparing


def measure(exported: Path, quantized: Path) -> Measured:
    """Compare the export, run on the CPU, with the logits that the quantized model gave."""
    from serving.engine.oga import OgaRuntime
    from serving.folder import ModelFolder

    with np.load(quantized / PROOF) as proof:
        token_ids, expected = proof["token_ids"].astype(np.int32), proof["logits"]
    return compared(OgaRuntime(ModelFolder.open(exported), None, 1, provider="cpu").all_logits(token_ids), expected)


def compared(logits: Any, expected: Any) -> Measured:
    """Two of [n, vocab]."""
    return Measured(
        max_difference=float(np.abs(logits - expected).max()),
        top1_agreement=float((logits.argmax(axis=1) == expected.argmax(axis=1)).mean()),
        std=float(expected.std()),
    )


def make_blocks(work: Path) -> None:
    """Random tokens to calibrate on, and to compare on: those of padding and ends among them, one of them twice."""
    rng = np.random.default_rng(0)
    blocks = {name: rng.integers(0, VOCABULARY, (2, TOKENS)) for name in ("calibration", "text")}
    blocks["text"][:, 10:12] = 0
    np.savez(work / "blocks.npz", chats=np.empty((0, TOKENS), dtype=np.int64), **blocks)


def prove(work: Path, name: str, case: Case) -> dict[str, Measured]:
    """All that is exported of one case: "exact", "served", and the providers and formats that are tried on it."""
    job, own = job_of(work, name), folder(work, name)
    make_checkpoint(case, zlib.crc32(name.encode()), own / "checkpoint")
    quantize_case(job)
    jobs: dict[str, Job] = {"exact": job, "served": {**job, "accuracy_level": 4, "lm_head_bits": 8}}
    if name in PROVIDER_CASES:
        jobs |= {provider: {**job, "execution_provider": provider} for provider in PROVIDERS}
    if name in HEAD_CASES:
        jobs["head"] = {**job, "exclude_layers": [], "lm_head_bits": 4, "quantized": str(own / "quantized-head")}
        quantize_case(jobs["head"])
    if name in FORMAT_CASES:
        jobs["awq"] = {**job, "custom_mode": "awq", "quantized": str(own / "quantized-awq")}
        jobs["gptaq"] = {**job, "quant_algo": "gptaq", "quantized": str(own / "quantized-gptaq")}
        for algorithm in MIXED:
            own_job = {"quant_algo": algorithm, "quantized": str(own / f"quantized-mixed-{algorithm}")}
            jobs[f"mixed-{algorithm}"] = {**job, **own_job, "group_size": 128, "mixture": "q4_k_m"}
        for what in ("awq", "gptaq", *(f"mixed-{algorithm}" for algorithm in MIXED)):
            quantize_case(jobs[what])
    if name in WHOLE_CASES:
        for algorithm in WHOLE_ALGORITHMS:
            quantize_both(job, own, algorithm)
    if name in JOINED_CASES:
        for what in jobs.keys() & {"exact", "head", "awq"}:
            several, one = Path(jobs[what]["quantized"]), own / f"quantized-{what}-joined"
            join_files(several / QUANTIZED, one / QUANTIZED)
            shutil.copyfile(several / PROOF, one / PROOF)
            jobs[f"{what}-joined"] = {**jobs[what], "quantized": str(one)}
    if name in PLAIN_CASES:
        for what in jobs.keys() & {"served", "head", "awq", "cuda"}:
            export_plainly(jobs[what], own / f"{what}-plain")
    return {what: export_case(job, own / what) for what, job in jobs.items()}


def prove_text_part(work: Path, name: str, whole: tuple[Case, Mapping[str, Any]]) -> dict[str, Measured]:
    """The export of a text part, rounded without a search; and its original against the whole model."""
    import torch
    from transformers import AutoModelForImageTextToText

    job, own = {**job_of(work, name), "quant_algo": "none"}, folder(work, name)
    make_whole(name, *whole, zlib.crc32(name.encode()), own / "checkpoint")
    quantize_case(job)
    with np.load(job["blocks"]) as blocks:
        token_ids = blocks["text"][0]
    model = AutoModelForImageTextToText.from_pretrained(own / "checkpoint", dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(token_ids)[None]).logits[0].log_softmax(dim=-1).numpy()
    found = np.load(own / "quantized" / ORIGINAL / "0.npy").astype(np.float32)
    return {"whole": compared(found, expected), "exact": export_case(job, own / "exact")}


def chain(job: Job, report: Report) -> Job:
    """job: work, an empty folder. Returns `measured`: of every case, as `Measured` in JSON."""
    import torch

    from builder.stages import awq_search

    torch.set_num_threads(1)  # these matrices are too small to be shared
    awq_search.RATIOS = awq_search.RATIOS[::5]  # any scales will do; which are best is not asked here
    work = Path(job["work"])
    make_blocks(work)
    (work / "prompts").mkdir()
    for name in TOKENIZER:
        shutil.copyfile(CHECKPOINT / name, work / "prompts" / name)
    quantize_demo(work)
    found: dict[str, Measured] = {}
    for done, (name, case) in enumerate(CASES.items()):
        report(Step("families", done, len(CASES), name))
        found |= {f"{name}: {what}": measured for what, measured in prove(work, name, case).items()}
    for name, whole in WHOLE_MODELS.items():
        found |= {f"{name}: {what}": measured for what, measured in prove_text_part(work, name, whole).items()}
    return {"measured": {name: asdict(measured) for name, measured in found.items()}}


def run(work: Path) -> dict[str, Measured]:
    """`chain` in a process of its own, because the model builder leaves modules behind."""
    result = run_stage("tests.family_chain", {"work": str(work)}, work / "log", silent)
    return {name: Measured(**values) for name, values in result["measured"].items()}


if __name__ == "__main__":
    stage_main(chain)
