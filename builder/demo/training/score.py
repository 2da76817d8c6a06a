"""Score a demo model on held-out questions, by skill: python -m builder.demo.training.score [FOLDER]"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from builder.demo import CHECKPOINT, Conversation
from builder.demo.training import styles
from builder.demo.training.card import add_scores
from builder.demo.training.corpus import SKILLS, brief, messages, short_answered, skilled
from builder.demo.training.draw import Draw
from builder.demo.training.followups import followup, quote
from builder.demo.training.memory import Notebook
from builder.demo.training.turns import Check, Turn

_LONGEST_ANSWER = 200

Answer = Callable[[list[dict[str, str]]], str]


@dataclass(frozen=True)
class Question:
    """A chat that ends with a user's message, the skill it tests and the check of the answer."""

    skill: str
    messages: Conversation
    check: Check
    reference: str


@dataclass(frozen=True)
class Row:
    """How many questions of a skill were answered right."""

    skill: str
    right: int
    asked: int

    @property
    def share(self) -> float:
        """Share of right answers, from 0 to 1."""
        return self.right / self.asked


def questions(seed: int, count: int) -> list[Question]:
    """`count` held-out questions, the skills in turn; the same seed gives the same questions."""
    rng = random.Random(f"questions/{seed}")
    makers: list[tuple[str, Callable[[Draw], Question]]] = [(skill, _plain(skill)) for skill in SKILLS]
    makers += [
        ("memory", _memory),
        ("recall over 6 turns", _far_recall),
        ("not told", _missing),
        ("system prompt", _system),
        ("follow up", _followup),
    ]
    return [make(Draw("heldout", rng)) for make in (makers[i % len(makers)][1] for i in range(count))]


def tabulate(answers: Sequence[str], asked: Sequence[Question]) -> list[Row]:
    """Rows by skill in the order of the questions, and a last row "all"."""
    rows: dict[str, list[bool]] = {}
    for answer, question in zip(answers, asked, strict=True):
        rows.setdefault(question.skill, []).append(question.check.accepts(answer))
    every = [right for rights in rows.values() for right in rights]
    return [Row(skill, sum(rights), len(rights)) for skill, rights in [*rows.items(), ("all", every)]]


def score(answer: Answer, asked: Sequence[Question]) -> list[Row]:
    """Ask every question of `answer` and tabulate."""
    return tabulate([answer(question.messages) for question in asked], asked)


def as_text(rows: Sequence[Row]) -> str:
    """The table as Markdown."""
    lines = ["| skill | right | asked | share |", "|---|---|---|---|"]
    return "\n".join(lines + [f"| {r.skill} | {r.right} | {r.asked} | {r.share:.1%} |" for r in rows])


def _question(skill: str, turns: list[Turn], system: str = "") -> Question:
    return Question(skill, messages(turns, system)[:-1], turns[-1].check, turns[-1].reply)


def _plain(skill: str) -> Callable[[Draw], Question]:
    def make(draw: Draw) -> Question:
        before = [skilled(draw)] if draw.chance(0.3) else []
        return _question(skill, [*before, SKILLS[skill](draw)])

    return make


def _memory(draw: Draw) -> Question:
    notebook = Notebook(draw)
    turns = [notebook.state() for _ in range(draw.rng.randint(1, 3))]
    return _question("memory", [*turns, notebook.recall()])


def _far_recall(draw: Draw) -> Question:
    stated, asked = Notebook(draw).first_and_recall()
    return _question("recall over 6 turns", [stated, *(skilled(draw) for _ in range(6)), asked])


def _missing(draw: Draw) -> Question:
    notebook = Notebook(draw)
    before = [notebook.state()] if draw.chance(0.5) else []
    return _question("not told", [*before, notebook.missing()])


def _followup(draw: Draw) -> Question:
    turns = followup(draw)
    quoted = quote(draw, turns[-1]) if draw.chance(0.2) else None
    return _question("follow up", [*turns, quoted] if quoted else turns)


def _system(draw: Draw) -> Question:
    style = styles.style(draw)
    if style.own:
        turn = draw.any(style.own)
    else:
        turn = style.restyle(short_answered(draw) if style.needs_short else brief(draw))
    return _question("system prompt", [turn], style.system)


def answers_of_original(folder: Path, asked: Sequence[Question], batch: int = 64) -> list[str]:
    """Greedy answers of a Hugging Face folder, float32, in batches."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device).eval()
    prompts = [tokenizer.apply_chat_template(q.messages, add_generation_prompt=True, tokenize=False) for q in asked]
    answers = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        inputs = tokenizer(
            [prompts[i] for i in chosen], return_tensors="pt", padding=True, add_special_tokens=False
        ).to(device)
        with torch.inference_mode():
            output = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=_LONGEST_ANSWER,
                do_sample=False,
                temperature=None,
                top_p=None,
            )
        for i, ids in zip(chosen, output[:, inputs["input_ids"].shape[1] :], strict=True):
            answers[i] = tokenizer.decode(ids, skip_special_tokens=True)
    return answers


def answers_of_export(folder: Path, asked: Sequence[Question]) -> list[str]:
    """Greedy answers of an exported model folder, through the serving engine."""
    from serving.engine.engine import Engine
    from serving.types import Message, Role, SamplingOptions

    options = SamplingOptions(temperature=0.0, max_tokens=_LONGEST_ANSWER)
    answers: list[str] = []
    with Engine.load(folder) as engine:
        for question in asked:
            chat = [Message(cast(Role, m["role"]), m["content"]) for m in question.messages]
            answers.append("".join(chunk.text for chunk in engine.generate(chat, options)))
    return answers


def main() -> None:
    """Parse the flags, ask, print the table and, if wanted, the wrong answers."""
    parser = argparse.ArgumentParser(
        prog="python -m builder.demo.training.score", description="Score a demo model by skill."
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=CHECKPOINT, help="Hugging Face folder or exported folder"
    )
    parser.add_argument("--count", type=int, default=960)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--wrong", type=int, default=0, help="also print up to this many wrong answers of each skill")
    parser.add_argument("--card", action="store_true", help="write the table into the folder's MODEL_CARD.md")
    flags = parser.parse_args()
    asked = questions(flags.seed, flags.count)
    exported = (flags.folder / "genai_config.json").exists()
    answers = answers_of_export(flags.folder, asked) if exported else answers_of_original(flags.folder, asked)
    table = as_text(tabulate(answers, asked))
    shown: dict[str, int] = {}
    for answer, question in zip(answers, asked, strict=True):
        if not question.check.accepts(answer) and shown.setdefault(question.skill, 0) < flags.wrong:
            shown[question.skill] += 1
            system = [f"({m['content']}) " for m in question.messages if m["role"] == "system"]
            print(f"[{question.skill}] {''.join(system)}{question.messages[-1]['content']}")
            print(f"    said   {answer!r}\n    wanted {question.reference!r}")
    print(table)
    if flags.card:
        add_scores(flags.folder, table)


if __name__ == "__main__":
    main()
