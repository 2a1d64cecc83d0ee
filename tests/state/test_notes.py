"""What a note holds: bounded, clean, and read with distrust."""

from __future__ import annotations

import json
import random
import zlib

import pytest

from bulkup.core.model import Failure, LogLine
from bulkup.state.notes import MAX_LINE_CHARS, MAX_NOTE_BYTES, MAX_RAW_BYTES, pack, unpack

TRACEBACK = "Traceback (most recent call last):\n" + '  File "u.py", line 1, in f\n' * 30


def failures(count: int, traceback: str = TRACEBACK) -> list[Failure]:
    return [Failure(f"Key('A', {n})", "handle", f"E: {n}", traceback) for n in range(count)]


def noise(length: int) -> str:
    """Not compressible below half of its length."""
    return random.Random(length).randbytes(length // 2).hex()


def test_a_note_returns_what_was_noted() -> None:
    noted, lines = failures(500), [f"line {n} \N{SNOWMAN}\x1b[31m" for n in range(700)]
    data = pack(noted, lines, MAX_NOTE_BYTES)
    assert data is not None
    assert unpack(data) == (noted, lines)


def test_tracebacks_are_given_up_before_keys_and_errors() -> None:
    noted = [Failure(f"Key('A', {n})", "write", "E", noise(4_000 + 2 * n)) for n in range(500)]
    data = pack(noted, ["said"], MAX_NOTE_BYTES)
    assert data is not None
    assert len(data) <= MAX_NOTE_BYTES
    found, lines = unpack(data)
    assert [failure.key for failure in found] == [failure.key for failure in noted]
    assert found[0].traceback == noted[0].traceback
    assert found[-1].traceback == ""
    assert lines == ["said"]


@pytest.mark.parametrize("limit", [MAX_NOTE_BYTES, 5_000, 500])
def test_a_note_is_never_larger_than_its_limit(limit: int) -> None:
    noted = [Failure(noise(7_000 + 2 * n), "write", noise(900), noise(9_000)) for n in range(40)]
    data = pack(noted, [noise(50_000)] * 40, limit)
    assert data is None or len(data) <= limit
    assert data is None or unpack(data)[0]


def test_what_is_too_long_is_cut_on_the_way_in() -> None:
    data = pack([Failure("k" * 99_999, "write", "e" * 99_999, "t" * 99_999)], ["l" * 99_999], 9_999)
    assert data is not None
    (failure,), (line,) = unpack(data)
    assert [len(text) for text in (failure.key, failure.error, line)] == [8_000, 500, 2_000]
    assert len(failure.traceback) < 4_100


def test_without_room_there_is_no_note() -> None:
    assert pack(failures(1), [], -5) is None
    assert pack(failures(1), [], 10) is None


def test_a_note_holds_no_secret_and_can_be_stored() -> None:
    secret = "MIIEvQIBADANBgkqhkiG9w0"
    data = pack(
        [Failure("k", "write", f"refused: Bearer {secret}")],
        [f"token={secret}", "\udc80", f"{'x' * (MAX_LINE_CHARS - 30)} password={secret}"],
        MAX_NOTE_BYTES,
    )
    assert data is not None
    assert secret not in str(unpack(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no such thing",
        zlib.compress(b"[]"),
        zlib.compress(b"\xff"),
        zlib.compress(b"[" * 100_000),
        zlib.compress(b"x" * (MAX_RAW_BYTES + 1)),
        zlib.compress(json.dumps({"failures": [["k"]], "log": []}).encode()),
        zlib.compress(json.dumps({"failures": [["k", "handle", 5]], "log": []}).encode()),
        zlib.compress(json.dumps({"failures": 5, "log": []}).encode()),
        zlib.compress(json.dumps({"failures": [], "log": [None]}).encode()),
    ],
)
def test_what_is_not_a_note_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a note"):
        unpack(data)


def test_a_note_of_another_making_is_bounded() -> None:
    row = ["k" * 99_999, "s" * 99, "e" * 9_999, "t" * 99_999]
    huge = json.dumps({"failures": [row], "log": ["l" * 9_999]})
    (failure,), (line,) = unpack(zlib.compress(huge.encode()))
    texts = failure.key, failure.step, failure.error, failure.traceback, line
    assert [len(text) for text in texts] == [8_000, 20, 500, 8_000, 2_000]
    rows = [["k", "handle", "e"]] * 100_000
    assert len(json.dumps(rows)) < MAX_RAW_BYTES
    found, _ = unpack(zlib.compress(json.dumps({"failures": rows, "log": []}).encode()))
    assert len(found) == 500


def test_times_are_kept_and_forged_ones_are_not() -> None:
    failure = Failure("Key('A', 1)", "handle", "E: x", "", 1700000000.125)
    data = pack([failure], [LogLine.of("said", 1700000001.5)], MAX_NOTE_BYTES)
    assert data is not None
    (kept,), (line,) = unpack(data)
    assert (kept.at, line.at) == (1700000000.125, 1700000001.5)
    for at in ("x", None, 1e300, -1.0, float("nan")):
        forged = {"failures": [["k", "handle", "e", "", at]], "log": ["a"], "log_at": [at]}
        (kept,), (line,) = unpack(zlib.compress(json.dumps(forged).encode()))
        assert (kept.at, line.at) == (0.0, 0.0)


def test_notes_of_earlier_versions_have_no_times() -> None:
    old = {"failures": [["k", "write", "e"], ["k", "handle", "e", "tb"]], "log": ["a", "b"]}
    failures, lines = unpack(zlib.compress(json.dumps(old).encode()))
    assert [failure.at for failure in failures] == [line.at for line in lines] == [0.0, 0.0]
