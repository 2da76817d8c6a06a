"""Which settings of a genai_config.json are served. A leaf: imports only errors.

A model folder may come from anybody, and OGA does what its genai_config.json says: load a library of native code
(`custom_ops_library`), write a profile, read any file that a session option names, and hand a tensor's name to printf
as its format. So what is known to be harmless may stand there, and anything else is refused by its name.
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from serving.errors import ModelFolderError

Json = dict[str, Any]
Check = Callable[[Any], bool]
Spec = Mapping[str, "Check | Spec"]

MOST_TOKENS = 2**31 - 1  # OGA counts in 32 bits
_NAME = re.compile(r"[\w./-]{1,200}", re.ASCII)
_NUMBERED_NAME = re.compile(r"[\w./-]{0,100}%d[\w./-]{0,100}", re.ASCII)  # OGA's: the one number is the layer's
_OPTION = re.compile(r"[\w.,:-]{0,100}", re.ASCII)


def _whole(low: int, high: int) -> Check:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= 1e9


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _matching(pattern: re.Pattern[str]) -> Check:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _all(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


_TOKEN = _whole(-1, MOST_TOKENS)
_SIZE = _whole(1, 2**20)
_TOKENS = _whole(1, MOST_TOKENS)


def _token_or_tokens(value: Any) -> bool:
    return _TOKEN(value) or _all(_TOKEN)(value)


_LONGEST_NAME = 255  # bytes, of a file in most file systems


def is_inside(name: Any) -> bool:
    """Whether it names a file in the folder itself or below it, on every system."""
    if not isinstance(name, str) or not 0 < len(name.encode(errors="replace")) <= _LONGEST_NAME:
        return False
    if "\0" in name or "\\" in name:
        return False
    return not (
        PurePosixPath(name).is_absolute()
        or PureWindowsPath(name).drive
        or ".." in PurePosixPath(name).parts
        or PurePosixPath(name) == PurePosixPath(".")
    )


# What providers may be told, by what the model builder calls them, lower case and without "ExecutionProvider".
_PROVIDERS: Spec = {
    "cpu": {},
    "cuda": {"enable_cuda_graph": _matching(_OPTION), "enable_skip_layer_norm_strict_mode": _matching(_OPTION)},
    "dml": {"enable_graph_capture": _matching(_OPTION)},
    "webgpu": {"enableGraphCapture": _matching(_OPTION), "validationMode": _matching(_OPTION)},
    "openvino": {"device_type": _matching(_OPTION), "enable_causallm": _matching(_OPTION)},
}

_SESSION: Spec = {
    "log_id": _matching(_OPTION),
    "log_severity_level": _whole(0, 4),
    "log_verbosity_level": _whole(0, 4),
    "intra_op_num_threads": _whole(0, 1024),
    "inter_op_num_threads": _whole(0, 1024),
    "enable_cpu_mem_arena": _flag,
    "enable_mem_pattern": _flag,
    "graph_optimization_level": _matching(re.compile(r"ORT_(DISABLE_ALL|ENABLE_(BASIC|EXTENDED|ALL))")),
    "ep.cuda.fpa_intb_gemm": _matching(_OPTION),
    "optimization.disable_specified_optimizers": _matching(_OPTION),
    "session.disable_prepacking": _matching(_OPTION),
    "session.intra_op.allow_spinning": _matching(_OPTION),
    "session.inter_op.allow_spinning": _matching(_OPTION),
    "session.set_denormal_as_zero": _matching(_OPTION),
    "session.use_device_allocator_for_initializers": _matching(_OPTION),
    "session.use_env_allocators": _matching(_OPTION),
    "provider_options": lambda value: True,  # looked at by itself, below
}

_NAMES = ("input_ids", "attention_mask", "position_ids", "logits")
# Of a KV cache in 8 or 4 bits its scales; the last two of layers with linear attention.
_KINDS = ("key", "value", "key_scale", "value_scale", "conv", "recurrent")

_DECODER: Spec = {
    "filename": is_inside,
    "hidden_size": _SIZE,
    "num_attention_heads": _SIZE,
    "num_key_value_heads": _SIZE,
    "num_hidden_layers": _whole(1, 4096),
    "head_size": _SIZE,
    "session_options": _SESSION,
    "inputs": {
        **{name: _matching(_NAME) for name in _NAMES[:3]},
        **{f"past_{kind}_names": _matching(_NUMBERED_NAME) for kind in _KINDS},
    },
    "outputs": {"logits": _matching(_NAME), **{f"present_{kind}_names": _matching(_NUMBERED_NAME) for kind in _KINDS}},
    "layer_types": _all(_matching(_NAME)),
    "conv_cache_size": _whole(1, 1024),
    "sliding_window": {
        "window_size": _TOKENS,
        "pad_value": _TOKEN,
        "alignment": _matching(re.compile("left|right")),
        "slide_key_value_cache": _flag,
        "slide_inputs": _flag,
        "cache_slack": _whole(0, MOST_TOKENS),
        "layers": _all(_whole(0, 4096)),
    },
}

_ROOT: Spec = {
    "model": {
        "type": _matching(_NAME),
        "context_length": _TOKENS,
        "vocab_size": _whole(1, 2**24),
        "bos_token_id": _TOKEN,
        "eos_token_id": _token_or_tokens,
        "pad_token_id": _TOKEN,
        "sep_token_id": _TOKEN,
        **{name: _TOKEN for name in ("image_token_id", "video_token_id", "vision_start_token_id")},
        **{f"{name}_token_id": _TOKEN for name in ("bot", "eot", "bor", "eor")},  # of tools and reasoning
        "decoder": _DECODER,
    },
    "search": {
        **{name: _number for name in ("temperature", "top_p", "repetition_penalty", "length_penalty")},
        **{name: _number for name in ("diversity_penalty", "top_k", "min_length", "max_length", "num_beams")},
        **{name: _number for name in ("num_return_sequences", "no_repeat_ngram_size", "random_seed", "chunk_size")},
        **{name: _flag for name in ("do_sample", "early_stopping", "past_present_share_buffer")},
    },
}  # fmt: skip

_KNOWN_REASONS = {
    "custom_ops_library": "it makes the model's own native code run",
    "enable_profiling": "it writes files",
    "pipeline": "only models of one graph are served",
    "vision": "images are not supported",
    "speech": "sound is not supported",
    "config_entries": "it is for other software than OGA's, as of an NPU",
    "custom_allocator": "it is for other software than OGA's, as of an NPU",
    "external_data_file": "it names a file that OGA does not read by itself",
    "engine": "KV caches in pages are not supported",
    "block_table": "KV caches in pages are not supported",
}


def read_settings(text: str) -> Json:
    """The settings in the text of a genai_config.json, every one of which is known to be harmless.

    Raises ModelFolderError naming the first that is not, or what is wrong with the text.
    """
    if "\\" in text:
        # Two parsers read this file, ours and OGA's. Without escapes, nothing can be one name to us and another to it.
        raise ModelFolderError("it has a backslash, and no setting needs one: remove it.")
    try:
        settings = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"it is not JSON that can be read ({error}).") from error
    if not isinstance(settings, dict):
        raise ModelFolderError("it does not hold a JSON object.")
    _check(settings, _ROOT, "")
    session = settings.get("model", {}).get("decoder", {}).get("session_options", {})
    for providers in _listed(session.get("provider_options", [])):
        for name, options in providers.items():
            path = f"model.decoder.session_options.provider_options.{name}"
            known = _PROVIDERS.get(provider_name(name))
            if isinstance(known, Mapping):  # another one is not used, whatever it is told
                _check(options, known, path)
    return settings


def provider_name(name: str) -> str:
    """A provider's name as our flags have it: OGA spells them in more than one way."""
    short = name.lower().removesuffix("executionprovider")
    return "webgpu" if short == "web" else short  # its first name


def _check(content: Any, spec: Spec, path: str) -> None:
    if not isinstance(content, dict):
        raise ModelFolderError(f"{path} must be an object, not {_shown(content)}.")
    for name, value in content.items():
        at = f"{path}.{name}".removeprefix(".")
        wanted = spec.get(name)
        if wanted is None:
            reason = _KNOWN_REASONS.get(name, "it is not among the settings that are known to be safe")
            raise ModelFolderError(f"{_shown(at)} is refused: {reason}. Remove it, or use another export.")
        if isinstance(wanted, Mapping):
            _check(value, wanted, at)
        elif not wanted(value):
            raise ModelFolderError(f"{at} cannot be {_shown(value)}.")


def _listed(providers: Any) -> list[Json]:
    if not isinstance(providers, list) or not all(isinstance(each, dict) for each in providers):
        raise ModelFolderError("model.decoder.session_options.provider_options must be a list of objects.")
    return providers


def _without_repeats(pairs: list[tuple[str, Any]]) -> Json:
    """An object in which no name stands twice: OGA would take both, and we the last."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return content


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) and value.isprintable() and value.isascii() else ascii(value)
    return text if len(text) <= 100 else text[:100] + "..."
