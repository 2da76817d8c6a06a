"""The figures that are told of two models, and the form in which they are told."""

import math
from dataclasses import asdict

import numpy as np
import pytest

from builder.comparison import Comparison
from builder.measure import measurement_of
from builder.measurement import Measurement, Paired

VOCABULARY = 40


def compared(noise: float, sequences: int = 6) -> tuple[Comparison, np.ndarray, np.ndarray]:
    """Models that differ by so much; and the probability that each gives to every token that comes."""
    rng, comparison = np.random.default_rng(3), Comparison()
    given: list[list[float]] = [[], []]
    for _ in range(sequences):
        reference = rng.normal(scale=3, size=(65, VOCABULARY))
        candidate = reference + rng.normal(scale=noise, size=reference.shape) if noise else reference
        token_ids = rng.integers(VOCABULARY, size=65)
        comparison.add(reference, candidate, token_ids)
        for found, logits in zip(given, (reference, candidate), strict=True):
            weights = np.exp(logits)
            found += (weights / weights.sum(axis=1, keepdims=True))[np.arange(64), token_ids[1:]].tolist()
    return comparison, np.asarray(given[0]), np.asarray(given[1])


def test_figures_are_those_of_the_probabilities() -> None:
    comparison, base, q = compared(0.8)
    found = Measurement.of(comparison)
    assert (found.tokens, found.sequences) == (6 * 64, 6)
    assert found.perplexity["base"].value == pytest.approx(math.exp(-np.log(base).mean()))
    assert found.perplexity["q"].value == pytest.approx(math.exp(-np.log(q).mean()))
    assert found.perplexity["ratio"].value == pytest.approx(math.exp(np.log(base / q).mean()))
    assert found.perplexity["difference"].value == pytest.approx(
        found.perplexity["q"].value - found.perplexity["base"].value
    )
    assert found.p["mean"].value == pytest.approx((q - base).mean())
    assert found.p["rms"].value == pytest.approx(math.sqrt(((q - base) ** 2).mean()))
    assert found.p["25%"].value == pytest.approx(np.quantile(q - base, 0.25))
    kl = np.concatenate(comparison.kl)
    named = {"mean": kl.mean(), "maximum": kl.max(), "99%": np.quantile(kl, 0.99), "median": np.median(kl)}
    assert {name: found.kl[name].value for name in named} == pytest.approx(named)
    assert found.p["same_top"].value == comparison.top1_agreement


def test_two_models_beside_each_other_are_compared_token_by_token() -> None:
    better, worse = compared(0.3)[0], compared(0.5)[0]
    found = Paired.of(better, worse)
    assert found.kl_ratio.value == pytest.approx(better.kl_divergence / worse.kl_divergence)
    assert found.kl_difference.value == pytest.approx(better.kl_divergence - worse.kl_divergence)
    assert found.perplexity_ratio.value == pytest.approx(better.perplexity_candidate / worse.perplexity_candidate)
    assert found.same_top.value == pytest.approx(better.top1_agreement - worse.top1_agreement)
    assert all(figure.error and figure.error > 0 for figure in (found.kl_ratio, found.kl_difference, found.same_top))
    assert found.table().count("\N{PLUS-MINUS SIGN}") == 4


def test_a_ratio_is_known_better_than_its_parts_where_the_same_tokens_are_hard() -> None:
    """The same differences, a little larger: every token of one is as hard as that of the other."""
    found, other = compared(0.5)[0], compared(0.55)[0]
    paired, kl = Paired.of(found, other), (Measurement.of(found).kl["mean"], Measurement.of(other).kl["mean"])
    parts = math.hypot(*(each.error / each.value for each in kl if each.error))
    assert paired.kl_ratio.error and paired.kl_ratio.error < 0.2 * parts * paired.kl_ratio.value


def test_a_model_beside_itself_differs_by_nothing() -> None:
    same = Paired.of(compared(0.5)[0], compared(0.5)[0])
    values = (same.kl_ratio, same.kl_difference, same.perplexity_ratio, same.same_top)
    assert [(each.value, each.error) for each in values] == [(1, 0), (0, 0), (1, 0), (0, 0)]
    assert math.isnan(Paired.of(compared(0.5)[0], compared(0)[0]).kl_ratio.value)


def test_every_figure_has_an_error_but_those_of_single_tokens() -> None:
    found = Measurement.of(compared(0.8)[0])
    without = {
        n for group in (found.perplexity, found.kl, found.p) for n, figure in group.items() if figure.error is None
    }
    assert without == {"maximum", "minimum"}
    errors = [
        figure.error for group in (found.perplexity, found.kl, found.p) for figure in group.values() if figure.error
    ]
    assert len(errors) == 5 + 9 + 10 and all(error > 0 for error in errors)
    # Where two models see the same text, their difference is known far better than either.
    assert (found.perplexity["log_ratio"].error or 0) < (found.perplexity["base"].error or 0)


def test_the_table_is_that_of_llama_cpp_and_says_whether_perplexity_changed() -> None:
    far, near = Measurement.of(compared(3.0)[0]), Measurement.of(compared(0.02)[0])
    lines = far.table().splitlines()
    assert [line for line in lines if line.startswith("=")] == [
        "====== Perplexity statistics ======",
        "====== KL divergence statistics ======",
        "====== Token probability statistics ======",
    ]
    mean, error = far.perplexity["q"].value, far.perplexity["q"].error
    assert f"Mean PPL(Q)                   : {mean:10.6f} ± {error:10.6f}" in lines
    assert f"Mean    KLD: {far.kl['mean'].value:10.6f} ± {far.kl['mean'].error:10.6f}" in lines
    assert f"Maximum KLD: {far.kl['maximum'].value:10.6f}" in lines
    assert any(line.startswith("Same top p: ") and line.endswith(" %") for line in lines)
    assert far.changed and "more than chance explains" in lines[-1]
    assert not near.changed and "which may be chance" in near.table()


def test_equal_models_differ_in_nothing() -> None:
    found = Measurement.of(compared(0.0)[0])
    assert (found.kl["maximum"].value, found.p["rms"].value, found.perplexity["ratio"].value) == (0, 0, 1)
    assert found.p["same_top"].value == 1 and not found.changed
    assert "x1.0000 ± 0.0000, which may be chance" in found.table()


def test_a_measurement_survives_the_way_between_processes() -> None:
    found = Measurement.of(compared(0.8)[0])
    assert measurement_of(asdict(found)) == found
