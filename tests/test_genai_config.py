"""What a model folder may ask for: what is known to be harmless, and nothing else."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.errors import ModelFolderError
from serving.genai_config import is_inside, read_settings

Json = dict[str, Any]


@pytest.fixture
def genai(demo_model: Path) -> Json:
    content: Json = json.loads((demo_model / "genai_config.json").read_text())
    return content


def put(path: str, value: Any) -> Callable[[Json], None]:
    """What sets a setting by its path, whose parts are divided by slashes."""

    def change(content: Json) -> None:
        *parents, name = path.split("/")
        for parent in parents:
            content = content.setdefault(parent, {})
        content[name] = value

    return change


def refused(content: Json, change: Callable[[Json], None]) -> str:
    changed = copy.deepcopy(content)
    change(changed)
    with pytest.raises(ModelFolderError) as error:
        read_settings(json.dumps(changed))
    return str(error.value)


def test_what_the_model_builder_writes_is_taken_as_it_is(genai: Json) -> None:
    assert read_settings(json.dumps(genai)) == genai


@pytest.mark.parametrize(
    "provider",
    [
        {"cuda": {"enable_cuda_graph": "1", "enable_skip_layer_norm_strict_mode": "1"}},
        {"DML": {"enable_graph_capture": "1"}},
        {"WebGpuExecutionProvider": {"enableGraphCapture": "0", "validationMode": "basic"}},
        {"web": {}},
    ],
)
def test_what_it_writes_for_other_devices_is_taken_too(genai: Json, provider: Json) -> None:
    put("model/decoder/session_options/provider_options", [provider])(genai)
    assert read_settings(json.dumps(genai)) == genai


def test_what_it_writes_of_tools_and_of_a_kv_cache_in_8_bits_is_taken_too(genai: Json) -> None:
    for name in ("bot", "eot", "bor", "eor"):
        put(f"model/{name}_token_id", 7)(genai)
    for kind in ("key", "value"):
        put(f"model/decoder/inputs/past_{kind}_scale_names", f"past_key_values.%d.{kind}_scale")(genai)
        put(f"model/decoder/outputs/present_{kind}_scale_names", f"present.%d.{kind}_scale")(genai)
    put("model/decoder/session_options/ep.cuda.fpa_intb_gemm", "1")(genai)
    assert read_settings(json.dumps(genai)) == genai


SESSION = "model/decoder/session_options/"


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        (SESSION + "custom_ops_library", "evil.so", "native code"),
        (SESSION + "enable_profiling", "/tmp/profile", "writes files"),
        (SESSION + "session.model_external_initializers_file_folder_path", "/etc", "known to be safe"),
        (SESSION + "ep.context_file_path", "/etc/passwd", "known to be safe"),
        (SESSION + "session.optimized_model_filepath", "out", "known to be safe"),
        (SESSION + "provider_options", [{"cuda": {"user_compute_stream": "140000"}}], "user_compute_stream"),
        (SESSION + "provider_options", [{"OpenVINO": {"load_config": "/etc/passwd"}}], "load_config"),
        (SESSION + "provider_options", ["cuda"], "provider_options"),
        (SESSION + "config_entries", {"hybrid_opt_token_backend": "npu"}, "other software"),
        (SESSION + "custom_allocator", "ryzen_mm", "other software"),
        (SESSION + "external_data_file", "prefill.pb.bin", "names a file"),
        ("model/decoder/inputs/block_table", "block_table", "in pages"),
        ("model/decoder/run_options", {"a": "b"}, "run_options"),
        ("model/decoder/pipeline", [{"a": {"filename": "x.onnx"}}], "one graph"),
        ("model/decoder/shared_initializers", [], "shared_initializers"),
        ("model/vision", {"filename": "v.onnx"}, "images"),
        ("model/encoder", {"filename": "e.onnx"}, "model.encoder"),
        ("model/draft", {"filename": "d.onnx"}, "model.draft"),
        ("model/tokenizer_dir", "/etc", "tokenizer_dir"),
        ("engine", {}, "engine"),
    ],
)
def test_a_setting_that_is_not_known_to_be_safe_is_refused_by_its_name(
    genai: Json, path: str, value: Any, named: str
) -> None:
    message = refused(genai, put(path, value))
    assert named in message and path.rpartition("/")[2] in message


@pytest.mark.parametrize(
    "name",
    ["../m.onnx", "/m.onnx", "a/../../m.onnx", "C:m.onnx", "C:/m", "", ".", "m\0", 1, None, "x" * 256, "é" * 128],
)
def test_a_graph_outside_the_folder_is_refused(genai: Json, name: Any) -> None:
    assert not is_inside(name)
    refused(genai, put("model/decoder/filename", name))


@pytest.mark.parametrize("name", ["%s%s%s%s", "past.%d.%d.key", "%n", "past.%99999d", "past", "past.%d." + "k" * 500])
def test_a_tensors_name_is_no_format_for_printf(genai: Json, name: str) -> None:
    assert "past_key_names" in refused(genai, put("model/decoder/inputs/past_key_names", name))
    assert "present_value_names" in refused(genai, put("model/decoder/outputs/present_value_names", name))


@pytest.mark.parametrize("value", [0, -1, 2**31, 2**70, 1.5, True, None, "8", [], {}])
def test_sizes_are_positive_numbers_that_oga_can_hold(genai: Json, value: Any) -> None:
    for path in ("model/context_length", "model/vocab_size", "model/decoder/num_hidden_layers"):
        assert path.replace("/", ".") in refused(genai, put(path, value))


def test_a_name_that_stands_twice_is_refused(genai: Json) -> None:
    """OGA would take both, and a parser of ours the last."""
    twice = json.dumps(genai).replace(
        '"session_options": {', '"session_options": {"custom_ops_library": "x"}, "session_options": {'
    )
    with pytest.raises(ModelFolderError, match="twice"):
        read_settings(twice)


def test_a_name_that_two_parsers_could_read_in_two_ways_is_refused(genai: Json) -> None:
    text = json.dumps(genai).replace('"log_id"', '"\\u0063ustom_ops_library"')
    with pytest.raises(ModelFolderError, match="backslash"):
        read_settings(text)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[" * 100_000, '{"model": NaN}', '{"model": 1}', "\ufeff{}", '{"model": {"decoder": []}}']
)
def test_what_is_not_the_json_of_a_configuration_is_refused(text: str) -> None:
    with pytest.raises(ModelFolderError):
        read_settings(text)
