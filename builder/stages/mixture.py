"""Which linears of the decoder have 8 bits, where a recipe mixes 8 and 4. Pure.

Those whose errors weigh most for their size, as in llama.cpp's K mixtures: what makes the values of attention, then
what comes out of the MLP. Only as many as the same model has room for in llama.cpp's Q4_K_M.
"""

from collections.abc import Mapping, Sequence

from builder.checkpoint.model import Shape
from builder.recipe import GroupSize, Mixture

# Ends of names, as families have them. Where queries, keys and values are one linear, it is no small one.
VALUES, DOWN = ("attn.v_proj",), ("mlp.down_proj", "feed_forward.w2", "output_linear")

_SUPERBLOCK = 256  # weights of a row in llama.cpp's K types
# Bits of a weight there, with its share of scales: of most, and of those that matter more; Q4_K and Q6_K, or what is
# taken where rows are no multiple of that, Q5_0 and Q8_0.
_K_TYPES, _OTHERS = (4.5, 6.5625), (5.5, 8.5)


def by_layer(mixture: Mixture, group_size: GroupSize, shape: Shape) -> Mapping[int, Sequence[str]]:
    """Ends of the names of linears that have 8 bits, of every layer."""
    found: dict[int, list[str]] = {number: [] for number in range(shape.layers)}
    if mixture == "none":
        return found
    more = (8 - 4) * (1 + 1 / group_size)  # bits that a weight then has more, its share of a zero point among them
    room = (q4_k_m_bits(shape) - bits(group_size)) * shape.linears * shape.layers
    for names, weights in ((VALUES, _values(shape)), (DOWN, _down(shape))):
        for number in sorted(found, key=lambda number: not _counts(number, shape.layers)):
            if weights * more <= room:
                room -= weights * more
                found[number].extend(names)
    return found


def bits(group_size: GroupSize) -> float:
    """Of a weight of 4 bits with its share of a float32 scale and a zero point."""
    return 4 + (32 + 4) / group_size


def q4_k_m_bits(shape: Shape) -> float:
    """Of a weight of the decoder's layers, on average, in llama.cpp's Q4_K_M of the same model."""
    counted = sum(_counts(number, shape.layers) for number in range(shape.layers)) / shape.layers
    width = shape.heads * shape.head_size  # of what attention gives its output projection
    values, out, down = _values(shape), shape.hidden * width, _down(shape)
    # Weights, the length of their rows, and in how many of the layers they have more bits.
    linears = (
        (shape.linears - values - out - down, shape.hidden, 0.0),
        (values, shape.hidden, counted),
        (out, width, 0.0),
        (down, shape.intermediate, counted),
    )
    return sum(weights * _between(_types(row), share) for weights, row, share in linears) / shape.linears


def _between(types: tuple[float, float], share: float) -> float:
    usual, more = types
    return usual + share * (more - usual)


def _types(width: int) -> tuple[float, float]:
    return _OTHERS if width % _SUPERBLOCK else _K_TYPES


def _counts(number: int, layers: int) -> bool:
    """Whether llama.cpp has more bits in this layer: the first ones, the last ones, and every third between."""
    first = layers // 8
    return number < first or number >= 7 * layers // 8 or (number - first) % 3 == 2


def _values(shape: Shape) -> int:
    return shape.hidden * shape.kv_heads * shape.head_size


def _down(shape: Shape) -> int:
    return shape.hidden * shape.intermediate
