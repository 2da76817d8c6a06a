"""When an answer ends, and what it never says: the options for that, in the sampler and in a whole answer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from serving.engine.engine import Engine
from serving.engine.sampler import Logits, Sampler
from serving.errors import InvalidRequest
from serving.text.prompt import Prompt
from serving.types import Completion, Grammar, SamplingOptions, complete
from tests.engine.test_sampler import Script
from tests.scripted import GREEDY, ScriptedRuntime, saying, user, vocab_size

NOTHING = np.zeros(0, dtype=np.int32)
END, STOP = 2, 3  # the model's own end, and one that a request names


def liking(*tokens: int) -> Logits:
    """Logits of 10 tokens, those that are named the likeliest and in this order."""
    logits = np.zeros(10, dtype=np.float32)
    logits[list(tokens)] = np.arange(len(tokens), 0, -1)
    return logits


def chosen(options: SamplingOptions, logits: Logits, times: int, **more: Any) -> list[int]:
    sampler = Sampler(replace(options, temperature=0.0), NOTHING, 10, **{"end_ids": {END}, **more})
    return [sampler.choose(logits).token for _ in range(times)]


def test_no_end_is_chosen_before_there_are_enough_tokens() -> None:
    options = SamplingOptions(min_tokens=2, stop_token_ids=(STOP,))
    assert chosen(options, liking(END, STOP, 7), 4) == [7, 7, END, END]
    assert chosen(replace(options, min_tokens=0), liking(STOP, END, 7), 1) == [STOP]


def test_an_end_that_is_ignored_never_comes_and_one_that_is_asked_for_does() -> None:
    options = SamplingOptions(ignore_eos=True, min_tokens=1, stop_token_ids=(STOP,))
    assert chosen(options, liking(END, STOP, 7), 3) == [7, STOP, STOP]


def test_a_grammar_that_allows_nothing_but_the_end_has_it() -> None:
    script = Script([END, 5], [END], [END])
    assert chosen(SamplingOptions(min_tokens=9), liking(END, 5), 3, grammar=script) == [5, END, END]


@pytest.mark.parametrize(
    ("banned", "expected"),
    [([[7]], [6, 6, 6, 6]), ([[7, 7]], [7, 6, 7, 6]), ([[7, 7, 7]], [7, 7, 6, 7]), ([[7, 7], [6]], [7, 5, 7, 5])],
)
def test_the_last_token_of_a_bad_word_does_not_follow_the_others(
    banned: Sequence[Sequence[int]], expected: list[int]
) -> None:
    assert chosen(SamplingOptions(), liking(7, 6, 5), 4, banned=banned) == expected


def test_what_the_model_does_not_have_ends_nothing_and_is_refused() -> None:
    assert chosen(SamplingOptions(min_tokens=1), liking(7), 1, banned=[[7, 10**6]]) == [7]
    assert chosen(SamplingOptions(min_tokens=1), liking(END, 7), 1, end_ids={END, 10**6}) == [7]
    with pytest.raises(InvalidRequest, match="stop_token_ids names token 10, but this model's last token is 9"):
        Sampler(SamplingOptions(stop_token_ids=(3, 10)), NOTHING, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_tokens": -1}, "min_tokens must be 0 or more"),
        ({"min_tokens": 6, "max_tokens": 5}, r"min_tokens must be at most max_tokens \(5\), not 6"),
        ({"stop_token_ids": (4, -1)}, "stop_token_ids must be 0 or more each"),
        ({"bad_words": ("a", "")}, "bad_words must be non-empty strings"),
        ({"ignore_eos": True, "grammar": Grammar("json_object")}, "ignore_eos must be false where a grammar"),
    ],
)
def test_options_that_exclude_each_other_are_refused(options: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        SamplingOptions(**options)


def said(prompt: Prompt, text: str, options: SamplingOptions) -> Completion:
    with Engine(ScriptedRuntime(saying(prompt, text), vocab_size(prompt)), prompt) as engine:
        return complete(engine.generate(user("hi"), options))


def test_a_stop_string_that_comes_too_soon_is_text(prompt: Prompt) -> None:
    text = "one two three one two three four"
    size = len(prompt.encode("one two three"))
    for most, expected in ((0, "one "), (size, "one two three one "), (100, text)):
        answer = said(prompt, text, replace(GREEDY, stop=("two",), min_tokens=most, max_tokens=None))
        assert answer.text[: len(expected)] == expected
        assert answer.last.completion_tokens >= most


@pytest.mark.parametrize("shown", [False, True])
def test_what_ended_the_answer_is_part_of_it_where_that_is_asked_for(prompt: Prompt, shown: bool) -> None:
    options = replace(GREEDY, include_stop=shown)
    by_text = said(prompt, "one two three", replace(options, stop=("zzz", "two")))
    assert (by_text.text, by_text.last.finish_reason) == ("one two" if shown else "one ", "stop")
    before, token = "one two", prompt.encode("one two three").tolist()[len(prompt.encode("one two"))]
    by_token = said(prompt, "one two three", replace(options, stop_token_ids=(token,)))
    text = before + str(prompt.tokenizer.decode([token])) if shown else before
    assert (by_token.text, by_token.last.finish_reason, by_token.token_ids[-1]) == (text, "stop", token)
    assert said(prompt, "one two", options).text == "one two"  # the model's own end is never shown


def test_a_bad_word_is_not_said_in_the_middle_nor_at_the_beginning(prompt: Prompt) -> None:
    assert said(prompt, "one two three", GREEDY).text == "one two three"
    for word in ("two", "one", " three"):
        answer = said(prompt, "one two three", replace(GREEDY, bad_words=("zzz", word), max_tokens=40))
        assert word.strip() not in answer.text
