"""Text and JSON files of a checkpoint folder, or a SourceError that names the file and its fault."""

import json
from pathlib import Path
from typing import Any

from builder.errors import SourceError


def read_text(file: Path) -> str:
    """A file's text. Raises SourceError."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{file} cannot be read: {error}.") from error


def read_object(file: Path) -> dict[str, Any]:
    """A file's JSON object. Raises SourceError."""
    try:
        content = json.loads(read_text(file))
    except ValueError as error:
        raise SourceError(f"{file} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise SourceError(f"{file} does not hold a JSON object.")
    return content
