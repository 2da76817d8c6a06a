"""What a skill produces: one question with its answer, and the check that tells right answers from wrong ones."""

import ast
import json
import re
from dataclasses import dataclass
from typing import Literal

Form = Literal["free", "capitals", "lower case", "one word", "json", "python", "story", "poem"]


@dataclass(frozen=True)
class Check:
    """What a right answer must show. Parts left empty are not looked at.

    `contains`: every one must occur; `any_of`: at least one must; `excludes`: none may. All three compare whole
    words and ignore case (except where `exact_case` is set). `ends` and `starts` look at the first and last word.
    `form` is the shape of the whole answer; for "python", `any_of` holds acceptable programs, compared as syntax trees.
    """

    contains: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    starts: str = ""
    ends: str = ""
    form: Form = "free"
    exact_case: bool = False

    def accepts(self, answer: str) -> bool:
        """True if `answer` (the assistant's text, without special tokens) is right."""
        if not answer.strip() or not _has_form(answer, self.form):
            return False
        if self.form == "python":
            return any(_tree(answer) == _tree(program) for program in self.any_of)
        has = [_occurs(part, answer, self.exact_case) for part in self.contains]
        alternatives = [_occurs(part, answer, self.exact_case) for part in self.any_of]
        forbidden = [_occurs(part, answer, self.exact_case) for part in self.excludes]
        words = re.findall(r"[\w']+", answer.lower())
        return (
            all(has)
            and (any(alternatives) or not alternatives)
            and not any(forbidden)
            and (not self.starts or words[:1] == [self.starts.lower()])
            and (not self.ends or words[-1:] == [self.ends.lower()])
        )


@dataclass(frozen=True)
class Turn:
    """One exchange: what the user says, what the assistant should say, and how to check an answer.

    `short` is the bare answer ("Paris") where there is one: system prompts that ask for one word or for JSON use it.
    """

    user: str
    reply: str
    check: Check
    short: str = ""


def fact(user: str, reply: str, short: str, *also: str) -> Turn:
    """A turn whose answer must contain `short`, or one of `also`."""
    check = Check(any_of=(short, *also)) if also else Check(contains=(short,))
    return Turn(user, reply, check, short)


def _occurs(part: str, answer: str, exact_case: bool) -> bool:
    flags = 0 if exact_case else re.IGNORECASE
    # Look-arounds instead of \b: a part may itself begin or end with a sign, as in "-18" or "n-r-e-t".
    return re.search(rf"(?<![\w-]){re.escape(part)}(?![\w]|-\w)", answer, flags) is not None


def _has_form(answer: str, form: Form) -> bool:
    text = answer.strip()
    match form:
        case "capitals":
            return text == text.upper()
        case "lower case":
            return text == text.lower()
        case "one word":
            return len(text.split()) == 1
        case "json":
            return _is_answer_object(text)
        case "python":
            return _tree(text) is not None
        case "story":
            return _is_prose(text, sentences=4)
        case "poem":
            return len(text.splitlines()) >= 4 and _is_prose(text.replace("\n", " "), sentences=0)
    return True


def _is_answer_object(text: str) -> bool:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return False
    return isinstance(value, dict) and list(value) == ["answer"]


def _is_prose(text: str, sentences: int) -> bool:
    """Enough sentences, an end, and no sentence said twice (a model stuck in a loop repeats itself)."""
    parts = [part.strip() for part in re.split(r"[.!?]+", text) if part.strip()]
    return len(parts) >= sentences and len(set(parts)) == len(parts) and text[-1] in '.!?"'


def _tree(text: str) -> str | None:
    """The syntax tree of the first fenced block (or of the whole text) as a string; None if it does not parse."""
    block = re.search(r"```(?:python)?\n(.*?)```", text, re.DOTALL)
    try:
        return ast.dump(ast.parse(block[1] if block else text))
    except (SyntaxError, ValueError):
        return None
