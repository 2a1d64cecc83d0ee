"""One entity through the user's code: entity -> writes, or a failure.

Writes are collected and handed on only when the handler came back; one that raises has written
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from google.cloud.datastore import Entity, Key

from bulkup.authoring.updater import Updater, returned_something, writing_to
from bulkup.authoring.writes import WriteSink
from bulkup.core.errors import HeldError
from bulkup.core.model import Failure
from bulkup.core.user_traceback import error_line, user_traceback
from bulkup.datastore.call_error import CallError
from bulkup.datastore.entity_patch import encode_put, patched
from bulkup.datastore.keys import key_bytes, key_of, key_text, key_to_pb
from bulkup.datastore.lazy_entity import (
    LazyEntity,
    has_come_to_nothing,
    is_moved,
    page_entity,
    read_version,
)
from bulkup.datastore.messages import EntityPb, Mutation
from bulkup.datastore.raw_requests import put_mutation
from bulkup.datastore.rpc import Rpc
from bulkup.engine.scan import QueryPlan

_FAIL: Any = Mutation.FAIL

ALLOCATED_PER_CALL = 500
"""Entities with new ones per AllocateIds call; each rarely has more than one."""


class Write:
    """One mutation that a handler asked for, as it is sent.

    `key`: the serialized key. `mutation`: the serialized Mutation. `version`: what the entity must
    still have in Datastore for the write to land; 0: no guard. `incomplete`: a new entity whose id
    is allocated before the commit; its `key` is a stand-in until then.
    """

    __slots__ = ("deletes", "incomplete", "key", "mutation", "version")

    def __init__(
        self, key: bytes, mutation: bytes, version: int, deletes: bool, incomplete: bool
    ) -> None:
        self.key = key
        self.mutation = mutation
        self.version = version
        self.deletes = deletes
        self.incomplete = incomplete


class Handled:
    """What became of one entity of the query. Plain data, so that it can come from another
    process, and so that it does not hold the page it was read in."""

    # Class attributes, so that making one of millions sets two.
    writes: Sequence[Write] = ()
    incomplete: bool = False
    """One of its writes is."""
    size: int = 0
    """Bytes of its writes."""
    unchanged: int = 0
    log_lines: Sequence[str] = ()
    failure: Failure | None = None
    conflicts: int = 0
    vanished: bool = False
    before: Any = None
    """The PageEntity it was read as, for a dry run."""

    def __init__(self, key: bytes, cursor: bytes) -> None:
        self.key = key
        self.cursor = cursor

    @classmethod
    def gone(cls, key: bytes, cursor: bytes) -> Handled:
        """An entity that is no longer there, or no longer meant by the query."""
        item = cls(key, cursor)
        item.vanished = True
        return item

    def take(self, writes: Sequence[Write]) -> None:
        """What its handler asked for."""
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

    def fail(self, step: str, error: str, traceback: str = "") -> None:
        """The entity becomes a failure; it writes nothing."""
        self.drop_writes()
        self.failure = Failure(key_text(key_of(self.key)), step, error, traceback)


class Handler(WriteSink):
    """Calls the updater, one entity at a time. `keeps_before`: for a dry run, which compares.
    `fresh_from`: where the numbers of new entities begin, which several processes count."""

    def __init__(
        self,
        updater: Updater,
        query: QueryPlan,
        *,
        keeps_before: bool = False,
        fresh_from: int = 0,
    ) -> None:
        self._updater = updater
        self._handle_entity = updater.handle_entity
        self._keys_only = query.keys_only
        self._ranged = query.ranged
        self._keeps_before = keeps_before
        self._in_place = not keeps_before and not query.ranged
        """Nobody compares with what was read."""
        self._changed = False
        """The message of the handled entity may not be what was read any more."""
        self.moves = False
        """Some write changed a property by which the query finds its way."""
        self._rewrite = updater.rewrite_unchanged
        self._writes: dict[bytes, Write | None] = {}
        self._log_lines: list[str] = []
        self.own: LazyEntity
        self._key = b""
        self._version = 0
        self._fresh_keys = fresh_from

    @contextmanager
    def open(self) -> Iterator[None]:
        """Handlers may put, delete and log meanwhile."""
        with writing_to(self, self._updater):
            yield

    def handle(self, result: Any, key: bytes, cursor: bytes) -> Handled:
        """Handle a PageResult, of that serialized key, while `open`. Never raises for what
        the user's code raises (except KeyboardInterrupt and its like)."""
        item = Handled(key, cursor)
        self._handle(item, result)
        return item

    def handle_again(self, item: Handled, result: Any) -> None:
        """Handle an entity with what was just read; what it did before is forgotten."""
        item.drop_writes()
        item.failure = None
        item.log_lines = ()
        with self.open():
            self._handle(item, result)

    def _handle(self, item: Handled, result: Any) -> None:
        pb, version = result.entity, result.version
        self._key = item.key
        self._version = version
        self.own = entity = LazyEntity(pb, version)
        if self._writes:
            self._writes = {}
        self._changed = False
        if self._keeps_before:
            item.before = pb
        try:
            if not self._in_place:  # all its values are looked into afterwards
                EntityPb.FromString(pb.SerializeToString())
            returned: Any = self._handle_entity(entity)
            if returned is not None:
                raise returned_something(self._updater, returned)
        except HeldError:
            raise  # of the run, heard while the handler read something
        except (Exception, SystemExit) as error:
            if isinstance(error, CallError) and error.worth_another_try:
                raise  # the Datastore is away: no fault of this entity
            item.fail("handle", error_line(error), user_traceback(error))
            if self._changed:
                has_come_to_nothing(entity)
        else:
            if self._writes:
                self._note(item, pb)
        if self._log_lines:
            item.log_lines, self._log_lines = self._log_lines, []

    def _note(self, item: Handled, read: Any) -> None:
        asked: tuple[Any, ...] = tuple(self._writes.values())
        if None in asked:
            asked = tuple(write for write in asked if write is not None)
            item.unchanged = len(self._writes) - len(asked)
        item.take(asked)
        if self._ranged and not self.moves:
            self.moves = any(_moves(read, item.key, write, self._ranged) for write in asked)

    # --- what the updater calls ---

    def put(self, entity: Entity) -> None:
        # The common case: the handled entity itself, whose message nobody needs any more.
        if entity is not self.own or is_moved(entity):
            self._put_other(entity)
            return
        if self._keys_only:
            raise TypeError(
                "this entity came from a keys-only query and has no properties; putting it would "
                "erase those it has in Datastore (drop keys_only from the query)"
            )
        try:
            pb = patched(entity, in_place=self._in_place)
        except BaseException as error:
            self._changed = self._changed or self._in_place
            if isinstance(error, RecursionError):
                raise ValueError("cannot put an entity that contains itself") from error
            raise
        if pb is None:
            if not (self._changed or self._rewrite):
                self._add(self._key, None)
                return
            # What an earlier put has made of the message is what the entity is now.
            pb = page_entity(entity)
        elif pb is page_entity(entity):
            self._changed = True
        self._add_put(self._key, pb, self._version)

    def _put_other(self, entity: Entity) -> None:
        # A copy of the handled entity stands on its message, which an earlier put may have changed.
        twin = isinstance(entity, LazyEntity) and page_entity(entity) is page_entity(self.own)
        pb = encode_put(entity, rewrite=self._rewrite or (twin and self._changed))
        if pb is None:
            self._add(key_bytes(key_to_pb(entity.key)), None)
            return
        if not pb.key.path[-1].WhichOneof("id_type"):
            self._fresh_keys += 1
            fresh = b"incomplete %d" % self._fresh_keys
            self._add(fresh, Write(fresh, Mutation(insert=pb).SerializeToString(), 0, False, True))
            return
        key = key_bytes(pb.key)
        self._add_put(key, pb, self._version_of(key, entity))

    def _add_put(self, key: bytes, pb: Any, version: int) -> None:
        mutation = put_mutation(pb.SerializeToString(), version)
        self._add(key, Write(key, mutation, version, False, False))

    def delete_own(self) -> None:
        if is_moved(self.own):
            super().delete_own()
            return
        mutation = Mutation()
        mutation.delete.ParseFromString(self._key)
        self._add(self._key, _guarded(self._key, mutation, self._version, deletes=True))

    def delete(self, key: Key) -> None:
        mutation = Mutation()
        mutation.delete.CopyFrom(key_to_pb(key))
        identity = key_bytes(mutation.delete)
        version = self._version_of(identity, None)
        self._add(identity, _guarded(identity, mutation, version, deletes=True))

    def _version_of(self, key: bytes, entity: Entity | None) -> int:
        """What a write to this key is guarded by. Keys-only results of the emulators carry
        version 0, which says nothing, and guards nothing."""
        if key == self._key and self._version:
            return self._version
        if isinstance(entity, LazyEntity) and not is_moved(entity):
            return read_version(entity)
        return 0

    def log(self, line: str) -> None:
        self._log_lines.append(line)

    def _add(self, key: bytes, write: Write | None) -> None:
        if key in self._writes:
            del self._writes[key]  # the last one wins, and has its place at the end
        self._writes[key] = write


