"""What can be refused in seconds, from file names and config.json alone, before anything heavy is loaded."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from builder.checkpoint.families import check_config, family_of, rope_of
from builder.checkpoint.resources import Shape, disk, peak_memory
from builder.checkpoint.source import (
    count_parameters,
    read_chat_template,
    read_config,
    read_tokenizer_config,
    resolve_data_type,
)
from builder.errors import BuildError, SourceError, UnsupportedModel
from builder.recipe import ExportTarget, QuantRecipe
from serving.hardware import available_memory

_DISK_RESERVE = 100 << 20


def check(checkpoint: Path, recipe: QuantRecipe, target: ExportTarget, output: Path) -> None:
    """Everything that can be known to fail. Raises SourceError, UnsupportedModel or BuildError."""
    check_settings(checkpoint, recipe)
    check_weights(checkpoint)
    data_type = resolve_data_type(recipe.data_type, checkpoint)
    shape = Shape.of(read_config(checkpoint), count_parameters(checkpoint), data_type)
    check_disk(shape, target, output)
    check_memory(shape, recipe)


def check_settings(checkpoint: Path, recipe: QuantRecipe) -> None:
    """What can be known without the weights: architecture, shapes, tokenizer, chat template."""
    config = read_config(checkpoint)
    check_config(config)
    check_shapes(config, recipe.group_size)
    check_tokenizer(checkpoint)


def check_shapes(config: dict[str, Any], group_size: int) -> None:
    """Every quantized linear's input size must be a multiple of the group, and the head size one of 16."""
    for key in ("num_hidden_layers", "vocab_size"):
        _size(config, key)
    inputs = dict(quantized_inputs(config))
    head_size = _head_size(config)
    for layer, size in inputs.items():
        if size % group_size:
            fitting = [str(g) for g in (128, 64, 32) if all(s % g == 0 for s in inputs.values())]
            advice = f"use --group-size {' or '.join(fitting)}" if fitting else "no group size fits this model"
            raise UnsupportedModel(
                f"{layer} has {size} inputs, which is not a multiple of the group size {group_size}: {advice}."
            )
    if head_size % 16:
        raise UnsupportedModel(f"the head size {head_size} is not a multiple of 16, as OGA's attention needs it.")
    rotated = int(head_size * _share(config))
    if rotated % 16:
        raise UnsupportedModel(
            f"{rotated} values per head are rotated, which is not a multiple of 16, as OGA's attention needs it."
        )


def quantized_inputs(config: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Input size of each kind of quantized linear layer."""
    yield "q_proj, k_proj, v_proj, gate_proj, up_proj", _size(config, "hidden_size")
    yield "o_proj", _size(config, "num_attention_heads") * _head_size(config)
    yield "down_proj", _size(config, family_of(str(config["model_type"])).intermediate)


def check_tokenizer(checkpoint: Path) -> None:
    """A fast tokenizer and a chat template are there."""
    tokenizer = checkpoint / "tokenizer.json"
    if not tokenizer.is_file():
        raise SourceError(f"{tokenizer} is missing: a fast tokenizer is needed to serve a model.")
    read_tokenizer_config(checkpoint)
    if read_chat_template(checkpoint) is None:
        raise UnsupportedModel(
            f"{checkpoint} has no chat template: this looks like a base model. Use its chat or instruct version."
        )


def check_weights(checkpoint: Path) -> None:
    """Safetensors are there, every shard that the index names, and each as long as its header says."""
    weights = sorted(checkpoint.glob("*.safetensors"))
    if not weights:
        raise SourceError(
            f"{checkpoint} has no *.safetensors weights; other formats are not loaded, for safety. Name a repository "
            "that has them, or load yours with transformers and write it with save_pretrained."
        )
    index = checkpoint / "model.safetensors.index.json"
    if index.is_file():
        try:
            shards = set(map(str, json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceError(f"{index} cannot be read: {error}.") from error
        missing = sorted(shards - {file.name for file in weights})
        if missing:
            raise SourceError(f"{checkpoint} lacks {', '.join(missing)}: the download is incomplete.")
    for file in weights:
        try:
            with safe_open(file, framework="np"):
                pass  # the header is read, and compared with the file's size
        except (SafetensorError, OSError) as error:
            raise SourceError(
                f"{file} is damaged or not whole ({error}): download or copy it again. In a git clone, 'git lfs pull' "
                "fetches what the pointers stand for."
            ) from error


def check_memory(shape: Shape, recipe: QuantRecipe) -> None:
    """The heaviest stage fits into what memory is free now."""
    needed, free = peak_memory(shape, recipe, mapped=False), available_memory()
    if free < needed:
        less = " or --data-type bfloat16, which halves the weights" if shape.data_type == "float32" else ""
        raise BuildError(
            f"quantizing needs about {needed >> 20} MiB of memory and {free >> 20} MiB are free: close other programs, "
            f"try a lower --num-calib-data{less}, or build on another machine and copy the finished folder here."
        )


def check_disk(shape: Shape, target: ExportTarget, output: Path) -> None:
    """There is room for every stage's result at once."""
    stages = disk(shape, target)
    needed = sum(stages.values()) + _DISK_RESERVE
    existing = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        parts = ", ".join(f"{stage} {size >> 20}" for stage, size in stages.items())
        raise BuildError(
            f"{existing} has {free >> 20} MiB free and the build needs about {needed >> 20} MiB ({parts}): free some, "
            "or choose another disk with --models-dir."
        )


def _head_size(config: dict[str, Any]) -> int:
    if config.get("head_dim"):
        return _size(config, "head_dim")
    return _size(config, "hidden_size") // _size(config, "num_attention_heads")


def _share(config: dict[str, Any]) -> float:
    """Of each head, the part that rotary embeddings turn."""
    share = rope_of(config).get("partial_rotary_factor") or config.get("partial_rotary_factor") or 1.0
    if not isinstance(share, int | float) or not 0 < share <= 1:
        raise UnsupportedModel(f"config.json has partial_rotary_factor = {share!r} where a share of 1 is needed.")
    return share


def _size(config: dict[str, Any], key: str) -> int:
    value = config.get(key)
    if not isinstance(value, int) or value < 1:
        raise UnsupportedModel(
            f"config.json has {key} = {value!r} where a positive number is needed: this is not a causal language model."
        )
    return value
