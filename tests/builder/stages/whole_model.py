"""Quark's own way, the whole model at once: what a layer after another must come to, bit for bit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def quantize_whole(job: Mapping[str, Any], output: Path) -> None:
    """checkpoint/, proof.npz and original/ of a job of builder.stages.quantize, made with all of it in memory."""
    import torch

    from builder.stages import quark  # first: it leaves out what takes half a minute to import
    from quark.torch import ModelQuantizer, export_safetensors  # isort: skip
    from transformers import AutoModelForCausalLM

    from builder.checkpoint.checkpoint import read_folder
    from builder.stages.quantize import CHECKPOINT, ORIGINAL, PROOF

    family = read_folder(Path(job["checkpoint"])).model.family
    model = AutoModelForCausalLM.from_pretrained(job["checkpoint"], dtype=job["data_type"]).eval()
    with np.load(job["blocks"]) as blocks, torch.no_grad():
        calibration = list(torch.from_numpy(blocks["calibration"]).split(1))
        measured = [*blocks["text"], *blocks["chats"]]
        (output / ORIGINAL).mkdir(parents=True)
        for number, block in enumerate(measured):
            logits = model(torch.from_numpy(block)[None]).logits[0].float()
            log_probabilities = logits.log_softmax(dim=-1).clamp(min=-60_000).half()
            np.save(output / ORIGINAL / f"{number}.npy", log_probabilities.numpy())
        quantizer = ModelQuantizer(quark.config_of(family, job))
        model = quantizer.freeze(quantizer.quantize_model(model, calibration))
        ids = measured[0][:256]
        np.savez(output / PROOF, token_ids=ids, logits=model(torch.from_numpy(ids)[None]).logits[0].float().numpy())
        export_safetensors(
            model=model, output_dir=str(output / CHECKPOINT), custom_mode=job["custom_mode"],
            weight_format="real_quantized", pack_method="reorder",
        )  # fmt: skip
