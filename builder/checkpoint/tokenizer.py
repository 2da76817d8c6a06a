"""What a checkpoint says of its tokenizer and its chat template."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from builder.checkpoint.files import read_object, read_text


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """The files that make text of tokens.

    file: tokenizer.json, which is there for the kind "fast" only.
    template: the Jinja template of conversations, of several the default one, from where transformers looks for it, or
    its processors of models that also see; None for a base model.
    special_tokens: their texts by the names that templates use, such as bos_token.
    legacy: how Llama's tokenizers take text after a control token, where the files say so.
    """

    file: Path
    kind: Literal["fast", "sentencepiece", "none"]
    template: str | None
    special_tokens: Mapping[str, str]
    legacy: bool | None = None


def read_tokenizer(folder: Path) -> TokenizerFiles:
    """What the folder holds. Raises SourceError for a file that cannot be read."""
    settings = folder / "tokenizer_config.json"
    config = read_object(settings) if settings.is_file() else {}
    file = folder / "tokenizer.json"
    slow: Literal["sentencepiece", "none"] = "sentencepiece" if (folder / "tokenizer.model").is_file() else "none"
    return TokenizerFiles(
        file=file,
        kind="fast" if file.is_file() else slow,
        template=_template(folder, config),
        special_tokens={
            name: value["content"] if isinstance(value, dict) else value
            for name, value in config.items()
            if name.endswith("_token") and isinstance(value, str | dict)
        },
        legacy=config.get("legacy"),
    )


def _template(folder: Path, config: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return read_text(file)
    processor = folder / "chat_template.json"
    template = config.get("chat_template")
    if template is None and processor.is_file():
        template = read_object(processor).get("chat_template")
    if isinstance(template, list):
        named = [entry for entry in template if isinstance(entry, dict) and entry.get("name") == "default"]
        template = named[0].get("template") if named else None
    return template if isinstance(template, str) else None
