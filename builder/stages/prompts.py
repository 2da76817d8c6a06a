"""What is served of a checkpoint's tokenizer and chat template: written once, and proved before anything heavy.

Runs as a child process: `python -m builder.stages.prompts`. What transformers saves of a tokenizer and reads again is
not always the same tokenizer (it forgets Llama's `legacy`), so every later stage copies what is written here.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from builder.checkpoint.checkpoint import Checkpoint, read_settings
from builder.checkpoint.files import read_object
from builder.checkpoint.tokenizer import TokenizerFiles, read_tokenizer
from builder.errors import SourceError, VerificationFailed
from builder.progress import Report
from builder.stages.stage import Job, stage_main
from serving.errors import InvalidRequest, ServingError, unpanicked
from serving.text.prompt import Prompt
from serving.types import Message, Role

_SETTINGS, _TEMPLATE, _GENERATION = "tokenizer_config.json", "chat_template.jinja", "generation_config.json"
_MARK = "what is said"
# Put before a template that takes content as a list of parts only, so that it takes text.
_INTO_PARTS = """\
{%- set told = namespace(messages=[]) %}{% for message in messages %}
    {%- set content = message.content %}
    {%- set parts = [{'type': 'text', 'text': content}] if content is string else content or [] %}
    {%- set told.messages = told.messages + [dict(message, content=parts)] %}{% endfor %}
{%- set messages = told.messages %}
"""
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


def prompts(job: Job, report: Report) -> Job:
    """Write what is served, and prove it.

    job: checkpoint, whose weights need not be there; output, the folder to make. It gets tokenizer.json,
    tokenizer_config.json, chat_template.jinja, any other templates and, where there is one, generation_config.json.
    Raises SourceError where they cannot be read, VerificationFailed where they would not do what the checkpoint's do.
    """
    checkpoint, output = read_settings(Path(job["checkpoint"])), Path(job["output"])
    original = load_tokenizer(checkpoint.path)
    write(checkpoint, original, output)
    # It says where answers end too, which the files above must tell by themselves.
    genai_config = output / "genai_config.json"
    genai_config.write_text(json.dumps({"model": {}}), encoding="utf-8")
    try:
        prompt = Prompt.load(output)
    except ServingError as error:
        raise SourceError(f"the tokenizer of {checkpoint.path} cannot be served: {error}") from error
    genai_config.unlink()
    check_prompts(prompt, Files.of(checkpoint), original)
    check_streamed_text(prompt)
    return {}


def check_exported(job: Job, report: Report) -> Job:
    """Prove the tokenizer, the template and the ends of a model folder that others made, against transformers.

    job: exported. Raises SourceError where they cannot be read, VerificationFailed where others would be served.
    """
    folder = Path(job["exported"])
    settings = read_object(folder / "genai_config.json")["model"]
    files = Files(folder, read_tokenizer(folder), settings["vocab_size"])
    try:
        prompt = Prompt.load(folder)
    except ServingError as error:
        raise SourceError(str(error)) from error
    check_prompts(prompt, files, load_tokenizer(folder))
    check_streamed_text(prompt)
    return {}


@dataclass(frozen=True, slots=True)
class Files:
    """Where a tokenizer is from, and how many tokens its model knows."""

    path: Path
    tokenizer: TokenizerFiles
    vocabulary: int

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> "Files":
        """Those of a checkpoint."""
        return cls(checkpoint.path, checkpoint.tokenizer, checkpoint.model.shape.vocabulary)


def takes_parts(files: Files, original: Any) -> bool:
    """Whether the template loses what is said unless it comes as a list of parts, as of some models that also see."""
    texts: tuple[Any, Any] = (_MARK, _parts(_MARK))
    as_text, as_parts = (_rendered(original, [{"role": "user", "content": text}], files) for text in texts)
    return _MARK not in (as_text or _MARK) and _MARK in (as_parts or "")


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer as transformers has it; without its class, where that is code that comes with the checkpoint.

    Raises SourceError.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    has_code = "auto_map" in read_object(folder / _SETTINGS) if (folder / _SETTINGS).is_file() else False
    own_class = PreTrainedTokenizerFast if has_code and (folder / "tokenizer.json").is_file() else AutoTokenizer
    try:
        with unpanicked():
            return own_class.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # many kinds, by the kind of tokenizer
        raise SourceError(
            f"the tokenizer of {folder} cannot be loaded ({type(error).__name__}: {error}). A tokenizer.json is "
            "needed, or a tokenizer.model of a kind that transformers knows; code from a checkpoint is never run."
        ) from error


def write(checkpoint: Checkpoint, original: Any, output: Path) -> None:
    """The files that are served of a tokenizer, into a new folder."""
    original.save_pretrained(output)
    if checkpoint.tokenizer.template is not None:
        before = _INTO_PARTS if takes_parts(Files.of(checkpoint), original) else ""
        (output / _TEMPLATE).write_text(before + checkpoint.tokenizer.template, encoding="utf-8")
    if (checkpoint.path / _GENERATION).is_file():
        shutil.copyfile(checkpoint.path / _GENERATION, output / _GENERATION)
    if not (output / "tokenizer.json").is_file():
        raise SourceError(f"the tokenizer of {checkpoint.path} cannot be written as a tokenizer.json: it is too old.")
    # transformers leaves out the first: what is loaded from here would encode otherwise after a control token. Of the
    # second, many files say "no limit" by a number that other programs cannot read.
    told = {"legacy": checkpoint.tokenizer.legacy, "model_max_length": checkpoint.model.positions}
    settings = read_object(output / _SETTINGS) | {name: value for name, value in told.items() if value is not None}
    settings.pop("auto_map", None)
    (output / _SETTINGS).write_text(json.dumps(settings, indent=2, ensure_ascii=False), encoding="utf-8")


def check_prompts(prompt: Prompt, files: Files, original: Any) -> None:
    """The served template and tokenizer must do what transformers does with the model's own.

    Raises VerificationFailed naming the conversation or the token, SourceError where the model lacks one.
    """
    vocabulary, parts = files.vocabulary, takes_parts(files, original)
    for conversation in _CONVERSATIONS:
        messages = [Message(role, content) for role, content in conversation]
        plain = [{"role": role, "content": _parts(content) if parts else content} for role, content in conversation]
        expected = _rendered(original, plain, files, tokenize=True)
        try:
            found = prompt.encode(prompt.render(messages)).tolist()
        except InvalidRequest:
            found = None
        if found != expected:
            raise VerificationFailed(
                f"what would be served does not encode the conversation {conversation} as the checkpoint does: its "
                "chat template or tokenizer differs. Nothing was built; please report it with the model's name."
            )
        if found and max(found) >= vocabulary:
            raise SourceError(
                f"the tokenizer of {files.path} writes token {max(found)} of the conversation {conversation}, and "
                f"the model knows {vocabulary} tokens: they do not belong together."
            )
    ends = {original.eos_token_id}
    if (files.path / _GENERATION).is_file():
        declared = read_object(files.path / _GENERATION).get("eos_token_id")
        ends |= set(declared) if isinstance(declared, list) else {declared}
    missing = ends - {None} - prompt.end_ids
    if missing:
        raise VerificationFailed(
            f"what would be served does not end an answer at the checkpoint's tokens {sorted(missing)}: its answers "
            "would not stop. Nothing was built; please report it with the model's name."
        )


def check_streamed_text(prompt: Prompt) -> None:
    """Streaming an answer gives the tokenizer's own decoding of it, and shows no special token.

    Those that mark a tool call or a channel are not text either, but their readers find them in it. Raises
    VerificationFailed naming the text.
    """
    read = prompt.read_tokens
    added = prompt.tokenizer.get_added_tokens_decoder()
    special = {id: token.content for id, token in added.items() if token.special and token.content not in read}
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
                    f"an answer would be streamed as {plain!r}, or {surrounded!r} among special tokens, where its "
                    f"tokenizer decodes {decoded!r}. Nothing was built; please report it with the model's name."
                )


def _streamed(prompt: Prompt, token_ids: list[int]) -> str:
    detokenizer = prompt.detokenizer()
    return "".join(map(detokenizer.feed, token_ids)) + detokenizer.flush()


def _parts(text: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text}]


def _rendered(tokenizer: Any, conversation: list[Any], files: Files, tokenize: bool = False) -> Any:
    """What transformers makes of a conversation; None where the model's template refuses it, as it then does served."""
    # Of models that also see, it may lie where tokenizers do not look.
    template = None if tokenizer.chat_template else files.tokenizer.template
    try:
        return tokenizer.apply_chat_template(
            conversation, chat_template=template, add_generation_prompt=True, return_dict=False, tokenize=tokenize
        )
    except (TemplateError, TypeError, ValueError):
        return None


def run(job: Job, report: Report) -> Job:
    """What a job asks for: one says where an export is, another where a checkpoint is."""
    return (check_exported if "exported" in job else prompts)(job, report)


if __name__ == "__main__":
    stage_main(run)
