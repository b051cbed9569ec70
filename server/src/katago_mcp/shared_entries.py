"""What is in the shared cache: signed answers, and the number of their generation. Pure.

An entry counts only if this fleet wrote it for this very key and generation: its name and its HMAC-SHA256 are
computed with a key derived from the key that signs session ids.
"""

import hashlib
import hmac
from dataclasses import dataclass

LARGEST = 1_048_576
"""Maximum bytes of an answer in the shared cache."""

_PREFIX = "katago-mcp:"
_CONTEXT = b"katago-mcp shared cache, version 2"
_NUMBER_BYTES, _TAG_BYTES = 8, 32
_HEAD = _NUMBER_BYTES + _TAG_BYTES

ENTRY_BYTES = _HEAD + LARGEST
"""Maximum bytes of an entry."""

GENERATION_BYTES = _HEAD
"""Bytes of the entry with the generation."""


@dataclass(frozen=True)
class Shared:
    """An answer as JSON text, and when it was stored, in microseconds since 1970 by the clock of its host."""

    value: bytes
    created: int


class Signer:
    """Names, signs and verifies the entries of the fleet that has a session key."""

    def __init__(self, session_key: bytes) -> None:
        self._key = hmac.digest(session_key, _CONTEXT, hashlib.sha256)

    @property
    def generation_name(self) -> str:
        """The name of the entry with the generation."""
        return f"{_PREFIX}generation:{self._tag(b'name of the generation')[:8].hex()}"

    def name(self, key: str, generation: int) -> str:
        """The name of an answer. Fleets with different keys do not meet, and the name tells nothing."""
        return f"{_PREFIX}answer:{self._tag(b'name', key.encode(), _encoded(generation)).hex()}"

    def sealed(self, key: str, generation: int, shared: Shared) -> bytes:
        """The entry of an answer."""
        head = _encoded(shared.created)
        return head + self._answer_tag(key, generation, head, shared.value) + shared.value

    def opened(self, key: str, generation: int, content: bytes) -> Shared | None:
        """The answer in an entry; None if this fleet did not write it for this key and generation."""
        head, tag, value = content[:_NUMBER_BYTES], content[_NUMBER_BYTES:_HEAD], content[_HEAD:]
        if not hmac.compare_digest(tag, self._answer_tag(key, generation, head, value)):
            return None
        return Shared(value, _decoded(head))

    def sealed_generation(self, generation: int) -> bytes:
        """The entry with the generation."""
        number = _encoded(generation)
        return number + self._tag(b"generation", number)

    def opened_generation(self, content: bytes) -> int | None:
        """The generation in an entry; None if this fleet did not write it."""
        number, tag = content[:_NUMBER_BYTES], content[_NUMBER_BYTES:]
        return _decoded(number) if hmac.compare_digest(tag, self._tag(b"generation", number)) else None

    def _answer_tag(self, key: str, generation: int, head: bytes, value: bytes) -> bytes:
        return self._tag(b"answer", key.encode(), _encoded(generation), head, value)

    def _tag(self, *parts: bytes) -> bytes:
        message = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
        return hmac.digest(self._key, message, hashlib.sha256)


def _encoded(number: int) -> bytes:
    return number.to_bytes(_NUMBER_BYTES, "big")


def _decoded(content: bytes) -> int:
    return int.from_bytes(content, "big")
