"""How likely each token of an answer was, and what else: for the page to draw, where its reader asks for it."""

import json
from math import exp
from typing import Any

from serving.text.prompt import Spelling
from serving.types import Chunk

ALTERNATIVES = 5  # told of each token


def scored(chunk: Chunk, spelling: Spelling) -> list[Any] | None:
    """A token of the answer: its text, its probability, and the likeliest ones, each with its own; None if it is none.

    A token that is a part of a character is spelled with U+FFFD.
    """
    if chunk.token_id is None or chunk.logprob is None or chunk.token_id in spelling.end_ids:
        return None
    likeliest = [[spelling.of(token), _probability(logprob)] for token, logprob in chunk.top]
    return [spelling.of(chunk.token_id), _probability(chunk.logprob), likeliest]


def told(text: str, tokens: list[list[Any]]) -> str:
    """What assets/likely.js reads. text: of the answer, by which it is found again."""
    return json.dumps({"text": text, "tokens": tokens}, ensure_ascii=False)


def _probability(logprob: float) -> float:
    return round(min(1.0, exp(logprob)), 4)
