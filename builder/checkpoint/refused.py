"""Model families that are known and not supported, and why. What is supported is in families.py."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a `model_type` is not supported, and the supported one to look at instead, if any is near."""

    reason: str
    nearest: str = ""


EXPERTS = "of experts beside one that sees all tokens, the export has those of Qwen3.5 and Granite 4 only"
_MODALITIES = "it takes images or sound too, and its text part has not been shown to work"
HYBRID = "of state spaces, the export has the Mamba 2 of Granite 4 only"
PER_LAYER = (
    "OGA's model builder lacks what its small models add to each layer (per-layer inputs, shared keys and values)"
)
GEGLU = (
    "ONNX Runtime's operator for experts knows no GELU with a gate (QMoE on the CPU: Unsupported MoE activation type)"
)
_OTHER_CODE = "transformers has no code for it, and code from the checkpoint is never run"

REFUSED: dict[str, Refusal] = {
    "hyperclovax": Refusal("OGA's model builder has no layer with both its norms and its multipliers", "granite"),
    "phi": Refusal("OGA's model builder cannot read the names of its quantized layers", "phi3"),
    "starcoder2": Refusal("OGA's model builder has no layer with its layer norms and its MLP", "qwen2"),
    "stablelm": Refusal("OGA's model builder has no layer with its layer norms", "llama"),
    "arcee": Refusal("OGA's model builder has no layer with its MLP, which has no gate", "nemotron"),
    "apertus": Refusal("OGA's model builder has no xIELU activation", "llama"),
    "nanochat": Refusal("Quark's AWQ needs norms with weights, and this family's have none", "llama"),
    "cohere": Refusal("OGA's model builder has no layer that computes attention and MLP side by side", "llama"),
    "cohere2": Refusal("OGA's model builder has no layer that computes attention and MLP side by side", "llama"),
    "falcon": Refusal("OGA's model builder has no layer that computes attention and MLP side by side", "llama"),
    "granite_swa": Refusal("OGA's model builder writes Granite's attention without its sinks", "granite"),
    "gpt_neox": Refusal("OGA's model builder has no such layer", "llama"),
    "chatglm": Refusal(_OTHER_CODE, "glm"),
    "internlm2": Refusal(_OTHER_CODE, "internlm3"),
    "phi3small": Refusal(_OTHER_CODE, "phi3"),
    "qwen3_next": Refusal(EXPERTS, "qwen3_5_text"),
    "qwen3_vl_moe": Refusal(_MODALITIES, "qwen3_moe"),
    "falcon_h1": Refusal(HYBRID, "llama"),
    "nemotron_h": Refusal(HYBRID, "nemotron"),
    "mamba": Refusal(HYBRID),
    "mamba2": Refusal(HYBRID),
    "qwen2_moe": Refusal(EXPERTS, "qwen3_moe"),
    "phimoe": Refusal("ONNX Runtime's CPU kernel passes over its rule of choosing experts (sparse mixer)", "qwen3_moe"),
    "deepseek_v2": Refusal(EXPERTS, "qwen2"),
    "deepseek_v3": Refusal(EXPERTS, "qwen2"),
    "ernie4_5_moe": Refusal(EXPERTS, "ernie4_5"),
    "hunyuan_v1_moe": Refusal(EXPERTS, "hunyuan_v1_dense"),
    "glm4_moe": Refusal(EXPERTS, "qwen3_moe"),
    "llama4": Refusal(_MODALITIES, "llama"),
    "mllama": Refusal(_MODALITIES, "llama"),
    "gemma3n": Refusal(PER_LAYER, "gemma3_text"),
    "phi4mm": Refusal(_MODALITIES, "phi3"),
    "phi4_multimodal": Refusal(_MODALITIES, "phi3"),
    "lfm2_vl": Refusal(_MODALITIES, "lfm2"),
}
