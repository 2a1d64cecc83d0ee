"""One call of a handler: what it puts, deletes and logs, and what guards each write.

Writes are kept back until the handler returns, so a handler that raises has written nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from google.cloud.datastore import Entity, Key

from bulkup.authoring.function_updater import FunctionUpdater
from bulkup.authoring.writes import WriteSink
from bulkup.core.clock import timestamp
from bulkup.core.limits import LARGE_BYTES, check_key_to_write, check_whole
from bulkup.core.model import LogLine
from bulkup.datastore.doubts import Doubts
from bulkup.datastore.entity_changes import (
    is_changed,
    is_changed_since,
    is_untouched,
    stored_values,
)
from bulkup.datastore.entity_patch import encode_put, patched
from bulkup.datastore.keys import key_bytes, key_of, key_to_pb
from bulkup.datastore.lazy_entity import (
    LazyEntity,
    has_come_to_nothing,
    is_moved,
    page_entity,
    read_version,
)
from bulkup.datastore.messages import EntityPb, Mutation, Pb
from bulkup.datastore.new_key import NewKey
from bulkup.datastore.raw_requests import put_mutation
from bulkup.datastore.reads import ABSENT
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.stray_attributes import check_no_stray
from bulkup.datastore.user_client import UserClient
from bulkup.engine.call_failure import fail_with
from bulkup.engine.call_setup import CallSetup
from bulkup.engine.client_writes import ClientWrites
from bulkup.engine.handled import Handled, Write, moves_in_query
from bulkup.engine.hints import Hints
from bulkup.engine.new_ids import STAND_IN, NewIds
from bulkup.engine.previewed import CallReads, Previewed

_FAIL: Any = Mutation.FAIL

NOT_PUT: Any = object()
_PUT_AS_ANOTHER: Any = object()
"""What was put under the current entity's key is another object, for example a copy of it."""


