"""How /v1/completions writes answers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from serving.http.shapes.completions import CompletionsShape
from serving.http.shapes.shape import Event, Gathered, Json, finish_of
from serving.types import Chunk

SLACK = 16  # characters within which a token's spelling is looked for
LEAST_LOGPROB = -9999.0  # as OpenAI has it; JSON has no -inf


@dataclass(slots=True)
class Places:
    """Where the tokens of one choice stand in its text: those of an echoed prompt, then those of the answer."""

    echoed: str = ""
    prompt: int = 0  # as far as it has been found
    answer: int = 0  # characters that its tokens spell

    def next(self, spelled: str, of_prompt: bool) -> int:
        """The offset of the next token.

        A tokenizer may put a token before the text, drop a blank or break a character in pieces: one whose spelling is
        not found there stands where the one before it ended.
        """
        if not of_prompt:
            self.answer += len(spelled)
            return len(self.echoed) + self.answer - len(spelled)
        at = self.echoed.find(spelled, self.prompt, self.prompt + len(spelled) + SLACK)
        if at < 0:
            return self.prompt
        self.prompt = at + len(spelled)
        return at


@dataclass(slots=True)
class TextShape(CompletionsShape):
    """/v1/completions. Reasoning and answer are one text there.

    echoed: the text of each prompt, where it is to be given before its answers, of which there are `answers` each.
    """

    prefix = "cmpl"
    stream_object = "text_completion"
    object = "text_completion"
    echoed: Sequence[str] | None = None
    answers: int = 1
    places: dict[int, Places] = field(default_factory=dict)

    def piece(self, index: int, chunks: Sequence[Chunk]) -> list[Event]:
        """The new text, and the reason why it ended."""
        text, finish = "".join(chunk.text for chunk in chunks), finish_of(chunks[-1])
        if index not in self.places:
            self.places[index] = Places(self._echo(index))
            text = self._echo(index) + text
        logprobs = self._logprobs(chunks, self.places[index])
        if not (text or finish or logprobs):
            return []
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}
        return [self._event(choice, chunks[-1])]

    def choice(self, index: int, answer: Gathered) -> Json:
        """A whole answer."""
        echo, finish = self._echo(index), finish_of(answer.last)
        logprobs = self._logprobs(answer.chunks, Places(echo)) if self.logprobs else None
        return {"index": index, "text": echo + answer.text, "logprobs": logprobs, "finish_reason": finish}

    def _echo(self, index: int) -> str:
        return self.echoed[index // self.answers] if self.echoed else ""

    def _logprobs(self, chunks: Sequence[Chunk], places: Places) -> Json | None:
        # Who asks for an echo counts tokens from both ends: each that was sampled is there, the end of the turn too.
        listed = self._tokens(chunks) if self.echoed is None else [c for c in chunks if c.token_id is not None]
        if not (listed and self.logprobs):
            return None
        texts = [self._token(chunk.token_id) for chunk in listed if chunk.token_id is not None]
        top = [self._top(chunk) for chunk in listed]
        return {
            "tokens": texts,
            "token_logprobs": [None if c.logprob is None else max(c.logprob, LEAST_LOGPROB) for c in listed],
            "top_logprobs": top if any(top) else None,
            "text_offset": [
                places.next(text, chunk.kind == "prompt") for text, chunk in zip(texts, listed, strict=True)
            ],
        }

    def _top(self, chunk: Chunk) -> dict[str, float] | None:
        """By spelling; of several tokens that are spelled alike, the likeliest."""
        if chunk.logprob is None:
            return None
        spelled: dict[str, float] = {}
        for token, logprob in chunk.top:
            spelled.setdefault(self._token(token), max(logprob, LEAST_LOGPROB))
        return spelled
