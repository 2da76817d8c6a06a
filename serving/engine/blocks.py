"""A piece of a kept conversation as a file: its tokens, and their keys and values where the runtime can take them back.

MAGIC, the size of the header (four bytes, little-endian), the header (JSON), the SHA-256 of all of that, and then the
keys and values, whose own SHA-256 is in the header. A piece is named by its tokens and by the piece before it, and so
by every token up to its end.
"""

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from serving.types import TokenIds

FORMAT = 1
MAGIC = b"oga-chat conversation %d\n" % FORMAT
BLOCK_TOKENS = 128  # of a whole piece; the last one of a conversation has fewer
MOST_HEADER = 1 << 16  # bytes
_DIGEST = 32

Layout = Mapping[str, tuple["np.dtype[Any]", int, int]]  # of keys and values: type, heads and head size by name
Values = Mapping[str, NDArray[Any]]  # by name, [heads, tokens, head size]


class Damaged(Exception):
    """A file that does not hold what it should; the message says in what way."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A piece of a conversation. id: of all tokens up to its end. parent: the id of the piece before it; of the first
    piece the key, which says whose keys and values they are. tokens: [n], 1 <= n <= BLOCK_TOKENS.
    """

    id: str
    key: str
    parent: str
    tokens: TokenIds

    @classmethod
    def of(cls, key: str, parent: str, tokens: TokenIds) -> "Block":
        """The piece with these tokens."""
        return cls(block_id(parent, tokens), key, parent, tokens)


def block_id(parent: str, tokens: TokenIds) -> str:
    """The name of a piece: a digest of the one before it, and of its own tokens."""
    return hashlib.sha256(parent.encode() + np.ascontiguousarray(tokens, "<i4").tobytes()).hexdigest()


def encoded(block: Block, layout: Layout, values: Values) -> list[bytes]:
    """The parts of its file, in their order. values: as `layout` has them; empty where that is."""
    body = [np.ascontiguousarray(values[name], kind).tobytes() for name, (kind, _, _) in layout.items()]
    digest = hashlib.sha256()
    for part in body:
        digest.update(part)
    facts = {
        "key": block.key,
        "parent": block.parent,
        "tokens": block.tokens.tolist(),
        "bytes": sum(map(len, body)),
        "sha256": digest.hexdigest(),
    }
    header = json.dumps(facts).encode()
    head = MAGIC + len(header).to_bytes(4, "little") + header
    return [head, hashlib.sha256(head).digest(), *body]


def read_block(path: Path) -> Block:
    """The piece that a whole file is of, without its keys and values.

    Raises Damaged for anything else, FileNotFoundError, and OSError where it cannot be read.
    """
    with _opened(path) as file:
        return _header(file)[0]


def read_values(path: Path, block: Block, layout: Layout) -> Values:
    """The keys and values of a piece, as they were written. Raises as read_block does, also for another piece."""
    with _opened(path) as file:
        found, size, digest = _header(file)
        n = block.tokens.size
        shapes = {name: (heads, n, width) for name, (_, heads, width) in layout.items()}
        sizes = {name: int(np.prod(shape)) * layout[name][0].itemsize for name, shape in shapes.items()}
        if found.id != block.id or size != sum(sizes.values()):
            raise Damaged("it is of another conversation")
        body = file.read()
    if len(body) != size or hashlib.sha256(body).hexdigest() != digest:
        raise Damaged("its checksum is wrong")
    values, begin = {}, 0
    for name, (kind, _, _) in layout.items():
        values[name] = np.frombuffer(body, kind, int(np.prod(shapes[name])), begin).reshape(shapes[name])
        begin += sizes[name]
    return values


def _opened(path: Path) -> BinaryIO:
    """The file, if it is one and this user's own; links are not followed, and no pipe is waited for."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if path.is_symlink():
        raise Damaged("it is a link")
    file = os.fdopen(os.open(path, flags), "rb")
    facts = os.fstat(file.fileno())
    if not stat.S_ISREG(facts.st_mode) or (hasattr(os, "geteuid") and facts.st_uid != os.geteuid()):
        file.close()
        raise Damaged("it is no file of this user's")
    return file


def _header(file: BinaryIO) -> tuple[Block, int, str]:
    """The piece, and the size and the SHA-256 of its keys and values. Raises Damaged, also for a file cut short."""
    start = file.read(len(MAGIC) + 4)
    size = int.from_bytes(start[len(MAGIC) :], "little")
    if len(start) < len(MAGIC) + 4 or not start.startswith(MAGIC) or size > MOST_HEADER:
        raise Damaged("it is of another kind")
    header, digest = file.read(size), file.read(_DIGEST)
    if hashlib.sha256(start + header).digest() != digest:
        raise Damaged("its checksum is wrong")
    try:
        facts = json.loads(header)
        tokens = np.asarray(facts["tokens"], np.int32)
        block = Block.of(str(facts["key"]), str(facts["parent"]), tokens)
        values, checksum = int(facts["bytes"]), str(facts["sha256"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise Damaged("it is of another kind") from error
    if tokens.ndim != 1 or not 1 <= tokens.size <= BLOCK_TOKENS:
        raise Damaged("it is of another kind")
    if os.fstat(file.fileno()).st_size != len(start) + size + _DIGEST + values:
        raise Damaged("it is not whole")
    return block, values, checksum
