"""What is told of two models on the same text: the figures of llama.cpp's `perplexity --kl-divergence`, with errors.

Those are computed otherwise here: by blocks of text (builder/statistics.py), as tokens depend on each other. Pure.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from builder.comparison import Comparison, mean
from builder.quality import CLAIMED
from builder.statistics import Values, block_length, error_of_mean, errors_of_quantiles

_KL_SHARES = {"99.9%": 0.999, "99%": 0.99, "95%": 0.95, "90%": 0.9, "median": 0.5, "10%": 0.1, "5%": 0.05, "1%": 0.01}
_P_SHARES = {"99%": 0.99, "95%": 0.95, "75%": 0.75, "median": 0.5, "25%": 0.25, "5%": 0.05, "1%": 0.01}


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its standard error; None where there is none to be had, as of the largest of some values."""

    value: float
    error: float | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """Q, what is measured, against the base, on so many predicted tokens.

    block: tokens of the blocks that the error of the mean KL divergence comes from. perplexity, kl (in nats per token),
    p (change of the probability of the token that comes, as a share of 1): figures by name.
    """

    tokens: int
    sequences: int
    block: int
    perplexity: Mapping[str, Figure]
    kl: Mapping[str, Figure]
    p: Mapping[str, Figure]

    @classmethod
    def of(cls, found: Comparison) -> "Measurement":
        """From the sums of a comparison."""
        q, base = found.perplexity_candidate, found.perplexity_reference
        ratio, ratio_error = q / base, error_of_mean(found.log_ratio)
        # Where a figure is no mean, its error is that of what it grows by with each value, to first order.
        both = list(zip(found.nll_candidate, found.nll_reference, strict=True))
        perplexity = {
            "q": Figure(q, q * error_of_mean(found.nll_candidate)),
            "base": Figure(base, base * error_of_mean(found.nll_reference)),
            "log_ratio": Figure(mean(found.log_ratio), ratio_error),
            "ratio": Figure(ratio, ratio * ratio_error),
            "difference": Figure(q - base, error_of_mean([q * a - base * b for a, b in both])),
        }
        change = [np.exp(-a) - np.exp(-b) for a, b in both]
        squares = [each**2 for each in change]
        rms = math.sqrt(mean(squares))
        p = {
            "mean": Figure(mean(change), error_of_mean(change)),
            **_quantiles(change, _P_SHARES),
            "rms": Figure(rms, error_of_mean(squares) / (2 * rms) if rms else 0.0),
            "same_top": Figure(mean(found.agree), error_of_mean(found.agree)),
        }
        kl = {"mean": Figure(mean(found.kl), error_of_mean(found.kl)), **_quantiles(found.kl, _KL_SHARES)}
        return cls(found.tokens, len(found.kl), block_length(found.kl), perplexity, kl, p)

    @property
    def changed(self) -> bool:
        """Whether perplexity differs by more than chance explains."""
        log_ratio = self.perplexity["log_ratio"]
        return abs(log_ratio.value) > CLAIMED * (log_ratio.error or 0.0)

    def table(self) -> str:
        """In the form that llama.cpp prints."""
        lines = ["====== Perplexity statistics ======"]
        for name, label in _PERPLEXITY.items():
            lines.append(f"{label:<30}: {_written(self.perplexity[name])}")
        lines += ["", "====== KL divergence statistics ======"]
        for name in ("mean", "maximum", *_KL_SHARES, "minimum"):
            lines.append(f"{name.capitalize():<7} KLD: {_written(self.kl[name])}")
        lines += ["", "====== Token probability statistics ======"]
        for name in ("mean", "maximum", *_P_SHARES, "minimum", "rms"):
            lines.append(f"{'RMS' if name == 'rms' else name.capitalize():<7} dp : {_percent(self.p[name])}")
        lines += [f"Same top p: {_percent(self.p['same_top'])}", ""]
        verdict = "more than chance explains" if self.changed else "which may be chance"
        ratio = self.perplexity["ratio"]
        lines.append(
            f"on {self.tokens} tokens in {self.sequences} sequences: perplexity x{ratio.value:.4f} "
            f"\N{PLUS-MINUS SIGN} {ratio.error:.4f}, {verdict}; errors by blocks of {self.block} tokens"
        )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Paired:
    """Q, what is measured, beside R, another model, both against the same base on the same tokens.

    kl_ratio: of the mean KL divergences, Q's over R's. kl_difference: Q's less R's, in nats per token.
    perplexity_ratio: Q's over R's. same_top: the share of tokens that Q finds most likely as the base does, less R's.
    What is hard for one is hard for the other as well: errors of these are smaller than those of either figure.
    """

    kl_ratio: Figure
    kl_difference: Figure
    perplexity_ratio: Figure
    same_top: Figure

    @classmethod
    def of(cls, found: Comparison, other: Comparison) -> "Paired":
        """From two comparisons on the same tokens."""
        q, r = found.kl_divergence, other.kl_divergence
        pairs = list(zip(found.kl, other.kl, strict=True))
        ratio = q / r if r else math.nan
        # To first order a ratio grows by this with each pair of values.
        ratio_error = error_of_mean([(a - ratio * b) / r for a, b in pairs]) if r else math.nan
        perplexity = found.perplexity_candidate / other.perplexity_candidate
        log_ratio = [a - b for a, b in zip(found.nll_candidate, other.nll_candidate, strict=True)]
        agree = [a - b for a, b in zip(found.agree, other.agree, strict=True)]
        return cls(
            Figure(ratio, ratio_error),
            Figure(q - r, error_of_mean([a - b for a, b in pairs])),
            Figure(perplexity, perplexity * error_of_mean(log_ratio)),
            Figure(mean(agree), error_of_mean(agree)),
        )

    def table(self) -> str:
        """In the form of the other tables."""
        return "\n".join(
            (
                "====== Q beside R, token by token ======",
                f"Mean KLD(Q)/KLD(R)            : {_written(self.kl_ratio)}",
                f"Mean KLD(Q)-KLD(R)            : {_written(self.kl_difference)}",
                f"Mean PPL(Q)/PPL(R)            : {_written(self.perplexity_ratio)}",
                f"Same top p, Q-R               : {_percent(self.same_top)}",
            )
        )


_PERPLEXITY = {
    "q": "Mean PPL(Q)",
    "base": "Mean PPL(base)",
    "log_ratio": "Mean ln(PPL(Q)/PPL(base))",
    "ratio": "Mean PPL(Q)/PPL(base)",
    "difference": "Mean PPL(Q)-PPL(base)",
}


def _quantiles(series: list[Values], shares: Mapping[str, float]) -> dict[str, Figure]:
    values = np.concatenate(series)
    found = np.quantile(values, list(shares.values())).tolist()
    errors = errors_of_quantiles(series, list(shares.values()))
    named = {name: Figure(value, error) for name, value, error in zip(shares, found, errors, strict=True)}
    return {"maximum": Figure(float(values.max())), **named, "minimum": Figure(float(values.min()))}


def _written(figure: Figure) -> str:
    error = "" if figure.error is None else f" \N{PLUS-MINUS SIGN} {figure.error:10.6f}"
    return f"{figure.value:10.6f}{error}"


def _percent(figure: Figure) -> str:
    error = "" if figure.error is None else f" \N{PLUS-MINUS SIGN} {100 * figure.error:5.3f}"
    return f"{100 * figure.value:7.3f}{error} %"
