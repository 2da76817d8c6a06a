"""How much a build lost, what is too much, and what to try then. Pure: measuring is the part of stages/verify.py."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.errors import VerificationFailed
from builder.recipe import ExportTarget, QuantRecipe

# Mean KL divergence, in nats, of the export from the quantized model: sound exports were seen at 0.00001 to 0.003, and
# one whose attention window was lost at 0.6.
EXPORT_KL_LIMIT = 0.1
PERPLEXITY_RATIO_LIMIT = 1.5
# Mean KL divergence of the export from the original, in nats per token, above which the report says what to try.
LOSS_LIMIT = 0.05
_VALUES_AT_ONCE = 1 << 20  # bounds the memory that a large vocabulary takes

Logits = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Loss:
    """The export against the original on one kind of text.

    tokens: predicted tokens. kl_divergence: mean of KL(original || export) in nats per token. top1_agreement: share
    of positions where both find the same token most likely.
    """

    tokens: int
    perplexity_original: float
    perplexity_exported: float
    kl_divergence: float
    top1_agreement: float

    @property
    def perplexity_ratio(self) -> float:
        """How much the export's perplexity is above the original's; 1 is no loss."""
        return self.perplexity_exported / self.perplexity_original


@dataclass(frozen=True, slots=True)
class Difference:
    """The export against the quantized model that it was made from; max_difference is of logits."""

    tokens: int
    kl_divergence: float
    top1_agreement: float
    max_difference: float


@dataclass(frozen=True, slots=True)
class Quality:
    """What was measured through the serving code, at the accuracy level that is served.

    text, chats: against the original, on held-out text and on rendered conversations. export: against the quantized
    model. None where there was nothing to measure by.
    """

    text: Loss | None = None
    chats: Loss | None = None
    export: Difference | None = None

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> "Quality":
        """The reverse of dataclasses.asdict."""
        text, chats, export = facts["text"], facts["chats"], facts["export"]
        return cls(text and Loss(**text), chats and Loss(**chats), export and Difference(**export))

    @property
    def losses(self) -> dict[str, Loss]:
        """What was measured against the original, by the kind of text."""
        return {name: loss for name, loss in (("text", self.text), ("chats", self.chats)) if loss}

    @property
    def kl_divergence(self) -> float:
        """From the original, in nats per token: the worst kind of text; NaN where none was measured."""
        return max((loss.kl_divergence for loss in self.losses.values()), default=math.nan)


def judge(quality: Quality) -> None:
    """Refuse an export that is not the quantized model, or a quantized model that is not the original."""
    export = quality.export
    if export and not export.kl_divergence <= EXPORT_KL_LIMIT:  # also refuses NaN
        raise VerificationFailed(
            f"the exported graph does not compute the quantized model (KL divergence {export.kl_divergence:.3g}, limit "
            f"{EXPORT_KL_LIMIT}; top-1 agreement {export.top1_agreement:.1%}): nothing was published. "
            "This is a fault of the export, not of the recipe; please report it with the model's name."
        )
    for name, loss in quality.losses.items():
        if not loss.perplexity_ratio <= PERPLEXITY_RATIO_LIMIT:
            raise VerificationFailed(
                f"quantization loses too much: perplexity on {name} {loss.perplexity_original:.4g} became "
                f"{loss.perplexity_exported:.4g} (limit {PERPLEXITY_RATIO_LIMIT} times): nothing was published. "
                "Try --group-size 32, a --dataset closer to what the model is for, or --auto-quality."
            )


def improvements(recipe: QuantRecipe, target: ExportTarget) -> list[tuple[str, QuantRecipe, ExportTarget]]:
    """What can still be tried, cheapest for the user first: each flag with the recipe and target that it leads to.

    Each step keeps the ones before it: an 8-bit output layer, groups of 32, GPTAQ, computing in float32.
    """
    steps: list[tuple[str, QuantRecipe, ExportTarget]] = []
    if not recipe.exclude_layers:
        recipe = replace(recipe, exclude_layers=("lm_head",))
        target = replace(target, lm_head_bits=8)
        steps.append(("--exclude-layers lm_head --lm-head-bits 8", recipe, target))
    elif target.lm_head_bits == 4:
        target = replace(target, lm_head_bits=8)
        steps.append(("--lm-head-bits 8", recipe, target))
    if recipe.group_size > 32:
        recipe = replace(recipe, group_size=32)
        steps.append(("--group-size 32", recipe, target))
    if recipe.quant_algo != "gptaq":
        recipe = replace(recipe, quant_algo="gptaq", custom_mode="quark")
        steps.append(("--quant-algo gptaq", recipe, target))
    if target.accuracy_level == 4:
        target = replace(target, accuracy_level=1)
        steps.append(("--accuracy-level 1", recipe, target))
    return steps


def summary(quality: Quality, recipe: QuantRecipe, target: ExportTarget, tried: int = 1) -> str:
    """The measured quality in a line for each kind of text, and what to try where the loss is above the limit.

    tried: how many recipes this one is the best of.
    """
    lines = [
        f"{name}: perplexity {loss.perplexity_original:.3f} before, {loss.perplexity_exported:.3f} after "
        f"(x{loss.perplexity_ratio:.3f}), KL divergence {loss.kl_divergence:.4f}, top-1 agreement "
        f"{loss.top1_agreement:.1%}, on {loss.tokens} held-out tokens"
        for name, loss in quality.losses.items()
    ]
    if target.execution_provider != "cpu":
        lines.append(f"measured on the CPU: the kernels of {target.execution_provider} were not exercised")
    if quality.kl_divergence > LOSS_LIMIT and tried > 1:
        lines.append(
            f"the loss is above {LOSS_LIMIT} nats per token with each of {tried} recipes; this one loses least"
        )
    elif quality.kl_divergence > LOSS_LIMIT:
        knobs = ", then ".join(flag for flag, _, _ in improvements(recipe, target)) or "a larger model"
        lines.append(f"the loss is above {LOSS_LIMIT} nats per token: try {knobs} (--auto-quality does it for you)")
    return "\n".join(lines)


class Comparison:
    """Running sums over pairs of reference and candidate logits."""

    def __init__(self) -> None:
        self.tokens = 0
        self.max_difference = 0.0
        self._nll_reference = self._nll_candidate = self._kl = 0.0
        self._agree = 0

    def add(self, reference: Logits, candidate: Logits, token_ids: NDArray[np.int64]) -> None:
        """Compare logits, or log probabilities, [n, vocab] of one sequence; position i predicts token i + 1."""
        rows, vocabulary = token_ids.size - 1, reference.shape[1]
        step = max(1, _VALUES_AT_ONCE // vocabulary)
        for begin in range(0, rows, step):
            part = slice(begin, min(begin + step, rows))
            expected = reference[part].astype(np.float64)
            found = candidate[part, :vocabulary].astype(np.float64)
            p, q = _log_softmax(expected), _log_softmax(found)
            following = token_ids[part.start + 1 : part.stop + 1, None]
            self._nll_reference -= float(np.take_along_axis(p, following, axis=1).sum())
            self._nll_candidate -= float(np.take_along_axis(q, following, axis=1).sum())
            self._kl += float((np.exp(p) * (p - q)).sum())
            self._agree += int((p.argmax(axis=1) == q.argmax(axis=1)).sum())
            self.max_difference = max(self.max_difference, float(np.abs(expected - found).max()))
        self.tokens += token_ids.size - 1

    @property
    def perplexity_reference(self) -> float:
        """exp of the mean negative log-likelihood, of the reference."""
        return float(np.exp(self._nll_reference / self.tokens))

    @property
    def perplexity_candidate(self) -> float:
        """exp of the mean negative log-likelihood, of the candidate."""
        return float(np.exp(self._nll_candidate / self.tokens))

    @property
    def kl_divergence(self) -> float:
        """Mean KL(reference || candidate), in nats per token."""
        return self._kl / self.tokens

    @property
    def top1_agreement(self) -> float:
        """Share of positions whose most likely token is the same."""
        return self._agree / self.tokens

    def loss(self) -> Loss:
        """The candidate as the export and the reference as the original."""
        return Loss(
            self.tokens, self.perplexity_reference, self.perplexity_candidate, self.kl_divergence, self.top1_agreement
        )

    def difference(self) -> Difference:
        """The candidate as the export and the reference as the quantized model."""
        return Difference(self.tokens, self.kl_divergence, self.top1_agreement, self.max_difference)


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_probabilities
