"""What a checkpoint computes, by transformers, a layer at a time: what an export is proved by, and measured against.

Runs as a child process: `python -m builder.stages.reference`. Of packed weights it computes with those that they stand
for (dequantize.py), in float32.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from builder.checkpoint.checkpoint import read_folder
from builder.progress import Report, Step
from builder.stages.measure import check_vocabulary, original
from builder.stages.quantize import ORIGINAL, PROOF, write_original
from builder.stages.stage import Job, stage_main


def reference(job: Job, report: Report) -> Job:
    """Write proof.npz, or what the export's loss is measured by.

    job: checkpoint, prompts (a folder with the export's tokenizer), data_type, blocks (an .npz of int64 token ids),
    output (a folder to make). Into output go

    - proof.npz, where blocks has proof [t]: token ids and the float32 logits [t, vocab];
    - original/N.npy for the rest, text and chats [n, length]: float16 log probabilities [length, vocab] of block N.

    Raises UnsupportedModel where packed tensors can be read in more than one way, and SourceError where the tokens are
    others than the export's.
    """
    checkpoint, output = read_folder(Path(job["checkpoint"])), Path(job["output"])
    with np.load(job["blocks"]) as content:
        is_proof = "proof" in content
        blocks = [content["proof"]] if is_proof else [block for kind in ("text", "chats") for block in content[kind]]
    if not is_proof and checkpoint.tokenizer.kind == "fast":
        check_vocabulary(checkpoint, Path(job["prompts"]), np.unique(np.concatenate(blocks)))

    def told(step: Step) -> None:
        report(replace(step, stage="proof") if is_proof else step)

    ends, states = original(checkpoint, job["data_type"], blocks, told)
    output.mkdir()
    if is_proof:
        logits = ends.logits(states[0])[0].float().cpu().numpy()
        np.savez(output / PROOF, token_ids=blocks[0], logits=logits)
    else:
        write_original(ends, states, output / ORIGINAL)
    return {}


if __name__ == "__main__":
    stage_main(reference)
