"""OGA's model builder: quantized safetensors -> ONNX. Runs as a child process: `python -m builder.export`.

The model builder ignores options it does not know, so what it wrote is read back and checked.
"""

import re
import runpy
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from io import TextIOBase
from pathlib import Path
from typing import Any, TextIO

from builder.errors import StageFailed
from builder.families import FAMILIES
from builder.progress import Report, Step
from builder.source import read_config
from builder.stage import Job, stage_main

_LAYER = re.compile(r"^(Unpacking and repacking|Reading) layer (\d+)", re.MULTILINE)


def export(job: Job, report: Report) -> Job:
    """Run the model builder and check its graph.

    job: checkpoint, quantized, output, group_size, execution_provider, accuracy_level, lm_head_bits.
    Raises StageFailed where the graph is not what was asked for.
    """
    checkpoint, quantized, output = Path(job["checkpoint"]), Path(job["quantized"]), Path(job["output"])
    config = read_config(checkpoint)
    options = builder_options(config, job)
    with tempfile.TemporaryDirectory(dir=output.parent) as cache:
        arguments = [
            "-i",
            str(quantized),
            "-o",
            str(output),
            "-p",
            "int4",
            "-e",
            job["execution_provider"],
            "-c",
            cache,
        ]
        sys.argv = ["builder", *arguments, "--extra_options", *(f"{k}={v}" for k, v in options.items())]
        sys.stdout = _LayerCounter(sys.stdout, int(config["num_hidden_layers"]), report)
        runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__", alter_sys=True)
    for name in ("generation_config.json", "chat_template.jinja"):
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, output / name)
    graph = read_graph(output / "model.onnx")
    check_graph(graph, job)
    return {"matmuls": {str(node): count for node, count in graph.items()}}


def builder_options(config: Mapping[str, Any], job: Mapping[str, Any]) -> dict[str, str]:
    """The model builder's extra options for this model and target."""
    options = dict(FAMILIES[config["model_type"]].builder_options)
    options["accuracy_level"] = str(job["accuracy_level"])
    if job["lm_head_bits"] == 8:
        options["matmul_mixed_precision"] = "last_matmul:int8"
    if config.get("tie_word_embeddings"):
        # A shared table is quantized to 4 bits for both ends, and with 8 bits the graph does not load.
        options["shared_embeddings"] = "false"
    return options


@dataclass(frozen=True, slots=True)
class QuantizedMatMul:
    """A kind of MatMulNBits node."""

    bits: int
    block_size: int
    accuracy_level: int
    zero_points: bool
    lm_head: bool

    def __str__(self) -> str:
        kind = "lm_head" if self.lm_head else "linear"
        zero = "asymmetric" if self.zero_points else "symmetric"
        return f"{kind}: {self.bits} bits, group {self.block_size}, {zero}, accuracy level {self.accuracy_level}"


def read_graph(path: Path) -> Counter[QuantizedMatMul]:
    """How many quantized matrix products of each kind the graph has; weights are not read."""
    import onnx

    found: Counter[QuantizedMatMul] = Counter()
    for node in onnx.load(str(path), load_external_data=False).graph.node:
        if node.op_type == "MatMulNBits":
            values = {a.name: a.i for a in node.attribute}
            zero_points = len(node.input) > 3 and bool(node.input[3])
            found[
                QuantizedMatMul(
                    values["bits"], values["block_size"], values.get("accuracy_level", 0), zero_points,
                    "lm_head" in node.name,
                )
            ] += 1  # fmt: skip
    return found


def check_graph(graph: Counter[QuantizedMatMul], job: Mapping[str, Any]) -> None:
    """Every decoder linear has the recipe's bits, group, zero points and accuracy level, and the head its bits."""
    linears = [kind for kind in graph if not kind.lm_head]
    heads = [kind for kind in graph if kind.lm_head]
    wanted = QuantizedMatMul(4, job["group_size"], job["accuracy_level"], zero_points=True, lm_head=False)
    if linears != [wanted]:
        raise StageFailed(f"the export has [{'; '.join(map(str, linears))}] where the recipe asks for [{wanted}].")
    if [kind.bits for kind in heads] != [job["lm_head_bits"]]:
        raise StageFailed(
            f"the export's output layer is [{'; '.join(map(str, heads))}] where "
            f"{job['lm_head_bits']} bits were asked for."
        )


class _LayerCounter(TextIOBase):
    """Passes text on to the log and turns the model builder's lines about layers into progress."""

    def __init__(self, log: TextIO, layers: int, report: Report) -> None:
        self._log, self._layers, self._report = log, layers, report

    def write(self, text: str) -> int:
        for what, layer in _LAYER.findall(text):
            done = int(layer) + (self._layers if what == "Reading" else 0)
            self._report(Step("export", done, 2 * self._layers + 1, f"{what.lower()} layer {layer}"))
        return self._log.write(text)

    def flush(self) -> None:
        self._log.flush()


if __name__ == "__main__":
    stage_main(export)
