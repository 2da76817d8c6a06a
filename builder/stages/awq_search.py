"""Quark's AWQ with searches that are ours, through three methods of its processor: in less time and less memory.

Quark 0.13 keeps the inputs of every linear of a layer for all tokens, measures each of 20 scales on all of them, and
multiplies 512 tokens with every row of a weight for each clipping it tries. It also searches the scales of q, k and v
on the layer's outputs (docs/upstream.md). What is searched, tried and measured stays Quark's, and so does what follows
from it: Quark applies scales and clippings and rounds the weights.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Linear, Module

from builder.errors import StageFailed
from builder.recipe import AwqSearch
from builder.stages.awq_clip import best_clips
from builder.stages.awq_inputs import Features, Gathering, Inspected
from builder.stages.awq_scales import BATCH, RATIOS, SAMPLE, best_ratio, scales_for
from builder.stages.product_type import computing_in, in_type, product_type
from builder.stages.quark_settings import IN_EXPERTS, replaced

Store = Callable[[Tensor], Tensor]


@contextmanager
def searches(kind: AwqSearch, store: Store = lambda output: output) -> Iterator[None]:
    """Quark's AWQ with our searches ("fast"), or with its own ("quark": the same bits as without this).

    store: takes each output of a layer, [1, tokens, hidden] in the type of its weights, in the order of the samples.
    What it returns is the next layer's input, in `AwqProcessor.inps`: equal, but for example mapped from a file.
    """
    from quark.torch.algorithm.awq.awq import AwqProcessor

    own = AwqProcessor._get_input_feat

    def gathered(processor: Any, layer: Module, linears: dict[str, Linear]) -> Any:
        return _gather(processor, layer, linears, store)

    def stored(processor: Any, layer: Module, linears: dict[str, Linear]) -> Any:
        features = own(processor, layer, linears)
        processor.inps = [store(output) for output in processor.inps]
        return features

    fast = {"_get_input_feat": gathered, "_search_best_scale": _best_scales, "_compute_best_clip": _best_clips}
    with replaced(AwqProcessor, **(fast if kind == "fast" else {"_get_input_feat": stored})):
        yield


@torch.no_grad()
def _gather(processor: Any, layer: Module, linears: dict[str, Linear], store: Store) -> dict[str, Features]:
    """Instead of `_get_input_feat`: run the layer on all samples, a few at a time."""
    samples, (stored_type, device) = processor.inps, _place(layer)
    length = samples[0].shape[1]
    together = max(1, BATCH // length)
    starts = range(0, len(samples), together)
    looked_at = max(1, min(len(starts), SAMPLE // (together * length)))
    sampled = {starts[number * len(starts) // looked_at] for number in range(looked_at)}

    gathering = Gathering(_inspected(processor, layer, linears), len(samples) * length)
    # Quark counts what has experts among them.
    only = {name: linear for name, linear in linears.items() if isinstance(linear, Linear)}
    hooks = [linear.register_forward_pre_hook(_taking(gathering, name)) for name, linear in only.items()]
    computed = product_type(stored_type, device)
    kwargs = _arguments(processor, layer, computed)
    processor.inps = []
    with computing_in(layer, computed):
        for start in starts:
            batch = torch.cat(samples[start : start + together])
            gathering.begin(batch, start in sampled)
            output = _first(layer(batch.to(computed), **kwargs)).to(stored_type)
            processor.inps += [store(one) for one in torch.split(output, 1)]
    for hook in hooks:
        hook.remove()
    return gathering.features


def _taking(gathering: Gathering, name: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
    def take(linear: Any, args: tuple[Tensor, ...]) -> None:
        gathering.take(name, linear._weight_quantizer.group_size, args[0])

    return take


def _inspected(processor: Any, layer: Module, linears: Mapping[str, Linear]) -> dict[str, Inspected]:
    """What the scales of a linear's inputs are searched on, by its name; attention needs what its layer is given."""
    from quark.torch.algorithm.utils.utils import is_attention_module

    inspected: dict[str, Inspected] = {}
    for entry in processor.scaling_layers:
        if entry == IN_EXPERTS:
            inspected |= {name: "expert" for name in linears if name.endswith(f".{entry['inp']}")}
            continue
        if entry["inp"] not in linears:  # templates name what some of their models lack; Quark passes it over too
            continue
        module = entry.get("module2inspect")
        attention = module is not None and is_attention_module(layer.get_submodule(module))
        inspected[entry["inp"]] = "layer" if attention else "linear" if module is None else "module"
    return inspected


