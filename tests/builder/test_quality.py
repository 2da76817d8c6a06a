"""The figures against torch's own, and the verdict on them."""

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from builder.checkpoint.source import parse_source
from builder.commands import build_parser
from builder.comparison import Comparison
from builder.errors import VerificationFailed
from builder.flags import recipe_from, target_from
from builder.quality import (
    EXPORT_KL_LIMIT,
    LOSS_LIMIT,
    PERPLEXITY_RATIO_LIMIT,
    Difference,
    Loss,
    Quality,
    improvements,
    judge,
    share,
    summary,
    with_error,
)
from builder.recipe import QUALITIES, ExportTarget, QuantRecipe

VOCABULARY = 50
EXPORT = Difference(tokens=255, kl_divergence=0.01, top1_agreement=0.98, max_difference=0.4)
TEXT = Loss(tokens=100, perplexity_original=4.0, perplexity_exported=4.2, kl_divergence=0.03, top1_agreement=0.9)
CHATS = replace(TEXT, perplexity_original=2.0, perplexity_exported=2.1, kl_divergence=0.02)
GOOD = Quality(TEXT, CHATS, EXPORT)


def sequences(*lengths: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Reference logits, candidate logits near them, and token ids, of sequences that long."""
    rng = np.random.default_rng(7)
    found = []
    for length in lengths:
        reference = rng.normal(scale=4, size=(length, VOCABULARY)).astype(np.float32)
        candidate = reference + rng.normal(scale=1, size=reference.shape).astype(np.float32)
        found.append((reference, candidate, rng.integers(VOCABULARY, size=length)))
    return found


def test_perplexity_divergence_and_agreement_are_torchs_own() -> None:
    pairs = sequences(40, 7, 2)
    comparison = Comparison()
    for reference, candidate, token_ids in pairs:
        comparison.add(reference, candidate, token_ids)

    p = torch.cat([torch.from_numpy(reference[:-1]).double() for reference, _, _ in pairs])
    q = torch.cat([torch.from_numpy(candidate[:-1]).double() for _, candidate, _ in pairs])
    following = torch.cat([torch.from_numpy(token_ids[1:]) for _, _, token_ids in pairs])
    divergence = functional.kl_div(q.log_softmax(-1), p.log_softmax(-1), reduction="batchmean", log_target=True)
    assert comparison.tokens == 39 + 6 + 1
    assert comparison.perplexity_reference == pytest.approx(math.exp(functional.cross_entropy(p, following)))
    assert comparison.perplexity_candidate == pytest.approx(math.exp(functional.cross_entropy(q, following)))
    assert comparison.kl_divergence == pytest.approx(float(divergence))
    assert comparison.top1_agreement == pytest.approx(float((p.argmax(-1) == q.argmax(-1)).double().mean()))
    assert 0 < comparison.top1_agreement < 1
    everywhere = max(float(np.abs(reference[:-1] - candidate[:-1]).max()) for reference, candidate, _ in pairs)
    assert comparison.difference().max_difference == pytest.approx(everywhere)


def test_errors_are_those_of_figures_over_other_text_of_the_kind() -> None:
    """Against the spread of the figures over many texts, each of four sequences."""

    def measured(seed: int) -> Loss:
        rng, comparison = np.random.default_rng(seed), Comparison()
        for _ in range(4):
            reference = rng.normal(scale=3, size=(129, VOCABULARY))
            candidate = reference + rng.normal(scale=1, size=reference.shape)
            comparison.add(reference, candidate, rng.integers(VOCABULARY, size=129))
        return comparison.loss()

    losses = [measured(seed) for seed in range(40)]
    for name in ("perplexity_original", "perplexity_exported", "perplexity_ratio", "kl_divergence", "top1_agreement"):
        spread = float(np.std([getattr(loss, name) for loss in losses], ddof=1))
        told = float(np.median([getattr(loss, f"{name}_error") for loss in losses]))
        assert 0.8 * spread < told < 1.9 * spread, name


def test_a_large_vocabulary_is_compared_in_parts_that_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    [(reference, candidate, token_ids)] = sequences(20)
    whole, parts = Comparison(), Comparison()
    whole.add(reference, candidate, token_ids)
    monkeypatch.setattr("builder.comparison._VALUES_AT_ONCE", 3 * VOCABULARY)
    parts.add(reference, candidate, token_ids)
    assert parts.tokens == whole.tokens
    assert parts.kl_divergence == pytest.approx(whole.kl_divergence)
    assert parts.perplexity_candidate == pytest.approx(whole.perplexity_candidate)
    assert parts.top1_agreement == whole.top1_agreement


def test_equal_logits_lose_nothing() -> None:
    [(reference, _, token_ids)] = sequences(20)
    comparison = Comparison()
    comparison.add(reference, reference + 3, token_ids)  # a constant is no difference
    assert comparison.perplexity_candidate == pytest.approx(comparison.perplexity_reference)
    assert comparison.kl_divergence == pytest.approx(0, abs=1e-6)
    assert comparison.top1_agreement == 1


def test_what_a_candidate_adds_to_the_vocabulary_is_left_out() -> None:
    [(reference, candidate, token_ids)] = sequences(20)
    plain, padded = Comparison(), Comparison()
    plain.add(reference, candidate, token_ids)
    padded.add(reference, np.pad(candidate, ((0, 0), (0, 14)), constant_values=99), token_ids)
    assert padded.kl_divergence == plain.kl_divergence
    assert padded.perplexity_candidate == plain.perplexity_candidate


def test_large_logits_do_not_overflow() -> None:
    [(reference, candidate, token_ids)] = sequences(20)
    comparison = Comparison()
    comparison.add(reference + 1e4, candidate - 1e4, token_ids)
    assert math.isfinite(comparison.perplexity_candidate)
    assert math.isfinite(comparison.kl_divergence)


def test_a_good_export_passes_and_so_do_the_limits_themselves() -> None:
    judge(GOOD)
    at_limit = replace(TEXT, perplexity_exported=4.0 * PERPLEXITY_RATIO_LIMIT)
    judge(Quality(at_limit, None, replace(EXPORT, kl_divergence=EXPORT_KL_LIMIT)))


@pytest.mark.parametrize("divergence", [EXPORT_KL_LIMIT * 1.01, 7.5, math.inf, math.nan])
def test_an_export_that_is_not_the_quantized_model_is_refused(divergence: float) -> None:
    with pytest.raises(VerificationFailed, match="does not compute the quantized model") as refused:
        judge(replace(GOOD, export=replace(EXPORT, kl_divergence=divergence)))
    assert f"KL divergence {divergence:.3g}, limit {EXPORT_KL_LIMIT}" in str(refused.value)


@pytest.mark.parametrize("kind", ["text", "chats"])
@pytest.mark.parametrize("perplexity", [4.0 * PERPLEXITY_RATIO_LIMIT * 1.01, math.inf, math.nan])
def test_a_quantized_model_that_lost_too_much_is_refused_with_what_to_try(perplexity: float, kind: str) -> None:
    lost = replace(TEXT, perplexity_exported=perplexity)
    with pytest.raises(VerificationFailed, match="quantization loses too much") as refused:
        judge(replace(GOOD, text=lost) if kind == "text" else replace(GOOD, chats=lost))
    assert f"perplexity on {kind} 4 became {perplexity:.4g}" in str(refused.value)
    assert "--group-size 32" in str(refused.value)


def test_an_original_whose_perplexity_is_no_number_proves_nothing() -> None:
    with pytest.raises(VerificationFailed):
        judge(replace(GOOD, text=replace(TEXT, perplexity_original=math.nan)))


def test_broken_logits_reach_the_verdict() -> None:
    [(reference, candidate, token_ids)] = sequences(20)
    candidate[3, 5] = math.nan
    comparison = Comparison()
    comparison.add(reference, candidate, token_ids)
    with pytest.raises(VerificationFailed):
        judge(Quality(export=comparison.difference()))


# What to try where the loss is above the limit


def flags_of(recipe: QuantRecipe, target: ExportTarget) -> list[str]:
    return [flag for flag, _, _ in improvements(recipe, target)]


def test_improvements_come_in_order_and_each_keeps_those_before_it() -> None:
    steps = improvements(QuantRecipe(), ExportTarget(lm_head_bits=4))
    assert [flag for flag, _, _ in steps] == [
        "--lm-head-bits 8",
        "--group-size 32",
        "--quant-algo gptaq",
        "--accuracy-level 1",
    ]
    _, recipe, target = steps[-1]
    assert (recipe.quant_algo, recipe.group_size) == ("gptaq", 32)
    assert (target.lm_head_bits, target.accuracy_level) == (8, 1)
    assert steps[0][1] == QuantRecipe()


@pytest.mark.parametrize("words", [[], *(["--quality", name] for name in QUALITIES)], ids=" ".join)
def test_the_flags_that_are_proposed_lead_where_they_are_said_to(words: list[str]) -> None:
    source = parse_source("acme/chat")

    def meant(words: list[str]) -> tuple[QuantRecipe, ExportTarget]:
        flags = build_parser().parse_args(words)
        recipe = recipe_from(flags, source)
        return recipe, target_from(flags, recipe.exclude_layers)

    steps = improvements(*meant(words))
    assert len(steps) > 1
    for flag, *wanted in steps:  # each keeps those before it
        words = [*words, *flag.split()]
        assert meant(words) == tuple(wanted)


def test_what_is_in_use_already_is_not_proposed() -> None:
    assert flags_of(QuantRecipe(), ExportTarget()) == ["--group-size 32", "--quant-algo gptaq", "--accuracy-level 1"]
    best = QuantRecipe(quant_algo="gptaq", group_size=32)
    assert flags_of(best, ExportTarget(accuracy_level=1)) == []


def test_a_quantized_output_layer_is_the_first_thing_to_give_up() -> None:
    flag, recipe, target = improvements(QuantRecipe(exclude_layers=()), ExportTarget(lm_head_bits=4))[0]
    assert flag == "--exclude-layers lm_head --lm-head-bits 8"
    assert (recipe.exclude_layers, target.lm_head_bits) == (("lm_head",), 8)


def test_gptaq_gives_up_a_format_that_only_awq_has() -> None:
    recipes = [recipe for _, recipe, _ in improvements(QuantRecipe(custom_mode="awq"), ExportTarget())]
    assert [recipe.custom_mode for recipe in recipes if recipe.quant_algo == "gptaq"] == ["quark"] * 2


def test_the_summary_has_a_line_for_each_kind_and_no_advice_within_the_limit() -> None:
    lines = summary(GOOD, QuantRecipe(), ExportTarget()).splitlines()
    assert lines == [
        "text: perplexity 4.000 before, 4.200 after (x1.050), KL divergence 0.0300, top-1 agreement 90.0%, "
        "on 100 held-out tokens",
        "chats: perplexity 2.000 before, 2.100 after (x1.050), KL divergence 0.0200, top-1 agreement 90.0%, "
        "on 100 held-out tokens",
    ]


def test_the_summary_gives_errors_and_calls_no_difference_that_is_within_its_own() -> None:
    text = replace(
        TEXT,
        perplexity_original_error=0.2,
        perplexity_exported_error=0.21,
        perplexity_ratio_error=0.026,
        kl_divergence_error=0.00042,
        top1_agreement_error=0.006,
    )
    [line] = summary(Quality(text), QuantRecipe(), ExportTarget()).splitlines()
    assert line == (
        "text: perplexity 4.000 ± 0.200 before, 4.200 ± 0.210 after (x1.050 ± 0.026, which may be chance), "
        "KL divergence 0.03000 ± 0.00042, top-1 agreement 90.00 ± 0.60%, on 100 held-out tokens"
    )
    [line] = summary(Quality(replace(text, perplexity_ratio_error=0.024)), QuantRecipe(), ExportTarget()).splitlines()
    assert "(x1.050 ± 0.024)" in line


def test_a_figure_has_the_decimals_that_its_error_needs() -> None:
    assert with_error(0.0137, 0.00061, 4) == "0.01370 ± 0.00061"
    assert with_error(12.3456, 3.2, 3) == "12.346 ± 3.200"
    assert with_error(1.0, 0.0, 3) == "1.000 ± 0.000"
    assert with_error(0.5, math.nan, 2) == "0.50"
    assert share(0.951, 0.0048) == "95.10 ± 0.48%"


def test_the_summary_says_what_to_try_when_either_kind_lost_too_much() -> None:
    lost = replace(GOOD, chats=replace(CHATS, kl_divergence=LOSS_LIMIT * 1.01))
    advice = summary(lost, QuantRecipe(), ExportTarget()).splitlines()[-1]
    assert "try --group-size 32, then --quant-algo gptaq, then --accuracy-level 1" in advice


def test_the_summary_of_the_best_of_several_proposes_none_of_them_again() -> None:
    lost = replace(GOOD, chats=replace(CHATS, kl_divergence=LOSS_LIMIT * 1.01))
    advice = summary(lost, QuantRecipe(), ExportTarget(), tried=4).splitlines()[-1]
    assert advice == "the loss is above 0.05 nats per token with each of 4 recipes; this one loses least"
    assert len(summary(GOOD, QuantRecipe(), ExportTarget(), tried=4).splitlines()) == 2


def test_the_summary_owns_up_to_kernels_that_were_not_run() -> None:
    assert "the kernels of dml were not exercised" in summary(GOOD, QuantRecipe(), ExportTarget("dml"))
    assert "not exercised" not in summary(GOOD, QuantRecipe(), ExportTarget("cpu"))


def test_quality_survives_the_manifest() -> None:
    for quality in (GOOD, Quality(TEXT, None, EXPORT), Quality(export=EXPORT)):
        assert Quality.from_facts(asdict(quality)) == quality
