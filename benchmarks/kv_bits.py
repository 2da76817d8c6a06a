"""A KV cache of 8 bits: what it costs in KL divergence, and what it does to the speed of decoding.

    python -m benchmarks.kv_bits FOLDER                      # an exported model; text: the demo's held-out one
    python -m benchmarks.kv_bits FOLDER --text FILE --length 4096 --sequences 4 --contexts 512 4096

The exported graph, and the same with int8 keys and values, which ONNX Runtime's attention computes with on the CPU.
Each tensor's scale, or each channel's, comes from the largest magnitude on the first sequence of the text; the others
are measured. KL divergence is that of the graph with int8 from the graph with its own KV cache, in nats per token, with
its standard error over sequences. Decoding is timed in turn: one token after a cache of so many, filled with noise.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from builder.demo import TEXTS
from serving.folder import ModelFolder
from serving.hardware import usable_cores

Floats = NDArray[np.float64]
MODES = ("PER_TENSOR", "PER_CHANNEL")
LEVELS, LEAST = 127, 1e-6
STEPS = 30
KEY_SCALE, VALUE_SCALE = 12, 13  # inputs of GroupQueryAttention


class Graph:
    """A graph in a session. kv: numpy type of its keys and values. past: heads and their size, by input."""

    def __init__(self, file: Path, kv: type[np.generic], head_size: int, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session, self.kv = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"]), kv
        past = (each for each in self.session.get_inputs() if each.name.startswith("past_key_values."))
        self.past = {each.name: (int(each.shape[1]), head_size) for each in past}
        self._positions = any(each.name == "position_ids" for each in self.session.get_inputs())

    def fed(self, token_ids: NDArray[np.int64], before: int) -> dict[str, Any]:
        """What it is given for tokens [1, n] after so many."""
        n = token_ids.shape[1]
        fed = {"input_ids": token_ids, "attention_mask": np.ones((1, before + n), dtype=np.int64)}
        return fed | ({"position_ids": np.arange(before, before + n)[None]} if self._positions else {})

    def empty(self, tokens: int) -> dict[str, Any]:
        """Keys and values of so many tokens, by input, all zeros."""
        return {name: np.zeros((1, heads, tokens, size), self.kv) for name, (heads, size) in self.past.items()}

    def run(self, token_ids: NDArray[np.int64]) -> tuple[Floats, dict[str, Any]]:
        """Log probabilities [n, vocab] of a text [n], and its keys and values by the name of their input."""
        names = ["logits", *(name.replace("past_key_values", "present") for name in self.past)]
        logits, *kept = self.session.run(names, self.fed(token_ids[None], 0) | self.empty(0))
        shifted = logits[0].astype(np.float64)
        shifted -= shifted.max(axis=-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), dict(zip(self.past, kept, strict=True))

    def decoding(self, context: int) -> Any:
        """What decodes one token after so many, in place."""
        rng, binding = np.random.default_rng(0), self.session.io_binding()
        for name, values in self.empty(context + 1).items():
            noise = rng.normal(size=values.shape) * (LEVELS / 4 if self.kv is np.int8 else 1.0)
            held = ort.OrtValue.ortvalue_from_numpy(noise.astype(self.kv))
            binding.bind_ortvalue_input(name, held)
            binding.bind_ortvalue_output(name.replace("past_key_values", "present"), held)
        for name, values in self.fed(np.ones((1, 1), dtype=np.int64), context).items():
            binding.bind_cpu_input(name, values)
        binding.bind_output("logits")
        return lambda: self.session.run_with_iobinding(binding)


def in_eight_bits(folder: Path, mode: str, largest: dict[str, NDArray[np.float32]], file: Path) -> None:
    """Write the graph with int8 keys and values. largest: magnitudes [heads, head_size] by input."""
    graph = onnx.load(folder / "model.onnx", load_external_data=False)
    for node in graph.graph.node:
        if node.op_type != "GroupQueryAttention":
            continue
        inputs = [*node.input, *[""] * (VALUE_SCALE + 1 - len(node.input))]
        for place, name in ((KEY_SCALE, node.input[3]), (VALUE_SCALE, node.input[4])):
            each = largest[name].ravel() if mode == "PER_CHANNEL" else largest[name].max(keepdims=True).ravel()
            inputs[place] = f"{name}.scale"
            scale = np.maximum(each / LEVELS, LEAST).astype(np.float32)
            graph.graph.initializer.append(numpy_helper.from_array(scale, inputs[place]))
        del node.input[:]
        node.input.extend(inputs)
        for name, value in (("k_quant_type", mode), ("v_quant_type", mode), ("kv_cache_bit_width", 8)):
            node.attribute.append(helper.make_attribute(name, value))
    for value in (*graph.graph.input, *graph.graph.output, *graph.graph.value_info):
        if value.name.startswith(("past_key_values.", "present.")):
            value.type.tensor_type.elem_type = TensorProto.INT8
    onnx.save(graph, file)


def told(values: list[float]) -> str:
    """Mean and its standard error."""
    error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{mean(values):.4f} ± {error:.4f}"


def main() -> None:
    """Print a line for each mode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--text", type=Path, default=TEXTS["heldout"])
    parser.add_argument("--length", type=int, default=1024, help="tokens of a sequence")
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument(
        "--contexts", type=int, nargs="+", default=[512, 2000], help="tokens before one that is decoded"
    )
    flags = parser.parse_args()
    head_size = ModelFolder.open(flags.folder).head_size
    tokenizer = Tokenizer.from_file(str(flags.folder / "tokenizer.json"))
    token_ids = np.array(tokenizer.encode(flags.text.read_text(encoding="utf-8"), add_special_tokens=False).ids)
    count = min(flags.sequences, len(token_ids) // flags.length - 1)
    if count < 2:
        parser.error(f"{flags.text} has {len(token_ids)} tokens: three sequences of {flags.length} are needed.")
    first, *texts = token_ids[: (count + 1) * flags.length].reshape(count + 1, flags.length)

    own = Graph(flags.folder / "model.onnx", np.float32, head_size, usable_cores())
    largest = {name: np.abs(values).max(axis=(0, 2)) for name, values in own.run(first)[1].items()}
    expected = [own.run(text)[0] for text in texts]
    with tempfile.TemporaryDirectory() as scratch:
        for file in flags.folder.iterdir():
            (Path(scratch) / file.name).hardlink_to(file) if file.suffix == ".data" else None
        for mode in MODES:
            in_eight_bits(flags.folder, mode, largest, Path(scratch) / f"{mode}.onnx")
            small = Graph(Path(scratch) / f"{mode}.onnx", np.int8, head_size, usable_cores())
            lost = [
                float((np.exp(before) * (before - small.run(text)[0])).sum(axis=-1).mean())
                for text, before in zip(texts, expected, strict=True)
            ]
            print(f"{mode}: KL divergence {told(lost)} nats per token over {count} x {flags.length}", flush=True)
            for context in flags.contexts:
                decoding = [graph.decoding(context) for graph in (own, small)]
                times: list[list[float]] = [[], []]
                for _ in range(STEPS):
                    for decode, spent in zip(decoding, times, strict=True):
                        began = time.perf_counter()
                        decode()
                        spent.append(time.perf_counter() - began)
                ratio = median(times[0]) / median(times[1])
                print(f"  after {context} tokens: {1000 * median(times[0]):.1f} ms, in 8 bits x{ratio:.2f} as fast")


if __name__ == "__main__":
    main()
