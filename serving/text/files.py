"""What the files of a model folder say of its tokenizer."""

from pathlib import Path

from tokenizers import Tokenizer

from serving.errors import ModelFolderError
from serving.folder import read_json


def load_tokenizer(path: Path) -> Tokenizer:
    """tokenizer.json, without what it says of length. Raises ModelFolderError."""
    if not path.is_file():
        raise ModelFolderError(f"{path} is missing: a fast tokenizer (tokenizer.json) is needed to serve a model.")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception for any fault of the file
        raise ModelFolderError(f"{path} cannot be read ({error}); build the model again with --rebuild.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def declared_end_ids(folder: Path, tokenizer: Tokenizer, special_tokens: dict[str, str]) -> set[int]:
    """What ends a turn: the union of what three configuration files name, each of which is wrong for some model.

    Raises ModelFolderError.
    """
    ids: set[int] = set()
    generation = folder / "generation_config.json"
    sources = [read_json(generation)] if generation.is_file() else []
    sources.append(read_json(folder / "genai_config.json")["model"])
    for source in sources:
        declared = source.get("eos_token_id")
        ids.update(declared if isinstance(declared, list) else [declared] if declared is not None else [])
    eos = tokenizer.token_to_id(special_tokens["eos_token"]) if "eos_token" in special_tokens else None
    if any(type(id) is not int for id in ids):
        raise ModelFolderError(f"{folder} names tokens that end an answer by something else than their ids: {ids!r}.")
    return ids | ({eos} if eos is not None else set())
