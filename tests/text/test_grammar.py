"""Whatever the logits are, an answer is what its grammar says: with real tokenizers of each kind, and random logits."""

import json
import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from builder.demo import CHECKPOINT
from serving.engine.sampler import Sampler
from serving.errors import InvalidRequest
from serving.heap import give_back, resident_memory
from serving.text.grammar import GrammarCheck, GrammarCompiler, Matcher
from serving.types import Grammar, SamplingOptions

PADDING = 44  # rows of logits without a token
SPECIAL = ["<unk>", "<s>", "</s>", "<end>"]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 30},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["person", "Ort"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 12}, "minItems": 1, "maxItems": 3},
    },
    "required": ["name", "age", "kind", "tags"],
    "additionalProperties": False,
}


def demo() -> tuple[Tokenizer, frozenset[int]]:
    return Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json")), frozenset([0, 2])


def texts() -> list[str]:
    story = 'Die Größe ist {n}, said the fox. It\'s café number {n}: {{"name": "Ärger", "age": [{n}]}}'
    return [story.format(n=n) for n in range(200)]


def byte_level_with_prefix_space() -> tuple[Tokenizer, frozenset[int]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer, frozenset([2, 3])


def with_byte_fallback(tokenizer: Tokenizer) -> tuple[Tokenizer, frozenset[int]]:
    """Trained on the texts, as sentencepiece does it: what is no token is spelled in tokens such as <0xC3>."""
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=SPECIAL, limit_alphabet=60, show_progress=False)
    tokenizer.train_from_iterator(texts(), trainer)
    spec = json.loads(tokenizer.to_str())
    vocabulary = spec["model"]["vocab"]
    vocabulary |= {f"<0x{byte:02X}>": len(vocabulary) + byte for byte in range(256)}
    return Tokenizer.from_str(json.dumps(spec)), frozenset([2, 3])


def llama_style() -> tuple[Tokenizer, frozenset[int]]:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    mark = "\N{LOWER ONE EIGHTH BLOCK}"
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(mark), normalizers.Replace(" ", mark)])
    space = [decoders.Replace(mark, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(space)
    return with_byte_fallback(tokenizer)


def metaspace() -> tuple[Tokenizer, frozenset[int]]:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()])
    return with_byte_fallback(tokenizer)


class Model:
    """A tokenizer, and a model whose logits are noise."""

    def __init__(self, make: Callable[[], tuple[Tokenizer, frozenset[int]]]) -> None:
        self.tokenizer, self.end_ids = make()
        self.vocab_size = self.tokenizer.get_vocab_size() + PADDING
        self.compiler = GrammarCompiler(self.tokenizer, self.vocab_size, self.end_ids)

    def matcher(self, kind: str, text: str = "") -> Matcher:
        return self.compiler.matcher(Grammar(kind, text))  # type: ignore[arg-type]

    def text(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True)

    def answer(self, matcher: Matcher, seed: int, bias: tuple[tuple[int, float], ...] = ()) -> str:
        """The text of an answer at temperature 2, the end of which has come within 2,000 tokens."""
        rng = np.random.default_rng(seed)
        options = SamplingOptions(temperature=2.0, seed=seed, logit_bias=bias)
        sampler = Sampler(options, np.zeros(0, np.int32), self.vocab_size, matcher)
        tokens = []
        for _ in range(2000):
            token = sampler.choose((rng.standard_normal(self.vocab_size) * 2).astype(np.float32)).token
            if token in self.end_ids:
                assert matcher.stopped
                return self.text(tokens)
            tokens.append(token)
        raise AssertionError(f"no end: {self.text(tokens)[:300]}")


@pytest.fixture(scope="module", params=[demo, byte_level_with_prefix_space, llama_style, metaspace])
def model(request: pytest.FixtureRequest) -> Model:
    return Model(request.param)


@pytest.fixture(scope="module")
def demo_tokens() -> Model:
    return Model(demo)


