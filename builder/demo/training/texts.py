"""The conversations that a build reads, as files: python -m builder.demo.training.texts"""

import json
from itertools import islice

from builder.demo import TEXTS, Split
from builder.demo.training.corpus import conversations

SEED = 20_260_101
# Of the train split as many as the longest calibration of Quark's example needs (128 sequences of 512 tokens), also
# with a vocabulary of 150,000 and a template that takes no system messages; of the other what is measured with, thrice.
COUNTS: dict[Split, int] = {"train": 600, "heldout": 150}


def text(split: Split) -> str:
    """The content of the split's file: a JSON object on each line, with the messages of a conversation."""
    chats = islice(conversations(split, SEED), COUNTS[split])
    return "".join(json.dumps({"messages": chat}, ensure_ascii=False) + "\n" for chat in chats)


def main() -> None:
    """Write both files."""
    for split, file in TEXTS.items():
        file.write_text(text(split), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
