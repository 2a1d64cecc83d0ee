"""HTTP/2 frames (RFC 9113) as bytes, and the few header blocks that an answer needs."""

from __future__ import annotations

import struct
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6

MAX_WINDOW = (1 << 31) - 1
DEFAULT_WINDOW = 65_535
DEFAULT_FRAME_BYTES = 16_384
MOST_FRAME_BYTES = (1 << 24) - 1


class Code(IntEnum):
    """Why a connection or a stream ends."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    COMPRESSION_ERROR = 0x9
    ENHANCE_YOUR_CALM = 0xB


class Broken(Exception):
    """The peer does not keep to the protocol: its connection ends with this code."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


_HEAD = struct.Struct(">BHBBL")


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return _HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def data_head(size: int, flags: int, stream: int) -> bytes:
    """What stands before the payload of a DATA frame."""
    return _HEAD.pack(size >> 16, size & 0xFFFF, DATA, flags, stream)


def read_head(head: bytes) -> tuple[int, int, int, int]:
    """Length of the payload, kind, flags and stream of a frame."""
    high, low, kind, flags, stream = _HEAD.unpack(head)
    return high << 16 | low, kind, flags, stream & MAX_WINDOW


def settings(values: dict[int, int]) -> bytes:
    payload = b"".join(struct.pack(">HL", name, value) for name, value in values.items())
    return frame(SETTINGS, 0, 0, payload)


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    if len(payload) % 6:
        raise Broken(Code.FRAME_SIZE_ERROR, "settings of an odd length")
    return list(struct.iter_unpack(">HL", payload))


def read_number(payload: bytes) -> int:
    """The 31 bits of a WINDOW_UPDATE."""
    if len(payload) != 4:
        raise Broken(Code.FRAME_SIZE_ERROR, "a window update of an odd length")
    return int.from_bytes(payload, "big") & MAX_WINDOW


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def reset(stream: int, code: Code) -> bytes:
    return frame(RST_STREAM, 0, stream, int(code).to_bytes(4, "big"))


def goaway(last: int, code: Code, message: str = "") -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack(">LL", last, int(code)) + message.encode()[:1000])


def unpadded(flags: int, payload: bytes, *, priority: bool = False) -> bytes:
    """The payload of a DATA or HEADERS frame without padding and priority."""
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise Broken(Code.FRAME_SIZE_ERROR, "a padded frame without its padding's length")
        start, end = 1, end - payload[0]
    if priority and flags & HAS_PRIORITY:
        start += 5
    if start > end:
        raise Broken(Code.PROTOCOL_ERROR, "more padding than payload")
    return payload[start:end]


def header(name: bytes, value: bytes) -> bytes:
    """A header field as a literal that no table keeps (RFC 7541, 6.2.2); so no state is needed
    to write answers."""
    return b"\x00" + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    size = len(text)
    if size < 127:
        return bytes((size,)) + text
    out = bytearray(b"\x7f")
    size -= 127
    while size >= 128:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return bytes(out) + text
