"""Logits -> token: pure numpy, one function per rule, in the order in which transformers applies them.

Every rule takes float32 logits of shape [vocab] and returns logits of the same shape, with -inf for tokens that are
out. A rule whose option is switched off is not called.
"""

import numpy as np
from numpy.typing import NDArray

from serving.types import SamplingOptions

Logits = NDArray[np.float32]
NEGATIVE_INFINITY = np.float32(-np.inf)


def penalize_repetition(logits: Logits, seen: NDArray[np.bool_], penalty: float) -> Logits:
    """Make the tokens marked in `seen` [vocab] less likely (CTRL, arXiv:1909.05858)."""
    penalized = np.where(logits < 0, logits * np.float32(penalty), logits / np.float32(penalty))
    return np.where(seen, penalized, logits)


def scale_temperature(logits: Logits, temperature: float) -> Logits:
    """Divide by the temperature, which is above 0 here: greedy decoding does not come this way."""
    return logits / np.float32(temperature)


def keep_top_k(logits: Logits, k: int) -> Logits:
    """Keep the k largest logits, and what ties with the k-th."""
    if k >= logits.size:
        return logits
    kth = np.partition(logits, logits.size - k)[logits.size - k]
    return np.where(logits < kth, NEGATIVE_INFINITY, logits)


def keep_top_p(logits: Logits, p: float) -> Logits:
    """Keep the smallest set of most likely tokens whose probability adds up to p (arXiv:1904.09751)."""
    probabilities = _softmax(logits)
    # A token below (1 - p) / vocab can never be kept, since all such tokens together weigh less than 1 - p. Leaving
    # them out before sorting makes a 128,000-token vocabulary cost what a few hundred candidates cost.
    candidates = np.flatnonzero(probabilities > (1.0 - p) / probabilities.size)
    ascending = candidates[np.argsort(probabilities[candidates], kind="stable")]
    tail = 1.0 - probabilities[candidates].sum()
    dropped = ascending[tail + np.cumsum(probabilities[ascending]) <= 1.0 - p]
    kept = np.full_like(logits, NEGATIVE_INFINITY)
    kept[candidates] = logits[candidates]
    kept[dropped[dropped != ascending[-1]]] = NEGATIVE_INFINITY
    return kept


def keep_min_p(logits: Logits, min_p: float) -> Logits:
    """Keep tokens at least `min_p` times as likely as the most likely one (arXiv:2407.01082)."""
    return np.where(logits < logits.max() + np.float32(np.log(min_p)), NEGATIVE_INFINITY, logits)


def processed(logits: Logits, options: SamplingOptions, seen: NDArray[np.bool_]) -> Logits:
    """Apply every rule that `options` switches on. Greedy decoding needs the penalty only."""
    if options.repetition_penalty != 1.0:
        logits = penalize_repetition(logits, seen, options.repetition_penalty)
    if options.temperature == 0.0:
        return logits
    if options.temperature != 1.0:
        logits = scale_temperature(logits, options.temperature)
    if options.top_k > 0:
        logits = keep_top_k(logits, options.top_k)
    if options.top_p < 1.0:
        logits = keep_top_p(logits, options.top_p)
    if options.min_p > 0.0:
        logits = keep_min_p(logits, options.min_p)
    return logits


def choose(logits: Logits, options: SamplingOptions, seen: NDArray[np.bool_], rng: np.random.Generator) -> int:
    """The next token id. One uniform number is drawn per token, so a seed fixes the whole answer.

    logits: float32 [vocab], not modified. seen: bool [vocab], true for tokens of the prompt and of the answer so far.
    """
    logits = processed(logits, options, seen)
    if options.temperature == 0.0:
        return int(np.argmax(logits))
    cumulative = np.cumsum(_softmax(logits))
    # The draw is below the total, so the token found there has a probability above zero.
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))


def _softmax(logits: Logits) -> NDArray[np.float64]:
    exponentials = np.exp((logits - logits.max()).astype(np.float64))
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum()
    return probabilities
