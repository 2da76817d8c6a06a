"""Which text to calibrate AWQ on, where none can be downloaded: quality on held-out text of other kinds.

    python -m benchmarks.calibration_text --model FOLDER --group-size 64
    python -m benchmarks.calibration_text --model FOLDER --texts topics chats --heldout manual.txt

Each text calibrates a fresh copy of the model, which Quark quantizes as the build does. The fake-quantized model, whose
logits the export repeats, is compared with the original: KL(original || quantized) in nats per token, and perplexity
over the original's. Held-out kinds: what installed packages say of themselves (readmes), their licences, the source
code of the standard library (code), conversations of the demo's held-out split (chats), conversations that the model
itself makes up (own chats), and the files of --heldout.
"""

import argparse
import os
import random
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import distributions
from itertools import chain, islice, zip_longest
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from builder.checkpoint.checkpoint import read_settings
from builder.demo import Split
from builder.demo.training import corpus
from builder.stages.quark_settings import leave_out_unused_modules

HELDOUT = (6, 512)  # sequences of each kind, tokens in each
EXCERPT = 2500  # characters of one held-out document, so that there are many
SEED = 20_260_101

Tokens = torch.Tensor


class Subject:
    """The model under test, and text in its tokens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.original = self.load()

    def load(self) -> Any:
        return AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()

    def blocks(self, texts: Iterable[str], shape: tuple[int, int]) -> Tokens:
        """The texts joined and cut to [n, length]."""
        ids = chain.from_iterable(self.tokenizer.encode(text, add_special_tokens=False) for text in texts)
        return torch.tensor(list(islice(ids, shape[0] * shape[1]))).reshape(shape)

    def chats(self, split: Split) -> Iterator[str]:
        """Conversations of the demo's corpus in the model's template."""
        for conversation in corpus.conversations(split, SEED):
            yield self.tokenizer.apply_chat_template(conversation, tokenize=False)

    def written(self, prompt: str, shape: tuple[int, int], seed: int) -> Tokens:
        """What the model goes on with, sampled at temperature 1 without any limit, [n, length]."""
        torch.manual_seed(seed)
        start = torch.tensor([self.tokenizer.encode(prompt, add_special_tokens=False)] * shape[0])
        length = shape[1] - start.shape[1]
        with torch.inference_mode():
            return self.original.generate(  # type: ignore[no-any-return]
                start, do_sample=True, top_k=0, top_p=1.0, min_new_tokens=length, max_new_tokens=length
            )

    def user_turn(self) -> str:
        """The prompt up to where a user speaks."""
        marked = self.tokenizer.apply_chat_template([{"role": "user", "content": "\1"}], tokenize=False)
        return str(marked.partition("\1")[0])


def calibration_texts(subject: Subject, shape: tuple[int, int]) -> dict[str, Callable[[], Tokens]]:
    """The candidates, by name."""
    excerpts = [text[at : at + 1500] for text in topics.values() for at in range(0, len(text), 1500)]
    mixed = zip_longest(islice(subject.chats("train"), len(excerpts)), excerpts, fillvalue="")
    return {
        "topics": lambda: subject.blocks(topics.values(), shape),
        "chats": lambda: subject.blocks(subject.chats("train"), shape),
        "mixture": lambda: subject.blocks(chain.from_iterable(mixed), shape),
        "own text": lambda: subject.written(subject.tokenizer.bos_token or subject.tokenizer.eos_token, shape, seed=1),
        "own chats": lambda: subject.written(subject.user_turn(), shape, seed=2),
        "random": lambda: torch.randint(len(subject.tokenizer), shape, generator=torch.Generator().manual_seed(3)),
    }


def heldout_texts(subject: Subject, files: Iterable[Path]) -> dict[str, Tokens]:
    """The kinds of text to measure on, each [6, 512]."""
    installed = sorted(distributions(), key=lambda package: package.metadata["Name"] or "")
    random.Random(1).shuffle(installed)
    readmes = [(package.read_text("METADATA") or "").partition("\n\n")[2] for package in installed]
    licences = {
        Path(str(file.locate())).read_text(encoding="utf-8", errors="replace")[:EXCERPT]
        for package in installed
        for file in package.files or ()
        if "licens" in file.name.lower() and file.suffix in ("", ".txt", ".md")
    }
    modules = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    random.Random(2).shuffle(modules)
    sources = [module.read_text(encoding="utf-8", errors="replace") for module in modules]
    return {
        "readmes": subject.blocks((text[:EXCERPT] for text in readmes if len(text) > 1000), HELDOUT),
        "licences": subject.blocks(sorted(licences), HELDOUT),
        "code": subject.blocks((text[len(text) // 2 :][:EXCERPT] for text in sources), HELDOUT),
        "chats": subject.blocks(subject.chats("heldout"), HELDOUT),
        "own chats": subject.written(subject.user_turn(), HELDOUT, seed=99),
        **{file.stem: subject.blocks([file.read_text(encoding="utf-8")], HELDOUT) for file in files},
    }


def quantize(subject: Subject, group_size: int, calibration: Tokens | None) -> Any:
    """A fake-quantized copy of the model: by AWQ, or rounded to nearest where there is no calibration text."""
    os.environ |= {"QUARK_DISABLE_COMPILE": "1", "QUARK_LOG_LEVEL": "error"}
    leave_out_unused_modules()
    from quark.torch import LLMTemplate, ModelQuantizer

    template = LLMTemplate.get(read_settings(subject.folder).model.family.awq_template)
    config = template.get_config(scheme=f"uint4_wo_{group_size}", algorithm=None if calibration is None else "awq")
    quantizer = ModelQuantizer(config)
    text = torch.zeros((1, 16), dtype=torch.int64) if calibration is None else calibration
    return quantizer.freeze(quantizer.quantize_model(subject.load(), list(torch.split(text, 1))))


def log_probabilities(model: Any, block: Tokens) -> Tokens:
    """[length, vocabulary], float32."""
    with torch.inference_mode():
        return torch.log_softmax(model(block[None]).logits[0].float(), -1)


def compare(reference: Tokens, ours: Tokens, block: Tokens) -> tuple[float, float]:
    """Mean KL(reference || ours) in nats per token, and how much longer ours makes the text, in nats per token."""
    divergence = (reference.exp() * (reference - ours)).sum(-1).mean().item()
    longer = (reference - ours)[:-1].gather(1, block[1:, None]).mean().item()
    return divergence, longer


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a checkpoint folder")
    parser.add_argument("--group-size", type=int, default=128)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--texts", nargs="*", help="names of calibration texts (default: all)")
    parser.add_argument("--heldout", nargs="*", type=Path, default=[], help="more text files to measure on")
    flags = parser.parse_args()

    subject = Subject(flags.model)
    candidates = calibration_texts(subject, (flags.sequences, flags.length))
    heldout = heldout_texts(subject, flags.heldout)
    references = {
        kind: [log_probabilities(subject.original, block).half() for block in blocks]
        for kind, blocks in heldout.items()
    }
    print("| calibration text | seconds |", " | ".join(heldout), "| mean |")
    print("|---" * (len(heldout) + 3) + "|", flush=True)
    for name in ["(none: rounded to nearest)", *(flags.texts or candidates)]:
        started = time.perf_counter()
        quantized = quantize(subject, flags.group_size, candidates[name]() if name in candidates else None)
        seconds = time.perf_counter() - started
        results = [
            torch.tensor(
                [
                    compare(reference.float(), log_probabilities(quantized, block), block)
                    for reference, block in zip(references[kind], blocks, strict=True)
                ]
            ).mean(0)
            for kind, blocks in heldout.items()
        ]
        cells = [f"{kl:.3f} x{longer.exp():.3f}" for kl, longer in [*results, torch.stack(results).mean(0)]]
        print(f"| {name} | {seconds:.0f} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
