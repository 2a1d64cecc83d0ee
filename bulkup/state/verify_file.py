"""The file of `bulkup verify --out`: the keys that are not done and, until verify is complete, how
far it has come.

Verify leaves no run state, so what is needed to continue is in the user's own file. JSON lines:

    {"type": "verify", ...}      the head: which work this verifies, and the key ranges
    {"type": "finding", ...}     an entity that is not done, as `bulkup show --failed-keys --json`
    {"type": "verified", ...}    everything up to this place of a range is in the file

Once everything is read, only the findings are left in the file. Lines after the last `verified` may
be from a process that was killed: they are dropped, and their findings are found again.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from bulkup.core.errors import HeldError, MismatchError, StateError, UsageError
from bulkup.core.model import Failure
from bulkup.core.records import Shard
from bulkup.core.typed_key import typed_key

FORMAT = 1


@dataclass(frozen=True)
class VerifyHead:
    """Which work a file verifies."""

    identity: str
    """Identifies the updater, its parameters and its query."""
    fingerprint: str
    """Fingerprint of the query and its target."""
    checksum: str
    """Checksum of the updater's source."""
    started: str
    """ISO 8601, UTC."""
    since_ns: int
    """Entities that were created after this server time are young."""
    ranges: tuple[Shard, ...]


@dataclass(frozen=True)
class Mark:
    """How far a range is verified."""

    range_id: int
    cursor: bytes
    """Everything up to this cursor is verified; empty: the whole range is."""
    numbers: Mapping[str, int]
    """Counts of the entities between the previous mark and this one."""


