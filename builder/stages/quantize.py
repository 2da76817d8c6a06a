"""AWQ (or GPTQ, or plain rounding) by AMD Quark; with awq_search.py all that imports quark.

Runs as a child process: `python -m builder.stages.quantize`.
"""

import copy
import ctypes
import gc
import shutil
import sys
import types
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.checkpoint.checkpoint import read_folder
from builder.progress import Report, Step
from builder.stages.awq_names import repair_awq_names
from builder.stages.stage import Job, stage_main

CHECKPOINT, PROOF, ORIGINAL = "checkpoint", "proof.npz", "original"
PROOF_TOKENS = 256
PROOF_LOGITS = 16 << 20  # at most, in all: 64 MiB as float32
CLIP_TOKENS = 512  # of Quark's search
CLIP_BYTES = 24 << 20

# Parts of Quark that this recipe never calls, each costly or impossible to import: the first compiles C++ (and fails
# where there is no compiler), the second parses the source of every model in transformers to find mixtures of experts.
_UNUSED_MODULES = {
    "quark.torch.kernel.hw_emulation.extensions": {"kernel_ext": None},
    "quark.torch.utils.llm.module_replacement.quark_experts": {},
}


def quantize(job: Job, report: Report) -> Job:
    """Write the quantized checkpoint, and what the model says before and after, for the proof of the export.

    job: checkpoint, blocks (an .npz of int64 token ids: calibration [n, seq_len], text and chats [m, length]),
    output, quant_algo, awq_search, group_size, data_type, exclude_layers, custom_mode. The output folder gets

    - checkpoint/: Quark's safetensors, config and tokenizer;
    - proof.npz: token ids [t] and the quantized model's float32 logits [t, vocab];
    - original/N.npy: the original's float16 log probabilities [length, vocab] on block N of text, then chats.
    """
    _leave_out_unused_modules()
    import torch
    from quark.torch import LLMTemplate, ModelQuantizer, export_safetensors
    from transformers import AutoTokenizer

    from builder.stages.awq_search import searches

    # 1. The model, and what it says while it is still whole.
    checkpoint, output = read_folder(Path(job["checkpoint"])), Path(job["output"])
    data_type = checkpoint.weights.loaded_type(job["data_type"])
    model = _load(checkpoint.path, data_type)
    with np.load(job["blocks"]) as blocks:
        calibration = torch.from_numpy(blocks["calibration"])
        measured = [*blocks["text"], *blocks["chats"]]
    _measure(model, measured, output / ORIGINAL, report)

    # 2. Quantization.
    family = checkpoint.model.family
    config = LLMTemplate.get(family.awq_template).get_config(
        scheme=f"uint4_wo_{job['group_size']}",
        algorithm=None if job["quant_algo"] == "none" else job["quant_algo"],
        exclude_layers=list(job["exclude_layers"]),
    )
    config.algo_config = scaling_what_it_can(config.algo_config, family.unscaled)
    quantizer = ModelQuantizer(config)
    with _adapted(report), searches(job["awq_search"]):
        model = quantizer.quantize_model(model, list(torch.split(calibration, 1)))
    model = quantizer.freeze(model)

    # 3. What the quantized model says, and its weights.
    with torch.inference_mode():
        token_ids = measured[0][: min(PROOF_TOKENS, PROOF_LOGITS // checkpoint.model.shape.vocabulary)]
        logits = model(torch.from_numpy(token_ids)[None]).logits[0].float()
        np.savez(output / PROOF, token_ids=token_ids, logits=logits.numpy())
        # "reorder" is the nibble order that OGA's model builder reads; "order" exports garbage without a word.
        with _adapted(report):
            export_safetensors(
                model=model,
                output_dir=str(output / CHECKPOINT),
                custom_mode=job["custom_mode"],
                weight_format="real_quantized",
                pack_method="reorder",
            )
    if job["custom_mode"] == "awq":
        repair_awq_names(output / CHECKPOINT)
    AutoTokenizer.from_pretrained(checkpoint.path).save_pretrained(output / CHECKPOINT)
    for name in ("generation_config.json", "chat_template.jinja"):
        if (checkpoint.path / name).is_file():
            shutil.copyfile(checkpoint.path / name, output / CHECKPOINT / name)
    return {"data_type": data_type}


def scaling_what_it_can(algorithms: list[Any] | None, unscaled: Sequence[str]) -> list[Any] | None:
    """Quark's settings of its algorithms, copied, without scales between these modules and what follows them."""
    copied = copy.deepcopy(algorithms)
    for algorithm in copied or []:
        if algorithm.name == "awq":
            algorithm.scaling_layers = [part for part in algorithm.scaling_layers if part["prev_op"] not in unscaled]
    return copied


def _load(checkpoint: Path, data_type: str) -> Any:
    """The model, in memory of its own: pages of a mapped file that are written to stay until all of it is unmapped."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=getattr(torch, data_type)).eval()
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


def _measure(model: Any, blocks: Sequence[NDArray[np.int64]], output: Path, report: Report) -> None:
    """Write the log probabilities of every block, each a file of its own."""
    import torch

    output.mkdir(parents=True)
    with torch.inference_mode():
        for done, block in enumerate(blocks):
            report(Step("quantize", 0, 0, f"measuring the original, {done + 1} of {len(blocks)}"))
            logits = model(torch.from_numpy(block)[None]).logits[0]
            rows = [part.float().log_softmax(dim=-1).clamp(min=-60_000).half() for part in logits.split(32)]
            np.save(output / f"{done}.npy", torch.cat(rows).numpy())


def _leave_out_unused_modules() -> None:
    for name, attributes in _UNUSED_MODULES.items():
        module = types.ModuleType(name)
        vars(module).update(attributes)
        sys.modules[name] = module


@contextmanager
def _adapted(report: Report) -> Iterator[None]:
    """Quark with loops that are ours, and AWQ's search for the best clipping a few rows of a weight at a time.

    Rows are independent, so the result has the same bits. But the search multiplies each row with 512 tokens: in
    pieces the products stay in the processor's cache; whole, they grow with the layer and are paged in anew each time.
    """
    import quark.torch.algorithm.awq.awq as awq
    import quark.torch.algorithm.common as common
    import quark.torch.export.main_export.model_post_process as packing
    import torch

    whole = awq.AwqProcessor._compute_best_clip

    def in_pieces(processor: Any, linear: Any, inputs: Any) -> Any:
        row = CLIP_TOKENS * linear.weight.shape[1] * linear.weight.element_size()
        found = []
        for rows in linear.weight.split(max(1, CLIP_BYTES // row)):
            piece = torch.nn.Module()
            piece.weight = torch.nn.Parameter(rows, requires_grad=False)
            piece._weight_quantizer = linear._weight_quantizer
            found.append(whole(processor, piece, inputs))
        return torch.cat(found)

    bars, collect = (awq.tqdm, common.tqdm, packing.tqdm), awq.clear_memory
    awq.tqdm = common.tqdm = lambda layers, **_: _reported(layers, report)
    packing.tqdm = _giving_memory_back
    awq.AwqProcessor._compute_best_clip = in_pieces
    awq.clear_memory = lambda *_: None  # it collects garbage: once a layer is enough, and a piece far too often
    try:
        yield
    finally:
        (awq.tqdm, common.tqdm, packing.tqdm), awq.clear_memory = bars, collect
        awq.AwqProcessor._compute_best_clip = whole


def _give_memory_back() -> None:
    """Return what was freed: glibc keeps it where something later is still in use."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # other C libraries have no such function
            ctypes.CDLL(None).malloc_trim(0)


def _giving_memory_back(items: Iterable[Any], **_: Any) -> Iterator[Any]:
    """Stands in for the progress bar of Quark's loop that packs the weights of one linear after another."""
    for item in items:
        yield item
        _give_memory_back()


def _reported(layers: Iterable[Any], report: Report) -> Iterator[Any]:
    """Stands in for the progress bar of Quark's loops over decoder layers."""
    items = list(layers)
    for done, layer in enumerate(items):
        gc.collect()  # hooks and what they captured refer to each other
        _give_memory_back()
        report(Step("quantize", done, len(items), f"layer {done + 1} of {len(items)}"))
        yield layer


if __name__ == "__main__":
    stage_main(quantize)
