"""Kept conversations, as files: which are read and written, what is refused, who can look into them."""

import itertools
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.engine import blocks, identity, kept
from serving.engine.blocks import BLOCK_TOKENS, Layout, Values, read_values
from serving.engine.kept import File, Kept, to_go
from serving.engine.runtime import Logits, Runtime, Slot
from serving.errors import InvalidRequest
from serving.folder import ModelFolder
from serving.types import TokenIds

LAYOUT: Layout = {"0.key": (np.dtype(np.float32), 2, 4), "0.value": (np.dtype(np.float16), 3, 2)}
MANY = 1 << 30
posix = pytest.mark.skipif(os.name != "posix", reason="modes of files")


class Rows(Runtime):
    """Keys and values that any token before them changes."""

    def __init__(self, folder: Path, made_by: str = "rows 1", layout: Layout = LAYOUT) -> None:
        self.folder = ModelFolder(folder, 4096, 1000, 0, 0, True, folder / "model.onnx", {})
        self.context_length, self.vocab_size, self.kv_bytes_per_token = 4096, 1000, 1
        self.made_by, self.kv_layout = made_by, layout

    def close(self) -> None:
        pass

    def slot(self, index: int) -> "Row":
        return Row(index, self)

    def forward(self, batch: Sequence[tuple[Slot, TokenIds]]) -> None:
        raise NotImplementedError


class Row(Slot):
    """Holds what it was given."""

    def __init__(self, index: int, runtime: Rows, tokens: Sequence[int] = (), last_used: int | None = None) -> None:
        super().__init__(index)
        self.last_used = time.monotonic_ns() if last_used is None else last_used
        self._layout = runtime.kv_layout
        self.tokens = list(tokens)
        self.values = made_of(self._layout, self.tokens)

    def stored(self, begin: int, end: int) -> Values:
        return {name: values[:, begin:end] for name, values in self.values.items()}

    def restore(self, tokens: TokenIds, values: Values) -> None:
        assert tokens.size
        self.tokens += tokens.tolist()
        self.values = {
            name: np.concatenate([held, values[name][:, : tokens.size]], axis=1) for name, held in self.values.items()
        }

    def check(self) -> None:
        """Keys and values must be those of the tokens, bit by bit."""
        for name, values in made_of(self._layout, self.tokens).items():
            np.testing.assert_array_equal(self.values[name], values)

    kv_tokens = property(lambda self: len(self.tokens))

    def kv_tokens_for(self, tokens: int) -> int:
        return tokens

    def fits(self, tokens: int) -> bool:
        return True

    def reserve(self, tokens: int) -> None:
        pass

    def drop(self) -> None:
        raise NotImplementedError

    def rewind(self, keep: int) -> int:
        raise NotImplementedError

    def logits(self, last: int = 1) -> Logits:
        raise NotImplementedError


def made_of(layout: Layout, tokens: Sequence[int]) -> dict[str, np.ndarray[Any, Any]]:
    """What a model makes of them."""
    running, state = [], 7
    for token in tokens:
        state = (31 * state + token) % 1999
        running.append(state)
    line = np.asarray(running, np.float64)
    return {
        name: (line[None, :, None] + np.arange(heads * width).reshape(heads, 1, width)).astype(kind)
        for name, (kind, heads, width) in layout.items()
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"a graph")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".cache" / "conversations"


def opened(folder: Path, runtime: Rows, limit: int = MANY) -> Kept:
    found = Kept(folder, limit)
    found.serve(runtime)
    return found


def random_tokens(n: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 1000, n).tolist()  # type: ignore[no-any-return]


def save(store: Kept, *slots: Slot) -> int:
    """How many files it took."""
    return next(count for count in itertools.count() if not store.save(slots))


def loaded(store: Kept, runtime: Rows, tokens: Sequence[int], held: int = 0) -> Row:
    """A slot that holds the first `held` of these tokens, and then all that is kept of them."""
    slot = Row(0, runtime, tokens[:held])
    while store.load(slot, np.asarray(tokens, np.int32)):
        pass
    assert slot.tokens == list(tokens[: len(slot.tokens)])
    slot.check()
    return slot


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.kv"))


def test_what_was_saved_is_there_after_a_restart(folder: Path, model: Path) -> None:
    runtime, tokens = Rows(model), random_tokens(300)
    assert save(opened(folder, runtime), Row(0, runtime, tokens)) == 3 == len(files(folder))
    store = opened(folder, runtime)
    assert loaded(store, runtime, tokens).tokens == tokens
    assert loaded(store, runtime, [*tokens, 1, 2, 3], held=200).tokens == tokens
    (text,) = store.texts(16)
    assert text.tolist() == tokens
    assert save(store, Row(0, runtime, tokens)) == 0


