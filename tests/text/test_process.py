"""The processes that write prompts: the prompts are the model's own, and nothing that is sent stops them for others."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from serving.errors import ContextOverflow, EngineStopped, InvalidRequest, ModelFolderError
from serving.text.lane import Limits
from serving.text.process import TextProcess
from serving.text.prompt import Prompt
from serving.types import Grammar, GrammarKind, Message, TemplateOptions
from tests.small_models import CHATML, chatml, write_folder

MIB = 1 << 20
WINDOW = 4096
# Nothing but what never ends takes so long, on a busy machine either.
SOON = Limits(short=3.0, long=3.0, grammar=3.0, start=10.0, memory=256 * MIB)
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
# A template that does what the first message says before it writes the conversation. What `turns` is part of is not
# computed when it is compiled.
LED = (
    """
{%- macro again() %}{{ again() }}{% endmacro %}
{%- set wish, turns = messages[0].content, messages | length %}
{%- if wish == 'loops' %}"""
    + LOOPS
    + """
{%- elif wish == 'one call' %}{{ (7 ** (3 ** (turns + 18))) is odd }}
{%- elif wish == 'doubling' %}{% set all = namespace(text='twice') %}
    {%- for n in range(60) %}{% set all.text = all.text ~ all.text %}{% endfor %}{{ all.text | length }}
{%- elif wish == 'output' %}{% for a in range(99999) %}{{ 'x' * (turns * 1000000) }}{% endfor %}
{%- elif wish == 'a list' %}{{ (range(99999) | list * (turns * 99999)) | length }}
{%- elif wish == 'itself' %}{{ again() }}
{%- elif wish == 'nothing' %}{{ 1 // (turns - turns) }}
{%- elif wish == 'attribute' %}{{ nowhere.nothing.at_all }}
{%- elif rounds %}{% for a in range(rounds) %}{% for b in range(rounds) %}{% endfor %}{% endfor %}
{%- elif tools and tools[0].function.name == 'loops' %}"""
    + LOOPS
    + "{%- endif %}"
    + CHATML
)


def user(*texts: str) -> list[Message]:
    return [Message("user", text) for text in texts]


def folder_with(template: str, folder: Path) -> Path:
    return write_folder(replace(chatml(), template=template), folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_with(LED, tmp_path_factory.mktemp("led"))


@pytest.fixture(scope="module")
def prompt(folder: Path) -> Prompt:
    return Prompt.load(folder)


@pytest.fixture(scope="module")
def texts(folder: Path) -> Iterator[TextProcess]:
    with TextProcess(folder, SOON) as texts:
        yield texts


@pytest.fixture(scope="module")
def patient(folder: Path) -> Iterator[TextProcess]:
    """One whose limits nothing meets, on a busy machine either."""
    with TextProcess(folder, Limits(short=120.0, long=120.0)) as texts:
        yield texts


# What Prompt does


TOOL: dict[str, Any] = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL: dict[str, Any] = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
CALLED = [*user("add"), Message("assistant", "", "so", (CALL,)), Message("tool", "3", tool_call_id="1", name="add")]


@pytest.mark.parametrize(
    ("messages", "options"),
    [
        (user("hi"), TemplateOptions()),
        (user("h\u00e9llo \U0001f30d \0 <|im_end|> {{ x }}"), TemplateOptions()),
        (user("hi"), TemplateOptions(arguments={"enable_thinking": True})),
        (user("hi"), TemplateOptions((TOOL,), {"enable_thinking": False})),
        (user("hi"), TemplateOptions(hints={"enable_thinking": False, "nobody": 1})),
        (CALLED, TemplateOptions((TOOL,))),
        (user("word " * 500), TemplateOptions()),
    ],
)
def test_prompts_are_the_models_own(
    texts: TextProcess, prompt: Prompt, messages: list[Message], options: TemplateOptions
) -> None:
    ours, theirs = (one.tokens(messages, WINDOW, options) for one in (texts, prompt))
    assert (ours[0].tolist(), ours[1], ours[0].dtype) == (theirs[0].tolist(), theirs[1], theirs[0].dtype)


def test_what_it_knows_is_what_the_model_says(texts: TextProcess, prompt: Prompt) -> None:
    assert (texts.end_ids, texts.calls) == (prompt.end_ids, prompt.calls)
    assert texts.calls is not None
    ours, theirs = (one.raw_ids("<|im_start|>some text", WINDOW).tolist() for one in (texts, prompt))
    assert ours == theirs
    assert texts.checked_ids([1, 2, 3], WINDOW).tolist() == [1, 2, 3]
    assert texts.spelling == prompt.spelling
    assert texts.spelling.of(prompt.vocabulary) == ""


def test_what_outgrows_the_window_is_left_out_as_ever(texts: TextProcess, prompt: Prompt) -> None:
    long = [Message("user" if n % 2 == 0 else "assistant", f"{n} " + "word " * 100) for n in range(41)]
    ours, theirs = (one.tokens(long, WINDOW, policy="trim", max_tokens=5) for one in (texts, prompt))
    assert ours[1] == theirs[1] > 0
    assert ours[0].tolist() == theirs[0].tolist()


def test_errors_are_those_of_the_prompt(texts: TextProcess, prompt: Prompt) -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    for one in (texts, prompt):
        with pytest.raises(ContextOverflow, match=r"conversation has \d+ tokens, and the context window of 100 has"):
            one.tokens(user("word " * 1000), 100)
        with pytest.raises(ContextOverflow, match=r"the prompt has at least [\d,]+ tokens"):
            one.raw_ids("word " * 100_000, WINDOW)
        with pytest.raises(ContextOverflow, match="the prompt has 5,000 tokens"):
            one.checked_ids([1] * 5000, WINDOW)
        with pytest.raises(InvalidRequest, match="names token 1000000"):
            one.checked_ids([10**6], WINDOW)
        with pytest.raises(InvalidRequest, match="empty"):
            one.tokens([], WINDOW)
        with pytest.raises(InvalidRequest, match="UTF-8"):
            one.tokens(user("\ud800"), WINDOW)
        with pytest.raises(InvalidRequest, match="knows nothing of 'nobody'"):
            one.tokens(user("hi"), WINDOW, TemplateOptions(arguments={"nobody": 1}))
        for value in (object(), deep):
            with pytest.raises(InvalidRequest, match="cannot be written as JSON"):
                one.tokens(user("hi"), WINDOW, TemplateOptions(arguments={"rounds": value}))


def test_any_number_of_threads_may_ask(texts: TextProcess, prompt: Prompt) -> None:
    said = [user(f"question {n} " * (1 + 3000 * (n % 2))) for n in range(16)]
    expected = [prompt.tokens(one, 10**6)[0].tolist() for one in said]
    with ThreadPoolExecutor(len(said)) as pool:
        assert list(pool.map(lambda one: texts.tokens(one, 10**6)[0].tolist(), said)) == expected


# What never ends, or grows without end


ENDLESS = {
    "loops": (user("loops"), TemplateOptions()),
    "a variable": (user("hi"), TemplateOptions(arguments={"rounds": 99_999})),
    "a tool": (user("hi"), TemplateOptions(({"type": "function", "function": {"name": "loops"}},))),
}
GROWING = ("doubling", "output", "a list")
FAILING = {"itself": "recursion", "nothing": "zero", "attribute": "undefined"}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_that_does_not_end_is_ended(texts: TextProcess, name: str) -> None:
    messages, options = ENDLESS[name]
    with pytest.raises(InvalidRequest, match=r"^writing this conversation out .* takes longer than . s: shorten it\.$"):
        texts.tokens(messages, WINDOW, options)
    assert texts.tokens(user("hi"), WINDOW, TemplateOptions((TOOL,)))[0].size
    assert texts.tokens(user("hi"), WINDOW)[0].size


@pytest.mark.parametrize("wish", GROWING)
def test_a_template_that_writes_without_end_is_ended(patient: TextProcess, wish: str) -> None:
    with pytest.raises(InvalidRequest, match=r"takes more memory than there is for it: shorten it\.$"):
        patient.tokens(user(wish), WINDOW)
    assert patient.tokens(user("hi"), WINDOW)[0].size


@pytest.mark.parametrize("wish", FAILING)
def test_a_template_that_fails_refuses(texts: TextProcess, wish: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"template refuses the roles \[user\]: .*{FAILING[wish]}"):
        texts.tokens(user(wish), WINDOW)


def test_an_error_is_no_longer_than_a_few_sentences(texts: TextProcess) -> None:
    with pytest.raises(InvalidRequest) as refused:
        texts.tokens(user("nothing", *["hi"] * 1000), WINDOW)
    assert len(str(refused.value)) < 1000
    with pytest.raises(InvalidRequest) as refused:
        texts.tokens(user("hi"), WINDOW, TemplateOptions(arguments={"x" * MIB: 1}))
    assert len(str(refused.value)) < 3000


AT_FIRST = {
    "loops": LOOPS,
    "doubling": "{% set all = namespace(text='twice') %}{% for n in range(60) %}"
    "{% set all.text = all.text ~ all.text %}{% endfor %}{{ all.text }}",
}


@pytest.mark.parametrize("name", AT_FIRST)
def test_a_folder_whose_template_never_ends_is_refused_at_the_start(tmp_path: Path, name: str) -> None:
    fault = "cannot be served: writing out two messages with its chat template takes"
    limits = replace(SOON, start=2.0)
    with TextProcess(folder_with(AT_FIRST[name], tmp_path), limits) as texts:
        with pytest.raises(ModelFolderError, match=fault):
            texts.wait()
        with pytest.raises(ModelFolderError, match=fault):
            texts.tokens(user("hi"), WINDOW)


def test_nobody_has_to_wait_for_the_start(tmp_path: Path) -> None:
    with TextProcess(folder_with(LOOPS, tmp_path), replace(SOON, start=600.0)) as texts:
        asked = iter([False, True])
        texts.wait(lambda: next(asked))


def test_a_folder_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (folder_with(CHATML, tmp_path) / "tokenizer.json").write_text("{")
    with TextProcess(tmp_path, SOON) as texts, pytest.raises(ModelFolderError, match=r"tokenizer\.json cannot be read"):
        texts.wait()


# Long texts


LONG = {
    "one word": "x" * (8 * MIB),
    "blanks": " " * (8 * MIB),
    "Chinese": "\u4f60\u597d" * (8 * MIB // 6),
    "emoji": "\U0001f44d" * (8 * MIB // 4),
    "control tokens": "<|im_end|>" * (8 * MIB // 10),
    "anything": "".join(map(chr, range(32, 0x2FFF))) * 250,
}


@pytest.mark.parametrize("name", LONG)
def test_a_text_that_cannot_fit_is_refused_by_its_length(patient: TextProcess, name: str) -> None:
    with pytest.raises(ContextOverflow, match=r"has at least [\d,]+ tokens"):
        patient.tokens(user(LONG[name]), WINDOW)


def test_short_questions_are_answered_while_long_ones_are_read(texts: TextProcess) -> None:
    """Nothing is too long for this window, so everything is encoded until it has taken too much."""
    texts.tokens(user("hi"), WINDOW)
    answered = 0
    with ThreadPoolExecutor(2) as pool:
        long = [pool.submit(texts.tokens, user(LONG[name]), 10**9) for name in ("one word", "emoji")]
        while not all(one.done() for one in long):
            assert texts.tokens(user("hi"), WINDOW)[0].size
            answered += not long[0].done()
        assert all(isinstance(one.exception(), InvalidRequest) for one in long)
    assert answered >= 10


def test_the_memory_of_long_texts_is_given_back(folder: Path) -> None:
    with TextProcess(folder, replace(SOON, long=120.0, memory=1 << 30)) as texts:
        for _ in range(2):  # what is made when it is first needed is there then
            texts.tokens(user("hi", "<|im_end|>"), WINDOW)
            texts.tokens(user("hi " * 20_000, "<|im_end|>"), 10**9)
        before = sum(map(resident, texts.pids))
        for name in ("one word", "anything"):
            with pytest.raises(ContextOverflow):
                texts.tokens(user(LONG[name]), WINDOW)
        assert texts.tokens(user("hello there " * 100_000), 10**9)[0].size > 200_000
        assert texts.tokens(user("hi " * 20_000), 10**9)[0].size  # one that was started again has loaded
        assert sum(map(resident, texts.pids)) < 1.1 * before + 16 * MIB


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# Grammars


def doubling(how: str, depth: int = 60) -> str:
    twice = (f'[{{"$ref": "#/$defs/d{n}"}}, {{"$ref": "#/$defs/d{n}"}}]' for n in range(depth - 1))
    above = "".join(f', "d{n}": {{"{how}": {pair}}}' for n, pair in enumerate(twice, 1))
    return f'{{"$defs": {{"d0": {{"pattern": "^[a-z]+$"}}{above}}}, "$ref": "#/$defs/d{depth - 1}"}}'


PRIMES = ", ".join(f'{{"type": "integer", "multipleOf": {n}}}' for n in (999983, 999979, 999961, 999959, 999953))
BOMBS: dict[str, tuple[GrammarKind, str]] = {
    "conjunctions that double": ("json_schema", doubling("allOf")),
    "multiples of primes": ("json_schema", f'{{"allOf": [{PRIMES}]}}'),
    "an integer beyond 64 bits": ("json_schema", f'{{"type": "integer", "maximum": {10**400}}}'),
    "deep": ("json_schema", '{"items": ' * 5000 + "{}" + "}" * 5000),
    "deep groups": ("regex", "(" * 5000 + "a" + ")" * 5000),
    "too long": ("json_schema", '{"const": "' + "x" * MIB + '"}'),
    "alternatives": ("json_schema", '{"anyOf": [' + ", ".join(f'{{"const": {n}}}' for n in range(2000)) + "]}"),
    "in circles": ("lark", "start: a\na: a"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_grammar_that_cannot_be_used_harms_nobody(texts: TextProcess, name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        texts.check(Grammar(*BOMBS[name]))
    assert len(str(refused.value)) < 400 and "\n" not in str(refused.value)
    texts.check(Grammar("regex", f"[0-9]+{name}"))


def test_those_who_ask_for_one_grammar_at_a_time_have_it_compiled_once(texts: TextProcess) -> None:
    def refused(_: int) -> None:
        with pytest.raises(InvalidRequest):
            texts.check(Grammar(*BOMBS["multiples of primes"]))

    began = time.monotonic()
    refused(0)
    alone = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(refused, range(8)))
    assert time.monotonic() - alone < 4 * (alone - began)
    # tried again: it may have been others who made it slow
    assert time.monotonic() - alone > (alone - began) / 4


def test_a_grammar_that_could_be_compiled_is_not_compiled_again(folder: Path) -> None:
    with TextProcess(folder, SOON) as texts:
        for n in range(10):
            texts.check(Grammar("regex", f"a{n}"))
        texts._long.close()
        texts.check(Grammar("regex", "a3"))
        with pytest.raises(EngineStopped):
            texts.check(Grammar("regex", "b"))