class HandlerCall(WriteSink):
    """What the current handler call asks for. One object serves many calls, one after the other."""

    def __init__(self, setup: CallSetup) -> None:
        updater, query = setup.updater, setup.query
        self._updater = updater
        self._handle_entity: Callable[[Any], Any] = setup.calls or updater.handle_entity
        self._keys_only = query.keys_only
        self._ranged = query.ranged
        self._keeps_before = setup.keeps_before
        self._keeps_images = setup.keeps_images
        self._own_is_whole = setup.keeps_images and not query.keys_only
        self._image: bytes | None = None
        """The current entity as it was read. Kept from its first write on, because a put may patch
        its message."""
        self._in_place = not setup.keeps_before and not query.ranged
        """Patch the message that was read: nothing compares with it afterwards."""
        self._changed = False
        """The message of the current entity may differ from what was read."""
        self._looks_for_unwritten = not updater.allow_unwritten_changes
        self.may_change_after_put = not isinstance(updater, FunctionUpdater)
        self._put_as: Any = NOT_PUT
        """How the current entity was last put: as its message (None), or as a copy (a tuple for
        `is_changed_since`)."""
        self.moves = False
        """A write has changed a property that the query orders or ranges on."""
        self._rewrite = updater.rewrite_unchanged
        self._writes: dict[bytes, Write | None] = {}
        """Writes by key; None: a put that changed nothing."""
        self._log_lines: list[LogLine] = []
        self.own: LazyEntity
        self._key = b""
        self._version = 0
        self._fresh: Iterator[int] = count(setup.fresh_from + 1)
        self._made: set[bytes] = set()
        """Keys of new entities whose ids this call has looked at."""
        self.previewed = Previewed() if setup.keeps_before else None
        """What a dry run would have written."""
        self.reads = CallReads(self._writes, self.previewed)
        self.reads.on_committed = self._note_committed
        self.reads.keeps_messages = setup.keeps_images
        self._once_more = False
        self._client_writes: ClientWrites | None = None
        """None: no call has written through its client."""
        self._versions = self.reads.versions
        self._cached: dict[bytes, Any] = {}
        """The content of this handler's `ReadCache`, if it has one."""
        self.hints = Hints(updater)
        """What was noticed about the updater's code."""
        self._doubts: Doubts = []
        """The doubts about the entity that is being put."""
        client = getattr(updater, "client", None)
        self._namespaces = query.namespace, getattr(client, "namespace", None) or query.namespace
        """The namespaces that the updater writes to without a warning."""
        self._new_ids = NewIds(None)
        self._place: tuple[str, str] | None = None
        if isinstance(client, UserClient):  # otherwise the updater has made its own client
            client.note_reads_of(updater)
            self._new_ids = NewIds(client._rpc)
            self._place = client._rpc.project, client._rpc.database

    def _note_committed(self, versions: list[tuple[bytes, int]]) -> None:
        self._cached.clear()
        if self._client_writes is None:
            self._client_writes = ClientWrites(self._versions)
        self._client_writes.note(page_entity(self.own), versions)

    def _has_committed(self, entity: LazyEntity) -> bool:
        """Whether this call has written its entity through its client."""
        writes = self._client_writes
        return writes is not None and writes.has(page_entity(entity), self._key)

    def allocates_with(self, rpc: Rpc) -> None:
        """From now on allocate ids over this connection."""
        self._new_ids = NewIds(rpc)

    def _keep_before(self, item: Handled, pb: Any) -> None:
        """Keep what was read, if a dry run needs it. It is looked at later, so fail here if one of
        its values is corrupt."""
        if self._keeps_before:
            item.before = pb
        EntityPb.FromString(pb.SerializeToString())

    def _note_outcome(self, item: Handled, entity: LazyEntity, read: Any) -> None:
        """Note what the handler asked for, after it has returned."""
        if entity.__dict__:
            try:
                check_no_stray(entity)
            except TypeError as error:
                fail_with(self._updater, item, error)
                if self._changed:
                    has_come_to_nothing(entity)
                return
        if self._writes:
            if self._cached:
                self._forget_written()
            if self._once_more and self._fail_if_committed(item, read):
                return
            asked: tuple[Any, ...] = tuple(self._writes.values())
            if None in asked:
                asked = tuple(write for write in asked if write is not None)
                item.unchanged = int(self._writes.get(item.key, item) is None)
            if len(asked) == 1 and not asked[0].incomplete:  # the common case, without a loop
                item.writes, item.size = asked, len(asked[0].mutation)
            else:
                item.set_writes(asked)
            if self._ranged and not self.moves:
                self.moves = any(
                    moves_in_query(read, item.key, write, self._ranged) for write in asked
                )
        if (
            self._looks_for_unwritten
            and (self.may_change_after_put or self._put_as is NOT_PUT)
            and not is_untouched(entity)
        ):
            item.unwritten = self._is_unwritten(entity)

    def _forget_written(self) -> None:
        """Drop the entities that this call writes from the cache, so that they are read again."""
        for key in self._writes:
            self._cached.pop(key_bytes(key_of(key)) if key == self._key else key, None)

    def _fail_if_committed(self, item: Handled, read: Any) -> bool:
        if self._client_writes is None:
            return False
        why = self._client_writes.why_refused(read, self._key, self._writes.values())
        if why is not None:
            item.fail("handle", why)
        return why is not None

    def _is_unwritten(self, entity: LazyEntity) -> bool:
        """Whether the handler has changed the entity since it was read or put."""
        put_as, key = self._put_as, self._key
        if put_as is NOT_PUT:
            # Another object may have been put under its key, also through the client.
            if key in self._writes or not is_changed(entity):
                return False
            return not self._has_committed(entity)
        if put_as is _PUT_AS_ANOTHER:
            return False
        changed = is_changed(entity) if put_as is None else is_changed_since(entity, *put_as)
        write = self._writes.get(key) if changed else None
        return changed and not (write is not None and write.deletes)

    # --- called by the updater ---

    def put(self, entity: Entity) -> None:
        # The common case first: the handled entity itself, whose message may be patched in place.
        if entity is not self.own or is_moved(entity):
            self._put_other(entity)
            return
        if self._keys_only:
            raise TypeError(
                "this entity came from a keys-only query and has no properties; putting it would "
                "erase those it has in Datastore (drop keys_only from the query)"
            )
        if self._own_is_whole and self._image is None:
            self._image = (
                page_entity(entity).SerializeToString() if self._version != ABSENT else b""
            )
        try:
            pb = patched(entity, in_place=self._in_place, checked=True, doubts=self._doubts)
        except BaseException as error:
            self._changed = self._changed or self._in_place
            self._doubts.clear()
            if isinstance(error, RecursionError):
                raise ValueError("cannot put an entity that contains itself") from error
            raise
        if self._doubts:
            self.hints.of_values(self._doubts)
        if pb is None:
            self._put_as = None
            if not (self._changed or self._rewrite or self._version == ABSENT):
                self._add(self._key, None)
                return
            # An earlier put in this call has patched the message; that is the entity now.
            pb = page_entity(entity)
        elif pb is page_entity(entity):
            self._changed = True
            self._put_as = None
        elif self.may_change_after_put:
            self._put_as = pb, *stored_values(entity)
        else:
            self._put_as = None
        self._add_put(self._key, pb, self._version)

    def _put_other(self, entity: Entity) -> None:
        # A copy of the handled entity shares its message, which an earlier put may have patched.
        twin = isinstance(entity, LazyEntity) and page_entity(entity) is page_entity(self.own)
        rewrite = self._rewrite or (twin and self._changed)
        doubts: Doubts = []
        check_no_stray(entity)
        pb = encode_put(entity, rewrite=rewrite, checked=True, doubts=doubts)
        if doubts:
            self.hints.of_values(doubts)
        if entity is self.own:  # under another key
            self._put_as = patched(entity), *stored_values(entity)
        elif self._put_as is not NOT_PUT and entity.key == self.own.key:
            self._put_as = _PUT_AS_ANOTHER
        if pb is None:
            self._add(key_bytes(key_to_pb(entity.key)), None)
            return
        check_key_to_write(pb.key, self._place, complete=False)
        self._look_at_namespace(pb.key, "puts")
        if not pb.key.path[-1].WhichOneof("id_type"):
            self._put_new(entity, pb)
            return
        key = key_bytes(pb.key)
        self._add_put(key, pb, self._version_of(key, entity))

    def _look_at_namespace(self, key: Pb, does: str) -> None:
        namespace = key.partition_id.namespace_id
        if namespace not in self._namespaces:
            self.hints.of_namespace(key.path[-1].kind, namespace, self._namespaces[0], does)

    def _put_new(self, entity: Entity, pb: Any) -> None:
        """Put a new entity. Its id is allocated with those of the whole batch, unless the handler
        looks at it earlier."""
        size = pb.ByteSize()
        if size > LARGE_BYTES:
            check_whole(pb, size)
        number = next(self._fresh)
        fresh = b"incomplete %d" % number
        write = Write(fresh, Mutation(insert=pb).SerializeToString(), 0, False, True, b"")
        self._add(fresh, write)

        def id_of_write() -> int:
            if write.incomplete:
                self._complete(write, number)
            return int(key_of(write.key).path[-1].id)

        entity.key = NewKey.of(entity.key, id_of_write)
        if entity is self.own:  # what was put is a copy: this object has a new key now
            self._put_as = _PUT_AS_ANOTHER

    def _is_open(self) -> bool:
        """Whether the updater may put and delete."""
        return self._updater._open_sink is self

    def _complete(self, write: Write, number: int) -> None:
        if self._writes.get(write.key) is not write or not self._is_open():
            raise RuntimeError(
                "the id of a new entity was asked for after the handle_entity call that put it; "
                "look at entity.key there, after put"
            )
        mutation = Mutation.FromString(write.mutation)
        key = mutation.insert.key
        if self._keeps_before:
            key.path[-1].id = STAND_IN + number
        else:
            key.CopyFrom(self._new_ids.complete(key))
        del self._writes[write.key]
        write.key, write.mutation = key_bytes(key), mutation.SerializeToString()
        write.incomplete = False
        self._add(write.key, write)
        self._made.add(write.key)

    def _add_put(self, key: bytes, pb: Any, version: int) -> None:
        data = pb.SerializeToString()
        if len(data) > LARGE_BYTES:
            check_whole(EntityPb.FromString(data), len(data))
        mutation = put_mutation(data, version)
        before = self._image if key == self._key else None
        if before is None and self._keeps_images:
            before = self._image_of(key, version)
        self._add(key, Write(key, mutation, version, False, False, before))

    def _image_of(self, key: bytes, version: int) -> bytes | None:
        """The serialized entity that a write with this guard replaces, b"" if there is none; None
        if this call has not read it."""
        if version == ABSENT:
            return b""
        if key == self._key:
            if self._image is None and self._own_is_whole:
                self._image = page_entity(self.own).SerializeToString()
            return self._image
        message = self.reads.messages.get(key)
        if message is None or not version or version != self._versions.get(key):
            return None
        image: bytes = message.SerializeToString()
        return image

    def _add_delete(self, key: bytes, mutation: Any, version: int) -> None:
        before = self._image_of(key, version) if self._keeps_images else None
        if version:
            mutation.base_version = version
            mutation.conflict_resolution_strategy = _FAIL
        self._add(key, Write(key, mutation.SerializeToString(), version, True, False, before))

    def replace_own(self, message: bytes | None) -> None:
        """Write the handled entity as this serialized message. b"" deletes it, None counts it as
        unchanged."""
        if message is None:
            self._add(self._key, None)
        elif message:
            before = self._image_of(self._key, self._version) if self._keeps_images else None
            mutation = put_mutation(message, self._version)
            self._add(self._key, Write(self._key, mutation, self._version, False, False, before))
        else:
            self.delete_own()

    def delete_own(self) -> None:
        if is_moved(self.own):
            super().delete_own()
            return
        if self._version == ABSENT:
            self._add(self._key, None)
            return
        mutation = Mutation()
        mutation.delete.ParseFromString(self._key)
        self._add_delete(self._key, mutation, self._version)

    def delete(self, key: Key) -> None:
        mutation = Mutation()
        mutation.delete.CopyFrom(key_to_pb(key))
        check_key_to_write(mutation.delete, self._place, complete=True)
        self._look_at_namespace(mutation.delete, "deletes")
        identity = key_bytes(mutation.delete)
        version = self._version_of(identity, None)
        if version == ABSENT:
            self._add(identity, None)  # whatever is there by now is newer than this delete
        else:
            self._add_delete(identity, mutation, version)

    def _version_of(self, key: bytes, entity: Entity | None) -> int:
        """The version that guards a write to this key: the one this call has read, whichever object
        is written; or the version of an entity that was kept from before the call.

        Keys-only results of the emulators carry version 0, which is not a version and guards
        nothing.
        """
        if key == self._key and self._version:
            return self._version
        if key in self._made:
            return ABSENT
        read = self._versions.get(key, 0)
        kept = 0
        if isinstance(entity, LazyEntity) and not is_moved(entity):
            kept = read_version(entity)
        return min(read, kept) if read > 0 and kept else kept or read

    def log(self, line: str) -> None:
        self._log_lines.append(LogLine.of(line, timestamp()))

    def _add(self, key: bytes, write: Write | None) -> None:
        if key in self._writes:
            del self._writes[key]  # the last write to a key wins, and moves to the end
        self._writes[key] = write
