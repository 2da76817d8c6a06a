"""What choosing a token costs, for each rule, over a large vocabulary.

    OMP_NUM_THREADS=1 python -m benchmarks.sampler_cost

Two kinds of logits: `sure` ones fall off with the rank as those of a language model do (the first token has a fifth of
the probability), `unsure` ones are plain normal noise, where 95 % of the probability is spread over three quarters of
the vocabulary. A step is one forward pass of the model; 36 ms is that of a 1.1 B model on two cores.
"""

import argparse
import json
import time
from statistics import median

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from serving.engine.sampler import Logits, Sampler
from serving.text.grammar import GrammarCompiler
from serving.types import Grammar, SamplingOptions

STEP_MS = 36.0
DIFFERENT = 8  # vectors of logits, taken in turn
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 40},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 4},
            "kind": {"enum": ["person", "place", "thing"]},
        },
        "required": ["name", "age", "tags", "kind"],
        "additionalProperties": False,
    }
)
CASES = {
    "greedy": SamplingOptions(temperature=0.0),
    "default settings (temperature 0.7, top_p 0.95)": SamplingOptions(temperature=0.7, top_p=0.95),
    "everything off, temperature 1": SamplingOptions(),
    "top_k 40": SamplingOptions(top_k=40),
    "min_p 0.05": SamplingOptions(min_p=0.05),
    "typical_p 0.95": SamplingOptions(typical_p=0.95),
    "all penalties": SamplingOptions(repetition_penalty=1.1, presence_penalty=0.5, frequency_penalty=0.5),
    "logprobs 5": SamplingOptions(logprobs=5),
    "JSON schema": SamplingOptions(grammar=Grammar("json_schema", SCHEMA)),
}


def main() -> None:
    """Print a Markdown table of medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, default=152_000)
    parser.add_argument("--tokens", type=int, default=200, help="chosen for each figure")
    flags = parser.parse_args()
    rng = np.random.default_rng(0)
    sure = [sure_logits(flags.vocab, rng) for _ in range(DIFFERENT)]
    unsure = [rng.standard_normal(flags.vocab).astype(np.float32) for _ in range(DIFFERENT)]
    compiler = GrammarCompiler(word_tokenizer(flags.vocab), flags.vocab, frozenset([0]))
    begun = time.perf_counter()
    compiler.matcher(Grammar("regex", "a"))
    first = time.perf_counter() - begun
    print(f"ms for each token, {flags.vocab:,} tokens, medians of {flags.tokens}\n")
    print(f"| | sure | share of a {STEP_MS:.0f} ms step | unsure | share |")
    print("|---|---|---|---|---|")
    for name, options in CASES.items():
        cells = []
        for logits in (sure, unsure):
            milliseconds = median(cost(options, logits, compiler, flags.tokens)) * 1e3
            cells += [f"{milliseconds:.2f}", f"{milliseconds / STEP_MS:.1%}"]
        print(f"| {name} | {' | '.join(cells)} |")
    begun = time.perf_counter()
    compiler.matcher(Grammar("json_schema", SCHEMA))
    print(
        f"\nthe first grammar of an engine {first * 1e3:.0f} ms, a schema {(time.perf_counter() - begun) * 1e3:.1f} ms"
    )


def cost(options: SamplingOptions, logits: list[Logits], compiler: GrammarCompiler, tokens: int) -> list[float]:
    """Seconds that each of `tokens` choices took. An answer that its grammar ends is followed by another."""
    seconds: list[float] = []
    while len(seconds) < tokens:
        matcher = compiler.matcher(options.grammar) if options.grammar else None
        sampler = Sampler(options, np.arange(1000, dtype=np.int32), logits[0].size, matcher)
        while len(seconds) < tokens and not (matcher and matcher.stopped):
            row = logits[len(seconds) % len(logits)]
            begun = time.perf_counter()
            sampler.choose(row)
            seconds.append(time.perf_counter() - begun)
    return seconds


def sure_logits(vocab: int, rng: np.random.Generator) -> Logits:
    """Zipf's law with exponent 1.2, on tokens in random order."""
    ranks = rng.permutation(vocab) + 1
    return (-1.2 * np.log(ranks)).astype(np.float32)


def word_tokenizer(vocab: int) -> Tokenizer:
    """A byte-level tokenizer of made-up words: id 0 ends an answer, then come the single bytes."""
    rng = np.random.default_rng(0)
    syllables = [first + second for first in "bcdfghklmnprstvwz" for second in ("a", "e", "i", "o", "u", "an", "er")]
    tokens = {"<end>": 0} | {byte: i for i, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()), start=1)}
    while len(tokens) < vocab:
        word = "".join(rng.choice(syllables, size=rng.integers(1, 5)))
        for form in (word, "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}" + word):
            tokens.setdefault(form, len(tokens))
    tokenizer = Tokenizer(models.BPE(vocab={token: id for token, id in tokens.items() if id < vocab}, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.add_special_tokens(["<end>"])
    return tokenizer


if __name__ == "__main__":
    main()
