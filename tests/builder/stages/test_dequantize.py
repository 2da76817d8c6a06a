"""The weights that packed tensors stand for, against words written down and against loops that pack."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from builder.checkpoint.quantization import Packing
from builder.errors import UnsupportedModel
from builder.stages.dequantize import dequantized
from tests.packings import GROUP, PACK, off_by_one, plain_order, rounded, swapped_nibbles

Array = NDArray[Any]


def tensors_of(packing: Packing, weight: Array) -> dict[str, Array]:
    return {f"linear.{part}": array for part, array in PACK[packing](weight).items()}


@pytest.fixture
def weight() -> Array:
    """[outputs, inputs], of which no two groups are alike."""
    return np.random.default_rng(0).normal(0.1, 1, (48, 96)).astype(np.float32)


@pytest.mark.parametrize("packing", PACK)
def test_the_weights_are_those_that_were_packed(packing: Packing, weight: Array) -> None:
    numbers, zeros, scales = rounded(weight, symmetric=packing == "gptq")
    expected = ((numbers.reshape(-1, GROUP, 48) - zeros[:, None]) * scales[:, None].astype(np.float32)).reshape(96, 48)
    found = dequantized(tensors_of(packing, weight), "linear", packing)
    assert np.array_equal(found, expected.T.astype(np.float32)) and found.dtype == np.float32
    assert np.abs(found - weight).max() < 0.4, "and near those before"


def test_a_word_of_awq_is_interleaved_and_one_of_gptq_is_not() -> None:
    """0x75316420 is AutoAWQ's word of the numbers 0 to 7, 0x76543210 AutoGPTQ's."""
    one, none = np.ones((1, 8), np.float16), np.zeros((1, 1), np.int32)
    awq = {"l.qweight": np.full((8, 1), 0x75316420, np.int32), "l.qzeros": none, "l.scales": one}
    assert dequantized(awq, "l", "awq")[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert dequantized({**awq, "l.qzeros": np.full((1, 1), 0x75316420, np.int32)}, "l", "awq").max() == 0
    quark = {"l.weight": awq["l.qweight"], "l.weight_zero_point": none, "l.weight_scale": one}
    assert np.array_equal(dequantized(quark, "l", "quark"), dequantized(awq, "l", "awq"))
    gptq = {"l.qweight": np.full((1, 8), 0x76543210, np.int32), "l.qzeros": none, "l.scales": one}
    assert dequantized(gptq, "l", "gptq_v2")[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert dequantized(gptq, "l", "gptq")[0].tolist() == [-1, 0, 1, 2, 3, 4, 5, 6], "its zero points are stored less 1"


def test_a_layer_of_8_bits_is_a_byte_each() -> None:
    numbers, zeros = np.arange(128, 160, dtype=np.uint8).reshape(4, 8), np.full((2, 8), 130, np.uint8)
    tensors = {"l.weight": numbers, "l.weight_zero_point": zeros, "l.weight_scale": np.full((2, 8), 0.5, np.float32)}
    assert np.array_equal(dequantized(tensors, "l", "quark"), (numbers.T.astype(np.float32) - 130) / 2)


def test_every_misreading_gives_other_weights(weight: Array) -> None:
    for packing, spoil in (("awq", plain_order), ("awq", swapped_nibbles), ("gptq", off_by_one)):
        tensors = PACK[packing](weight)
        right, wrong = (
            dequantized({f"l.{part}": array for part, array in found.items()}, "l", packing)
            for found in (tensors, spoil(tensors))
        )
        assert np.abs(right - wrong).mean() > 0.1


def test_a_zero_point_that_readers_of_gptq_take_for_different_ones_is_refused(weight: Array) -> None:
    tensors = tensors_of("gptq", weight)
    tensors["linear.qzeros"][0, 0] |= 0xF
    with pytest.raises(UnsupportedModel, match=r"linear has a zero point that is stored as 15 .* gptq_v2"):
        dequantized(tensors, "linear", "gptq")
    assert dequantized(tensors, "linear", "gptq_v2").shape == weight.shape


def test_groups_in_the_order_of_activations_are_refused_whatever_config_json_says(weight: Array) -> None:
    tensors = tensors_of("gptq", weight)
    tensors["linear.g_idx"] = tensors["linear.g_idx"][::-1]
    with pytest.raises(UnsupportedModel, match="act-order"):
        dequantized(tensors, "linear", "gptq")
