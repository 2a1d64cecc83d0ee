"""The checkpoint's file: SQLite, one file per run.

The file is in WAL mode, so after a kill at any moment it is valid when it is opened again. It gets
its name only when it is complete, and is checked for damage before a resume.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from bulkup.core import stop
from bulkup.core.errors import StateError
from bulkup.core.model import Counts, RunState
from bulkup.core.records import RunInfo
from bulkup.state.files import CHECKPOINT_NAME, RunLock
from bulkup.state.record_codec import run_info_from_json

FORMAT = 2

COUNTS = [f.name for f in fields(Counts)]
"""The columns with a batch's counts."""

_SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE shards (
    id INTEGER PRIMARY KEY,
    start BLOB NOT NULL,       -- cursor: scan after it (empty: from the first entity)
    "end" BLOB NOT NULL,       -- cursor: scan up to it, inclusive (empty: to the last entity)
    low_number INTEGER NOT NULL DEFAULT 0,  -- every batch up to this one is done
    low_cursor BLOB NOT NULL,  -- every entity up to this one is done
    "after" BLOB NOT NULL,     -- serialized key: only entities with a larger one (empty: all)
    upto BLOB NOT NULL,        -- serialized key: only entities with at most this (empty: all)
    state TEXT NOT NULL DEFAULT 'open'      -- open, done, replaced
);
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    shard INTEGER NOT NULL REFERENCES shards (id),
    number INTEGER,            -- NULL: the batch writes nothing: no commit and no marker
    part INTEGER NOT NULL DEFAULT 0,
    start BLOB NOT NULL,
    "end" BLOB NOT NULL,
    whole_end BLOB NOT NULL,   -- where the whole batch ends, if this is a part of one
    state TEXT NOT NULL,       -- sent, done
    {", ".join(f"{name} INTEGER NOT NULL DEFAULT 0" for name in COUNTS)},
    UNIQUE (shard, number, part)
);
CREATE TABLE failures (
    id INTEGER PRIMARY KEY,
    batch INTEGER REFERENCES batches (id) ON DELETE CASCADE,  -- NULL: stopped the run
    key TEXT NOT NULL, step TEXT NOT NULL, error TEXT NOT NULL, traceback TEXT NOT NULL,
    at REAL NOT NULL DEFAULT 0  -- when it failed; 0: not known
);
CREATE INDEX failures_by_batch ON failures (batch);
CREATE TABLE log_lines (
    id INTEGER PRIMARY KEY,
    batch INTEGER REFERENCES batches (id) ON DELETE CASCADE,
    line TEXT NOT NULL,
    at REAL NOT NULL DEFAULT 0
);
CREATE INDEX log_lines_by_batch ON log_lines (batch);
CREATE TABLE handled (        -- for queries that may return an entity twice
    key BLOB PRIMARY KEY,      -- digest of the entity's key
    batch INTEGER NOT NULL REFERENCES batches (id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX handled_by_batch ON handled (batch);
"""


class CheckpointFile:
    """An open checkpoint file, changed in atomic steps."""

    lock: RunLock | None = None
    """The lock on the run's folder, held by this process; None: whoever opened the file holds any
    lock that is needed."""

    def __init__(self, path: Path, connection: sqlite3.Connection, run_info: RunInfo) -> None:
        self.path = path
        self.folder = path.parent
        self._inode = _inode(path)
        self.run_info = run_info
        self._db = connection
        columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(batches)")}
        self._missing = [name for name in COUNTS if name not in columns]
        """Count columns that a file of an earlier version lacks until something is written."""

    @classmethod
    def create(cls, folder: Path, run_info: RunInfo) -> Self:
        """Make the checkpoint of a run that has none here. `follow` adds its shards."""
        path = folder / CHECKPOINT_NAME
        unfinished = folder / f".{CHECKPOINT_NAME}.new"
        try:
            unfinished.unlink(missing_ok=True)
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.fchmod(descriptor, 0o600)  # whatever the umask is; SQLite's other files get the same
            os.close(descriptor)
        except OSError as error:
            raise StateError(
                f"cannot write the run state to {str(path)!r} ({error.strerror}); "
                "name a writable state directory with --state-dir"
            ) from error
        # The file gets its name once it is complete. A kill before that leaves no checkpoint.
        first = cls(unfinished, sqlite3.connect(unfinished, isolation_level=None), run_info)
        with first._step(synced=True):
            for statement in _SCHEMA.split(";\n"):
                first._db.execute(statement)
            first._set(
                format=FORMAT,
                file_id=uuid.uuid4().hex,
                record=run_info.stored(),
                state=RunState.RUNNING.value,
                reason="",
                runners=0,
                generation=0,
                max_failures=0,
                clean=True,
            )
        first._db.execute("PRAGMA journal_mode = WAL")
        first.close()
        os.replace(unfinished, path)
        return cls(path, _connect(path), run_info)

    @classmethod
    def open(cls, folder: Path, *, check: bool = True) -> Self:
        """Open the checkpoint of an earlier run. Raises StateError when it is damaged.

        `check`: check the whole file for damage, as before a resume.
        """
        path = folder / CHECKPOINT_NAME
        try:
            with contextlib.ExitStack() as undo:
                if not path.stat().st_size:
                    raise sqlite3.DatabaseError("the file is empty")
                db = undo.enter_context(contextlib.closing(_connect(path)))
                run_info = _run_info_in(db, path)
                if check and db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                    raise sqlite3.DatabaseError("quick_check fails")
                undo.pop_all()
        except (sqlite3.OperationalError, OSError) as error:
            raise StateError(
                f"the checkpoint {str(path)!r} cannot be opened ({error}); make it and its folder "
                "readable and writable, then try again"
            ) from error
        except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
            raise StateError(
                f"the checkpoint {str(path)!r} is damaged and cannot be read. Your data is safe: "
                "move the folder away and repeat the same `bulkup run`, which resumes from what "
                "Datastore knows of the run",
                details=str(error),
            ) from error
        return cls(path, db, run_info)

    def close(self) -> None:
        self._db.close()

    def is_deleted(self) -> bool:
        """Whether somebody has deleted or replaced the file while it was open."""
        return _inode(self.path) != self._inode

    @contextlib.contextmanager
    def _step(self, *, synced: bool = False) -> Iterator[None]:
        """One transaction. `synced`: after it, the changes survive a power loss."""
        if stop.is_fork:
            stop.end_if_fork()
        try:
            if synced:
                self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if self._db.in_transaction:  # SQLite has rolled back itself if the disk is full
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
            if synced:
                self._db.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error as error:
            raise StateError(
                f"cannot write the run state to {str(self.path)!r} ({error}); free disk space or "
                f"fix the cause, then continue with `bulkup resume {self.run_info.run_id}`"
            ) from error

    def _add_missing_columns(self) -> None:
        """Called before a write, not when the file is opened: reading a run must not change it."""
        for name in self._missing:
            self._db.execute(f"ALTER TABLE batches ADD COLUMN {name} INTEGER NOT NULL DEFAULT 0")
        self._missing = []

    @property
    def _sums(self) -> str:
        """SQL columns with the sums of all counts, for a query on `batches`."""
        return ", ".join(
            "0" if name in self._missing else f"coalesce(sum({name}), 0)" for name in COUNTS
        )

    @property
    def _counts(self) -> str:
        """SQL columns with all counts, for a query on `batches`."""
        return ", ".join("0" if name in self._missing else name for name in COUNTS)

    def _at(self, table: str) -> str:
        """An SQL column with the time of a row of `failures` or `log_lines`."""
        return f"{table}.at" if self._has_times() else "0.0"

    def _has_times(self) -> bool:
        """False: an earlier version made the file, and nothing was added to the tables since."""
        if not self._times:
            columns = self._db.execute("PRAGMA table_info(log_lines)")  # the last to get its column
            self._times = any(name == "at" for _, name, *_ in columns)
        return self._times

    def _add_times(self) -> None:
        """Called before a write, not when the file is opened: reading a run must not change it."""
        if not self._has_times():
            for table in ("failures", "log_lines"):
                self._db.execute(f"ALTER TABLE {table} ADD COLUMN at REAL NOT NULL DEFAULT 0")

    _times = False

    def _set(self, **values: Any) -> None:
        self._db.executemany(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            [(name, json.dumps(value)) for name, value in values.items()],
        )

    def _meta(self) -> dict[str, Any]:
        return {
            name: json.loads(value)
            for name, value in self._db.execute("SELECT name, value FROM meta")
        }


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _run_info_in(db: sqlite3.Connection, path: Path) -> RunInfo:
    """The run that the file belongs to. Raises StateError for a file of another version, and
    sqlite3.Error, ValueError, KeyError or TypeError for a damaged file."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
        raise sqlite3.DatabaseError("another program's database")
    rows = dict(db.execute("SELECT name, value FROM meta"))
    found = json.loads(rows["format"])
    if found != FORMAT:
        raise StateError(
            f"{str(path)!r} was written by another version of bulkup (format {found}, this one "
            f"reads {FORMAT}); resume the run with that version"
        )
    return run_info_from_json(json.loads(rows["record"]))


def _connect(path: Path) -> sqlite3.Connection:
    """Open an existing file. Reading a run must not create or change anything."""
    uri = f"file:{quote(str(path.absolute()))}?mode=rw"
    db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=10)
    try:
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        db.close()
        raise
    return db
