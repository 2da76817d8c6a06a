"""What an answer must be -> the tokens that may come next. The only file that imports llguidance.

Whoever sends a grammar may mean it ill. It is compiled first where it can do no harm (GrammarCheck, in the process of
the texts), under limits; and while an answer follows it, no more than a share of the time goes to it.
"""

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from llguidance.gbnf_to_lark import gbnf_to_lark
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from serving.errors import InvalidRequest, unpanicked
from serving.text.detokenizer import ALPHABET
from serving.text.schemas import MOST_CHARACTERS, to_generate
from serving.text.steps import steps_in
from serving.types import Grammar

# A step costs some ms then; OpenAI's largest schemas (5,000 properties, 1,000 values, 120,000 characters) still fit.
LIMITS = LLParserLimits(
    max_items_in_row=500,
    step_max_items=20_000,
    step_lexer_fuel=100_000,
    max_lexer_states=20_000,  # of 1 to 2 kB each, for every answer
    verbose_errors=False,
)
COMPILE_SECONDS = 2.0  # of processor time
# What an answer's grammar may take of a thread that all grammars share: at once, and on average for each token.
GRACE_SECONDS, STEP_SECONDS = 0.25, 0.05
_IDS = re.compile(r"<\[[\d,-]+\]>")
_KEPT = 4  # compiled grammars: several answers to one request follow the same one
_REMEMBERED = 256  # grammars that were given up: who asks again is not to cost others as much again
_TOO_SLOW = "the grammar takes too long at each token of the answer. Use a simpler one."
_LONGEST_FAULT = 200
Result = TypeVar("Result")


class GrammarCompiler:
    """Compiles grammars for one tokenizer. Any number of threads may use it.

    vocab_size: of the logits; rows without a token are never allowed. end_ids: every token that ends an answer.
    """

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, end_ids: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._end_ids = end_ids
        self._lock = threading.Lock()
        self._kept: dict[Grammar, _Kept] = {}  # the one that was asked for last is last
        self._given_up: dict[Grammar, None] = {}

    def matcher(self, grammar: Grammar) -> "Matcher":
        """A matcher at the beginning of an answer.

        The first call builds a trie of all tokens, which takes a second for 152,000 of them; later ones take about one
        millisecond.

        Raises InvalidRequest for a grammar, or a tokenizer, that llguidance does not take.
        """
        with self._lock:
            if grammar in self._given_up:
                raise InvalidRequest(_TOO_SLOW)
            kept = self._kept.pop(grammar, None) or self._anew(grammar)
            self._kept[grammar] = kept
            for oldest in list(self._kept)[:-_KEPT]:
                self._kept.pop(oldest, None)
            matcher = kept.matcher.deep_copy()

        def spend(seconds: float, whole: bool) -> None:
            """Forget what has become large. Takes no lock, as compiling takes seconds."""
            kept.left -= seconds
            if kept.left < 0 or whole:
                self._kept.pop(grammar, None)
            if whole:
                self._given_up[grammar] = None
                for oldest in list(self._given_up)[:-_REMEMBERED]:
                    self._given_up.pop(oldest, None)

        return Matcher(matcher, self._vocab_size, spend)

    def _anew(self, grammar: Grammar) -> "_Kept":
        began = time.thread_time()
        matcher = _compiled(self._tokens, grammar)
        return _Kept(matcher, max(GRACE_SECONDS / 2, time.thread_time() - began))

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


@dataclass(slots=True, eq=False)
class _Kept:
    """A compiled grammar, for the next answer that follows it.

    All copies share the lexer's states with it, which are made on the way and take up to 80 MB. What they have cost in
    time stands for that: after `left` seconds it is forgotten, and compiled again if need be.
    """

    matcher: LLMatcher
    left: float


class Matcher:
    """How far one answer has come in its grammar."""

    def __init__(self, matcher: LLMatcher, vocab_size: int, spend: Callable[[float, bool], None]) -> None:
        """spend: hears what a step has cost, in seconds, and whether that was more than there is."""
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._left, self._spend = GRACE_SECONDS, spend

    @property
    def stopped(self) -> bool:
        """True once nothing but the end of the answer can follow."""
        return self._matcher.is_stopped()

    def allowed(self) -> NDArray[np.intp]:
        """Ids, ascending, of the tokens that may come next [n]: end-of-turn ids exactly where the grammar may end.

        Raises InvalidRequest where the grammar grows beyond its limits on the way.
        """
        bits = np.frombuffer(self._timed(self._matcher.compute_bitmask), dtype=np.uint8)
        if self._matcher.is_error():  # the mask then allows the end, which would pass for a whole answer
            raise InvalidRequest(self._complaint())
        return np.flatnonzero(np.unpackbits(bits, count=self._vocab_size, bitorder="little"))

    def accept(self, token: int) -> None:
        """Go on by a token that was allowed.

        Raises InvalidRequest beyond the limits, and where the tokenizer lacks a character that must follow.
        """
        self._left += STEP_SECONDS
        if not self._timed(lambda: self._matcher.consume_token(token)):
            raise InvalidRequest(self._complaint())

    def _timed(self, step: Callable[[], Result]) -> Result:
        began = time.thread_time()
        result = _unpanicked(step, "the grammar cannot be followed any further")
        seconds = time.thread_time() - began
        self._left -= seconds
        self._spend(seconds, self._left < 0)
        if self._left < 0:
            raise InvalidRequest(_TOO_SLOW)
        return result

    def _complaint(self) -> str:
        return f"the grammar cannot be followed any further: {_fault(self._matcher)}. Use a simpler one."


