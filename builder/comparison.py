"""Two models on the same text: what each gives the token that comes, and how far apart they are. Pure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.quality import Difference, Loss
from builder.statistics import Values, error_of_mean

_VALUES_AT_ONCE = 1 << 20  # bounds the memory that a large vocabulary takes

Logits = NDArray[Any]


class Comparison:
    """Pairs of reference and candidate logits, sequence by sequence.

    Of each sequence, for every predicted token [n]: negative log-likelihoods under the reference and under the
    candidate, KL(reference || candidate), all in nats; and whether both find the same token most likely, as 0 or 1.
    """

    def __init__(self) -> None:
        self.max_difference = 0.0
        self.nll_reference: list[Values] = []
        self.nll_candidate: list[Values] = []
        self.kl: list[Values] = []
        self.agree: list[Values] = []

    def add(self, reference: Logits, candidate: Logits, token_ids: NDArray[np.int64]) -> None:
        """Compare logits, or log probabilities, [n, vocab] of one sequence; position i predicts token i + 1."""
        rows, vocabulary = token_ids.size - 1, reference.shape[1]
        step = max(1, _VALUES_AT_ONCE // vocabulary)
        parts: list[tuple[Values, Values, Values, Values]] = []
        for begin in range(0, rows, step):
            part = slice(begin, min(begin + step, rows))
            expected = reference[part].astype(np.float64)
            found = candidate[part, :vocabulary].astype(np.float64)
            p, q = _log_softmax(expected), _log_softmax(found)
            following = token_ids[part.start + 1 : part.stop + 1, None]
            parts.append(
                (
                    -np.take_along_axis(p, following, axis=1)[:, 0],
                    -np.take_along_axis(q, following, axis=1)[:, 0],
                    (np.exp(p) * (p - q)).sum(axis=1),
                    (p.argmax(axis=1) == q.argmax(axis=1)).astype(np.float64),
                )
            )
            self.max_difference = max(self.max_difference, float(np.abs(expected - found).max()))
        for series, values in zip(
            (self.nll_reference, self.nll_candidate, self.kl, self.agree), zip(*parts, strict=True), strict=True
        ):
            series.append(np.concatenate(values))

    @property
    def tokens(self) -> int:
        """How many were predicted."""
        return sum(map(len, self.kl))

    @property
    def perplexity_reference(self) -> float:
        """exp of the mean negative log-likelihood, of the reference."""
        return float(np.exp(mean(self.nll_reference)))

    @property
    def perplexity_candidate(self) -> float:
        """exp of the mean negative log-likelihood, of the candidate."""
        return float(np.exp(mean(self.nll_candidate)))

    @property
    def kl_divergence(self) -> float:
        """Mean KL(reference || candidate), in nats per token."""
        return mean(self.kl)

    @property
    def top1_agreement(self) -> float:
        """Share of positions whose most likely token is the same."""
        return mean(self.agree)

    @property
    def log_ratio(self) -> list[Values]:
        """Of each sequence, what the candidate's negative log-likelihoods are above the reference's [n]."""
        return [q - p for p, q in zip(self.nll_reference, self.nll_candidate, strict=True)]

    def loss(self) -> Loss:
        """The candidate as the export and the reference as the original."""
        ratio = self.perplexity_candidate / self.perplexity_reference
        return Loss(
            self.tokens,
            self.perplexity_reference,
            self.perplexity_candidate,
            self.kl_divergence,
            self.top1_agreement,
            # The derivative of exp: an error of the mean is a relative one of the perplexity.
            perplexity_original_error=self.perplexity_reference * error_of_mean(self.nll_reference),
            perplexity_exported_error=self.perplexity_candidate * error_of_mean(self.nll_candidate),
            perplexity_ratio_error=ratio * error_of_mean(self.log_ratio),
            kl_divergence_error=error_of_mean(self.kl),
            top1_agreement_error=error_of_mean(self.agree),
        )

    def difference(self) -> Difference:
        """The candidate as the export and the reference as the quantized model."""
        return Difference(
            self.tokens,
            self.kl_divergence,
            self.top1_agreement,
            self.max_difference,
            kl_divergence_error=error_of_mean(self.kl),
            top1_agreement_error=error_of_mean(self.agree),
        )


def mean(series: Sequence[Values]) -> float:
    """Over all tokens of all sequences."""
    return float(np.concatenate(series).mean())


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_probabilities