def test_what_begins_alike_is_kept_once_and_the_end_that_was_gone_on_from_is_not(folder: Path, model: Path) -> None:
    runtime, system = Rows(model), random_tokens(2 * BLOCK_TOKENS)
    store = opened(folder, runtime)
    one, other = [*system, *random_tokens(40, 1)], [*system, *random_tokens(40, 2)]
    save(store, Row(0, runtime, one), Row(1, runtime, other))
    assert len(files(folder)) == 4
    longer = [*one, *random_tokens(30, 3)]
    assert save(store, Row(0, runtime, longer)) == 1
    assert len(files(folder)) == 4
    store = opened(folder, runtime)
    assert loaded(store, runtime, longer).tokens == longer and loaded(store, runtime, other).tokens == other
    assert {text.size for text in store.texts(16)} == {len(longer), len(other)}


def test_no_token_beyond_the_first_that_differs_is_ever_used(folder: Path, model: Path) -> None:
    rng = np.random.default_rng(4)
    runtime = Rows(model)
    store = opened(folder, runtime)
    texts = [random_tokens(int(rng.integers(32, 500)), seed) for seed in range(6)]
    for at, text in enumerate(texts[:3]):  # some begin alike
        texts[at + 3] = text[: int(rng.integers(1, len(text)))] + texts[at + 3]
    save(store, *(Row(index, runtime, text) for index, text in enumerate(texts)))
    store = opened(folder, runtime)
    used = 0
    for text in texts * 40:
        asked = list(text)
        at = int(rng.integers(len(text)))
        asked[at] = (asked[at] + 1) % 1000
        held = int(rng.integers(len(text)))
        used += len(loaded(store, runtime, asked, held).tokens) - held
    assert used > 5000


def test_equal_pieces_after_different_beginnings_are_kept_apart(folder: Path, model: Path) -> None:
    runtime, end = Rows(model), random_tokens(BLOCK_TOKENS, 9)
    texts = [[*random_tokens(BLOCK_TOKENS, seed), *end] for seed in (1, 2)]
    store = opened(folder, runtime)
    assert sum(save(store, Row(index, runtime, text)) for index, text in enumerate(texts)) == 4
    for found in (store, opened(folder, runtime)):
        assert [loaded(found, runtime, text).tokens for text in texts] == texts


