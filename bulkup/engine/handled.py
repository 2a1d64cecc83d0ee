"""The outcome of one handler call: the writes it asked for, or a failure."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

from bulkup.core.clock import timestamp
from bulkup.core.model import Failure, LogLine
from bulkup.datastore.keys import key_of, key_text
from bulkup.datastore.messages import EntityPb, Mutation
from bulkup.datastore.reads import ABSENT


class Write:
    """One mutation that a handler asked for, as it is sent.

    `key`: the serialized key. `mutation`: the serialized Mutation. `version`: the version the
    entity must still have for the write to be applied; ABSENT: there must still be none; 0: no
    guard. `incomplete`: a new entity whose id is allocated before the commit; until then its `key`
    is a stand-in. `before`: the serialized entity as it was, b"" if there was none; None: not
    known, or not needed (`engine/images.py`).
    """

    __slots__ = ("before", "deletes", "incomplete", "key", "mutation", "version")

    def __init__(
        self,
        key: bytes,
        mutation: bytes,
        version: int,
        deletes: bool,
        incomplete: bool,
        before: bytes | None = None,
    ) -> None:
        self.key = key
        self.mutation = mutation
        self.version = version
        self.deletes = deletes
        self.incomplete = incomplete
        self.before = before

    def is_overtaken(self, version: int | None) -> bool:
        """Whether the guard refuses the write. `version`: the version that is stored now; None if
        there is no entity."""
        if self.version == ABSENT:
            return version is not None
        return bool(self.version) and version != self.version


class Handled:
    """One handled entity of the query.

    Plain data, so that it can come from another process and does not keep the page in memory.
    """

    # Class attributes, so that creating one of millions sets only two.
    writes: Sequence[Write] = ()
    incomplete: bool = False
    """At least one of its writes has an incomplete key."""
    size: int = 0
    """Bytes of its mutations."""
    unchanged: int = 0
    """1: the entity itself was put, and nothing had changed."""
    unwritten: bool = False
    """The handler has changed the entity, and has not put it after that."""
    log_lines: Sequence[LogLine] = ()
    failure: Failure | None = None
    conflicts: int = 0
    strain: float = 0.0
    """Its conflicts, weighted: those over other entities count less (NEIGHBOUR_PATIENCE)."""
    refused: Set[tuple[bytes, int]] = frozenset()
    """Keys and versions of the guards that refused its last commit."""
    vanished: bool = False
    reads: Sequence[bytes] = ()
    """Keys of what the handler has read through its client, and marks of its queries."""
    together: int = 1
    """How many entities, from this one on, were handled by the call that has read this."""
    number: int = 0
    """Its number in `WrittenLately`."""
    before: Any = None
    """The PageEntity as it was read, for a dry run."""

    def __init__(self, key: bytes, cursor: bytes) -> None:
        self.key = key
        self.cursor = cursor

    @classmethod
    def gone(cls, key: bytes, cursor: bytes) -> Handled:
        """An entity that was deleted, or no longer matches the query."""
        item = cls(key, cursor)
        item.vanished = True
        return item

    def set_writes(self, writes: Sequence[Write]) -> None:
        self.writes = writes
        size = 0
        for write in writes:
            size += len(write.mutation)
            if write.incomplete:
                self.incomplete = True
        self.size = size

    def drop_writes(self) -> None:
        self.writes = ()
        self.incomplete = False
        self.size = 0
        self.unchanged = 0
        self.unwritten = False

    def reset(self) -> None:
        """Forget what the handler did, because it is about to be called again."""
        self.drop_writes()
        self.failure = None
        self.log_lines = ()

    def adopt(self, again: Handled) -> None:
        """Take the outcome of handling the same entity again, after `reset`."""
        self.writes = again.writes
        self.incomplete = again.incomplete
        self.size = again.size
        self.unchanged = again.unchanged
        self.unwritten = again.unwritten
        self.log_lines = again.log_lines
        self.failure = again.failure
        self.before = again.before

    def fail(self, step: str, error: str, traceback: str = "") -> None:
        """Turn the entity into a failure; it writes nothing."""
        self.drop_writes()
        key = key_text(key_of(self.key))
        self.failure = Failure(key, step, error, traceback, timestamp())


def written(write: Write) -> Any:
    """The message inside the mutation: an Entity for a put, a Key for a delete."""
    mutation = Mutation.FromString(write.mutation)
    return getattr(mutation, mutation.WhichOneof("operation"))


def moves_in_query(read: Any, key: bytes, write: Write, ranged: frozenset[str]) -> bool:
    """Whether a write changes where the query finds the entity."""
    if write.deletes:
        return False
    after = written(write)
    if write.key != key:
        # Its former state is unknown here; an entity of the same kind may belong to the query.
        return bool(after.key.path[-1].kind == key_of(key).path[-1].kind)
    before = EntityPb.FromString(read.SerializeToString()).properties
    for name in ranged:
        # A nested property is named with a dot: then compare the property that contains it.
        plain = name in before or name in after.properties
        top = name if plain else name.partition(".")[0]
        if before.get(top) != after.properties.get(top):
            return True
    return False
