"""Conversations that outlive the engine (`--keep-conversations`): a folder of files that only this user can read.

A conversation is kept in pieces of BLOCK_TOKENS tokens, so that a longer one adds files and those with a common
beginning share them. A file appears by one rename, when it is whole, and is used only where the model, the runtime, the
type and every token are equal. All files of the folder, of all models, share one limit; the oldest used go first.
"""

import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from serving.engine.blocks import (
    BLOCK_TOKENS,
    Block,
    Damaged,
    Layout,
    block_id,
    encoded,
    read_block,
    read_values,
)
from serving.engine.identity import key_of
from serving.engine.prefix import common_prefix
from serving.engine.runtime import Runtime, Slot
from serving.errors import InvalidRequest
from serving.types import TokenIds

LEAST_TOKENS = 32  # of a conversation that is worth a file
MOST_FILES = 4096
LOCK_SECONDS = 1.0  # for another process, which holds the folder for one file at a time
WORTH_READING = 8  # a file is read for an eighth of its tokens or more; fewer are computed sooner
_DEPTH = 1000  # nanoseconds for each token before it: a piece is older than the one that it goes on from
_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{48}\.kv")
_REFUSED = (OSError, NotImplementedError, MemoryError)  # the second by file systems without locks
_PARTIAL = re.compile(r"[0-9a-f]{16}\.partial")


class File(NamedTuple):
    """Bytes, and when it was last used, in nanoseconds since the epoch."""

    size: int
    used: int


def to_go(
    files: Mapping[str, File], size: int, limit: int, used: int, spared: Collection[str] = ()
) -> list[str] | None:
    """Which files make room for one of `size` bytes, last used then: the oldest used; None where newer ones would.

    limit: bytes of all. spared: what the new one is of no use without.
    """
    total, count, going = sum(file.size for file in files.values()), len(files), []
    for name in sorted(files, key=lambda name: files[name].used):
        if total + size <= limit and count < MOST_FILES:
            break
        if files[name].used >= used:
            return None
        if name not in spared:
            going.append(name)
            total, count = total - files[name].size, count - 1
    return going if total + size <= limit and count < MOST_FILES else None


