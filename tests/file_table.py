"""A line for each file in docs/development.md, from the files' own docstrings: `python -m tests.file_table`."""

import ast
from pathlib import Path

from tests.marks import Part

PART = Part("development.md", "python -m tests.file_table")
ROOT = Path(__file__).parent.parent


def table() -> str:
    """Markdown: a table for each folder, in which a file is told by the first sentence that it says of itself."""
    parts = [f"`app.py`: {first_sentence(ROOT / 'app.py')}\n"]
    for top in ("builder", "serving", "benchmarks", "tests"):
        for folder in sorted({file.parent for file in (ROOT / top).rglob("*.py")}):
            files = [file for file in sorted(folder.glob("*.py")) if first_sentence(file) and is_told(file)]
            if not files:
                continue
            room = first_sentence(folder / "__init__.py") if (folder / "__init__.py").is_file() else ""
            parts += [
                f"\n### {folder.relative_to(ROOT)}/\n",
                f"\n{room}\n" if room else "",
                "\n| file | |\n|---|---|\n",
            ]
            parts += [f"| `{file.name}` | {first_sentence(file)} |\n" for file in files]
    return "".join(parts)


def is_told(file: Path) -> bool:
    """Tests need no line: they are named as what they test."""
    return file.name != "__init__.py" and not file.name.startswith("test_")


def first_sentence(file: Path) -> str:
    """Of the docstring's first paragraph, as one line; empty where there is none."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    sentence = paragraph.partition(". ")[0].rstrip(".")
    return sentence.replace("|", "\\|")


if __name__ == "__main__":
    PART.write(table())
