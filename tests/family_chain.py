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

TOKENS = 192  # more than any window below
WINDOW = 48
VOCABULARY = 512
_FEW = 48
_FIRST_LAYERS = 2
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")

_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
}
_ROPE = {"rope_theta": 10_000.0}
_LLAMA3 = {
    **_ROPE, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}  # fmt: skip
_YARN = {**_ROPE, "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
_GRANITE = {
    "embedding_multiplier": 3.0, "logits_scaling": 0.5, "residual_multiplier": 0.6, "attention_multiplier": 0.1,
}  # fmt: skip
_GRANITE4 = {
    **_GRANITE, "num_local_experts": 0, "num_experts_per_tok": 0, "shared_intermediate_size": 256,
    "layer_types": ["attention", "attention"],
}  # fmt: skip
_ALTERNATING = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
_GATED_DELTA = {
    "head_dim": 64, "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 32,
    "linear_value_head_dim": 32, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.25},
}  # fmt: skip
_TIED = {"tie_word_embeddings": True}
_LONG_ROPE = {
    **_TIED, "num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": 262_144,
    "rope_parameters": {
        **_ROPE, "rope_type": "longrope", "partial_rotary_factor": 0.75,
        "short_factor": [1 + i / 10 for i in range(24)], "long_factor": [2 + i for i in range(24)],
    },
}  # fmt: skip
_EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 96}


@dataclass(frozen=True)
class Case:
    """A configuration of a family. windowed: attention that does not see further back than WINDOW."""

    model_type: str
    settings: Mapping[str, Any]
    windowed: bool = False


