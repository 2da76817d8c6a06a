"""Rounding by what inputs make of the errors: better than rounding to nearest, and towards the original outputs."""

from collections.abc import Iterator
from copy import deepcopy
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from builder.checkpoint.checkpoint import read_folder
from builder.checkpoint.families import FAMILIES
from builder.recipe import GPTAQ_DAMPING
from builder.stages.gptaq import LINEARS
from builder.stages.gptaq_rounding import SHRUNK, nearest, round_weight, searched, towards_original
from builder.stages.quark_settings import leave_out_unused_modules
from tests.family_cases import CASES, config_of
from tests.family_chain import make_checkpoint

GROUP, ROWS, COLUMNS, TOKENS = 32, 24, 96, 400


@pytest.fixture
def weight() -> Tensor:
    """Rows with a few weights that are much larger than the others."""
    torch.manual_seed(0)
    return torch.randn(ROWS, COLUMNS) * torch.randn(ROWS, COLUMNS).exp()


@pytest.fixture
def inputs() -> Tensor:
    """Inputs that depend on each other, some of them much larger than others: [tokens, columns]."""
    torch.manual_seed(1)
    return torch.randn(TOKENS, COLUMNS // 3) @ torch.randn(COLUMNS // 3, COLUMNS) * torch.randn(COLUMNS).exp()


def lost(weight: Tensor, other: Tensor, inputs: Tensor) -> float:
    return float((inputs @ (weight - other).T).square().mean())


def nearest_in(weight: Tensor, scales: Tensor, zero_points: Tensor, bits: int = 4) -> Tensor:
    by_column = [table.repeat_interleave(GROUP, 1) for table in (scales, zero_points)]
    return nearest(weight, *by_column, 2**bits - 1)


# The arithmetic


def test_of_the_ranges_that_are_tried_the_one_that_loses_least_is_taken(weight: Tensor) -> None:
    part, importance = weight[:, :GROUP], torch.randn(GROUP).exp()

    def losses(scale: Tensor, zero_point: Tensor) -> Tensor:
        return (nearest(part, scale, zero_point, 15) - part).square() @ importance

    low, high = part.amin(1, keepdim=True).clamp(max=0), part.amax(1, keepdim=True).clamp(min=0)
    tried = []
    for share in SHRUNK:
        scale = (high - low) * share / 15
        tried.append(losses(scale, (-low * share / scale).round()))
    found = losses(*searched(part, importance, 15))
    assert torch.allclose(found, torch.stack(tried).amin(0), rtol=1e-4)
    assert (found < 0.99 * tried[0]).sum() > ROWS / 2


def test_a_group_of_zeros_stays_zeros() -> None:
    scale, zero_point = searched(torch.zeros(3, GROUP), torch.ones(GROUP), 15)
    assert not nearest(torch.zeros(3, GROUP), scale, zero_point, 15).any()


@pytest.mark.parametrize("bits", [4, 8])
def test_columns_that_are_left_make_up_for_those_that_were_rounded(weight: Tensor, inputs: Tensor, bits: int) -> None:
    rounded = round_weight(weight, inputs.T @ inputs, GROUP, bits, 0.01)
    plain = nearest_in(weight, rounded.scales, rounded.zero_points, bits)
    assert lost(weight, rounded.values, inputs) < 0.5 * lost(weight, plain, inputs)


def test_what_is_rounded_can_be_stored(weight: Tensor, inputs: Tensor) -> None:
    rounded = round_weight(weight, inputs.T @ inputs, GROUP, 4, 0.01)
    assert rounded.scales.shape == rounded.zero_points.shape == (ROWS, COLUMNS // GROUP)
    again = nearest_in(rounded.values, rounded.scales, rounded.zero_points)
    assert torch.allclose(again, rounded.values, rtol=1e-4)
    assert set(rounded.zero_points.unique().tolist()) <= set(range(16))


def test_a_weight_moves_to_where_its_outputs_are_the_original_ones(weight: Tensor, inputs: Tensor) -> None:
    original = inputs + 0.3 * inputs.roll(1, 1)
    moved = towards_original(weight, inputs.T @ inputs, (original - inputs).T @ inputs, 1e-6)
    wanted = original @ weight.T
    left, before = (float((inputs @ w.T - wanted).square().mean()) for w in (moved, weight))
    best = torch.linalg.lstsq(inputs.double(), wanted.double(), driver="gelsd").solution
    assert left < 1.05 * float((inputs.double() @ best - wanted).square().mean()) + 1e-3 * before
    assert left < 0.5 * before


def test_without_drift_a_weight_stays_where_it_is(weight: Tensor, inputs: Tensor) -> None:
    assert torch.equal(towards_original(weight, inputs.T @ inputs, torch.zeros(COLUMNS, COLUMNS), 0.01), weight)


def test_inputs_of_another_kind_lose_less_than_with_quarks_damping(weight: Tensor, inputs: Tensor) -> None:
    """Those that depend on each other in other ways than what it was calibrated on."""
    torch.manual_seed(2)
    others = inputs + torch.randn(TOKENS, COLUMNS // 3) @ torch.randn(COLUMNS // 3, COLUMNS) * inputs.std(0) / 5
    ours, quarks = (round_weight(weight, inputs.T @ inputs, GROUP, 4, damping) for damping in (GPTAQ_DAMPING, 0.01))
    assert lost(weight, ours.values, others) < 0.95 * lost(weight, quarks.values, others)


# In Quark


@pytest.fixture(scope="module")
def quark() -> Iterator[Any]:
    """Quark as the build's stage imports it: without its compilers."""
    leave_out_unused_modules()
    from quark.torch.quantization import tensor_quantize

    from builder.stages import quark

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensor_quantize, "QUARK_DISABLE_COMPILE", True)
        yield quark


def in_quark(quark: Any, folder: Path, algorithm: str, calibration: list[Tensor], originals: list[Tensor]) -> Any:
    """A model with the first layer, quantized, and what Quark's algorithm says that it makes of the calibration."""
    from builder.stages.decoder import Decoder

    checkpoint = read_folder(folder)
    knobs = {"quant_algo": algorithm, "group_size": GROUP, "exclude_layers": ["lm_head"]}
    return quark.quantize(
        Decoder(checkpoint, "float32").layer(0),
        quark.config_of(checkpoint.model.family, knobs),
        calibration,
        "quark",
        originals,
    )


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two layers."""
    folder = tmp_path_factory.mktemp("llama")
    make_checkpoint(CASES["llama"], 3, folder)
    return folder


def test_a_layer_makes_up_for_what_earlier_ones_lost(quark: Any, llama: Path) -> None:
    from builder.stages.decoder import Decoder

    torch.manual_seed(4)
    originals = [torch.randn(1, 64, 128) for _ in range(12)]
    mixing = torch.eye(128) + 0.03 * torch.randn(128, 128)
    calibration, whole = [states @ mixing for states in originals], Decoder(read_folder(llama), "float32").layer(0)
    with torch.no_grad():
        wanted = torch.cat([whole(states) for states in originals])
        error = {}
        for algorithm in ("none", "gptq", "gptaq"):
            given = originals if algorithm == "gptaq" else []
            model, outputs = in_quark(quark, llama, algorithm, calibration, given)
            made = torch.cat([model(states) for states in calibration])
            error[algorithm] = float((made - wanted).square().mean())
            if algorithm != "none":
                assert torch.allclose(torch.cat(outputs), made, atol=1e-4)
    assert error["gptaq"] < 0.9 * error["gptq"] < 0.9 * error["none"]


def test_inputs_that_are_always_zero_are_no_obstacle(quark: Any, llama: Path) -> None:
    originals = [torch.randn(1, 32, 128) for _ in range(2)]
    for states in originals:
        states[..., 5] = 0
    model, _ = in_quark(quark, llama, "gptaq", deepcopy(originals), originals)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("case", CASES)
def test_every_linear_of_a_layer_is_rounded_once(case: str) -> None:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        layer = AutoModelForCausalLM.from_config(config_of(CASES[case])).model.layers[0]
    left = FAMILIES[CASES[case].model_type].unquantized
    names = [
        name
        for name, module in layer.named_modules()
        if isinstance(module, torch.nn.Linear) and not any(fnmatch(f"layer.{name}", pattern) for pattern in left)
    ]
    assert len(names) >= 4
    assert [sum(fnmatch(name, f"*{pattern}") for pattern in LINEARS) for name in names] == [1] * len(names)