class GrammarCheck:
    """Compiles grammars as the engine would, but for the vocabulary: bytes stand in for it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def check(self, grammar: Grammar) -> None:
        """Raises InvalidRequest for a grammar that llguidance does not take, or not within the limits.

        Neither time nor memory has a limit here but what it has taken at the end: whoever asks sets one.
        """
        began = time.thread_time()
        vocabulary = self._tokenizer.get_vocab_size(with_added_tokens=True)
        matcher = _compiled(self._tokens, _without_ids(grammar, vocabulary))
        matcher.compute_bitmask()
        if matcher.is_error():
            raise InvalidRequest(f"this {grammar.kind} cannot be followed: {_fault(matcher)}. Use a simpler one.")
        if (seconds := time.thread_time() - began) > COMPILE_SECONDS:
            raise InvalidRequest(
                f"this {grammar.kind} takes {seconds:.1f} s to compile, more than {COMPILE_SECONDS:g}: use a simpler "
                "one."
            )

    @cached_property
    def _tokens(self) -> LLTokenizer:
        return _stand_in(self._tokenizer)


def _compiled(tokens: LLTokenizer, grammar: Grammar) -> LLMatcher:
    if len(grammar.text) > MOST_CHARACTERS:
        raise InvalidRequest(
            f"this {grammar.kind} has {len(grammar.text):,} characters, and may have {MOST_CHARACTERS:,}: shorten it."
        )
    what = f"this {grammar.kind} cannot be used"
    matcher = _unpanicked(lambda: LLMatcher(tokens, _in_llguidance(grammar), log_level=0, limits=LIMITS), what)
    if matcher.is_error():
        raise InvalidRequest(f"{what}: {_fault(matcher)}. Correct it, or use a simpler one.")
    return matcher


def _in_llguidance(grammar: Grammar) -> str:
    if grammar.kind == "regex":
        return LLMatcher.grammar_from_regex(grammar.text)
    if grammar.kind == "lark":
        return LLMatcher.grammar_from_lark(grammar.text)
    if grammar.kind == "gbnf":
        return LLMatcher.grammar_from_lark(_unpanicked(lambda: gbnf_to_lark(grammar.text), "this gbnf cannot be used"))
    try:
        schema = json.loads(grammar.text) if grammar.kind == "json_schema" else {"type": "object"}
    except ValueError as error:
        raise InvalidRequest(f"this json_schema is not JSON: {error}. Send the schema as JSON text.") from error
    return LLMatcher.grammar_from_json_schema(json.dumps(to_generate(schema) if isinstance(schema, dict) else schema))


def _unpanicked(step: Callable[[], Result], what: str) -> Result:
    """The result of a call to llguidance. Whatever it raises is the grammar's fault: InvalidRequest."""
    try:
        with unpanicked():
            return step()
    except InvalidRequest:
        raise
    except Exception as error:
        raise InvalidRequest(f"{what}: {_short(str(error))}. Correct it, or use a simpler one.") from error


def _fault(matcher: LLMatcher) -> str:
    """What is wrong, in one line: below it llguidance prints the grammar, or the whole state of its parser."""
    message = matcher.get_error().strip()
    by_its_regex = re.search(r"^error: (.+)$", message, re.MULTILINE)
    return _short(by_its_regex[1] if by_its_regex else message)


def _short(message: str) -> str:
    line = message.partition("\n")[0].rstrip(".")
    return line if len(line) <= _LONGEST_FAULT else line[:_LONGEST_FAULT] + "…"


def _stand_in(tokenizer: Tokenizer) -> LLTokenizer:
    """Every byte, and the names of the special tokens."""
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    spelled = Tokenizer(models.BPE(dict(ALPHABET), []))
    spelled.pre_tokenizer, spelled.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    spelled.add_special_tokens(special)
    return LLTokenizer(spelled.to_str(), eos_token=[0])


def _without_ids(grammar: Grammar, vocabulary: int) -> Grammar:
    """The grammar with one token of the stand-in for those that it names by their ids."""

    def named(match: re.Match[str]) -> str:
        return "<[0]>" if all(int(id) < vocabulary for id in re.findall(r"\d{1,9}", match[0])) else match[0]

    return replace(grammar, text=_IDS.sub(named, grammar.text)) if grammar.kind == "lark" else grammar


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
