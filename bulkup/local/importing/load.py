"""Load an export, entity by entity, into a new file."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from bulkup.core.errors import BulkupError, Exit, StateError, TargetError, UsageError
from bulkup.core.visible import visible
from bulkup.local.access import uninterrupted
from bulkup.local.encoding import Partition
from bulkup.local.exports.folder import Export, Exported, ExportFile, open_export
from bulkup.local.exports.gcs import SCHEME, BucketFolder
from bulkup.local.exports.place import Database
from bulkup.local.importing.half_loaded import Found, HalfLoadedFile, New
from bulkup.local.importing.irregular import imported_body
from bulkup.local.importing.report import Groups, LoadReport
from bulkup.local.importing.selection import Selection
from bulkup.local.limits import check_namespace, check_project, checked_place
from bulkup.local.status import RpcError, invalid
from bulkup.local.storage import now_micros

BATCH_ENTITIES = 4_000
"""Entities per batch."""
BATCH_BYTES = 4 << 20
"""Bytes of entity bodies per batch. Memory holds one batch with its index entries."""
_NOTED_EVERY = 50_000
"""Entities read before progress is saved, even if few of them are wanted."""
_WATCHED_EVERY = 500

Watch = Callable[[int, int], None]
"""Called now and then with the number of entities, and of the export's bytes, read so far."""


class LoadInterruptedError(BulkupError):
    """Ctrl-C; what is loaded is kept, and the same load resumes."""

    exit_code = Exit.SIGINT


LOCAL = Database("local")
"""The project of an embedded Datastore, unless told otherwise."""


@dataclass(frozen=True)
class Destination:
    """Where an export goes."""

    database: Database = LOCAL
    """Replaces the project and database that were exported, in every key."""
    replace: bool = False
    """Whether to replace the file if it exists and holds something else."""


_EVERYTHING = Selection()
_LOCAL = Destination()


def load_export(
    file: str | os.PathLike[str],
    source: str | os.PathLike[str] | Export,
    selection: Selection = _EVERYTHING,
    destination: Destination = _LOCAL,
    watch: Watch = lambda *_: None,
) -> LoadReport:
    """Load an export into a new file of the embedded Datastore; returns once it is on the disk.

    `source`: the folder of an export, its `.overall_export_metadata` file, or a `gs://` address of
    either. `file` appears when it is complete. Until then the data is in FILE-loading beside it.
    After a kill, an interruption or an unreachable source the same call resumes where it was, with
    the same result. If `file` already holds exactly this load, nothing is done. Memory does not
    grow with the export.

    Raises UsageError if there is no export, if the file exists with other data, or if no entity is
    of the selected kinds and namespaces; ExportError for damage in the export, and StateError if
    the file cannot be written (after both, FILE-loading is deleted); LoadInterruptedError on
    KeyboardInterrupt.
    """
    _check_database(destination.database)
    export = source if isinstance(source, Export) else open_source(source)
    identity = _identity(export, selection, destination)
    with HalfLoadedFile(file, clock=now_micros) as half:
        done = half.earlier_load(identity, replace=destination.replace)
        if done is not None:
            return replace(done, was_loaded=True)
        try:
            found = half.begin(identity)
        except sqlite3.Error as error:
            raise _unwritable(half, error) from error
        try:
            report = half.whole or Loading(half, export, selection, destination, watch).run()
            half.make_index()
            with uninterrupted():
                half.finish(report)
        except KeyboardInterrupt:
            raise LoadInterruptedError(f"interrupted; {_kept(half)}") from None
        except OSError as error:
            raise StateError(f"{_said(error)}; {_kept(half)}") from error
        except sqlite3.Error as error:
            half.discard()
            raise _unwritable(half, error) from error
        except BulkupError:
            half.discard()
            raise
    return replace(report, deleted_another=found is Found.ANOTHER)


