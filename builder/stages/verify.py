"""Serve the fresh export and measure it against what it was made from. Runs as a child process.

Three questions. Is the export the quantized model? It must give what Quark's own model gave, up to the rounding of
int8 activations and of the output layer: a swapped nibble, a lost zero point or a wrong rotary base shows here, on
random weights too. Does it have the tokenizer and the template that stages/prompts.py proved? Is it as good as the
original? That is measured on held-out text and conversations.
"""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from builder.comparison import Comparison
from builder.errors import VerificationFailed
from builder.progress import Report, Step
from builder.quality import Difference, Loss, Quality
from builder.stages.stage import Job, stage_main
from serving.engine.oga import OgaRuntime
from serving.errors import ServingError
from serving.folder import ModelFolder
from serving.hardware import usable_cores
from serving.text.prompt import Prompt


def verify(job: Job, report: Report) -> Job:
    """Measure the export; the verdict is quality.judge's.

    job: exported, prompts (the folder with what was proved of tokenizer and template), output (an empty folder to make,
    since what is kept is one); proof of the quantized model, and blocks with original (the folder of the original's log
    probabilities), where there are any. Raises VerificationFailed where the export cannot be served.
    """
    Path(job["output"]).mkdir()  # at once: whoever looks sees that this stage is at work
    try:
        folder = ModelFolder.open(Path(job["exported"]))
        Prompt.load(folder.path)
        runtime = OgaRuntime(folder, None, usable_cores(), provider="cpu")
    except ServingError as error:
        raise VerificationFailed(f"the export cannot be served, so nothing was published: {error}") from error
    check_copied(Path(job["prompts"]), folder.path)
    quality = Quality(
        export=against_quantized(runtime, Path(job["proof"])) if "proof" in job else None,
        **against_original(runtime, Path(job["blocks"]), Path(job["original"]), report) if "blocks" in job else {},
    )
    return {"quality": asdict(quality)}


def against_original(runtime: OgaRuntime, blocks: Path, original: Path, report: Report) -> dict[str, Loss]:
    """The export against the original, on held-out `text` and, where there are any, on `chats`."""
    found: dict[str, Comparison] = {}
    with np.load(blocks) as content:
        measured = [(kind, block) for kind in ("text", "chats") for block in content[kind]]
    for done, (kind, block) in enumerate(measured):
        report(Step("verify", done, len(measured), f"sequence {done + 1} of {len(measured)}"))
        expected = np.load(original / f"{done}.npy")
        found.setdefault(kind, Comparison()).add(expected, runtime.all_logits(block.astype(np.int32)), block)
    return {kind: comparison.loss() for kind, comparison in found.items()}


def against_quantized(runtime: OgaRuntime, proof: Path) -> Difference:
    """The export against the quantized model that it was made from."""
    comparison = Comparison()
    with np.load(proof) as content:
        token_ids = content["token_ids"]
        comparison.add(content["logits"], runtime.all_logits(token_ids.astype(np.int32)), token_ids)
    return comparison.difference()


def check_copied(prompts: Path, exported: Path) -> None:
    """What was proved of tokenizer and template is what is in the export. Raises VerificationFailed naming the file."""
    for file in sorted(prompts.rglob("*")):
        name = file.relative_to(prompts)
        if file.is_file() and (not (exported / name).is_file() or (exported / name).read_bytes() != file.read_bytes()):
            raise VerificationFailed(
                f"the exported folder's {name} is not the one that was proved: its chat template or tokenizer differs. "
                "Nothing was published."
            )


if __name__ == "__main__":
    stage_main(verify)
