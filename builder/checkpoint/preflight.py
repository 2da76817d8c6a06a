"""What can be refused in seconds, from what a checkpoint says of itself, before anything heavy is loaded."""

import shutil
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from builder.checkpoint import told
from builder.checkpoint.checkpoint import Checkpoint
from builder.checkpoint.model import Shape
from builder.checkpoint.packed import check_whole
from builder.checkpoint.quantization import NEAREST
from builder.checkpoint.resources import (
    disk,
    export_disk,
    export_memory,
    measure_memory,
    peak_memory,
    reference_memory,
    verify_memory,
)
from builder.errors import BuildError, SourceError, UnsupportedModel
from builder.recipe import ExportTarget, QuantRecipe
from serving.hardware import available_memory

_DISK_RESERVE = 100 << 20
_FOR_BUILDS = ("torch", "quark", "onnx")


def check_libraries() -> None:
    """That this installation can build: one that only serves has neither torch nor Quark. Raises BuildError."""
    missing = [name for name in _FOR_BUILDS if find_spec(name) is None]
    if missing:
        raise BuildError(
            f"this installation only serves: {' and '.join(missing)} cannot be imported, which a build needs. Name a "
            "folder that was built elsewhere, with --model, or install what is missing: 'pip install -e .' in the "
            "folder of oga-chat."
        )


def check(checkpoint: Checkpoint, recipe: QuantRecipe, target: ExportTarget, output: Path) -> None:
    """Everything that can be known to fail. Raises SourceError, UnsupportedModel or BuildError."""
    check_settings(checkpoint, recipe)
    check_whole(checkpoint)
    check_disk(checkpoint, recipe, target, output)
    check_memory(checkpoint, recipe)
    check_export_memory(checkpoint.model.shape, recipe.group_size, target)


def check_quantized(checkpoint: Checkpoint, target: ExportTarget, output: Path) -> None:
    """Everything that can be known to fail of a checkpoint that is exported as it is. Raises as `check` does."""
    check_quantized_settings(checkpoint)
    check_room(export_disk(checkpoint.model.shape, target), output)
    needed, free = reference_memory(checkpoint.model.shape), available_memory()
    if free < needed:
        raise BuildError(
            f"proving the export needs about {needed >> 20} MiB of memory and {free >> 20} MiB are free: close other "
            "programs, or build on another machine and copy the finished folder here."
        )
    assert checkpoint.quantization is not None
    check_export_memory(checkpoint.model.shape, checkpoint.quantization.group_size, target)


def check_quantized_settings(checkpoint: Checkpoint) -> None:
    """What can be known of it without its weights."""
    assert checkpoint.quantization is not None
    checkpoint.quantization.check()
    if checkpoint.model.part_of:
        raise UnsupportedModel(
            f"{checkpoint.path} takes more than text and is {checkpoint.quantization.named}, and the text part is read "
            f"from original weights only. {NEAREST}"
        )
    told.check(checkpoint.model)
    check_shape(checkpoint.model.shape, checkpoint.quantization.group_size)
    check_tokenizer(checkpoint)


def check_settings(checkpoint: Checkpoint, recipe: QuantRecipe) -> None:
    """What can be known without the weights: architecture, shapes, tokenizer, chat template."""
    if checkpoint.quantization is not None:
        checkpoint.quantization.check()
        raise UnsupportedModel(
            f"{checkpoint.path} is {checkpoint.quantization.named}, and only original weights can be quantized: name "
            "those, or let it be exported as it is, by 'python app.py --model' or 'python -m builder export'."
        )
    told.check(checkpoint.model)
    check_shape(checkpoint.model.shape, recipe.group_size)
    check_experts(checkpoint.model.shape, recipe)
    check_tokenizer(checkpoint)


def check_shape(shape: Shape, group_size: int) -> None:
    """Every quantized linear's input size must be a multiple of the group, and the head size one of 16."""
    inputs = dict(quantized_inputs(shape))
    for layer, size in inputs.items():
        if size % group_size:
            fitting = [str(g) for g in (128, 64, 32) if all(s % g == 0 for s in inputs.values())]
            advice = f"use --group-size {' or '.join(fitting)}" if fitting else "no group size fits this model"
            raise UnsupportedModel(
                f"{layer} has {size} inputs, which is not a multiple of the group size {group_size}: {advice}."
            )
    if shape.head_size % 16:
        raise UnsupportedModel(f"the head size {shape.head_size} is not a multiple of 16, as OGA's attention needs it.")
    if shape.rotated % 16:
        raise UnsupportedModel(
            f"{shape.rotated} values per head are rotated, which is not a multiple of 16, as OGA's attention needs it."
        )


