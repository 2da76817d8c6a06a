"""Every supported family is exported exactly, as the model builder's configuration and our tables say; others are not.

One run of tests/family_chain.py quantizes and exports a tiny random checkpoint of each.
"""

import json
import os
import re
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file

from builder.checkpoint import told
from builder.checkpoint.families import FAMILIES, family_of
from builder.checkpoint.model import Model
from builder.checkpoint.refused import REFUSED
from builder.errors import UnsupportedModel
from serving.engine.oga import OgaRuntime
from serving.engine.prefix import prefill_cuts
from serving.engine.runtime import PREFILL_CHUNK
from serving.folder import ModelFolder
from tests.family_chain import (
    CASES,
    FORMAT_CASES,
    HEAD_CASES,
    PROVIDER_CASES,
    PROVIDERS,
    TOKENS,
    WINDOW,
    Measured,
    folder,
    measure,
    run,
)
from tests.family_table import PART, figures_in, table

EXACT = 1e-3  # of logits whose standard deviation is 2 to 4; 4e-5 was the largest seen
FLOAT16 = 0.2
SERVED_AGREEMENT = 0.85

WINDOWED = [name for name, case in CASES.items() if case.windowed]


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the chain has run; OGA_CHAT_TEST_MODELS keeps it between sessions."""
    kept = os.environ.get("OGA_CHAT_TEST_MODELS")
    place = Path(kept) / "families" if kept else tmp_path_factory.mktemp("families")
    results = place / "measured.json"
    if not results.exists():
        place.mkdir(exist_ok=True)
        results.write_text(json.dumps({name: vars(measured) for name, measured in run(place).items()}))
    return place


@pytest.fixture(scope="session")
def measured(work: Path) -> dict[str, Measured]:
    """What the chain has found."""
    return {name: Measured(**values) for name, values in json.loads((work / "measured.json").read_text()).items()}


# The chain


def test_every_supported_family_goes_through_the_chain() -> None:
    assert {case.model_type for case in CASES.values()} == set(FAMILIES)


@pytest.mark.parametrize("case", CASES)
def test_the_export_is_the_quantized_model(measured: dict[str, Measured], case: str) -> None:
    exact = measured[f"{case}: exact"]
    assert 1 < exact.std < 5
    assert exact.max_difference < EXACT


@pytest.mark.parametrize("case", CASES)
def test_as_it_is_served_it_still_finds_the_same_tokens(measured: dict[str, Measured], case: str) -> None:
    assert measured[f"{case}: served"].top1_agreement > SERVED_AGREEMENT


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("case", PROVIDER_CASES)
def test_an_export_for_a_gpu_runs_on_the_cpu_within_float16(
    measured: dict[str, Measured], case: str, provider: str
) -> None:
    found = measured[f"{case}: {provider}"]
    assert EXACT < found.max_difference < FLOAT16
    assert found.top1_agreement > 0.97


@pytest.mark.parametrize("case", HEAD_CASES)
def test_an_output_layer_that_quark_quantized_is_exact(measured: dict[str, Measured], case: str) -> None:
    assert measured[f"{case}: head"].max_difference < EXACT


@pytest.mark.parametrize("case", FORMAT_CASES)
def test_quarks_awq_format_gives_the_same_export(work: Path, measured: dict[str, Measured], case: str) -> None:
    config = json.loads((folder(work, case) / "quantized-awq" / "checkpoint" / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "awq"
    assert measured[f"{case}: awq"].max_difference < EXACT


@pytest.mark.parametrize("case", FORMAT_CASES)
def test_a_search_in_pieces_finds_the_same_bits(work: Path, measured: dict[str, Measured], case: str) -> None:
    one, other = (
        load_file(folder(work, case) / name / "checkpoint" / "model.safetensors")
        for name in ("quantized", "quantized-whole")
    )
    assert set(one) == set(other)
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("case", WINDOWED)
def test_a_window_is_exact_in_chunks_after_a_rewind_and_token_by_token(work: Path, case: str) -> None:
    """All positions asked for are beyond the window, also the one that is rewound to."""
    tokens, expected = proof(work, case)
    runtime = OgaRuntime(ModelFolder.open(folder(work, case) / "exact"), None, 1)
    slot = runtime.slot(0)
    slot.reserve(TOKENS)

    def difference() -> float:
        return float(np.abs(slot.logits() - expected[len(slot.tokens) - 1]).max())

    for begin, end in prefill_cuts(len(slot.tokens), TOKENS, PREFILL_CHUNK):
        runtime.forward([(slot, tokens[begin:end])])
        assert difference() < EXACT
    assert TOKENS > 2 * PREFILL_CHUNK > 2 * WINDOW
    kept = WINDOW + 53
    assert slot.rewind(kept) == kept
    for token in tokens[kept : kept + 5]:
        runtime.forward([(slot, np.array([token]))])
        assert difference() < EXACT
    for begin, end in prefill_cuts(len(slot.tokens), TOKENS, PREFILL_CHUNK):
        runtime.forward([(slot, tokens[begin:end])])
        assert difference() < EXACT


def proof(work: Path, case: str) -> tuple[np.ndarray, np.ndarray]:
    """Token ids, and the logits that the quantized model gave after each."""
    with np.load(folder(work, case) / "quantized" / "proof.npz") as saved:
        return saved["token_ids"].astype(np.int32), saved["logits"]


def test_the_context_ends_where_the_export_would_be_wrong(work: Path) -> None:
    lengths = {case: ModelFolder.open(folder(work, case) / "exact").context_length for case in CASES}
    assert {case for case, length in lengths.items() if length != 512} == {"ministral3", "phi3, LongRoPE"}
    assert lengths["ministral3"] == lengths["phi3, LongRoPE"] == 256


# The comparison sees what is wrong


def spoiled(work: Path, case: str, spoil: Callable[[onnx.GraphProto], int], tmp_path: Path) -> float:
    """The largest difference of an export that `spoil` has changed in at least one place."""
    exported = folder(work, case) / "exact"
    model = onnx.load(str(exported / "model.onnx"))
    assert spoil(model.graph) > 0
    for name in ("genai_config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    onnx.save(model, str(tmp_path / "model.onnx"), save_as_external_data=True, location="model.onnx.data")
    return measure(tmp_path, folder(work, case) / "quantized").max_difference


def change_weights(graph: onnx.GraphProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> int:
    """Change every initializer, and constant of a branch, whose name matches; returns how many there are."""
    found = [tensor for tensor in graph.initializer if re.search(name, tensor.name)]
    branches = [a.g for node in graph.node if node.op_type == "If" for a in node.attribute]
    found += [node.attribute[0].t for g in branches for node in g.node if re.search(name, node.output[0])]
    for tensor in found:
        changed = np.ascontiguousarray(change(onnx.numpy_helper.to_array(tensor)))
        tensor.CopyFrom(onnx.numpy_helper.from_array(changed, tensor.name))
    return len(found)


def change_attention(graph: onnx.GraphProto, **attributes: int) -> int:
    """Change attributes of every attention that has another value; returns how many these are."""
    changed = 0
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "GroupQueryAttention" and attribute.i != attributes.get(attribute.name, attribute.i):
                attribute.i = attributes[attribute.name]
                changed += 1
    return changed


@pytest.mark.parametrize("case", [name for name in CASES if name != "granitemoehybrid, no RoPE"])
def test_a_wrong_rotation_would_be_seen_in_every_family(work: Path, case: str, tmp_path: Path) -> None:
    assert spoiled(work, case, lambda graph: change_weights(graph, r"cos_cache", np.fliplr), tmp_path) > 0.1


@pytest.mark.parametrize("case", WINDOWED)
def test_a_lost_window_would_be_seen(work: Path, case: str, tmp_path: Path) -> None:
    assert spoiled(work, case, lambda graph: change_attention(graph, local_window_size=-1), tmp_path) > 0.1


@pytest.mark.parametrize("case", WINDOWED)
def test_a_window_of_one_token_more_would_be_seen(work: Path, case: str, tmp_path: Path) -> None:
    def widen(graph: onnx.GraphProto) -> int:
        return sum(
            change_attention(graph, local_window_size=WINDOW + 1)
            for attribute in [a for node in graph.node for a in node.attribute]
            if attribute.name == "local_window_size" and attribute.i == WINDOW
        )

    assert spoiled(work, case, widen, tmp_path) > EXACT


@pytest.mark.parametrize(
    ("case", "weights"),
    [
        ("llama, tied, biases", r"qkv_proj\.Add\.bias"),
        ("llama, tied, biases", r"o_proj\.Add\.bias"),
        ("llama, tied, biases", r"down_proj\.Add\.bias"),
        ("seed_oss", r"qkv_proj\.Add\.bias"),
        ("nemotron", r"layernorm\.bias"),
        ("qwen3", r"q_norm"),
        ("gemma3_text", r"k_norm"),
        ("olmo2", r"q_norm"),
        ("olmo3", r"k_norm"),
        ("exaone4, hybrid", r"post_attention_layernorm"),
        ("glm4", r"pre_feedforward_layernorm"),
        ("gemma2", r"post_feedforward_layernorm\.weight"),
    ],
)
def test_a_lost_bias_or_norm_would_be_seen(work: Path, case: str, weights: str, tmp_path: Path) -> None:
    lost = 0.0 if weights.endswith("bias") else 1.0
    assert (
        spoiled(work, case, lambda graph: change_weights(graph, weights, lambda w: np.full_like(w, lost)), tmp_path)
        > 0.1
    )


def test_a_rotation_where_there_should_be_none_would_be_seen(work: Path, tmp_path: Path) -> None:
    def rotate(graph: onnx.GraphProto) -> int:
        for node in graph.node:
            if node.op_type == "GroupQueryAttention":
                node.input[7], node.input[8] = "cos_cache", "sin_cache"
        return change_attention(graph, do_rotary=1)

    assert spoiled(work, "smollm3", rotate, tmp_path) > 0.1


def test_a_scale_rounded_to_two_decimals_would_be_seen(work: Path, tmp_path: Path) -> None:
    def rounded(graph: onnx.GraphProto) -> int:
        return change_weights(graph, "embed_tokens/scale", lambda scale: scale.round(2))

    assert spoiled(work, "gemma", rounded, tmp_path) > EXACT


# What the model builder is told


def builder_config(config: dict[str, Any]) -> dict[str, Any]:
    return told.builder_config(Model.of(config))


def context_limit(config: dict[str, Any]) -> int | None:
    return told.context_limit(Model.of(config))


CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "shared_intermediate_size": 11_008,
    "num_attention_heads": 32,
    "num_hidden_layers": 2,
    "max_position_embeddings": 32_768,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
}
YARN = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 32_768}


@pytest.mark.parametrize(
    ("model_type", "rope_type", "architecture"),
    [
        ("llama", "default", "LlamaForCausalLM"),
        ("llama", "llama3", "LlamaForCausalLM"),
        ("llama", "linear", "MistralForCausalLM"),
        ("mistral", "linear", "MistralForCausalLM"),
        ("mistral", "llama3", "LlamaForCausalLM"),
        ("qwen3", "linear", "Qwen3ForCausalLM"),
        ("helium", "default", "Ernie4_5ForCausalLM"),
    ],
)
def test_the_architecture_told_is_one_that_knows_the_rotation(
    model_type: str, rope_type: str, architecture: str
) -> None:
    rope = {**CONFIG["rope_parameters"], "rope_type": rope_type}
    config = builder_config({**CONFIG, "model_type": model_type, "rope_parameters": rope})
    assert config["architectures"] == [architecture]


FACTORS = {"short_factor": [1.0] * 64, "long_factor": [2.0] * 64}


@pytest.mark.parametrize(
    "published",
    [
        {"model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        {"model_type": "qwen2", "rope_theta": 1e6, "rope_scaling": {"type": "yarn", "factor": 4.0}},
        {"model_type": "phi3", "rope_scaling": {"type": "su", **FACTORS}, "original_max_position_embeddings": 4096},
        {"model_type": "gemma3_text", "rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": None},
        {"model_type": "hunyuan_v1_dense", "rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0}},
        {"model_type": "internlm3", "rope_scaling": {"rope_type": "dynamic", "factor": 6.0}},
        {"model_type": "granitemoehybrid", "num_local_experts": 0, "layer_types": ["attention"] * 2},
        {"model_type": "olmo3", "rope_theta": 5e5, "rope_scaling": {**YARN, "original_max_position_embeddings": 8192}},
    ],
)
def test_the_generation_of_config_json_that_most_models_are_published_with_passes(published: dict[str, Any]) -> None:
    told.check(Model.of({**CONFIG, "rope_parameters": None, **published}))


@pytest.mark.parametrize("model_type", ["mistral", "phi3", "ministral3"])
def test_a_window_without_layer_types_is_that_of_every_layer(model_type: str) -> None:
    config = {**CONFIG, "model_type": model_type}
    assert builder_config({**config, "sliding_window": 4096})["layer_types"] == ["sliding_attention"] * 2
    for unwindowed in ({}, {"sliding_window": None}):
        assert "layer_types" not in builder_config({**config, **unwindowed})


def test_layer_types_stay_as_they_are() -> None:
    layers = ["sliding_attention", "full_attention"]
    config = {**CONFIG, "model_type": "qwen2", "sliding_window": 4096, "layer_types": layers}
    assert builder_config(config)["layer_types"] == layers


def test_yarn_is_told_so_that_its_range_comes_out_rounded() -> None:
    rope = builder_config({**CONFIG, "rope_parameters": YARN})["rope_parameters"]
    assert rope["mscale"] == pytest.approx(0.1 * np.log(4) + 1)
    dimensions = [64 * np.log(32_768 / (rope[beta] * 2 * np.pi)) / np.log(1e6) for beta in ("beta_fast", "beta_slow")]
    assert dimensions == pytest.approx([23, 40])


def test_a_configuration_is_not_changed_in_place() -> None:
    config = {**CONFIG, "rope_parameters": dict(YARN), "sliding_window": 4096}
    before = json.dumps(config)
    builder_config(config)
    assert json.dumps(config) == before


def test_only_scalings_that_change_beyond_a_length_limit_the_context() -> None:
    assert context_limit(CONFIG) is None
    assert context_limit({**CONFIG, "rope_parameters": YARN}) is None
    assert context_limit({**CONFIG, "rope_parameters": {**YARN, "llama_4_scaling_beta": 0.1}}) == 32_768
    old = {**CONFIG, "original_max_position_embeddings": 4096, "rope_scaling": {"type": "su"}, "rope_parameters": None}
    assert context_limit(old) == 4096


# What is refused


def refusal(**changes: Any) -> str:
    """The words in which a configuration is refused."""
    with pytest.raises(UnsupportedModel) as refused:
        told.check(Model.of({**CONFIG, **changes}))
    return str(refused.value)


@pytest.mark.parametrize("model_type", sorted(FAMILIES))
def test_a_supported_family_is_found_and_is_not_refused(model_type: str) -> None:
    assert family_of(model_type) is FAMILIES[model_type]
    assert model_type not in REFUSED


@pytest.mark.parametrize("model_type", sorted(REFUSED))
def test_a_refused_family_is_named_with_its_reason_and_the_nearest_that_works(model_type: str) -> None:
    known = REFUSED[model_type]
    message = refusal(model_type=model_type)
    assert message.startswith(f"the architecture {model_type!r} is not supported: {known.reason}. ")
    if known.nearest:
        assert f"The nearest that is supported is {known.nearest} ({FAMILIES[known.nearest].examples})." in message


def test_an_unknown_family_is_refused_with_those_that_work() -> None:
    message = refusal(model_type="transformer9")
    assert "'transformer9' is not supported: it has not been shown to work through Quark and OGA. Supp" in message
    assert all(model_type in message for model_type in FAMILIES)


def test_the_nearest_to_an_unknown_family_is_the_one_with_the_most_similar_name() -> None:
    assert "nearest that is supported is granite " in refusal(model_type="granite5")
    assert "nearest that is supported is hunyuan_v1_dense " in refusal(model_type="hunyuan_v2_dense")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rope_parameters": {"rope_type": "longrope"}}, "'longrope', and for 'llama' .* exports only default, llama3"),
        ({"model_type": "qwen2", "rope_parameters": {"rope_type": "llama3"}}, "exports only default, linear, yarn"),
        ({"model_type": "gemma3_text", "rope_parameters": None, "rope_scaling": {"type": "linear"}}, "only default"),
        ({"rope_parameters": ["yarn"]}, r"\['yarn'\] for its rotary embedding"),
        ({"rope_parameters": {"rope_type": "yarn"}}, r"incomplete YaRN parameters \('factor'\)"),
        ({"rope_parameters": {**YARN, "rope_theta": 2.0}}, "cannot export these YaRN"),
        ({"rope_parameters": {**YARN, "partial_rotary_factor": 0.5}}, "cannot export these YaRN"),
        ({"model_type": "granitemoehybrid", "num_local_experts": 8}, "8 experts"),
        ({"model_type": "granitemoehybrid", "layer_types": ["mamba", "attention"]}, "Mamba layers"),
        ({"model_type": "granitemoehybrid"}, "Mamba layers"),
        ({"model_type": "gemma3_text", "use_bidirectional_attention": True}, "looks ahead"),
        ({"model_type": ["llama"]}, "is not supported"),
        ({"model_type": None}, "'None' is not supported"),
    ],
)
def test_a_model_whose_configuration_cannot_be_exported_is_refused(changes: dict[str, Any], words: str) -> None:
    assert re.search(words, refusal(**changes))


# Agreement with the libraries and the README


@pytest.mark.parametrize("template", sorted({family.awq_template for family in FAMILIES.values()}))
def test_quark_has_the_awq_template_of_every_family(template: str) -> None:
    # Read as text: importing Quark takes longer than all other tests of this file's kind together.
    source = _source("amd-quark", "quark/torch/quantization/config/template.py")
    assert re.search(rf'^    "{template}": \{{$', source, re.MULTILINE)


@pytest.mark.parametrize("architecture", sorted({family.architecture for family in FAMILIES.values()}))
def test_the_model_builder_knows_every_architecture_that_it_is_told(architecture: str) -> None:
    source = _source("onnxruntime-genai", "onnxruntime_genai/models/builder.py")
    assert f'config.architectures[0] == "{architecture}"' in source


def _source(package: str, file: str) -> str:
    return Path(str(distribution(package).locate_file(file))).read_text(encoding="utf-8")


def test_the_table_is_the_one_written_from_the_families() -> None:
    written = PART.read()
    assert written == table(figures_in(written)), f"run {PART.command}"
