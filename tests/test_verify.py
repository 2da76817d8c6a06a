"""The figures against torch's own, and the verdict on them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from builder.errors import VerificationFailed
from builder.verify import EXPORT_KL_LIMIT, PERPLEXITY_RATIO_LIMIT, Comparison, Quality, judge

VOCABULARY = 50
GOOD = Quality(
    tokens=100,
    perplexity_original=4.0,
    perplexity_exported=4.2,
    kl_divergence=0.05,
    top1_agreement=0.9,
    export_kl_divergence=0.01,
    export_top1_agreement=0.98,
)


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
    at_limits = 4.0 * PERPLEXITY_RATIO_LIMIT
    judge(replace(GOOD, export_kl_divergence=EXPORT_KL_LIMIT, perplexity_exported=at_limits))


@pytest.mark.parametrize("divergence", [EXPORT_KL_LIMIT * 1.01, 7.5, math.inf, math.nan])
def test_an_export_that_is_not_the_quantized_model_is_refused(divergence: float) -> None:
    with pytest.raises(VerificationFailed, match="does not compute the quantized model") as refused:
        judge(replace(GOOD, export_kl_divergence=divergence))
    assert f"KL divergence {divergence:.3g}, limit {EXPORT_KL_LIMIT}" in str(refused.value)


@pytest.mark.parametrize("perplexity", [4.0 * PERPLEXITY_RATIO_LIMIT * 1.01, math.inf, math.nan])
def test_a_quantized_model_that_lost_too_much_is_refused_with_what_to_try(perplexity: float) -> None:
    with pytest.raises(VerificationFailed, match="quantization loses too much") as refused:
        judge(replace(GOOD, perplexity_exported=perplexity))
    assert f"perplexity 4 became {perplexity:.4g}" in str(refused.value)
    assert "--group-size 32" in str(refused.value)


def test_an_original_whose_perplexity_is_no_number_proves_nothing() -> None:
    with pytest.raises(VerificationFailed):
        judge(replace(GOOD, perplexity_original=math.nan))


def test_broken_logits_reach_the_verdict() -> None:
    [(reference, candidate, token_ids)] = sequences(20)
    candidate[3, 5] = math.nan
    comparison = Comparison()
    comparison.add(reference, candidate, token_ids)
    with pytest.raises(VerificationFailed):
        judge(replace(GOOD, export_kl_divergence=comparison.kl_divergence))
