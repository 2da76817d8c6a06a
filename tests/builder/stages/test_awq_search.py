"""The searches that stand in for Quark's find what Quark's find, on what they are about, from less."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import Linear, Module

from builder.checkpoint.families import FAMILIES
from builder.errors import StageFailed
from builder.stages import awq_scales, awq_search
from builder.stages.awq_clip import best_clips
from builder.stages.awq_inputs import Features, Inputs
from builder.stages.awq_rounding import round_scaled
from builder.stages.awq_search import searches
from builder.stages.quark_settings import leave_out_unused_modules, scaling_what_it_can
from tests.family_cases import CASES
from tests.family_chain import make_checkpoint

GROUP, SAMPLES, LENGTH = 32, 12, 64
HEADS, SHARED_HEADS = 4, 2


@pytest.fixture(scope="module", autouse=True)
def quark() -> Iterator[None]:
    """Quark as the build's stage imports it: without its compilers."""
    leave_out_unused_modules()
    from quark.torch.quantization import tensor_quantize

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensor_quantize, "QUARK_DISABLE_COMPILE", True)
        yield


@pytest.fixture(scope="module")
def llama() -> Module:
    """Two layers with grouped-query attention, and inputs some of which are much larger than others."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=96, hidden_size=128, intermediate_size=160, num_hidden_layers=2, num_attention_heads=HEADS,
        num_key_value_heads=SHARED_HEADS, head_dim=32,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data * torch.randn_like(parameter[:1] if parameter.dim() > 1 else parameter).exp()
        if name.endswith(("v_proj.weight", "up_proj.weight")):
            parameter.data = parameter.data * torch.randn(len(parameter), 1).exp() * 4
    return model


def quantized(model: Module, family: str = "llama") -> Any:
    """A copy, quantized by Quark with AWQ."""
    from quark.torch import LLMTemplate, ModelQuantizer

    facts = FAMILIES[family]
    config = LLMTemplate.get(facts.awq_template).get_config(
        scheme=f"uint4_wo_{GROUP}", algorithm="awq", exclude_layers=["lm_head"]
    )
    config.algo_config = scaling_what_it_can(config.algo_config, facts.unscaled)
    return ModelQuantizer(config).quantize_model(deepcopy(model), token_ids())


def token_ids() -> list[Tensor]:
    return list(torch.randint(96, (SAMPLES, 1, LENGTH), generator=torch.Generator().manual_seed(2)))


def processor_class() -> Any:
    from quark.torch.algorithm.awq.awq import AwqProcessor

    return AwqProcessor


def looking_at(monkeypatch: pytest.MonkeyPatch, *rounds: tuple[int, int]) -> None:
    """Search with these rounds."""
    monkeypatch.setattr(awq_scales, "ROUNDS", rounds)
    monkeypatch.setattr(awq_search, "BATCH", rounds[0][0])
    monkeypatch.setattr(awq_search, "SAMPLE", rounds[-1][0])


class Watched:
    """Every search for scales while a model is quantized: what was found, and what every candidate loses on all
    tokens, by running the whole layer with weights that Quark rounds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found: list[tuple[tuple[str, ...], Tensor, float]] = []
        self.losses: list[dict[float, float]] = []
        processor = processor_class()
        gather, search = processor._get_input_feat, processor._search_best_scale

        def gathered(self_: Any, layer: Module, linears: Any) -> Any:
            self.inputs = torch.cat(self_.inps)
            return gather(self_, layer, linears)

        def searched(self_: Any, layer: Module, prev_op: Module, layers: list[Linear], inp: Any, **more: Any) -> Any:
            result = search(self_, layer, prev_op, layers, inp, **more)
            self.found.append(result[1:])
            self.losses.append(self.all_losses(self_, layer, layers, more.get("module2inspect") or layers[0]))
            return result

        monkeypatch.setattr(processor, "_get_input_feat", gathered)
        monkeypatch.setattr(processor, "_search_best_scale", searched)

    def all_losses(self, processor: Any, layer: Module, linears: list[Linear], inspected: Module) -> dict[float, float]:
        x, expected = self.run(processor, layer, linears[0], inspected)
        losses = {}
        for step in range(20):
            scales = x.abs().mean(dim=(0, 1)) ** (step / 20)
            scales = scales.clamp(min=1e-4) / (scales.max() * scales.min()).sqrt()
            if linears[0] is layer.self_attn.o_proj:  # type: ignore[union-attr]
                by_head = scales.view(SHARED_HEADS, HEADS // SHARED_HEADS, -1)
                scales = torch.cat([group.max(dim=0).values.repeat(HEADS // SHARED_HEADS) for group in by_head])
            weights = [linear.weight.data for linear in linears]
            for linear in linears:
                linear.weight.data = processor.pseudo_quantize_tensor(linear.weight * scales, linear) / scales
            losses[step / 20] = float((self.run(processor, layer, linears[0], inspected)[1] - expected).square().mean())
            for linear, weight in zip(linears, weights, strict=True):
                linear.weight.data = weight
        return losses

    @torch.no_grad()
    def run(self, processor: Any, layer: Module, linear: Linear, inspected: Module) -> tuple[Tensor, Tensor]:
        seen: dict[Module, tuple[Any, Any]] = {}
        hooks = [m.register_forward_hook(lambda m, x, y: seen.update({m: (x, y)})) for m in (linear, inspected)]
        layer(self.inputs, **processor.module_kwargs)
        for hook in hooks:
            hook.remove()
        output = seen[inspected][1]
        return seen[linear][0][0], output[0] if isinstance(output, tuple) else output


def test_rounding_in_the_searches_is_quarks(llama: Module) -> None:
    checked = []
    whole = processor_class()._search_best_clip

    def search(processor: Any, linears: dict[str, Linear], features: Any) -> Any:
        for linear in linears.values():
            scales = torch.rand(linear.in_features) + 0.5
            ours = torch.empty_like(linear.weight)
            round_scaled(linear.weight.data, scales, GROUP, ours)
            own = processor.pseudo_quantize_tensor(linear.weight.data * scales, linear) / scales
            checked.append(bool(ours.equal(own)))
        return whole(processor, linears, features)

    with searches("fast"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(processor_class(), "_search_best_clip", search)
        quantized(llama)
    assert checked == [True] * 14


@pytest.mark.parametrize("shape", [(24, 16), (21, 3), (16,)])
@pytest.mark.parametrize("reorder", [True, False])
def test_packed_at_once_they_have_the_bits_that_quark_packs_column_by_column(
    shape: tuple[int, ...], reorder: bool
) -> None:
    from quark.torch.utils.pack import Pack_4_bits

    from builder.stages.quark import pack_4_bits

    values = torch.randint(16, shape, generator=torch.Generator().manual_seed(3), dtype=torch.int32)
    for kind in ("uint4", "int4"):
        method = Pack_4_bits("per_group", kind)
        packed = pack_4_bits(method, values - 8 * (kind == "int4"), reorder)
        expected = method.pack(values - 8 * (kind == "int4"), reorder)
        assert packed.dtype == expected.dtype and packed.equal(expected)


def test_clippings_are_those_of_quarks_own_search(llama: Module) -> None:
    whole = processor_class()._compute_best_clip
    same, excess = [], []

    def compare(processor: Any, linear: Linear, inputs: Tensor) -> Tensor:
        own = whole(processor, linear, inputs)
        x = inputs.flatten(0, -2)
        x = x[:: len(x) // min(512, len(x))]  # as Quark samples
        inp = Inputs(x.shape[1], GROUP, 0, len(x))
        inp.add(x)
        ours = best_clips(linear.weight.data, Features(inp, torch.ones(x.shape[1])).grams())
        assert ours.shape == own.shape
        same.append(ours.isclose(own).flatten())
        errors = [clipping_errors(processor, linear, x, clips) for clips in (ours, own)]
        excess.append((errors[0] / errors[1] - 1).abs().flatten())
        return own

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processor_class(), "_compute_best_clip", compare)
        quantized(llama)
    assert torch.cat(same).float().mean() >= 0.99
    assert torch.cat(excess).max() < 1e-3


def clipping_errors(processor: Any, linear: Linear, x: Tensor, clips: Tensor) -> Tensor:
    """Of each group's part of the outputs, [out, groups]."""
    groups = linear.weight.data.unflatten(1, (-1, GROUP))
    rounded = processor.pseudo_quantize_tensor(groups.clamp(-clips, clips), linear)
    return torch.einsum("tgi,ogi->tog", x.unflatten(1, (-1, GROUP)), rounded - groups).square().mean(dim=0)


def test_with_quarks_own_searches_the_weights_are_the_same_bits(llama: Module) -> None:
    own, outputs = quantized(llama).state_dict(), list[Tensor]()
    with searches("quark", lambda output: keep_in(outputs, output)):
        ours = quantized(llama).state_dict()
    assert ours.keys() == own.keys()
    assert all(ours[name].equal(own[name]) for name in own)
    assert_outputs(llama, outputs)


@pytest.mark.parametrize("kind", ["fast", "quark"])
def test_afterwards_quark_searches_by_itself_again(kind: Any) -> None:
    before = dict(vars(processor_class()))
    with searches(kind):
        assert vars(processor_class()) != before
    assert vars(processor_class()) == before


def test_the_layers_outputs_are_stored_in_the_samples_order_and_go_on(llama: Module) -> None:
    outputs: list[Tensor] = []
    with searches("fast", lambda output: keep_in(outputs, output)):
        quantized(llama)
    assert_outputs(llama, outputs)


def keep_in(outputs: list[Tensor], output: Tensor) -> Tensor:
    outputs.append(output)
    return output.clone()


def assert_outputs(llama: Module, outputs: list[Tensor]) -> None:
    """What both layers made of the samples, before they were quantized."""
    seen: list[Tensor] = []
    layers: Any = llama.get_submodule("model.layers")
    for layer in layers:
        hook = layer.register_forward_hook(lambda _layer, _inputs, output: seen.append(output))
        with torch.no_grad():
            for ids in token_ids():
                llama(ids)
        hook.remove()
    assert len(outputs) == 2 * SAMPLES
    for output, expected in zip(outputs, seen, strict=True):
        torch.testing.assert_close(output, expected)


def test_scales_searched_on_all_tokens_are_the_best_on_the_layers_inputs(
    llama: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking_at(monkeypatch, (SAMPLES * LENGTH, 1))
    with searches("fast"):
        watched = Watched(monkeypatch)
        quantized(llama)
        monkeypatch.undo()
    assert len(watched.found) == 8
    for (names, _, ratio), losses in zip(watched.found, watched.losses, strict=True):
        assert losses[ratio] <= min(losses.values()) * 1.0001, names
    assert len({ratio for _, _, ratio in watched.found}) > 2


def test_scales_searched_on_a_sample_are_about_as_good_on_all_tokens(
    llama: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking_at(monkeypatch, (LENGTH, 5), (2 * LENGTH, 2), (6 * LENGTH, 1))
    with searches("fast"):
        watched = Watched(monkeypatch)
        quantized(llama)
        monkeypatch.undo()
    for (names, _, ratio), losses in zip(watched.found, watched.losses, strict=True):
        assert losses[ratio] <= min(losses.values()) * 1.03, names


def test_heads_that_share_values_share_the_scales_of_their_outputs(
    llama: Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    with searches("fast"):
        watched = Watched(monkeypatch)
        quantized(llama)
        monkeypatch.undo()
    scales = [scales for names, scales, _ in watched.found if names == ("self_attn.o_proj",)]
    assert len(scales) == 2
    for one in scales:
        by_head = one.view(SHARED_HEADS, HEADS // SHARED_HEADS, -1)
        assert by_head[:, 0].equal(by_head[:, 1])
        assert len(by_head[:, 0].unique()) > 32


def test_a_layer_in_16_bits_stays_in_them(llama: Module) -> None:
    outputs: list[Tensor] = []
    with searches("fast", lambda output: keep_in(outputs, output)):
        model = quantized(deepcopy(llama).bfloat16())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert {output.dtype for output in outputs} == {torch.bfloat16}


def test_outputs_that_overflow_say_which_and_what_to_do(llama: Module) -> None:
    broken = deepcopy(llama)
    broken.model.layers[1].mlp.up_proj.weight.data[0, 0] = torch.inf  # type: ignore[index, union-attr]
    with searches("fast"), pytest.raises(StageFailed, match=r"mlp\.gate_proj, mlp\.up_proj .*--data-type float32"):
        quantized(broken)


@pytest.mark.parametrize("tokens", [100, 4000])
def test_a_sketch_loses_what_all_tokens_lose(tokens: int) -> None:
    torch.manual_seed(3)
    x = (torch.randn(tokens, 64) + 1) * torch.randn(tokens, 1).exp() * torch.randn(64).exp()
    inputs = Inputs(64, GROUP, 512, tokens)
    for part in x.split(300):  # type: ignore[no-untyped-call]
        inputs.add(part)
    lost = torch.randn(64, 96) / 10
    whole, sketched = (x @ lost).square().sum(), (inputs.sketch @ lost).square().sum()
    assert len(inputs.sketch) == min(tokens, 512)
    torch.testing.assert_close(sketched, whole, rtol=1e-5 if tokens == 100 else 0.2, atol=0)


def test_inputs_divided_by_scales_have_the_gram_matrices_of_the_divided() -> None:
    torch.manual_seed(4)
    x, scales = torch.randn(50, 64), torch.rand(64) + 0.5
    features = [Features(Inputs(64, GROUP, 0, 50), torch.ones(64)) for _ in range(2)]
    features[0].inputs.add(x)
    features[0].div_(scales[None])
    features[0].div_(scales[None])
    features[1].inputs.add(x / scales / scales)
    torch.testing.assert_close(features[0].grams(), features[1].grams())
    torch.testing.assert_close(features[0].mean(), features[1].mean())


def test_a_search_spends_less_on_candidates_that_fall_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awq_scales, "ROUNDS", ((4, 5), (8, 2), (16, 1)))
    linear = Linear(64, 32)
    calls: list[int] = []

    def run(batch: Tensor) -> Tensor:
        calls.append(batch.shape[1])
        outputs: Tensor = linear(batch)
        return outputs

    batches = [torch.randn(1, 4, 64) for _ in range(9)]
    candidates = {ratio: torch.ones(64) * (1 + ratio) for ratio in awq_scales.RATIOS}
    weight = linear.weight
    with torch.no_grad():
        awq_scales.best_ratio(run, batches, [linear], candidates, GROUP)
    assert sum(calls) == 16 + 20 * 4 + 5 * 4 + 2 * 8  # the original's outputs, then each round's
    assert linear.weight is weight


@pytest.mark.parametrize("family", FAMILIES)
def test_scales_by_themselves_change_nothing_that_a_model_computes(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoModelForCausalLM

    make_checkpoint(next(case for case in CASES.values() if case.model_type == family), 5, tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    processor, scaled = processor_class(), list[Any]()
    with searches("fast"):
        search = processor._search_best_scale
        monkeypatch.setattr(processor, "_search_best_scale", lambda *args, **more: kept(scaled, search(*args, **more)))
        monkeypatch.setattr(processor, "_search_best_clip", lambda *_: [])
        monkeypatch.setattr(processor, "_apply_quant", lambda *_: None)
        changed = quantized(model, family=family)
        monkeypatch.undo()
    for module in changed.modules():
        if hasattr(module, "disable_fake_quant"):
            module.disable_fake_quant()
            module.disable_observer()
    with torch.no_grad():
        for ids in token_ids()[:2]:
            torch.testing.assert_close(changed(ids).logits, model(ids).logits, rtol=1e-3, atol=1e-3)
    assert any(scales.std() > 0.01 for _, _, scales, _ in scaled)


def kept(found: list[Any], one: Any) -> Any:
    found.append(one)
    return one
