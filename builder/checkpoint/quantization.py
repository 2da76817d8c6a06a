"""How a checkpoint that is quantized already says so, in the formats that are read, and why others are refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from builder.errors import SourceError, UnsupportedModel

Packing = Literal["quark", "awq", "gptq", "gptq_v2", ""]

NEAREST = (
    "Name the repository with the original weights, in 16 or 32 bits, or one that AWQ, GPTQ or Quark quantized to 4 "
    "bits in groups of 32, 64 or 128."
)
GROUPS = (32, 64, 128)
_QUARK_BITS = {"uint4": 4, "int4": 4, "uint8": 8, "int8": 8}
_LAYER_DTYPES = ("uint4", "uint8")  # of Quark, that single layers may have
_AWQ_VERSIONS = ("gemm",)
_GPTQ_FORMATS: Mapping[str, Packing] = {"gptq": "gptq", "gptq_v2": "gptq_v2"}
# What is known of other formats by their own names for themselves.
_OTHERS = {
    "aqlm": "AQLM's code books",
    "auto-round": "AutoRound's own format",
    "bitnet": "weights of three values (BitNet)",
    "bitsandbytes": "bitsandbytes, whose packing OGA does not know",
    "compressed-tensors": "compressed-tensors, of which OGA's model builder reads FP8 and NVFP4 only",
    "eetq": "8 bits (EETQ)",
    "exl2": "ExLlama's own packing",
    "exl3": "ExLlama's own packing",
    "fbgemm_fp8": "8-bit floats (FP8)",
    "fp8": "8-bit floats (FP8)",
    "hqq": "HQQ's own packing",
    "mlx": "MLX's own packing, for Apple's GPUs",
    "modelopt": "ModelOpt's FP8 or NVFP4",
    "mxfp4": "4-bit floats (MXFP4)",
    "quanto": "Quanto's own packing",
    "torchao": "torchao's own packing",
}


@dataclass(frozen=True, slots=True)
class Quantization:
    """What config.json says of it.

    method: the format's own name for itself; of "quark", "awq" and "gptq" it is known how the weights are quantized.
    algorithm: that chose the values. bits: of most weights: Quark gives some layers 8 instead of 4.
    group_size: input channels that share a scale.
    asymmetric: the zero points are stored, as GPTQ's always are. excluded: layers that were left alone.
    packing: how the numbers lie in their tensors; "" for a way that is not read. refused: why it cannot be exported, as
    a noun; "" for nothing.
    """

    method: str
    algorithm: str = ""
    bits: int = 0
    group_size: int = 0
    asymmetric: bool = False
    excluded: tuple[str, ...] = ()
    packing: Packing = ""
    refused: str = ""

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Quantization | None":
        """From the content of config.json; None where there is none. Raises SourceError for an incomplete one.

        gpt-oss's experts are published in MXFP4 only: that is how its original weights are stored.
        """
        found = config.get("quantization_config")
        if isinstance(config.get("quantization"), dict) and "quant_method" not in (found or {}):
            return cls("mlx", refused=_OTHERS["mlx"])
        if not isinstance(found, dict):
            return None
        method = str(found.get("quant_method"))
        if method == "mxfp4" and config.get("model_type") == "gpt_oss":
            return None
        read = {"quark": _by_quark, "awq": _by_awq, "gptq": _by_gptq}.get(method)
        if read is None:
            return cls(method, refused=_OTHERS.get(method, f"{method!r}, a format that is not known"))
        try:
            return read(found)
        except (KeyError, TypeError, AttributeError) as error:
            raise SourceError(f"config.json has a quantization_config of {method} that lacks {error}.") from error

    @property
    def named(self) -> str:
        """In a few words, for people."""
        return f"quantized by {self.method.upper() if self.method != 'quark' else 'Quark'} already"

    def check(self) -> None:
        """It is a packing that is read and can be exported. Raises UnsupportedModel with what to do instead."""
        if self.refused:
            raise UnsupportedModel(f"the weights are quantized already, with {self.refused}: not supported. {NEAREST}")


def _by_awq(found: Mapping[str, Any]) -> Quantization:
    version = str(found.get("version", "gemm")).lower()
    bits, group, zeros = found["bits"], found["group_size"], found["zero_point"]
    refused = _bits_and_group(bits, group)
    if version not in _AWQ_VERSIONS:
        refused = refused or f"AWQ's packing {version!r}, where GEMM's is read"
    if not zeros:
        refused = refused or "AWQ without zero points"
    return Quantization(
        method="awq",
        algorithm="awq",
        bits=bits,
        group_size=group,
        asymmetric=zeros,
        excluded=tuple(found.get("modules_to_not_convert") or ()),
        packing="" if refused else "awq",
        refused=refused,
    )


def _by_gptq(found: Mapping[str, Any]) -> Quantization:
    bits, group = found["bits"], found["group_size"]
    told = found.get("checkpoint_format") or found.get("format") or "gptq"
    told = "marlin" if found.get("is_marlin_format") else str(told).lower()
    packing = _GPTQ_FORMATS.get(told, "")
    refused = _bits_and_group(bits, group)
    if not packing:
        refused = refused or f"GPTQ in the packing {told!r}, where 'gptq' and 'gptq_v2' are read"
    if found.get("pack_dtype", "int32") != "int32":
        refused = refused or f"GPTQ packed into {found['pack_dtype']!r}, where int32 is read"
    if found.get("desc_act"):
        refused = refused or (
            "GPTQ in the order of activations (desc_act, act-order), whose groups are not of neighbouring inputs"
        )
    if found.get("dynamic"):
        refused = refused or "GPTQ with bits of their own for some layers (dynamic)"
    return Quantization(
        method="gptq",
        algorithm="gptq",
        bits=bits,
        group_size=group,
        asymmetric=True,
        packing="" if refused else packing,
        refused=refused,
    )


def _by_quark(found: Mapping[str, Any]) -> Quantization:
    weight = found["global_quant_config"]["weight"]
    others = [other.get("weight") or {} for other in (found.get("layer_quant_config") or {}).values()]
    readable = all(
        other.get("dtype") in _LAYER_DTYPES
        and all(other.get(key) == weight[key] for key in ("group_size", "symmetric"))
        for other in others
    )
    names = [entry.get("name") for entry in found.get("algo_config") or []]
    dtype, group = str(weight["dtype"]), weight.get("group_size") or 0
    refused = _bits_and_group(_QUARK_BITS[dtype], group) if dtype in _QUARK_BITS else f"Quark's {dtype}"
    if dtype != "uint4" or weight["symmetric"]:
        refused = refused or f"Quark's {dtype} without zero points, where uint4 with them is read"
    if (found.get("export") or {}).get("pack_method", "reorder") != "reorder":
        refused = refused or "Quark's pack_method 'order', which OGA's model builder takes for 'reorder'"
    if not readable:
        refused = refused or "Quark's settings of their own for some layers (layer_quant_config)"
    if weight.get("zero_point_type", "int32") != "int32":
        refused = refused or "Quark's zero points that are floats"
    return Quantization(
        method="quark",
        algorithm=str(names[0]) if names else "none",
        bits=_QUARK_BITS.get(dtype, 0),
        group_size=group,
        asymmetric=not weight["symmetric"],
        excluded=tuple(found["exclude"]),
        packing="" if refused else "quark",
        refused=refused,
    )


def _bits_and_group(bits: Any, group: Any) -> str:
    if bits != 4:
        return f"{bits} bits, where 4 are read"
    if group not in GROUPS:
        size = "whole columns (group_size -1)" if group == -1 else f"groups of {group}"
        return f"scales for {size}, where groups of 32, 64 or 128 are read"
    return ""
