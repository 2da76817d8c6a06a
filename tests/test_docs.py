"""README and docs/: what they name exists, and what they tell to type is understood."""

import contextlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import file_table, flags_table

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"\b(?:builder|serving|tests|benchmarks|docs)/[\w./-]*\w")
MODULE = re.compile(r"python -m\s((?:builder|serving|tests|benchmarks)[\w.]*)")
PROGRAMS = {"oga-chat": "python app.py", "oga-chat-builder": "python -m builder"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(text: str) -> Iterator[str]:
    """Lines of indented code, those that go on after a backslash joined."""
    joined = text.replace("\\\n", " ")
    yield from (line.strip() for line in joined.splitlines() if line.startswith("    "))


def commands(text: str) -> Iterator[list[str]]:
    """Words of every command of ours, in blocks and in the text; comments and other commands of the line left out."""
    for line in [*blocks(text), *CODE.findall(" ".join(text.split()))]:
        with contextlib.suppress(ValueError):  # an apostrophe: not a command
            words = shlex.split(line, comments=True)
            while "&&" in words:
                yield words[: words.index("&&")]
                words = words[words.index("&&") + 1 :]
            yield words


def anchors(page: Path) -> set[str]:
    """What a link may name of a page, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(text_of(page)) if not re.match(r"\w+:", link)]
    for link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


@each_page
def test_every_file_and_module_that_is_named_exists(page: Path) -> None:
    for name in FILE.findall(text_of(page)):
        assert (ROOT / name).exists(), name
    for module in MODULE.findall(text_of(page)):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


@each_page
def test_every_command_is_understood(page: Path) -> None:
    parsers = flags_table.parsers()
    of_builds = parsers["python -m builder"]._option_string_actions.keys()
    for words in commands(text_of(page)):
        line = " ".join([PROGRAMS.get(words[0], words[0]), *words[1:]]) if words else ""
        program = max((name for name in parsers if f"{line} ".startswith(f"{name} ")), key=len, default=None)
        if program:
            given = line.removeprefix(program).split()
            if given and not {"--help", "--version", "..."} & set(given):
                try:
                    parsers[program].parse_args(given)
                except SystemExit:
                    pytest.fail(f"{line!r} is not understood")
        elif line.startswith("python -m benchmarks."):
            source = text_of(ROOT / f"{words[2].replace('.', '/')}.py")
            takes = of_builds if "add_build_flags" in source or "parse_known_args" in source else {}
            for flag in (word for word in words[3:] if word.startswith("--")):
                assert f'"{flag}"' in source or flag in takes, line


@each_page
def test_every_flag_in_the_text_is_one_of_ours(page: Path) -> None:
    ours = {name for parser in flags_table.parsers().values() for name in parser._option_string_actions}
    for code in CODE.findall(text_of(page)):
        if code.startswith("--"):
            assert re.split(r"[ =]", code)[0] in ours, code


def test_the_table_of_flags_is_the_one_written_from_the_help() -> None:
    assert flags_table.PART.read() == flags_table.table(), f"run {flags_table.PART.command}"


def test_every_flag_is_explained() -> None:
    for program, parser in flags_table.parsers().items():
        for action in parser._actions:
            assert action.help, f"{program}: {action.option_strings}"


def test_the_table_of_files_is_the_one_written_from_their_docstrings() -> None:
    assert file_table.PART.read() == file_table.table(), f"run {file_table.PART.command}"


def test_every_file_says_what_it_is() -> None:
    for top in ("builder", "serving", "benchmarks", "tests"):
        for file in (ROOT / top).rglob("*.py"):
            assert file.name == "__init__.py" or file_table.first_sentence(file), file


def test_the_readme_is_short_and_begins_with_both_commands() -> None:
    readme = text_of(ROOT / "README.md")
    assert len(readme.splitlines()) <= 150
    first = list(blocks(readme.partition("\n![")[0]))
    assert "pip install -e . && python app.py" in first
    assert any(line.startswith('pip install -e ".[test]" && pytest') for line in first)


@each_page
def test_lines_fit(page: Path) -> None:
    for line in text_of(page).splitlines():
        assert len(line) <= 120 or line.startswith("|"), line


def test_the_readme_names_the_torch_that_the_package_asks_for() -> None:
    package = tomllib.loads(text_of(ROOT / "pyproject.toml"))
    [torch] = [needed for needed in package["project"]["dependencies"] if needed.startswith("torch")]
    assert f'pip install "{torch}" --index-url' in text_of(ROOT / "README.md")