@pytest.mark.parametrize("what", ["weights", "runtime", "type", "layout", "format"])
def test_another_model_runtime_type_or_format_uses_nothing_and_removes_nothing(
    folder: Path, model: Path, what: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    runtime, tokens = Rows(model), random_tokens(200)
    save(opened(folder, runtime), Row(0, runtime, tokens))
    before = files(folder)
    other = runtime
    if what == "weights":
        (model / "model.onnx").write_bytes(b"b graph")
    elif what == "runtime":
        other = Rows(model, "rows 2")
    elif what == "type":
        other = Rows(model, layout={name: (np.dtype(np.float16), *rest) for name, (_, *rest) in LAYOUT.items()})  # type: ignore[misc]
    elif what == "layout":
        other = Rows(model, layout={name: (kind, width, heads) for name, (kind, heads, width) in LAYOUT.items()})
    else:
        monkeypatch.setattr(identity, "FORMAT", 2)
    store = opened(folder, other)
    assert not loaded(store, other, tokens).tokens and not store.texts(16)
    assert files(folder) == before and not capfd.readouterr().err
    save(store, Row(0, other, tokens))
    assert len(files(folder)) == 2 * len(before)
    if what != "format":
        (model / "model.onnx").write_bytes(b"a graph")
        assert loaded(opened(folder, runtime), runtime, tokens).tokens == tokens


def test_a_recorded_hash_counts_as_long_as_its_file_is_as_it_was(model: Path) -> None:
    runtime = Rows(model)
    runtime.folder = replace(runtime.folder, manifest={"files": {"model.onnx": {"sha256": "0" * 64}}})
    first = identity.key_of(runtime)
    assert first == identity.key_of(runtime)
    os.utime(model / "model.onnx", ns=(5, 5))
    assert identity.key_of(runtime) != first


# Damage


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_to_a_file_nothing_wrong_is_used(
    folder: Path, model: Path, seed: int, capfd: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(seed)
    runtime, tokens = Rows(model), random_tokens(300, seed)
    save(opened(folder, runtime), Row(0, runtime, tokens))
    whole = {file: file.read_bytes() for file in files(folder)}
    for round_ in range(80):
        file = files(folder)[int(rng.integers(3))]
        content = bytearray(whole[file])
        kind = round_ % 5
        if kind == 0:
            content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del content[int(rng.integers(len(content))) :]
        elif kind == 2:
            content += bytes(int(rng.integers(1, 100)))
        elif kind == 3:
            content = bytearray(whole[files(folder)[(files(folder).index(file) + 1) % 3]])  # another piece
        else:
            begin = int(rng.integers(len(content)))
            content[begin : begin + 512] = bytes(len(content[begin : begin + 512]))  # as a disk may leave it
            content[begin] ^= 0xFF
        early = bool(round_ // 5 % 2)  # before it is looked at, or after
        store = opened(folder, runtime)
        file.write_bytes(content)
        if early:
            store = opened(folder, runtime)
        assert loaded(store, runtime, tokens).tokens != tokens
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("note: the kept conversation") and "removed" in lines[0], lines
        assert not file.exists()
        save(store, Row(0, runtime, tokens))
        assert loaded(opened(folder, runtime), runtime, tokens).tokens == tokens
        assert set(files(folder)) == set(whole)


@pytest.mark.parametrize("kind", ["text", "empty", "header", "folder", "link", "pipe"])
def test_what_only_has_the_name_of_one_is_not_used(
    folder: Path, model: Path, tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    runtime, tokens = Rows(model), random_tokens(100)
    save(opened(folder, runtime), Row(0, runtime, tokens))
    (file,) = files(folder)
    content = file.read_bytes()
    file.unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        file.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "header":  # as large as can be said
        file.write_bytes(blocks.MAGIC + b"\xff" * 4 + content)
    else:
        file.write_bytes(b"a text\n" if kind == "text" else b"")
    (folder / "notes.txt").write_text("mine")
    store = opened(folder, runtime)
    assert not loaded(store, runtime, tokens).tokens
    assert len(capfd.readouterr().err.splitlines()) == (kind != "folder")
    assert file.exists() == (kind == "folder")
    assert (folder / "notes.txt").read_text() == "mine"
    assert kind != "link" or (tmp_path / "elsewhere").exists()


def test_a_whole_file_of_another_conversation_under_its_name_is_not_used(folder: Path, model: Path) -> None:
    runtime = Rows(model)
    store = opened(folder, runtime)
    save(store, Row(0, runtime, random_tokens(100, 1)), Row(1, runtime, random_tokens(100, 2)))
    one, other = files(folder)
    one.write_bytes(other.read_bytes())  # after the store has looked
    texts = [random_tokens(100, 1), random_tokens(100, 2)]
    assert sorted(len(loaded(store, runtime, text).tokens) for text in texts) == [0, 100]


def test_pieces_without_those_before_them_are_removed(folder: Path, model: Path) -> None:
    runtime, tokens = Rows(model), random_tokens(300)
    store = opened(folder, runtime)
    store.save([Row(0, runtime, tokens)])
    (first,) = files(folder)
    save(store, Row(0, runtime, tokens))
    first.unlink()
    opened(folder, runtime)
    assert not files(folder)


def test_what_another_process_has_removed_is_computed(
    folder: Path, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    runtime, tokens = Rows(model), random_tokens(300)
    store = opened(folder, runtime)
    save(store, Row(0, runtime, tokens))
    files(folder)[0].unlink()
    assert len(loaded(store, runtime, tokens).tokens) % BLOCK_TOKENS == 0
    assert not capfd.readouterr().err


WRITER = """
import sys
from pathlib import Path
from tests.engine.test_kept import Row, Rows, opened, random_tokens, save
runtime = Rows(Path(sys.argv[2]))
store = opened(Path(sys.argv[1]), runtime, 200_000)
print("begun", flush=True)
for seed in range(10 ** 9):
    save(store, Row(0, runtime, random_tokens(500, seed)))
"""


@pytest.mark.parametrize("written", [1, 40])
def test_a_kill_at_any_moment_leaves_only_whole_files(
    folder: Path, model: Path, written: int, capfd: pytest.CaptureFixture[str]
) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, folder, model], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert writer.stdout and writer.stdout.readline()
    seen: set[Path] = set()
    while len(seen) < written:
        seen |= set(files(folder))
    writer.kill()
    writer.communicate()
    capfd.readouterr()
    runtime = Rows(model)
    store = opened(folder, runtime)
    for block in store._blocks.values():
        read_values(folder / store._name(block), block, LAYOUT)
    assert store._blocks and not capfd.readouterr().err
    assert not list(folder.glob("*.partial"))


# Limits


def test_files_never_take_more_than_the_limit_and_the_last_used_stay(folder: Path, model: Path) -> None:
    runtime = Rows(model)
    size = sum(map(len, _parts(runtime, 128)))
    limit = 5 * size
    store = opened(folder, runtime, limit)
    texts = [random_tokens(256, seed) for seed in range(4)]
    for text in texts:
        slot = Row(0, runtime, text)
        while store.save([slot]):
            assert sum(file.stat().st_size for file in files(folder)) <= limit
    store = opened(folder, runtime, limit)
    held = [len(loaded(store, runtime, text).tokens) for text in texts]
    assert held == [0, 128, 256, 256]


def test_what_was_used_stays_and_what_is_older_makes_no_room(folder: Path, model: Path) -> None:
    runtime = Rows(model)
    limit = 2 * sum(map(len, _parts(runtime, 100)))
    store = opened(folder, runtime, limit)
    texts = [random_tokens(100, seed) for seed in range(4)]
    old = time.monotonic_ns()
    for seed in (0, 1):
        save(store, Row(0, runtime, texts[seed]))
    loaded(store, runtime, texts[0])
    save(store, Row(0, runtime, texts[2]))
    assert save(store, Row(1, runtime, texts[3], last_used=old)) == 0
    store = opened(folder, runtime, limit)
    assert [len(loaded(store, runtime, text).tokens) for text in texts] == [100, 0, 100, 0]


def test_a_conversation_larger_than_the_limit_keeps_its_beginning_and_writing_ends(folder: Path, model: Path) -> None:
    runtime, tokens = Rows(model), random_tokens(1000)
    limit = 3 * sum(map(len, _parts(runtime, 128)))
    assert save(opened(folder, runtime, limit), Row(0, runtime, tokens)) == 3
    assert len(loaded(opened(folder, runtime, limit), runtime, tokens).tokens) == 3 * BLOCK_TOKENS


def test_room_is_made_by_the_oldest() -> None:
    known = {"a": File(10, 3), "b": File(10, 1), "c": File(10, 2)}
    assert to_go(known, 10, 40, used=9) == []
    assert to_go(known, 10, 39, used=9) == ["b"]
    assert to_go(known, 10, 25, used=9) == ["b", "c"]
    assert to_go(known, 10, 25, used=9, spared={"b"}) == ["c", "a"]
    assert to_go(known, 10, 25, used=2) is None
    assert to_go(known, 10, 9, used=9) is None


def test_there_are_no_more_files_than_can_be_looked_through(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST_FILES", 5)
    runtime = Rows(model, layout={})  # of which the tokens are kept
    store = opened(folder, runtime)
    for seed in range(9):
        save(store, Row(0, runtime, random_tokens(40, seed)))
    assert len(files(folder)) == 5
    assert [text.tolist() for text in opened(folder, runtime).texts(2)] == [random_tokens(40, s) for s in (7, 8)]
    assert not store.load(Row(0, runtime), np.asarray(random_tokens(40, 8), np.int32))


def test_a_disk_that_is_full_is_told_once_and_nothing_more_is_written(
    folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    runtime, tokens = Rows(model), random_tokens(300)
    store = opened(folder, runtime)
    store.save([Row(0, runtime, tokens)])

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "utime", full)
    save(store, Row(0, runtime, tokens))
    save(store, Row(0, runtime, random_tokens(100, 1)))
    assert "no conversations are kept" in capfd.readouterr().err.splitlines()[0]
    assert len(files(folder)) == 1 and not list(folder.glob("*.partial"))
    monkeypatch.undo()
    assert len(loaded(store, runtime, tokens).tokens) == BLOCK_TOKENS


# Who can look into them


@pytest.fixture
def wide() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@posix
@pytest.mark.usefixtures("wide")
def test_only_this_user_can_read_them_whatever_the_umask(folder: Path, model: Path) -> None:
    folder.mkdir(parents=True)  # by somebody else's hand, and open to all
    runtime = Rows(model)
    save(opened(folder, runtime), Row(0, runtime, random_tokens(300)))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


@posix
def test_a_folder_that_cannot_be_made_private_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "link", tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InvalidRequest, match=r"--keep-conversations keeps them in .*cannot be used"):
            Kept(folder, MANY)
    assert not list((tmp_path / "real").iterdir())


def _parts(runtime: Rows, tokens: int) -> list[bytes]:
    """A file of so many tokens, of about the size that others have."""
    slot = Row(0, runtime, [999] * tokens)
    block = blocks.Block.of("0" * 64, "0" * 64, np.asarray(slot.tokens, np.int32))
    return blocks.encoded(block, runtime.kv_layout, slot.values)
