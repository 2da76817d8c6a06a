"""How much a build lost, what is too much, and what to try then. Pure: measuring is the part of stages/verify.py.

Errors are standard errors by blocks of text, as builder/statistics.py tells; NaN where none was measured.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from builder.errors import VerificationFailed
from builder.recipe import ExportTarget, QuantRecipe

# Mean KL divergence, in nats, of the export from the quantized model: sound exports were seen at 0.00001 to 0.003, and
# one whose attention window was lost at 0.6.
EXPORT_KL_LIMIT = 0.1
PERPLEXITY_RATIO_LIMIT = 1.5
# Mean KL divergence of the export from the original, in nats per token, above which the report says what to try.
LOSS_LIMIT = 0.05
CLAIMED = 2  # standard errors that a difference has to have before it is called one


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
    perplexity_original_error: float = math.nan
    perplexity_exported_error: float = math.nan
    perplexity_ratio_error: float = math.nan
    kl_divergence_error: float = math.nan
    top1_agreement_error: float = math.nan

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
    kl_divergence_error: float = math.nan
    top1_agreement_error: float = math.nan


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

    @property
    def kl_divergence_error(self) -> float:
        """That of `kl_divergence`."""
        worst = max(self.losses.values(), key=lambda loss: loss.kl_divergence, default=None)
        return worst.kl_divergence_error if worst else math.nan


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
        flag = "--group-size 32" if recipe.mixture == "none" else "--group-size 32 --mixture none"
        recipe = replace(recipe, group_size=32, mixture="none")  # which leave no room for one
        steps.append((flag, recipe, target))
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
    lines = loss_lines(quality)
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


def loss_lines(quality: Quality) -> list[str]:
    """What was lost, a line for each kind of text."""
    return [
        f"{name}: perplexity {with_error(loss.perplexity_original, loss.perplexity_original_error, 3)} before, "
        f"{with_error(loss.perplexity_exported, loss.perplexity_exported_error, 3)} after ({_ratio(loss)}), "
        f"KL divergence {with_error(loss.kl_divergence, loss.kl_divergence_error, 4)}, top-1 agreement "
        f"{share(loss.top1_agreement, loss.top1_agreement_error)}, on {loss.tokens} held-out tokens"
        for name, loss in quality.losses.items()
    ]


def proof_lines(quality: Quality, provider: str) -> list[str]:
    """How far an export is from the quantized checkpoint that it was made from, and what was lost before."""
    lines = loss_lines(quality) or ["what quantizing lost is not known: --original names what to measure it against"]
    if export := quality.export:
        lines.append(
            f"against the quantized checkpoint: KL divergence "
            f"{with_error(export.kl_divergence, export.kl_divergence_error, 4)}, top-1 agreement "
            f"{share(export.top1_agreement, export.top1_agreement_error)}, largest difference of logits "
            f"{export.max_difference:.2g}, on {export.tokens} tokens"
        )
    if provider != "cpu":
        lines.append(f"run on the CPU: the kernels of {provider} were not exercised")
    return lines


def with_error(value: float, error: float, decimals: int) -> str:
    """A figure with its standard error, in as many decimals as the error has two digits, and no fewer than given."""
    if not math.isfinite(error):
        return f"{value:.{decimals}f}"
    if error > 0:
        decimals = max(decimals, 1 - math.floor(math.log10(error)))
    return f"{value:.{decimals}f} \N{PLUS-MINUS SIGN} {error:.{decimals}f}"


def share(value: float, error: float) -> str:
    """A share of 1 with its standard error, in per cent."""
    return f"{with_error(100 * value, 100 * error, 1)}%"


def _ratio(loss: Loss) -> str:
    """How the perplexity changed; said to be within its error where it may as well not have."""
    ratio = f"x{with_error(loss.perplexity_ratio, loss.perplexity_ratio_error, 3)}"
    within = abs(loss.perplexity_ratio - 1) <= CLAIMED * loss.perplexity_ratio_error
    return f"{ratio}, which may be chance" if within else ratio
