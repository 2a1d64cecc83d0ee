"""What to put back, key by key: the keys and images for a run that restores entities.

`Restores` collects them in an unnamed file, from the undo log of a run or from a comparison of two
points in time. `RestoreList` is what the restoring run keeps in its folder.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

from bulkup.core.errors import StateError, UsageError
from bulkup.datastore.keys import key_bytes, key_of
from bulkup.datastore.messages import EntityPb, Mutation
from bulkup.datastore.reads import ABSENT
from bulkup.state.key_list import KeyList
from bulkup.state.scratch import Scratch, cannot_write
from bulkup.state.undo_log import Change

_COLUMNS = "key BLOB PRIMARY KEY, image BLOB, version INTEGER, content BLOB, torn INTEGER"
_TABLE = f"CREATE TABLE restores ({_COLUMNS}) WITHOUT ROWID"


class Restore(NamedTuple):
    """One entity to put back. An empty `image` means that there was none.

    The other fields say how it was left, so that nothing newer is overwritten.
    """

    image: bytes
    """The serialized entity to write; empty: it is to be deleted."""
    version: int
    """The version it was left with; ABSENT: it was deleted; 0: not known, `content` decides."""
    content: bytes = b""
    """`content_digest` of the entity as it was left; empty: only the version counts."""
    torn: bool = False
    """Whether somebody else changed it between two writes that are to be undone together."""

    def is_as_left(self, version: int, entity: bytes) -> bool:
        """Whether the entity is still as it was left. `version`, `entity`: as it is now, or ABSENT
        and b"" if there is none.

        The same content at another version is enough: a later run may have been undone, or the
        Datastore may be a copy.
        """
        if self.torn:
            return False
        if self.version == ABSENT or version == ABSENT:
            return version == self.version
        if self.version and version == self.version:
            return True
        return bool(self.content) and content_digest(entity) == self.content

    def is_done(self, entity: bytes) -> bool:
        """Whether the entity is already restored. `entity`: as it is now; empty: there is none."""
        # The same content takes the same number of bytes, whatever the order of the properties.
        if len(entity) != len(self.image):
            return False
        return entity == self.image or _canonical(entity) == _canonical(self.image)


def _read(row: tuple[Any, ...]) -> Restore:
    image, version, content, torn = row
    return Restore(image, version, content, bool(torn))


def _canonical(entity: bytes) -> bytes:
    """The serialized entity with its properties in order."""
    serialized: bytes = EntityPb.FromString(entity).SerializeToString(deterministic=True)
    return serialized


def content_digest(entity: bytes) -> bytes:
    """A digest that is the same for serialized entities with the same content."""
    return hashlib.blake2b(_canonical(entity), digest_size=16).digest()


class Restores(Scratch):
    """Collects what to put back. Belongs to one thread and must be closed."""

    def __init__(self) -> None:
        super().__init__(_TABLE)

    def add(self, key: bytes, restore: Restore) -> None:
        """Add a serialized key and what to put back under it. Raises StateError."""
        self._execute("INSERT OR REPLACE INTO restores VALUES (?, ?, ?, ?, ?)", (key, *restore))

    def take_back(self, change: Change) -> bytes:
        """Add a write of a run, in the order of its writes. If a key has several, the oldest
        before-image counts, and the last state that the run left. Returns the key. Raises
        StateError."""
        mutation = Mutation.FromString(change.mutation)
        operation = mutation.WhichOneof("operation")
        message = getattr(mutation, operation)
        if operation == "delete":
            key, version, content = key_bytes(message), ABSENT, b""
        else:
            key, version = key_bytes(message.key), change.version
            content = content_digest(message.SerializeToString())
        earlier = self.get(key)
        if earlier is None:
            self.add(key, Restore(change.before, version, content))
            return key
        torn = earlier.torn or not _follows(change, mutation.base_version, earlier)
        self.add(key, Restore(earlier.image, version, content, torn))
        return key

    def get(self, key: bytes) -> Restore | None:
        row = self._execute(
            "SELECT image, version, content, torn FROM restores WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else _read(row)

    def namespaces(self) -> list[str]:
        """The namespaces of the keys, sorted. Raises StateError."""
        found = set()
        for (key,) in self._execute("SELECT key FROM restores"):
            found.add(key_of(key).partition_id.namespace_id)
        return sorted(found)

    def count(self) -> int:
        """How many keys there are. Raises StateError."""
        (count,) = self._execute("SELECT count(*) FROM restores").fetchone()
        return int(count)

    def list_of(
        self, namespace: str, source: str, only: Iterable[bytes] | None = None
    ) -> RestoreList:
        """What to put back in one namespace. `source`: where it comes from, for people. `only`: for
        these keys; None: for all.

        Raises StateError.
        """
        if only is None:
            only = (key for (key,) in self._execute("SELECT key FROM restores"))
        keys = (
            key
            for key in only
            if key_of(key).partition_id.namespace_id == namespace and self.get(key) is not None
        )
        made = RestoreList.of(keys, source, absent=True)
        try:
            made.fill(self)
        except BaseException:
            made.close()
            raise
        return made


def _follows(change: Change, base_version: int, earlier: Restore) -> bool:
    """Whether a write replaced what the run's previous write of the same key had left."""
    if earlier.version == ABSENT or not change.before:
        return earlier.version == ABSENT and not change.before
    if base_version and base_version == earlier.version:
        return True
    return content_digest(change.before) == earlier.content


class RestoreList(KeyList):
    """The keys of a run that puts entities back, with what it puts back."""

    def fill(self, restores: Restores) -> None:
        """Add to each key what to put back. Raises StateError."""
        try:
            self._db.execute("BEGIN")
            self._db.execute(_TABLE)
            for key in self:
                restore = restores.get(key)
                assert restore is not None
                self._db.execute("INSERT INTO restores VALUES (?, ?, ?, ?, ?)", (key, *restore))
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise cannot_write(error) from error

    @classmethod
    def over(cls, keys: KeyList) -> Self:
        """A list of keys, new or kept by a run, seen as a list of what to put back.

        Raises UsageError if the list has keys alone.
        """
        found = keys._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'restores'").fetchone()
        if found is None:
            raise UsageError(
                "a run that puts entities back cannot be repeated for a list of keys; repeat the "
                "command that started it (`bulkup undo RUN --keys-from FILE`)"
            )
        return cls(keys._db, keys.facts, keys._name)

    def restores(self) -> Iterator[tuple[bytes, Restore]]:
        """All keys and what to put back under them, in the order of the keys. Raises StateError."""
        for key in self:
            yield key, self.get(key)

    def get(self, key: bytes) -> Restore:
        """What to put back under a serialized key. Raises StateError."""
        try:
            row = self._db.execute(
                "SELECT image, version, content, torn FROM restores WHERE key = ?", (key,)
            ).fetchone()
        except sqlite3.Error as error:
            row = None
            why = f"{error}"
        else:
            why = "a key is not there"
        if row is None:
            raise StateError(
                f"the list of images to restore ({self._name}) is damaged ({why}); delete the "
                "folder of this run and repeat the command that started it"
            )
        return _read(row)
