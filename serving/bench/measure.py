"""The measurement: every runner is asked the same in turn, round by round, so that noise comes to all of them."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from serving.bench.llama import LlamaRunner
from serving.bench.plan import FOLLOW_UP, RUNTIMES, Case, Plan, random_prompt
from serving.bench.runners import Answer, EngineRunner, Memory, Runner, weights_size
from serving.engine.choosing import may_batch
from serving.errors import InvalidRequest
from serving.folder import ModelFolder
from serving.hardware import available_memory
from serving.types import EngineSettings, RuntimeName

_WARM_UP = (32, 4)  # tokens of prompt and answer
Tell = Callable[[int, int, str, float | None], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """One case of one runner in one round. seconds: from the first question to the last token of all answers."""

    case: Case
    answers: tuple[Answer, ...]
    seconds: float
    follow_up: Answer | None = None


@dataclass(slots=True)
class Measured:
    """What was found of one runner. samples: by case, one for each round. memory: by moment, in order."""

    name: str
    threads: int
    size: int
    samples: dict[Case, list[Sample]] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Results:
    """A whole measurement. model: what it is called. window: its served context, in tokens."""

    model: str
    window: int
    plan: Plan
    runners: tuple[Measured, ...]


def measured(
    folder: Path,
    settings: EngineSettings,
    plan: Plan,
    tell: Tell,
    wanted: Sequence[RuntimeName] | None = None,
    against: Path | None = None,
) -> Results:
    """Measure a model folder, and a GGUF file besides.

    wanted: runtimes; None for all that this export can be served by here. tell: is given pieces done and in all, what
    is measured, and the seconds left. Raises ServingError.
    """
    # 1. What can be refused before anything is loaded.
    opened = ModelFolder.open(folder)
    plan.fitted(opened.context_length)
    runtimes = dict.fromkeys(wanted or (RUNTIMES if may_batch(opened, replace(settings, runtime="auto")) else ("oga",)))
    check_memory(folder, len(runtimes), against)

    with ExitStack() as ending:
        # 2. All of them are loaded, and idle but for their turn.
        window, runners = opened.context_length, list[Runner]()
        for name in runtimes:
            tell(0, 0, f"loading {name}", None)
            runners.append(EngineRunner(name, folder, replace(settings, runtime=name)))
            ending.callback(runners[-1].close)
        if against:
            tell(0, 0, "loading llama.cpp", None)
            runners.append(LlamaRunner(against, plan.longest(window), runners[0].threads, plan.most_users))
            ending.callback(runners[-1].close)
        found = [Measured(runner.name, runner.threads, runner.size) for runner in runners]
        vocabulary = min(runner.vocab_size for runner in runners)
        length, answer = _WARM_UP
        for which, runner in enumerate(runners):
            runner.answers([random_prompt(min(length, plan.fitted(window)[0]), vocabulary, which)], answer)
            found[which].memory["loaded"] = runner.memory()

        # 3. Round by round, case by case, in turn.
        cases = list(plan.cases(window))
        work = [(case, which) for case in cases for which, runner in enumerate(runners) if fits(case, runner)]
        total, done = plan.rounds * sum(case.weight(plan.answer) for case, _ in work), 0
        began = time.perf_counter()
        for round in range(plan.rounds):
            for case, which in work:
                left = (time.perf_counter() - began) / done * (total - done) if done else None
                tell(done, total, f"round {round + 1} of {plan.rounds}, {_said(case)}, {runners[which].name}", left)
                seed = (round, int(case.kind == "users"), case.users, case.context)
                found[which].samples.setdefault(case, []).append(sampled(runners[which], case, plan, vocabulary, seed))
                found[which].memory[case.kind] = runners[which].memory()
                done += case.weight(plan.answer)
        tell(total, total, "", None)
    return Results(opened.source, window, plan, tuple(found))


def sampled(runner: Runner, case: Case, plan: Plan, vocabulary: int, seed: tuple[int, ...]) -> Sample:
    """Ask for one case; where it is one answer, for one to a follow-up too."""
    prompts = [random_prompt(case.context, vocabulary, *seed, user) for user in range(case.users)]
    begun = time.perf_counter()
    answers = runner.answers(prompts, plan.answer)
    seconds = time.perf_counter() - begun
    if case.kind == "users":
        return Sample(case, tuple(answers), seconds)
    (prompt,), (answer,) = prompts, answers
    said = [*prompt.tolist(), *answer.token_ids, *random_prompt(FOLLOW_UP, vocabulary, *seed, case.users).tolist()]
    (follow_up,) = runner.answers([np.asarray(said, np.int32)], 1)
    return Sample(case, (answer,), seconds, follow_up)


def fits(case: Case, runner: Runner) -> bool:
    """Whether a runner can be asked for it at all: one that answers in turn would only make users wait."""
    return case.kind == "context" or case.users <= runner.most_users


def check_memory(folder: Path, copies: int, against: Path | None) -> None:
    """All of them are in memory at a time. Raises InvalidRequest where there is too little."""
    needed = copies * weights_size(folder) + (against.stat().st_size if against and against.is_file() else 0)
    if needed > (free := available_memory()):
        raise InvalidRequest(
            f"the weights of all that is measured take {needed >> 20:,} MiB together, and {free >> 20:,} MiB are free: "
            "close other programs, or measure one at a time, by --runtime."
        )


def _said(case: Case) -> str:
    return f"{case.users} at once" if case.kind == "users" else f"{case.context} tokens"
