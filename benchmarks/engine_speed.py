"""Decode speed of the engine over a bare OGA loop on the same folder, interleaved.

    python -m benchmarks.engine_speed                  # a random llama of about 60 M parameters, made on the spot
    python -m benchmarks.engine_speed FOLDER           # any exported model folder

The bare loop is OGA's own `generate_next_token()`, with the engine's thread count. Both make greedy answers of 100
tokens to the same prompt, taking turns; the ratio is taken pair by pair, and its median is what counts.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from statistics import median

import onnxruntime_genai as og

from builder.demo import CHECKPOINT
from serving.engine.choosing import load_runtime
from serving.engine.engine import Engine
from serving.folder import ModelFolder
from serving.hardware import usable_cores
from serving.text.prompt import Prompt
from serving.types import EngineSettings, Message, SamplingOptions, TokenIds

TOKENS = 100
QUESTION = [Message("user", "Tell me a story about a fox.")]


def main() -> None:
    """Print a table of both speeds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="an exported model folder")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", action="store_true", help="the engine as with --batch")
    flags = parser.parse_args()
    with ExitStack() as stack:
        folder = flags.folder or random_llama(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        # No end-of-turn token: every answer has its 100 tokens.
        prompt = replace(Prompt.load(folder), fixed_end_ids=frozenset())
        settings = EngineSettings(runtime="ort" if flags.batch else "oga", guess=False)
        engine = stack.enter_context(Engine(load_runtime(ModelFolder.open(folder), settings), prompt, settings))
        model = bare_model(folder)
        token_ids = prompt.conversation_ids(QUESTION)
        pairs = [(engine_speed(engine), bare_speed(model, token_ids)) for _ in range(flags.rounds + 1)][1:]
    print(f"decode tokens/s, {TOKENS}-token answers, {usable_cores()} threads, medians of {flags.rounds} rounds")
    print(f"  engine        {median(ours for ours, _ in pairs):8.1f}")
    print(f"  bare OGA loop {median(bare for _, bare in pairs):8.1f}")
    print(f"  ratio         {median(ours / bare for ours, bare in pairs):8.3f}")


def engine_speed(engine: Engine) -> float:
    """Tokens per second from the first logits to the last chunk, as a client sees them."""
    options = SamplingOptions(temperature=0.0, max_tokens=TOKENS)
    begun, seen = 0.0, 0
    for chunk in engine.generate(QUESTION, options):
        if chunk.completion_tokens == 0:
            begun = time.perf_counter()
        seen = chunk.completion_tokens
    return seen / (time.perf_counter() - begun)


def bare_model(folder: Path) -> og.Model:
    """OGA alone, with as many threads."""
    config = og.Config(str(folder))
    session = {"intra_op_num_threads": usable_cores()}
    config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
    return og.Model(config)


def bare_speed(model: og.Model, token_ids: TokenIds) -> float:
    """Tokens per second of OGA's own greedy loop."""
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=1024, min_length=1024, do_sample=False)
    generator = og.Generator(model, params)
    generator.append_tokens(token_ids)
    begun = time.perf_counter()
    for _ in range(TOKENS):
        generator.generate_next_token()
        generator.get_next_tokens()
    return TOKENS / (time.perf_counter() - begun)


def random_llama(work: Path, hidden: int = 512, layers: int = 16, window: int = 8704) -> Path:
    """An exported llama of random parameters with the recipe's kernels; speed does not depend on the values."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=8192, hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers,
        num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=window, bos_token_id=0, eos_token_id=2,
        tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).half()
    print(f"random llama: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters")
    model.save_pretrained(work / "checkpoint")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(CHECKPOINT / name, work / "checkpoint" / name)
    export = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(work / "checkpoint")]
    target = ["-o", str(work / "export"), "-p", "int4", "-e", "cpu", "-c", str(work / "cache")]
    options = ["--extra_options", "block_size=128", "is_symmetric=false", "matmul_mixed_precision=last_matmul:int8"]
    subprocess.run([*export, *target, *options], check=True, capture_output=True)
    shutil.copyfile(CHECKPOINT / "chat_template.jinja", work / "export" / "chat_template.jinja")
    return work / "export"


if __name__ == "__main__":
    main()
