"""What Quark is told, and what is left out of it: needed before Quark is imported, and without it."""

import copy
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# Parts of Quark that this recipe never calls, each costly or impossible to import: the first compiles C++ (and fails
# where there is no compiler), the second parses the source of every model in transformers to find mixtures of experts,
# the third imports datasets and pandas.
_UNUSED_MODULES: dict[str, dict[str, Any]] = {
    "quark.torch.kernel.hw_emulation.extensions": {"kernel_ext": None},
    "quark.torch.utils.llm.module_replacement.quark_experts": {},
    "quark.torch.utils.llm.data_preparation": dict.fromkeys(
        ("get_calib_dataloader", "get_loader", "get_trainer_dataset", "get_wikitext2")
    ),
}


def leave_out_unused_modules() -> None:
    """Let empty modules stand in for them, before the first import of Quark."""
    for name, attributes in _UNUSED_MODULES.items():
        module = types.ModuleType(name)
        vars(module).update(attributes)
        sys.modules[name] = module


@contextmanager
def replaced(owner: Any, **attributes: Any) -> Iterator[None]:
    """A module or a class with other attributes while this is open; its own are put back."""
    before = {name: getattr(owner, name) for name in attributes}
    for name, value in attributes.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


# Of each expert: Quark looks for such names below any module. What goes into experts goes into their router too, and
# has no scales.
IN_EXPERTS = {"prev_op": "up_proj", "layers": ["down_proj"], "inp": "down_proj"}


def scaling_what_it_can(
    algorithms: list[Any] | None, unscaled: Sequence[str], experts: bool = False
) -> list[Any] | None:
    """Quark's settings of its algorithms, copied, without scales between these modules and what follows them.

    The layers are where a text model has them, also in a family whose whole models see too. experts: in the MLP's
    place.
    """
    copied = copy.deepcopy(algorithms)
    for algorithm in copied or []:
        algorithm.model_decoder_layers = "model.layers"
        if algorithm.name == "awq":
            algorithm.scaling_layers = [part for part in algorithm.scaling_layers if part["prev_op"] not in unscaled]
            if experts:
                attention = [part for part in algorithm.scaling_layers if part["inp"].startswith("self_attn.")]
                between = [IN_EXPERTS] if IN_EXPERTS["prev_op"] not in unscaled else []
                algorithm.scaling_layers = [*attention, *between]
    return copied
