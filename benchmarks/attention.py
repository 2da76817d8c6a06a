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
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import onnx

from serving.engine.ort import OrtRuntime
from serving.engine.runtime import NO_TILES, PREFILL_CHUNK, Slot
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


def timed(runtime: OrtRuntime, slot: Slot, sizes: Sequence[int]) -> list[float]:
    """Seconds of passes over so many random tokens each, which stay in the slot."""
    rng, found = np.random.default_rng(len(slot.tokens)), []
    for size in sizes:
        tokens = rng.integers(runtime.vocab_size // 4, runtime.vocab_size // 2, size).astype(np.int32)
        slot.reserve(len(slot.tokens) + size)
        begun = time.perf_counter()
        runtime.forward([(slot, tokens)])
        found.append(time.perf_counter() - begun)
    return found


def main() -> None:
    """Print a line for each length and way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, nargs="+", default=[500, 2000])
    flags = parser.parse_args()
    ways: dict[str, tuple[OrtRuntime, Slot]] = {}
    with TemporaryDirectory(dir=flags.folder.parent) as made:
        with_factor(flags.folder, Path(made))
        for name, folder, without in (("tiled", made, "0"), ("whole", made, "1"), ("ours", flags.folder, "1")):
            with patch.dict(os.environ, {NO_TILES: without}):
                runtime = OrtRuntime(ModelFolder.open(Path(folder)), None, usable_cores())
            ways[name] = runtime, runtime.slot(0)
    measured = (PREFILL_CHUNK, PREFILL_CHUNK, *[1] * DECODED)
    for length in flags.tokens:
        prefill: dict[str, list[float]] = {name: [] for name in ways}
        decode: dict[str, list[float]] = {name: [] for name in ways}
        for way in ways.values():
            before = length - ROUNDS * sum(measured) - len(way[1].tokens)
            timed(*way, [PREFILL_CHUNK] * (max(0, before) // PREFILL_CHUNK))
        for name, way in [*ways.items()] * ROUNDS:
            _, second, *others = timed(*way, measured)  # the first pass finds threads of another way at work
            prefill[name].append(second)
            decode[name] += others
        for name in ways:
            told = []
            for what, found in (("decode", decode), ("prefill", prefill)):
                ratio = median(found[name]) / median(found["ours"])
                told.append(f"{what} {1e3 * median(found[name]):.1f} ms a pass, x{ratio:.2f}")
            print(f"after {length} tokens, {name}: {'; '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
