"""Small checkpoints without weights, with the files around them that each family's makers publish.

Written after the public ones: the class that a tokenizer says it is, which of its tokens are special, where the chat
templates lie and how many there are, what ends an answer. Vocabularies are tiny, and templates are those of
tests/small_models.py with what matters of the makers' own.
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import normalizers

from tests.small_models import CHANNELS, CHATML, KINDS, LLAMA2, TEXTS, Kind, special_tokens

VOCABULARY = 2000
_SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "shared_intermediate_size": 256, "layer_types": ["attention"] * 2,
}  # fmt: skip
_CALLS = "{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
_MISTRAL = ("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]")
_LISTED_CALLS = _CALLS + "{% if false %}[TOOL_CALLS][{{ calls }}]{% endif %}"
_GENERATION = CHATML.replace("{{- content }}", "{% generation %}{{- content }}{% endgeneration %}")


@dataclass(frozen=True)
class Published:
    """model_type, and what is in tokenizer_config.json; kind: None for a tokenizer.model and no tokenizer.json.

    template: where it lies: a file of its own, "config", "several" in the configuration, "folder", or "processor".
    ends: eos_token_id of generation_config.json, by their texts.
    text: model_type of the text part, of a model that also sees; "flat" where its configuration has all in one.
    """

    model_type: str
    kind: Callable[[], Kind] | None
    config: dict[str, Any] = field(default_factory=dict)
    template: str = "file"
    ends: Sequence[str] = ()
    text: str = ""


def _with(kind: str, *more: str, template: str = "") -> Callable[[], Kind]:
    """A kind with more special tokens, and more in its template."""

    def make() -> Kind:
        made = KINDS[kind]()
        made.tokenizer.add_tokens(special_tokens(*more))
        return replace(made, template=made.template + template)

    return make


def _legacy() -> Kind:
    """Blanks are the normalizer's, as transformers converted sentencepiece's models before it knew Metaspace."""
    made = KINDS["llama2"]()
    made.tokenizer.pre_tokenizer = None
    made.tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    return made


_FAST = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": None}
_GPT2 = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False}
_QWEN = {"tokenizer_class": "Qwen2Tokenizer", "bos_token": None, "additional_special_tokens": ["<|im_start|>"]}
_SENTENCES = {"tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>", "add_bos_token": True, "sp_model_kwargs": {}}
_GEMMA = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "spaces_between_special_tokens": False}


# Takes content as a list of parts, and finds none in a text.
_PARTS = """{% for message in messages %}{{ '<|im_start|>' + message.role }}
{%- for part in message.content if part.type == 'text' %}{{ ' ' + part.text }}{% endfor %}{{ '<|im_end|>\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant' }}{% endif %}"""
# Takes both.
_EITHER = """{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}
{%- if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}
{%- if part.type == 'image' %}<|image_pad|>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}
{{- '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


def _of_parts(template: str, *more: str) -> Callable[[], Kind]:
    return lambda: replace(_with("chatml", *more)(), template=template)


def _own_code(name: str) -> dict[str, Any]:
    return {"tokenizer_class": name, "auto_map": {"AutoTokenizer": [f"tokenization.{name}", None]}}


MODELS: dict[str, Published] = {
    "Llama 2": Published("llama", KINDS["llama2"], {**_SENTENCES, "legacy": False}, "config", ["</s>"]),
    "Llama 3.1": Published(
        "llama", KINDS["llama3"], {**_FAST, "eos_token": "<|eot_id|>"}, "config", ["<|begin_of_text|>", "<|eot_id|>"]
    ),
    "Yi 1.5, SOLAR": Published("llama", _legacy, {**_SENTENCES, "legacy": True}, "config"),
    "Hermes 2 Pro": Published("llama", KINDS["chatml"], {**_FAST}, "several"),
    "Hermes 4": Published("llama", KINDS["chatml"], {**_FAST}, "folder"),
    "SmolLM2": Published("llama", KINDS["chatml"], _GPT2),
    "Mistral 7B v0.3": Published(
        "mistral", _with("llama2", *_MISTRAL, template=_LISTED_CALLS), {**_SENTENCES, "legacy": False}, "config"
    ),
    "Mistral Nemo": Published("mistral", _with("llama3", *_MISTRAL, template=_LISTED_CALLS), _GPT2),
    "Ministral 8B": Published("ministral", _with("llama3", *_MISTRAL, template=_LISTED_CALLS), _SENTENCES),
    "Ministral 3": Published(
        "ministral3",
        _with("llama3", *_MISTRAL, "[ARGS]", "[THINK]", "[/THINK]", template=_CALLS + "{# [TOOL_CALLS]f[ARGS]{} #}"),
        {"tokenizer_class": "TokenizersBackend"},
    ),
    "Qwen2.5": Published("qwen2", KINDS["chatml"], _QWEN, "config", ["<|im_end|>", "<|endoftext|>"]),
    "DeepSeek-R1-Distill-Qwen": Published(
        "qwen2", KINDS["chatml"], {"tokenizer_class": "LlamaTokenizerFast", "legacy": True, "unk_token": None}
    ),
    "Qwen3": Published("qwen3", KINDS["chatml"], _QWEN, "config", ["<|im_end|>", "<|endoftext|>"]),
    "Qwen3 30B A3B": Published("qwen3_moe", KINDS["chatml"], _QWEN, "config", ["<|im_end|>", "<|endoftext|>"]),
    "Mixtral 8x7B": Published("mixtral", KINDS["llama2"], {**_SENTENCES, "legacy": False}, "config", ["</s>"]),
    "Granite 3 A400M": Published("granitemoe", KINDS["llama3"], _GPT2),
    "Qwen3.5 without its eyes": Published(
        "qwen3_5_text", KINDS["chatml"], _QWEN, "config", ["<|im_end|>", "<|endoftext|>"]
    ),
    "OLMoE": Published("olmoe", KINDS["chatml"], _GPT2),
    "gpt-oss": Published(
        "gpt_oss",
        lambda: replace(
            _with("llama3", "<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>")(),
            template=CHANNELS,
        ),
        _FAST,
        ends=["<|return|>", "<|call|>"],
    ),
    "Qwen3.5 35B A3B without its eyes": Published("qwen3_5_moe_text", KINDS["chatml"], _QWEN, "config"),
    "Phi-3.5 mini": Published(
        "phi3", KINDS["phi3"], {**_SENTENCES, "legacy": False}, "config", ["<|end|>", "<|endoftext|>"]
    ),
    "Phi-4 mini": Published("phi3", KINDS["llama3"], _GPT2, "config"),
    "Gemma 1.1": Published("gemma", KINDS["gemma"], _GEMMA, "config", ["<eos>"]),
    "Gemma 2": Published("gemma2", KINDS["gemma"], _GEMMA, "config", ["<eos>", "<end_of_turn>"]),
    "Gemma 3 1B": Published("gemma3_text", KINDS["gemma"], _GEMMA, "config", ["<eos>", "<end_of_turn>"]),
    "Gemma 4 12B without its eyes": Published("gemma4_unified_text", KINDS["gemma"], _GEMMA, "config", ["<eos>"]),
    "Gemma 4 31B without its eyes": Published("gemma4_text", KINDS["gemma"], _GEMMA, "config", ["<eos>"]),
    "Granite 3": Published(
        "granite", _with("llama3", "<|tool_call|>", template="{% if tools %}<|tool_call|>{% endif %}"), _GPT2
    ),
    "LFM2": Published(
        "lfm2",
        _with("chatml", "<|tool_call_start|>", "<|tool_call_end|>", template=_CALLS + "{# <|tool_call_start|> #}"),
        {**_FAST, "bos_token": "<|startoftext|>"},
        "config",
    ),
    "LFM2 8B A1B": Published(
        "lfm2_moe",
        _with("chatml", "<|tool_call_start|>", "<|tool_call_end|>", template=_CALLS + "{# <|tool_call_start|> #}"),
        {**_FAST, "bos_token": "<|startoftext|>"},
    ),
    "OLMo": Published("olmo", KINDS["chatml"], _FAST),
    "Granite 4": Published("granitemoehybrid", KINDS["chatml"], _GPT2),
    "Hunyuan": Published("hunyuan_v1_dense", KINDS["llama3"], _own_code("HYTokenizer")),
    "SmolLM3": Published("smollm3", lambda: replace(KINDS["chatml"](), template=_GENERATION), _FAST),
    "ERNIE 4.5": Published("ernie4_5", None, {"tokenizer_class": "Ernie4_5_Tokenizer"}),
    "Nemotron-Mini": Published("nemotron", KINDS["unigram"], _FAST, "several"),
    "Seed-OSS": Published("seed_oss", KINDS["llama3"], _FAST),
    "InternLM3": Published("internlm3", None, _own_code("InternLM3Tokenizer")),
    "Helium 1": Published("helium", KINDS["unigram"], _FAST),
    "GLM-4 Chat": Published(
        "glm", KINDS["llama3"], {"tokenizer_class": "ChatGLM4Tokenizer"}, ends=["<|eot_id|>", "<|end_header_id|>"]
    ),
    "Code World Model": Published("cwm", KINDS["llama3"], _FAST),
    "OLMo 2": Published("olmo2", KINDS["chatml"], _GPT2, "config"),
    "OLMo 3": Published("olmo3", KINDS["chatml"], _GPT2),
    "EXAONE 4.0": Published("exaone4", KINDS["chatml"], _GPT2),
    "GLM-4 0414": Published("glm4", KINDS["llama3"], {"tokenizer_class": "PreTrainedTokenizer"}),
    "Gemma 3 4B": Published(
        "gemma3",
        _with("gemma", "<start_of_image>", "<end_of_image>", "<image_soft_token>"),
        {**_GEMMA, "image_token": "<image_soft_token>", "boi_token": "<start_of_image>"},
        "processor",
        ["<eos>", "<end_of_turn>"],
        "gemma3_text",
    ),
    **{
        name: Published(
            model_type,
            _with("gemma", "<|channel>", "<channel|>", "<|image|>", template="{# <|channel>thought\n<channel|> #}"),
            _GEMMA,
            ends=["<eos>", "<end_of_turn>"],
            text=f"{model_type}_text",
        )
        for name, model_type in (("Gemma 4 12B", "gemma4_unified"), ("Gemma 4 31B", "gemma4"))
    },
    "Mistral Small 3.1": Published(
        "mistral3", _with("llama3", *_MISTRAL, "[IMG]", template=_LISTED_CALLS), _SENTENCES, "processor", text="mistral"
    ),
    "Ministral 3 3B": Published(
        "mistral3",
        _with("llama3", *_MISTRAL, "[ARGS]", "[IMG]", template=_CALLS + "{# [TOOL_CALLS]f[ARGS]{} #}"),
        {"tokenizer_class": "TokenizersBackend"},
        text="ministral3",
    ),
    "Qwen2-VL": Published("qwen2_vl", _of_parts(_EITHER, "<|image_pad|>"), _QWEN, "processor", text="flat"),
    "Qwen2.5-VL": Published("qwen2_5_vl", _of_parts(_EITHER, "<|image_pad|>"), _QWEN, "config", text="flat"),
    "Qwen3-VL": Published("qwen3_vl", _of_parts(_EITHER, "<|image_pad|>"), _QWEN, "config", text="qwen3_vl_text"),
    "Qwen3.5": Published(
        "qwen3_5",
        _of_parts(_EITHER + "{# <tool_call> <function=f> <think> #}", "<|image_pad|>"),
        _QWEN,
        "config",
        ["<|im_end|>", "<|endoftext|>"],
        text="qwen3_5_text",
    ),
    "Qwen3.5 35B A3B": Published(
        "qwen3_5_moe",
        _of_parts(_EITHER + "{# <tool_call> <function=f> <think> #}", "<|image_pad|>"),
        _QWEN,
        "config",
        ["<|im_end|>", "<|endoftext|>"],
        text="qwen3_5_moe_text",
    ),
    "InternVL 3": Published("internvl", _of_parts(_PARTS, "<IMG_CONTEXT>"), _QWEN, text="qwen2"),
    "LLaVA 1.5": Published("llava", _of_parts(_PARTS, "<image>"), _FAST, "processor", text="llama"),
    "LLaVA 1.6": Published("llava_next", _of_parts(_PARTS, "<image>"), _FAST, "processor", text="mistral"),
    "Idefics 3": Published("idefics3", _of_parts(_PARTS, "<image>"), _FAST, "processor", text="llama"),
    "SmolVLM 2": Published("smolvlm", _of_parts(_PARTS, "<image>"), _GPT2, "processor", text="llama"),
}


def write(published: Published, folder: Path) -> Path:
    """The files, in a new folder, and a config.json of a size that is never built."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(_configuration(published)))
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", **published.config}
    template = LLAMA2
    if published.kind is None:
        (folder / "tokenizer.model").write_bytes(_sentencepiece())
    else:
        kind = published.kind()
        kind.tokenizer.save(str(folder / "tokenizer.json"))
        config, template = {"bos_token": kind.bos, "eos_token": kind.eos, **published.config}, kind.template
        ends = [kind.tokenizer.token_to_id(text) for text in published.ends]
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends or None}))
    no_limit = 1_000_000_000_000_000_019_884_624_838_656
    config |= {"clean_up_tokenization_spaces": False, "model_max_length": no_limit}
    _place(template, published.template, folder, config)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


_GEMMA4 = {
    "num_key_value_heads": 2, "head_dim": 32, "hidden_size_per_layer_input": 0, "layer_types": ["full_attention"] * 2,
    "rope_parameters": {"full_attention": {"rope_type": "proportional", "rope_theta": 1e6}},
}  # fmt: skip
_YARN = {"rope_type": "yarn", "rope_theta": 150_000.0, "factor": 32.0, "original_max_position_embeddings": 4096}
_LOCAL = {"num_local_experts": 8, "num_experts_per_tok": 2}
_MANY = {"moe_intermediate_size": 256, "num_experts": 8, "num_experts_per_tok": 2}
_EXPERTS: dict[str, dict[str, Any]] = {
    "qwen3_moe": _MANY,
    "mixtral": _LOCAL,
    "granitemoe": _LOCAL,
    "gpt_oss": {**_LOCAL, "layer_types": None, "rope_parameters": _YARN},
    "granitemoehybrid": {"num_local_experts": 0},
    "gemma4_unified_text": _GEMMA4,
    "gemma4_text": _GEMMA4,
    **dict.fromkeys(("olmoe", "lfm2_moe", "qwen3_5_moe_text"), _MANY),
}


def _configuration(published: Published) -> dict[str, Any]:
    if not published.text:
        return {**_SIZES, **_EXPERTS.get(published.model_type, {}), "model_type": published.model_type}
    if published.text == "flat":
        rope = {"type": "mrope", "mrope_section": [4, 6, 6]}
        return {**_SIZES, "model_type": published.model_type, "rope_scaling": rope, "vision_config": {}}
    text = {**_SIZES, **_EXPERTS.get(published.text, {}), "model_type": published.text}
    return {"model_type": published.model_type, "text_config": text, "vision_config": {}}


def _place(template: str, where: str, folder: Path, config: dict[str, Any]) -> None:
    if where == "config":
        config["chat_template"] = template
    elif where == "several":
        named = {"default": template, "tool_use": template + "{{ tools }}"}
        config["chat_template"] = [{"name": name, "template": text} for name, text in named.items()]
    elif where == "processor":
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    else:
        (folder / "chat_template.jinja").write_text(template)
    if where == "folder":
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates" / "tool_use.jinja").write_text(template + "{{ tools }}")


def _sentencepiece() -> bytes:
    """A model as the library itself writes it."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3), model_writer=written, vocab_size=400, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    return written.getvalue()
