"""Which linears of which layers have 8 bits: no more than there is room for in llama.cpp's Q4_K_M."""

from fnmatch import fnmatch

import pytest

from builder.checkpoint.model import Shape
from builder.recipe import GroupSize
from builder.stages.mixture import DOWN, VALUES, bits, by_layer, q4_k_m_bits


def shape(hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, head_size: int) -> Shape:
    attention = 2 * head_size * (heads + kv_heads)
    return Shape(1000, hidden, intermediate, layers, heads, kv_heads, head_size, head_size, False, attention)


SHAPES = {
    "demo": shape(256, 768, 7, 4, 2, 64),
    "SmolLM2 135M": shape(576, 1536, 30, 9, 3, 64),
    "Llama 2 7B": shape(4096, 11008, 32, 32, 32, 128),
    "Llama 3 8B": shape(4096, 14336, 32, 32, 8, 128),
}


def average(of: Shape, group_size: GroupSize) -> float:
    """Bits of a weight of the decoder with the mixture, counted linear by linear."""
    sizes = {VALUES[0]: of.hidden * of.kv_heads * of.head_size, DOWN[0]: of.hidden * of.intermediate}
    mixed = by_layer("q4_k_m", group_size, of).values()
    more = sum(sizes.get(name, 0) for names in mixed for name in names) * (4 + 4 / group_size)
    return bits(group_size) + more / (of.layers * of.linears)


def test_without_a_mixture_nothing_has_8_bits() -> None:
    assert not any(by_layer("none", 128, SHAPES["demo"]).values())


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("group_size", [64, 128])
def test_the_mixture_is_as_large_as_q4_k_m_but_for_the_linear_that_has_no_room_left(
    name: str, group_size: GroupSize
) -> None:
    of = SHAPES[name]
    one = of.hidden * of.intermediate / (of.layers * of.linears) * (4 + 4 / group_size)
    all_of_them = all(len(names) == len(VALUES + DOWN) for names in by_layer("q4_k_m", group_size, of).values())
    assert average(of, group_size) <= q4_k_m_bits(of)
    assert q4_k_m_bits(of) - one < average(of, group_size) or all_of_them


def test_groups_of_32_leave_no_room_beside_k_types() -> None:
    assert not any(any(by_layer("q4_k_m", 32, of).values()) for name, of in SHAPES.items() if "SmolLM2" not in name)


def test_the_size_of_q4_k_m_is_that_of_the_linears_that_have_more_bits_there() -> None:
    """The demo: v_proj and down_proj of layers 2, 5 and 6; Llama 2 7B: of 16 layers."""
    assert q4_k_m_bits(SHAPES["demo"]) == pytest.approx(4.5 + 2.0625 * 3 / 7 * (128 + 768) / (768 + 3 * 768))
    llama = 4.5 + 2.0625 / 2 * (4096 + 11008) / (4 * 4096 + 3 * 11008)
    assert q4_k_m_bits(SHAPES["Llama 2 7B"]) == pytest.approx(llama)


def test_rows_that_k_types_do_not_divide_have_more_bits_there() -> None:
    """llama.cpp's file of SmolLM2 135M has 5.53, by Q5_0 and Q8_0 for all rows of 576; those of 1,536 have K types."""
    assert q4_k_m_bits(SHAPES["SmolLM2 135M"]) == pytest.approx(5.534, abs=0.001)


def test_values_come_first_then_what_comes_out_of_the_mlp_where_llama_cpp_has_more_bits() -> None:
    found = by_layer("q4_k_m", 128, SHAPES["demo"])
    assert all(set(VALUES) <= set(names) for names in found.values())
    assert {number for number, names in found.items() if set(DOWN) <= set(names)} == {2, 5}


def test_no_other_linear_has_8_bits() -> None:
    others = ("self_attn.q_proj", "self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.up_proj")
    names = [name for of in SHAPES.values() for each in by_layer("q4_k_m", 128, of).values() for name in each]
    assert names and not any(fnmatch(f"model.layers.0.{other}", f"*{name}") for other in others for name in names)
