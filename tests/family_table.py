"""The table in docs/models.md, from the families and a run of the chain: `python -m tests.family_table`."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from builder.checkpoint.families import FAMILIES
from tests.family_chain import CASES, Measured, run
from tests.marks import Part

PART = Part("models.md", "python -m tests.family_table")
_FIGURES = re.compile(r"^\| `(\w+)` \|.*\| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)

Figures = Mapping[str, tuple[str, str]]


def table(figures: Figures) -> str:
    """Markdown. figures: of each model_type, the largest difference and the agreement as they are printed."""
    rows = ["| `model_type` | for example | limits | level 1 | level 4 |", "|---|---|---|---|---|"]
    for model_type, family in FAMILIES.items():
        exact, served = figures[model_type]
        rows.append(f"| `{model_type}` | {family.examples} | {family.limits} | {exact} | {served} |")
    return "\n".join(rows) + "\n"


def figures_of(found: Mapping[str, Measured]) -> Figures:
    """The worst of each family's cases."""
    figures = {}
    for model_type in FAMILIES:
        names = [name for name, case in CASES.items() if case.model_type == model_type]
        exact = max(found[f"{name}: exact"].max_difference for name in names)
        served = min(found[f"{name}: served"].top1_agreement for name in names)
        figures[model_type] = (f"{exact:.0e}", f"{served:.0%}")
    return figures


def figures_in(written: str) -> Figures:
    """The figures in a table."""
    return {model_type: (exact, served) for model_type, exact, served in _FIGURES.findall(written)}


def main() -> None:
    with tempfile.TemporaryDirectory() as work:
        found = run(Path(work))
    for name, measured in found.items():
        print(f"{name:34} {measured.max_difference:8.1e} {measured.top1_agreement:7.1%}  std {measured.std:.2f}")
    PART.write(table(figures_of(found)))


if __name__ == "__main__":
    main()
