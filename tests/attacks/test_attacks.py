"""Short attacks: each leaves the program answering and silent. The long ones: `python -m tests.attacks`."""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from serving.http.place import MOST_BYTES
from tests.attacks.bodies import FIELDS, GRAMMARS, JSON_TEXTS, PROMPTS, Bodies
from tests.attacks.client import CANARY, CHAT, Target, chat
from tests.attacks.fuzz import faults, fuzz, secret_files
from tests.attacks.measure import ELSEWHERE, Attack, Attackers
from tests.attacks.program import Program
from tests.attacks.table import ATTACKS, KEY
from tests.servers import asked

SPAN = 0.4  # seconds of each attack
MOST_TIMES = 20
HARMFUL = {
    "pattern: many alternatives", "pattern: huge counts", "schema: integers beyond 64 bits", "schema: a tree of itself",
    "schema: a product of alternatives", "schema: multiples of primes", "schema: doubling conjunctions",
    "tools: 128 large ones", "prompt: 4 MiB of emoji", "prompt: 4 MiB of one letter",
    "schema: 100,000 values", "schema: half a surrogate pair", "300,000 biases",
    "variables: the template's own", "JSON: 1 million faults", "JSON: half a surrogate pair",
    "prompt: 4,000 long prompts", "messages: 80,000", "overload: 16 answers each",
    "overload: 40 prompts", "overload: aborts at random", "500 halves of requests", "answers that nobody reads",
    "pipelined answers", "what is no request", "page: other routes", "page: answers joined and left",
}  # fmt: skip
TOO_LONG = {"JSON: 5 MiB", "prompt: 5 MiB"}
BY_NAME = {attack.name: attack for attack in ATTACKS}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """Files that no answer may show."""
    with secret_files(tmp_path_factory.mktemp("secret")) as files:
        yield files


@contextmanager
def running(folder: Path, work: Path, *flags: str) -> Iterator[Program]:
    """The program, watched."""
    program = Program(folder, work, flags, watched=True)
    try:
        yield program
    finally:
        program.kill()


@pytest.fixture(scope="module")
def programs(demo_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Program]]:
    """Gives the program with its defaults: the same each time, as long as it lives."""
    with ExitStack() as stack:
        started: list[Program] = []

        def living() -> Program:
            if not started or not started[-1].alive:
                started.append(stack.enter_context(running(demo_model, tmp_path_factory.mktemp("work"))))
            return started[-1]

        yield living


@pytest.fixture
def program(programs: Callable[[], Program]) -> Program:
    """The program, alive."""
    return programs()


def attack(attack: Attack, program: Program, files: Mapping[str, str], span: float = SPAN) -> Target:
    """Attack for a moment; what the attackers got."""
    target = Target(program.port, time.monotonic() + span, ELSEWHERE, files=files)
    Attackers(replace(attack, most=min(attack.most, MOST_TIMES)), target).join()
    return target


def answers(program: Program, headers: Mapping[str, str] | None = None) -> bool:
    """Whether a question is answered."""
    status, _, _ = asked(f"http://127.0.0.1:{program.port}", CHAT, chat("hi", max_tokens=4), dict(headers or {}))
    return status == 200


@pytest.mark.parametrize("bodies", [GRAMMARS, FIELDS, JSON_TEXTS, PROMPTS])
def test_no_body_is_refused_by_its_length_alone_but_those_that_are_to_be(bodies: Bodies) -> None:
    made = {name: make() for name, (_, make) in bodies.items()}
    sizes = {name: len(body if isinstance(body, bytes) else json.dumps(body)) for name, body in made.items()}
    assert {name for name, size in sizes.items() if size > MOST_BYTES} == TOO_LONG & set(bodies)


@pytest.mark.parametrize("name", sorted(HARMFUL))
def test_an_attack_leaves_the_server_answering_and_silent(
    program: Program, files: Mapping[str, str], name: str
) -> None:
    written = len(program.errors)
    target = attack(BY_NAME[name], program, files)
    assert program.alive and answers(program)
    said = program.errors[written:]
    assert CANARY not in said and not re.search("Traceback|^error", said, re.MULTILINE), said
    outcomes = {outcome for outcome in target.answers if outcome.startswith(("500", "no answer"))}
    assert not outcomes and not target.seen, target.answers


def test_hostile_events_of_the_page_are_refused_and_nothing_is_opened(
    program: Program, files: Mapping[str, str]
) -> None:
    target = fuzz(program, files, seed=1, count=400)
    assert faults(program, target) == []
    assert target.answers["400"] + target.answers["422"] > 100 and answers(program)


def test_wrong_keys_do_not_keep_the_right_one_out(demo_model: Path, files: Mapping[str, str], tmp_path: Path) -> None:
    with running(demo_model, tmp_path, "--api-key", KEY) as program:
        target = Target(program.port, time.monotonic() + 60, ELSEWHERE)
        attackers = Attackers(BY_NAME["wrong keys"], target)
        while target.answers["429"] < 20:
            assert attackers.is_alive()
        assert all(answers(program, {"authorization": f"Bearer {KEY}"}) for _ in range(8))
        assert attackers.is_alive() and set(target.answers) == {"401", "429"}
        target.until = time.monotonic()
        attackers.join()
        assert program.errors == ""


def test_sigterm_ends_a_server_under_attacks(program: Program, files: Mapping[str, str]) -> None:
    written, until = len(program.errors), time.monotonic() + 3
    attacks = ("overload: 16 streams each", "500 halves of requests", "answers that nobody reads")
    targets = [Target(program.port, until, f"127.0.0.{number}") for number in range(2, 5)]  # each has its own places
    attackers = [Attackers(BY_NAME[name], target) for name, target in zip(attacks, targets, strict=True)]
    health = f"http://127.0.0.1:{program.port}", "/health"
    while time.monotonic() < until and not json.loads(asked(*health)[2])["queue"]["running"]:
        pass
    assert program.terminate() is not None
    said = program.errors[written:]
    assert "Traceback" not in said and said.endswith("\nstopped.\n")
    for each in attackers:
        each.join()
