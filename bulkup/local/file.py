"""The SQLite file: its schema, its lock, its connections."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from bulkup.core.errors import StateError
from bulkup.local.sharing import FileInUseError, holder_in, lock_path, note_holder

APPLICATION_ID = 0x62756C6B
"""`bulk` in the header of the file marks it as a file of the embedded Datastore."""
_HALF_LOADED_ID = 0x62756C6A
"""Marks a file into which an export is being loaded (importing/). Every version of bulkup refuses
it under any name, so nobody can mistake it for a whole one."""
SCHEMA_VERSION = 2
"""Version 1 had no log table."""
_CACHE_KIB = 4_000
"""Cache of each read connection. The operating system caches the rest."""
_WRITER_CACHE_KIB = 16_000
"""One commit of 500 entities spread over a kind dirties about 6 MB. With a smaller cache these
pages are written to SQLite's log twice."""
_LOG_PAGES = 16_000
"""At 64 MB of SQLite's log, the writer itself moves it into the file, so it cannot grow forever."""

_LOG = "CREATE TABLE log(version INTEGER PRIMARY KEY, records BLOB NOT NULL);"
_SCHEMA = """
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('last_version', 0), ('next_id', 1);
CREATE TABLE partitions(
  id INTEGER PRIMARY KEY, project TEXT NOT NULL, database TEXT NOT NULL, namespace TEXT NOT NULL,
  UNIQUE(project, database, namespace));
CREATE TABLE kinds(
  id INTEGER PRIMARY KEY, part INTEGER NOT NULL, name TEXT NOT NULL, UNIQUE(part, name));
CREATE TABLE slots(
  id INTEGER PRIMARY KEY, kind INTEGER NOT NULL, prop TEXT NOT NULL, multi INTEGER NOT NULL,
  UNIQUE(kind, prop));
CREATE TABLE reserved(part INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY(part, id))
  WITHOUT ROWID;
CREATE TABLE entities(
  eid INTEGER PRIMARY KEY, part INTEGER NOT NULL, kind INTEGER NOT NULL, path BLOB NOT NULL,
  version INTEGER NOT NULL, created INTEGER NOT NULL,
  packed TEXT NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX entities_by_key ON entities(kind, path);
CREATE INDEX entities_by_path ON entities(part, path);
CREATE TABLE entities_past(
  eid INTEGER NOT NULL, part INTEGER NOT NULL, kind INTEGER NOT NULL, path BLOB NOT NULL,
  version INTEGER NOT NULL, created INTEGER NOT NULL, until INTEGER NOT NULL,
  packed TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX past_by_key ON entities_past(kind, path, until);
CREATE TABLE entries(
  slot INTEGER NOT NULL, value BLOB NOT NULL, path BLOB NOT NULL, since INTEGER NOT NULL,
  until INTEGER, eid INTEGER NOT NULL, PRIMARY KEY(slot, value, path, since)) WITHOUT ROWID;
"""


def open_file(path: Path) -> sqlite3.Connection:
    """The connection that writes to a file, which is created if it does not exist.

    Raises StateError when the file cannot be opened; the message says why.
    """
    try:
        new = not path.exists() or path.stat().st_size == 0
        if new:
            _check_not_half_loaded(path)
            _create(path)
        connection = connect(path, _WRITER_CACHE_KIB)
        try:
            _check(path, connection, new)
        except BaseException:
            connection.close()
            raise
    except OSError as error:
        raise StateError(
            f"cannot open {path}: {error.strerror}; use a file in a folder you can write to"
        ) from error
    except sqlite3.DatabaseError as error:
        raise StateError(
            f"{path} is not a file of bulkup's embedded Datastore ({error}); use another file"
        ) from error
    return connection


def half_loaded_path(path: Path) -> Path:
    """The file into which an export is loaded before it is named `path`."""
    return path.with_name(path.name + "-loading")


def _check_not_half_loaded(path: Path) -> None:
    """Raise StateError if a half-loaded file is beside `path`: a new, empty file would hide it."""
    beside = half_loaded_path(path)
    if beside.exists():
        raise StateError(
            f"{path} is not loaded completely: an interrupted `bulkup local load` has left "
            f"{beside.name} beside it; type that command again to finish it, or delete "
            f"{beside.name}"
        )


