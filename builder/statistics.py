"""How far figures can be trusted that are taken over tokens of text, of which neighbours depend on each other. Pure.

Errors are standard errors of blocks. What a model makes of one token says something of the next, so that tokens which
counted as independent would promise too much. Blocks of 1, 2, 4 … tokens are tried, and the largest error counts: it
grows with the length until blocks hardly depend on each other (H. Flyvbjerg and H. G. Petersen, "Error estimates on
averages of correlated data", J. Chem. Phys. 91, 461, 1989).
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LEAST_BLOCKS = 16  # below which the error itself is known too badly
_RESAMPLED = 200

Values = NDArray[np.float64]


def error_of_mean(series: Sequence[Values]) -> float:
    """Standard error of the mean over all values; NaN for fewer than two.

    series: of each sequence the values of its tokens [n]. Blocks end where sequences do.
    """
    errors = [_error(means) for _, means in _blockings(series)]
    return max(errors, default=math.nan)


def block_length(series: Sequence[Values]) -> int:
    """Tokens of the blocks by which `error_of_mean` is largest."""
    errors = {length: _error(means) for length, means in _blockings(series)}
    return max(errors, key=errors.__getitem__, default=1)


def errors_of_quantiles(series: Sequence[Values], shares: Sequence[float]) -> list[float]:
    """Standard errors of quantiles over all values, by resampling blocks (H. R. Künsch, Ann. Statist. 17, 1217, 1989).

    The same series has the same errors. NaN where there are fewer than two blocks.
    """
    blocks = _cut(series, block_length(series))
    if len(blocks) < 2:
        return [math.nan] * len(shares)
    rng = np.random.default_rng(0)
    drawn = [
        np.quantile(np.concatenate([blocks[n] for n in rng.integers(len(blocks), size=len(blocks))]), shares)
        for _ in range(_RESAMPLED)
    ]
    return [float(error) for error in np.std(drawn, axis=0, ddof=1)]


def _blockings(series: Sequence[Values]) -> list[tuple[int, Values]]:
    """Lengths of blocks, and the means of the blocks: single tokens always, longer ones while there are enough."""
    found: list[tuple[int, Values]] = []
    longest, length = max((len(values) for values in series), default=0), 1
    while length < 2 * longest:
        means = np.concatenate([_means(values, length) for values in series if len(values)])
        if len(means) < (LEAST_BLOCKS if found else 2):
            break
        found.append((length, means))
        length *= 2
    return found


def _cut(series: Sequence[Values], length: int) -> list[Values]:
    """Each sequence in blocks."""
    return [block for values in series if len(values) for block in np.split(values, _starts(len(values), length)[1:])]


def _means(values: Values, length: int) -> Values:
    """Of the blocks of one sequence."""
    starts = _starts(len(values), length)
    means: Values = np.add.reduceat(values, starts) / np.diff(starts, append=len(values))
    return means


def _starts(size: int, length: int) -> NDArray[np.intp]:
    """Where blocks of about this length begin in a sequence, of which no token is left out."""
    blocks = max(1, round(size / length))
    return np.arange(blocks) * size // blocks


def _error(means: Values) -> float:
    return float(means.std(ddof=1) / math.sqrt(len(means)))
