"""AWQ (or GPTQ, or plain rounding) by AMD Quark; the only file that imports quark.

Runs as a child process: `python -m builder.quantize`.
"""

import sys
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from builder.families import FAMILIES
from builder.progress import Report, Step
from builder.source import read_config, resolve_data_type
from builder.stage import Job, stage_main

PROOF_TOKENS = 256

# Parts of Quark that this recipe never calls, each costly or impossible to import: the first compiles C++ (and fails
# where there is no compiler), the second parses the source of every model in transformers to find mixtures of experts.
_UNUSED_MODULES = {
    "quark.torch.kernel.hw_emulation.extensions": {"kernel_ext": None},
    "quark.torch.utils.llm.module_replacement.quark_experts": {},
}


def quantize(job: Job, report: Report) -> Job:
    """Write the quantized checkpoint, and the proof: what the quantized model says before it is exported.

    job: checkpoint, blocks (an .npz of int64 [n, seq_len] calibration and held-out tokens), output, quant_algo,
    group_size, data_type. The output folder gets Quark's safetensors and proof.npz: token ids [t], float32 logits
    [t, vocab].
    """
    _leave_out_unused_modules()
    import quark.torch.algorithm.awq.awq as awq
    import quark.torch.algorithm.common as common
    import torch
    from quark.torch import LLMTemplate, ModelQuantizer, export_safetensors
    from transformers import AutoModelForCausalLM, AutoTokenizer

    checkpoint, output = Path(job["checkpoint"]), Path(job["output"])
    data_type = resolve_data_type(job["data_type"], checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=getattr(torch, data_type)).eval()
    with np.load(job["blocks"]) as blocks:
        calibration, heldout = torch.from_numpy(blocks["calibration"]), blocks["heldout"]

    family = FAMILIES[read_config(checkpoint)["model_type"]]
    template = LLMTemplate.get(family.awq_template)
    algorithm = None if job["quant_algo"] == "none" else job["quant_algo"]
    config = template.get_config(scheme=f"uint4_wo_{job['group_size']}", algorithm=algorithm)
    awq.tqdm = common.tqdm = lambda layers, **_: _reported(layers, report)
    quantizer = ModelQuantizer(config)
    model = quantizer.quantize_model(model, list(torch.split(calibration, 1)))
    model = quantizer.freeze(model)

    output.mkdir(parents=True)
    with torch.inference_mode():
        token_ids = heldout[0, :PROOF_TOKENS]
        logits = model(torch.from_numpy(token_ids)[None]).logits[0].float().numpy()
        np.savez(output / "proof.npz", token_ids=token_ids, logits=logits)
        # "reorder" is the nibble order that OGA's model builder reads; "order" exports garbage without a word.
        export_safetensors(
            model=model,
            output_dir=str(output),
            custom_mode="quark",
            weight_format="real_quantized",
            pack_method="reorder",
        )
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(output)
    return {"data_type": data_type}


def _leave_out_unused_modules() -> None:
    for name, attributes in _UNUSED_MODULES.items():
        module = types.ModuleType(name)
        vars(module).update(attributes)
        sys.modules[name] = module


def _reported(layers: Iterable[Any], report: Report) -> Iterator[Any]:
    """Stands in for the progress bar of Quark's loops over decoder layers."""
    items = list(layers)
    for done, layer in enumerate(items):
        report(Step("quantize", done, len(items), f"layer {done + 1} of {len(items)}"))
        yield layer


if __name__ == "__main__":
    stage_main(quantize)
