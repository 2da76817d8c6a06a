"""What a build and a served model take, by size: rows for the README's table.

    python -m benchmarks.sizes demo                                     # the bundled model, with the real recipe
    python -m benchmarks.sizes 135M 0.5B --quant-algo gptq --num-calib-data 16 --dataset offline
    python -m benchmarks.sizes 1.1B --quant-algo none --dataset offline

All but the demo are random parameters in the shapes of known models: memory, disk and speed do not depend on the
values. Flags that are not listed here are the build's own. The build is `python -m builder` in a process of its own;
its memory is the peak of its heaviest stage, as the manifest has it. Then an engine process answers a prompt of 256
tokens with 64, without guesses, and the second of two such answers counts.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.random_checkpoint import SIZES, random_checkpoint
from builder.checkpoint.checkpoint import read_folder
from builder.demo import CHECKPOINT as DEMO
from builder.kept.artifact import read_manifest
from serving.bench.plan import random_prompt
from serving.bench.runners import EngineRunner
from serving.types import EngineSettings

PROMPT, ANSWER = 256, 64


@dataclass(frozen=True)
class Built:
    """A finished build. seconds: of the whole command; disk: the most that its folders held at a time, in bytes."""

    folder: Path
    manifest: dict[str, Any]
    seconds: float
    disk: int

    @property
    def memory(self) -> int:
        """The peak of the heaviest stage, in bytes."""
        return int(max(self.manifest["peak_memory"].values()))

    @property
    def method(self) -> str:
        """The algorithm, and the text it looked at."""
        recipe = self.manifest["recipe"]
        looked = f", {recipe['num_calib_data']} x {recipe['seq_len']}" if recipe["quant_algo"] != "none" else ""
        return f"{recipe['quant_algo']}{looked}, group {recipe['group_size']}"


@dataclass(frozen=True)
class Served:
    """Of the engine's process. prefill, decode: tokens/s.

    loading: seconds until it can answer. memory: resident bytes after the answers. peak, anonymous: at their most, with
    pages of files that are mapped, and after the answers without.
    """

    loading: float
    memory: int
    peak: int
    anonymous: int
    prefill: float
    decode: float


def held(process: int | None, kind: str) -> int:
    """Bytes of a process that Linux counts as `kind` in /proc/PID/status; 0 once it is gone, or elsewhere."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
        return int(status.partition(f"{kind}:")[2].split()[0]) << 10
    except (OSError, IndexError):
        return 0


def size_of(folder: Path) -> int:
    """Bytes of all files, those that vanish meanwhile left out."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:
            continue
    return total


def built(checkpoint: str, models: Path, recipe: list[str]) -> Built:
    """Run the real command, and look at its folders meanwhile."""
    command = [sys.executable, "-m", "builder", "--model", checkpoint, "--models-dir", str(models), *recipe]
    most, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not ended.wait(0.25):
            most = max(most, size_of(models))

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.perf_counter()
    try:
        made = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
        seconds = time.perf_counter() - begun
    finally:
        ended.set()
        watcher.join()
    if made.returncode:
        raise SystemExit(f"the build of {checkpoint} failed, as told above.")
    folder = Path(made.stdout.splitlines()[-1])
    return Built(folder, read_manifest(folder), seconds, most)


def served(folder: Path, prompt: int = PROMPT) -> Served:
    """Two answers by an engine in a process of its own, as `python app.py bench` has it, to `prompt` tokens each."""
    begun = time.perf_counter()
    engine = EngineRunner("oga", folder, EngineSettings(guess=False))
    try:
        loading = time.perf_counter() - begun
        for seed in (0, 1):  # nothing of the second prompt is cached
            (answer,) = engine.answers([random_prompt(prompt, engine.vocab_size, seed)], ANSWER)
        memory, peak, anonymous = (held(engine.pid, kind) for kind in ("VmRSS", "VmHWM", "RssAnon"))
    finally:
        engine.close()
    return Served(loading, memory, peak, anonymous, answer.prefill_speed, answer.decode_speed)


def row(name: str, work: Path, recipe: list[str]) -> str:
    """Make, build and serve one size; a line of the table."""
    if name == "demo":
        checkpoint, source, like = DEMO, "demo", "the bundled demo"
    else:
        size = SIZES[name]
        checkpoint, like = random_checkpoint(work / "checkpoint", size), size.like
        source = str(checkpoint)
        recipe = ["--group-size", str(size.group), *recipe]
    made = built(source, work / "models", recipe)
    answered = served(made.folder)
    cells = [
        f"{like}, {read_folder(checkpoint).weights.parameters / 1e6:,.0f} M",
        made.method,
        _bytes(size_of(checkpoint)),
        _bytes(made.memory),
        _bytes(made.disk),
        f"{made.seconds:.0f} s" if made.seconds < 100 else f"{made.seconds / 60:.0f} min",
        _bytes(size_of(made.folder)),
        _bytes(answered.memory),
        f"{answered.prefill:,.0f}",
        f"{answered.decode:,.0f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def main() -> None:
    """Print the table, a row as soon as it is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("sizes", nargs="+", choices=["demo", *SIZES])
    parser.add_argument("--work", type=Path, help="where to build (default: the system's temporary folder)")
    flags, recipe = parser.parse_known_args()
    print("| model | by | checkpoint | build: memory | disk | time | built | served: memory | prefill | decode |")
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in flags.sizes:
        with tempfile.TemporaryDirectory(dir=flags.work) as work:
            print(row(name, Path(work), recipe), flush=True)


if __name__ == "__main__":
    main()
