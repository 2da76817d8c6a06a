"""Tokenizers of the usual kinds, trained on a page of text, with chat templates as their families write them."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from serving.types import Message

TEXTS = [
    "user assistant system model tool The quick brown fox jumps over the lazy dog. What is the capital of France?",
    "im start end think header id eot turn of INST name arguments function thinking answer please help me write",
    "if x: print(x[0]) {{ braces }} <b>bold</b> <a href='x'> 1 2 3 10 100 'quoted' \"double\" caf\u00e9 na\u00efve",
]

CHATML = """
{%- if tools %}{{ '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}{{ messages[0].content + '\n' }}{% endif %}
    {{- '<tools>' }}{% for tool in tools %}{{ '\n' }}{{ tool | tojson }}{% endfor %}{{ '\n</tools><|im_end|>\n' }}
{%- elif messages[0].role == 'system' %}{{ '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set content = message.content %}
        {%- set thought = message.reasoning_content if message.reasoning_content is string else '' %}
        {%- if not thought and '</think>' in content %}
            {%- set thought = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' }}
        {%- if thought and loop.last %}{{ '<think>\n' + thought + '\n</think>\n\n' }}{% endif %}
        {{- content }}
        {%- for call in message.tool_calls or [] %}
            {{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments | tojson }}{{ '}\n</tool_call>' }}
        {%- endfor %}{{ '<|im_end|>\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined %}
        {{- '<think>\n' if enable_thinking else '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}"""
LLAMA3 = """{{ bos_token }}{% for message in messages %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"""
LLAMA2 = """{% if messages[0].role == 'system' %}{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}
    {%- set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
    {%- if message.role == 'user' %}
        {{- bos_token + '[INST] ' + (system if loop.first else '') + message.content.strip() + ' [/INST]' }}
    {%- else %}{{ ' ' + message.content.strip() + ' ' + eos_token }}{% endif %}
{%- endfor %}"""
GEMMA = """{{ bos_token }}{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}
    {%- set messages = messages[1:] %}{% else %}{% set first = '' %}{% endif %}
{%- for message in messages %}
    {%- set role = 'model' if message.role == 'assistant' else message.role %}
    {{- '<start_of_turn>' + role + '\n' + (first if loop.first else '') + message.content | trim + '<end_of_turn>\n' }}
{%- endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"""
PHI3 = """{% for message in messages %}{{ '<|' + message.role + '|>\n' + message.content + '<|end|>\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"""

CHANNELS = """{{ '<|start|>system<|message|>Reasoning: ' + (reasoning_effort or 'medium') + '<|end|>' }}
{%- set last = namespace(name='') %}
{%- for message in messages %}
    {%- if message.role == 'assistant' and 'tool_calls' in message %}
        {%- if message.content and message.thinking %}{{ raise_exception('content and thinking') }}{% endif %}
        {%- set before = message.content or message.thinking %}
        {%- if before %}{{ '<|start|>assistant<|channel|>analysis<|message|>' + before + '<|end|>' }}{% endif %}
        {%- set call = message.tool_calls[0].function %}{% set last.name = call.name %}
        {{- '<|start|>assistant to=functions.' + call.name + '<|channel|>commentary json<|message|>' }}
        {{- call.arguments | tojson + '<|call|>' }}
    {%- elif message.role == 'assistant' %}
        {%- if 'thinking' in message and loop.last %}
            {{- '<|start|>assistant<|channel|>analysis<|message|>' + message.thinking + '<|end|>' }}
        {%- endif %}
        {{- '<|start|>assistant<|channel|>final<|message|>' + message.content }}
        {{- '<|return|>' if loop.last and not add_generation_prompt else '<|end|>' }}
    {%- elif message.role == 'tool' %}
        {{- '<|start|>functions.' + last.name + ' to=assistant<|channel|>commentary<|message|>' }}
        {{- message.content | tojson + '<|end|>' }}
    {%- else %}{{ '<|start|>' + message.role + '<|message|>' + message.content + '<|end|>' }}{% endif %}
{%- endfor %}{% if add_generation_prompt %}{{ '<|start|>assistant' }}{% endif %}"""


@dataclass(frozen=True)
class Kind:
    """A tokenizer and template, and text that looks like its control tokens."""

    tokenizer: Tokenizer
    template: str
    bos: str
    eos: str
    controls: tuple[str, ...]


def special_tokens(*texts: str) -> list[AddedToken]:
    return [AddedToken(text, special=True, normalized=False) for text in texts]


def _plain(*texts: str) -> list[AddedToken]:
    return [AddedToken(text, special=False, normalized=False) for text in texts]


def _byte_level(ignore_merges: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    split = Regex(r"'s|\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(split, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def _byte_fallback(special: Sequence[str]) -> Tokenizer:
    """As sentencepiece's BPE: the control tokens, the bytes, then what was learned."""
    learning = Tokenizer(models.BPE())
    learning.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    learning.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=200, show_progress=False))
    learned = json.loads(learning.to_str())["model"]
    pieces = [
        *special,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        *sorted(learned["vocab"], key=learned["vocab"].get),
    ]
    vocab = {piece: id for id, piece in enumerate(pieces)}
    merges = [(a, b) for a, b in learned["merges"]]
    return Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))


def _fallback_decoder(*more: decoders.Decoder) -> decoders.Decoder:
    return decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), *more])


def chatml() -> Kind:
    """Byte-level, NFC, reasoning and tool markers that are not special, control tokens after the vocabulary."""
    tokenizer = _byte_level()
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens(special_tokens("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    markers = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
    structure = ("<|fim_middle|>", "<\uff5cfile\uff5c>")
    tokenizer.add_tokens(_plain(*markers, *structure))
    controls = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", *markers, *structure)
    return Kind(tokenizer, CHATML, "<|endoftext|>", "<|im_end|>", controls)


def llama3() -> Kind:
    """Byte-level, whole words looked up before merging, two hundred reserved control tokens."""
    tokenizer = _byte_level(ignore_merges=True)
    controls = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    tokenizer.add_tokens(special_tokens(*controls, *(f"<|reserved_special_token_{n}|>" for n in range(200))))
    return Kind(tokenizer, LLAMA3, controls[0], controls[3], (*controls, "<|reserved_special_token_12|>"))


def llama2() -> Kind:
    """Metaspace BPE with byte fallback, control tokens in the vocabulary; [INST] is text."""
    tokenizer = _byte_fallback(("<unk>", "<s>", "</s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = _fallback_decoder(decoders.Strip(" ", 1, 0))
    tokenizer.add_tokens(special_tokens("<unk>", "<s>", "</s>"))
    return Kind(tokenizer, LLAMA2, "<s>", "</s>", ("<s>", "</s>", "<unk>"))


def gemma() -> Kind:
    """Blanks replaced by the normalizer, byte fallback, and vocabulary among the added tokens: line breaks, tags."""
    special = ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>")
    tokenizer = _byte_fallback((*special, "\n\n", "<b>", "</b>"))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = _fallback_decoder()
    tokenizer.add_tokens([*special_tokens(*special), *_plain("\n\n", "<b>", "</b>")])
    return Kind(tokenizer, GEMMA, "<bos>", "<eos>", ("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<pad>"))


def phi3() -> Kind:
    """Control tokens that swallow the blanks after them, written by a template that puts them together itself."""
    controls = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
    tokenizer = _byte_fallback(("<unk>", "<s>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = _fallback_decoder(decoders.Strip(" ", 1, 0))
    added = [AddedToken(text, special=True, normalized=False, rstrip=True) for text in controls]
    tokenizer.add_tokens([*special_tokens("<unk>", "<s>"), *added])
    return Kind(tokenizer, PHI3, "<s>", "<|endoftext|>", (*controls, "<s>"))


def unigram() -> Kind:
    """A Unigram model, which looks for its whole vocabulary in a text, control tokens included."""
    learning = Tokenizer(models.Unigram())
    learning.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    learning.train_from_iterator(TEXTS, trainer)
    pieces = [tuple(piece) for piece in json.loads(learning.to_str())["model"]["vocab"]]
    known = {piece for piece, _ in pieces}
    special = ("<s>", "</s>")
    rest = [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    rest += [(char, -15.0) for char in map(chr, range(33, 127)) if char not in known]
    tokenizer = Tokenizer(models.Unigram([*((text, 0.0) for text in special), *pieces, *rest], 2, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer.add_tokens(special_tokens("<unk>", *special))
    return Kind(tokenizer, LLAMA2, "<s>", "</s>", ("<s>", "</s>", "<unk>"))


KINDS = {"chatml": chatml, "llama3": llama3, "llama2": llama2, "gemma": gemma, "phi3": phi3, "unigram": unigram}


def write_folder(kind: Kind, folder: Path) -> Path:
    """What serving reads of a model folder, without a graph."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=kind.tokenizer,
        bos_token=kind.bos,
        eos_token=kind.eos,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = kind.template
    fast.save_pretrained(folder)
    (folder / "genai_config.json").write_text(json.dumps({"model": {}}))
    return folder


_AWKWARD = [
    *("word ", "What is ", "  ", "\n", "\n\n", "\t", "\u00a0", "\u3000", "\u200b", "\0", "{{ x }}", "{% if %}"),
    *("{# c #}", "<b>bold</b>", "&lt;", "<a href='x'>", "]]>", "<", "<|", "[", "[INST]", "<<SYS>>", "\u2581"),
    *("\u2581\u2581", "12345", "\u4f60\u597d", "\u65e5\u672c\u8a9e", "\U0001f44d\U0001f3fd", "\U0001f1eb\U0001f1f7"),
    *("\U0001f469\u200d\U0001f52c", "e\u0301", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0645\u0631\u062d"),
    *("\ufffd", "\ufeff", "\ue000", "\U000f0000", "\U0010fffd", "~0~", "<0x41>", "'s", '"', "\\n", "\\u0041"),
    *("```py\nx = 1\n```", "\u017f", "\ufb01"),
]


def awkward_text(rng: random.Random, more: Sequence[str] = ()) -> str:
    """Up to a dozen pieces of text that tokenizers and templates have been seen to trip over."""
    return "".join(rng.choice([*_AWKWARD, *more] if more else _AWKWARD) for _ in range(rng.randint(0, 12)))


def awkward_conversation(rng: random.Random, more: Sequence[str] = ()) -> list[Message]:
    """Alternating turns, the last a user's; more: texts that may occur too."""
    turns = [Message("user", awkward_text(rng, more))]
    for _ in range(rng.randint(0, 3)):
        turns += [Message("assistant", awkward_text(rng, more)), Message("user", awkward_text(rng, more))]
    return [Message("system", awkward_text(rng, more)), *turns] if rng.random() < 0.4 else turns
