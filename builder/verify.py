"""Serve the fresh export and measure it against what it was made from. Runs as a child process.

Three questions. Is the export the quantized model? It must give what Quark's own model gave, up to the rounding of
int8 activations and of the output layer: a swapped nibble, a lost zero point or a wrong rotary base shows here, on
random weights too. Are its prompts the original's? Template, tokens and end of turn must be. Is it as good as the
original? That is measured on held-out text.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray

from builder.errors import VerificationFailed
from builder.progress import Report, Step
from builder.source import resolve_data_type
from builder.stage import Job, stage_main
from serving.errors import ServingError
from serving.folder import ModelFolder
from serving.hardware import usable_cores
from serving.prompt import Prompt
from serving.runtime import Runtime
from serving.types import Message, Role

# Mean KL divergence, in nats, of the export from the quantized model: sound exports were seen at 0.00001 to 0.003, and
# one whose attention window was lost at 0.6.
EXPORT_KL_LIMIT = 0.1
PERPLEXITY_RATIO_LIMIT = 1.5

_CONVERSATIONS: tuple[tuple[tuple[Role, str], ...], ...] = (
    (("user", "hi"),),
    (
        ("system", "Be brief."),
        ("user", " two  spaces\nand a line"),
        ("assistant", "h\u00e9llo"),
        ("user", "{{ x }} <b>"),
    ),
)

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Quality:
    """What was measured on held-out text, through the serving code.

    tokens: predicted tokens. kl_divergence: mean of KL(original || export) in nats per token. top1_agreement: share
    of positions where both find the same token most likely. export_*: the same against the quantized model.
    """

    tokens: int
    perplexity_original: float
    perplexity_exported: float
    kl_divergence: float
    top1_agreement: float
    export_kl_divergence: float
    export_top1_agreement: float

    @property
    def perplexity_ratio(self) -> float:
        """How much the export's perplexity is above the original's; 1 is no loss."""
        return self.perplexity_exported / self.perplexity_original


def verify(job: Job, report: Report) -> Job:
    """Measure and judge. job: checkpoint, exported, blocks, proof, data_type. Raises VerificationFailed."""
    import torch
    from transformers import AutoModelForCausalLM

    checkpoint = Path(job["checkpoint"])
    try:
        folder = ModelFolder.open(Path(job["exported"]))
        prompt, runtime = Prompt.load(folder.path), Runtime(folder, None, usable_cores(), cpu=True)
    except ServingError as error:
        raise VerificationFailed(f"the export cannot be served, so nothing was published: {error}") from error
    check_prompts(prompt, checkpoint)

    # 1. The export against the quantized model it was made from.
    with np.load(job["proof"]) as proof:
        against = Comparison()
        against.add(proof["logits"], runtime.all_logits(proof["token_ids"].astype(np.int32)), proof["token_ids"])

    # 2. The export against the original.
    dtype = getattr(torch, resolve_data_type(job["data_type"], checkpoint))
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype).eval()
    with np.load(job["blocks"]) as blocks:
        heldout = blocks["heldout"]
    quality = Comparison()
    for done, block in enumerate(heldout):
        report(Step("verify", done, len(heldout), f"sequence {done + 1} of {len(heldout)}"))
        with torch.inference_mode():
            original = model(torch.from_numpy(block)[None]).logits[0].float().numpy()
        quality.add(original, runtime.all_logits(block.astype(np.int32)), block)

    measured = Quality(
        tokens=quality.tokens,
        perplexity_original=quality.perplexity_reference,
        perplexity_exported=quality.perplexity_candidate,
        kl_divergence=quality.kl_divergence,
        top1_agreement=quality.top1_agreement,
        export_kl_divergence=against.kl_divergence,
        export_top1_agreement=against.top1_agreement,
    )
    judge(measured)
    return asdict(measured)


def check_prompts(prompt: Prompt, checkpoint: Path) -> None:
    """The served template and tokenizer must do what transformers does with the checkpoint's own."""
    from transformers import AutoTokenizer, GenerationConfig

    original = AutoTokenizer.from_pretrained(checkpoint)
    for conversation in _CONVERSATIONS:
        messages = [Message(role, content) for role, content in conversation]
        dicts = [{"role": role, "content": content} for role, content in conversation]
        try:
            expected = original.apply_chat_template(dicts, add_generation_prompt=True, return_dict=False)
        except TemplateError:
            continue  # the model's template does not take this conversation, and says so when it is served
        if prompt.encode(prompt.render(messages)).tolist() != expected:
            raise VerificationFailed(
                "the exported folder does not encode a conversation as the checkpoint does: its chat template or "
                "tokenizer differs. Nothing was published; please report it with the model's name."
            )
    ends = {original.eos_token_id}
    if (checkpoint / "generation_config.json").is_file():
        declared = GenerationConfig.from_pretrained(checkpoint).eos_token_id
        ends |= set(declared) if isinstance(declared, list) else {declared}
    missing = ends - {None} - prompt.end_ids
    if missing:
        raise VerificationFailed(
            f"the exported folder does not end an answer at the checkpoint's tokens {sorted(missing)}: its answers "
            "would not stop. Nothing was published; please report it with the model's name."
        )


def judge(quality: Quality) -> None:
    """Refuse an export that is not the quantized model, or a quantized model that is not the original."""
    if not quality.export_kl_divergence <= EXPORT_KL_LIMIT:  # also refuses NaN
        raise VerificationFailed(
            "the exported graph does not compute the quantized model (KL divergence "
            f"{quality.export_kl_divergence:.3g}, limit {EXPORT_KL_LIMIT}; top-1 agreement "
            f"{quality.export_top1_agreement:.1%}): nothing was published. "
            "This is a fault of the export, not of the recipe; please report it with the model's name."
        )
    if not quality.perplexity_ratio <= PERPLEXITY_RATIO_LIMIT:
        raise VerificationFailed(
            f"quantization loses too much: perplexity {quality.perplexity_original:.4g} became "
            f"{quality.perplexity_exported:.4g} (limit {PERPLEXITY_RATIO_LIMIT} times): nothing was published. "
            "Try --group-size 32, or a --dataset closer to what the model is for."
        )


class Comparison:
    """Running sums over pairs of reference and candidate logits."""

    def __init__(self) -> None:
        self.tokens = 0
        self._nll_reference = self._nll_candidate = self._kl = 0.0
        self._agree = 0

    def add(self, reference: Logits, candidate: Logits, token_ids: NDArray[np.int64]) -> None:
        """Compare logits [n, vocab] of one sequence; position i predicts token i + 1."""
        p, q = _log_softmax(reference[:-1]), _log_softmax(candidate[:-1, : reference.shape[1]])
        following = token_ids[1:, None]
        self.tokens += following.size
        self._nll_reference -= float(np.take_along_axis(p, following, axis=1).sum())
        self._nll_candidate -= float(np.take_along_axis(q, following, axis=1).sum())
        self._kl += float((np.exp(p) * (p - q)).sum())
        self._agree += int((p.argmax(axis=1) == q.argmax(axis=1)).sum())

    @property
    def perplexity_reference(self) -> float:
        return float(np.exp(self._nll_reference / self.tokens))

    @property
    def perplexity_candidate(self) -> float:
        return float(np.exp(self._nll_candidate / self.tokens))

    @property
    def kl_divergence(self) -> float:
        return self._kl / self.tokens

    @property
    def top1_agreement(self) -> float:
        return self._agree / self.tokens


def _log_softmax(logits: Logits) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_probabilities: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return log_probabilities


if __name__ == "__main__":
    stage_main(verify)