def test_an_answer_follows_its_json_schema(model: Model) -> None:
    answers = [model.answer(model.matcher("json_schema", json.dumps(SCHEMA)), seed) for seed in range(25)]
    for text in answers:
        assert "\N{REPLACEMENT CHARACTER}" not in text
        value = json.loads(text)
        assert sorted(value) == ["age", "kind", "name", "tags"]
        assert 1 <= len(value["name"]) <= 30
        assert type(value["age"]) is int
        assert 0 <= value["age"] <= 150
        assert value["kind"] in ("person", "Ort")
        assert 1 <= len(value["tags"]) <= 3
        assert all(isinstance(tag, str) and len(tag) <= 12 for tag in value["tags"])
    assert sum(not text.isascii() for text in answers) >= 5  # characters of several bytes did come


def test_an_answer_can_be_any_json_object(model: Model) -> None:
    # Left to chance, objects nest for ever: closing them is made likely.
    closing = [token for token in range(model.vocab_size - PADDING) if set(model.text([token]).strip()) & set('"}]')]
    bias = tuple((token, 5.0) for token in closing)
    answers = [model.answer(model.matcher("json_object"), seed, bias) for seed in range(25)]
    assert all(isinstance(json.loads(text), dict) for text in answers)
    assert len(set(answers)) > 5


REGEX = r"(ab|é日|x y)+[0-9]{1,3}(\.[0-9]{2})?"


def test_an_answer_matches_its_regex_and_may_end_exactly_where_it_does(model: Model) -> None:
    answers = set()
    for seed in range(40):
        matcher, rng, tokens = model.matcher("regex", REGEX), np.random.default_rng(seed), list[int]()
        while True:
            allowed = set(matcher.allowed().tolist())
            complete = re.fullmatch(REGEX, model.text(tokens)) is not None
            assert allowed & model.end_ids == (model.end_ids if complete else set())
            assert matcher.stopped == (allowed == model.end_ids)
            token = int(rng.choice(sorted(allowed)))
            matcher.accept(token)
            if token in model.end_ids:
                break
            tokens.append(token)
        answers.add(model.text(tokens))
    assert any("é日" in text for text in answers)
    assert any("x y" in text for text in answers)


def test_neither_special_tokens_nor_rows_without_a_token_are_allowed(model: Model) -> None:
    allowed = set(model.matcher("regex", r"(.|\n)*").allowed().tolist())
    tokens = model.tokenizer.get_added_tokens_decoder()
    special = {id for id, token in tokens.items() if token.special} - model.end_ids
    assert special
    assert not allowed & special
    assert max(allowed) < model.vocab_size - PADDING
    assert len(allowed) > 200


def test_an_answer_follows_a_lark_grammar(model: Model) -> None:
    lark = 'start: "yes" | "no" reason\nreason: ", because " /[a-z]{1,9}/'
    answers = {model.answer(model.matcher("lark", lark), seed) for seed in range(30)}
    assert all(re.fullmatch("yes|no, because [a-z]{1,9}", text) for text in answers)
    assert len(answers) > 2


def test_logits_may_have_fewer_rows_than_the_tokenizer_tokens() -> None:
    tokenizer, end_ids = demo()
    matcher = GrammarCompiler(tokenizer, 300, end_ids | {5000}).matcher(Grammar("regex", ".*"))
    assert matcher.allowed().max() == 299


def test_two_answers_with_one_grammar_do_not_know_of_each_other(demo_tokens: Model) -> None:
    one, other = demo_tokens.matcher("regex", "a|b"), demo_tokens.matcher("regex", "a|b")
    one.accept(int(one.allowed()[0]))
    assert one.stopped
    assert other.allowed().size == 2


def test_what_a_grammar_grew_to_goes_with_its_answer() -> None:
    tokens = Model(demo)
    tokens.matcher("regex", "a+").allowed()  # builds the trie
    before = resident_memory()
    matcher = tokens.matcher("regex", "^a{1000000000}$")
    with pytest.raises(InvalidRequest):
        for _ in range(10_000):
            matcher.accept(int(matcher.allowed()[0]))
    grown = resident_memory() - before
    assert grown > 30 << 20
    del matcher
    give_back()
    assert resident_memory() - before < grown / 3