def _guarded(key: bytes, mutation: Any, version: int, *, deletes: bool = False) -> Write:
    if version:
        mutation.base_version = version
        mutation.conflict_resolution_strategy = _FAIL
    return Write(key, mutation.SerializeToString(), version, deletes, False)


def written(write: Write) -> Any:
    """What a put would store (an Entity message), or a deletion would remove (a Key)."""
    mutation = Mutation.FromString(write.mutation)
    return getattr(mutation, mutation.WhichOneof("operation"))


def _moves(read: Any, key: bytes, write: Write, ranged: frozenset[str]) -> bool:
    if write.deletes:
        return False
    after = written(write)
    if write.key != key:
        # What it was before is not known here; one of the same kind may be of the query.
        return bool(after.key.path[-1].kind == key_of(key).path[-1].kind)
    before = EntityPb.FromString(read.SerializeToString()).properties
    for name in ranged:
        # A nested one is named with a dot; the property that holds it has changed then.
        plain = name in before or name in after.properties
        top = name if plain else name.partition(".")[0]
        if before.get(top) != after.properties.get(top):
            return True
    return False


def allocate_ids(rpc: Rpc, items: Sequence[Handled]) -> list[Failure]:
    """Complete the keys of new entities before their commit, so that a retry writes the same.

    An entity whose handler made a key that the server refuses fails; gives these failures.
    Raises CallError when the server does not answer.
    """
    waiting = [item for item in items if item.incomplete]
    for start in range(0, len(waiting), ALLOCATED_PER_CALL):
        some = waiting[start : start + ALLOCATED_PER_CALL]
        try:
            _allocate(rpc, some)
        except CallError as error:
            if not error.is_invalid:
                raise
            for item in some:
                try:
                    _allocate(rpc, [item])
                except CallError as its_own:
                    if not its_own.is_invalid:
                        raise
                    item.fail("write", refusal(its_own))
    return [item.failure for item in waiting if item.failure]


def _allocate(rpc: Rpc, items: Sequence[Handled]) -> None:
    writes = [w for item in items for w in item.writes if w.incomplete]
    mutations = [Mutation.FromString(w.mutation) for w in writes]
    keys = rpc.allocate_ids([mutation.insert.key for mutation in mutations])
    for write, mutation, key in zip(writes, mutations, keys, strict=True):
        mutation.insert.key.CopyFrom(key)
        write.mutation = mutation.SerializeToString()
        write.key = key_bytes(key)
        write.incomplete = False
    for item in items:
        item.incomplete = False


def refusal(error: CallError) -> str:
    """What the server says against an entity, on one line."""
    return f"{error.code_name}: {' '.join(error.details[:500].split())}"
