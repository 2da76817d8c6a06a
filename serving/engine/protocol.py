"""What a page needs of an engine."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from serving.folder import ModelFolder
from serving.text.process import TextProcess
from serving.text.prompt import Prompt
from serving.types import Cancelled, Chunk, Message, SamplingOptions, TemplateOptions, never


class ChatEngine(Protocol):
    """What a page or an API needs of an engine, be it in this process or in one of its own."""

    folder: ModelFolder

    @property
    def context_length(self) -> int:
        """The served window, in tokens."""

    @property
    def prompt(self) -> TextProcess | Prompt:
        """What writes prompts, and knows how each token is spelled."""

    def generate(
        self,
        messages: Sequence[Message],
        options: SamplingOptions | None = None,
        cancelled: Cancelled = never,
        template: TemplateOptions | None = None,
        client: str = "",
    ) -> Iterator[Chunk]:
        """Stream the assistant's answer; closing the iterator cancels it. client: who asks, by a name of any kind."""
