"""OGA's model builder: quantized safetensors -> ONNX. Runs as a child process: `python -m builder.stages.export`.

The model builder ignores options it does not know, so what it wrote is read back and checked.
"""

import contextlib
import importlib
import json
import math
import os
import re
import runpy
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from builder.checkpoint.families import FAMILIES, builder_config, context_limit
from builder.checkpoint.source import read_config
from builder.errors import StageFailed
from builder.progress import Report, Step
from builder.stages.layers import Layers, model_class
from builder.stages.stage import Job, stage_main

if TYPE_CHECKING:
    from onnx import GraphProto

UNTOUCHED = 16  # lm_head_bits of an output layer that stays as it is

_PROGRESS = re.compile(r"^(Unpacking and repacking|Reading) layer (\d+)", re.MULTILINE)
_LAYER = re.compile(r"/layers\.(\d+)/")
# The model builder's classes by the architecture that it is told, where layers of ours may take their place.
_CLASSES = {
    "LlamaForCausalLM": "LlamaModel",
    "MistralForCausalLM": "MistralModel",
    "Ernie4_5ForCausalLM": "ErnieModel",
}
_DTYPES = {1: "float32", 10: "float16"}


def export(job: Job, report: Report) -> Job:
    """Run the model builder and check its graph.

    job: checkpoint, quantized, output, group_size, execution_provider, accuracy_level, lm_head_bits, and optionally
    exclude_layers: [] where Quark quantized the output layer too.
    Raises StageFailed where the graph is not what was asked for.
    """
    checkpoint, quantized, output = Path(job["checkpoint"]), Path(job["quantized"]), Path(job["output"])
    config = read_config(quantized)
    family = FAMILIES[config["model_type"]]

    # 1. The model builder, on a copy that says what it must be told.
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        copy = stage_copy(quantized, Path(scratch) / "quantized", config)
        arguments = ["-i", str(copy), "-o", str(output), "-p", "int4", "-e", job["execution_provider"], "-c", scratch]
        options = (f"{name}={value}" for name, value in builder_options(job).items())
        sys.argv = ["builder", *arguments, "--extra_options", *options]
        log = _LayerCounter(sys.stdout, int(config["num_hidden_layers"]), report)
        with contextlib.redirect_stdout(log), taught(family.layers, builder_config(config)):
            runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__", alter_sys=True)

    # 2. What it cannot be told.
    mend_graph(
        output / "model.onnx",
        without_rope=family.without_rope(config),
        embedding_scale=math.sqrt(config["hidden_size"]) if family.embedding_scaled else None,
    )
    limit_context(output / "genai_config.json", context_limit(config))
    for name in ("generation_config.json", "chat_template.jinja"):
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, output / name)

    # 3. What it wrote.
    graph = read_graph(output / "model.onnx")
    check_graph(graph, job)
    return {"matmuls": {str(node): count for node, count in graph.items()}}


@contextlib.contextmanager
def taught(layers: Layers | None, told: Mapping[str, Any]) -> Iterator[None]:
    """Let the model builder make these layers for the architecture that it is told; as it is with None."""
    if layers is None:
        yield
        return
    importlib.import_module("onnxruntime_genai.models")  # makes the next one importable
    builders = importlib.import_module("builders")
    name = _CLASSES[told["architectures"][0]]
    own = getattr(builders, name)
    setattr(builders, name, model_class(own, layers, told.get("rope_local_base_freq")))
    try:
        yield
    finally:
        setattr(builders, name, own)


def stage_copy(quantized: Path, copy: Path, config: Mapping[str, Any]) -> Path:
    """The quantized checkpoint as the model builder can read it. Files that stay as they are are linked."""
    copy.mkdir()
    (copy / "config.json").write_text(json.dumps(builder_config(config)), encoding="utf-8")
    for file in quantized.iterdir():
        if file.name != "config.json":
            _link(file, copy / file.name)
    renames = FAMILIES[config["model_type"]].tensor_names
    if renames:
        for file in copy.glob("*.safetensors"):
            _rename_tensors(file, {name: told_name(name, renames) for name in tensor_names(file)})
    return copy


def told_name(name: str, renames: Collection[tuple[str, str]]) -> str:
    """What the model builder calls a tensor: the renames follow one another."""
    for part, replacement in renames:
        name = name.replace(part, replacement)
    return name


def tensor_names(file: Path) -> list[str]:
    """Names of the tensors of a safetensors file."""
    from safetensors import safe_open

    with safe_open(file, framework="np") as tensors:
        return list(tensors.keys())


def _rename_tensors(file: Path, names: Mapping[str, str]) -> None:
    from safetensors.torch import load_file, save_file

    tensors = {names[name]: tensor for name, tensor in load_file(file).items()}
    file.unlink()  # a link: the checkpoint's own file stays
    save_file(tensors, file)


def _link(file: Path, link: Path) -> None:
    try:
        os.link(file, link)
    except OSError:  # not every file system has hard links
        shutil.copyfile(file, link)


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


def quantized_by_quark(job: Mapping[str, Any]) -> bool:
    """Whether the output layer came quantized."""
    return job.get("exclude_layers") in ([], ())


# What the model builder cannot be told


def mend_graph(path: Path, without_rope: Collection[int], embedding_scale: float | None) -> None:
    """Change the graph, not its weights, to what the model computes.

    without_rope: layers whose queries and keys are not rotated. embedding_scale: what embeddings are multiplied by; the
    model builder rounds it to two decimals.
    """
    import onnx

    if not without_rope and embedding_scale is None:
        return
    model = onnx.load(str(path), load_external_data=False)
    _remove_rope(model.graph, without_rope)
    if embedding_scale is not None:
        _scale_embedding(model.graph, embedding_scale)
    onnx.save(model, str(path))


