"""Every supported family is exported exactly, and the comparison that shows it sees what would be wrong.

One run of tests/family_chain.py quantizes and exports a tiny random checkpoint of each.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file

from builder.checkpoint.families import FAMILIES
from builder.checkpoint.text_part import WHOLES
from builder.stages.quantize import CHECKPOINT as QUANTIZED
from serving.engine.engine import Engine
from serving.engine.oga import OgaRuntime
from serving.engine.ort import OrtRuntime
from serving.engine.prefix import prefill_cuts
from serving.engine.runtime import PREFILL_CHUNK
from serving.folder import ModelFolder
from serving.types import EngineSettings, SamplingOptions, never
from tests.family_cases import CASES, WHOLE_MODELS, WINDOW
from tests.family_chain import (
    DEMO,
    FORMAT_CASES,
    HEAD_CASES,
    JOINED_CASES,
    MIXED,
    PLAIN_CASES,
    PROVIDER_CASES,
    PROVIDERS,
    TOKENS,
    WHOLE_ALGORITHMS,
    WHOLE_CASES,
    Measured,
    folder,
    measure,
    run,
)

EXACT = 1e-3  # of logits whose standard deviation is 2 to 4; 4e-5 was the largest seen
FLOAT16 = 0.2
SERVED_AGREEMENT = 0.85

UNROTATED = ("granitemoehybrid, no RoPE", "granitemoehybrid, Mamba")
STATES = ("qwen3_5_moe_text", "lfm2_moe", "granitemoehybrid, Mamba")  # which cannot be rewound
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
    assert set(WHOLE_MODELS) == set(WHOLES)


@pytest.mark.parametrize("case", [*CASES, *WHOLE_MODELS])
def test_the_export_is_the_quantized_model(measured: dict[str, Measured], case: str) -> None:
    exact = measured[f"{case}: exact"]
    assert 1 < exact.std < 5
    assert exact.max_difference < EXACT


@pytest.mark.parametrize("model_type", WHOLE_MODELS)
def test_of_a_text_the_text_part_computes_what_the_whole_model_does(
    measured: dict[str, Measured], model_type: str
) -> None:
    assert measured[f"{model_type}: whole"].max_difference < 0.02  # of float16, at -16 to -32


def test_of_a_model_that_also_sees_nothing_but_the_text_part_is_quantized(work: Path) -> None:
    checkpoint = folder(work, "gemma3") / "quantized" / QUANTIZED
    assert json.loads((checkpoint / "config.json").read_text())["model_type"] == "gemma3_text"
    names = set(tensors(checkpoint))
    assert names and all(name.startswith(("model.layers.", "model.embed_tokens.", "model.norm.")) for name in names)


def test_layers_with_a_window_that_were_scaled_as_the_others_would_be_seen(work: Path, tmp_path: Path) -> None:
    def scaled(graph: onnx.GraphProto) -> int:
        found = {tensor.name: tensor for tensor in graph.initializer}
        angles = np.arange(512)[:, None] / (8.0 * 10_000.0 ** (np.arange(32) / 32))
        for name, values in (("cos_cache_local", np.cos(angles)), ("sin_cache_local", np.sin(angles))):
            found[name].CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), name))
        return 2

    assert spoiled(work, "gemma3", scaled, tmp_path) > 0.1


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
def test_what_gptaq_rounds_is_exact_too(measured: dict[str, Measured], case: str) -> None:
    assert measured[f"{case}: gptaq"].max_difference < EXACT


@pytest.mark.parametrize("algorithm", MIXED)
@pytest.mark.parametrize("case", FORMAT_CASES)
def test_linears_of_8_bits_are_exact_and_where_the_mixture_has_them(
    work: Path, measured: dict[str, Measured], case: str, algorithm: str
) -> None:
    assert measured[f"{case}: mixed-{algorithm}"].max_difference < EXACT
    graph = onnx.load(str(folder(work, case) / f"mixed-{algorithm}" / "model.onnx"), load_external_data=False).graph
    found = {
        node.name.removeprefix("/model/layers.").removesuffix("/MatMulNBits")
        for node in graph.node
        for attribute in node.attribute
        if (node.op_type, attribute.name, attribute.i) == ("MatMulNBits", "bits", 8)
    }
    # Rows that are no multiple of 256 leave room for all that may have them.
    assert found == {f"{layer}/{part}" for layer in (0, 1) for part in ("attn/v_proj", "mlp/down_proj")}


@pytest.mark.parametrize("case", JOINED_CASES)
def test_several_files_give_the_export_that_one_gives(work: Path, case: str) -> None:
    exports = exports_of(work, case, "-joined")
    assert exports and all(same for same in exports.values()), exports


@pytest.mark.parametrize("case", PLAIN_CASES)
def test_an_export_layer_by_layer_has_the_bytes_of_one_with_all_layers_in_memory(work: Path, case: str) -> None:
    exports = exports_of(work, case, "-plain")
    assert exports and all(same for same in exports.values()), exports


def exports_of(work: Path, case: str, way: str) -> dict[str, bool]:
    """Whether each export that was also made another way has the same model, to the byte."""
    others = [path for path in folder(work, case).glob(f"*{way}") if (path / "model.onnx").exists()]
    return {
        other.name: all(
            (other / file).read_bytes() == (other.with_name(other.name.removesuffix(way)) / file).read_bytes()
            for file in ("model.onnx", "model.onnx.data")
        )
        for other in others
    }


@pytest.mark.parametrize(
    ("case", "algorithm"), [*product(WHOLE_CASES, WHOLE_ALGORITHMS), (DEMO, "awq")], ids=lambda value: str(value)
)
def test_a_layer_at_a_time_gives_the_bits_of_quark_with_the_whole_model(work: Path, case: str, algorithm: str) -> None:
    layered, whole = (folder(work, case) / f"{way}-{algorithm}" for way in ("layered", "whole"))
    found, expected = tensors(layered / QUANTIZED), tensors(whole / QUANTIZED)
    assert len(list((layered / QUANTIZED).glob("*.safetensors"))) > 2 and len(expected) > 20
    assert found == expected
    config = (json.loads((way / QUANTIZED / "config.json").read_text()) for way in (layered, whole))
    assert next(config) == next(config)
    for name in ("proof.npz", *(f"original/{file.name}" for file in (whole / "original").iterdir())):
        assert (layered / name).read_bytes() == (whole / name).read_bytes(), name


def tensors(checkpoint: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every tensor of a checkpoint: type, shape, and content."""
    found = {}
    for file in checkpoint.glob("*.safetensors"):
        for name, value in load_file(file).items():
            found[name] = (str(value.dtype), value.shape, value.tobytes())
    return found


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


