"""Serve the fresh export and measure it against what it was made from. Runs as a child process.

Three questions. Is the export the quantized model? It must give what Quark's own model gave, up to the rounding of
int8 activations and of the output layer: a swapped nibble, a lost zero point or a wrong rotary base shows here, on
random weights too. Are its prompts the original's? Template, tokens and end of turn must be. Is it as good as the
original? That is measured on held-out text and conversations.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError

from builder.comparison import Comparison
from builder.errors import VerificationFailed
from builder.progress import Report, Step
from builder.quality import Difference, Loss, Quality
from builder.stages.stage import Job, stage_main
from serving.engine.oga import OgaRuntime
from serving.errors import InvalidRequest, ServingError
from serving.folder import ModelFolder
from serving.hardware import usable_cores
from serving.text.prompt import Prompt
from serving.types import Message, Role

# What templates and tokenizers have been seen to get wrong: blanks at the ends, empty turns, markup, other scripts,
# text that looks like a template, and text that looks like a control token.
_CONVERSATIONS: tuple[tuple[tuple[Role, str], ...], ...] = (
    (("user", "hi"),),
    (("system", "Be brief."), ("user", "hi")),
    (
        ("system", "Be brief."),
        ("user", " two  spaces\nand a line"),
        ("assistant", "h\u00e9llo"),
        ("user", "{{ x }} <b>"),
    ),
    (("user", "\n\n leading and trailing \t\n"), ("assistant", " "), ("user", "ok")),
    (("user", "\U0001f44d\U0001f3fd \u4f60\u597d \u0928\u092e\u0938\u094d\u0924\u0947 e\u0301 1234567890 0.5"),),
    (("user", "```python\nif x:\n\tprint('{%- y -%}')\n```"),),
    (("user", "</s><s>[INST] <|im_end|> <|eot_id|> <end_of_turn>"),),
    (("user", ""),),
)


def verify(job: Job, report: Report) -> Job:
    """Measure the export; the verdict is quality.judge's.

    job: checkpoint, exported, output (an empty folder to make, since what is kept is one); proof of the quantized
    model, and blocks with original (the folder of the original's log probabilities), where there are any. Raises
    VerificationFailed where prompts or text differ.
    """
    Path(job["output"]).mkdir()  # at once: whoever looks sees that this stage is at work
    try:
        folder = ModelFolder.open(Path(job["exported"]))
        prompt, runtime = Prompt.load(folder.path), OgaRuntime(folder, None, usable_cores(), provider="cpu")
    except ServingError as error:
        raise VerificationFailed(f"the export cannot be served, so nothing was published: {error}") from error
    check_prompts(prompt, Path(job["checkpoint"]))
    check_streamed_text(prompt)
    quality = Quality(
        export=against_quantized(runtime, Path(job["proof"])) if "proof" in job else None,
        **against_original(runtime, Path(job["blocks"]), Path(job["original"]), report) if "blocks" in job else {},
    )
    return {"quality": asdict(quality)}


def against_original(runtime: OgaRuntime, blocks: Path, original: Path, report: Report) -> dict[str, Loss]:
    """The export against the original, on held-out `text` and, where there are any, on `chats`."""
    found: dict[str, Comparison] = {}
    with np.load(blocks) as content:
        measured = [(kind, block) for kind in ("text", "chats") for block in content[kind]]
    for done, (kind, block) in enumerate(measured):
        report(Step("verify", done, len(measured), f"sequence {done + 1} of {len(measured)}"))
        expected = np.load(original / f"{done}.npy")
        found.setdefault(kind, Comparison()).add(expected, runtime.all_logits(block.astype(np.int32)), block)
    return {kind: comparison.loss() for kind, comparison in found.items()}


def against_quantized(runtime: OgaRuntime, proof: Path) -> Difference:
    """The export against the quantized model that it was made from."""
    comparison = Comparison()
    with np.load(proof) as content:
        token_ids = content["token_ids"]
        comparison.add(content["logits"], runtime.all_logits(token_ids.astype(np.int32)), token_ids)
    return comparison.difference()


def check_prompts(prompt: Prompt, checkpoint: Path) -> None:
    """The served template and tokenizer must do what transformers does with the checkpoint's own.

    Raises VerificationFailed naming the conversation or the token.
    """
    from transformers import AutoTokenizer, GenerationConfig

    original = AutoTokenizer.from_pretrained(checkpoint)
    for conversation in _CONVERSATIONS:
        messages = [Message(role, content) for role, content in conversation]
        expected = _transformers_tokens(original, messages)
        try:
            found = prompt.encode(prompt.render(messages)).tolist()
        except InvalidRequest:
            found = None
        if found != expected:
            raise VerificationFailed(
                f"the exported folder does not encode the conversation {conversation} as the checkpoint does: its chat "
                "template or tokenizer differs. Nothing was published; please report it with the model's name."
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


def check_streamed_text(prompt: Prompt) -> None:
    """Streaming an answer gives the tokenizer's own decoding of it, and shows no special token.

    Raises VerificationFailed naming the text.
    """
    added = prompt.tokenizer.get_added_tokens_decoder()
    special = {id: token.content for id, token in added.items() if token.special}
    for conversation in _CONVERSATIONS:
        for _, content in conversation:
            token_ids = [id for id in prompt.encode(content).tolist() if id not in special]
            decoded = prompt.tokenizer.decode(token_ids, skip_special_tokens=True)
            plain = _streamed(prompt, token_ids)
            surrounded = _streamed(prompt, [*special, *token_ids, *special])
            # Blanks at the ends are the tokenizer's own affair.
            if decoded.strip() != plain.strip() or any(
                text in surrounded and text not in decoded for text in special.values()
            ):
                raise VerificationFailed(
                    f"the exported folder streams {plain!r}, or {surrounded!r} among special tokens, where its "
                    f"tokenizer decodes {decoded!r}. Nothing was published; please report it with the model's name."
                )


def _streamed(prompt: Prompt, token_ids: list[int]) -> str:
    detokenizer = prompt.detokenizer()
    return "".join(map(detokenizer.feed, token_ids)) + detokenizer.flush()


def _transformers_tokens(tokenizer: Any, messages: list[Message]) -> list[int] | None:
    """What transformers makes of a conversation; None where the model's template refuses it, as it then does served."""
    conversation = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return list(tokenizer.apply_chat_template(conversation, add_generation_prompt=True, return_dict=False))
    except (TemplateError, TypeError, ValueError):
        return None


if __name__ == "__main__":
    stage_main(verify)