def _arguments(processor: Any, layer: Module, dtype: torch.dtype) -> dict[str, Any]:
    """What the layer is called with besides its inputs; made for one sample, it is broadcast over several."""
    from quark.torch.algorithm.utils.module import resolve_per_layer_kwargs

    arguments = resolve_per_layer_kwargs(layer, processor.module_kwargs)
    return {key: in_type(value, dtype) for key, value in arguments.items() if key != "kwargs"}


@torch.no_grad()
def _best_scales(
    processor: Any, module: Module, prev_op: Module, layers: list[Linear], inp: Features,
    module2inspect: Module | None = None, kwargs: object = None,
) -> tuple[str, tuple[str, ...], Tensor, float]:  # fmt: skip
    """Instead of `_search_best_scale`: names, scales [in], their ratio."""
    from quark.torch.algorithm.utils.utils import is_attention_module
    from quark.torch.utils import get_op_name

    stored_type, device = _place(layers[0])
    computed = product_type(stored_type, device)
    inspected, attention = module2inspect or layers[0], is_attention_module(module2inspect)
    arguments = _arguments(processor, module, computed)

    def run(batch: Tensor) -> Tensor:
        if not attention:
            return _first(inspected(batch.to(computed)))
        with processor._capture_layer_output(inspected) as caught:
            module(batch.to(computed), **arguments)
        return _first(caught["output"])

    before, names = get_op_name(module, prev_op), tuple(get_op_name(module, linear) for linear in layers)
    candidates = {ratio: scales_for(ratio, inp.mean()) for ratio in RATIOS}
    if isinstance(prev_op, Linear) and is_attention_module(module.get_submodule(before.rpartition(".")[0])):
        heads = processor.num_attention_heads, processor.num_key_value_heads
        candidates = {ratio: _shared(scales, *heads) for ratio, scales in candidates.items()}
    candidates = {ratio: scales.to(stored_type).float() for ratio, scales in candidates.items()}
    sample = inp.sample or [rows[None] for rows in torch.split(inp.inputs.sketch, BATCH)]
    with computing_in(module if attention else inspected, computed):
        try:
            ratio = best_ratio(run, sample, layers, candidates, inp.inputs.grams.shape[1])
        except ValueError as error:
            raise StageFailed(
                f"outputs of {', '.join(names)} overflow {stored_type}: try --data-type float32."
            ) from error
    return before, names, candidates[ratio].to(stored_type), ratio


def _shared(scales: Tensor, queries: int, values: int) -> Tensor:
    """Scales of o_proj's inputs as v_proj can have them: one for all heads of queries that share a head of values.

    Quark searches them one by one, and applies the largest.
    """
    by_head = scales.view(values, queries // values, -1)
    return by_head.amax(dim=1, keepdim=True).expand_as(by_head).flatten()


@torch.no_grad()
def _best_clips(processor: object, linear: Linear, features: Features) -> Tensor:
    """Instead of `_compute_best_clip`: the largest magnitude of each group, [out, groups, 1]."""
    return best_clips(linear.weight.data, features.grams())


def _place(module: Module) -> tuple[torch.dtype, torch.device]:
    """Type and device of its weights."""
    weight = next(module.parameters())
    return weight.dtype, weight.device


def _first(output: Any) -> Tensor:
    """Layers and attention of some families return more than their output."""
    first: Tensor = output[0] if isinstance(output, tuple) else output
    return first
