"""What names a conversation, on every one of its turns: a client sends all of it each time, and no name for it.

Whoever has several engines gives all turns to the same one, which has the earlier ones in its KV cache.
"""

import json
from collections.abc import Sequence
from hashlib import sha256

from serving.types import Message, TokenIds

_FIRST_TOKENS = 64  # of a text that may grow, and has no messages
_FIRST_CHARACTERS = 4096  # of a message: to hash megabytes would hold up everybody else


def session_of(messages: Sequence[Message]) -> str:
    """A conversation's name: a hash of what it begins with, up to the first thing that its user said.

    Later turns, an answer made anew and an edited later question change nothing of it.
    """
    first = next((i for i, message in enumerate(messages) if message.role == "user"), len(messages))
    return _hash([[message.role, message.content[:_FIRST_CHARACTERS]] for message in messages[: first + 1]])


def session_of_text(token_ids: TokenIds) -> str:
    """The name of a text [n] that may come again, longer: a hash of its first tokens."""
    return _hash(token_ids[:_FIRST_TOKENS].tolist())


def _hash(beginning: object) -> str:
    return sha256(json.dumps(beginning).encode()).hexdigest()