CASES: dict[str, Case] = {
    "llama": Case("llama", {"rope_parameters": _LLAMA3}),
    "llama, tied, biases": Case("llama", {**_TIED, "attention_bias": True, "mlp_bias": True, "head_dim": 64}),
    "llama, linear RoPE": Case("llama", {"rope_parameters": {**_ROPE, "rope_type": "linear", "factor": 4.0}}),
    "llama, dynamic RoPE": Case("llama", {"rope_parameters": {**_ROPE, "rope_type": "dynamic", "factor": 4.0}}),
    "llama, YaRN": Case("llama", {"rope_parameters": _YARN}),
    "mistral": Case("mistral", {"sliding_window": None}),
    "mistral, window": Case("mistral", {"sliding_window": WINDOW}, windowed=True),
    "ministral": Case("ministral", {**_ALTERNATING, "head_dim": 32}, windowed=True),
    "ministral3": Case(
        "ministral3",
        {
            "head_dim": 32,
            "rope_parameters": {
                **_YARN, "original_max_position_embeddings": 256, "mscale": 0.5, "mscale_all_dim": 1.0,
                "llama_4_scaling_beta": 0.1,
            },
        },
    ),
    "qwen2": Case("qwen2", {**_TIED, "rope_parameters": {**_YARN, "factor": 2.0}}),
    "qwen2, window": Case(
        "qwen2", {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}, windowed=True
    ),
    "qwen3": Case("qwen3", {**_TIED, "head_dim": 64}),
    "qwen3_moe": Case("qwen3_moe", {**_EXPERTS, "head_dim": 64, "norm_topk_prob": True}),
    "qwen3_moe, weights as they are": Case("qwen3_moe", {**_TIED, **_EXPERTS, "head_dim": 64, "num_experts": 48}),
    "mixtral": Case("mixtral", {"num_local_experts": 4, "sliding_window": None}),
    "granitemoe": Case("granitemoe", {**_GRANITE, **_TIED, "num_local_experts": 8, "num_experts_per_tok": 3}),
    "phi3": Case("phi3", {"sliding_window": WINDOW}, windowed=True),
    "phi3, LongRoPE": Case("phi3", {**_LONG_ROPE, "original_max_position_embeddings": 256}),
    "phi3, LongRoPE, beyond": Case(
        "phi3", {**_LONG_ROPE, "original_max_position_embeddings": 128}
    ),
    "gemma": Case("gemma", {**_TIED, "head_dim": 64, "num_key_value_heads": 1}),
    "gemma2": Case(
        "gemma2",
        {
            **_TIED, "head_dim": 64, "query_pre_attn_scalar": 48, "sliding_window": WINDOW,
            "attn_logit_softcapping": 5.0, "final_logit_softcapping": 8.0,
        },
        windowed=True,
    ),
    "gemma3_text": Case(
        "gemma3_text", {**_TIED, **_ALTERNATING, "head_dim": 64, "query_pre_attn_scalar": 48}, windowed=True
    ),
    "qwen3_5_text": Case("qwen3_5_text", {**_TIED, **_GATED_DELTA}),
    "lfm2": Case("lfm2", {**_TIED, "layer_types": ["conv", "full_attention"], "block_multiple_of": 64}),
    "granite": Case("granite", _GRANITE),
    "granitemoehybrid": Case("granitemoehybrid", {**_GRANITE4, **_TIED, "position_embedding_type": "rope"}),
    "granitemoehybrid, no RoPE": Case("granitemoehybrid", _GRANITE4),
    "hunyuan_v1_dense": Case(
        "hunyuan_v1_dense",
        {**_TIED, "head_dim": 64, "rope_parameters": {**_ROPE, "rope_type": "dynamic", "alpha": 1000.0, "factor": 1.0}},
    ),
    "smollm3": Case("smollm3", {**_TIED, "no_rope_layers": [1, 0]}),
    "ernie4_5": Case("ernie4_5", {**_TIED, "head_dim": 64}),
    "nemotron": Case("nemotron", {"rope_parameters": {**_ROPE, "partial_rotary_factor": 0.5}}),
    "seed_oss": Case("seed_oss", {"head_dim": 64}),
    "internlm3": Case("internlm3", {"qkv_bias": True, "bias": True, "head_dim": 32}),
    "helium": Case("helium", {"head_dim": 32}),
    "glm": Case("glm", {"head_dim": 64, "rope_parameters": {**_ROPE, "partial_rotary_factor": 0.5}}),
    "olmo2": Case("olmo2", {}),
    "olmo3": Case(
        "olmo3",
        {
            **_ALTERNATING,
            "rope_parameters": {
                "full_attention": {**_YARN, "rope_theta": 500_000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 500_000.0},
            },
        },
        windowed=True,
    ),
    "olmo3, no YaRN": Case("olmo3", _ALTERNATING, windowed=True),
    "exaone4": Case(
        "exaone4", {**_TIED, "sliding_window": None, "layer_types": ["full_attention"] * 2, "rope_parameters": _LLAMA3}
    ),
    "exaone4, hybrid": Case("exaone4", _ALTERNATING, windowed=True),
    "glm4": Case("glm4", {"head_dim": 64, "attention_bias": True}),
    "cwm": Case("cwm", {**_ALTERNATING, "head_dim": 32, "rope_parameters": _LLAMA3}, windowed=True),
}  # fmt: skip

_EYES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
_QWEN_EYES = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 128}
_MROPE = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]}
_IMAGE_TOKENS = {"image_token_id": 500, "video_token_id": 501, "vision_start_token_id": 502, "vision_end_token_id": 503}

