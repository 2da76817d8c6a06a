"""What attention costs after so many tokens: ONNX Runtime's ways of computing it, and what a build makes of them.

    python -m benchmarks.attention FOLDER --tokens 500 2000 8000

FOLDER was built here, for the CPU. Three ways, in turn: "tiled" is ONNX Runtime's own choice; "whole" has all products
of a query and the keys at once, for which ONNX Runtime copies keys for the sake of a factor; "ours" is that with the
factor taken out, as builds have it. Medians of the tokens and passes of three rounds.
"""

import argparse
import os
import shutil
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import onnx

from serving.engine.ort import OrtRuntime
from serving.engine.runtime import NO_TILES, PREFILL_CHUNK
from serving.folder import ModelFolder
from serving.hardware import usable_cores

ROUNDS, DECODED = 3, 16


def with_factor(folder: Path, made: Path) -> None:
    """The same model with the factor where the exporter leaves it."""
    for file in folder.iterdir():
        if file.suffix in (".data", ".json", ".jinja") and file.name != "manifest.json":
            (os.link if file.suffix == ".data" else shutil.copy)(file, made / file.name)
    model = onnx.load(str(folder / "model.onnx"), load_external_data=False)
    constants = {each.name: each for each in model.graph.initializer}
    factors = {node.output[0]: node for node in model.graph.node if node.name.endswith("/scale_queries")}
    for node in model.graph.node:
        if scaled := factors.get(node.input[0] if node.input else ""):
            (scale,) = (each for each in node.attribute if each.name == "scale")
            node.input[0], scale.f = scaled.input[0], onnx.numpy_helper.to_array(constants[scaled.input[1]])[0]
    for scaled in factors.values():
        model.graph.node.remove(scaled)
    onnx.save(model, str(made / "model.onnx"))


def main() -> None:
    """Print a line for each length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, nargs="+", default=[500, 2000])
    flags = parser.parse_args()
    with TemporaryDirectory(dir=flags.folder.parent) as made:
        with_factor(flags.folder, Path(made))
        ways: dict[str, OrtRuntime] = {}
        for name, folder, without in (("tiled", made, "0"), ("whole", made, "1"), ("ours", flags.folder, "1")):
            with patch.dict(os.environ, {NO_TILES: without}):
                ways[name] = OrtRuntime(ModelFolder.open(Path(folder)), None, usable_cores())
        slots = {name: runtime.slot(0) for name, runtime in ways.items()}
        rng, vocab = np.random.default_rng(0), ways["ours"].vocab_size
        for length in flags.tokens:
            seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ways}
            rest = length - ROUNDS * (DECODED + 2 * PREFILL_CHUNK) - len(slots["ours"].tokens)
            passes = [PREFILL_CHUNK] * (max(0, rest) // PREFILL_CHUNK)
            for sizes in (passes, *[(PREFILL_CHUNK, PREFILL_CHUNK, *[1] * DECODED)] * ROUNDS):
                for name, runtime in ways.items():
                    slots[name].reserve(length + PREFILL_CHUNK)
                    for number, size in enumerate(sizes):
                        tokens = rng.integers(vocab // 4, vocab // 2, size).astype(np.int32)
                        begun = time.perf_counter()
                        runtime.forward([(slots[name], tokens)])
                        if sizes is not passes and number:  # the first one finds threads of the others at work
                            seconds[name][size == 1].append(time.perf_counter() - begun)
            for name, (prefill, decode) in seconds.items():
                ours = seconds["ours"]
                print(
                    f"after {length} tokens, {name}: decode {1e3 * median(decode):.1f} ms a token, "
                    f"x{median(decode) / median(ours[1]):.2f}; prefill {1e3 * median(prefill):.0f} ms a pass, "
                    f"x{median(prefill) / median(ours[0]):.2f}", flush=True,
                )  # fmt: skip


if __name__ == "__main__":
    main()
