"""Under which licence a model may be given on: that of its source, as the source says it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.checkpoint.hub import download
from builder.demo import CHECKPOINT
from builder.errors import BuildError, SourceError

# What licences ask to be passed on with the weights: their text, notices, rules of use.
TEXTS = ("LICEN[CS]E*", "NOTICE*", "USE_POLICY*")
_CARD = "README.md"


@dataclass(frozen=True, slots=True)
class Licence:
    """identifier: the Hub's, such as apache-2.0, or other; name and link: of one that has no identifier.

    texts: files of the source that go with the weights. note: what could not be had; "" for nothing.
    """

    identifier: str
    name: str = ""
    link: str = ""
    texts: tuple[Path, ...] = ()
    note: str = ""


def licence_of(source: Mapping[str, Any], given: str | None) -> Licence:
    """The licence of a manifest's source.

    given: what the user says that it is, where the source does not. Raises BuildError where neither says anything, or
    they disagree.
    """
    folder, note = None, ""
    try:
        folder = _folder(source)
    except SourceError as error:
        if not given:
            raise
        note = f"the licence of the source could not be asked for ({error})"
    said = _said(folder / _CARD) if folder else {}
    identifier = said.get("license")
    if isinstance(identifier, list):  # of several, as some cards have it
        identifier = identifier[0] if len(identifier) == 1 else None
    if identifier and given and identifier != given:
        raise BuildError(f"--license {given} is not what {source['name']} says: its licence is {identifier}.")
    if not identifier and not given:
        raise BuildError(
            f"{source['name']} does not say under which licence it is: find out, and name it with --license, such as "
            "apache-2.0, or other."
        )
    texts = sorted(file for pattern in TEXTS for file in folder.glob(pattern) if file.is_file()) if folder else []
    named = {name: str(said.get(f"license_{name}") or "") for name in ("name", "link")}
    return Licence(str(identifier or given), **named, texts=tuple(texts), note=note)


def _folder(source: Mapping[str, Any]) -> Path | None:
    """Where the source's card and licence lie; None for a folder that is gone. Raises SourceError."""
    if source["kind"] == "hub":
        return download(source["name"], "model", source["revision"], (_CARD, *TEXTS), ("*/*",))
    folder = CHECKPOINT if source["kind"] == "demo" else Path(source["name"])
    return folder if folder.is_dir() else None


def _said(card: Path) -> dict[str, Any]:
    """The metadata at the top of a model card; nothing where there is none."""
    from huggingface_hub import metadata_load

    if card.parent == CHECKPOINT:
        return {"license": "mit"}
    try:
        said = metadata_load(card) if card.is_file() else None
    except Exception:  # YAML of any kind: a card is written by hand
        return {}
    return said if isinstance(said, dict) else {}
