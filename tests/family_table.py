"""The tables in docs/models.md, from the families and a run of the chain: `python -m tests.family_table`.

`--keep` leaves the figures as they are, and runs nothing.
"""

import argparse
import re
import tempfile
import textwrap
from collections.abc import Mapping
from pathlib import Path

from builder.checkpoint.families import FAMILIES
from builder.checkpoint.text_part import WHOLES
from tests.family_cases import CASES, WHOLE_MODELS
from tests.family_chain import Measured, run
from tests.family_said import FAMILIES_SAID
from tests.marks import Part
from tests.published import MODELS

PART = Part("models.md", "python -m tests.family_table")
_FIGURES = re.compile(r"^\| `(\w+)` \|.*\| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)

Figures = Mapping[str, tuple[str, str]]


def table(figures: Figures) -> str:
    """Markdown. figures: of each model_type, the largest difference and the agreement as they are printed."""
    rows = [
        "| `model_type` | for example | tools | reasoning | longest window | limits | level 1 | level 4 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model_type, family in FAMILIES.items():
        said, (exact, served) = FAMILIES_SAID[model_type], figures[model_type]
        facts = f"{family.examples} | {said.tools()} | {said.thoughts()} | {said.window:,} | {family.limits}"
        rows.append(f"| `{model_type}` | {facts} | {exact} | {served} |")
    rows += [
        "",
        "Of models that take more than text, the text part:",
        "",
        "| `model_type` | for example | not supported | text layers, in the test | level 1 | the whole model |",
        "|---|---|---|---|---|---|",
    ]
    for model_type, whole in WHOLES.items():
        case, _ = WHOLE_MODELS[model_type]
        exact, same = figures[model_type]
        facts = f"{whole.examples} | {whole.takes} | `{case.model_type}`"
        rows.append(f"| `{model_type}` | {facts} | {exact} | {same} |")
    said = f"Tokenizers and chat templates went through their proof as these publish them: {', '.join(MODELS)}."
    rows += ["", *textwrap.wrap(said, 120)]
    return "\n".join(rows) + "\n"


def figures_of(found: Mapping[str, Measured]) -> Figures:
    """The worst of each family's cases; of a text part, how far it and the whole model are apart too."""
    figures = {}
    for model_type in FAMILIES:
        names = [name for name, case in CASES.items() if case.model_type == model_type]
        exact = max(found[f"{name}: exact"].max_difference for name in names)
        served = min(found[f"{name}: served"].top1_agreement for name in names)
        figures[model_type] = (f"{exact:.0e}", f"{served:.0%}")
    for model_type in WHOLES:
        exact, same = (found[f"{model_type}: {what}"].max_difference for what in ("exact", "whole"))
        figures[model_type] = (f"{exact:.0e}", f"{same:.0e}")
    return figures


def figures_in(written: str) -> Figures:
    """The figures in a table."""
    return {model_type: (exact, served) for model_type, exact, served in _FIGURES.findall(written)}


def main() -> None:
    """Write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true")
    if parser.parse_args().keep:
        PART.write(table(figures_in(PART.read())))
        return
    with tempfile.TemporaryDirectory() as work:
        found = run(Path(work))
    for name, measured in found.items():
        print(f"{name:34} {measured.max_difference:8.1e} {measured.top1_agreement:7.1%}  std {measured.std:.2f}")
    PART.write(table(figures_of(found)))


if __name__ == "__main__":
    main()
