"""AMD Quark by its public interface, with loops that are ours. Only the stage that quantizes imports this."""

import ctypes
import gc
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from builder.stages.quark_settings import leave_out_unused_modules, replaced, scaling_what_it_can

CLIP_TOKENS = 512  # of Quark's search
CLIP_BYTES = 24 << 20

leave_out_unused_modules()

import quark.torch.algorithm.awq.awq as awq  # noqa: E402
import quark.torch.algorithm.common as common  # noqa: E402
import quark.torch.export.main_export.model_post_process as packing  # noqa: E402
import quark.torch.utils.pack as packs  # noqa: E402
from quark.torch import LLMTemplate, ModelQuantizer, export_safetensors  # noqa: E402
from quark.torch.quantization.config.config import GPTAQConfig, GPTQConfig, QLayerConfig, Uint8PerGroupSpec  # noqa: E402

from builder.checkpoint.families import Family  # noqa: E402
from builder.recipe import GPTAQ_DAMPING, AwqSearch  # noqa: E402
from builder.stages import gptaq  # noqa: E402
from builder.stages.awq_search import searches  # noqa: E402


def config_of(family: Family, knobs: Mapping[str, Any], algorithm: bool = True, eight_bits: Iterable[str] = ()) -> Any:
    """Quark's configuration: UINT4 per group, asymmetric.

    algorithm: False for rounding, whatever is asked for. eight_bits: patterns of the names of linears that get UINT8.
    """
    named = knobs["quant_algo"] if algorithm else "none"
    config = LLMTemplate.get(family.awq_template).get_config(
        scheme=f"uint4_wo_{knobs['group_size']}",
        algorithm="awq" if named == "awq" else None,
        exclude_layers=[*knobs["exclude_layers"], *family.unquantized],
    )
    more = Uint8PerGroupSpec(ch_axis=-1, group_size=knobs["group_size"]).to_quantization_spec()
    config.layer_quant_config = {pattern: QLayerConfig(weight=more) for pattern in eight_bits}
    modules = {"inside_layer_modules": [*gptaq.LINEARS], "model_decoder_layers": "model.layers"}
    if named == "gptq":
        config.algo_config = [GPTQConfig(**modules)]
    if named == "gptaq":
        config.algo_config = [GPTAQConfig(damp_percent=GPTAQ_DAMPING, **modules)]
    config.algo_config = scaling_what_it_can(config.algo_config, family.unscaled, family.experts is not None)
    return config


def quantize(
    model: Any,
    config: Any,
    calibration: Sequence[Tensor],
    search: AwqSearch = "quark",
    originals: Sequence[Tensor] = (),
) -> tuple[Any, list[Tensor]]:
    """A model that is quantized and frozen, and what its last layer made of the calibration.

    AWQ's are of the layer as it was, those of GPTQ and GPTAQ of the quantized layer: each is what the next one is
    calibrated on. With none of them there are none. originals: of GPTAQ, what goes into the original layer.
    """
    quantizer = ModelQuantizer(config)
    with _adapted() as outputs, torch.no_grad():

        def kept(output: Tensor) -> Tensor:
            outputs.append(output)
            return output

        with searches(search, kept), gptaq.searched(originals, outputs) if originals else nullcontext():
            model = quantizer.quantize_model(model, calibration)
        model = quantizer.freeze(model)
    gc.collect()  # hooks and what they captured refer to each other
    give_memory_back()
    return model, outputs


def write(model: Any, output: Path, custom_mode: str) -> None:
    """Packed weights, and config.json."""
    with _adapted(), torch.no_grad():
        # "reorder" is the nibble order that OGA's model builder reads; "order" exports garbage without a word.
        export_safetensors(
            model=model,
            output_dir=str(output),
            custom_mode=custom_mode,
            weight_format="real_quantized",
            pack_method="reorder",
        )


@contextmanager
def _adapted() -> Iterator[list[Tensor]]:
    """Quark without its progress bars, with its outputs kept and its weights packed in one go; AWQ's search for the
    best clipping in pieces.

    Rows are independent, so the result has the same bits. But the search multiplies each row with 512 tokens: in
    pieces the products stay in the processor's cache; whole, they grow with the layer and are paged in anew each time.
    """
    outputs: list[Tensor] = []
    whole, forward = awq.AwqProcessor._compute_best_clip, common.block_forward

    def in_pieces(processor: Any, linear: Any, inputs: Any) -> Any:
        row = CLIP_TOKENS * linear.weight.shape[1] * linear.weight.element_size()
        found = []
        for rows in linear.weight.split(max(1, CLIP_BYTES // row)):
            piece = torch.nn.Module()
            piece.weight = torch.nn.Parameter(rows, requires_grad=False)
            piece._weight_quantizer = linear._weight_quantizer
            found.append(whole(processor, piece, inputs))
        return torch.cat(found)

    def gptq_outputs(*arguments: Any, **named: Any) -> Any:
        outputs[:] = made = forward(*arguments, **named)
        return made

    with (
        replaced(awq, tqdm=_silent, clear_memory=lambda *_: None),  # which collects garbage, piece by piece
        replaced(common, tqdm=_silent, block_forward=gptq_outputs),
        replaced(packing, tqdm=_giving_memory_back),
        replaced(packs.Pack_4_bits, pack=pack_4_bits),
        replaced(awq.AwqProcessor, _compute_best_clip=in_pieces),
    ):
        yield outputs


def pack_4_bits(method: Any, values: Tensor, reorder: bool = True) -> Tensor:
    """Instead of `Pack_4_bits.pack`, which takes one column after another: int32 [n, m/8] of values [m, n] or [m].

    The same bits. Eight values that follow one another share an int32, the first lowest, or with reorder in the order
    0, 2, 4, 6, 1, 3, 5, 7.
    """
    rows = method.transpose(values).to(torch.int32)
    if missing := -rows.shape[-1] % 8:
        rows = torch.nn.functional.pad(rows, (0, missing))
    eights = rows.unflatten(-1, (-1, 8))
    order = (0, 2, 4, 6, 1, 3, 5, 7) if reorder else range(8)
    packed = torch.zeros_like(eights[..., 0])
    for position, number in enumerate(order):
        packed |= (eights[..., number] & 0xF) << (4 * position)
    return packed


def give_memory_back() -> None:
    """Return what was freed: glibc keeps it where something later is still in use."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # other C libraries have no such function
            ctypes.CDLL(None).malloc_trim(0)


def _silent(items: Iterable[Any], **_: Any) -> Iterable[Any]:
    return items


def _giving_memory_back(items: Iterable[Any], **_: Any) -> Iterator[Any]:
    """Stands in for the progress bar of Quark's loop that packs the weights of one linear after another."""
    for item in items:
        yield item
        give_memory_back()
