"""The seal of a row: a crc32 over its key and its body, in front of the body. No thread, no lock.

SQLite does not notice a flipped byte in a value. The key is part of the sum, so that a row under a wrong key is found too.
"""

from __future__ import annotations

from zlib import crc32

from minions.errors import StoreDamaged

__all__ = ["seal", "unseal"]

_CRC_BYTES = 4


def seal(key: str, body: bytes) -> bytes:
    """What is stored under the key."""
    return crc32(body, crc32(key.encode())).to_bytes(_CRC_BYTES, "big") + body


def unseal(key: bytes, value: bytes) -> bytes:
    """The body that was sealed under the key (as UTF-8).

    Raises:
        StoreDamaged: key or value is not what was written; the message names the row.
    """
    body = value[_CRC_BYTES:]
    if len(value) < _CRC_BYTES or crc32(body, crc32(key)).to_bytes(_CRC_BYTES, "big") != value[:_CRC_BYTES]:
        raise StoreDamaged(f"row {key.decode(errors='backslashreplace')!r}: its checksum does not match what is stored")
    return body
