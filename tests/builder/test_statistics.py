"""Errors of means and quantiles over values of which neighbours depend on each other."""

import math

import numpy as np
import pytest

from builder.statistics import LEAST_BLOCKS, block_length, error_of_mean, errors_of_quantiles


def series(seed: int, memory: float, sequences: int = 8, length: int = 512) -> list[np.ndarray]:
    """Values with mean 0 and variance 1, each of which keeps so much of the one before it."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(sequences, length)) * math.sqrt(1 - memory**2)
    values = np.empty_like(steps)
    values[:, 0] = rng.normal(size=sequences)
    for i in range(1, length):
        values[:, i] = memory * values[:, i - 1] + steps[:, i]
    return list(values)


def test_independent_values_have_the_error_of_a_mean() -> None:
    errors = [error_of_mean(series(seed, 0.0)) for seed in range(20)]
    assert float(np.median(errors)) == pytest.approx(1 / math.sqrt(8 * 512), rel=0.3)


def test_values_that_depend_on_each_other_count_for_fewer() -> None:
    """With a memory of 0.9 a mean spreads as that of one value in nineteen."""
    found = [series(seed, 0.9) for seed in range(40)]
    spread = float(np.std([np.mean(values) for values in found], ddof=1))
    assert float(np.median([error_of_mean(values) for values in found])) == pytest.approx(spread, rel=0.35)
    assert all(block_length(values) > 8 for values in found)


def test_blocks_do_not_reach_over_the_ends_of_sequences_and_are_many() -> None:
    """Two levels, in runs of 256: what is between the sequences is no part of any block."""
    values = [np.full(256, float(n % 2)) for n in range(2 * LEAST_BLOCKS)]
    assert block_length(values) == 256
    assert error_of_mean(values) == pytest.approx(math.sqrt(np.var(np.arange(32) % 2, ddof=1) / 32))


def test_quantiles_spread_as_it_is_told() -> None:
    found = [series(seed, 0.8) for seed in range(30)]
    for n, quantile in enumerate((0.5, 0.99)):
        spread = float(np.std([np.quantile(np.concatenate(values), quantile) for values in found], ddof=1))
        told = float(np.median([errors_of_quantiles(values, (0.5, 0.99))[n] for values in found[:10]]))
        assert told == pytest.approx(spread, rel=0.4)
    assert errors_of_quantiles(found[0], (0.5,)) == errors_of_quantiles(found[0], (0.5,))


def test_too_few_values_tell_nothing_of_their_error() -> None:
    assert math.isnan(error_of_mean([np.ones(1)])) and math.isnan(error_of_mean([]))
    assert all(map(math.isnan, errors_of_quantiles([np.ones(1)], (0.5, 0.9))))
