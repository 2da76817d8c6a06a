"""How many tokens a text has at least: never more than it has, whatever the tokenizer, and near enough to be of use."""

import random
from collections.abc import Callable, Sequence

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from serving.text.encoder import Encoder, Weights
from tests.small_models import KINDS, awkward_text

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def bpe(unknown: str | None = "<unk>", fused: bool = False) -> Tokenizer:
    """Single letters and a few words: anything else is unknown to it."""
    vocabulary = {piece: id for id, piece in enumerate(["<unk>", " ", *LETTERS, "ab", "abc", "abcd", "\u00e9", "fi"])}
    merges = [("a", "b"), ("ab", "c"), ("abc", "d"), ("f", "i")]
    return Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=fused))


def unigram() -> Tokenizer:
    words = [("abcd", -1.0), ("xyz\u4f60", -1.0)]
    pieces = [("<unk>", 0.0), (" ", -2.0), *((letter, -3.0) for letter in LETTERS), *words]
    return Tokenizer(models.Unigram(pieces, 0, byte_fallback=False))


def whole_words() -> Tokenizer:
    return Tokenizer(models.WordLevel({"<unk>": 0, "a": 1, "e": 2}, unk_token="<unk>"))


def word_piece() -> Tokenizer:
    return Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "b": 2, "##c": 3}, unk_token="[UNK]"))


def byte_level_without_all_bytes() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE({letter: id for id, letter in enumerate(LETTERS)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


def some_bytes() -> Tokenizer:
    vocabulary = {piece: id for id, piece in enumerate(["<unk>", *LETTERS, *(f"<0x{n:02X}>" for n in range(200))])}
    return Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True, byte_fallback=True))


def with_normalizer(normalizer: normalizers.Normalizer) -> Callable[[], Tokenizer]:
    return with_added(normalizer=normalizer)


def with_pre_tokenizer(pre_tokenizer: pre_tokenizers.PreTokenizer) -> Callable[[], Tokenizer]:
    def make() -> Tokenizer:
        tokenizer = bpe()
        tokenizer.pre_tokenizer = pre_tokenizer
        return tokenizer

    return make


def with_added(*tokens: AddedToken, normalizer: normalizers.Normalizer | None = None) -> Callable[[], Tokenizer]:
    def make() -> Tokenizer:
        tokenizer = bpe()
        if normalizer:
            tokenizer.normalizer = normalizer
        tokenizer.add_tokens(list(tokens))
        return tokenizer

    return make


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    "unknown ones each": bpe,
    "unknown ones fused": lambda: bpe(fused=True),
    "unknown ones lost": lambda: bpe(unknown=None),
    "unigram": unigram,
    "some bytes only": some_bytes,
    "byte-level without all bytes": byte_level_without_all_bytes,
    "whole words": whole_words,
    "word pieces": word_piece,
    "strips": with_normalizer(normalizers.Strip()),
    "composes": with_normalizer(normalizers.NFKC()),
    "decomposes": with_normalizer(normalizers.NFD()),
    "without accents": with_normalizer(normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])),
    "for BERT": with_normalizer(normalizers.BertNormalizer()),
    "collapses blanks": with_normalizer(normalizers.Replace(Regex(r"\s+"), " ")),
    "drops letters": with_normalizer(normalizers.Replace("e", "")),
    "lower case": with_normalizer(normalizers.Sequence([normalizers.Lowercase(), normalizers.Prepend("_")])),
    "as bytes": with_normalizer(normalizers.ByteLevel()),
    "drops blanks": with_pre_tokenizer(pre_tokenizers.Whitespace()),
    "splits as BERT": with_pre_tokenizer(pre_tokenizers.BertPreTokenizer()),
    "removes": with_pre_tokenizer(pre_tokenizers.Split("o", "removed")),
    "keeps": with_pre_tokenizer(pre_tokenizers.Split("o", "merged_with_next")),
    "punctuation": with_pre_tokenizer(pre_tokenizers.Punctuation("removed")),
    "digits": with_pre_tokenizer(pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.Metaspace()])),
    "added": with_added(AddedToken("<x>", normalized=False), AddedToken("<x>y", normalized=False)),
    "swallows blanks before": with_added(AddedToken("a", normalized=False, lstrip=True)),
    "swallows blanks after": with_added(AddedToken("a", normalized=False, rstrip=True)),
    "swallows blanks later": with_added(AddedToken("e", normalized=True, rstrip=True)),
    "added in lower case": with_added(
        AddedToken("QUICK brown fox jumps", normalized=True), normalizer=normalizers.Lowercase()
    ),
    "added words": with_added(AddedToken("bc", normalized=False, single_word=True)),
    "added that grow": with_added(AddedToken("\ufb01\ufb01\ufb01", normalized=True), normalizer=normalizers.NFKC()),
}


def texts(rng: random.Random, more: Sequence[str] = ()) -> list[str]:
    """Awkward ones, and long ones of one sort."""
    pieces = [
        *("abcd", "abcabc", "a", "e", " ", "   ", "QUICK brown fox jumps", "quick brown fox jumps", "<x>", "<x>y"),
        *("word ", "word word word", "What is the ", "the ", "<0x41>", "\0", "e\u0301", "\u0338", "\ufb01", "I\u0307"),
        *("\u4f60", "\U0001f44d"),
        *more,
    ]
    of_one_sort = [rng.choice(pieces) * rng.randint(1, 40) for _ in range(30)]
    of_several = ["".join(rng.choice(pieces) for _ in range(rng.randint(1, 30))) for _ in range(30)]
    return [*of_one_sort, *of_several, *(awkward_text(rng, pieces) for _ in range(30))]


@pytest.mark.parametrize("name", [*KINDS, *TOKENIZERS])
def test_no_text_has_fewer_tokens_and_ids_are_the_tokenizers_own(name: str) -> None:
    controls = KINDS[name]().controls if name in KINDS else ()
    tokenizer = KINDS[name]().tokenizer if name in KINDS else TOKENIZERS[name]()
    encoder = Encoder(tokenizer, Weights(tokenizer))
    for text in texts(random.Random(name), [*controls, *(control + 20 * " " for control in controls)]):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert encoder.ids(text) == ids
        assert encoder.at_least(text, 10**9) <= len(ids), repr(text)


@pytest.mark.parametrize("name", KINDS)
def test_a_long_text_is_known_to_be_long(name: str) -> None:
    tokenizer = KINDS[name]().tokenizer
    encoder = Encoder(tokenizer, Weights(tokenizer))
    for text in ("The quick brown fox jumps over the lazy dog. ", "\u4f60\u597d", "\U0001f44d", "x1 "):
        assert encoder.at_least(text * 1000, 10**9) >= len(encoder.ids(text * 1000)) / 10, text


def test_nothing_is_weighed_beyond_what_is_asked() -> None:
    tokenizer = KINDS["chatml"]().tokenizer
    encoder = Encoder(tokenizer, Weights(tokenizer))
    assert 10 < encoder.at_least("<|im_end|>" * 10**6, 10) < 20
