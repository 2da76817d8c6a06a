"""Training rows: chats packed into rows of equal length, made in worker processes, in an order fixed by the seed."""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from itertools import count, islice
from multiprocessing.pool import AsyncResult, Pool

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from builder.demo import Split
from builder.demo.training.drills import Drills, mixed
from builder.demo.training.tokens import END_OF_TEXT, END_OF_TEXT_ID, render

Rows = npt.NDArray[np.uint16]
_POOL = 64
_CHUNK = 256
NONE = Drills()


def pack(chats: Iterator[list[int]], rows: int, length: int) -> Rows:
    """Fill `rows` rows of `length` tokens with whole chats, best fit first; what is left of a row is end-of-text.

    A chat longer than a row loses its end. Every row begins with the beginning of a chat.
    """
    packed = np.full((rows, length), END_OF_TEXT_ID, dtype=np.uint16)
    waiting = list(islice(chats, _POOL))
    for row in packed:
        used = 0
        chosen: int | None = 0
        while chosen is not None:
            ids = waiting.pop(chosen)[: length - used]
            waiting.append(next(chats))
            row[used : used + len(ids)] = ids
            used += len(ids)
            fitting = [i for i, chat in enumerate(waiting) if len(chat) <= length - used]
            chosen = max(fitting, key=lambda i: len(waiting[i]), default=None)
    return packed


def encoded(tokenizer: Tokenizer, split: Split, seed: int, drills: Drills) -> Iterator[list[int]]:
    """Endless chats as token ids, each ended by the end-of-text token; with drills among them."""
    chats = mixed(split, seed, drills)
    while True:
        texts = [render(chat) + END_OF_TEXT for chat in islice(chats, _CHUNK)]
        for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
            yield encoding.ids


def shard(tokenizer_json: str, seed: int, index: int, rows: int, length: int, drills: Drills = NONE) -> Rows:
    """Shard number `index` of the training rows of a seed."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    # One million shards of a seed before two seeds could meet.
    return pack(encoded(tokenizer, "train", seed * 1_000_000 + index, drills), rows, length)


def worker_pool(workers: int) -> Pool | None:
    """Processes that make shards; None where the training process is to make them itself."""
    if workers == 0:
        return None
    return multiprocessing.get_context("spawn").Pool(workers, initializer=_one_thread)


def _one_thread() -> None:
    # One process per core already: the tokenizer's own threads would only get in the way.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def stream(
    pool: Pool | None, ahead: int, tokenizer_json: str, seed: int, first: int, rows: int, length: int, drills: Drills
) -> Iterator[Rows]:
    """Shards `first`, `first + 1`, ... in order; the pool keeps `ahead` shards ahead."""
    waiting: deque[AsyncResult[Rows]] = deque()
    for index in count(first):
        if pool is None:
            yield shard(tokenizer_json, seed, index, rows, length, drills)
            continue
        waiting.append(pool.apply_async(shard, (tokenizer_json, seed, index, rows, length, drills)))
        if len(waiting) > ahead:
            yield waiting.popleft().get()
