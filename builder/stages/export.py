"""OGA's model builder: quantized safetensors -> ONNX. Runs as a child process: `python -m builder.stages.export`.

The model builder ignores options it does not know, so what it wrote is read back and checked.
"""

import contextlib
import json
import re
import runpy
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from io import TextIOBase
from pathlib import Path
from typing import Any, TextIO

from builder.checkpoint import told
from builder.checkpoint.checkpoint import Checkpoint, read_folder
from builder.checkpoint.model import Model
from builder.progress import Report, Step
from builder.stages import model_builder
from builder.stages.eight_bits import eight_bits_read, linears_of_8_bits
from builder.stages.embeddings import embeddings_of
from builder.stages.graph import (
    UNTOUCHED,
    bits_per_weight,
    check_embeddings,
    check_graph,
    mend_graph,
    quantized_by_quark,
    read_graph,
)
from builder.stages.layers import mean_subtracted, model_class, unscaled_windows
from builder.stages.mamba import mamba_class
from builder.stages.moe import moe_class, packed_class
from builder.stages.shards import link
from builder.stages.sparing import layer_by_layer
from builder.stages.stage import Job, stage_main

_PROGRESS = re.compile(r"^Reading layer (\d+)", re.MULTILINE)
# The model builder's classes by the architecture that it is told, where layers of ours may take their place.
_CLASSES = {
    "LlamaForCausalLM": "LlamaModel",
    "MistralForCausalLM": "MistralModel",
    "Ernie4_5ForCausalLM": "ErnieModel",
    "Gemma3ForCausalLM": "Gemma3Model",
    "Qwen3ForCausalLM": "Qwen3Model",
    "GraniteForCausalLM": "GraniteModel",
    "OlmoForCausalLM": "OLMoModel",
}
# Those that have experts themselves, and where they are asked for.
_OWN_EXPERTS = {
    "GptOssForCausalLM": ("builders", "GPTOSSModel"),
    "Lfm2MoeForCausalLM": ("builders", "LFM2MoEModel"),
    "Qwen3_5MoeForConditionalGeneration": ("builders.qwen", "Qwen35MoETextModel"),
}


def export(job: Job, report: Report) -> Job:
    """Run the model builder and check its graph.

    job: quantized, prompts (a folder with its tokenizer's files), output, group_size, execution_provider,
    accuracy_level, lm_head_bits, embedding_bits, and optionally exclude_layers: [] where Quark quantized the output
    layer too.
    Raises StageFailed where the graph is not what was asked for.
    """
    checkpoint, output = read_folder(Path(job["quantized"])), Path(job["output"])
    model, eight_bits = checkpoint.model, linears_of_8_bits(checkpoint)

    # 1. The model builder, on a copy that says what it must be told.
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        copy = stage_copy(checkpoint, Path(scratch) / "quantized")
        arguments = ["-i", str(copy), "-o", str(output), "-p", "int4", "-e", job["execution_provider"], "-c", scratch]
        options = (f"{name}={value}" for name, value in builder_options(job, eight_bits).items())
        sys.argv = ["builder", *arguments, "--extra_options", *options]
        log = _LayerCounter(sys.stdout, model.shape.layers, report)
        loading = layer_by_layer(checkpoint, Path(scratch) / "moved")
        embeddings = embeddings_of(job["embedding_bits"])
        with contextlib.redirect_stdout(log), taught(model), eight_bits_read(), embeddings, loading:
            runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__", alter_sys=True)

    # 2. What it cannot be told, and a tokenizer that was read and saved once more.
    mend_graph(
        output / "model.onnx",
        told.without_rope(model),
        told.embedding_scale(model),
        linear_attention=told.kv_layers(model) < model.shape.layers,
        turns=told.turn(model) is not None and job["execution_provider"] != "dml",
        scaled_queries=job["execution_provider"] == "cpu",
    )
    limits = (told.context_limit(model), told.turn(model) if job["execution_provider"] == "dml" else None)
    limit = min((tokens for tokens in limits if tokens), default=None)
    mend_settings(output / "genai_config.json", limit, told.turn(model), model.family.settings)
    shutil.copytree(job["prompts"], output, dirs_exist_ok=True)

    # 3. What it wrote.
    graph = read_graph(output / "model.onnx")
    check_graph(graph, job, eight_bits)
    check_embeddings(output / "model.onnx", job["embedding_bits"])
    matmuls = {str(node): count for node, count in graph.items()}
    return {"matmuls": matmuls, "bits_per_weight": round(bits_per_weight(output / "model.onnx"), 3)}


