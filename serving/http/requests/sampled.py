"""How tokens are chosen: what OpenAI's endpoints have in common, over what a model suggests."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from serving.errors import InvalidRequest
from serving.http.requests.guided import Guided
from serving.http.requests.unasked import REQUEST
from serving.http.requests.wire import WHOLE, Count, PaddedStream, Temperature, Thought, TopP, few
from serving.types import SamplingOptions

MOST_CHOICES = 16
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Repetition = Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Stop = Annotated[str, Field(min_length=1, max_length=1000)]


def _asked(stops: Any) -> Any:
    return [stop for stop in stops if stop != ""] if isinstance(stops, list) else stops


# A text that is empty ends nothing.
Stops = Annotated[list[Stop], Field(max_length=16, fail_fast=True), BeforeValidator(_asked)]


class StreamOptions(PaddedStream):
    """What a stream carries besides the text."""

    include_usage: bool | None = Field(None, description="end with a chunk that has no choices but the usage")
    continuous_usage_stats: bool | None = Field(None, description="the usage so far in every chunk")


class Chosen(Guided):
    """How the tokens of an answer are chosen, and what ends it: what all of OpenAI's endpoints have in common."""

    model: str = Field(description="the name that /v1/models gives")
    stream: bool | None = Field(None, description="send the answer as it is made, as server-sent events")
    temperature: Temperature | None = Field(None, description="0 is greedy; the model's own suggestion, else 1")
    top_p: TopP | None = Field(None, description="nucleus sampling; the model's own suggestion, else 1")
    top_k: Annotated[int, Field(ge=-1, lt=2**31), WHOLE] | None = Field(
        None, description="keep the k likeliest tokens, 0 or -1 keeps all; the model's own suggestion, else 0"
    )
    typical_p: TopP | None = Field(None, description="locally typical sampling; 1 is off")
    min_p: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = Field(
        None, description="keep tokens at least so many times as likely as the likeliest"
    )
    repetition_penalty: Repetition | None = Field(None, description="against tokens of prompt and answer; 1 is off")
    repeat_penalty: Repetition | None = Field(None, description="llama.cpp's name of `repetition_penalty`")
    frequency_penalty: Penalty | None = Field(None, description="for each time that a token came in the answer")
    presence_penalty: Penalty | None = Field(None, description="once for a token that came in the answer")
    logit_bias: Annotated[dict[Annotated[str, Field(pattern=r"^\d{1,9}$")], Bias], few(1000)] | None = Field(
        None, description="token id to what is added to its logit"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63 - MOST_CHOICES), WHOLE] | None = Field(
        None, description="same seed, same prompt, same draws"
    )
    stop: Stop | Stops | None = Field(None, description="strings that end the answer; not part of it")
    include_stop_str_in_output: bool | None = Field(
        None, description="true: the text of `stop` or `stop_token_ids` that ended the answer is part of it"
    )
    stop_token_ids: (
        Annotated[list[Annotated[int, Field(ge=0, lt=2**31), WHOLE]], Field(max_length=64, fail_fast=True)] | None
    ) = Field(None, description="tokens that end the answer, besides the model's own")
    bad_words: Annotated[list[Stop], Field(max_length=100, fail_fast=True)] | None = Field(
        None, description="texts that never come, as the tokenizer writes them alone and after a blank"
    )
    min_tokens: Thought | None = Field(
        None, description="the answer has at least so many tokens, unless a grammar or the window ends it"
    )
    ignore_eos: bool | None = Field(None, description="true: the model does not end the answer itself")
    user: str | None = Field(None, description="whom a request is made for; nothing is done with it")

    def options(self, defaults: SamplingOptions, **more: Any) -> SamplingOptions:
        """The sampling options: what is given here, over what the model suggests. Raises InvalidRequest."""
        bias = [(int(token), value) for token, value in (self.logit_bias or {}).items()]
        stop = [self.stop] if isinstance(self.stop, str) else self.stop
        if self.repeat_penalty not in (None, self.repetition_penalty or self.repeat_penalty):
            raise InvalidRequest("repetition_penalty and repeat_penalty are the same, and say different things.")
        given: dict[str, Any] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k and max(self.top_k, 0),
            "typical_p": self.typical_p,
            "min_p": self.min_p,
            "repetition_penalty": self.repetition_penalty or self.repeat_penalty,
            "frequency_penalty": self.frequency_penalty,
            "presence_penalty": self.presence_penalty,
            "seed": self.seed,
            "logit_bias": tuple(bias) or None,
            "stop": tuple(stop) if stop else None,
            "include_stop": self.include_stop_str_in_output,
            "stop_token_ids": tuple(self.stop_token_ids) if self.stop_token_ids else None,
            "bad_words": tuple(self.bad_words) if self.bad_words else None,
            "min_tokens": self.min_tokens,
            "ignore_eos": self.ignore_eos,
            **more,
        }
        return with_given(defaults, given)


class Sampled(Chosen):
    """What the two completion endpoints have in common."""

    unasked = REQUEST
    stream_options: StreamOptions | None = Field(None, description="of no effect without `stream`")
    n: Annotated[int, Field(ge=1, le=MOST_CHOICES), WHOLE] | None = Field(
        None, description="answers to make; each takes a place in the queue, and the next seed"
    )
    max_tokens: Count | None = Field(None, description="at most so many new tokens; the window's end without it")

    def options(self, defaults: SamplingOptions, **more: Any) -> SamplingOptions:
        """The sampling options: what is given here, over what the model suggests. Raises InvalidRequest."""
        return super().options(defaults, **{"max_tokens": self.max_tokens, **more})

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def padded(self) -> bool:
        """Whether the events of a stream are brought to lengths that tell little."""
        return bool(self.stream_options and self.stream_options.include_obfuscation)

    @property
    def usage_in_each(self) -> bool:
        """Whether every event of a stream has the usage so far."""
        return bool(self.stream_options and self.stream_options.continuous_usage_stats)


def with_given(defaults: SamplingOptions, given: Mapping[str, Any]) -> SamplingOptions:
    """The defaults, and in their place what is given and not None. Raises InvalidRequest."""
    return replace(defaults, **{name: value for name, value in given.items() if value is not None})


def defaults_from(generation: Mapping[str, Any]) -> SamplingOptions:
    """What a model's generation_config.json suggests, as far as it can be used; OpenAI's defaults without it."""
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    usable: dict[str, Any] = {
        n: v for n in names if isinstance(v := generation.get(n), int | float) and not isinstance(v, bool)
    }
    try:
        return SamplingOptions(**usable)
    except InvalidRequest:
        return SamplingOptions()