def _check_database(place: Database) -> None:
    try:
        check_project(place.project)
    except RpcError as error:
        raise UsageError(error.message) from error
    if place.database == "(default)":
        raise UsageError("the name of the default database is empty; leave out --database")


def open_source(source: str | os.PathLike[str]) -> Export:
    """The export at a path or a `gs://` address.

    Raises like `open_export`, and TargetError if the place cannot be read.
    """
    address = os.fspath(source)
    try:
        return open_export(BucketFolder(address) if address.startswith(SCHEME) else Path(address))
    except OSError as error:
        raise TargetError(
            f"{visible(address)} cannot be read ({_said(error)}); check the name, and that your "
            "account may read it"
        ) from error


def _said(error: OSError) -> str:
    if error.strerror is None:
        return str(error)
    return f"{visible(str(error.filename))}: {error.strerror}" if error.filename else error.strerror


def _unwritable(half: HalfLoadedFile, error: sqlite3.Error) -> StateError:
    return StateError(
        f"{half.path} cannot be written ({error}), and nothing was kept of it; check that the disk "
        "is not full, then load again"
    )


def _kept(half: HalfLoadedFile) -> str:
    """What a load that ends early leaves behind, for a message. Deletes FILE-loading if no batch
    was written."""
    if half.is_finished:
        return "everything had just been loaded"
    if half.progress is None:
        half.discard()
        return "nothing was loaded"
    loaded = half.progress["entities"]
    return (
        f"{loaded:,} entities are in {half.beside.name}; to resume, type the same command again "
        f"(to give up, delete {half.beside.name})"
    )


