"""Conversations in which the original model answers, to measure on: what a quantized one is asked to go on with.

    python -m benchmarks.own_chats CHECKPOINT FILE.gguf chats.jsonl

Two questions each, answered at temperature 0.8 by llama.cpp from the checkpoint in float32 (`python -m
benchmarks.to_gguf CHECKPOINT FILE.gguf --kind F32`), in the checkpoint's own template.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import llama_cpp
from transformers import AutoTokenizer

WINDOW, ANSWER = 2048, 160  # tokens
QUESTIONS = (
    "How do I keep basil alive on a windowsill?", "Write a short poem about rain on a tin roof.",
    "What is the difference between a virus and a bacterium?", "Explain recursion to a ten year old.",
    "Give me five ideas for a birthday party on a small budget.", "Who wrote Pride and Prejudice?",
    "My laptop is slow. What should I check first?", "Write an email that declines an invitation politely.",
    "How does a refrigerator work?", "Summarize the causes of the First World War in four sentences.",
    "What is a prime number? Give the first ten.", "Write a Python function that reverses a string.",
    "How do I make pancakes?", "Tell me a story about a lighthouse keeper.",
    "What should I pack for a week in the mountains?", "Why is the sky blue?",
    "Translate 'Where is the station?' into French and German.", "What are the benefits of walking every day?",
    "Explain what an API is.", "How can I learn to play the guitar?", "Write a haiku about winter.",
    "What does photosynthesis do?", "How do I ask my boss for a raise?", "List the planets of the solar system.",
    "What is inflation?", "Describe a market in the morning.", "How do bees make honey?",
    "Give me a training plan for a first 5 km run.", "What is the capital of Australia, and why not Sydney?",
    "How do I remove a coffee stain from a shirt?", "Explain the offside rule.",
    "Write a dialogue between a cat and a dog.",
)  # fmt: skip
SECOND = (
    "Can you say that more simply?", "Give me an example.", "Why is that?", "And what should I avoid?",
    "Please make a short list of it.",
)  # fmt: skip


def main() -> None:
    """Write a conversation a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("output", type=Path)
    flags = parser.parse_args()
    tokenizer: Any = AutoTokenizer.from_pretrained(flags.checkpoint)
    model: Any = llama_cpp.Llama(str(flags.file), n_ctx=WINDOW, n_threads=1, seed=1, verbose=False)
    with flags.output.open("w", encoding="utf-8") as lines:
        for number, question in enumerate(QUESTIONS):
            messages: list[dict[str, str]] = []
            for asked in (question, SECOND[number % len(SECOND)]):
                messages.append({"role": "user", "content": asked})
                prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
                made = model.create_completion(prompt, max_tokens=ANSWER, temperature=0.8, top_p=0.95, top_k=0)
                messages.append({"role": "assistant", "content": made["choices"][0]["text"].strip()})
            lines.write(json.dumps({"messages": messages}) + "\n")
            lines.flush()
            print(f"{number + 1} of {len(QUESTIONS)}", flush=True)


if __name__ == "__main__":
    main()
