"""Query cursors: opaque to clients, positions to this server.

A cursor holds the sort values and the key of the result that precedes it, whether or not that
entity still exists. It carries a checksum of what it belongs to (partition, kind, sort properties)
and one of itself. So a cursor that was truncated or altered, or that comes from another kind or
order, is refused instead of being read as a wrong position. As documented, a cursor also works on
the same query with all orders reversed. It is then the position before the result at which it was
made.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from bulkup.local.messages import varint
from bulkup.local.status import invalid

_MAGIC = b"b1"
_START = 0
_AFTER = 1
_BAD = "The cursor is not one of this server's, or is damaged."


@dataclass(frozen=True)
class Position:
    """The position after the result with these sort values, the last of which is its path. Without
    values, the position before all results."""

    values: tuple[bytes, ...]
    inclusive: bool = False
    """Whether the position is before that result instead."""


class CursorCodec:
    """Cursors of one query. `signature` identifies what the query reads, `directions` its order
    (each sort column, then the key; True for descending)."""

    def __init__(self, signature: bytes, directions: tuple[bool, ...]) -> None:
        self._directions = bytes(directions)
        check = zlib.crc32(signature).to_bytes(4, "big")
        self._check = check
        self._head = _MAGIC + check + bytes((len(directions),)) + self._directions

    def start(self) -> bytes:
        return self._seal(self._head + bytes((_START,)))

    def encode(self, values: tuple[bytes, ...]) -> bytes:
        out = self._head + bytes((_AFTER,))
        for value in values:
            out += varint(len(value)) + value
        return self._seal(out)

    @staticmethod
    def _seal(raw: bytes) -> bytes:
        return raw + zlib.crc32(raw).to_bytes(4, "big")

    def decode(self, raw: bytes) -> Position:
        """Raises INVALID_ARGUMENT for anything but a cursor of this query."""
        body, seal = raw[:-4], raw[-4:]
        if raw[:2] != _MAGIC or zlib.crc32(body).to_bytes(4, "big") != seal:
            raise invalid(_BAD)
        count = body[6]
        directions = body[7 : 7 + count]
        flipped = bytes(not one for one in self._directions)
        if body[2:6] != self._check or directions not in (self._directions, flipped):
            raise invalid(
                "The cursor belongs to another query: a cursor can only continue a query with the "
                "same kind and orders as the one it came from."
            )
        reverse = directions != self._directions
        at = 7 + count
        if body[at] == _START:
            return Position(())
        values = []
        at += 1
        while at < len(body):
            size = shift = 0
            while True:
                byte = body[at]
                size |= (byte & 0x7F) << shift
                shift += 7
                at += 1
                if byte < 0x80:
                    break
            values.append(body[at : at + size])
            at += size
        return Position(tuple(values), inclusive=reverse)