def _identity(export: Export, selection: Selection, destination: Destination) -> str:
    """A hash of everything that must be equal for a load to resume or repeat an earlier one."""
    facts = {
        "format": 1,
        "export": export.fingerprint,
        "selection": asdict(selection),
        "database": destination.database,
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


class Loading:
    """One attempt; see `load_export`."""

    def __init__(
        self,
        half: HalfLoadedFile,
        export: Export,
        selection: Selection,
        destination: Destination,
        watch: Watch,
    ) -> None:
        self._half = half
        self._export = export
        self._selection = selection
        self._database = destination.database
        self._watch = watch
        earlier = half.progress or {}
        self.entities: int = earlier.get("entities", 0)
        """How many entities are in the file."""
        self._resumed_at = self.entities
        self.repeated: int = earlier.get("repeated", 0)
        self.left_out: int = earlier.get("left_out", 0)
        self.not_sampled: int = earlier.get("not_sampled", 0)
        self._skipped = Groups(earlier.get("skipped"))
        self._irregular = Groups(earlier.get("irregular"))
        self._file: int = earlier.get("file", 0)
        """Index of the file that is being read."""
        self._in_file: int = earlier.get("in_file", 0)
        """How many entities of that file were read."""
        self._in_part: int = earlier.get("in_part", 0)
        """How many entities of that file's part were read, including those of the file."""
        self._bytes: int = earlier.get("bytes", 0)
        """Total size of the files before that file that were read."""
        self._read: int = earlier.get("read", 0)
        """Entities that were read."""
        self._unread: int = earlier.get("unread", 0)
        """Entities in parts that need not be read, as far as their number is known."""
        self._size: int = earlier.get("size", export.bytes)
        """Total size of the export's files when this load began, in bytes."""
        self._batch: list[New] = []
        self._batch_bytes = 0
        self._unnoted = 0
        """Entities read since the last batch was written."""

    def run(self) -> LoadReport:
        if self._size != self._export.bytes:
            raise UsageError(
                "the files of the export were written since this load began; "
                f"{self._half.beside.name} is deleted, so type the same command again"
            )
        files = self._export.files
        while self._file < len(files):
            file = files[self._file]
            if self._selection.may_hold(file.part):
                self._load(file)
                self._bytes += file.size
            elif self._is_last_of_part(file):
                self._unread += file.part.entities or 0
            self._file, self._in_file = self._file + 1, 0
        self._flush()
        self._watch(self._read, self._bytes)
        self._check_some()
        return self._report()

    def _load(self, file: ExportFile) -> None:
        """Load a file, from where an earlier load of it stopped."""
        for exported in self._export.read(file, self._database, skip=self._in_file):
            self._in_file += 1
            self._in_part += 1
            self._read += 1
            self._unnoted += 1
            self._take(exported)
            if (
                len(self._batch) >= BATCH_ENTITIES
                or self._batch_bytes >= BATCH_BYTES
                or self._unnoted >= _NOTED_EVERY
            ):
                self._flush()
            if self._read % _WATCHED_EVERY == 0:
                self._watch(self._read, self._bytes + exported.end)
        if self._is_last_of_part(file):
            self._export.check_counts(file.part, self._in_part)
            self._in_part = 0

    def _is_last_of_part(self, file: ExportFile) -> bool:
        following = self._export.files[self._file + 1 :][:1]
        return not following or following[0].part != file.part

    def _take(self, exported: Exported) -> None:
        entity = exported.entity
        key = entity.key
        if not self._selection.names(key):
            self.left_out += 1
            return
        try:
            partition, kind, path = self._checked(key)
        except RpcError as error:
            self._skipped.add(key, error.message)
            return
        if not self._selection.samples(key):
            self.not_sampled += 1
            return
        body, entries, refusal = imported_body(entity)
        if refusal:
            self._irregular.add(key, refusal)
        self._batch.append(New(partition, kind, path, key, body, entries, bool(refusal)))
        self._batch_bytes += len(body)

    def _checked(self, key: Any) -> tuple[Partition, str, bytes]:
        """Where an entity is stored. Raises RpcError if nobody could look it up there."""
        path, kind = checked_place(key, complete=True)
        where = key.partition_id
        if (where.project_id, where.database_id) != self._database:
            raise invalid(
                f"It is of another database: {where.project_id}/{where.database_id or '(default)'}"
            )
        check_namespace(where.namespace_id)
        return Partition(*self._database, where.namespace_id), kind, path

    def _flush(self) -> None:
        """Write the batch, with what the next attempt needs to resume. Ctrl-C is delayed until
        then."""
        batch, self._batch, self._batch_bytes, self._unnoted = self._batch, [], 0, 0
        with uninterrupted():
            self._half.write(batch, lambda repeated: self._progress(len(batch), repeated))

    def _progress(self, loaded: int, repeated: int) -> dict[str, Any]:
        self.entities += loaded - repeated
        self.repeated += repeated
        return {
            "entities": self.entities,
            "repeated": self.repeated,
            "left_out": self.left_out,
            "not_sampled": self.not_sampled,
            "skipped": self._skipped.to_json(),
            "irregular": self._irregular.to_json(),
            "file": self._file,
            "in_file": self._in_file,
            "in_part": self._in_part,
            "bytes": self._bytes,
            "read": self._read,
            "unread": self._unread,
            "size": self._size,
        }

    def _check_some(self) -> None:
        """Raise UsageError if no entity is of the requested kinds and namespaces: a name may be
        wrong, and an empty file would look like a successful load."""
        exported, left_out = self._read + self._unread, self.left_out + self._unread
        if left_out and left_out == exported:
            asked = self._selection.asked_for()
            raise UsageError(
                f"none of the {exported:,} entities of the export is {asked}; check the names "
                "(case matters). Nothing was loaded"
            )

    def _report(self) -> LoadReport:
        kinds = self._half.kinds()
        assert sum(kind.entities for kind in kinds) == self.entities
        return LoadReport(
            entities=self.entities,
            kinds=kinds,
            exported=self._read + self._unread,
            left_out=self.left_out + self._unread,
            not_sampled=self.not_sampled,
            repeated=self.repeated,
            skipped=self._skipped.all(),
            irregular=self._irregular.all(),
            resumed_at=self._resumed_at,
        )
