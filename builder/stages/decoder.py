"""A checkpoint's decoder, of which one layer at a time is in memory. Only stages that compute with it import this.

transformers makes every module, and says with what each layer is called (its mask, its rotary embedding): what is
computed has the bits that the whole model gives. In the place of packed weights are those that they stand for.
"""

import copy
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from builder.checkpoint import told
from builder.checkpoint.checkpoint import Checkpoint
from builder.checkpoint.packed import NAMES, has_packed_head
from builder.checkpoint.quantization import Packing
from builder.checkpoint.text_part import RENAMES
from builder.checkpoint.weights import layer_of
from builder.errors import SourceError
from builder.stages import mxfp4
from builder.stages.dequantize import dequantized
from builder.stages.experts import apart, split
from builder.stages.sparing import told_name

_FEW_TOKENS = 16  # in the table of a model that holds one layer


class Ends:
    """A model without its layers: embeddings, the last norm, the output layer."""

    def __init__(self, model: Any, config: Any) -> None:
        self.model, self._config = model, config

    def embed(self, token_ids: Tensor) -> Tensor:
        """What goes into the first layer: [1, length] -> [1, length, hidden]."""
        stub = _Stub()
        _hold(self.model, stub, _kind(self._config, 0))
        with torch.no_grad():
            self.model.model(input_ids=token_ids.to(self.model.device), use_cache=False)
        return stub.seen

    def logits(self, states: Tensor) -> Tensor:
        """What the last layer's outputs mean: [1, length, hidden] -> [1, length, vocabulary]."""
        states = states.to(self.model.device)
        _hold(self.model, _Stub(states), _kind(self._config, 0))
        with torch.no_grad():
            logits: Tensor = self.model(inputs_embeds=states, use_cache=False).logits
        return logits

    def untie(self) -> None:
        """Let the output layer have weights of its own: rounding them then leaves the embeddings as they are."""
        head = self.model.lm_head
        head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)

    def bare(self) -> Any:
        """The model with nothing between its ends, and the configuration of the whole one."""
        self.model.model.layers = nn.ModuleList()
        vars(self.model.config).update(vars(copy.deepcopy(self._config)))
        return self.model


class Decoder:
    """The layers of a checkpoint, loaded in `data_type`, a torch dtype name, onto a device."""

    def __init__(self, checkpoint: Checkpoint, data_type: str, device: str = "cpu") -> None:
        self._checkpoint, self._dtype, self._device = checkpoint, getattr(torch, data_type), torch.device(device)
        self._config, self._experts = config_of(checkpoint), checkpoint.model.family.experts
        with torch.device("meta"):
            whole = AutoModelForCausalLM.from_config(copy.deepcopy(self._config), dtype=self._dtype).eval()
        self._class = type(whole)
        self._layers: list[Any] = list(whole.model.layers)

    def __len__(self) -> int:
        return len(self._layers)

    def ends(self) -> Ends:
        """What is before the layers and after them."""
        path, config = self._checkpoint.path, _without_layers(self._config)
        renames = RENAMES if self._checkpoint.model.part_of else None
        model = self._class.from_pretrained(path, config=config, dtype=self._dtype, key_mapping=renames)
        if self._checkpoint.quantization and has_packed_head(self._checkpoint):
            model.lm_head.weight = nn.Parameter(self._tensors(None)["lm_head.weight"], requires_grad=False)
        return Ends(model.eval().requires_grad_(False).to(self._device), self._config)

    def layer(self, number: int) -> Any:
        """A model that holds this layer only, and whose forward is the layer's: [1, length, hidden] states in and out.

        They have the type of its weights, which may be changed for a while (see product_type.py).

        Each can be had once. Raises SourceError where the checkpoint lacks one of its tensors.
        """
        layer, self._layers[number] = self._layers[number], None
        if self._experts:
            layer = apart(layer)
        missing = layer.load_state_dict(self._tensors(number), strict=False, assign=True).missing_keys
        if missing:
            raise SourceError(
                f"{self._checkpoint.path} has no {', '.join(missing)} for layer {number}: it is not whole."
            )
        config = _without_layers(self._config)
        config.vocab_size, config.pad_token_id = _FEW_TOKENS, None
        model = self._class(config).to(self._dtype).eval().requires_grad_(False)
        kind, known = _kind(self._config, number), {}

        def forward(states: Tensor, **_: Any) -> Tensor:
            states = states.to(self._device)
            alike = states.shape, states.dtype
            if alike not in known:
                _hold(model, stub := _Stub(), kind)
                model.model(inputs_embeds=torch.zeros_like(states), use_cache=False)
                known[alike] = stub.arguments
                _hold(model, layer, kind)
            output: Tensor | tuple[Tensor, ...] = layer(states, **known[alike])
            return output[0] if isinstance(output, tuple) else output

        _hold(model, layer.requires_grad_(False), kind)
        model.forward = forward
        return model.to(self._device)

    def _tensors(self, number: int | None) -> dict[str, Tensor]:
        """A layer's tensors by their names in it, in memory of their own; with None those of a packed output layer."""
        files: dict[str, dict[str, str]] = {}
        for name, tensor in self._checkpoint.weights.tensors.items():
            layer, own = layer_of(name)
            if layer == number and (number is not None or own.startswith("lm_head.")):
                files.setdefault(tensor.file, {})[name] = own
        tensors: dict[str, Tensor] = {}
        for file, names in files.items():
            with safe_open(self._checkpoint.path / file, framework="pt") as content:
                tensors |= {own: content.get_tensor(name) for name, own in names.items()}
        if self._checkpoint.quantization:
            tensors = _unpacked(tensors, self._checkpoint.quantization.packing)
        if self._experts:
            tensors = mxfp4.whole(tensors, self._dtype)
        unpacked = self._checkpoint.quantization is not None  # and so not of the file any more
        tensors = {own: tensor.to(self._dtype, copy=not unpacked) for own, tensor in tensors.items()}
        if self._experts:
            return split({told_name(own, self._experts.names): tensor for own, tensor in tensors.items()})
        return tensors


