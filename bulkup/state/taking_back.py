"""What to put back to undo a run, from its undo log, even if several processes worked on it.

One process never has two commits in flight that write the same entity, so the order of its log is
the order of its writes. Processes that work on ranges each have their own log. If several of them
wrote an entity, its writes are put in order first: by the versions that they created, and where a
version is not known (the process was killed before the answer), by what the write replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import pairwise
from typing import NamedTuple

from bulkup.datastore.keys import key_bytes
from bulkup.datastore.messages import Mutation
from bulkup.datastore.reads import ABSENT
from bulkup.state.restore_list import Restore, Restores, content_digest
from bulkup.state.scratch import Scratch
from bulkup.state.undo_log import Change, UndoLog

_SCHEMA = """
CREATE TABLE origins (key BLOB PRIMARY KEY, folder INTEGER, shared INTEGER NOT NULL DEFAULT 0)
    WITHOUT ROWID;
CREATE TABLE writes (
    id INTEGER PRIMARY KEY, key BLOB, before BLOB, version INTEGER, base INTEGER, guarded INTEGER,
    content BLOB
);
CREATE INDEX writes_by_key ON writes (key, id);
"""


def take_back(log: UndoLog, restores: Restores) -> None:
    """Collect what to put back to undo all changes of a run. Raises StateError."""
    if log.folders < 2:
        for change in log.changes():
            restores.take_back(change)
        return
    with closing(_Shared()) as shared:
        for change in log.changes():
            shared.note(restores.take_back(change), change.folder)
        if shared.is_any():
            for change in log.changes():
                shared.add(change)
            for key, restore in shared.restores():
                restores.add(key, restore)


class SharedWrite(NamedTuple):
    """One write of an entity that several processes have written."""

    id: int
    version: int
    """The version that it created; 0: not known."""
    base: int
    """The version that it was guarded by; 0: none."""
    guarded: bool
    """Whether it could only be applied if the entity was still as it had been read."""
    before: bytes
    """Digest of the entity as it was read before the write; empty: there was none."""
    content: bytes
    """Digest of the entity that it left; empty: it left none."""


def in_order(writes: Sequence[SharedWrite]) -> list[SharedWrite]:
    """The writes of one entity in the order they were applied, as far as that is known. In
    `writes`, those of each process are in order."""
    known = sorted((one for one in writes if one.version or one.base), key=_known_place)
    left = [one for one in writes if not (one.version or one.base)]
    while left:
        places = ((one, _place_for(one, known)) for one in left)
        linked = next(((one, at) for one, at in places if at is not None), None)
        # Goes last if no other write found what it left, and it did not find what another left.
        one, at = linked or (left[0], len(known))
        known.insert(at, one)
        left.remove(one)
    return known


def _known_place(one: SharedWrite) -> tuple[object, ...]:
    """Sort key for writes whose own version, or that of their guard, is known.

    A write that changes nothing gets the version that is already there. Every server does so for a
    put of the same entity, Firestore's emulator also for a delete of an absent one. So of several
    writes with the same version, the one that created it comes first: it changed something, or its
    guard held.
    """
    if not one.version:
        return one.base, True, one.id  # right after the version it is guarded by
    is_idle = one.before == one.content
    return one.version, False, one.base == one.version, is_idle, not one.guarded, one.base, one.id


def _place_for(one: SharedWrite, ordered: Sequence[SharedWrite]) -> int | None:
    """Where to insert a write of which only the contents are known; None: that is not known."""
    there = None
    for number, other in enumerate(ordered):
        if other.before == one.content and there != other.before:
            return number  # the write right before `other` did not leave what `other` found
        there = other.content
    for number in range(len(ordered) - 1, -1, -1):
        if ordered[number].content == one.before:
            return number + 1
    return None


def is_torn(ordered: Sequence[SharedWrite]) -> bool:
    """Whether somebody else has changed the entity between two of these writes.

    A write without a guard may have read the entity before another write of the run was applied. So
    what it found counts as the run's own if it is the first state, or any state that the run left.
    """
    own = {ordered[0].before, *(one.content for one in ordered)}
    for earlier, one in pairwise(ordered):
        if one.before == earlier.content or (one.base and one.base == earlier.version):
            continue
        if one.guarded or one.before not in own:
            return True
    return False


class _Shared(Scratch):
    """The writes of entities that are in more than one log."""

    def __init__(self) -> None:
        super().__init__(_SCHEMA)

    def note(self, key: bytes, folder: int) -> None:
        self._execute(
            "INSERT INTO origins (key, folder) VALUES (?, ?) ON CONFLICT DO UPDATE "
            "SET shared = shared OR folder != excluded.folder",
            (key, folder),
        )

    def is_any(self) -> bool:
        return self._execute("SELECT 1 FROM origins WHERE shared LIMIT 1").fetchone() is not None

    def add(self, change: Change) -> None:
        """Keep a change if its entity is in more than one log."""
        mutation = Mutation.FromString(change.mutation)
        operation = mutation.WhichOneof("operation")
        message = getattr(mutation, operation)
        deletes = operation == "delete"
        key = key_bytes(message if deletes else message.key)
        if not self._execute("SELECT shared FROM origins WHERE key = ?", (key,)).fetchone()[0]:
            return
        content = b"" if deletes else content_digest(message.SerializeToString())
        guarded = operation == "insert" or bool(mutation.base_version)
        self._execute(
            "INSERT INTO writes (key, before, version, base, guarded, content) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (key, change.before, change.version, mutation.base_version, guarded, content),
        )

    def restores(self) -> Iterator[tuple[bytes, Restore]]:
        """What to put back under each key."""
        keys = self._execute("SELECT key FROM origins WHERE shared ORDER BY key")
        for (key,) in keys:
            rows = self._execute(
                "SELECT id, version, base, guarded, before, content FROM writes WHERE key = ? "
                "ORDER BY id",
                (key,),
            )
            writes = [
                SharedWrite(id_, version, base, bool(guarded), before and content_digest(before), c)
                for id_, version, base, guarded, before, c in rows
            ]
            ordered = in_order(writes)
            (image,) = self._execute(
                "SELECT before FROM writes WHERE id = ?", (ordered[0].id,)
            ).fetchone()
            last = ordered[-1]
            version = last.version if last.content else ABSENT
            yield key, Restore(image, version, last.content, is_torn(ordered))
