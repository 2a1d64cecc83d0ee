"""A list of keys that a run works on instead of the results of its query.

Keys are kept without duplicates, in Datastore's order, in a SQLite file: a list of a million keys
takes no more memory than one of ten. The list is built in an unnamed file, which leaves no trace if
the run does not start. A run that starts keeps a copy in its folder, so that it can be resumed
without the user's file.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from bulkup.core.errors import StateError
from bulkup.datastore.keys import key_of

KEYS_NAME = "keys.sqlite"

_SCHEMA = """
CREATE TABLE keys (place BLOB PRIMARY KEY, key BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class KeyFacts:
    """What is known of a list without reading it."""

    digest: str
    """The same for lists of the same keys that are used in the same way."""
    count: int
    source: str
    """Where the keys come from, for people: for example, the name of a file."""
    absent: bool = False
    """Whether the updater also gets keys without an entity, as entities without properties; a put
    of one is an insert. Otherwise such a key counts as vanished."""
    matching: bool = False
    """Whether an entity that does not match the updater's query (any more) counts as vanished."""


class KeyList:
    """Keys in order. Belongs to one thread and must be closed."""

    def __init__(self, db: sqlite3.Connection, facts: KeyFacts, name: str) -> None:
        self._db = db
        self.facts = facts
        self._name = name

    @classmethod
    def of(
        cls,
        keys: Iterable[bytes],
        source: str,
        *,
        absent: bool = False,
        matching: bool = False,
    ) -> Self:
        """Make a list of serialized keys, in any order. Raises what `keys` raises, StateError."""
        db = sqlite3.connect("", isolation_level=None)
        try:
            with _errors("a temporary file for a list of keys"):
                # Nobody reads this file after a crash.
                db.executescript(f"PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; {_SCHEMA}")
                db.execute("BEGIN")
                # Sort first: unsorted, each of a million inserts would touch a page of its own.
                db.execute("CREATE TEMP TABLE unsorted (place BLOB, key BLOB)")
                db.executemany(
                    "INSERT INTO unsorted VALUES (?, ?)", ((place_of(key), key) for key in keys)
                )
                db.execute("INSERT OR IGNORE INTO keys SELECT * FROM unsorted ORDER BY place")
                db.execute("DROP TABLE unsorted")
                db.execute("COMMIT")
                facts = KeyFacts(
                    _digest(db, absent, matching), _count(db), source, absent, matching
                )
                db.executemany("INSERT INTO facts VALUES (?, ?)", [*vars(facts).items()])
        except BaseException:
            db.close()
            raise
        return cls(db, facts, source)

    @classmethod
    def kept_in(cls, folder: Path) -> Self | None:
        """The list that a run keeps in its folder; None: it is not there.

        Raises StateError for a list that is damaged.
        """
        path = folder / KEYS_NAME
        if not path.exists():
            return None
        try:
            uri = f"file:{quote(str(path.absolute()))}?mode=ro"
            db = sqlite3.connect(uri, uri=True, isolation_level=None)
            try:
                facts = _read_facts(db)
                digest = _digest(db, facts.absent, facts.matching)
                if (digest, _count(db)) != (facts.digest, facts.count):
                    raise ValueError("the keys are not those that were stored")
            except BaseException:
                db.close()
                raise
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise StateError(
                f"the list of keys {str(path)!r} is damaged ({error}); delete it and repeat the "
                "command that started the run, with the same keys"
            ) from error
        return cls(db, facts, str(path))

    def keep_in(self, folder: Path) -> None:
        """Copy the list to a run's folder, unless it is already there. Raises StateError."""
        path, unfinished = folder / KEYS_NAME, folder / f".{KEYS_NAME}.new"
        if path.exists():
            return
        try:
            unfinished.unlink(missing_ok=True)
            descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.fchmod(descriptor, 0o600)  # whatever the umask is
                with closing(sqlite3.connect(unfinished)) as copy:
                    self._db.backup(copy)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(unfinished, path)
        except (OSError, sqlite3.Error) as error:
            raise StateError(
                f"cannot write the list of keys to {str(path)!r} ({error}); free disk space, or "
                "name a writable state directory with --state-dir"
            ) from error

    def __iter__(self) -> Iterator[bytes]:
        with _errors(self._name):
            for (key,) in self._db.execute("SELECT key FROM keys ORDER BY place"):
                yield key

    def between(self, after: bytes, upto: bytes, most: int) -> list[bytes]:
        """The first `most` keys greater than `after` and at most `upto`; empty: no bound."""
        condition, bounds = "place > ?", [place_of(after) if after else b""]
        if upto:
            condition += " AND place <= ?"
            bounds.append(place_of(upto))
        with _errors(self._name):
            rows = self._db.execute(
                f"SELECT key FROM keys WHERE {condition} ORDER BY place LIMIT ?",  # noqa: S608 (our own words)
                (*bounds, most),
            )
            return [key for (key,) in rows]

    def spread(self, most: int) -> list[bytes]:
        """At most `most` keys, evenly spaced."""
        step = max(1, -(-self.facts.count // most))
        with _errors(self._name):
            rows = self._db.execute(
                "SELECT key FROM (SELECT key, row_number() OVER (ORDER BY place) AS number "
                "FROM keys) WHERE number % ? = 0",
                (step,),
            )
            return [key for (key,) in rows]

    def close(self) -> None:
        self._db.close()


def place_of(key: bytes) -> bytes:
    """Bytes that sort like the serialized key sorts in Datastore.

    The order is by kind, then ids before names, and an ancestor before its descendants. The
    partition is left out: all keys of a list have the same one.
    """
    return b"".join(chain.from_iterable(map(_element, key_of(key).path)))


def _element(element: Any) -> tuple[bytes, bytes]:
    if element.WhichOneof("id_type") == "name":
        return _text(element.kind), b"\2" + _text(element.name)
    return _text(element.kind), b"\1" + (element.id + (1 << 63)).to_bytes(8, "big")


def _text(text: str) -> bytes:
    """Encode with an ending that is less than any character, so that a shorter string is first."""
    return text.encode().replace(b"\0", b"\0\xff") + b"\0\1"


def _digest(db: sqlite3.Connection, absent: bool, matching: bool) -> str:
    digest = hashlib.sha256(repr((bool(absent), bool(matching))).encode())
    for (place,) in db.execute("SELECT place FROM keys ORDER BY place"):
        digest.update(len(place).to_bytes(4, "big") + place)
    return digest.hexdigest()


def _count(db: sqlite3.Connection) -> int:
    (count,) = db.execute("SELECT count(*) FROM keys").fetchone()
    return int(count)


def _read_facts(db: sqlite3.Connection) -> KeyFacts:
    found = dict(db.execute("SELECT name, value FROM facts"))
    return KeyFacts(
        str(found["digest"]),
        int(found["count"]),
        str(found["source"]),
        bool(found["absent"]),
        bool(found["matching"]),
    )


@contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StateError(
            f"cannot read or write {what} ({error}); free disk space or fix the cause, then repeat "
            "the command"
        ) from error
