"""POST /v1/completions."""

from typing import Annotated

from pydantic import Field

from serving.http.problems import Problem
from serving.http.requests.sampled import MOST_CHOICES, Sampled
from serving.http.requests.unasked import COMPLETION
from serving.http.requests.wire import WHOLE
from serving.types import SamplingOptions

TokenIds = Annotated[list[Annotated[int, WHOLE]], Field(min_length=1, fail_fast=True)]


class CompletionRequest(Sampled):
    """POST /v1/completions."""

    unasked = COMPLETION
    prompt: (
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, fail_fast=True)]
        | TokenIds
        | Annotated[list[TokenIds], Field(min_length=1, fail_fast=True)]
    ) = Field(description="a text, token ids, or several of either; no chat template is applied")
    logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] | None = Field(
        None, description="also give the log-probability of each token and of so many of the likeliest"
    )
    echo: bool | None = Field(
        None,
        description="give the prompt before the answer, and with `logprobs` those of its tokens too; what ends the "
        "answer is then listed as a token of it",
    )
    max_tokens: Annotated[int, Field(ge=0, lt=2**31), WHOLE] | None = Field(
        None, description="at most so many new tokens; the window's end without it; 0 only with `echo`"
    )
    best_of: Annotated[int, Field(ge=1, le=MOST_CHOICES), WHOLE] | None = Field(
        None, description="only 1, or as many as `n`: all are given"
    )

    def prompts(self) -> list[str | list[int]]:
        """Each prompt by itself."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [[token for token in self.prompt if isinstance(token, int)]]
        return [prompt for prompt in self.prompt if not isinstance(prompt, int)]

    def sampling(self, defaults: SamplingOptions) -> SamplingOptions:
        """The sampling options. Raises Problem, InvalidRequest."""
        if self.max_tokens == 0 and not self.echo:
            raise Problem.invalid("max_tokens of 0 needs echo: without it there is nothing to give.", "max_tokens")
        if self.best_of not in (None, 1, self.n):
            message = f"best_of of {self.best_of} is not done: leave it out, or ask for as many answers by n."
            raise Problem.invalid(message, "best_of")
        echoed = self.logprobs if self.echo else None
        return self.options(defaults, logprobs=self.logprobs, prompt_logprobs=echoed, grammar=self.wanted())
