"""What an answer must be -> the tokens that may come next. The only file that imports llguidance."""

import json
from functools import cached_property

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray
from tokenizers import Tokenizer

from serving.errors import InvalidRequest
from serving.text.schemas import to_generate
from serving.text.steps import steps_in
from serving.types import Grammar


class GrammarCompiler:
    """Compiles grammars for one tokenizer. Any number of threads may use it.

    vocab_size: of the logits; rows without a token are never allowed. end_ids: every token that ends an answer.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, end_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._end_ids = end_ids

    def matcher(self, grammar: Grammar) -> "Matcher":
        """A matcher at the beginning of an answer.

        The first call builds a trie of all tokens, which takes a second for 152,000 of them; later ones take about one
        millisecond.

        Raises InvalidRequest for a grammar, or a tokenizer, that llguidance does not take.
        """
        try:
            matcher = LLMatcher(self._tokens, _in_llguidance(grammar), log_level=0)
        except (ValueError, RecursionError) as error:  # more than Rust's texts and numbers hold, or too deep
            raise InvalidRequest(f"this {grammar.kind} cannot be used: {error}. Correct it.") from error
        if matcher.is_error():
            raise InvalidRequest(
                f"this {grammar.kind} cannot be used: {matcher.get_error().strip()}. Correct it, or use a simpler one."
            )
        return Matcher(matcher, self._vocab_size, self._end_ids)

    @cached_property
    def _tokens(self) -> LLTokenizer:
        # Some models answer with fewer tokens than their tokenizer has, most with more.
        size = max(self._vocab_size, self._tokenizer.get_vocab_size(with_added_tokens=True))
        end_ids = sorted(token for token in self._end_ids if token < self._vocab_size)
        try:
            return LLTokenizer(_readable(self._tokenizer), n_vocab=size, eos_token=end_ids)
        except ValueError as error:
            raise InvalidRequest(
                f"this model's tokenizer cannot follow a grammar ({error}): ask without one, or use another model."
            ) from error


class Matcher:
    """How far one answer has come in its grammar."""

    def __init__(self, matcher: LLMatcher, vocab_size: int, end_ids: frozenset[int]) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._before = np.delete(np.arange(vocab_size), [token for token in end_ids if token < vocab_size])

    @property
    def stopped(self) -> bool:
        """True once nothing but the end of the answer can follow."""
        return self._matcher.is_stopped()

    def allowed(self) -> NDArray[np.intp]:
        """Ids, ascending, of the tokens that may come next [n]: end-of-turn ids exactly where the grammar may end.

        Raises InvalidRequest where the grammar grows beyond llguidance's limits on the way.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():  # the mask then allows the end, which would pass for a whole answer
            raise InvalidRequest(self._complaint())
        return np.flatnonzero(np.unpackbits(bits, count=self._vocab_size, bitorder="little"))

    def before(self) -> NDArray[np.intp]:
        """Ids, ascending, of the tokens that may come before the grammar begins [n]: all that do not end the answer."""
        return self._before

    def accept(self, token: int) -> None:
        """Go on by a token that was allowed.

        Raises InvalidRequest beyond llguidance's limits, and where the tokenizer lacks a character that must follow.
        """
        if not self._matcher.consume_token(token):
            raise InvalidRequest(self._complaint())

    def _complaint(self) -> str:
        # Below its first line, llguidance prints the whole state of the parser.
        fault = self._matcher.get_error().partition("\n")[0]
        return f"the grammar cannot be followed any further: {fault}. Use a simpler one."


def _in_llguidance(grammar: Grammar) -> str:
    if grammar.kind == "regex":
        return LLMatcher.grammar_from_regex(grammar.text)
    if grammar.kind == "lark":
        return LLMatcher.grammar_from_lark(grammar.text)
    try:
        schema = json.loads(grammar.text) if grammar.kind == "json_schema" else {"type": "object"}
    except ValueError as error:
        raise InvalidRequest(f"this json_schema is not JSON: {error}. Send the schema as JSON text.") from error
    return LLMatcher.grammar_from_json_schema(to_generate(schema) if isinstance(schema, dict) else schema)


def _readable(tokenizer: Tokenizer) -> str:
    """The tokenizer as JSON that llguidance takes rightly.

    It encodes what a grammar forces in the middle of an answer, so the tokenizer must not put a space in front. And it
    reads off the decoder which bytes a token stands for: it knows that a mark is a space where a Replace says so, but
    not where a Metaspace does, which it refuses when alone and silently passes over in a Sequence.
    """
    spec = json.loads(tokenizer.to_str())
    for part in steps_in(spec["pre_tokenizer"]):
        if part["type"] == "ByteLevel":
            part["add_prefix_space"] = False
    for part in steps_in(spec["decoder"]):
        if part["type"] == "Metaspace":
            mark = {"type": "Replace", "pattern": {"String": part["replacement"]}, "content": " "}
            spec["decoder"] = {"type": "Sequence", "decoders": [mark, {"type": "ByteFallback"}, {"type": "Fuse"}]}
    return json.dumps(spec)