@pytest.mark.parametrize("case", STATES)
def test_a_state_is_exact_in_chunks_and_token_by_token(work: Path, case: str) -> None:
    tokens, expected = proof(work, case)
    runtime = OgaRuntime(ModelFolder.open(folder(work, case) / "exact"), None, 1)
    slot = runtime.slot(0)
    slot.reserve(TOKENS)
    for end in (5, 64, 65, 66, 67, 150, TOKENS):
        runtime.forward([(slot, tokens[len(slot.tokens) : end])])
        assert np.abs(slot.logits() - expected[end - 1]).max() < EXACT


def test_keys_of_several_sizes_are_exact_in_onnx_runtime_s_rows_too(work: Path) -> None:
    tokens, expected = proof(work, "gemma4_unified_text")
    runtime = OrtRuntime(ModelFolder.open(folder(work, "gemma4_unified_text") / "exact"))
    slot = runtime.slot(0)
    slot.reserve(TOKENS)
    for end in (64, 128, 129, TOKENS):
        runtime.forward([(slot, tokens[len(slot.tokens) : end])])
        assert np.abs(slot.logits() - expected[end - 1]).max() < EXACT


def proof(work: Path, case: str) -> tuple[np.ndarray, np.ndarray]:
    """Token ids, and the logits that the quantized model gave after each."""
    with np.load(folder(work, case) / "quantized" / "proof.npz") as saved:
        return saved["token_ids"].astype(np.int32), saved["logits"]


def test_the_context_ends_where_the_export_would_be_wrong(work: Path) -> None:
    lengths = {case: ModelFolder.open(folder(work, case) / "exact").context_length for case in CASES}
    assert {case for case, length in lengths.items() if length != 512} == {"ministral3"}
    assert lengths["ministral3"] == 256


@pytest.mark.parametrize("guess", [False, True])
def test_a_conversation_that_outgrows_longrope_s_first_length_is_computed_as_the_model_does(
    work: Path, tmp_path: Path, guess: bool
) -> None:
    """Each token is the likeliest of a pass over all before it; the shorter prompt comes after the longer one."""
    turn, model = 128, tmp_path / "model"
    shutil.copytree(folder(work, "phi3, LongRoPE, beyond") / "exact", model)
    (model / "manifest.json").write_text(json.dumps({"turn": turn}))
    (model / "chat_template.jinja").write_text("{{ messages }}")
    tokens, _ = proof(work, "phi3, LongRoPE, beyond")
    with Engine.load(model, EngineSettings(slots=1, guess=guess, threads=1)) as engine:
        engine.prompt = replace(engine.prompt, fixed_end_ids=frozenset())
        answers = {size: answered(engine, tokens[:size], 16) for size in (turn - 8, turn + 20, turn - 40)}
    runtime = OgaRuntime(ModelFolder.open(model), None, 1)
    for size, answer in answers.items():
        history = tokens[:size]
        for token in answer:
            assert token == runtime.all_logits(history)[-1].argmax()
            history = np.append(history, np.int32(token))
    whole, part = runtime.all_logits(tokens[: turn + 1]), runtime.all_logits(tokens[:turn])
    assert np.abs(whole[:turn] - part).max() > 0.1


