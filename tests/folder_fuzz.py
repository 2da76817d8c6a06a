"""Model folders as strangers may make them: each is refused with an error of ours, or served.

python -m tests.folder_fuzz FOLDER --count 2000          # opens them in this process
python -m tests.folder_fuzz FOLDER --count 100 --serve   # a real engine process answers a question from each
"""

import argparse
import copy
import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from serving.engine.process import EngineProcess
from serving.errors import ServingError
from serving.folder import ModelFolder
from serving.text.prompt import Prompt
from serving.types import Message, SamplingOptions

JSON_FILES = ("genai_config.json", "tokenizer_config.json", "generation_config.json", "manifest.json", "tokenizer.json")
TEMPLATE = "chat_template.jinja"
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**70, 1e308, -0.5, "", "x", "%s%n", "../x", "/dev/zero", "\ud800",
    "\0", "y" * 100_000, [], [[]], {}, {"a": {}}, [None], ["x", 1], {"content": 1}, {"type": "Sequence"},
)  # fmt: skip
TEMPLATES = (
    "", "{{", "{% for m in messages %}", "{{ messages[99].content }}", "{{ ''.__class__.__mro__ }}", "{{ 1 / 0 }}",
    "{{ raise_exception('no') }}", "{% include '/etc/passwd' %}", "{{ self }}", "{{ messages }}", "{{ x.y.z }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "{{ 'a' * 100000000 }}", "{{ '%s' % range(10) }}", "\0",
)  # fmt: skip


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in JSON content; of a long list, the first few."""
    if path:
        yield path
    parts = (
        content.items() if isinstance(content, dict) else enumerate(content[:5]) if isinstance(content, list) else ()
    )
    for step, part in list(parts)[:60]:
        yield from places(part, (*path, step))


def mutated(content: Any, random: random.Random) -> Any:
    """The content with one value replaced, left out, or put where there was none."""
    content = copy.deepcopy(content)
    *parents, last = random.choice([*places(content)] or [("added",)])
    inner = content
    for step in parents:
        inner = inner[step]
    match random.randrange(4):
        case 0:
            inner.pop(last, None) if isinstance(inner, dict) else inner.pop(last)
        case 1 if isinstance(inner, dict):
            inner[random.choice(("added", "custom_ops_library", "filename", "eos_token_id"))] = random.choice(VALUES)
        case _:
            inner[last] = random.choice(VALUES)
    return content


def spoil(folder: Path, random: random.Random) -> str:
    """Change one file of a folder; says which and how."""
    if random.random() < 0.1:
        template = random.choice(TEMPLATES)
        (folder / TEMPLATE).write_text(template, encoding="utf-8")
        return f"{TEMPLATE}: {template!r}"
    name = random.choice(JSON_FILES)
    text = (folder / name).read_text(encoding="utf-8")
    if random.random() < 0.1:
        text = text[: random.randrange(len(text))]
    else:
        text = json.dumps(mutated(json.loads(text), random))
    (folder / name).write_text(text, encoding="utf-8", errors="surrogatepass")
    return f"{name}: {len(text)} characters"


def outcome(folder: Path, serve: bool) -> str:
    """What comes of a folder: "served", or the name of the error that refuses it. Anything else is raised."""
    options = SamplingOptions(temperature=0.0, max_tokens=4)
    try:
        if not serve:
            ModelFolder.open(folder)
            prompt = Prompt.load(folder)
            prompt.detokenizer()
            prompt.splitter(prompt.encode("hi"))
            return "served" if prompt.calls is None else "served, with calls"
        with EngineProcess.load(folder) as engine:
            list(engine.generate([Message("user", "hi")], options))
        return "served"
    except ServingError as error:
        return type(error).__name__


def fuzz(model: Path, count: int, seed: int, serve: bool = False) -> Counter[str]:
    """Outcomes of `count` folders, each with one change. Raises what is not an error of ours, naming the change."""
    generator, outcomes = random.Random(seed), Counter[str]()
    texts = {name: (model / name).read_bytes() for name in (*JSON_FILES, TEMPLATE)}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(model, Path(scratch) / "model"))
        for number in range(count):
            for name, content in texts.items():
                (folder / name).write_bytes(content)
            if serve or number % 2:
                (folder / "manifest.json").write_text("{}")  # its sizes would refuse every other change
            change = spoil(folder, generator)
            try:
                outcomes[outcome(folder, serve)] += 1
            except BaseException as error:  # libraries written in Rust panic with what is no Exception
                raise AssertionError(f"change {number} of seed {seed} ({change}) is not refused: {error!r}") from error
    return outcomes


def main() -> None:
    """Fuzz by hand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--serve", action="store_true")
    flags = parser.parse_args()
    for name, times in fuzz(flags.folder, flags.count, flags.seed, flags.serve).most_common():
        print(f"{times:7} {name}")


if __name__ == "__main__":
    main()
