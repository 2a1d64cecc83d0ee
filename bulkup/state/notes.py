"""Notes: the failures and log lines of a batch, in Datastore next to the batch's marker.

A note is written by the batch's own commit, so it exists if and only if the batch is done. It stays
until the run ends. A runner that has lost the checkpoint reads from the notes what earlier runners
have seen. A batch without failures and log lines has no note.

A note has the same kind as a marker and its name begins with the run's id, so whatever removes all
markers of a run also removes its notes. Neither a note nor its content is trusted.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

from bulkup.core.model import Failure, LogLine, TargetInfo
from bulkup.core.secrets import without_secrets
from bulkup.core.user_traceback import encodable
from bulkup.datastore.messages import Mutation
from bulkup.datastore.queries import Filter, kind_query
from bulkup.datastore.rpc import Rpc
from bulkup.state.kinds import MARKER_KIND
from bulkup.state.markers import NOTES_PER_PAGE
from bulkup.state.raw_entities import own_key

MAX_NOTE_BYTES = 256 * 1024
"""Compressed size: a quarter of the largest entity, and a tenth of the largest commit. 500
different tracebacks fit."""

MAX_COMMIT_BYTES = 4_000_000
"""The emulators refuse a request above 4 MiB. A note must not cause that, because the refusal would
be blamed on an entity."""

MAX_RAW_BYTES = 4 * 1024 * 1024
"""Size before compression. No more than this is ever decompressed."""

MAX_KEY_CHARS = 8_000
MAX_ERROR_CHARS = 500
MAX_TRACEBACK_CHARS = 4_000
MAX_LINE_CHARS = 2_000
MAX_FAILURES = 500
"""One for each entity of a batch."""
MAX_LOG_LINES = 5_000

_MAX_TIME = 4_102_444_800
"""The year 2100, as Unix time."""

MAX_KNOWN_KEYS = 400
"""Limited so that memory does not grow with the number of batches that fail."""


@dataclass(frozen=True)
class Place:
    """Identifies a commit of a run."""

    shard: int
    number: int
    part: int


@dataclass(frozen=True)
class Note:
    place: Place
    failures: Sequence[Failure]
    log_lines: Sequence[str]


class Notes:
    """The notes of one run in one namespace."""

    def __init__(self, rpc: Rpc, namespace: str, run_id: str) -> None:
        self._rpc = rpc
        self._namespace = namespace
        self._target = TargetInfo(rpc.project, rpc.database, namespace)
        self._prefix = f"{run_id}/note"
        self.keys: list[bytes] = []
        """The serialized keys of the notes that this process has sent, applied or not."""
        self.all_are_known = True
        """False: this process has sent more notes than `keys` holds."""

    def insert(
        self, place: Place, failures: Sequence[Failure], log_lines: Sequence[str], *, beside: int
    ) -> bytes | None:
        """The serialized mutation that goes into the batch's commit.

        None: there is no room for it in a commit whose other mutations take `beside` bytes.
        """
        data = pack(failures, log_lines, min(MAX_NOTE_BYTES, MAX_COMMIT_BYTES - beside))
        if data is None:
            return None
        mutation = Mutation()
        mutation.insert.key.CopyFrom(
            self._key(f"{self._prefix}/{place.shard:06d}/{place.number:09d}/{place.part:04d}")
        )
        value = mutation.insert.properties["note"]
        value.blob_value = data
        value.exclude_from_indexes = True
        self._remember(mutation.insert.key.SerializeToString(deterministic=True))
        serialized: bytes = mutation.SerializeToString()
        return serialized

    def read(self) -> Iterator[Note]:
        """All notes of the run, without those that cannot be read. Raises CallError."""
        filters = (
            Filter("__key__", "GREATER_THAN", self._key(f"{self._prefix}/")),
            Filter("__key__", "LESS_THAN", self._key(f"{self._prefix}0")),
        )
        query = kind_query(MARKER_KIND, filters, limit=NOTES_PER_PAGE)
        for result in self._rpc.results(query, self._namespace):
            note = _parse(result.entity)
            if note is not None:
                yield note

    def _key(self, name: str) -> Any:
        return own_key(self._target, MARKER_KIND, name)

    def _remember(self, key: bytes) -> None:
        if len(self.keys) < MAX_KNOWN_KEYS:
            self.keys.append(key)
        else:
            self.all_are_known = False


def notes_of_ranges(rpc: Rpc, namespace: str, prefix: str) -> Iterator[tuple[str, Note]]:
    """The notes of all ranges whose ids begin with `prefix`, each with its range's id, in the order
    of ranges. Notes that cannot be read are left out. Raises CallError."""
    target = TargetInfo(rpc.project, rpc.database, namespace)
    filters = (
        Filter("__key__", "GREATER_THAN", own_key(target, MARKER_KIND, prefix)),
        Filter("__key__", "LESS_THAN", own_key(target, MARKER_KIND, prefix[:-1] + "\x7f")),
    )
    for result in rpc.results(kind_query(MARKER_KIND, filters, limit=NOTES_PER_PAGE), namespace):
        range_id, found, _ = result.entity.key.path[-1].name.partition("/note/")
        if found and (note := _parse(result.entity)) is not None:
            yield range_id, note


def pack(failures: Sequence[Failure], log_lines: Sequence[str], limit: int) -> bytes | None:
    """Pack the content of a note into at most `limit` bytes; None if nothing fits.

    Tracebacks are dropped first, then log lines, then failures.
    """
    rows = [_row(failure) for failure in failures[:MAX_FAILURES]]
    lines = [_text(line, MAX_LINE_CHARS) for line in log_lines[:MAX_LOG_LINES]]
    times = [getattr(line, "at", 0.0) for line in log_lines[:MAX_LOG_LINES]]
    tracebacks = len(rows)
    while rows or lines:
        kept = [*rows[:tracebacks], *(row[:3] for row in rows[tracebacks:])]
        note = {"failures": kept, "log": lines, "log_at": times[: len(lines)]}
        raw = json.dumps(note, ensure_ascii=False).encode()
        if len(raw) <= MAX_RAW_BYTES:
            data = zlib.compress(raw, 1)  # enough: tracebacks are alike; higher takes longer
            if len(data) <= limit:
                return data
        if tracebacks:
            tracebacks //= 8
        elif lines:
            del lines[len(lines) // 2 :]
        else:
            del rows[len(rows) // 2 :]
    return None


def _row(failure: Failure) -> list[Any]:
    row: list[Any] = [
        _text(failure.key, MAX_KEY_CHARS),
        failure.step,
        _text(failure.error, MAX_ERROR_CHARS),
    ]
    if failure.traceback or failure.at:
        row.append(_both_ends(failure.traceback, MAX_TRACEBACK_CHARS))
    if failure.at:
        row.append(failure.at)
    return row


def _text(text: str, limit: int) -> str:
    # Remove secrets before cutting: half of a key would not be recognised. Only twice the limit is
    # searched, since a string may have any length.
    text = without_secrets(text[: 2 * limit])
    return encodable(text if len(text) <= limit else text[: limit - 1] + "…")


def _both_ends(text: str, limit: int) -> str:
    """Cut the middle of a traceback, which is already free of secrets: its start says where, its
    end says what."""
    if len(text) > limit:
        half = limit // 2
        text = f"{text[:half]}\n  [... {len(text) - 2 * half:,} characters ...]\n{text[-half:]}"
    return encodable(text)


def _parse(entity: Any) -> Note | None:
    try:
        shard, number, part = map(int, entity.key.path[-1].name.rsplit("/", 3)[1:])
        return Note(Place(shard, number, part), *unpack(entity.properties["note"].blob_value))
    except ValueError:
        return None  # damaged, or not written by bulkup; the run counts its failures anyway


def unpack(data: bytes) -> tuple[list[Failure], list[LogLine]]:
    """The failures and log lines in a note. Raises ValueError for anything else."""
    try:
        raw = json.loads(zlib.decompressobj().decompress(data, MAX_RAW_BYTES))
        lines = [_kept(line, MAX_LINE_CHARS) for line in raw["log"][:MAX_LOG_LINES]]
        times = [*map(_time, raw.get("log_at", ())), *repeat(0.0, len(lines))]
        return (
            [_failure(row) for row in raw["failures"][:MAX_FAILURES]],
            [LogLine.of(line, at) for line, at in zip(lines, times, strict=False)],
        )
    except (ValueError, TypeError, KeyError, zlib.error, RecursionError) as error:
        raise ValueError("not a note") from error


def _failure(row: Sequence[object]) -> Failure:
    key, step, error, *more = row
    return Failure(
        _kept(key, MAX_KEY_CHARS),
        _kept(step, 20),
        _kept(error, MAX_ERROR_CHARS),
        _kept(more[0], 2 * MAX_TRACEBACK_CHARS) if more else "",
        _time(more[1]) if len(more) > 1 else 0.0,
    )


def _time(at: object) -> float:
    """Notes are untrusted: a time that is out of range counts as unknown, 0."""
    return float(at) if isinstance(at, (int, float)) and 0 <= at < _MAX_TIME else 0.0


def _kept(text: object, limit: int) -> str:
    if not isinstance(text, str):
        raise TypeError("not a string")
    return encodable(text[:limit])