def test_a_token_that_was_not_allowed_is_refused_at_once(demo_tokens: Model) -> None:
    matcher = demo_tokens.matcher("regex", "a|b")
    with pytest.raises(InvalidRequest, match=r"cannot be followed any further: .*satisfy the grammar"):
        matcher.accept(demo_tokens.tokenizer.token_to_id("z"))


OPEN = {"properties": {"a": {"const": 1}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("schema", "takes"),
    [
        (OPEN, False),
        ({**OPEN, "additionalProperties": True}, True),
        ({**OPEN, "additionalProperties": {"const": 2}}, True),
        ({"anyOf": [OPEN]}, False),
        ({"$ref": "#/$defs/open", "$defs": {"open": OPEN}}, False),
        ({"allOf": [OPEN, {"properties": {"b": {"const": 2}}}]}, True),
        ({"type": "object"}, True),
    ],
)
def test_an_object_has_no_properties_that_its_schema_does_not_name(
    demo_tokens: Model, schema: dict[str, Any], takes: bool
) -> None:
    matcher = demo_tokens.matcher("json_schema", json.dumps(schema))
    text = '{"a": 1, "b": 2}'
    taken = True
    for token in demo_tokens.tokenizer.encode(text).ids:
        taken = taken and token in matcher.allowed()
        if taken:
            matcher.accept(token)
    assert taken == takes


@pytest.mark.parametrize("chosen", [0, -1])
def test_json_is_written_in_one_way(demo_tokens: Model, chosen: int) -> None:
    """A weak model left free to put blanks between the parts would go on with them."""
    keys = {"a": {"const": [1, 2]}, "b": {"const": {"c": True}}}
    schema = {"type": "object", "properties": keys, "required": ["a", "b"]}
    matcher, written = demo_tokens.matcher("json_schema", json.dumps(schema)), list[int]()
    while not matcher.stopped:
        written.append(int(matcher.allowed()[chosen]))
        matcher.accept(written[-1])
    assert demo_tokens.tokenizer.decode(written) == '{"a": [1, 2], "b": {"c": true}}'


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("regex", "a(", "unclosed group"),
        ("regex", "(?=a)b", "look-around"),
        ("json_schema", "{", "is not JSON"),
        ("json_schema", '{"type": "objekt"}', "objekt"),
        ("json_schema", '{"not": {"type": "string"}}', "Unimplemented"),
        ("json_schema", '{"type": "integer", "minimum": 5, "maximum": 1}', "Unsatisfiable"),
        ("lark", "start: nothing", "nothing"),
    ],
)
def test_a_grammar_that_cannot_be_used_is_refused(demo_tokens: Model, kind: str, text: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=f"(?s)^this {kind} .*{message}"):
        demo_tokens.matcher(kind, text)


def test_a_grammar_that_grows_too_large_is_no_end_of_the_answer(demo_tokens: Model) -> None:
    with pytest.raises(InvalidRequest, match=r"cannot be followed any further: .* Use a simpler one\.$"):
        demo_tokens.answer(demo_tokens.matcher("regex", "(.{1,1000}){1,1000}"), seed=0)


