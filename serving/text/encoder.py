"""Text -> token ids; and how many there are at least, told from the characters alone.

What cannot fit a window need not be encoded to know it: a tokenizer takes seconds and gigabytes for a few megabytes.

Each character weighs 1 / (length of the longest token that it occurs in). Those of any one token weigh 1 at most
together, so a text has at least as many tokens as its characters weigh. Characters that a tokenizer may drop, or make
one token of any number of, weigh nothing; where that could be any character, nothing is known.
"""

import json
import re
import sys
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, models

from serving.text.control_tokens import longest_of
from serving.text.detokenizer import ALPHABET, BYTES
from serving.text.steps import steps_of

_SLICE = 1 << 20  # characters that are weighed at a time
# Steps before the model that lose no character, unless they are told to.
_KEEPING = {"ByteLevel", "Digits", "FixedLength", "Metaspace", "Punctuation", "Split", "UnicodeScripts"}
_COMPOSING = {"NFC", "NFD", "NFKC", "NFKD"}  # they leave ASCII as it is


class Weights:
    """What characters weigh for one tokenizer. Its whole vocabulary is read for the first text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._normalizer = tokenizer, tokenizer.normalizer
        self._keeps_ascii = {step["type"] for step in steps_of(self._normalizer)} <= _COMPOSING
        self._steps = steps_of(tokenizer.pre_tokenizer)
        self._byte_level = any(step["type"] == "ByteLevel" for step in self._steps)
        self._known = self._is_known(tokenizer)

    def weigh(self, text: str) -> float:
        """What a text in which there are no added tokens weighs; 0 where nothing is known."""
        if not self._known:
            return 0.0
        units, weight = self._units(text), 0.0
        for start in range(0, len(units), _SLICE):
            weight += float(self._by_unit[units[start : start + _SLICE]].sum())
        return weight

    def _units(self, text: str) -> NDArray[Any]:
        """What the model is given of a text: bytes, or characters."""
        if self._normalizer and not (self._keeps_ascii and text.isascii()):
            text = self._normalizer.normalize_str(text)
        for step in self._steps:
            if step["type"] == "Metaspace":
                text = text.replace(" ", step["replacement"])
        if self._byte_level:
            return np.frombuffer(text.encode(), np.uint8)
        return np.frombuffer(text.encode("utf-32-le"), np.uint32)

    def _is_known(self, tokenizer: Tokenizer) -> bool:
        model, added = tokenizer.model, tokenizer.get_added_tokens_decoder().values()
        return (
            isinstance(model, models.BPE | models.Unigram)
            and not getattr(model, "continuing_subword_prefix", None)
            and not getattr(model, "end_of_word_suffix", None)
            and all(step["type"] in _KEEPING and step.get("behavior") != "Removed" for step in self._steps)
            # These are found, and swallow blanks, where Encoder does not look.
            and not any(token.single_word or (token.normalized and (token.lstrip or token.rstrip)) for token in added)
        )

    @cached_property
    def _by_unit(self) -> NDArray[np.float64]:
        tokenizer = self._tokenizer
        vocabulary, model = tokenizer.get_vocab(with_added_tokens=True), tokenizer.model
        lengths: dict[str, int] = {}
        for token in sorted(vocabulary, key=len):
            lengths.update(dict.fromkeys(token, len(token)))
        number = ALPHABET if self._byte_level else {character: ord(character) for character in lengths}
        longest = {number[character]: length for character, length in lengths.items() if character in number}
        for added in tokenizer.get_added_tokens_decoder().values():
            if added.normalized:  # found in what the model is given, whatever its own text is
                units = self._units(added.content)
                longest |= {unit: max(longest.get(unit, 0), units.size) for unit in units.tolist()}

        # A unit that is no token may be spelled in bytes, or be one unknown token by itself: then it counts. Unknown
        # ones side by side may also be one token, or be lost.
        bytes_of_unknown = _falls_back(model) and vocabulary.keys() >= BYTES.keys()
        each = bytes_of_unknown or (isinstance(model, models.BPE) and bool(model.unk_token) and not model.fuse_unk)
        tokens = {number[token] for token in vocabulary if token in number}
        weights = np.full(256 if self._byte_level else sys.maxunicode + 1, float(each))
        for unit, length in longest.items():
            weights[unit] = 1 / length if each or unit in tokens else 0.0
        return weights


class Encoder:
    """A tokenizer. weights: of its characters."""

    def __init__(self, tokenizer: Tokenizer, weights: Weights) -> None:
        self.tokenizer, self._weights = tokenizer, weights

    def ids(self, text: str) -> list[int]:
        """Token ids of rendered text; special tokens are those that the text spells out."""
        # Offsets of the tokens in the text would take most of the time, and the interpreter's lock all of it.
        return list(self.tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids)

    def at_least(self, text: str, beyond: int) -> int:
        """A lower bound on the number of `ids`. It is not made sharper once it is beyond that many."""
        weight, begin = 0.0, 0
        added, strips = self._added
        for found in chain(added.finditer(text), [None]):
            segment = text[begin : found.start()] if found else text[begin:]
            weight += self._weights.weigh(segment.strip() if strips else segment) if segment else 0.0
            if found is None or weight > beyond:
                break
            weight, begin = weight + 1, found.end()
        return int(weight)

    @cached_property
    def _added(self) -> tuple[re.Pattern[str], bool]:
        """What is looked for before anything else is done to a text, and whether that may swallow blanks beside it."""
        added = [token for token in self.tokenizer.get_added_tokens_decoder().values() if not token.normalized]
        pattern = re.compile(longest_of(token.content for token in added))
        return pattern, any(token.lstrip or token.rstrip for token in added)


def _falls_back(model: models.Model) -> bool:
    return bool(json.loads(model.__getstate__()).get("byte_fallback"))