def config_of(checkpoint: Checkpoint) -> Any:
    """transformers' configuration of the text model."""
    if checkpoint.model.part_of:
        return AutoConfig.for_model(**told.own_config(checkpoint.model))
    config = AutoConfig.from_pretrained(checkpoint.path)
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # else transformers asks for the library that wrote it
    return config


def _unpacked(tensors: dict[str, Tensor], packing: Packing) -> dict[str, Tensor]:
    """Tensors, those of each packed linear replaced by the weight that they stand for."""
    end = f".{NAMES[packing][0]}"
    packed = [
        name.removesuffix(end)
        for name, tensor in tensors.items()
        if name.endswith(end) and tensor.dtype in (torch.int32, torch.uint8)
    ]
    unpacked = dict(tensors)
    for name in packed:
        own = {key: unpacked.pop(key) for key in tensors if key.startswith(f"{name}.") and not key.endswith(".bias")}
        arrays = {key: (t.float() if t.is_floating_point() else t).numpy() for key, t in own.items()}
        unpacked[f"{name}.weight"] = torch.from_numpy(dequantized(arrays, name, packing))
    return unpacked


class _Stub(nn.Module):
    """Stands in for a layer: remembers what it was called with, and answers with `states` where they are given.

    What Gemma 4's layers are called with besides, by its place, is None in the models that are supported.
    """

    def __init__(self, states: Tensor | None = None) -> None:
        super().__init__()
        self.states = states

    def forward(self, hidden_states: Tensor, *_: None, **arguments: Any) -> Tensor:
        self.seen, self.arguments = hidden_states, arguments
        return hidden_states if self.states is None else self.states


def _hold(model: Any, layer: Any, kind: str | None) -> None:
    """Let a layer be all that the model has."""
    model.model.layers = nn.ModuleList([layer])
    model.config.num_hidden_layers = 1
    if hasattr(model.model, "first_kv_shared_layer_idx"):  # of Gemma 4: from there on, keys and values are shared
        model.model.first_kv_shared_layer_idx = 1
    if kind is not None:
        model.config.layer_types = [kind]


def _kind(config: Any, number: int) -> str | None:
    """Of a layer, in families that have several kinds."""
    kinds = getattr(config, "layer_types", None)
    return kinds[number] if kinds else None


def _without_layers(config: Any) -> Any:
    bare = copy.deepcopy(config)
    bare.num_hidden_layers = 0  # its layer_types stay: masks and rotary embeddings are made for all of them
    return bare
