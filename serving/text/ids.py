"""Token ids and texts that come from outside: what can be a prompt."""

from collections.abc import Sequence

import numpy as np

from serving.errors import ContextOverflow, InvalidRequest
from serving.types import TokenIds


def checked(token_ids: Sequence[int], vocabulary: int, context_length: int) -> TokenIds:
    """Token ids of a prompt [n].

    Raises InvalidRequest for none, or one that the tokenizer does not have; ContextOverflow where no answer would fit.
    """
    if not token_ids:
        raise InvalidRequest("the prompt is empty: send at least one token.")
    if len(token_ids) >= context_length:
        raise too_long(len(token_ids), context_length)
    check_known(token_ids, vocabulary)
    return np.asarray(token_ids, dtype=np.int32)


def check_known(token_ids: Sequence[int], vocabulary: int) -> None:
    """Raises InvalidRequest for an id that is no token."""
    for token in token_ids:
        if not 0 <= token < vocabulary:
            raise InvalidRequest(f"the prompt names token {token}, but this model's last token is {vocabulary - 1}.")


def check_utf8(text: str) -> None:
    """Raises InvalidRequest for half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"the prompt cannot be written in UTF-8: {error}.") from error


def too_long(size: int, context_length: int) -> ContextOverflow:
    """What is wrong with a prompt of so many tokens."""
    return ContextOverflow(
        f"the prompt has {size:,} tokens and the context window {context_length:,}, of which an answer needs at least "
        "1: shorten the prompt."
    )
