"""The log format: what is written is read, and no damage is."""

from __future__ import annotations

import io
import random
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.local.exports import record_log
from bulkup.local.exports.errors import ExportError
from bulkup.local.exports.record_log import (
    BLOCK_BYTES,
    HEADER_BYTES,
    Record,
    RecordWriter,
    read_records,
)
from tests.local.differential.budget import examples

FILE = "some/output-0"
HERE = Path(__file__).parent


def log_of(*records: bytes) -> bytes:
    stream = io.BytesIO()
    writer = RecordWriter(stream)
    for record in records:
        writer.write(record)
    assert writer.size == len(stream.getvalue())
    return stream.getvalue()


def padded(log: bytes) -> bytes:
    """As the service writes it."""
    return log + bytes(-len(log) % BLOCK_BYTES)


def read(log: bytes) -> list[Record]:
    return list(read_records(io.BytesIO(log), FILE))


def damage(log: bytes, file: str = FILE) -> ExportError:
    with pytest.raises(ExportError) as caught:
        list(read_records(io.BytesIO(log), file))
    return caught.value


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def test_the_bytes_are_those_of_leveldb() -> None:
    # The first 8 bytes of the metadata of each export that an emulator writes.
    assert log_of(b"3") == bytes.fromhex("b86d444e 0100 01 33")


def test_a_record_may_be_empty() -> None:
    assert [one.data for one in read(log_of(b"", b"x", b""))] == [b"", b"x", b""]
    assert read(b"") == []


@pytest.mark.parametrize("blocks", [1, 2])
def test_records_of_all_sizes_around_the_edge_of_a_block(blocks: int) -> None:
    for size in range(blocks * BLOCK_BYTES - 4 * HEADER_BYTES, blocks * BLOCK_BYTES + 2):
        records = [content(size), b"", b"abc", content(40_000, 1)]
        log = log_of(*records)
        found = read(log)
        assert [one.data for one in found] == records
        assert found[0].offset == 0
        assert found[-1].end == len(log)
        for one, following in pairwise(found):
            gap = following.offset - one.end
            assert 0 <= gap < HEADER_BYTES
            assert not gap or following.offset % BLOCK_BYTES == 0
        assert read(padded(log)) == found


def test_the_last_bytes_of_a_block_are_zero_and_its_last_seven_a_header() -> None:
    for room in range(1, HEADER_BYTES):
        log = log_of(content(BLOCK_BYTES - HEADER_BYTES - room), b"x")
        assert log[BLOCK_BYTES - room : BLOCK_BYTES] == bytes(room)
        assert len(log) == BLOCK_BYTES + HEADER_BYTES + 1
    log = log_of(content(BLOCK_BYTES - 2 * HEADER_BYTES), b"xy")
    # An empty first fragment, as LevelDB writes it.
    assert log[BLOCK_BYTES - 3 : BLOCK_BYTES] == b"\x00\x00\x02"
    assert read(log)[1] == Record(BLOCK_BYTES - HEADER_BYTES, len(log), b"xy")


SIZES = st.one_of(
    st.integers(0, 300),
    st.integers(BLOCK_BYTES - 20, BLOCK_BYTES + 20),
    st.integers(0, 3 * BLOCK_BYTES),
)


@given(st.lists(SIZES, max_size=8), st.integers(1, 5000), st.booleans())
@examples(100)
def test_what_is_written_is_read_whatever_the_stream_returns_at_once(
    sizes: list[int], at_once: int, is_padded: bool
) -> None:
    records = [content(size, seed) for seed, size in enumerate(sizes)]
    log = log_of(*records)
    stream: Any = Trickle(padded(log) if is_padded else log, at_once)
    assert [one.data for one in read_records(stream, FILE)] == records


class Trickle(io.BytesIO):
    """A stream that returns fewer bytes than asked for, as a network does."""

    def __init__(self, content: bytes, at_once: int) -> None:
        super().__init__(content)
        self.at_once = at_once

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, self.at_once))


