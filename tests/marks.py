"""The parts of docs/ that a command writes, between two marks; a test holds each against what it is written from."""

from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
_END = "<!-- end -->"


@dataclass(frozen=True)
class Part:
    """A part of a file of docs/, and the command that writes it."""

    name: str
    command: str

    @property
    def file(self) -> Path:
        """Where it stands."""
        return DOCS / self.name

    @property
    def _begin(self) -> str:
        return f"<!-- written by `{self.command}` -->\n"

    def read(self) -> str:
        """What stands between the marks."""
        return self.file.read_text(encoding="utf-8").partition(self._begin)[2].partition(_END)[0]

    def write(self, text: str) -> None:
        """Put `text` between the marks, and leave the rest as it is."""
        before, begin, rest = self.file.read_text(encoding="utf-8").partition(self._begin)
        if not begin:
            raise SystemExit(f"{self.file} has no line {self._begin.strip()}")
        self.file.write_text(before + begin + text + _END + rest.partition(_END)[2], encoding="utf-8")