class VerifyFile:
    """Open it with `open`, then call `begin` or `resume`. Only one process at a time has it
    open."""

    def __init__(self, path: Path, shown: str, file: IO[bytes]) -> None:
        self._path = path
        self.shown = shown
        """The path as the user gave it."""
        self._file = file
        self.is_continued = False
        self.head: VerifyHead

    @classmethod
    def open(cls, path: Path, shown: str) -> VerifyFile:
        """Open or create a file. Raises UsageError, HeldError."""
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            file = os.fdopen(os.open(path, flags, 0o600), "r+b")
        except OSError as error:
            raise UsageError(
                f"cannot write to {shown} ({error.strerror}); name another file with --out"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise HeldError(
                f"another process writes to {shown}; wait for it, or name another file with --out"
            ) from None
        except OSError as error:
            file.close()
            raise UsageError(
                f"cannot lock {shown} ({error.strerror}); name another file with --out"
            ) from error
        return cls(path, shown, file)

    def unfinished(self) -> VerifyHead | None:
        """The head of the unfinished verification in this file; None: it is complete or empty.

        Raises UsageError for any other file.
        """
        self._file.seek(0)
        first = self._file.readline()
        if not first.strip():
            if self._file.read(1):
                raise self._foreign()
            return None
        line = _parsed(first)
        if line is None or line.get("type") not in ("verify", "finding"):
            raise self._foreign()
        if line["type"] == "finding":
            return None
        try:
            head = VerifyHead(
                **{name: str(line[name]) for name in ("identity", "fingerprint", "checksum")},
                started=str(line["started"]),
                since_ns=int(line["since_ns"]),
                ranges=tuple(_range(*one) for one in line["ranges"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise self._damaged(1) from error
        if line.get("format") != FORMAT:
            raise UsageError(
                f"{self.shown} is of another version of bulkup; continue it with that one, or "
                "delete the file to start from the beginning"
            )
        return head

    def check_same(self, there: VerifyHead, ours: VerifyHead) -> None:
        """Check that both heads are of the same work. Raises MismatchError."""
        for name, what in (
            ("identity", "another updater, other parameters or another query"),
            ("fingerprint", "another target"),
            ("checksum", "another version of the updater's source"),
        ):
            if getattr(there, name) != getattr(ours, name):
                raise MismatchError(
                    f"{self.shown} is an unfinished verification of {what}; name another file "
                    "with --out, or delete this one to start from the beginning"
                )

    def begin(self, head: VerifyHead) -> None:
        """Start from the beginning. Raises StateError."""
        self.head = head
        self._file.seek(0)
        self._file.truncate()
        self._append(
            [
                {
                    "type": "verify",
                    "format": FORMAT,
                    "identity": head.identity,
                    "fingerprint": head.fingerprint,
                    "checksum": head.checksum,
                    "started": head.started,
                    "since_ns": head.since_ns,
                    "ranges": [[one.id, _text(one.after), _text(one.upto)] for one in head.ranges],
                }
            ]
        )

    def resume(self, head: VerifyHead) -> Iterator[Mark | tuple[Failure, bool]]:
        """Continue after the last mark in the file: yields the marks and findings up to it (each
        finding with whether it is young), and drops the lines after it. Raises UsageError for a
        damaged file."""
        self.head, self.is_continued = head, True
        self._file.seek(0)
        self._file.readline()
        settled = self._file.tell()
        waiting: list[tuple[Failure, bool]] = []
        for number, raw in enumerate(iter(self._file.readline, b""), 2):
            line = _parsed(raw)
            if line is None:
                if raw.endswith(b"\n"):
                    raise self._damaged(number)
                break  # the process was killed while it wrote this line
            try:
                if line["type"] == "finding":
                    waiting.append((_finding(line), bool(line.get("young"))))
                    continue
                mark = Mark(
                    int(line["range"]),
                    b64decode(line["cursor"], validate=True),
                    {str(name): int(count) for name, count in line["numbers"].items()},
                )
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise self._damaged(number) from error
            yield from waiting
            waiting.clear()
            settled = self._file.tell()
            yield mark
        self._file.seek(settled)
        self._file.truncate()

    def note(self, mark: Mark, found: Iterable[tuple[Failure, bool]] = ()) -> None:
        """Write a mark, and what was found between the previous mark and this one. Raises
        StateError."""
        lines: list[dict[str, Any]] = [
            {**finding_fields(failure), **({"young": True} if young else {})}
            for failure, young in found
        ]
        cursor = _text(mark.cursor)
        numbers = {name: count for name, count in mark.numbers.items() if count}
        lines.append(
            {"type": "verified", "range": mark.range_id, "cursor": cursor, "numbers": numbers}
        )
        self._append(lines)

    def complete(self) -> None:
        """Leave only the findings that are not young. Raises StateError."""
        self._file.seek(0)
        descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=".bulkup-verify.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                for raw in iter(self._file.readline, b""):
                    line = _parsed(raw)
                    if line is not None and line["type"] == "finding" and not line.get("young"):
                        file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
        except OSError as error:
            os.unlink(temporary)
            raise self._unwritable(error) from error
        except BaseException:
            os.unlink(temporary)
            raise

    def close(self) -> None:
        self._file.close()

    def _append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        try:
            self._file.write(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StateError:
        return StateError(f"cannot write to {self.shown} ({error.strerror}); name another --out")

    def _foreign(self) -> UsageError:
        return UsageError(
            f"{self.shown} is not a file of `bulkup verify`, so it is left as it is; name another "
            "file with --out"
        )

    def _damaged(self, number: int) -> UsageError:
        return UsageError(
            f"line {number} of {self.shown} is damaged, so the verification cannot be continued; "
            "delete the file to start from the beginning"
        )


def finding_fields(failure: Failure) -> dict[str, Any]:
    return {
        "type": "finding",
        "key": failure.key,
        "typed_key": typed_key(failure.key),
        "step": failure.step,
        "error": failure.error,
        "traceback": failure.traceback,
    }


def left_to_read(ranges: Iterable[Shard], marks: Mapping[int, bytes | None]) -> list[Shard]:
    """The ranges that are not done, each from its mark on. `marks`: None for a whole range."""
    return [
        replace(one, low_cursor=marks.get(one.id) or b"")
        for one in ranges
        if marks.get(one.id, b"") is not None
    ]


def _finding(line: Mapping[str, Any]) -> Failure:
    return Failure(str(line["key"]), str(line["step"]), str(line["error"]), str(line["traceback"]))


def _range(range_id: Any, after: str, upto: str) -> Shard:
    return Shard(
        int(range_id), after=b64decode(after, validate=True), upto=b64decode(upto, validate=True)
    )


def _text(data: bytes) -> str:
    return b64encode(data).decode()


def _parsed(raw: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) else None
