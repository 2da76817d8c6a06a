"""Memory and time of what follows quantizing, by size: export, verification, serving.

    python -m benchmarks.export_memory 1.1B 7B --work FOLDER            # 7B: 10 GB of disk, about ten minutes
    python -m benchmarks.export_memory --quantized FOLDER               # one that is there

The quantized checkpoints are random, as is what they are verified against, so the verdict says nothing and is not asked
for. Each stage is a process of its own. Its resident memory counts pages of files that are mapped, which the system can
take back; anonymous memory is what it cannot.
"""

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks.random_checkpoint import SIZES, random_quantized
from benchmarks.sizes import held, served
from builder.checkpoint.checkpoint import read_folder
from builder.checkpoint.resources import export_memory, verify_memory
from builder.progress import silent
from builder.recipe import HELDOUT, ExportTarget
from builder.stages.quantize import PROOF_LOGITS, PROOF_TOKENS
from builder.stages.stage import Job, run_stage
from builder.steps import knobs_of

MIB = 1 << 20
PROMPT = 448  # with the answer, a context of 512 tokens
SEQUENCES = 2  # of text, where a build has eight of text and conversations: memory does not grow with them


@dataclass(frozen=True)
class Ran:
    """A stage that is over. resident, anonymous: bytes at their peaks."""

    seconds: float
    resident: int
    anonymous: int

    def __str__(self) -> str:
        return f"{self.seconds:.0f} s | {self.resident // MIB:,} | {self.anonymous // MIB:,}"


def ran(module: str, job: Job, log: Path) -> Ran:
    """Run a stage, and look at its process meanwhile."""
    most, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not (children := psutil.Process().children()):
            ended.wait(0.1)
        while not ended.wait(0.05):
            most = max(most, held(children[0].pid, "RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.perf_counter()
    try:
        result = run_stage(module, job, log, silent)
        return Ran(time.perf_counter() - begun, result["peak_memory"], most)
    finally:
        ended.set()
        watcher.join()


def expected(work: Path, vocabulary: int) -> Job:
    """What there is to verify against, in the shapes that quantizing leaves it in."""
    random = np.random.default_rng(0)
    proof = min(PROOF_TOKENS, PROOF_LOGITS // vocabulary)
    token_ids = random.integers(300, 1800, proof)
    np.savez(work / "proof.npz", token_ids=token_ids, logits=random.random((proof, vocabulary), dtype=np.float32))
    sequences = random.integers(300, 1800, (SEQUENCES, HELDOUT[1]))
    np.savez(work / "blocks.npz", text=sequences, chats=sequences[:0])
    (work / "original").mkdir()
    for number in range(SEQUENCES):
        level = np.full((HELDOUT[1], vocabulary), -np.log(vocabulary), dtype=np.float16)
        np.save(work / "original" / f"{number}.npy", level)
    return {name: str(work / file) for name, file in (
        ("proof", "proof.npz"), ("blocks", "blocks.npz"), ("original", "original"), ("output", "verified"),
    )}  # fmt: skip


def rows(name: str, quantized: Path, work: Path) -> Iterator[str]:
    """A line of the table for each stage."""
    checkpoint, log = read_folder(quantized), work / "log"
    prompts, exported = work / "prompts", work / "exported"
    run_stage("builder.stages.prompts", {"checkpoint": str(quantized), "output": str(prompts)}, log, silent)
    knobs = {**knobs_of(checkpoint), **asdict(ExportTarget()), "prompts": str(prompts)}
    exporting = ran("builder.stages.export", {**knobs, "quantized": str(quantized), "output": str(exported)}, log)
    yield f"| {name} | export | {exporting} | {export_memory(checkpoint.model.shape, ExportTarget()) // MIB:,} |"

    job = {**knobs, "exported": str(exported), **expected(work, checkpoint.model.shape.vocabulary)}
    estimate = verify_memory(checkpoint.model.shape, knobs["group_size"], ExportTarget())
    yield f"| {name} | verify | {ran('builder.stages.verify', job, log)} | {estimate // MIB:,} |"

    answered = served(exported, PROMPT)
    speed = f"prefill {answered.prefill:.0f}, decode {answered.decode:.1f} tokens/s"
    memory = f"{answered.peak // MIB:,} | {answered.anonymous // MIB:,}"
    yield f"| {name} | serve: {speed} | {answered.loading:.1f} s to load | {memory} | |"


def main() -> None:
    """Print the table, a row as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", choices=[[], *SIZES])
    parser.add_argument("--quantized", type=Path, action="append", default=[], help="checkpoints that are there")
    parser.add_argument("--work", type=Path, help="where to work (default: the system's temporary folder)")
    flags = parser.parse_args()
    print("| model | stage | time | peak, MiB | anonymous | estimate |")
    print("|---|---|---|---|---|---|", flush=True)
    for source in [*flags.sizes, *flags.quantized]:
        with tempfile.TemporaryDirectory(dir=flags.work) as name:
            work = Path(name)
            quantized = source if isinstance(source, Path) else random_quantized(work / "quantized", SIZES[source])
            for row in rows(str(source), quantized, work):
                print(row, flush=True)


if __name__ == "__main__":
    main()
