"""LevelDB's log format, in which the files of an export are written.

A log is a sequence of blocks of 32,768 bytes, the last of which may be shorter. A record is one
fragment in one block, or several fragments, one in each of consecutive blocks. Each fragment
follows a header of 7 bytes: a masked CRC-32C of the type and the fragment's bytes, their number (2
bytes), and the type (the whole record, or its first, a middle, or its last fragment). Fewer than 7
bytes at the end of a block are zero. Google's service also fills the last block with zeros.

https://github.com/google/leveldb/blob/main/doc/log_format.md
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO, NamedTuple

import google_crc32c

from bulkup.local.exports.errors import damaged

BLOCK_BYTES = 32_768
HEADER_BYTES = 7
MAX_RECORD_BYTES = 64 << 20
"""Far more than an entity, which has at most 1 MiB. The limit keeps damage from exhausting
memory."""

_READ_BYTES = 32 * BLOCK_BYTES
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_HEADER = struct.Struct("<IHB")
_crc32c = google_crc32c.value
_extend = google_crc32c.extend
_TYPE_CRC = {kind: _crc32c(bytes((kind,))) for kind in (_FULL, _FIRST, _MIDDLE, _LAST)}
_BAD_CHECKSUM = "a record does not match its checksum"
_NO_RECORD = "no record begins here"
_TOO_LONG = "a record does not end in its block, it is cut off or damaged"
_CUT = "the file ends within a record"


def _masked(crc: int) -> int:
    """A CRC as it is stored. It is masked because the CRC of bytes that contain CRCs is weak."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


class Record(NamedTuple):
    offset: int
    """Offset of the header of its first fragment, in bytes from the beginning of the file."""
    end: int
    """Offset after its last fragment."""
    data: bytes


# --- reading ---


def read_records(stream: IO[bytes], file: str) -> Iterator[Record]:
    """The records of a log, read once from its beginning to its end.

    Memory holds one record and 1 MiB. A log that ends between two records is valid, so the caller
    must compare their number with what was promised.

    `file`: its name in messages. Raises ExportError, with the offset of the damaged fragment, for
    any byte that the format does not allow there and any checksum that does not match; OSError,
    with `file`, if the stream cannot be read now.
    """
    reading = _Reading(file)
    base = 0
    for chunk in _chunks(stream, file):
        for start in range(0, len(chunk), BLOCK_BYTES):
            yield from reading.block(chunk[start : start + BLOCK_BYTES], base + start)
        base += len(chunk)
    reading.finish()


def _chunks(stream: IO[bytes], file: str) -> Iterator[bytes]:
    """Whole blocks, except at the end; a stream may return fewer bytes than asked for."""
    while True:
        parts = []
        missing = _READ_BYTES
        while missing:
            try:
                part = stream.read(missing)
            except OSError as error:
                if error.filename is not None:
                    raise
                raise OSError(error.errno, error.strerror or str(error), file) from error
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        if parts:
            yield parts[0] if len(parts) == 1 else b"".join(parts)
        if missing:
            return


class _Reading:
    """The state of a reader: whether it is within a record that began in an earlier block."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._begun: list[bytes] = []
        """The fragments of a record that has not ended."""
        self._begun_at = 0
        self._begun_bytes = 0

    def block(self, block: bytes, base: int) -> Iterator[Record]:
        """The records that end in a block; `base`: its offset."""
        at, size = 0, len(block)
        while size - at >= HEADER_BYTES:
            crc, length, kind = _HEADER.unpack_from(block, at)
            end = at + HEADER_BYTES + length
            if end > size or kind not in _TYPE_CRC:
                if self._is_padding(block, at):
                    return
                reason = _NO_RECORD if kind not in _TYPE_CRC else _TOO_LONG
                raise damaged(reason, self._file, base + at)
            data = block[at + HEADER_BYTES : end]
            if _masked(_extend(_TYPE_CRC[kind], data)) != crc:
                raise damaged(_BAD_CHECKSUM, self._file, base + at)
            if kind == _FULL and not self._begun:
                yield Record(base + at, base + end, data)
            else:
                whole = self._fragment(kind, data, base + at)
                if whole is not None:
                    yield Record(self._begun_at, base + end, whole)
            at = end
        if at < size and not self._is_padding(block, at):
            raise damaged(_NO_RECORD if size == BLOCK_BYTES else _CUT, self._file, base + at)

    def _is_padding(self, block: bytes, at: int) -> bool:
        """Whether the rest of a block is zero padding. A block of zeros only is damage."""
        fills = at > 0 and len(block) == BLOCK_BYTES and not self._begun
        return fills and not any(block[at:])

    def _fragment(self, kind: int, data: bytes, offset: int) -> bytes | None:
        """Add a fragment; returns the record if it is the last one."""
        if kind in (_FULL, _FIRST):
            if self._begun:
                raise damaged("a record begins within another one", self._file, offset)
            self._begun, self._begun_at, self._begun_bytes = [data], offset, len(data)
            return None
        if not self._begun:
            raise damaged("a record continues without a beginning", self._file, offset)
        self._begun.append(data)
        self._begun_bytes += len(data)
        if self._begun_bytes > MAX_RECORD_BYTES:
            reason = f"a record has more than {MAX_RECORD_BYTES >> 20} MiB"
            raise damaged(reason, self._file, self._begun_at)
        if kind == _MIDDLE:
            return None
        whole = b"".join(self._begun)
        self._begun = []
        return whole

    def finish(self) -> None:
        if self._begun:
            raise damaged(_CUT, self._file, self._begun_at)


# --- writing ---


class RecordWriter:
    """Writes a log. The bytes are those that LevelDB writes; the last block is not filled."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.size = 0
        """Size of the file so far, in bytes."""

    def write(self, data: bytes) -> None:
        """Add a record. Raises OSError, and ValueError if it is larger than a reader accepts."""
        if len(data) > MAX_RECORD_BYTES:
            raise ValueError(f"a record has at most {MAX_RECORD_BYTES >> 20} MiB")
        out: list[bytes] = []
        done, is_first = 0, True
        while is_first or done < len(data):
            room = BLOCK_BYTES - self.size % BLOCK_BYTES
            if room < HEADER_BYTES:
                out.append(bytes(room))
                self.size += room
                room = BLOCK_BYTES
            # With exactly 7 bytes left the first fragment is empty, as in LevelDB.
            part = data[done : done + room - HEADER_BYTES]
            done += len(part)
            is_last = done == len(data)
            if is_first:
                kind = _FULL if is_last else _FIRST
            else:
                kind = _LAST if is_last else _MIDDLE
            crc = _masked(_extend(_TYPE_CRC[kind], part))
            out += (_HEADER.pack(crc, len(part), kind), part)
            self.size += HEADER_BYTES + len(part)
            is_first = False
        self._stream.write(b"".join(out))
