"""Token ids -> text while an answer is being made: whole characters only, and in the end what a whole decode gives.

`tokenizers.DecodeStream` is not used: for a byte that no character can hold it gives no more text (byte-level
decoders), or raises (byte fallback).
"""

import codecs
from collections.abc import Container

from tokenizers import Tokenizer

from serving.text.steps import steps_of


def _byte_alphabet() -> dict[str, int]:
    """The byte that each character of a byte-level token stands for: printable Latin-1 itself, the others from 256."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


ALPHABET = _byte_alphabet()
BYTES = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}


class Detokenizer:
    """Decodes one answer. The bytes of a split character wait for the rest of it.

    skipped: token ids that are no text (the special tokens).
    """

    def __init__(self, tokenizer: Tokenizer, skipped: Container[int]) -> None:
        self._tokenizer, self._skipped = tokenizer, skipped
        kinds = {step["type"] for step in steps_of(tokenizer.decoder)}
        self._byte_level, self._byte_fallback = "ByteLevel" in kinds, "ByteFallback" in kinds
        self._before = tokenizer.encode("a", add_special_tokens=False).ids[-1:]
        self._begun = False
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token_id: int) -> str:
        """The text that this token completes; empty while a character is incomplete."""
        return "" if token_id in self._skipped else self._utf8.decode(self.bytes_of(token_id))

    def bytes_of(self, token_id: int) -> bytes:
        """What the next token spells, which may be a part of a character; nothing where there is no such token."""
        token = self._tokenizer.id_to_token(token_id)
        return b"" if token is None else self._bytes(token_id, token)

    @property
    def whole(self) -> bool:
        """Whether no character waits for the rest of it."""
        return not self._utf8.getstate()[0]

    def flush(self) -> str:
        """What is left when the answer ends: U+FFFD for a character that was never completed."""
        return self._utf8.decode(b"", final=True)

    def _bytes(self, token_id: int, token: str) -> bytes:
        if self._byte_level:
            return bytes(map(ALPHABET.__getitem__, token)) if ALPHABET.keys() >= set(token) else token.encode()
        # A decoder may treat the first token in its own way (it takes the blank off a word), so the others are
        # decoded after one.
        before = self._before if self._begun else []
        self._begun = True
        text = self._decode([*before, token_id])[len(self._decode(before)) :]
        return BYTES[token] if self._byte_fallback and token in BYTES and text else text.encode()

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))


def text_or_bytes(spelled: bytes) -> str | list[int]:
    """What a token spells: a text, or the bytes of a part of a character."""
    try:
        return spelled.decode()
    except UnicodeDecodeError:
        return list(spelled)