def check_experts(shape: Shape, recipe: QuantRecipe) -> None:
    """All experts have as many bits; of two layouts that zero points of experts have, one has fast kernels."""
    group_size, smaller = recipe.group_size, min(shape.hidden, shape.intermediate)
    if shape.experts > 1 and recipe.mixture != "none":
        raise UnsupportedModel(
            f"--mixture {recipe.mixture} gives 8 bits to some linears, and this model has {shape.experts} experts in "
            "one: use --mixture none, or --quant-algo awq."
        )
    if shape.experts > 1 and smaller < 2 * group_size:
        fitting = [str(group) for group in (64, 32) if smaller >= 2 * group]
        advice = f"use --group-size {' or '.join(fitting)}" if fitting else "no group size fits this model"
        raise UnsupportedModel(
            f"its experts have {smaller} inputs, and at least two groups of {group_size} are needed: {advice}."
        )


def check_target(shape: Shape, target: ExportTarget) -> None:
    """What the export knows no way to write for a provider."""
    if shape.experts > 1 and target.execution_provider != "cpu":
        raise UnsupportedModel(
            f"mixtures of experts are exported for the CPU only, not for {target.execution_provider}: use -e cpu."
        )


def quantized_inputs(shape: Shape) -> Iterator[tuple[str, int]]:
    """Input size of each kind of quantized linear layer."""
    yield "q_proj, k_proj, v_proj, gate_proj, up_proj", shape.hidden
    yield "o_proj", shape.heads * shape.head_size
    yield "down_proj", shape.intermediate


def check_tokenizer(checkpoint: Checkpoint) -> None:
    """A tokenizer and a chat template are there; what they do is the stage stages/prompts.py."""
    if checkpoint.tokenizer.kind == "none":
        raise SourceError(
            f"{checkpoint.tokenizer.file} is missing, and there is no tokenizer.model to make it from: a tokenizer is "
            "needed to serve a model."
        )
    if checkpoint.tokenizer.template is None:
        raise UnsupportedModel(
            f"{checkpoint.path} has no chat template: this looks like a base model. Use its chat or instruct version."
        )


def check_memory(checkpoint: Checkpoint, recipe: QuantRecipe) -> None:
    """The heaviest stage fits into what memory is free now."""
    needed, free = peak_memory(checkpoint, recipe, mapped=False), available_memory()
    if free < needed:
        loaded = checkpoint.weights.loaded_type(recipe.data_type)
        less = " or --data-type bfloat16, which halves the weights" if loaded == "float32" else ""
        raise BuildError(
            f"quantizing needs about {needed >> 20} MiB of memory and {free >> 20} MiB are free: close other programs, "
            f"try a lower --num-calib-data{less}, or build on another machine and copy the finished folder here."
        )


def check_export_memory(shape: Shape, group_size: int, target: ExportTarget) -> None:
    """What comes after quantizing fits into what memory is free now. Raises BuildError."""
    stages = {"exporting": export_memory(shape, target), "verification": verify_memory(shape, group_size, target)}
    free = available_memory()
    for stage, needed in stages.items():
        if free < needed:
            raise BuildError(
                f"{stage} needs about {needed >> 20} MiB of memory and {free >> 20} MiB are free: close other "
                "programs, or build on another machine and copy the finished folder here."
            )


def check_measure_memory(checkpoint: Checkpoint, data_type: str, tokens: int, candidate: int) -> None:
    """Measuring a model of `candidate` bytes on so many tokens fits into what memory is free now. Raises BuildError."""
    needed, free = measure_memory(checkpoint, data_type, tokens, candidate), available_memory()
    if free < needed:
        raise BuildError(
            f"measuring on {tokens} tokens needs about {needed >> 20} MiB of memory and {free >> 20} MiB are free: "
            "close other programs, or take fewer --tokens or --data-type bfloat16."
        )


def check_disk(checkpoint: Checkpoint, recipe: QuantRecipe, target: ExportTarget, output: Path) -> None:
    """There is room for every stage's result at once."""
    check_room(disk(checkpoint, recipe, target), output)


def check_room(stages: Mapping[str, int], output: Path) -> None:
    """So many bytes are free where the output is to be. Raises BuildError."""
    needed = sum(stages.values()) + _DISK_RESERVE
    existing = next(folder for folder in (output, *output.absolute().parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        parts = ", ".join(f"{stage} {size >> 20}" for stage, size in stages.items())
        raise BuildError(
            f"{existing} has {free >> 20} MiB free and the build needs about {needed >> 20} MiB ({parts}): free some, "
            "or choose another disk with --models-dir."
        )
