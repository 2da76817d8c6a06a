"""Quark's AWQ with searches that are ours, through three methods of its processor: its choices on less time and memory.

Quark 0.13 keeps the inputs of every linear of a layer for all tokens, measures each of 20 scales on all of them, and
multiplies 512 tokens with every row of a weight for each clipping it tries. It also searches the scales of q, k and v
on the layer's outputs (docs/upstream.md). What is searched, tried and measured stays Quark's, and so does what follows
from it: Quark applies scales and clippings and rounds the weights.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Linear, Module

from builder.errors import StageFailed
from builder.recipe import Search
from builder.stages.awq_clip import best_clips
from builder.stages.awq_inputs import Features, Inputs, computing_in, in_type, product_type
from builder.stages.awq_scales import BATCH, RATIOS, SAMPLE, best_scales, scales_for

Store = Callable[[Tensor], Tensor]


@contextmanager
def searches(kind: Search, store: Store = lambda output: output) -> Iterator[None]:
    """Quark's AWQ with our searches ("fast"), or with its own ("quark": the same bits as without this).

    store: takes each output of a layer, [1, tokens, hidden] in the layer's type, in the order of the samples; what it
    returns, equal to it, is the next layer's input (`AwqProcessor.inps`): for example a tensor mapped from a file.
    """
    from quark.torch.algorithm.awq.awq import AwqProcessor

    names = ("_get_input_feat", "_search_best_scale", "_compute_best_clip")
    own = {name: getattr(AwqProcessor, name) for name in names}

    def stored_inputs(processor: Any, layer: Module, linears: dict[str, Linear]) -> Any:
        features = own["_get_input_feat"](processor, layer, linears)
        processor.inps = [store(output) for output in processor.inps]
        return features

    def gathered(processor: Any, layer: Module, linears: dict[str, Linear]) -> Any:
        return _gather(processor, layer, linears, store)

    ours = {"_get_input_feat": gathered, "_search_best_scale": _best_scales, "_compute_best_clip": _best_clips}
    for name, method in (ours if kind == "fast" else {"_get_input_feat": stored_inputs}).items():
        setattr(AwqProcessor, name, method)
    try:
        yield
    finally:
        for name, method in own.items():
            setattr(AwqProcessor, name, method)


@torch.no_grad()
def _gather(processor: Any, layer: Module, linears: dict[str, Linear], store: Store) -> dict[str, Features]:
    """In the place of `_get_input_feat`: run the layer on all samples, a few at a time; features by linear."""
    samples: list[Tensor] = processor.inps
    stored_type = next(layer.parameters()).dtype
    computed = product_type(stored_type)
    kwargs = _kwargs(processor, layer, computed)
    together = max(1, BATCH // samples[0].shape[1])
    batches = -(-len(samples) // together)
    kept = max(1, min(batches, SAMPLE // (together * samples[0].shape[1])))
    looked_at = {number * batches // kept for number in range(kept)}

    features: dict[str, Features] = {}
    roles = _roles(processor, layer)
    seen: list[Any] = [None, None]  # the last tensor that came, and the features of the linear that it came to
    number, outputs = 0, []

    def take(linear: Any, args: tuple[Tensor, ...], name: str) -> None:
        x = args[0]
        if name not in features:
            role, width = roles.get(name), x.shape[-1]
            if seen[0] is x:
                inputs = seen[1].inputs
            else:
                tokens = len(samples) * samples[0].shape[1]
                inputs = Inputs(width, linear._weight_quantizer.group_size, role == "linear", tokens)
            features[name] = Features(inputs, [], torch.ones(width))
        if seen[0] is not x:
            features[name].inputs.add(x.flatten(0, -2))
        if number in looked_at and roles.get(name) == "module":
            features[name].batches.append(x.to(stored_type))
        elif number in looked_at and roles.get(name) == "layer":
            features[name].batches.append(batch)
        seen[:] = [x, features[name]]

    hooks = [
        linear.register_forward_pre_hook(lambda module, args, name=name: take(module, args, name))
        for name, linear in linears.items()
    ]
    with computing_in(layer, computed):
        for number, start in enumerate(range(0, len(samples), together)):
            some = samples[start : start + together]
            batch = torch.cat(some) if len(some) > 1 else some[0]
            output = layer(batch.to(computed), **kwargs)
            output = output[0] if isinstance(output, tuple) else output
            outputs += [store(one) for one in output.to(stored_type).split(1)]
            seen[:] = [None, None]
    for hook in hooks:
        hook.remove()
    for one in features.values():
        one.batches += [rows[None] for rows in one.inputs.sketch.split(BATCH)] if not one.batches else []
    processor.inps = outputs
    return features


def _roles(processor: Any, layer: Module) -> dict[str, str]:
    """Whose inputs the scales of a linear's inputs are searched on: the "layer"'s, its "module"'s or the "linear"'s."""
    from quark.torch.algorithm.utils.utils import is_attention_module

    roles: dict[str, str] = {}
    for entry in processor.scaling_layers:
        name = entry.get("module2inspect")
        if name is None:
            roles[entry["inp"]] = "linear"
        elif is_attention_module(layer.get_submodule(name)):
            roles[entry["inp"]] = "layer"
        else:
            roles[entry["inp"]] = "module"
    return roles


def _kwargs(processor: Any, layer: Module, dtype: torch.dtype) -> dict[str, Any]:
    """What the layer is called with besides its inputs; made for one sample, it is broadcast over several."""
    from quark.torch.algorithm.utils.module import resolve_per_layer_kwargs

    kwargs = resolve_per_layer_kwargs(layer, processor.module_kwargs)
    return {key: in_type(value, dtype) for key, value in kwargs.items() if key != "kwargs"}


@torch.no_grad()
def _best_scales(
    processor: Any,
    module: Module,
    prev_op: Module,
    layers: list[Linear],
    inp: Features,
    module2inspect: Module | None = None,
    kwargs: dict[str, Any] | None = None,
) -> tuple[str, tuple[str, ...], Tensor, float]:
    """In the place of `_search_best_scale`."""
    from quark.torch.algorithm.utils.utils import is_attention_module
    from quark.torch.utils import get_op_name

    inspected = module2inspect or layers[0]
    stored_type = layers[0].weight.dtype
    computed = product_type(stored_type)
    names = tuple(get_op_name(module, linear) for linear in layers)
    shared = _shared_by_heads(processor, module, prev_op, len(inp.scales))

    def attention(batch: Tensor) -> Tensor:
        with processor._capture_layer_output(inspected) as caught:
            module(batch.to(computed), **_kwargs(processor, module, computed))
        return _first(caught["output"])

    def alone(batch: Tensor) -> Tensor:
        return _first(inspected(batch.to(computed)))

    whole = is_attention_module(inspected)
    candidates = {ratio: shared(scales_for(ratio, inp.mean())).to(stored_type).float() for ratio in RATIOS}
    with computing_in(module if whole else inspected, computed):
        try:
            ratio, _ = best_scales(
                attention if whole else alone,
                inp.batches,
                layers,
                candidates,
                layers[0]._weight_quantizer.group_size,
            )
        except ValueError as error:
            raise StageFailed(
                f"what {', '.join(names)} lead to is not finite in {computed}: try --data-type float32."
            ) from error
    return get_op_name(module, prev_op), names, candidates[ratio].to(stored_type), ratio


def _shared_by_heads(processor: Any, module: Module, prev_op: Module, width: int) -> Callable[[Tensor], Tensor]:
    """How scales of o_proj's inputs are to be: those of v_proj, whose heads several of queries share, have no others.

    Quark searches them freely and takes the largest of those that share one when it applies them.
    """
    from quark.torch.algorithm.utils.utils import is_attention_module
    from quark.torch.utils import get_op_name

    queries, values = processor.num_attention_heads, processor.num_key_value_heads
    parent = module.get_submodule(get_op_name(module, prev_op).rpartition(".")[0])
    if not isinstance(prev_op, Linear) or not is_attention_module(parent) or queries == values:
        return lambda scales: scales

    def shared(scales: Tensor) -> Tensor:
        by_head = scales.view(values, queries // values, -1)
        return by_head.amax(dim=1, keepdim=True).expand_as(by_head).flatten()

    return shared


def _first(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


@torch.no_grad()
def _best_clips(processor: Any, linear: Linear, features: Features) -> Tensor:
    """In the place of `_compute_best_clip`."""
    return best_clips(linear.weight.data, features.grams())