def _create(path: Path) -> None:
    """Create the file before SQLite does, so that no other user can read the data."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    os.chmod(path, 0o600)


def open_half_loaded(path: Path) -> sqlite3.Connection:
    """The connection that loads into a half-loaded file, which is created if it does not exist.

    The file may already be complete except for its name. After a power failure it is as one of its
    last transactions left it. Raises sqlite3.Error, and StateError for a file that is anything
    else.
    """
    if not path.exists() or path.stat().st_size == 0:
        _create(path)
    connection = connect(path, _WRITER_CACHE_KIB)
    try:
        # No sync per transaction: if the last ones are lost, they are loaded again.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA temp_store = FILE")  # for sorts larger than memory
        application, version, tables = _marks(connection)
        if not tables:
            _set_up(connection)
            _create_schema(connection, _HALF_LOADED_ID)
        elif application not in (_HALF_LOADED_ID, APPLICATION_ID) or version != SCHEMA_VERSION:
            raise StateError(
                f"{path} is in the way of this load and was not made by one; delete or rename it, "
                "then load again"
            )
        else:
            _set_up(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def mark_whole(connection: sqlite3.Connection) -> None:
    """Mark the half-loaded file as whole, effective when the current transaction commits."""
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def is_whole(connection: sqlite3.Connection) -> bool:
    """Whether a file that `open_half_loaded` has opened is whole."""
    return _marks(connection)[0] == APPLICATION_ID


def connect(path: Path, cache_kib: int = _CACHE_KIB) -> sqlite3.Connection:
    """Another connection to an open file."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=512
    )
    try:
        connection.execute("PRAGMA busy_timeout = 10000")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        connection.execute("PRAGMA temp_store = MEMORY")
    except BaseException:
        connection.close()
        raise
    return connection


def _marks(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Application id, format version, and how many tables and indexes there are."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return application, version, tables


def _set_up(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA secure_delete = OFF")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")


def _create_schema(connection: sqlite3.Connection, application: int) -> None:
    connection.executescript(
        f"BEGIN IMMEDIATE;{_SCHEMA}{_LOG}"
        f"PRAGMA application_id = {application};"
        f"PRAGMA user_version = {SCHEMA_VERSION};COMMIT;"
    )


def _check(path: Path, connection: sqlite3.Connection, new: bool) -> None:
    application, version, tables = _marks(connection)
    if application == _HALF_LOADED_ID:
        raise StateError(
            f"{path} is not loaded completely: an export was being loaded into it; type that "
            "`bulkup local load` again, with the name that it had there"
        )
    if application != APPLICATION_ID and (tables or not (new or application == 0)):
        raise StateError(
            f"{path} is a SQLite file, but not one of bulkup's embedded Datastore; use another file"
        )
    if version > SCHEMA_VERSION:
        raise StateError(
            f"{path} was written by a newer bulkup (format {version}; this version supports "
            f"{SCHEMA_VERSION}); upgrade with: pip install -U bulkup"
        )
    _set_up(connection)
    if version == 0:
        _create_schema(connection, APPLICATION_ID)
    elif version < SCHEMA_VERSION:
        connection.executescript(
            f"BEGIN IMMEDIATE;{_LOG}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;"
        )


def lock(path: Path) -> int:
    """Lock `path` for this process. The operating system releases the lock when the process ends.

    The lock is on a separate file: closing any descriptor of the database in this process would
    release SQLite's locks on it.
    """
    side = lock_path(path)
    try:
        if path.is_file() and path.stat().st_nlink > 1:  # a folder has a name for each child
            raise StateError(
                f"{path} has more than one name (a hard link), and a server under another name "
                "would not see what this one has in its log; delete the other names, or use "
                "another file"
            )
        handle = os.open(side, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(
            f"cannot open {path}: {error.strerror}; use a file in a folder you can write to"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder, _ = holder_in(handle)
        os.close(handle)
        raise FileInUseError(
            f"{path} is already open"
            + (f" in process {holder}" if holder else "")
            + "; wait until that process ends, or use another file (if it is `bulkup local serve`, "
            "set DATASTORE_EMULATOR_HOST to its address)"
        ) from error
    note_holder(handle)
    return handle