def _remove_rope(graph: "GraphProto", layers: Collection[int]) -> None:
    """Either attention rotates by itself, or there are nodes before it that do."""
    bypassed: dict[str, str] = {}
    for node in list(graph.node):
        layer = _LAYER.search(node.name)
        if not layer or int(layer[1]) not in layers:
            continue
        if node.op_type == "RotaryEmbedding":
            bypassed[node.output[0]] = node.input[0]
            graph.node.remove(node)
        elif node.op_type == "GroupQueryAttention":
            for attribute in node.attribute:
                if attribute.name == "do_rotary":
                    attribute.i = 0
            for index in (7, 8):  # the cosines and sines
                if len(node.input) > index:
                    node.input[index] = ""
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = bypassed.get(name, name)


def _scale_embedding(graph: "GraphProto", scale: float) -> None:
    import onnx

    (multiply,) = (node for node in graph.node if node.name == "/model/embed_tokens/Mul")
    (constant,) = (node for node in graph.node if list(node.output) == [multiply.input[1]])
    value = constant.attribute[0].t
    exact = onnx.numpy_helper.to_array(value).copy()
    exact[...] = scale
    name = "/model/embed_tokens/scale"
    graph.initializer.append(onnx.numpy_helper.from_array(exact, name))
    multiply.input[1] = name


def limit_context(genai_config: Path, limit: int | None) -> None:
    """Let no one ask for more tokens than the export is right for."""
    if limit is None:
        return
    written = json.loads(genai_config.read_text(encoding="utf-8"))
    written["model"]["context_length"] = min(limit, written["model"]["context_length"])
    written["search"]["max_length"] = min(limit, written["search"]["max_length"])
    genai_config.write_text(json.dumps(written, indent=4), encoding="utf-8")


# What the model builder wrote


@dataclass(frozen=True, slots=True)
class QuantizedMatMul:
    """A kind of product with a weight matrix. bits: of the weights; UNTOUCHED where they are not quantized."""

    bits: int
    block_size: int
    accuracy_level: int
    zero_points: bool
    lm_head: bool
    activations: str = "float32"

    def __str__(self) -> str:
        kind = "lm_head" if self.lm_head else "linear"
        if self.bits == UNTOUCHED:
            return f"{kind}: not quantized, {self.activations} activations"
        zero = "asymmetric" if self.zero_points else "symmetric"
        return (
            f"{kind}: {self.bits} bits, group {self.block_size}, {zero}, accuracy level {self.accuracy_level}, "
            f"{self.activations} activations"
        )


def read_graph(path: Path) -> Counter[QuantizedMatMul]:
    """How many products with a weight matrix of each kind the graph has; weights are not read."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    types = {tensor.name: _DTYPES.get(tensor.data_type, str(tensor.data_type)) for tensor in graph.initializer}
    found: Counter[QuantizedMatMul] = Counter()
    for node in graph.node:
        head = "lm_head" in node.name
        if node.op_type == "MatMulNBits":
            values = {a.name: a.i for a in node.attribute}
            zero_points = len(node.input) > 3 and bool(node.input[3])
            kind = QuantizedMatMul(
                values["bits"], values["block_size"], values.get("accuracy_level", 0), zero_points, head,
                types.get(node.input[2], "unknown"),
            )  # fmt: skip
        elif node.op_type == "MatMul":
            kind = QuantizedMatMul(UNTOUCHED, 0, 0, False, head, types.get(node.input[1], "unknown"))
        else:
            continue
        found[kind] += 1
    return found


def check_graph(graph: Counter[QuantizedMatMul], job: Mapping[str, Any]) -> None:
    """Every decoder linear has the recipe's bits, group, zero points and accuracy level, and the head what it should.

    Raises StageFailed, naming what is there and what was asked for.
    """
    activations = "float32" if job["execution_provider"] == "cpu" else "float16"
    linears = [kind for kind in graph if not kind.lm_head]
    heads = [kind for kind in graph if kind.lm_head]
    level, group = job["accuracy_level"], job["group_size"]
    wanted = QuantizedMatMul(4, group, level, zero_points=True, lm_head=False, activations=activations)
    if linears != [wanted]:
        raise StageFailed(f"the export has [{'; '.join(map(str, linears))}] where the recipe asks for [{wanted}].")

    (head,) = heads if len(heads) == 1 else [None]
    if quantized_by_quark(job):
        head_wanted = QuantizedMatMul(4, group, level, zero_points=True, lm_head=True, activations=activations)
        fits = head == head_wanted
    else:
        bits = job["lm_head_bits"]
        level = 0 if bits == UNTOUCHED else level
        # The model builder itself chooses group and zero points.
        fits = head is not None and (head.bits, head.accuracy_level, head.activations) == (bits, level, activations)
        group, zero_points = (head.block_size, head.zero_points) if head else (32, False)
        head_wanted = QuantizedMatMul(bits, group, level, zero_points, lm_head=True, activations=activations)
    if not fits:
        raise StageFailed(
            f"the export's output layer is [{'; '.join(map(str, heads))}] where [{head_wanted}] was asked for."
        )


class _LayerCounter(TextIOBase):
    """Passes text on to the log and turns the model builder's lines about layers into progress."""

    def __init__(self, log: TextIO, layers: int, report: Report) -> None:
        self._log, self._layers, self._report = log, layers, report

    def write(self, text: str) -> int:
        for what, layer in _PROGRESS.findall(text):
            done = int(layer) + (self._layers if what == "Reading" else 0)
            self._report(Step("export", done, 2 * self._layers + 1, f"{what.lower()} layer {layer}"))
        return self._log.write(text)

    def flush(self) -> None:
        self._log.flush()


if __name__ == "__main__":
    stage_main(export)