def test_every_flipped_bit_is_damage_at_or_before_it() -> None:
    log = log_of(b"", b"a", content(60), b"", content(90, 1))
    records = read(log)
    for bit in range(len(log) * 8):
        flipped = bytearray(log)
        flipped[bit // 8] ^= 1 << bit % 8
        error = damage(bytes(flipped))
        hit = next(one for one in records if one.offset <= bit // 8 < one.end)
        assert error.file == FILE
        assert error.offset == hit.offset
        assert f"{FILE}, byte {hit.offset}: " in error.message


def test_flipped_bits_in_any_block_and_in_the_padding_are_damage() -> None:
    log = padded(log_of(content(70_000), content(500, 1), content(BLOCK_BYTES, 2)))
    drawn = random.Random(1)
    for byte in [*drawn.sample(range(len(log)), 200), *range(len(log) - 9, len(log))]:
        flipped = bytearray(log)
        flipped[byte] ^= 1 << drawn.randrange(8)
        error = damage(bytes(flipped))
        assert error.offset is not None
        assert error.offset <= byte


def test_every_cut_within_a_record_is_damage() -> None:
    log = log_of(b"", b"a", content(60), b"", content(90, 1))
    ends = {0, *(one.end for one in read(log))}
    for length in range(len(log)):
        if length in ends:
            # Nothing here can tell: the number of entities is compared with the promised one.
            assert all(one.end <= length for one in read(log[:length]))
        else:
            assert damage(log[:length]).offset == max(end for end in ends if end <= length)


def test_every_cut_of_a_long_record_and_of_padding_is_damage() -> None:
    whole = log_of(b"first", content(2 * BLOCK_BYTES + 100))
    log = padded(whole)
    start = read(log)[1].offset
    edges = [BLOCK_BYTES + n for n in range(-9, 10)]
    for length in [start + 1, start + 6, start + 7, *edges, 2 * BLOCK_BYTES, len(whole) - 1]:
        offset = damage(log[:length]).offset
        assert offset is not None
        assert start <= offset <= length
    for length in [*range(len(whole) + 1, len(whole) + 20), len(log) - 1]:
        assert damage(log[:length]).offset == len(whole)


def test_a_block_of_zeros_is_damage_and_not_padding() -> None:
    log = log_of(content(BLOCK_BYTES - HEADER_BYTES))
    assert len(log) == BLOCK_BYTES
    assert damage(log + bytes(BLOCK_BYTES)).offset == BLOCK_BYTES
    assert damage(bytes(BLOCK_BYTES)).offset == 0
    assert damage(bytes(100)).offset == 0


def fragment(kind: int, data: bytes) -> bytes:
    """A fragment with a checksum that matches."""
    crc = record_log._masked(record_log._crc32c(bytes((kind,)) + data))
    return record_log._HEADER.pack(crc, len(data), kind) + data


FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@pytest.mark.parametrize(
    ("kinds", "reason"),
    [
        ([MIDDLE], "continues without a beginning"),
        ([FULL, LAST], "continues without a beginning"),
        ([FIRST, FULL], "begins within another one"),
        ([FIRST, FIRST], "begins within another one"),
        ([FULL, 5], "no record begins here"),
        ([FULL, 0], "no record begins here"),
        ([FULL, 255], "no record begins here"),
    ],
)
def test_fragments_in_another_order_are_damage(kinds: list[int], reason: str) -> None:
    log = b"".join(fragment(kind, b"x") for kind in kinds)
    error = damage(log)
    assert reason in error.message
    assert error.offset == len(log) - 8


def test_a_log_that_ends_within_a_record_names_its_beginning() -> None:
    log = fragment(FULL, b"x") + fragment(FIRST, b"y") + fragment(MIDDLE, b"z")
    assert damage(log).offset == 8


def test_a_record_without_an_end_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(record_log, "MAX_RECORD_BYTES", 100_000)
    with pytest.raises(ValueError, match="at most"):
        log_of(bytes(100_001))
    whole = BLOCK_BYTES - HEADER_BYTES
    log = fragment(FIRST, bytes(whole)) + fragment(MIDDLE, bytes(whole)) * 5
    error = damage(log)
    assert "a record has more than" in error.message
    assert error.offset == 0


def test_a_stream_that_breaks_is_not_damage_and_its_file_is_named() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError(104, "Connection reset by peer")

    stream: IO[bytes] = Broken()
    with pytest.raises(ConnectionResetError) as caught:
        list(read_records(stream, FILE))
    assert (caught.value.strerror, caught.value.filename) == ("Connection reset by peer", FILE)


def test_a_name_that_controls_a_terminal_is_shown_inert() -> None:
    assert "\x1b" not in damage(b"x", "evil\x1b[31m").message


def test_records_are_read_one_by_one() -> None:
    """A reader that stops early has not read the rest."""
    log = log_of(*(content(1000, seed) for seed in range(5000)))
    stream = io.BytesIO(log)
    records = read_records(stream, FILE)
    next(records)
    assert stream.tell() < len(log) / 4