class Kept:
    """The kept conversations of one model on one runtime: see `serve`. For one thread.

    folder: is made, and made private. limit: bytes of all files in it. Raises InvalidRequest where it cannot be used.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        make_private(folder)
        self._lock = FileLock(folder / "lock", mode=0o600)
        self._writes = True
        self._clear("", {})

    def _clear(self, key: str, layout: Layout) -> None:
        self._key, self._layout = key, layout
        self._blocks: dict[str, Block] = {}  # by their ids
        self._children: dict[str, list[Block]] = {}  # by their parents' ids
        self._used: dict[str, int] = {}  # by ids, in nanoseconds since the epoch
        self._saved: dict[int, tuple[int, int]] = {}  # slots, as they were when nothing of them was left to write

    def serve(self, runtime: Runtime) -> None:
        """Be those of this runtime's model. What is damaged, or no piece of a conversation, is removed, and told."""
        try:
            self._clear(key_of(runtime), runtime.kv_layout)
            with suppress(Timeout), self._lock.acquire(timeout=LOCK_SECONDS):  # nobody writes meanwhile
                for name in os.listdir(self._folder):
                    if _PARTIAL.fullmatch(name):
                        self._remove(name)
            found, faults = self._found()
        except _REFUSED as error:
            self._give_up(error)
            return
        for name in faults:
            self._discard(name)
        for name, fault in list(faults.items())[:1]:
            others = f"; so were {len(faults) - 1:,} more" if len(faults) > 1 else ""
            note(f"the kept conversation {name} is not used, as {fault}: it was removed{others}.")
        # Only what can be reached from a beginning is of any use.
        reached = [self._key]
        for parent in reached:
            for block in found.pop(parent, ()):
                self._add(block)
                reached.append(block.id)
        for block in (block for blocks in found.values() for block in blocks):
            self._discard(self._name(block))

    def texts(self, most: int) -> list[TokenIds]:
        """The tokens [n] of whole conversations, the last used ones, `most` at most; those last used come last."""
        ends = [block for block in self._blocks.values() if block.id not in self._children]
        ends = sorted(ends, key=lambda block: self._used[block.id])[-most:]
        return [text for text in map(self._text, ends) if text.size >= LEAST_TOKENS]

    def load(self, slot: Slot, tokens: TokenIds) -> bool:
        """Give a slot that holds a beginning of these tokens [n], and has room for all, the keys and values of more.

        One file at a time. False where there are none: then nothing has changed.
        """
        held = len(slot.tokens)
        while self._layout and (found := self._after(tokens, held)):
            block, begin, end = found
            try:
                values = read_values(self._folder / self._name(block), block, self._layout)
            except (FileNotFoundError, MemoryError):  # another process made room, or others need all there is here
                self._forget(block)
            except (Damaged, OSError) as error:
                self._forget(block)
                self._discard(self._name(block))
                note(f"the kept conversation {self._name(block)} is not used, as {error}: it was removed.")
            else:
                slot.restore(tokens[held:end], {name: value[:, held - begin :] for name, value in values.items()})
                self._touch(block, begin, time.time_ns())
                return True
        return False

    def save(self, slots: Iterable[Slot]) -> bool:
        """Write one file of what these hold, of the last used first. False where nothing is left to write."""
        for slot in sorted(slots, key=lambda slot: -slot.last_used):
            state = (slot.last_used, len(slot.tokens))
            if self._writes and state[1] >= LEAST_TOKENS and self._saved.get(slot.index) != state:
                if self._save(slot):
                    return True
                self._saved[slot.index] = state
        return False

    def _save(self, slot: Slot) -> bool:
        """Write the first piece that is missing; False where none is, or where there is no room for it."""
        tokens = np.asarray(slot.tokens, np.int32)
        used = time.time_ns() - time.monotonic_ns() + slot.last_used
        parent, path = self._key, list[Block]()
        for begin in range(0, tokens.size, BLOCK_TOKENS):
            piece = tokens[begin : begin + BLOCK_TOKENS]
            known = self._beginning(parent, piece)
            if known is None or known[1] < piece.size:
                return self._write(slot, Block.of(self._key, parent, piece), begin, used, path)
            path.append(known[0])
            parent = known[0].id
        for depth, block in enumerate(path):
            self._touch(block, depth * BLOCK_TOKENS, used)
        return False

    def _write(self, slot: Slot, block: Block, begin: int, used: int, path: Sequence[Block]) -> bool:
        # What this one begins with is of no use any more.
        shorter = [
            other
            for other in self._children.get(block.parent, ())
            if common_prefix(other.tokens, block.tokens) == other.tokens.size
        ]
        end = begin + block.tokens.size
        try:
            parts = encoded(block, self._layout, slot.stored(begin, end) if self._layout else {})
            with self._lock.acquire(timeout=LOCK_SECONDS):
                files = self._files()
                replaced = [name for name in map(self._name, shorter) if files.pop(name, None)]
                spared = {self._name(other) for other in path}
                going = to_go(files, sum(map(len, parts)), self._limit, used, spared)
                if going is None:
                    return False
                for name in (*replaced, *going):
                    self._remove(name)
                self._put(self._name(block), parts, used - begin * _DEPTH)
        except Timeout:
            return False
        except _REFUSED as error:
            self._give_up(error)
            return False
        gone = {*replaced, *going}
        for other in [other for other in self._blocks.values() if self._name(other) in gone]:
            self._forget(other)
        self._add(block, used - begin * _DEPTH)
        return True

    def _put(self, name: str, parts: Sequence[bytes], used: int) -> None:
        """A file that is there whole or not at all."""
        partial = self._folder / f"{secrets.token_hex(8)}.partial"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        try:
            with os.fdopen(os.open(partial, flags, 0o600), "wb") as file:
                for part in parts:
                    file.write(part)
            os.utime(partial, ns=(used, used))
            partial.replace(self._folder / name)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise

    def _after(self, tokens: TokenIds, held: int) -> tuple[Block, int, int] | None:
        """The piece that goes on after the first `held` of these tokens, where it begins, and how far it is of use."""
        parent, begin = self._key, 0
        while best := self._beginning(parent, tokens[begin : begin + BLOCK_TOKENS]):
            block, common = best
            if begin + common > held:
                worth = (begin + common - held) * WORTH_READING >= block.tokens.size
                return (block, begin, begin + common) if worth else None
            if common < BLOCK_TOKENS:
                break
            parent, begin = block.id, begin + BLOCK_TOKENS
        return None

    def _beginning(self, parent: str, piece: TokenIds) -> tuple[Block, int] | None:
        """What goes on from there with most of a piece's tokens, and with how many."""
        if exact := self._blocks.get(block_id(parent, piece)):
            return exact, piece.size
        others = [(block, common_prefix(block.tokens, piece)) for block in self._children.get(parent, ())]
        best = max(others, key=lambda other: other[1], default=None)
        return best if best and best[1] else None

    def _text(self, end: Block) -> TokenIds:
        parts = [end.tokens]
        while end.parent != self._key:
            end = self._blocks[end.parent]
            parts.append(end.tokens)
        return np.concatenate(parts[::-1])

    def _found(self) -> tuple[dict[str, list[Block]], dict[str, str]]:
        """The pieces of this model, by their parents; and what is wrong with its other files, by their names."""
        found: dict[str, list[Block]] = {}
        faults: dict[str, str] = {}
        for name, (_, used) in self._files().items():
            if not name.startswith(self._key[:16]):
                continue
            try:
                block = read_block(self._folder / name)
                if block.key != self._key or self._name(block) != name:
                    raise Damaged("it is of another conversation")
            except FileNotFoundError:
                continue
            except (Damaged, OSError) as error:
                faults[name] = str(error)
            else:
                found.setdefault(block.parent, []).append(block)
                self._used[block.id] = used
        return found, faults

    def _files(self) -> dict[str, File]:
        """The files of all models. One from the future, as of a wrong clock, counts as old."""
        files, now = {}, time.time_ns()
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if _NAME.fullmatch(entry.name) and not entry.is_dir(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        facts = entry.stat(follow_symlinks=False)
                        used = facts.st_mtime_ns
                        files[entry.name] = File(facts.st_size, used if used <= now else 0)
        return files

    def _name(self, block: Block) -> str:
        return f"{self._key[:16]}-{block.id[:48]}.kv"

    def _add(self, block: Block, used: int | None = None) -> None:
        self._blocks[block.id] = block
        self._children.setdefault(block.parent, []).append(block)
        if used is not None:
            self._used[block.id] = used

    def _forget(self, block: Block) -> None:
        """Know nothing of a piece any more. Those behind it are out of reach."""
        self._blocks.pop(block.id, None)
        left = [other for other in self._children.pop(block.parent, ()) if other.id != block.id]
        if left:
            self._children[block.parent] = left

    def _touch(self, block: Block, begin: int, used: int) -> None:
        """A piece was used, after `begin` tokens."""
        if (used := used - begin * _DEPTH) > self._used[block.id]:
            self._used[block.id] = used
            with suppress(OSError):
                os.utime(self._folder / self._name(block), ns=(used, used))

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            (self._folder / name).unlink()

    def _discard(self, name: str) -> None:
        with suppress(OSError):  # what cannot be removed is passed over all the same
            self._remove(name)

    def _give_up(self, error: Exception) -> None:
        self._writes = False
        why = getattr(error, "strerror", None) or repr(error)
        note(f"from now on no conversations are kept: {self._folder} cannot be written to ({why}).")


def make_private(folder: Path) -> None:
    """A folder of this user's that nobody else can look into. Raises InvalidRequest."""
    try:
        folder.parent.mkdir(0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(0o700)
        facts = folder.lstat()
        if not stat.S_ISDIR(facts.st_mode):
            raise NotADirectoryError("it is a link, or no folder")
        if hasattr(os, "geteuid") and facts.st_uid != os.geteuid():
            raise PermissionError("it belongs to another user")
        if stat.S_IMODE(facts.st_mode) != 0o700:
            folder.chmod(0o700)
        if not os.access(folder, os.W_OK):
            raise PermissionError("it cannot be written to")
    except OSError as error:
        raise InvalidRequest(
            f"--keep-conversations keeps them in {folder}, which cannot be used ({error.strerror or error}): name "
            "another --models-dir, or leave it out."
        ) from error


def note(text: str) -> None:
    """A line for whoever started the program."""
    print(f"note: {text}", file=sys.stderr, flush=True)
