"""Checkpoints of random parameters in the shapes of known models: memory, disk and speed do not depend on the values.

    python -m benchmarks.random_checkpoint 7B FOLDER                    # Llama 2 7B: 13.5 GB in 16 bits
    python -m benchmarks.random_checkpoint 7B FOLDER --layers 4
    python -m benchmarks.random_checkpoint 7B FOLDER --quantized        # as the first stage leaves it: 3.9 GB

The tokenizer and its chat template are the demo's. Tensors are drawn and written a few at a time, so that a model
larger than memory can be written.
"""

import argparse
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.demo import CHECKPOINT as DEMO

if TYPE_CHECKING:
    from torch import Tensor

LLAMA = {"model_type": "llama", "bos_token_id": 0, "eos_token_id": 2}
QWEN_MOE = {"model_type": "qwen3_moe", "bos_token_id": 0, "eos_token_id": 2, "norm_topk_prob": True}
QWEN = {"model_type": "qwen2", "bos_token_id": 0, "eos_token_id": 2, "rope_theta": 1e6}

_FILE = 128 << 20  # bytes, about
_STD = 0.02  # what transformers draws parameters with: logits of a few units
_PACKED = 8  # 4-bit values in an int32
_EIGHTS = -0x77777778  # eight zero points of 8
_SPREAD = 4.6  # standard deviation of the numbers from 0 to 15


@dataclass(frozen=True)
class Size:
    """Whose shapes they are, config.json, and the group that divides them."""

    like: str
    config: dict[str, object]
    group: int = 128

    def shortened(self, layers: int | None) -> "Size":
        """The same with fewer layers."""
        return self if layers is None else replace(self, config={**self.config, "num_hidden_layers": layers})


SIZES = {
    "tiny": Size("a model for tests", {
        **LLAMA, "vocab_size": 2048, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "tie_word_embeddings": True,
    }),
    "135M": Size("SmolLM2-135M", {
        **LLAMA, "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
    }, group=64),
    "0.5B": Size("Qwen2.5-0.5B", {
        **QWEN, "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True,
        "max_position_embeddings": 32768,
    }),
    "1.1B": Size("TinyLlama-1.1B", {
        **LLAMA, "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
        "num_attention_heads": 32, "num_key_value_heads": 4, "tie_word_embeddings": False,
        "max_position_embeddings": 2048,
    }),
    "7B": Size("Llama 2 7B", {
        **LLAMA, "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "tie_word_embeddings": False,
        "max_position_embeddings": 4096,
    }),
    "30B-A3B": Size("Qwen3-30B-A3B", {
        **QWEN_MOE, "vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48,
        "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "tie_word_embeddings": False,
        "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768, "max_position_embeddings": 40960,
    }),
    "13B": Size("Llama 2 13B", {
        **LLAMA, "vocab_size": 32000, "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
        "num_attention_heads": 40, "num_key_value_heads": 40, "tie_word_embeddings": False,
        "max_position_embeddings": 4096,
    }),
}  # fmt: skip


def random_checkpoint(folder: Path, size: Size) -> Path:
    """Random parameters in bfloat16, with the demo's tokenizer. folder is made."""
    import torch

    def drawn() -> Iterator[tuple[str, "Tensor"]]:
        for name, _, shape in _parameters(size):
            tensor = torch.empty(shape, dtype=torch.bfloat16)
            if len(shape) > 1:
                yield name, tensor.normal_(std=_STD)
            else:
                yield name, tensor.fill_(0.0 if name.endswith("bias") else 1.0)

    return _written(folder, size, drawn(), {})


def random_quantized(folder: Path, size: Size) -> Path:
    """What quantizing would leave of such a checkpoint, in Quark's format, with random 4-bit numbers."""
    import torch

    def drawn() -> Iterator[tuple[str, "Tensor"]]:
        for name, linear, shape in _parameters(size):
            if linear and "lm_head" not in name:
                outputs, inputs = shape
                groups, packed = inputs // size.group, outputs // _PACKED
                yield name, torch.randint(-(2**31), 2**31, (inputs, packed), dtype=torch.int32)
                scale = torch.empty((groups, outputs), dtype=torch.bfloat16).uniform_(0.5, 1.5)
                yield f"{name}_scale", scale * (_STD / _SPREAD)
                yield f"{name}_zero_point", torch.full((groups, packed), _EIGHTS, dtype=torch.int32)
            else:
                ones = torch.ones(shape, dtype=torch.bfloat16)
                yield name, ones.normal_(std=_STD) if len(shape) > 1 else ones

    weight = {"dtype": "uint4", "group_size": size.group, "symmetric": False, "qscheme": "per_group", "ch_axis": -1}
    quantization = {
        "quant_method": "quark",
        "algo_config": [],
        "exclude": ["lm_head"],
        "global_quant_config": {"weight": weight},
        "layer_quant_config": {},
        "export": {"pack_method": "reorder", "weight_format": "real_quantized", "kv_cache_group": []},
    }
    return _written(folder, size, drawn(), {"quantization_config": quantization})


def _parameters(size: Size) -> Iterator[tuple[str, bool, tuple[int, ...]]]:
    """Name, whether it is the weight of a linear layer, and shape of every parameter, those that are shared once."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**size.config))
    linears = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    for name, parameter in model.named_parameters():
        if parameter.dim() == 3:  # experts, which are published one by one
            stem, _, fused = name.rpartition(".")
            experts, outputs, inputs = parameter.shape
            own = ("gate_proj", "up_proj") if fused == "gate_up_proj" else ("down_proj",)
            for number, linear in product(range(experts), own):
                yield f"{stem}.{number}.{linear}.weight", True, (outputs // len(own), inputs)
        else:
            yield name, name in linears, tuple(parameter.shape)


def _written(folder: Path, size: Size, tensors: Iterable[tuple[str, "Tensor"]], settings: dict[str, Any]) -> Path:
    """A checkpoint of several files. settings: what its config.json says besides."""
    from safetensors.torch import save_file
    from transformers import AutoConfig, GenerationConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    folder.mkdir(parents=True)
    files: dict[str, str] = {}
    total = 0
    for number, group in enumerate(_groups(tensors), 1):
        file = f"model-{number:05}.safetensors"
        save_file(group, folder / file, metadata={"format": "pt"})
        files |= dict.fromkeys(group, file)
        total += sum(tensor.nbytes for tensor in group.values())
    index = {"metadata": {"total_size": total}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")

    config = AutoConfig.for_model(**size.config)
    config.architectures = [MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[config.model_type]]
    config.dtype = "bfloat16"
    config.save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**written, **settings}, indent=2), encoding="utf-8")
    GenerationConfig.from_model_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(DEMO / name, folder / name)
    return folder


def _groups(tensors: Iterable[tuple[str, "Tensor"]]) -> Iterator[dict[str, "Tensor"]]:
    """Tensors that go into a file together, as many as may be held in memory."""
    group: dict[str, Tensor] = {}
    for name, tensor in tensors:
        if group and sum(held.nbytes for held in group.values()) + tensor.nbytes > _FILE:
            yield group
            group = {}
        group[name] = tensor
    yield group


def main() -> None:
    """Write one, and say where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("folder", type=Path, help="to make")
    parser.add_argument("--layers", type=int, help="fewer than the model has")
    parser.add_argument("--quantized", action="store_true", help="4-bit numbers in Quark's format")
    flags = parser.parse_args()
    write = random_quantized if flags.quantized else random_checkpoint
    print(write(flags.folder, SIZES[flags.size].shortened(flags.layers)))


if __name__ == "__main__":
    main()
