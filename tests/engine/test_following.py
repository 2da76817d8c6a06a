"""A grammar that takes long: who waits for it, and who does not."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from serving.engine.engine import Engine
from serving.text.grammar import GrammarCompiler, Matcher
from serving.text.prompt import Prompt
from serving.types import Completion, Grammar, complete
from tests.scripted import GREEDY, ScriptedRuntime, saying, user

YES = replace(GREEDY, max_tokens=20, grammar=Grammar("regex", "yes, it is"))


class Held:
    """What a test lets go on when it likes."""

    def __init__(self) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()

    def hold(self) -> None:
        self.reached.set()
        assert self.go_on.wait(30)


@pytest.fixture(params=["compiling", "the next token"])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    """A grammar that stands still where it is compiled, or at its second token."""
    held = Held()
    place = (GrammarCompiler, "matcher") if request.param == "compiling" else (Matcher, "accept")
    before = getattr(*place)

    def holding(*arguments: object) -> object:
        held.hold()
        return before(*arguments)

    monkeypatch.setattr(*place, holding)
    yield held
    held.go_on.set()


@pytest.fixture
def engine(prompt: Prompt, scripted: ScriptedRuntime) -> Iterator[Engine]:
    scripted.next_token = saying(prompt, "yes, it is what I think")
    with Engine(scripted, prompt) as engine:
        yield engine


def test_others_are_answered_while_a_grammar_is_computed(held: Held, engine: Engine) -> None:
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(lambda: complete(engine.generate(user("hi"), YES)))
        assert held.reached.wait(30)
        for _ in range(3):
            assert complete(engine.generate(user("you"), GREEDY)).last.finish_reason == "stop"
        assert not slow.done()
        held.go_on.set()
        answer: Completion = slow.result()
    assert answer.text == "yes, it is"


def test_an_answer_that_is_cancelled_does_not_wait_for_its_grammar(held: Held, engine: Engine) -> None:
    stop = threading.Event()
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(lambda: complete(engine.generate(user("hi"), YES, stop.is_set)))
        assert held.reached.wait(30)
        stop.set()
        assert slow.result(30).last.finish_reason == "cancelled"
    assert engine.status().running == 0


def test_while_all_wait_the_engine_sleeps(held: Held, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = 0
    before = engine._scheduler._decode

    def counting(*arguments: object) -> None:
        nonlocal rounds
        rounds += 1
        before(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(engine._scheduler, "_decode", counting)
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(lambda: complete(engine.generate(user("hi"), YES)))
        assert held.reached.wait(30)
        began = rounds
        threading.Event().wait(0.5)
        assert 0 < rounds - began <= 110  # each takes at least 5 ms
        held.go_on.set()
        assert slow.result(30).text == "yes, it is"
