"""The tables of flags in docs/flags.md, from the programs' own help: `python -m tests.flags_table`."""

import argparse
import textwrap

import app
from builder.commands import build_parser, export_parser, measure_parser, publish_parser, quantize_parser
from builder.kept.artifact import default_models_dir
from tests.marks import Part

PART = Part("flags.md", "python -m tests.flags_table")
TITLE = {"options": "in general", "positional arguments": "what it is about"}


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Every program that takes flags, by how it is called."""
    return {
        "python app.py": app.parser(),
        "python app.py bench": app.bench_parser(),
        "python -m builder": build_parser(),
        "python -m builder quantize": quantize_parser(),
        "python -m builder export": export_parser(),
        "python -m builder measure": measure_parser(),
        "python -m builder publish": publish_parser(),
    }


def table() -> str:
    """Markdown: a section for each program, a table for each group of its flags; what was told before is only named."""
    parts: list[str] = []
    told: set[tuple[str, str]] = set()
    for program, parser in parsers().items():
        parts.append(f"## {program}\n\n")
        again: list[str] = []
        for group in parser._action_groups:  # argparse has no public way to them
            rows = [(flag(action), meaning(action)) for action in group._group_actions if action.dest != "help"]
            again += [name for name, what in rows if (name, what) in told]
            new = [row for row in rows if row not in told]
            told.update(new)
            if new:
                title = TITLE.get(group.title or "", group.title)
                parts += [f"### {title}\n\n| flag | |\n|---|---|\n", *(f"| {a} | {b} |\n" for a, b in new), "\n"]
        if again:
            names = ", ".join(name.split(" ")[0].rstrip(",") for name in again)
            parts.append(textwrap.fill(f"And as above: {names}.", 120, break_on_hyphens=False) + "\n\n")
    return "".join(parts)


def flag(action: argparse.Action) -> str:
    """How it is written, with its value."""
    names = ", ".join(f"`{name}`" for name in action.option_strings)
    if not names:
        return action.dest.upper()
    if action.nargs == 0:
        return names
    value = "\\|".join(map(str, action.choices)) if action.choices else action.metavar or action.dest.upper()
    return f"{names} {value}"


def meaning(action: argparse.Action) -> str:
    """Its help, with the default where that does not name it; a default of this machine is told in words."""
    told = (action.help or "").replace(str(default_models_dir()), "the user's data folder").replace("|", "\\|")
    plain = action.nargs == 0 or action.default in (None, "", argparse.SUPPRESS) or "default" in told
    return told if plain else f"{told} (default: {action.default})".strip()


if __name__ == "__main__":
    PART.write(table())