def answered(engine: Engine, token_ids: np.ndarray, count: int) -> list[int]:
    """The likeliest tokens after these."""
    chunks: SimpleQueue[Any] = SimpleQueue()
    engine.submit(token_ids, SamplingOptions(temperature=0.0, max_tokens=count), never, chunks.put)
    found: list[int] = []
    while True:
        batch = chunks.get()
        assert isinstance(batch, list), batch
        found += [chunk.token_id for chunk in batch if chunk.token_id is not None and chunk.completion_tokens]
        if batch[-1].finish_reason is not None:
            return found


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


@pytest.mark.parametrize("case", [name for name in CASES if name not in UNROTATED])
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
        ("olmoe", r"q_norm"),
        ("gpt_oss", r"experts\.gate_up_proj\.bias"),
        ("gpt_oss", r"experts\.down_proj\.bias"),
        ("gpt_oss", r"sinks$"),
        ("lfm2_moe", r"moe\.expert_bias"),
        ("qwen3_5_moe_text", r"shared_expert_gate"),
        ("granitemoehybrid, Mamba", r"mamba\.dt_bias"),
        ("granitemoehybrid, Mamba", r"mamba\.D$"),
        ("granitemoehybrid, Mamba", r"mamba\.norm\.weight"),
    ],
)
def test_a_lost_bias_or_norm_would_be_seen(work: Path, case: str, weights: str, tmp_path: Path) -> None:
    lost = 1.0 if "norm" in weights and not weights.endswith("bias") else 0.0
    assert (
        spoiled(work, case, lambda graph: change_weights(graph, weights, lambda w: np.full_like(w, lost)), tmp_path)
        > 0.1
    )


@pytest.mark.parametrize("case", ["gpt_oss", "lfm2_moe", "qwen3_5_moe_text", "granitemoehybrid, Mamba"])
def test_experts_without_their_zero_points_would_be_seen(work: Path, case: str, tmp_path: Path) -> None:
    lost = spoiled(
        work, case, lambda graph: change_weights(graph, r"zero_points$", lambda w: np.full_like(w, 0x88)), tmp_path
    )
    assert lost > 0.1


@pytest.mark.parametrize(
    ("case", "name", "value"),
    [("gpt_oss", "swiglu_limit", 100.0), ("gpt_oss", "activation_alpha", 1.0), ("gpt_oss", "activation_beta", 0.0)],
)
def test_another_activation_of_experts_would_be_seen(
    work: Path, case: str, name: str, value: float, tmp_path: Path
) -> None:
    def other(graph: onnx.GraphProto) -> int:
        found = [a for node in graph.node if node.op_type == "QMoE" for a in node.attribute if a.name == name]
        for attribute in found:
            attribute.f = value
        return len(found)

    assert spoiled(work, case, other, tmp_path) > 0.1


def test_a_mean_that_olmo_s_norms_do_not_subtract_would_be_seen(work: Path, tmp_path: Path) -> None:
    def simplified(graph: onnx.GraphProto) -> int:
        found = [node for node in graph.node if node.op_type in ("LayerNormalization", "SkipLayerNormalization")]
        for node in found:
            node.op_type = node.op_type.replace("LayerN", "SimplifiedLayerN")
            del node.input[-1]  # the bias, which is none
        return len(found)

    assert spoiled(work, "olmo", simplified, tmp_path) > 0.1


@pytest.mark.parametrize("case", ["gemma4_unified_text", "gemma4_text"])
def test_layers_of_gemma_4_that_are_not_scaled_would_be_seen(work: Path, case: str, tmp_path: Path) -> None:
    def unscaled(graph: onnx.GraphProto) -> int:
        scales = {node.input[1] for node in graph.node if "/layer_scalar/" in node.name}
        found = [node for node in graph.node if node.op_type == "Constant" and node.output[0] in scales]
        for node in found:
            tensor = node.attribute[0].t
            one = np.ones_like(onnx.numpy_helper.to_array(tensor))
            tensor.CopyFrom(onnx.numpy_helper.from_array(one, tensor.name))
        return len(found)

    assert spoiled(work, case, unscaled, tmp_path) > 0.1


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