# Models that also see. settings: of the text part, and by itself what else the whole configuration has.
WHOLE_MODELS: dict[str, tuple[Case, Mapping[str, Any]]] = {
    "gemma3": (
        Case(
            "gemma3_text",
            {
                **_TIED, **_ALTERNATING, "head_dim": 64, "query_pre_attn_scalar": 48,
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "rope_theta": 1_000_000.0, "factor": 8.0},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
                },
            },
        ),
        {
            "tie_word_embeddings": True, "image_token_index": 500, "boi_token_index": 501, "eoi_token_index": 502,
            "mm_tokens_per_image": 4, "vision_config": {**_EYES, "image_size": 28, "patch_size": 14},
        },
    ),
    "mistral3": (
        Case(
            "ministral3",
            {
                "head_dim": 32,
                "rope_parameters": {**_YARN, "original_max_position_embeddings": 256, "llama_4_scaling_beta": 0.1},
            },
        ),
        {"tie_word_embeddings": False, "image_token_index": 500, "vision_config": {**_EYES, "model_type": "pixtral"}},
    ),
    "qwen2_vl": (
        Case("qwen2_vl_text", {"rope_parameters": _MROPE}),
        {**_IMAGE_TOKENS, "vision_config": {"depth": 1, "embed_dim": 32, "num_heads": 2, "hidden_size": 128}},
    ),
    "qwen2_5_vl": (
        Case("qwen2_5_vl_text", {**_TIED, "rope_parameters": _MROPE}),
        {**_TIED, **_IMAGE_TOKENS, "vision_config": _QWEN_EYES},
    ),
    "qwen3_vl": (
        Case("qwen3_vl_text", {**_TIED, "head_dim": 32, "rope_parameters": {**_MROPE, "mrope_interleaved": True}}),
        {**_TIED, **_IMAGE_TOKENS, "vision_config": {**_QWEN_EYES, "deepstack_visual_indexes": [0]}},
    ),
    "qwen3_5": (
        Case(
            "qwen3_5_text",
            {
                **_TIED, **_GATED_DELTA, "layer_types": ["full_attention", "linear_attention"],
                "mtp_num_hidden_layers": 1,
            },
        ),
        {**_TIED, **_IMAGE_TOKENS, "vision_config": _QWEN_EYES},
    ),
    "internvl": (
        Case("qwen3", {"head_dim": 32}),
        {"tie_word_embeddings": False, "image_token_id": 500, "vision_config": {**_EYES, "image_size": 28}},
    ),
    "llava": (Case("llama", {}), {"image_token_index": 500, "vision_config": {**_EYES, "projection_dim": 32}}),
    "llava_next": (Case("mistral", {"sliding_window": None}), {"image_token_index": 500, "vision_config": _EYES}),
    "idefics3": (Case("llama", {}), {"image_token_id": 500, "vision_config": {**_EYES, "image_size": 28}}),
    "smolvlm": (Case("llama", _TIED), {**_TIED, "image_token_id": 500, "vision_config": _EYES}),
}  # fmt: skip

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


def config_of(case: Case) -> Any:
    """What transformers makes such a model of."""
    from transformers import AutoConfig

    return AutoConfig.for_model(case.model_type, **{**_SHAPE, **case.settings})


def make_checkpoint(case: Case, seed: int, checkpoint: Path) -> None:
    """A random model whose every tensor matters: norms are not ones, biases are not zeros, attention is sharp."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config_of(case))
    write_random(model, case.model_type, seed, checkpoint)


def make_whole(model_type: str, case: Case, settings: Mapping[str, Any], seed: int, checkpoint: Path) -> None:
    """A random model that also sees."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    text = {**_SHAPE, **case.settings, "model_type": case.model_type}
    config = AutoConfig.for_model(model_type, text_config=text, **settings)
    write_random(AutoModelForImageTextToText.from_config(config), case.model_type, seed, checkpoint)


def write_random(model: Any, model_type: str, seed: int, checkpoint: Path) -> None:
    """Draw its weights, and write it with the demo's tokenizer."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    around_zero = model_type.startswith(("gemma", "qwen3_5")) or model_type == "nemotron"  # 1 is added to their norms
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                one = "norm" in name and name.endswith("weight") and not around_zero
                parameter.copy_(int(one) + 0.3 * values)
            else:
                scale = 2.0 if "embed" in name or "lm_head" in name else 1.5
                parameter.copy_(scale * values / parameter.shape[-1] ** 0.5)
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

    torch.set_num_threads(1)  # these matrices are too small to be shared
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
