"""OGA's model builder: quantized safetensors -> ONNX. Runs as a child process: `python -m builder.stages.export`.

The model builder ignores options it does not know, so what it wrote is read back and checked.
"""

import contextlib
import importlib
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
from builder.stages.graph import UNTOUCHED, check_graph, mend_graph, quantized_by_quark, read_graph
from builder.stages.layers import model_class, unscaled_windows
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
}


def export(job: Job, report: Report) -> Job:
    """Run the model builder and check its graph.

    job: quantized, prompts (a folder with its tokenizer's files), output, group_size, execution_provider,
    accuracy_level, lm_head_bits, and optionally exclude_layers: [] where Quark quantized the output layer too.
    Raises StageFailed where the graph is not what was asked for.
    """
    checkpoint, output = read_folder(Path(job["quantized"])), Path(job["output"])
    model = checkpoint.model

    # 1. The model builder, on a copy that says what it must be told.
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        copy = stage_copy(checkpoint, Path(scratch) / "quantized")
        arguments = ["-i", str(copy), "-o", str(output), "-p", "int4", "-e", job["execution_provider"], "-c", scratch]
        options = (f"{name}={value}" for name, value in builder_options(job).items())
        sys.argv = ["builder", *arguments, "--extra_options", *options]
        log = _LayerCounter(sys.stdout, model.shape.layers, report)
        with contextlib.redirect_stdout(log), taught(model), layer_by_layer(checkpoint, Path(scratch) / "moved"):
            runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__", alter_sys=True)

    # 2. What it cannot be told, and a tokenizer that was read and saved once more.
    mend_graph(output / "model.onnx", told.without_rope(model), told.embedding_scale(model))
    limit_context(output / "genai_config.json", told.context_limit(model))
    shutil.copytree(job["prompts"], output, dirs_exist_ok=True)

    # 3. What it wrote.
    graph = read_graph(output / "model.onnx")
    check_graph(graph, job)
    return {"matmuls": {str(node): count for node, count in graph.items()}}


@contextlib.contextmanager
def taught(model: Model) -> Iterator[None]:
    """Let the model builder make this model's layers for the architecture that it is told, where it has none such."""
    layers, config = model.family.layers, told.builder_config(model)
    name = _CLASSES.get(config["architectures"][0], "")
    scaled = name == "Gemma3Model" and model.rope["rope_type"] != "default"
    if layers is None and not scaled:
        yield
        return
    importlib.import_module("onnxruntime_genai.models")  # makes the next one importable
    builders = importlib.import_module("builders")
    own = getattr(builders, name)
    local_theta = config.get("rope_local_base_freq")
    setattr(builders, name, model_class(own, layers, local_theta) if layers else unscaled_windows(own, local_theta))
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


def builder_options(job: Mapping[str, Any]) -> dict[str, str]:
    """The model builder's extra options for this target."""
    options = {
        "accuracy_level": str(job["accuracy_level"]),
        # The default export of a sliding window crashes beyond it. With a full cache, attention still has its window.
        "windowed_kv_cache": "false",
        # Norms of queries and keys inside attention exist on GPUs only, and every export is proved on the CPU.
        "fuse_qk_norm_gqa": "false",
        # A shared table is quantized to 4 bits for both ends, and with 8 bits the graph does not load.
        "shared_embeddings": "false",
    }
    if quantized_by_quark(job):
        return options
    if job["lm_head_bits"] == 8:
        options["matmul_mixed_precision"] = "last_matmul:int8"
    elif job["lm_head_bits"] == UNTOUCHED:
        options["nodes_to_exclude"] = "/lm_head/MatMul"
    return options


def limit_context(genai_config: Path, limit: int | None) -> None:
    """Let no one ask for more tokens than the export is right for."""
    if limit is None:
        return
    written = json.loads(genai_config.read_text(encoding="utf-8"))
    written["model"]["context_length"] = min(limit, written["model"]["context_length"])
    written["search"]["max_length"] = min(limit, written["search"]["max_length"])
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