@contextlib.contextmanager
def taught(model: Model) -> Iterator[None]:
    """Let the model builder make this model's layers for the architecture that it is told, where it has none such."""
    family, config = model.family, told.builder_config(model)
    architecture = config["architectures"][0]
    place, name = _OWN_EXPERTS.get(architecture) or ("builders", _CLASSES.get(architecture, ""))
    scaled = name == "Gemma3Model" and model.rope["rope_type"] != "default"
    added = family.layers or family.experts or told.has_mamba(model)
    if not added and not scaled and name != "OLMoModel":
        yield
        return
    builders = model_builder.module(place)
    own = ours = getattr(builders, name)
    local_theta = config.get("rope_local_base_freq")
    if family.layers:
        ours = model_class(ours, family.layers, local_theta)
    if scaled:
        ours = unscaled_windows(ours, local_theta)
    if name == "OLMoModel":
        ours = mean_subtracted(ours)
    if told.has_mamba(model):
        ours = mamba_class(ours)
    if architecture in _OWN_EXPERTS:
        ours = packed_class(ours)
    elif family.experts:
        ours = moe_class(ours, told.normalised_experts(model))
    setattr(builders, name, ours)
    try:
        yield
    finally:
        setattr(builders, name, own)


def stage_copy(checkpoint: Checkpoint, copy: Path) -> Path:
    """The quantized checkpoint as the model builder can read it. Files that stay as they are are linked."""
    copy.mkdir()
    (copy / "config.json").write_text(json.dumps(told.builder_config(checkpoint.model)), encoding="utf-8")
    for file in checkpoint.path.iterdir():
        if file.is_file() and file.name != "config.json":
            link(file, copy / file.name)
    return copy


def builder_options(job: Mapping[str, Any], eight_bits: int = 0) -> dict[str, str]:
    """The model builder's extra options for this target. eight_bits: linears that have so many."""
    options = {
        "accuracy_level": str(job["accuracy_level"]),
        # The default export of a sliding window crashes beyond it. With a full cache, attention still has its window.
        "windowed_kv_cache": "false",
        # Norms of queries and keys inside attention exist on GPUs only, and every export is proved on the CPU.
        "fuse_qk_norm_gqa": "false",
        # A shared table is quantized to 4 bits for both ends, and with 8 bits the graph does not load.
        "shared_embeddings": "false",
    }
    if eight_bits:  # queries, keys and values in one product must have the same
        options["fuse_qkv"] = "false"
    if quantized_by_quark(job):
        return options
    if job["lm_head_bits"] == 8:
        options["matmul_mixed_precision"] = "last_matmul:int8"
    elif job["lm_head_bits"] == UNTOUCHED:
        options["nodes_to_exclude"] = "/lm_head/MatMul"
    return options


def mend_settings(genai_config: Path, limit: int | None, turn: int | None, settings: Mapping[str, int]) -> None:
    """Let no one ask for more tokens than the export is right for, and let it have these settings of a model.

    turn: no more are made room for than are computed in one way, unless more are asked for.
    """
    written = json.loads(genai_config.read_text(encoding="utf-8"))
    written["model"].update(settings)
    if limit is not None:
        written["model"]["context_length"] = min(limit, written["model"]["context_length"])
    for most in filter(None, (limit, turn)):
        written["search"]["max_length"] = min(most, written["search"]["max_length"])
    genai_config.write_text(json.dumps(written, indent=4), encoding="utf-8")


class _LayerCounter(TextIOBase):
    """Passes text on to the log and turns the model builder's lines about layers into progress."""

    def __init__(self, log: TextIO, layers: int, report: Report) -> None:
        self._log, self._layers, self._report = log, layers, report

    def write(self, text: str) -> int:
        for layer in _PROGRESS.findall(text):
            self._report(Step("export", int(layer), self._layers + 1, f"layer {int(layer) + 1} of {self._layers}"))
        return self._log.write(text)

    def flush(self) -> None:
        self._log.flush()


if __name__ == "__main__":
    stage_main(export)
