"""The demo model's tokenizer and chat template, and chats as token ids."""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from builder.demo import Conversation
from builder.demo.training.corpus import conversations

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END_OF_TEXT, IM_START, IM_END)
END_OF_TEXT_ID, IM_START_ID, IM_END_ID = range(3)

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def render(chat: Conversation) -> str:
    """The chat as the template writes it. The tests hold the two against each other."""
    return "".join(f"{IM_START}{m['role']}\n{m['content'].strip()}{IM_END}\n" for m in chat)


def train_tokenizer(seed: int, size: int, samples: int) -> Tokenizer:
    """A byte-level BPE of `size` tokens, learned from `samples` train conversations; every digit is its own token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, samples), trainer)
    return tokenizer


def assistant_id(tokenizer: Tokenizer) -> int:
    """The token of the role name "assistant". Raises ValueError if the tokenizer learned it in pieces."""
    token: int | None = tokenizer.token_to_id("assistant")
    if token is None:
        raise ValueError('the tokenizer has no token for "assistant": train it on more samples or with more tokens')
    return token


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the tokenizer files that Hugging Face's AutoTokenizer reads, with the chat template beside them."""
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=IM_END,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        model_max_length=2048,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    # The name that every version of transformers understands; version 5 writes one that version 4 does not know.
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text()) | {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(settings, indent=2) + "\n")


def _texts(seed: int, samples: int) -> Iterator[str]:
    # Rendered without the special tokens: they are never to be merged with anything.
    for chat in islice(conversations("train", seed), samples):
        for message in chat:
            yield f"{message['role']}\n{message['content']}"
