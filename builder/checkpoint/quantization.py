"""How a checkpoint that is quantized already says so, in the formats that are read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.errors import SourceError

_QUARK_BITS = {"uint4": 4}


@dataclass(frozen=True, slots=True)
class Quantization:
    """What config.json says of it.

    method: the format's own name for itself, "quark" and "awq" (of AWQ's authors) among others; of those two it is
    known how the weights are quantized, and of another one nothing.
    algorithm: that chose the values. bits: of a weight, 0 for another type than an unsigned integer.
    group_size: input channels that share a scale. asymmetric: and a zero point. excluded: layers that were left alone.
    """

    method: str
    algorithm: str = ""
    bits: int = 0
    group_size: int = 0
    asymmetric: bool = False
    excluded: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Quantization | None":
        """From the content of config.json; None where there is none. Raises SourceError for an incomplete one."""
        found = config.get("quantization_config")
        if not isinstance(found, dict):
            return None
        method = str(found.get("quant_method"))
        try:
            if method == "quark":
                return _by_quark(found)
            if method == "awq":
                return _by_awq(found)
        except (KeyError, TypeError, AttributeError) as error:
            raise SourceError(f"config.json has a quantization_config of {method} that lacks {error}.") from error
        return cls(method)


def _by_awq(found: Mapping[str, Any]) -> Quantization:
    return Quantization(
        method="awq",
        algorithm="awq",
        bits=found["bits"],
        group_size=found["group_size"],
        asymmetric=found["zero_point"],
        excluded=tuple(found["modules_to_not_convert"] or ()),
    )


def _by_quark(found: Mapping[str, Any]) -> Quantization:
    weight = found["global_quant_config"]["weight"]
    names = [entry.get("name") for entry in found.get("algo_config") or []]
    return Quantization(
        method="quark",
        algorithm=str(names[0]) if names else "none",
        bits=_QUARK_BITS.get(weight["dtype"], 0),
        group_size=weight["group_size"],
        asymmetric=not weight["symmetric"],
        excluded=tuple(found["exclude"]),
    )
