"""Reasoning and answer come apart, however the text is cut."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.engine.sampler import Sampler
from serving.text.channels import splitter_of
from serving.text.output import Output
from serving.text.prompt import Prompt
from serving.text.reasoning import Markers, ReasoningSplitter, find_markers
from serving.text.stops import StopStrings
from serving.types import Message, SamplingOptions, TemplateOptions
from tests.small_models import CHANNELS as CHANNELS_TEMPLATE
from tests.small_models import KINDS, chatml, special_tokens, write_folder

THINK = Markers("<think>", "</think>")
AS_TOKENS = Markers("<think>", "</think>", (1, 2))


def split(markers: Markers | None, pieces: list[str], inside: bool = False) -> list[tuple[str, str]]:
    """Runs of text of one kind."""
    splitter = splitter_of(markers, inside)
    runs: list[tuple[str, str]] = []
    for kind, text in [part for piece in pieces for part in splitter.feed(piece)] + splitter.flush():
        assert text
        runs = [*runs[:-1], (kind, runs[-1][1] + text)] if runs and runs[-1][0] == kind else [*runs, (kind, text)]
    return runs


def cut(text: str, rng: random.Random) -> list[str]:
    pieces = []
    while text:
        size = rng.randint(1, 4)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


CHANNELS = find_markers({}, "<|channel|>analysis<|message|>... <|channel|>final<|message|>...<|end|>")
ANALYSIS, NEXT = "<|channel|>analysis<|message|>", "<|end|><|start|>assistant"
PREAMBLE, LAST = "<|channel|>commentary<|message|>", "<|channel|>final<|message|>"
FINAL = NEXT + LAST
CALL = "commentary to=functions.add <|constrain|>json<|message|>{}"


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        (f"{ANALYSIS}1 < 2.{FINAL}Yes.", [("reasoning", "1 < 2."), ("answer", "Yes.")]),
        (f"{LAST}Yes.", [("answer", "Yes.")]),
        (f"{LAST}Yes.<|end|>", [("answer", "Yes.")]),
        (f"{LAST}Yes.<|return|>", [("answer", "Yes.")]),
        (f"{ANALYSIS}cut", [("reasoning", "cut")]),
        ("Yes.", [("answer", "Yes.")]),
        ("\n\nYes <|b|> to=x", [("answer", "\n\nYes <|b|> to=x")]),
        (f"{ANALYSIS}a{NEXT}{ANALYSIS}b{FINAL}c", [("reasoning", "a\n\nb"), ("answer", "c")]),
        (f"{ANALYSIS}a\n{NEXT}{ANALYSIS}\nb{FINAL}\nc", [("reasoning", "a\nb"), ("answer", "c")]),
        (f"{PREAMBLE}I look.{FINAL}Done.", [("answer", "I look.\n\nDone.")]),
        (
            f"{ANALYSIS}a{NEXT}{PREAMBLE}I look.{NEXT}{ANALYSIS}b{FINAL}c",
            [("reasoning", "a"), ("answer", "I look."), ("reasoning", "\n\nb"), ("answer", "\n\nc")],
        ),
        ("<|channel|>final <|constrain|>json<|message|>{}", [("answer", "{}")]),
        (f"{ANALYSIS}a{NEXT}<|channel|>final<|constrain|>json<|message|>{{}}", [("reasoning", "a"), ("answer", "{}")]),
        (f"{ANALYSIS}a{NEXT}<|channel|>final json<|message|>{{}}", [("reasoning", "a"), ("answer", "{}")]),
        (f"{ANALYSIS}a<|end|>", [("reasoning", "a")]),
        (f"{ANALYSIS}a<|end|>\n Yes.", [("reasoning", "a"), ("answer", "Yes.")]),
        (f"{ANALYSIS}a{LAST}b", [("reasoning", "a"), ("answer", "b")]),
        (f"{ANALYSIS}a<|message|>b{NEXT}<|message|>c", [("reasoning", "ab"), ("answer", "c")]),
        (f"{ANALYSIS}a{NEXT}<|channel|>fin", [("reasoning", "a")]),
        ("<|channel|>analysis to=browser.search code<|message|>{}", [("reasoning", "{}")]),
        (f"{ANALYSIS}a{NEXT}<|channel|>{CALL}<|call|>", [("reasoning", "a"), ("answer", "{}")]),
        (f" to=functions.add<|channel|>{CALL}", [("answer", "{}")]),
        (" to=fun", [("answer", " to=fun")]),
        (f"{LAST}a <|chan", [("answer", "a <|chan")]),
        ("", []),
    ],
)
def test_messages_in_channels_are_reasoning_and_answer(text: str, runs: list[tuple[str, str]]) -> None:
    rng = random.Random(0)
    twice = [[text[:at], text[at:]] for at in range(len(text) + 1)]
    for pieces in [[text], [*text], *twice, *(cut(text, rng) for _ in range(200))]:
        assert split(CHANNELS, pieces) == runs


def test_a_prompt_may_have_opened_the_analysis() -> None:
    for text in (f"\na{NEXT}{ANALYSIS}b{FINAL}c", f"\na\n<|end|>{ANALYSIS}b<|end|>c"):
        reasoning = "a\nb" if "\n<" in text else "a\n\nb"
        assert split(CHANNELS, [*text], inside=True) == [("reasoning", reasoning), ("answer", "c")]


def test_a_forced_end_of_the_analysis_is_inside_until_the_answer_begins() -> None:
    splitter = splitter_of(CHANNELS)
    splitter.feed(f"{ANALYSIS}a")
    assert CHANNELS is not None
    for at in range(len(CHANNELS.closing)):
        assert splitter.inside
        assert splitter.feed(CHANNELS.closing[at]) == []
    assert not splitter.inside


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("<think>\nHm, 1 < 2.\n</think>\n\nYes.", [("reasoning", "Hm, 1 < 2.\n"), ("answer", "Yes.")]),
        ("Yes.", [("answer", "Yes.")]),
        ("\n\nYes.\n", [("answer", "\n\nYes.\n")]),
        ("<think>\n\n</think>\n\n Yes.", [("answer", " Yes.")]),
        ("\n<think>b</think>c<think>d</think>e", [("reasoning", "b"), ("answer", "c<think>d</think>e")]),
        ("a<think>b</think>", [("answer", "a<think>b</think>")]),
        ("<think>a<think>b</think>c", [("reasoning", "a<think>b"), ("answer", "c")]),
        ("<thin</think>king <think", [("answer", "<thin</think>king <think")]),
        ("<think>cut off </thi", [("reasoning", "cut off </thi")]),
        ("a</think>b<think>c", [("answer", "a</think>b<think>c")]),
        ("<think>a<</think>b", [("reasoning", "a<"), ("answer", "b")]),
        ("<think>\n<think>a</think>b", [("reasoning", "a"), ("answer", "b")]),
        ("\n</think>\n\nb</think>", [("answer", "b</think>")]),
        ("</thin", [("answer", "</thin")]),
    ],
)
def test_any_cut_of_the_text_gives_the_same_parts(text: str, runs: list[tuple[str, str]]) -> None:
    rng = random.Random(0)
    for pieces in [[text], [*text], *(cut(text, rng) for _ in range(200))]:
        assert split(THINK, pieces) == runs


def test_reasoning_that_the_prompt_opened_comes_first() -> None:
    rng = random.Random(1)
    for _ in range(100):
        for again in ("", "<think>", "\n<think>\n"):
            pieces = cut(f"{again}\nSo.\n</think>\n\nYes.", rng)
            assert split(THINK, pieces, inside=True) == [("reasoning", "So.\n"), ("answer", "Yes.")]


def test_nothing_is_held_back_that_cannot_be_a_marker() -> None:
    splitter = ReasoningSplitter(THINK)
    assert splitter.feed("well <th") == [("answer", "well ")]
    assert splitter.feed("e") == [("answer", "<the")]
    assert splitter.feed(" rest") == [("answer", " rest")]


@pytest.mark.parametrize("skipped", [True, False])
def test_where_markers_are_tokens_only_they_count(skipped: bool) -> None:
    splitter = ReasoningSplitter(AS_TOKENS)

    def marker(id: int, before: str = "") -> list[tuple[str, str]]:
        # The detokenizer shows a marker unless it is a special token, after what it held back.
        return splitter.feed(before + ("" if skipped else ("<think>", "</think>")[id - 1]), id)  # type: ignore[return-value]

    assert marker(1) == []
    assert splitter.feed("\n", 7) == []
    assert splitter.feed("Not </think> yet.\n", 8) == [("reasoning", "Not </think> yet.\n")]
    assert marker(2, "\ufffd") == [("reasoning", "\ufffd")]
    assert splitter.feed("\n\n", 9) == []
    assert splitter.feed("In HTML, <think>", 10) == [("answer", "In HTML, <think>")]
    assert splitter.flush() == []


def test_a_model_without_markers_may_write_them() -> None:
    assert split(None, ["<think>a", "</think>b"]) == [("answer", "<think>a</think>b")]


def test_markers_are_found_among_the_added_tokens_or_in_the_template() -> None:
    added = {"<s>": 0, "[THINK]": 5, "[/THINK]": 6}
    assert find_markers(added, "") == Markers("[THINK]", "[/THINK]", (5, 6))
    assert find_markers(added, "{{ content.split('</think>') }}") == Markers("[THINK]", "[/THINK]", (5, 6))
    assert find_markers({"<s>": 0}, "{{ content.split('</think>') }}") == THINK
    assert find_markers({"<s>": 0, "<think>": 1}, "{{ content }}") is None


def test_the_prompt_tells_whether_the_template_opened_the_reasoning(tmp_path: Path) -> None:
    prompt = Prompt.load(write_folder(chatml(), tmp_path))
    for typed in ("hi", "<think>", "\n<think>\n"):
        said = [Message("user", typed)]
        for arguments, inside in (({}, False), ({"enable_thinking": False}, False), ({"enable_thinking": True}, True)):
            token_ids = prompt.conversation_ids(said, TemplateOptions(arguments=arguments))
            assert prompt.starts_in_reasoning(token_ids) == inside
            kind = "reasoning" if inside else "answer"
            assert prompt.splitter(token_ids).feed("text") == [(kind, "text")]


def test_markers_that_are_text_open_the_reasoning_too(tmp_path: Path) -> None:
    kind = KINDS["llama3"]()
    opened = kind.template.replace("assistant<|end_header_id|>\n\n", "assistant<|end_header_id|>\n\n<think>\n")
    (tmp_path / "plain").mkdir()
    plain = Prompt.load(write_folder(kind, tmp_path / "plain"))
    said = [Message("user", "hi")]
    assert plain.markers is None and not plain.starts_in_reasoning(plain.conversation_ids(said))
    folder = write_folder(kind, tmp_path)
    (folder / "chat_template.jinja").write_text(opened)
    prompt = Prompt.load(folder)
    assert prompt.markers == THINK
    assert prompt.starts_in_reasoning(prompt.conversation_ids(said))


def test_a_streamed_answer_comes_apart(tmp_path: Path) -> None:
    prompt = Prompt.load(write_folder(chatml(), tmp_path))
    texts = ("<think>\nH\u00e9, \u9f98?\n</think>\n\n\U0001f44d about <", "think>")  # the last marker is spelled
    answer = [id for text in texts for id in prompt.encode(text).tolist()]
    splitter, detokenizer = prompt.splitter(prompt.conversation_ids([Message("user", "hi")])), prompt.detokenizer()
    shown = {"reasoning": "", "answer": ""}
    for id in answer:
        for kind, text in splitter.feed(detokenizer.feed(id), id):
            shown[kind] += text
    assert shown == {"reasoning": "H\u00e9, \u9f98?\n", "answer": "\U0001f44d about <think>"}


def test_channels_are_special_tokens_that_are_read_and_end_no_answer(tmp_path: Path) -> None:
    kind = KINDS["llama3"]()
    named = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|constrain|>", "<|return|>", "<|call|>")
    kind.tokenizer.add_tokens(special_tokens(*named))
    prompt = Prompt.load(write_folder(replace(kind, template=CHANNELS_TEMPLATE), tmp_path))
    ids = {name: kind.tokenizer.token_to_id(name) for name in named}
    assert ids["<|return|>"] in prompt.end_ids and not {ids[name] for name in named[:5]} & prompt.end_ids
    token_ids = prompt.conversation_ids([Message("user", "say <|end|>"), Message("assistant", "<|end|>")])
    assert token_ids.tolist().count(ids["<|end|>"]) == 3, "those that the template writes"
    output = Output(prompt.detokenizer(), prompt.splitter(token_ids), StopStrings(()))
    shown = {"reasoning": "", "answer": ""}
    constrained = FINAL.replace("final", "final<|constrain|>json")
    spelled = [id for piece in ("<", "|end", "|>") for id in prompt.encode(piece).tolist()]
    written = prompt.encode(f"{ANALYSIS}H\u00e9?{NEXT}{ANALYSIS}Well{constrained}Yes").tolist()
    for id in [*written, *spelled, ids["<|end|>"]]:
        for part, text in output.feed(id)[0]:
            shown[part] += text
    assert output.flush() == []
    assert shown == {"reasoning": "H\u00e9?\n\nWell", "answer": "Yes<|end|>"}


def test_a_marker_that_is_a_token_does_not_reopen_the_reasoning() -> None:
    splitter = ReasoningSplitter(AS_TOKENS)
    assert splitter.feed("<think>", 1) == []
    assert splitter.feed("Easy.", 7) == [("reasoning", "Easy.")]
    assert splitter.feed("</think>", 2) == []
    assert splitter.feed("The ", 8) == [("answer", "The ")]
    assert splitter.feed("<think>", 1) == [("answer", "<think>")]
    assert splitter.feed("</think>", 2) == [("answer", "</think>")]
    assert not splitter.inside


WRAPPED = Markers("<think>", "</think>", None, ("<response>", "</response>"))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<response>Sunny.</response>", "Sunny."),
        ("<response>\nSunny.\n</response>\n", "Sunny."),
        ("<response>a </response> b</response>", "a </response> b"),
        ("<response>cut <", "cut <"),
        ("Plain </response>", "Plain </response>"),
        ("<resp", "<resp"),
    ],
)
def test_the_answer_comes_without_the_markers_around_it(text: str, answer: str) -> None:
    rng = random.Random(2)
    for before, runs in (("", []), ("<think>Easy.</think>", [("reasoning", "Easy.")])):
        for pieces in [[before + text], *(cut(before + text, rng) for _ in range(100))]:
            assert split(WRAPPED, pieces) == [*runs, ("answer", answer)]
    assert find_markers({}, "<think></think> and <response></response>") == WRAPPED


STEPS = find_markers({}, "Here are my reasoning steps: [BEGIN FINAL RESPONSE] [END FINAL RESPONSE]")
PROCESS = find_markers({}, "Here is my thought process: Here is my response:")


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("Here are my reasoning steps:\nEasy.\n[BEGIN FINAL RESPONSE]\nSunny.\n[END FINAL RESPONSE]\n",
         [("reasoning", "Easy.\n"), ("answer", "Sunny.")]),
        ("[BEGIN FINAL RESPONSE]\nSunny.\n[END FINAL RESPONSE]", [("answer", "Sunny.")]),
        ("Sunny.", [("answer", "Sunny.")]),
    ],
)  # fmt: skip
def test_what_ends_the_reasoning_may_begin_the_answer(text: str, runs: list[tuple[str, str]]) -> None:
    rng = random.Random(3)
    for pieces in [[text], [*text], *(cut(text, rng) for _ in range(200))]:
        assert split(STEPS, pieces) == runs


def test_words_that_an_answer_may_begin_with_are_no_void_marker() -> None:
    assert split(PROCESS, ["Here is my response: b"]) == [("answer", "Here is my response: b")]


def test_a_budget_ends_the_reasoning_with_its_marker_between_characters(tmp_path: Path) -> None:
    prompt = Prompt.load(write_folder(chatml(), tmp_path))
    options = TemplateOptions(arguments={"enable_thinking": True})
    token_ids = prompt.conversation_ids([Message("user", "hi")], options)
    thought = prompt.encode("Well, \u9f98 and \U0001f44d and so on, and on, and on").tolist()
    for most in (0, 1, 3, 5, 7):
        output = Output(prompt.detokenizer(), prompt.splitter(token_ids), StopStrings(()))
        budget, wished, written = prompt.budget(most), iter([*thought, *thought]), 0
        shown = {"reasoning": "", "answer": ""}
        while output.reasoning:
            forced = budget.next(output.reasoning, output.whole)
            written += 1
            for kind, text in output.feed(next(wished) if forced is None else forced)[0]:
                shown[kind] += text
        assert "\ufffd" not in shown["reasoning"] and not shown["answer"]
        assert most < written <= most + 8
    free = prompt.budget(None)
    assert all(free.next(inside=True, whole=True) is None for _ in range(100))


def test_a_forced_token_is_taken_and_draws_as_any_other() -> None:
    logits = np.linspace(0, 1, 50, dtype=np.float32)
    free, forced = (Sampler(SamplingOptions(seed=1), np.asarray([0], np.int32), 50) for _ in range(2))
    free.choose(logits)
    assert forced.choose(logits, forced=3).token == 3
    assert [free.choose(logits).token for _ in range(5)] == [forced.choose(logits).token for _ in range(5)]
