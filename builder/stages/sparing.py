"""OGA's model builder with one decoder layer in memory at a time.

By itself it loads all layers, repacks them, and copies the graph with all weights before it writes any. Here its own
loader is given the tensors of one layer, and what the graph then has of them moves to a file before the next layer;
from there they are copied into the model that it saves, which has the same bytes. Only a few attributes of its base
classes are used, as of onnxruntime-genai 0.18.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from builder.checkpoint.checkpoint import Checkpoint
from builder.checkpoint.weights import layer_of
from builder.stages import mixers, model_builder
from builder.stages.gptq_format import as_first_format


@contextlib.contextmanager
def layer_by_layer(checkpoint: Checkpoint, moved: Path) -> Iterator[None]:
    """Let the model builder load this checkpoint so. moved: the file to make, needed until the model is saved."""
    builders, loaders = model_builder.module("builders.base"), model_builder.module("loaders.base")
    load_weights, load_file = builders.Model.load_weights, loaders.load_file
    parts, renames = parts_of(checkpoint), checkpoint.model.family.tensor_names
    quantization = checkpoint.quantization

    def load_by_layer(model: Any, folder: str) -> LoadedInTurn:
        def load(part: int | None) -> Any:
            aside: dict[str, Any] = {}

            def read(file: str) -> dict[str, Any]:
                tensors = load_tensors(Path(file), parts[part, Path(file).name], renames)
                return mixers.readable(as_first_format(tensors, quantization), aside)

            loaders.load_file = read
            loaded = load_weights(model, folder)
            for layer in loaded.layers:
                mixers.put_together(layer, aside, loaders.TensorModule)
            return loaded

        return LoadedInTurn(load, checkpoint.model.shape.layers, lambda: move(model.model.graph, moved_to))

    with moved.open("xb") as moved_to:
        builders.Model.load_weights = load_by_layer
        try:
            yield
        finally:
            builders.Model.load_weights, loaders.load_file = load_weights, load_file


def told_name(name: str, renames: Collection[tuple[str, str]]) -> str:
    """What the model builder calls a tensor: the renames follow one another."""
    for part, replacement in renames:
        name = name.replace(part, replacement)
    return name


class LoadedInTurn:
    """Stands in for the model builder's loaded model, and yields its parts in the order of the graph."""

    def __init__(self, load: Callable[[int | None], Any], layers: int, move: Callable[[], None]) -> None:
        """load: a part, a layer or with None all that is in no layer. move: what the graph has, out of memory."""
        self._load, self._count, self._move = load, layers, move
        ends = load(None)
        self.embedding, self.final_norm, self.lm_head = ends.embedding, ends.final_norm, ends.lm_head

    def modules(self) -> Iterator[Any]:
        yield self.embedding
        self._move()
        for number in range(self._count):
            (layer,) = self._load(number).layers
            yield layer
            self._move()
        yield self.final_norm
        yield self.lm_head
        self._move()


def parts_of(checkpoint: Checkpoint) -> Mapping[tuple[int | None, str], list[str]]:
    """Names of tensors by layer, None for those of no layer, and by file."""
    parts: defaultdict[tuple[int | None, str], list[str]] = defaultdict(list)
    for name, tensor in checkpoint.weights.tensors.items():
        layer, _ = layer_of(name)
        parts[layer, tensor.file].append(name)
    return parts


def load_tensors(file: Path, names: Collection[str], renames: Collection[tuple[str, str]]) -> dict[str, Any]:
    """Tensors of a file, by the names that the model builder knows. The file is mapped as long as one of them lives."""
    from safetensors import safe_open

    if not names:
        return {}
    with safe_open(file, "pt") as content:
        return {told_name(name, renames): content.get_tensor(name) for name in names}


def move(graph: Any, file: BinaryIO) -> None:
    """Write initializers that are in memory to the end of a file, and let the graph refer to it."""
    import onnx_ir

    for value in graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, onnx_ir.ExternalTensor):
            continue
        offset = file.tell()
        tensor.tofile(file)
        value.const_value = onnx_ir.ExternalTensor(
            file.name, offset, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=tensor.name
        )
    file.flush()
