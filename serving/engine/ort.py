"""The only file that imports onnxruntime: the exported graph on the CPU, several conversations in one forward pass.

OGA batches on the CPU only what starts and ends together, and gives no logits then. The graph can do more: its
attention (GroupQueryAttention) takes a length for every row, and keys and values stay where they are bound. So the
conversations here are rows of one tensor per layer, and those that decode are one batch, whatever their lengths. The KV
cache grows without being computed again, and a prefix that two conversations share is copied.
"""

import mmap
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from serving.engine.blocks import Layout, Values
from serving.engine.prefix import capacity_for
from serving.engine.runtime import NO_DENORMALS, Logits, Runtime, Slot, heads_at_once
from serving.errors import InvalidRequest, ModelFolderError
from serving.folder import ModelFolder
from serving.types import TokenIds

CAPACITY_STEP = 1024  # rows begin with room for this many tokens where the window's addresses are not to be had
KV_STEP = 128  # memory is accounted for in steps of this many tokens
KEPT_LOGITS = 16  # positions of the last pass; more than a guess has
_TYPES: dict[str, np.dtype[Any]] = {"tensor(float)": np.dtype(np.float32), "tensor(float16)": np.dtype(np.float16)}


class OrtRuntime(Runtime):
    """An OGA export in an ONNX Runtime session on the CPU, with all KV caches beside each other."""

    copies = True

    def __init__(
        self, folder: ModelFolder, context_length: int | None = None, threads: int = 1, *, deterministic: bool = False
    ) -> None:
        """deterministic: an even number of tokens in every pass, of one conversation: attention over a batch rounds
        in its own way. Raises InvalidRequest for a graph of another make.
        """
        self.folder = folder
        self.context_length = folder.window(context_length)
        if folder.turn and folder.turn <= self.context_length:  # all rows have as much room as the longest
            self.context_length = folder.turn - 1
            self.notes += (f"with --runtime ort, this model's window is {self.context_length:,} tokens.",)
        self.vocab_size = folder.vocab_size
        self.deterministic = deterministic
        self.heads = heads_at_once(folder)
        self.batches = not deterministic
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        for name, value in NO_DENORMALS.items():
            options.add_session_config_entry(name, value)
        options.log_severity_level = 4  # what fails is raised
        try:
            self._session: Any = ort.InferenceSession(str(folder.graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own kinds, which it does not export
            raise ModelFolderError(f"{folder.graph} does not load in ONNX Runtime: {error}") from error
        inputs = {entry.name: entry for entry in self._session.get_inputs()}
        self._positions = "position_ids" in inputs
        past = {
            name: entry for name, entry in inputs.items() if re.fullmatch(r"past_key_values\.\d+\.(key|value)", name)
        }
        unknown = inputs.keys() - past.keys() - {"input_ids", "attention_mask", "position_ids"}
        if unknown or not folder.shared_kv or any(entry.type not in _TYPES for entry in past.values()):
            raise InvalidRequest(
                f"{folder.path} cannot decode several conversations at once (unknown inputs: {sorted(unknown)}, "
                f"KV cache in place: {folder.shared_kv}): start with --runtime oga."
            )
        (logits,) = (entry for entry in self._session.get_outputs() if entry.name == "logits")
        if logits.shape[1] == 1:
            raise InvalidRequest(f"{folder.path} gives logits of the last token only: start with --runtime oga.")
        head_sizes = {n: e.shape[3] if isinstance(e.shape[3], int) else folder.head_size for n, e in past.items()}
        self.kv_layout = {n: (_TYPES[e.type], int(e.shape[1]), head_sizes[n]) for n, e in past.items()}
        self.made_by = f"onnxruntime {ort.__version__}" + (", no tiles" if self.heads else "")
        if deterministic:
            self.made_by += f", even, {threads} threads"
        self._kv = _KVRows(self.kv_layout)
        self.kv_bytes_per_token = self._kv.bytes_per_token
        self._bindings: dict[tuple[int, int], Any] = {}
        self._rows: list[Row] = []  # by their place in the tensors
        warm = self.slot(0)
        warm.reserve(1)
        self.forward([(warm, np.zeros(1, dtype=np.int32))])
        self._rows.clear()
        self._kv.drop(0)

    def close(self) -> None:
        self._session = None
        self._bindings.clear()
        self._kv.arrays.clear()

    def slot(self, index: int) -> "Row":
        row = Row(index, self, len(self._rows))
        self._rows.append(row)
        return row

    def forward(self, batch: Sequence[tuple[Slot, TokenIds]]) -> None:
        wanted = {slot: tokens for slot, tokens in batch if isinstance(slot, Row)}
        if len(wanted) > 1:
            self._gather(wanted)
        rows = sorted(wanted, key=lambda row: row.place)
        tokens = np.stack([wanted[row] for row in rows]).astype(np.int64)
        lengths = np.asarray([len(row.tokens) for row in rows])
        if self.deterministic and tokens.size % 2:
            # An odd number of tokens goes through another kernel, whose int8 rounding differs.
            tokens = np.concatenate([tokens, tokens[:, -1:]], axis=1)
        logits = self._run(rows[0].place, tokens, lengths)
        for row, after in zip(rows, logits, strict=True):
            row.extend(wanted[row], after)

    def _run(self, first: int, tokens: NDArray[np.int64], lengths: NDArray[np.int64]) -> Logits:
        """Logits [rows, n, vocab] of one pass over `tokens` [rows, n]; the rows hold `lengths` [rows] tokens before."""
        count, n = tokens.shape
        ends = lengths + n
        mask = (np.arange(ends.max()) < ends[:, None]).astype(np.int64)
        logits = np.empty((count, n, self.vocab_size), dtype=np.float32)
        binding = self._bindings.get((first, count))
        if binding is None:
            binding = self._bindings[first, count] = self._session.io_binding()
            for name, values in self._kv.arrays.items():
                part = values[first : first + count]
                _bind(binding.bind_input, name, part)
                _bind(binding.bind_output, name.replace("past_key_values", "present"), part)
        _bind(binding.bind_input, "input_ids", tokens := np.ascontiguousarray(tokens))
        _bind(binding.bind_input, "attention_mask", mask)
        if self._positions:
            positions = lengths[:, None] + np.arange(n)
            _bind(binding.bind_input, "position_ids", positions)
        _bind(binding.bind_output, "logits", logits)
        self._session.run_with_iobinding(binding)
        return logits

    def _gather(self, rows: Iterable["Row"]) -> None:
        """Move rows so that these stand side by side, from the first place on."""
        moved = {row.place for row in rows}
        for place in range(len(moved)):
            if place not in moved:
                outside = max(moved)
                self._swap(place, outside)
                moved = moved - {outside} | {place}

    def _swap(self, a: int, b: int) -> None:
        one, other = self._rows[a], self._rows[b]
        self._kv.swap(a, len(one.tokens), b, len(other.tokens))
        one.place, other.place = b, a
        self._rows[a], self._rows[b] = other, one

    def grow(self, tokens: int) -> None:
        """Room for `tokens` in every row; what the rows hold stays."""
        rows, tokens = len(self._rows), min(tokens, self.context_length + 1)
        if tokens > self._kv.capacity or rows > self._kv.rows:
            held, whole = [len(row.tokens) for row in self._rows], self.context_length + 1
            self._bindings.clear()
            try:  # addresses for the whole window cost nothing, and no row is ever copied for want of room
                self._kv.grow(whole, held)
            except (OSError, MemoryError):  # a limit on addresses, or a system that counts them as memory
                self._kv.grow(capacity_for(tokens, whole, max(CAPACITY_STEP, self._kv.capacity)), held)

    def drop(self, place: int) -> None:
        """Give a row's memory back."""
        self._kv.drop(place)

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Copy the keys and values of the first `tokens` from one row to another."""
        self._kv.copy(source, target, tokens)

    def values(self, place: int) -> Values:
        """A row's keys and values, to read and to write."""
        return {name: array[place] for name, array in self._kv.arrays.items()}


class Row(Slot):
    """One row of the KV tensors. place: which one, at the moment."""

    def __init__(self, index: int, runtime: OrtRuntime, place: int) -> None:
        super().__init__(index)
        self.place = place
        self._runtime = runtime
        self._logits: Logits = np.empty((0, 0), dtype=np.float32)
        self._touched = 0

    @property
    def kv_tokens(self) -> int:
        return self._touched

    def kv_tokens_for(self, tokens: int) -> int:
        return max(self._touched, -(-(tokens + 1) // KV_STEP) * KV_STEP)  # one more pads a pass

    def fits(self, tokens: int) -> bool:
        return self.kv_tokens_for(tokens) <= self._touched

    def reserve(self, tokens: int) -> None:
        self._touched = self.kv_tokens_for(tokens)
        self._runtime.grow(self._touched)

    def drop(self) -> None:
        self.tokens = []
        self._touched = 0
        self._runtime.drop(self.place)

    def rewind(self, keep: int) -> int:
        del self.tokens[keep:]
        return len(self.tokens)

    def take(self, other: Slot, tokens: int) -> None:
        """Hold the first `tokens` of another row too."""
        assert isinstance(other, Row)
        self._runtime.copy(other.place, self.place, tokens)
        self.tokens = other.tokens[:tokens]

    def stored(self, begin: int, end: int) -> Values:
        return {name: array[:, begin:end] for name, array in self._runtime.values(self.place).items()}

    def restore(self, tokens: TokenIds, values: Values) -> None:
        begin, end = len(self.tokens), len(self.tokens) + tokens.size
        for name, array in self._runtime.values(self.place).items():
            array[:, begin:end] = values[name][:, : tokens.size]
        self.tokens.extend(tokens.tolist())

    def logits(self, last: int = 1) -> Logits:
        return self._logits[-last:]

    def extend(self, tokens: TokenIds, logits: Logits) -> None:
        """These tokens [n] are in the KV cache now; logits [n or more, vocab] came out."""
        self.tokens.extend(tokens.tolist())
        logits = logits[: tokens.size]
        # Those of a whole chunk of prefill are 39 MB for a vocabulary of 152,000, and hardly anybody asks for them.
        whole = self.keeps_all or tokens.size <= KEPT_LOGITS
        self._logits = logits if whole else logits[-KEPT_LOGITS:].copy()


class _KVRows:
    """Keys and values: for each name an array [rows, heads, capacity, head size]. Memory is taken as it is written."""

    def __init__(self, layout: Layout) -> None:
        """layout: type, heads and head size by name."""
        self.rows = self.capacity = 0
        self.arrays: dict[str, NDArray[Any]] = {}
        self._maps: dict[str, mmap.mmap] = {}
        self._layout = layout
        self.bytes_per_token = sum(kind.itemsize * heads * size for kind, heads, size in layout.values())

    def grow(self, capacity: int, lengths: Sequence[int]) -> None:
        """A row for each of `lengths`, with room for `capacity` tokens; the first `length` stay. Layer by layer."""
        sizes = {name: (len(lengths), heads, capacity, size) for name, (_, heads, size) in self._layout.items()}
        fresh = {
            name: _addresses(int(np.prod(shape)) * self._layout[name][0].itemsize) for name, shape in sizes.items()
        }
        self.rows, self.capacity = len(lengths), capacity
        for name, (kind, _, _) in self._layout.items():
            memory, shape = fresh.pop(name), sizes[name]
            array = np.frombuffer(memory, dtype=kind).reshape(shape)
            for row, length in enumerate(lengths):
                if length:
                    array[row, :, :length] = self.arrays[name][row, :, :length]
            self.arrays[name], self._maps[name] = array, memory

    def drop(self, row: int) -> None:
        """Give a row's memory back, where the system can take a part of it."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        for name, array in self.arrays.items():
            start, stop = row * array[0].nbytes, (row + 1) * array[0].nbytes
            first, last = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, stop // mmap.PAGESIZE * mmap.PAGESIZE
            if first < last:
                self._maps[name].madvise(mmap.MADV_DONTNEED, first, last - first)

    def copy(self, source: int, target: int, tokens: int) -> None:
        """The first `tokens` of one row, also in another."""
        for array in self.arrays.values():
            array[target, :, :tokens] = array[source, :, :tokens]

    def swap(self, a: int, tokens_a: int, b: int, tokens_b: int) -> None:
        """Exchange two rows, of which the first tokens count."""
        for array in self.arrays.values():
            kept = array[a, :, :tokens_a].copy()
            array[a, :, :tokens_b] = array[b, :, :tokens_b]
            array[b, :, :tokens_a] = kept


def _addresses(size: int) -> mmap.mmap:
    """So many bytes, of which memory is taken when they are written. Raises OSError where they are not to be had."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size)
    # Of private ones a part can be given back; shared ones, which are the default, are kept as a file is.
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    memory = mmap.mmap(-1, size, flags=flags)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):  # a huge page would be taken whole for one token of it
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


def _bind(bind: Any, name: str, array: NDArray[Any]) -> None:
    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
