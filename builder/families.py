"""What is known of each model family, as data: which AWQ layers to use, and what the exporter must be told."""

from dataclasses import dataclass

from builder.errors import UnsupportedModel


@dataclass(frozen=True, slots=True)
class Family:
    """One `model_type` of a Hugging Face config.json.

    awq_template: the Quark template whose layer names fit.
    builder_options: options of OGA's model builder that this family needs.
    """

    awq_template: str
    builder_options: tuple[tuple[str, str], ...] = ()


# The default export of sliding-window models crashes beyond the window; as full attention they run.
_FULL_ATTENTION = (("windowed_kv_cache", "false"),)

FAMILIES: dict[str, Family] = {
    "llama": Family("llama"),
    "mistral": Family("mistral", _FULL_ATTENTION),
    "qwen2": Family("qwen2"),
    "qwen3": Family("llama"),
    "phi3": Family("phi3", _FULL_ATTENTION),
    "granite": Family("llama"),
    "hunyuan_v1_dense": Family("hunyuan_v1_dense"),
    "gemma2": Family("gemma2", _FULL_ATTENTION),
}

# Seen to load and answer wrongly, or not to load at all.
BROKEN: dict[str, str] = {
    "olmo": "its export loads, but its logits are wrong",
    "olmo2": "its export does not reproduce the model",
    "phi": "its export does not reproduce the model",
    "lfm2": "its export does not reproduce the model",
    "smollm3": "layers without rotary embeddings are exported with them",
    "gemma3_text": "OGA's model builder cannot read its rotary configuration",
}


def family_of(model_type: str) -> Family:
    """The family's facts. Raises UnsupportedModel with the reason, or with what is supported."""
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    reason = BROKEN.get(model_type, "it has not been shown to work through Quark and OGA")
    raise UnsupportedModel(
        f"the architecture {model_type!r} is not supported: {reason}. Supported are {', '.join(sorted(FAMILIES))}."
    )
