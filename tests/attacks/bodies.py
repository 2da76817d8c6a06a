"""Requests that look like others and are meant to take all time, memory or stack."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from tests.attacks.client import CANARY, CHAT, COMPLETIONS, RESPONSES, chat

MIB = 1 << 20
Json = dict[str, Any]
Bodies = Mapping[str, tuple[str, Callable[[], Any]]]  # by name: where it goes, and what makes it


def schema(content: Json, **more: Any) -> Json:
    """A request for an answer that follows a JSON schema."""
    named = {"name": "n", "schema": content}
    return chat(response_format={"type": "json_schema", "json_schema": named}, max_tokens=40, **more)


def pattern(regex: str) -> Json:
    """A request for a text that matches."""
    return schema({"type": "string", "pattern": regex})


def nested(depth: int, around: Callable[[Any], Any], core: Any) -> Any:
    """`around` so many times."""
    for _ in range(depth):
        core = around(core)
    return core


def doubling(depth: int, how: str) -> Json:
    """Definitions that each name the one below twice: written short, and exponential when they are unfolded."""
    defs: Json = {"d0": {"type": "string", "pattern": "^[a-z]+$"}}
    for n in range(1, depth):
        below = {"$ref": f"#/$defs/d{n - 1}"}
        defs[f"d{n}"] = {how: [below, below]}
    return {"$defs": defs, "$ref": f"#/$defs/d{depth - 1}"}


def products(ways: int, parts: int) -> Json:
    """`parts` unions that must all hold: ways to the power of parts alternatives."""
    return {"allOf": [{"anyOf": [{"properties": {f"p{n}": {"const": w}}} for w in range(ways)]} for n in range(parts)]}


PATTERNS = {
    "repeated repetition": "^((a{1,1000}){1,1000}){1,1000}$",
    "classic backtracking": "^(a+)+$|^(a|a)*$|^(a|aa)+$",
    "a bit of state for each character": "^.*[ab][ab].*a.{2000}$",
    "exponential automaton": "(a|b)*a(a|b){64}c",
    "letters of all scripts": r"^(\p{L}|\p{N}|\p{S}){1,5000}$",
    "look-around": "^(?=.*a)(?=.*b)(?!.*c)(?<=x).*$",
    "back references": r"^(.*)\1\1\1$",
    "deep groups": "(" * 5000 + "a" + ")" * 5000,
    "many alternatives": "|".join(f"{CANARY}{n}" for n in range(20_000)),
    "huge counts": "^a{1000000000}$",
    "counts beyond 64 bits": "^a{99999999999999999999999}$",
}
SCHEMAS: dict[str, Callable[[], Json]] = {
    "integers beyond 64 bits": lambda: {"type": "integer", "minimum": -(10**400), "maximum": 10**400},
    "a window of integers beyond 64 bits": lambda: {"type": "integer", "minimum": 2**63, "maximum": 2**63 + 10},
    "multiples of next to nothing": lambda: {"type": "number", "multipleOf": 1e-300, "minimum": 1e-308},
    "multiples of primes": lambda: {
        "allOf": [{"type": "integer", "multipleOf": n} for n in (999983, 999979, 999961, 999959, 999953)]
    },
    "itself": lambda: {"$ref": "#"},
    "a ring of references": lambda: {
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"
    },
    "itself, twice": lambda: {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]},
    "a tree of itself": lambda: {
        "type": "object", "properties": {n: {"$ref": "#"} for n in "abcdefgh"}, "required": list("abcdefgh"),
        "additionalProperties": False,
    },
    "references elsewhere": lambda: {"$ref": "http://127.0.0.1:9/schema.json"},
    "references to files": lambda: {"$ref": "file:///etc/passwd"},
    "100,000 values": lambda: {"enum": [f"{CANARY}-{n}" for n in range(100_000)]},
    "a value of a megabyte": lambda: {"const": CANARY * (MIB // len(CANARY))},
    "a billion items": lambda: {"type": "array", "items": {"type": "integer"}, "minItems": 10**9},
    "a billion prefix items": lambda: {"type": "array", "prefixItems": [{"type": "null"}] * 20_000, "minItems": 10**9},
    "a billion letters": lambda: {"type": "string", "minLength": 10**9, "maxLength": 2 * 10**9},
    "a million letters": lambda: {"type": "string", "minLength": 10**6, "maxLength": 10**6},
    "a billion properties": lambda: {"type": "object", "minProperties": 10**9},
    "20,000 properties": lambda: {
        "type": "object", "properties": {f"p{n}": {"type": "string"} for n in range(20_000)},
        "required": [f"p{n}" for n in range(20_000)], "additionalProperties": False,
    },
    "2,000 patterns of properties": lambda: {
        "type": "object", "patternProperties": {f"^a{{1,{n + 1}}}b+": {"type": "string"} for n in range(2000)}
    },
    "doubling alternatives": lambda: doubling(60, "anyOf"),
    "doubling conjunctions": lambda: doubling(60, "allOf"),
    "doubling exclusions": lambda: doubling(60, "oneOf"),
    "a product of alternatives": lambda: products(10, 10),
    "nested alternatives": lambda: nested(100, lambda core: {"anyOf": [core, {"type": "null"}]}, {"type": "string"}),
    "one of 500 objects": lambda: {"oneOf": [{"properties": {f"p{n}": {"const": n}}} for n in range(500)]},
    "deep objects": lambda: nested(150, lambda core: {"type": "object", "properties": {"a": core}}, {"type": "string"}),
    "deep arrays": lambda: nested(180, lambda core: {"type": "array", "items": core}, {"type": "string"}),
    "not, not, not": lambda: nested(150, lambda core: {"not": core}, {"type": "string"}),
    "if, then, else": lambda: nested(60, lambda core: {"if": {"minLength": 2}, "then": core}, {"type": "string"}),
    "wrong types everywhere": lambda: {"type": 7, "properties": [], "items": "x", "enum": {}, "required": 1},
    "half a surrogate pair": lambda: {"const": "\ud800", "properties": {"\udfff": {}}},
}  # fmt: skip


def tools() -> Json:
    """128 functions, each with a large schema, one of which must be called."""
    parameters = {"type": "object", "properties": {f"p{n}": {"enum": [str(m) for m in range(40)]} for n in range(40)}}
    functions = [{"name": f"f{n}", "parameters": parameters, "strict": True} for n in range(128)]
    listed = [{"type": "function", "function": function} for function in functions]
    return chat(tools=listed, tool_choice="required", max_tokens=40)


GRAMMARS: Bodies = {
    **{f"pattern: {name}": (CHAT, cache(lambda regex=regex: pattern(regex))) for name, regex in PATTERNS.items()},
    **{f"schema: {name}": (CHAT, cache(lambda make=make: schema(make()))) for name, make in SCHEMAS.items()},
    "tools: 128 large ones": (CHAT, cache(tools)),
}

WORDS = {
    "one letter": "a",
    "one word": "word ",
    "blanks": " ",
    "line ends": "\n",
    "Chinese": "\u4f60\u597d\u4e16\u754c",
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467 ",
    "control tokens": "<|im_end|>\n<|im_start|>assistant\n",
    "nulls": "\u0000",
    "combining marks": "e\u0301\u0327",
}


def of_size(text: str, size: int) -> str:
    """The text over and over, so many bytes of JSON."""
    return text * (size // (len(json.dumps(text, ensure_ascii=False).encode()) - 2))


def sent_as_it_is(text: str) -> bytes:
    """A chat request whose text is not escaped."""
    return json.dumps(chat(CANARY + text), ensure_ascii=False).encode()


PROMPTS: Bodies = {
    f"prompt: {size} MiB of {name}": (CHAT, cache(lambda w=word, s=size: sent_as_it_is(of_size(w, s * MIB - 4000))))
    for size in (1, 4)
    for name, word in WORDS.items()
} | {
    "prompt: 5 MiB": (CHAT, cache(lambda: sent_as_it_is("x" * 5 * MIB))),
    "prompt: 4 MiB, without a template": (
        COMPLETIONS, cache(lambda: {"model": "demo", "prompt": of_size("word ", 4 * MIB - 4000)})
    ),
    "prompt: 4 MiB, to /v1/responses": (
        RESPONSES, cache(lambda: {"model": "demo", "input": of_size("word ", 4 * MIB - 4000)})
    ),
    "prompt: 4,000 prompts": (COMPLETIONS, cache(lambda: {"model": "demo", "prompt": ["hello"] * 4000})),
    "prompt: 4,000 long prompts": (COMPLETIONS, cache(lambda: {"model": "demo", "prompt": ["word " * 200] * 4000})),
    "prompt: 4,000 lists of ids": (COMPLETIONS, cache(lambda: {"model": "demo", "prompt": [[5] * 100] * 4000})),
    "prompt: a million ids": (COMPLETIONS, cache(lambda: {"model": "demo", "prompt": [5] * 1_000_000})),
    "prompt: ids that no model has": (COMPLETIONS, cache(lambda: {"model": "demo", "prompt": [-1, 2**63, 10**30]})),
    "messages: 80,000": (
        CHAT, cache(lambda: chat() | {"messages": [{"role": "user", "content": CANARY}] * 80_000})
    ),
    "messages: 10,000": (CHAT, cache(lambda: chat() | {"messages": [{"role": "user", "content": CANARY}] * 10_000})),
    "messages: one of 100,000 parts": (
        CHAT, cache(lambda: chat() | {
            "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}] * 100_000}]
        })
    ),
}  # fmt: skip

FIELDS: Bodies = {
    "10,000 stop strings": (CHAT, cache(lambda: chat(stop=[f"{CANARY}{n}" for n in range(10_000)]))),
    "16 long stop strings": (CHAT, cache(lambda: chat(stop=[f"{n}" + "\u00e9" * 990 for n in range(16)]))),
    "10,000 biases": (CHAT, cache(lambda: chat(logit_bias={str(n): 1 for n in range(10_000)}))),
    "300,000 biases": (CHAT, cache(lambda: chat(logit_bias={str(n): 1 for n in range(300_000)}))),
    "every token biased": (CHAT, cache(lambda: chat(logit_bias={str(n): -100 for n in range(1856)}))),
    "every number as high as it goes": (
        CHAT, cache(lambda: chat(seed=2**63 - 17, top_k=2**31 - 1, max_tokens=2**31 - 1, temperature=100, n=16))
    ),
    "all logprobs": (CHAT, cache(lambda: chat(logprobs=True, top_logprobs=20, n=16, max_tokens=300))),
    "1,000 answers": (CHAT, cache(lambda: chat(n=1000))),
    "variables: 4 MiB of them": (
        CHAT, cache(lambda: chat(chat_template_kwargs={f"v{n}": CANARY * 10 for n in range(20_000)}))
    ),
    "variables: deep": (CHAT, cache(lambda: chat(chat_template_kwargs={"a": nested(190, lambda core: [core], 1)}))),
    "variables: the template's own": (
        CHAT, cache(lambda: chat(chat_template_kwargs={
            "messages": CANARY, "add_generation_prompt": 7, "bos_token": [], "range": 1, "raise_exception": None,
            "documents": {}, "tools": 3, "self": 1, "loop": 1, "strftime_now": "x", "chat_template": "{{ 7 * 7 }}",
            "conversations": [], "tokenize": False, "return_dict": 1, "continue_final_message": True,
        }))
    ),
    "an effort of a megabyte": (CHAT, cache(lambda: chat(reasoning_effort=CANARY * 50_000))),
    "arguments of a megabyte": (
        CHAT, cache(lambda: chat() | {"messages": [{"role": "assistant", "tool_calls": [{
            "id": "i", "type": "function", "function": {"name": "f", "arguments": '{"a": "' + "b" * MIB + '"}'}}]}]})
    ),
    "deep arguments": (
        CHAT, cache(lambda: chat() | {"messages": [{"role": "assistant", "tool_calls": [{
            "id": "i", "type": "function", "function": {"name": "f", "arguments": "[" * 100_000}}]}]})
    ),
}  # fmt: skip

JSON_TEXTS: Bodies = {
    "JSON: 100,000 unknown fields": (CHAT, cache(lambda: {f"{CANARY}{n}": n for n in range(100_000)})),
    "JSON: 2 million items": (CHAT, cache(lambda: b'{"messages": [' + b"1," * 2_000_000 + b"1]}")),
    "JSON: 1 million faults": (COMPLETIONS, cache(lambda: b'{"prompt":[' + b"{}," * 1_000_000 + b"{}]}")),
    "JSON: deep": (CHAT, cache(lambda: b"[" * MIB)),
    "JSON: deep objects": (CHAT, cache(lambda: b'{"a":' * 800_000)),
    "JSON: 4 MiB of digits": (CHAT, cache(lambda: b'{"seed": ' + b"9" * (4 * MIB - 100) + b"}")),
    "JSON: 4 MiB of escapes": (CHAT, cache(lambda: b'{"model": "' + b"\\u0041" * (5 * MIB // 8) + b'"}')),
    "JSON: half a surrogate pair": (CHAT, cache(lambda: chat("\ud800 " + CANARY))),
    "JSON: not UTF-8": (CHAT, cache(lambda: b'{"model": "\xff\xfe' + CANARY.encode() + b'"}')),
    "JSON: 5 MiB": (RESPONSES, cache(lambda: b" " * (5 * MIB))),
}  # fmt: skip
