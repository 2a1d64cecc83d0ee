"""The file of a plan: `bulkup plan --out FILE` writes it, and a later run reads it.

The first line is the plan (`core/plan_json.py`), with facts about the file: how many lines follow,
and their checksum. The other lines are `change` and `failure` lines, in key order. `plan_id` is a
checksum of the first line, and so of the whole file: whoever approves it approves every change.

The first line is known last. So the other lines are kept in a temporary file without a name, in the
same folder. A plan that is interrupted or killed leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from bulkup.authoring.source_files import printable
from bulkup.core.changes import WouldChange, change_fields
from bulkup.core.errors import UsageError
from bulkup.core.model import Failure
from bulkup.core.output_file import cannot_write, check_replaceable
from bulkup.core.plan import Plan
from bulkup.core.plan_json import plan_fields, plan_of
from bulkup.core.typed_key import typed_key

FORMAT = 1
"""Increased when older readers would misunderstand the file."""

MAX_HEADER_BYTES = 64 * 1024 * 1024
_ID_LENGTH = 32


@dataclass(frozen=True)
class PlanFile:
    path: Path
    plan_id: str
    plan: Plan
    changes: int
    """How many `change` lines it has: one for each write."""
    failures: int

    def lines(self) -> Iterator[dict[str, Any]]:
        """The `change` and `failure` lines. Raises OSError, ValueError."""
        with self.path.open("rb") as file:
            file.readline()
            yield from map(json.loads, file)


class PlanWriter:
    """Writes a plan's file. The file appears only with `finish`. Raises UsageError, StateError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        check_replaceable(path, is_plan, "a plan")
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(  # noqa: SIM115
                dir=path.parent
            )
        except OSError as error:
            raise cannot_write(path, error) from error
        self._digest = hashlib.sha256()
        self._changes = self._failures = 0

    def __enter__(self) -> PlanWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # a full disk has already been reported
            self._file.close()

    def change(self, event: WouldChange) -> None:
        self._changes += 1
        self._line({"type": "change", **change_fields(event)})

    def failure(self, failure: Failure) -> None:
        self._failures += 1
        fields = {name: value for name, value in asdict(failure).items() if name != "at"}
        self._line({"type": "failure", **fields, "typed_key": typed_key(failure.key)})

    def _line(self, fields: Mapping[str, Any]) -> None:
        line = json.dumps(fields).encode() + b"\n"
        self._digest.update(line)
        try:
            self._file.write(line)
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def finish(self, plan: Plan) -> PlanFile:
        """Write the first line, and move the file into place."""
        head: dict[str, Any] = {
            "type": "plan",
            "version": FORMAT,
            "time": plan.work.created.isoformat(),
            "run_id": "",
            **plan_fields(plan),
            "changes": self._changes,
            "failures": self._failures,
            "sha256": self._digest.hexdigest(),
        }
        plan_id = _id_of(head)
        try:
            self._file.seek(0)
            descriptor, name = tempfile.mkstemp(
                dir=self._path.parent, prefix=f".{self._path.name}."
            )
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(json.dumps({**head, "plan_id": plan_id}).encode() + b"\n")
                    shutil.copyfileobj(self._file, file)
                os.replace(name, self._path)
            except BaseException:
                os.unlink(name)
                raise
        except OSError as error:
            raise cannot_write(self._path, error) from error
        return PlanFile(self._path, plan_id, plan, self._changes, self._failures)


def read_plan(path: Path) -> PlanFile:
    """Read a plan, and check that all of it is there and unchanged. Raises UsageError."""
    shown = printable(str(path))
    try:
        with path.open("rb") as file:
            first = file.readline(MAX_HEADER_BYTES)
            digest = hashlib.sha256()
            for line in file:
                digest.update(line)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"cannot read the plan {shown} ({reason}); `bulkup plan UPDATER --out FILE` writes one"
        ) from error
    head = _head(first)
    if head is None:
        raise UsageError(f"{shown} is not a plan; `bulkup plan UPDATER --out FILE` writes one")
    if head.get("version") != FORMAT:
        raise UsageError(
            f"{shown} is a plan of format {head.get('version')!r}, and this bulkup reads "
            f"{FORMAT}; make the plan again"
        )
    plan_id = head.pop("plan_id", None)
    if plan_id != _id_of(head) or digest.hexdigest() != head.get("sha256"):
        raise UsageError(
            f"{shown} is not as `bulkup plan` wrote it: lines are missing or changed; make the "
            "plan again"
        )
    try:
        plan = plan_of(head)
        return PlanFile(path, plan_id, plan, int(head["changes"]), int(head["failures"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{shown} lacks a part of a plan; make the plan again") from error


def is_plan(beginning: bytes) -> bool:
    """Whether a file with this beginning is a plan."""
    return beginning.startswith(b'{"type": "plan", ')


def _head(first: bytes) -> dict[str, Any] | None:
    try:
        head = json.loads(first) if is_plan(first) else None
    except (ValueError, RecursionError):
        return None
    return head if isinstance(head, dict) else None


def _id_of(head: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()[:_ID_LENGTH]