def test_a_character_that_the_tokenizer_lacks_is_an_error() -> None:
    tokenizer = Tokenizer(models.BPE(vocab={"<end>": 0, "a": 1, "b": 2}, merges=[]))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("_", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<end>"])
    model = Model(lambda: (tokenizer, frozenset([0])))
    with pytest.raises(InvalidRequest, match="cannot be followed any further"):
        model.answer(model.matcher("regex", "aéb"), seed=0)


def test_a_tokenizer_that_llguidance_does_not_know_is_refused() -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    with pytest.raises(InvalidRequest, match="tokenizer cannot follow a grammar"):
        GrammarCompiler(tokenizer, 2, frozenset([1])).matcher(Grammar("regex", "a"))


# What is meant ill


def test_a_fault_is_told_in_one_line(demo_tokens: Model) -> None:
    for kind, text in (("regex", "(" * 5000), ("lark", "start: " + "(" * 5000), ("json_schema", '{"type": "objekt"}')):
        with pytest.raises(InvalidRequest) as refused:
            demo_tokens.matcher(kind, text)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


def ambiguous(ways: int) -> dict[str, Any]:
    """Every item may be of as many kinds, which are the same: what they may be at one place grows with its square."""
    kinds = range(ways)
    items = {"anyOf": [{"type": "array", "items": {"$ref": f"#/$defs/d{n}"}} for n in kinds]}
    return {"$defs": {f"d{n}": items for n in kinds}, "$ref": "#/$defs/d0"}


def test_alternatives_have_a_bound_that_optional_values_do_not_meet(demo_tokens: Model) -> None:
    with pytest.raises(InvalidRequest, match="1,024 alternatives"):
        demo_tokens.matcher("json_schema", json.dumps(ambiguous(32)))
    optional = {f"p{n}": {"anyOf": [{"type": "string"}, {"type": "null"}]} for n in range(1200)}
    demo_tokens.matcher("json_schema", json.dumps({"type": "object", "properties": optional, "required": [*optional]}))


def test_the_largest_schemas_that_openai_takes_are_taken(demo_tokens: Model) -> None:
    many = {f"property_{n}": {"type": "string"} for n in range(5000)}
    values = {"enum": [f"value {n} {'x' * 100}" for n in range(1000)]}
    check = GrammarCheck(demo_tokens.tokenizer)
    for schema in ({"type": "object", "properties": many, "required": [*many]}, values):
        check.check(Grammar("json_schema", json.dumps(schema)))
        demo_tokens.matcher("json_schema", json.dumps(schema)).allowed()


def test_a_grammar_that_is_slow_at_each_token_is_no_end_of_the_answer(demo_tokens: Model) -> None:
    matcher = demo_tokens.matcher("json_schema", json.dumps({"const": "x y" * 60_000}))
    with pytest.raises(InvalidRequest, match="takes too long at each token"):
        for _ in range(1000):
            matcher.accept(int(matcher.allowed()[0]))


@pytest.mark.parametrize(
    "lark",
    ['start: a\na: a a | "x" | ', "start: s\ns: s s s | s s | /[a-z]/ | ", "start: " + "a " * 2000 + '\na: "x"?'],
    ids=["two", "three", "nothing"],
)
def test_ways_to_read_one_text_have_a_bound(demo_tokens: Model, lark: str) -> None:
    matcher = demo_tokens.matcher("lark", lark)
    with pytest.raises(InvalidRequest, match=r"cannot be followed any further|takes too long"):
        for _ in range(2000):
            matcher.accept(int([token for token in matcher.allowed() if token not in demo_tokens.end_ids][-1]))


def test_several_answers_follow_one_grammar_that_was_compiled_once(demo_tokens: Model) -> None:
    many = {f"p{n}": {"type": "string"} for n in range(2000)}
    text = json.dumps({"type": "object", "properties": many, "required": [*many]})

    def seconds() -> float:
        began = time.thread_time()
        demo_tokens.matcher("json_schema", text).allowed()
        return time.thread_time() - began

    assert seconds() > 3 * max(seconds() for _ in range(3))
    first, second = (demo_tokens.matcher("regex", "[ab]{3}") for _ in range(2))
    first.accept(demo_tokens.tokenizer.token_to_id("a"))
    first.accept(demo_tokens.tokenizer.token_to_id("b"))
    assert second.allowed().size > first.allowed().size


def test_tokens_that_a_grammar_names_are_known_to_its_check(demo_tokens: Model) -> None:
    check = GrammarCheck(demo_tokens.tokenizer)
    check.check(Grammar("lark", '%llguidance {}\nstart: <[1-5,700]> <|im_end|> "a"'))
    for unknown in ("<[99999]>", "<|nobody|>"):
        with pytest.raises(InvalidRequest):
            check.check(Grammar("lark", f"%llguidance {{}}\nstart: {unknown}"))
