"""Which runtime serves a model: OGA's Generators, or batches in ONNX Runtime; at the start, and once several ask."""

import gc
import sys
from collections.abc import Callable

from serving.engine.memory import shares, usual_limit
from serving.engine.runtime import Runtime
from serving.errors import InvalidRequest, ServingError
from serving.folder import ModelFolder
from serving.hardware import usable_cores
from serving.types import EngineSettings


def load_runtime(folder: ModelFolder, settings: EngineSettings) -> Runtime:
    """The runtime that the settings ask for.

    `auto` batches, where the export allows it, if others can reach the server, if conversations are kept, as only there
    their keys and values can be, or if memory is short, as only there a KV cache grows as it is.

    Raises InvalidRequest for a provider, or an export, that what was asked for by name cannot use; ModelFolderError.
    """
    if settings.runtime == "ort":
        if folder.provider != "cpu":
            raise InvalidRequest(f"--runtime ort needs a model that was built for the CPU, not for {folder.provider}.")
        return _batching(folder, settings)
    if may_batch(folder, settings) and (settings.shared or settings.keep or not holds_window(folder, settings)):
        try:
            return _batching(folder, settings)
        except InvalidRequest:  # a graph of another make: `auto` takes what there is
            gc.collect()
    return _taking_turns(folder, settings)


def may_batch(folder: ModelFolder, settings: EngineSettings) -> bool:
    """Whether `auto` may batch. Of an export that looks as if it could be used, the graph has the last word."""
    on_cpu = folder.provider == "cpu" and settings.provider in ("auto", "cpu")
    one_way = folder.turn is None or folder.window(settings.context_length) < folder.turn  # batches end before the turn
    return settings.runtime == "auto" and on_cpu and folder.shared_kv and one_way and not settings.deterministic


def holds_window(folder: ModelFolder, settings: EngineSettings) -> bool:
    """Whether memory suffices for KV caches that begin with the whole window, and never have to be computed again."""
    window, limit = folder.window(settings.context_length), settings.kv_memory or usual_limit()
    return window <= shares(limit, settings.slots, settings.parallel, folder.kv_bytes_per_token, window).tokens


def successor(folder: ModelFolder, settings: EngineSettings, runtime: Runtime) -> Callable[[], Runtime] | None:
    """What loads the runtime that is to take over once two answers are wanted at a time; None where none is."""
    if runtime.batches or not may_batch(folder, settings):
        return None

    def load() -> Runtime:
        """The one that batches, or the same as before where that cannot be had."""
        try:
            loaded = _batching(folder, settings)
        except (ServingError, RuntimeError, MemoryError) as error:
            print(f"note: answers go on taking turns: {error}", file=sys.stderr, flush=True)
            gc.collect()
            return _taking_turns(folder, settings)
        print("note: several answers were wanted at a time: from now on they are batched.", file=sys.stderr, flush=True)
        return loaded

    return load


# Imported there: each of them loads a native library.


def _batching(folder: ModelFolder, settings: EngineSettings) -> Runtime:
    from serving.engine.ort import OrtRuntime

    return OrtRuntime(folder, settings.context_length, _threads(settings), deterministic=settings.deterministic)


def _taking_turns(folder: ModelFolder, settings: EngineSettings) -> Runtime:
    from serving.engine.oga import OgaRuntime

    threads, deterministic = _threads(settings), settings.deterministic
    return OgaRuntime(folder, settings.context_length, threads, deterministic=deterministic, provider=settings.provider)


def _threads(settings: EngineSettings) -> int:
    return usable_cores() if settings.threads is None else settings.threads
