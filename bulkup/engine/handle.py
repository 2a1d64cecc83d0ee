"""One entity through the user's code: entity -> writes, or a failure.

Writes are collected and handed on only when the handler came back; one that raises has written
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from google.cloud.datastore import Entity, Key

from bulkup.engine.scan import QueryPlan
from bulkup.errors import HeldError
from bulkup.facts import Failure
from bulkup.tracebacks import error_line, user_traceback
from bulkup.updater import Updater, WriteSink, handle_into
from bulkup.wire.client import Mutation, Wire
from bulkup.wire.entities import LazyEntity, is_moved, read_version
from bulkup.wire.keys import key_bytes, key_text, key_to_pb
from bulkup.wire.patches import encode_put
from bulkup.wire.retries import CallError

_FAIL: Any = Mutation.FAIL

ALLOCATED_PER_CALL = 500
"""Entities with new ones per AllocateIds call; each rarely has more than one."""


class Write:
    """One mutation that a handler asked for.

    `version`: what it must still have in Datastore for the write to land; 0: no guard.
    `incomplete`: a new entity whose id is allocated before the commit.
    """

    __slots__ = ("deletes", "incomplete", "key", "mutation", "version")

    def __init__(
        self,
        key: bytes,
        mutation: Any,
        version: int,
        *,
        incomplete: bool = False,
        deletes: bool = False,
    ) -> None:
        self.key = key
        self.deletes = deletes
        self.mutation = mutation
        self.version = version
        self.incomplete = incomplete
        if version:
            mutation.base_version = version
            mutation.conflict_resolution_strategy = _FAIL


class Handled:
    """What became of one entity of the query."""

    __slots__ = (
        "conflicts", "cursor", "entity_pb", "failure", "key", "key_pb", "log_lines", "size",
        "unchanged", "vanished", "version", "writes",
    )  # fmt: skip

    def __init__(self, entity_pb: Any, version: int, cursor: bytes) -> None:
        self.entity_pb = entity_pb
        self.key_pb = entity_pb.key
        self.key: bytes = key_bytes(self.key_pb)
        self.version = version
        self.cursor = cursor
        self.writes: list[Write] = []
        self.size = 0
        self.unchanged = 0
        self.log_lines: list[str] = []
        self.failure: Failure | None = None
        self.conflicts = 0
        self.vanished = False

    @classmethod
    def gone(cls, entity_pb: Any, cursor: bytes) -> Handled:
        """An entity that is no longer there, or no longer meant by the query."""
        item = cls(entity_pb, 0, cursor)
        item.vanished = True
        return item

    def drop_writes(self) -> None:
        self.writes = []
        self.size = 0
        self.unchanged = 0

    def fail(self, step: str, error: str, traceback: str = "") -> None:
        """The entity becomes a failure; it writes nothing."""
        self.drop_writes()
        self.failure = Failure(key_text(self.key_pb), step, error, traceback)


class Handler(WriteSink):
    """Calls the updater, one entity at a time."""

    def __init__(self, updater: Updater, query: QueryPlan) -> None:
        self._updater = updater
        self._keys_only = query.keys_only
        self._ranged = query.ranged
        self.moves = False
        """Some write changed a property by which the query finds its way."""
        self._rewrite = updater.rewrite_unchanged
        self._writes: dict[bytes, Write | None] = {}
        self._log_lines: list[str] = []
        self._entity: LazyEntity
        self._item: Handled
        self._fresh_keys = 0

    def handle(self, result: Any, *, cursor: bytes | None = None) -> Handled:
        """Handle a raw EntityResult. Never raises for what the user's code raises (except
        KeyboardInterrupt and its like)."""
        item = Handled(result.entity, result.version, result.cursor if cursor is None else cursor)
        self.handle_again(item, result)
        return item

    def handle_again(self, item: Handled, result: Any) -> None:
        """Handle an entity with what was just read; what it did before is forgotten."""
        item.drop_writes()
        item.failure = None
        item.log_lines = []
        item.entity_pb = result.entity
        item.version = result.version
        self._item = item
        self._entity = LazyEntity(result.entity, result.version)
        self._writes = {}
        self._log_lines = item.log_lines
        try:
            handle_into(self._updater, self._entity, self)
        except HeldError:
            raise  # of the run, heard while the handler read something
        except (Exception, SystemExit) as error:
            if isinstance(error, CallError) and error.worth_another_try:
                raise  # the Datastore is away: no fault of this entity
            item.fail("handle", error_line(error), user_traceback(error))
        else:
            for write in self._writes.values():
                if write is None:
                    item.unchanged += 1
                else:
                    item.writes.append(write)
                    item.size += write.mutation.ByteSize()
            if self._ranged and not self.moves:
                self.moves = any(_moves(item, write, self._ranged) for write in item.writes)

    # --- what the updater calls ---

    def put(self, entity: Entity) -> None:
        own = entity is self._entity
        if own and self._keys_only:
            raise TypeError(
                "this entity came from a keys-only query and has no properties; putting it would "
                "erase those it has in Datastore (drop keys_only from the query)"
            )
        pb = encode_put(entity, rewrite=self._rewrite)
        if pb is None:
            key = self._item.key if own else key_bytes(key_to_pb(entity.key))
            self._writes.pop(key, None)
            self._writes[key] = None
            return
        mutation = Mutation()
        if not pb.key.path[-1].WhichOneof("id_type"):
            self._fresh_keys += 1
            mutation.insert.CopyFrom(pb)
            fresh = b"incomplete %d" % self._fresh_keys
            self._add(Write(fresh, mutation, 0, incomplete=True))
            return
        key = key_bytes(pb.key)
        version = self._version_of(key, entity)
        if version:
            mutation.update.CopyFrom(pb)
        else:
            mutation.upsert.CopyFrom(pb)
        self._add(Write(key, mutation, version))

    def delete(self, key: Key) -> None:
        mutation = Mutation()
        mutation.delete.CopyFrom(key_to_pb(key))
        identity = key_bytes(mutation.delete)
        self._add(Write(identity, mutation, self._version_of(identity, None), deletes=True))

    def _version_of(self, key: bytes, entity: Entity | None) -> int:
        """What a write to this key is guarded by. Keys-only results of the emulators carry
        version 0, which says nothing, and guards nothing."""
        if key == self._item.key and self._item.version:
            return self._item.version
        if isinstance(entity, LazyEntity) and not is_moved(entity):
            return read_version(entity)
        return 0

    def log(self, line: str) -> None:
        self._log_lines.append(line)

    def _add(self, write: Write) -> None:
        self._writes.pop(write.key, None)
        self._writes[write.key] = write


def _moves(item: Handled, write: Write, ranged: frozenset[str]) -> bool:
    if write.deletes:
        return False
    after = getattr(write.mutation, write.mutation.WhichOneof("operation"))
    if write.key != item.key:
        # What it was before is not known here; one of the same kind may be of the query.
        return bool(after.key.path[-1].kind == item.key_pb.path[-1].kind)
    before = item.entity_pb.properties
    for name in ranged:
        # A nested one is named with a dot; the property that holds it has changed then.
        plain = name in before or name in after.properties
        top = name if plain else name.partition(".")[0]
        if before.get(top) != after.properties.get(top):
            return True
    return False


def allocate_ids(wire: Wire, items: Sequence[Handled]) -> list[Failure]:
    """Complete the keys of new entities before their commit, so that a retry writes the same.

    An entity whose handler made a key that the server refuses fails; gives these failures.
    Raises CallError when the server does not answer.
    """
    waiting = [item for item in items if any(w.incomplete for w in item.writes)]
    for start in range(0, len(waiting), ALLOCATED_PER_CALL):
        some = waiting[start : start + ALLOCATED_PER_CALL]
        try:
            _allocate(wire, some)
        except CallError as error:
            if error.code is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            for item in some:
                try:
                    _allocate(wire, [item])
                except CallError as its_own:
                    if its_own.code is not grpc.StatusCode.INVALID_ARGUMENT:
                        raise
                    item.fail("write", refusal(its_own))
    return [item.failure for item in waiting if item.failure]


def _allocate(wire: Wire, items: Sequence[Handled]) -> None:
    writes = [w for item in items for w in item.writes if w.incomplete]
    keys = wire.allocate_ids([w.mutation.insert.key for w in writes])
    for write, key in zip(writes, keys, strict=True):
        write.mutation.insert.key.CopyFrom(key)
        write.key = key_bytes(key)
        write.incomplete = False


def refusal(error: CallError) -> str:
    """What the server says against an entity, on one line."""
    return f"{error.code.name}: {' '.join(error.details[:500].split())}"
