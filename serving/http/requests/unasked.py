"""What clients send without asking for anything, read by one rule.

A field that asks for nothing that is not done anyway is accepted: those of these tables, with such a value, and
an empty text or list where no field has its name. Any other field that is not known is an error.
"""

from collections.abc import Collection, Mapping
from typing import Any

_ANY = None  # whatever its value
Neutral = Mapping[str, tuple[Any, ...] | None]

# What no answer depends on: who asks, and where things are kept.
_NOTES: Neutral = {
    "prompt_cache_key": _ANY,
    "prompt_cache_retention": _ANY,
    "prompt_cache_options": _ANY,
    "safety_identifier": _ANY,
    "cache_prompt": _ANY,
    "keep_alive": _ANY,
    "request_id": _ANY,
    "cache_control": _ANY,
    "cache_salt": _ANY,
    "guided_decoding_backend": _ANY,
    **dict.fromkeys(("client_metadata", "session_id", "trace", "ttl", "rid", "n_cache_reuse", "legacy_api"), _ANY),
    # Guesses change when tokens come, not which.
    "prediction": _ANY,
    **dict.fromkeys(("speculative.n_max", "speculative.n_min", "speculative.p_min", "prompt_lookup_num_tokens"), _ANY),
}
# Rules of sampling that are switched off, and what is left out.
_OFF: Neutral = {
    "max_tokens": (-1,),
    "max_completion_tokens": (-1,),
    "max_output_tokens": (-1,),
    "seed": (-1,),
    "min_tokens": (0,),
    "top_a": (0,),
    "tfs_z": (1,),
    "top_n_sigma": (0, -1),
    "mirostat": (0,),
    "mirostat_mode": (0,),
    "length_penalty": (1,),
    "no_repeat_ngram_size": (0,),
    "dynatemp_range": (0,),
    "xtc_probability": (0,),
    "dry_multiplier": (0,),
    # These shape what is switched off there, whatever they say.
    **dict.fromkeys(("mirostat_tau", "mirostat_eta", "dynatemp_exponent", "xtc_threshold"), _ANY),
    **dict.fromkeys(("dry_base", "dry_allowed_length", "dry_penalty_last_n", "dry_sequence_breakers"), _ANY),
    # The names that text-generation-webui, KoboldCpp, TabbyAPI and llama.cpp have for such, and what shapes them.
    **dict.fromkeys(("tfs", "typical", "typ_p", "encoder_repetition_penalty", "guidance_scale"), (1,)),
    **dict.fromkeys(("smoothing_factor", "penalty_alpha", "nsigma", "skew", "min_length", "max_tokens_second"), (0,)),
    **dict.fromkeys(("dynamic_temperature", "temperature_last", "ban_eos_token", "ignore_eos_token"), (False,)),
    **dict.fromkeys(("dynatemp_low", "dynatemp_high", "dynatemp_min", "dynatemp_max", "smoothing_curve"), _ANY),
    **dict.fromkeys(("adaptive_decay", "dry_range"), _ANY),
    "adaptive_target": (-1,),
    "num_beams": (1,),
    "token_healing": (False,),
    "do_sample": (True,),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "ignore_eos": (False,),
    "stop_token_ids": ([],),
    "bad_words": ([],),
    "include_stop_str_in_output": (False,),
    "use_beam_search": (False,),
    "early_stopping": (False,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True, False),
    "detokenize": (True,),
    "return_tokens_as_token_ids": (False,),
    "background": (False,),
    "best_of": (1,),
    "echo": (False,),
    "tools": ([],),
    "function_call": ("none", "auto"),
    **dict.fromkeys(("stop", "grammar", "guided_grammar", "guided_regex"), ("",)),
    **dict.fromkeys(("audio", "web_search_options"), ()),
    "top_logprobs": (0,),
    # What llama.cpp's and vLLM's clients write out of what is so by itself.
    "logit_bias": ([], {}),
    "n_predict": (-1,),
    "n_probs": (0,),
    "n_keep": (0,),
    "min_keep": (0,),
    "id_slot": (-1,),
    "repeat_last_n": _ANY,
    "t_max_predict_ms": (0,),
    "timings_per_token": (False,),
    "post_sampling_probs": (False,),
    "t_max_prompt_ms": (-1, 0),
    "n_indent": (0,),
    "n_discard": (0,),
    "n_cmpl": (1,),
    **dict.fromkeys(("backend_sampling", "penalize_nl", "grammar_lazy", "reasoning_in_content"), (False,)),
    "parse_tool_calls": (True,),
    "return_tokens": (False,),
    "return_progress": (False,),
    "return_token_ids": (False,),
    "include_reasoning": (True,),
    "reasoning_format": ("auto", "deepseek"),
    # What SGLang's and vllm-router write out.
    "no_stop_trim": (False,),
    "separate_reasoning": (True,),
    "stream_reasoning": (True,),
    "return_hidden_states": (False,),
    "priority": (0,),
    "prompt_logprobs": (False,),
    **dict.fromkeys(("kv_transfer_params", "mm_processor_kwargs", "vllm_xargs", "custom_params"), ({},)),
    **dict.fromkeys(("extra_body", "logits_processors", "options"), ({},)),
}
NOTE: Neutral = {"cache_control": _ANY}
TOKENS: Neutral = {"parse_special": (True,), "tools": ([],), **_NOTES}
REQUEST: Neutral = {**_NOTES, **_OFF}
# What the tokenizer puts before a text: a chat's template has it.
CHAT: Neutral = {**REQUEST, "add_special_tokens": (False,)}
# A completion has no use for what a chat takes; what has no field elsewhere is switched off by these.
COMPLETION: Neutral = {
    **REQUEST,
    **dict.fromkeys(("store", "metadata", "service_tier", "verbosity"), _ANY),
    **dict.fromkeys(("add_special_tokens", "add_bos_token", "parallel_tool_calls"), (True,)),
    "tool_choice": ("none", "auto"),
    "modalities": (["text"],),
    **dict.fromkeys(("continue_final_message", "logprobs"), (False,)),
}
# Of /v1/responses: there are no tools of the server's own whose calls could be counted.
RESPONSES: Neutral = {**CHAT, "n": (1,), "logprobs": (False,), "max_tool_calls": _ANY}
UNPENALISED: Neutral = {
    **CHAT,
    **dict.fromkeys(("typical_p", "n", "repeat_penalty"), (1,)),
    **dict.fromkeys(("presence_penalty", "frequency_penalty"), (0,)),
    **dict.fromkeys(("store", "user", "verbosity"), _ANY),
    "logprobs": (False,),
}
THINKING: Neutral = {"exclude": (False,), "summary": _ANY, "generate_summary": _ANY}
REASONING: Neutral = {"context": ("auto",), "mode": ("standard",), "generate_summary": ("auto",)}
PART: Neutral = {**NOTE, "id": _ANY, "index": _ANY}
GIVEN_PART: Neutral = {**PART, "status": _ANY, "is_error": _ANY}
# With a thought that is sent back: what lets its maker know it again, and whether it was whole.
THOUGHT: Neutral = {**PART, **dict.fromkeys(("signature", "closed", "format", "extras"), _ANY)}
# What comes with a message that is sent back, or with a part of one.
MESSAGE: Neutral = {
    "cache_control": _ANY,
    "id": _ANY,
    "created": _ANY,
    "created_at": _ANY,
    "timestamp": _ANY,
    "tool_calls": ([],),
    "reasoning_details": _ANY,
    "thinking_blocks": _ANY,
}
# The text of what a tool gave says what went wrong.
GIVEN: Neutral = {**MESSAGE, "status": _ANY, "is_error": _ANY}
TURN: Neutral = {**MESSAGE, "phase": _ANY}  # on the way to an answer, or the answer
# With a call, where clients keep what other makers' models send along.
CALL: Neutral = {**NOTE, "extra_content": _ANY, "provider_specific_fields": _ANY}
ITEM: Neutral = {**CALL, **dict.fromkeys(("created_at", "created_by", "timestamp"), _ANY)}
# What Anthropic's own API knows of: a request, a block of a message, a tool (OpenAI's too), and an answer that is sent
# back.
MESSAGES: Neutral = {
    **UNPENALISED,
    "container": (),
    "inference_geo": (),
    "speed": ("standard",),
    "user_profile_id": _ANY,
    "workspace_id": _ANY,
}
BLOCK: Neutral = {
    "cache_control": _ANY,
    "citations": ([], {"enabled": False}),
    "caller": ({"type": "direct"},),
    "toolset_name": (),
    "parsed_output": _ANY,
}
TOOL: Neutral = {
    "cache_control": _ANY,
    "eager_input_streaming": _ANY,
    "defer_loading": (False,),
    "allowed_callers": (["direct"],),
}
ANSWERED: Neutral = {
    **NOTE,
    **dict.fromkeys(("id", "type", "model", "usage", "container", "diagnostics"), _ANY),
    **dict.fromkeys(("stop_reason", "stop_sequence", "stop_details"), _ANY),
}


def asking(fields: Any, neutral: Neutral, known: Collection[str]) -> Any:
    """The fields of an object that ask for something, null never; what is no object as it is.

    known: the names of its own fields. What is empty or null under another name is left out.
    """
    if not isinstance(fields, dict):
        return fields
    return {
        name: value
        for name, value in fields.items()
        if (name in known or not (value is None or value in ("", [])))
        and not (name in neutral and _is_off(value, neutral[name]))
    }


def _is_off(value: Any, off: tuple[Any, ...] | None) -> bool:
    # Neither is True a 1 here, nor False a 0.
    return (
        off is None
        or value is None
        or any(isinstance(value, bool) == isinstance(each, bool) and value == each for each in off)
    )
