"""Text and conversations become tokens, without transformers' tokenizer classes, which import torch."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jinja2 import TemplateError
from tokenizers import Tokenizer

from builder.checkpoint.tokenizer import TokenizerFiles
from builder.errors import CalibrationError, SourceError


@dataclass(frozen=True, slots=True)
class Reader:
    """A checkpoint's tokenizer and chat template at work."""

    tokenizer: Tokenizer
    files: TokenizerFiles

    @classmethod
    def of(cls, files: TokenizerFiles) -> "Reader":
        """Raises SourceError for a tokenizer that cannot be read."""
        try:
            tokenizer = Tokenizer.from_file(str(files.file))
        except Exception as error:  # tokenizers raises bare Exception for any fault of the file
            raise SourceError(f"{files.file} cannot be read: {error}.") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return cls(tokenizer, files)

    def ids(self, document: str) -> list[int]:
        """Tokens of a document, begun as the tokenizer begins a text."""
        return list(self.tokenizer.encode(document).ids)

    def long_ids(self, pieces: Iterable[str]) -> Iterator[int]:
        """Tokens of one document that is too long to be tokenized at once, or more than is needed."""
        for number, piece in enumerate(pieces):
            yield from self.tokenizer.encode(piece, add_special_tokens=number == 0).ids

    def chat_ids(self, messages: list[dict[str, str]]) -> list[int]:
        """Tokens of a conversation. Raises CalibrationError where the template refuses it."""
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            rendered, _ = render_jinja_template(
                [messages], chat_template=self.files.template, **self.files.special_tokens
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise CalibrationError(f"this model's chat template refuses the conversation ({error}).") from error
        return list(self.tokenizer.encode(str(rendered[0]), add_special_tokens=False).ids)
