"""Tells the entities that a run makes from those that it found, so that it does not handle its own.

A handler that puts new entities of the queried kind (a copy, a new key for an old entity) may put
them where the scan has not been yet. They are recognized in one of two ways:

By time. What was created after the run began to make entities is left out. Both times are the
server's: the entity's `create_time`, which a later put keeps, and the last `update_time` of the run
record before the first commit that may make an entity. The latter is kept in the run record, so
that any machine can resume the run. What live users create from then on is left out, too; an entity
that one of them deletes and creates again counts as new.

By key. Where the server gives no such time (an emulator; results of keys only), the checkpoint
keeps the keys of new entities on disk. Whether a put makes a new entity is not known before it is
sent, so its key is looked up first. Only that checkpoint can resume the run.

What a handler makes through its client, and not through the updater, is recognized by time alone.

None of this concerns a run that puts nothing but the entities it is given.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from bulkup.core.errors import QueryError
from bulkup.datastore.keys import key_bytes, key_of, key_text
from bulkup.datastore.messages import Mutation
from bulkup.datastore.pages import created_ns
from bulkup.datastore.rpc import Rpc
from bulkup.engine.handled import Handled, Write
from bulkup.engine.scan import QueryPlan
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.lease import Lease
from bulkup.state.record import Made


class MadeEntities:
    """The entities that a run makes and its query may find."""

    def __init__(
        self,
        query: QueryPlan,
        rpc: Rpc,
        lease: Lease,
        checkpoint: Checkpoint,
        *,
        shared: bool = False,
    ) -> None:
        """`shared`: the run is cut into ranges, and other ranges may make entities that this range
        meets. So from the start, this range leaves out what was created after the time in the run
        record, if the server says when it was created."""
        self._query = query
        self._kinds = frozenset(kind.name for kind in query.pb.kind)
        self._rpc = rpc
        self._lease = lease
        self._checkpoint = checkpoint
        self._by_key: bool | None = None
        """Whether entities are recognized by key; None if that is not known yet."""
        self._thread = threading.get_ident()
        self._since_ns = 0
        self._is_behind = False
        """A handler writes through its client, and `catch_up` has not prepared for that yet."""
        self.is_made: Callable[[Any], bool] | None = None
        """Whether the run has made the entity of a PageResult; None if it has made none so far."""
        self._is_shared = shared
        self._is_untold = shared and not lease.record.made.since_ns
        """In a shared run, the server does not say when entities were created."""
        if shared:
            self._by_key = False
            self._since_ns = lease.record.made.since_ns
            self.is_made = self._is_younger_if_told if self._since_ns else None
        elif lease.record.made != Made():
            self._watch(lease.record.made)

    def _watch(self, made: Made) -> None:
        if made.known_in is not None:
            self._by_key = True
            self._checkpoint.begin_making(0)  # an older copy of the checkpoint may lack the table
            self._checkpoint.syncs_batches = True
            self.is_made = self._is_known
        else:
            self._by_key = False
            self._since_ns = made.since_ns
            self.is_made = self._is_younger

    def _is_younger(self, result: Any) -> bool:
        at_ns = created_ns(result)
        if not at_ns:
            raise QueryError(
                "this server says when an entity was created, but not in the results of this "
                f"query: {key_text(key_of(result.entity.key))} may be one that the run has made, "
                "and handling these would never end; put new entities of another kind, or query "
                "keys only and read each with self.client.get"
            )
        return at_ns > self._since_ns

    def _is_younger_if_told(self, result: Any) -> bool:
        at_ns = created_ns(result)
        self._is_untold = self._is_untold or not at_ns
        return at_ns > self._since_ns

    def _is_known(self, result: Any) -> bool:
        return self._checkpoint.is_made(result.entity.key)

    def client_commits(self) -> None:
        """A handler is about to write through its client; perhaps it makes entities.

        Raises HeldError, CallError.
        """
        if self._by_key is None and self._query.meets_new_entities:
            self._is_behind = True
            if threading.get_ident() == self._thread:
                self.catch_up()

    def catch_up(self) -> None:
        """Called by the run's thread before it looks at a page. Raises HeldError, CallError."""
        if self._is_behind:
            self._is_behind = False
            self._begin()

    def about_to_send(self, items: Iterable[Handled]) -> None:
        """Called before the writes of these entities are sent, if some are of other entities.

        Raises HeldError, CallError.
        """
        writes = [
            write
            for item in items
            for write in item.writes
            if not (write.version > 0 or write.deletes or write.key == item.key)
            and self._may_be_found(write)
        ]
        if not writes:
            return
        if self._is_shared and self._is_untold:
            raise QueryError(
                "it makes entities that its own query finds, and Datastore does not say here when "
                "an entity was created, so other ranges would handle them again; run it without "
                "--ranges"
            )
        if self._by_key is None:
            self._begin()
        if self._by_key:
            self._remember(writes)

    def _may_be_found(self, write: Write) -> bool:
        if not self._query.meets_new_entities:
            return False
        key = key_of(write.key)
        if key.partition_id.namespace_id != self._query.namespace:
            return False
        return self._query.is_kindless or key.path[-1].kind in self._kinds

    def _begin(self) -> None:
        """The first commit that may make an entity is about to be sent."""
        times = self._lease.times()
        if times is None or (self._query.keys_only and not self._keys_have_times()):
            self._by_key = True  # noted in the record once an entity is really made
        else:
            self._note(Made(since_ns=times.updated_ns, record_ns=times.created_ns))

    def _keys_have_times(self) -> bool:
        """The service gives no times with results of keys only; the Firestore emulator does."""
        first = type(self._query.pb)()
        first.CopyFrom(self._query.pb)
        first.limit.value = 1
        answer = self._rpc.page(first, self._query.namespace).result()
        return any(result.create_time for result in answer.batch.entity_results)

    def _note(self, made: Made) -> None:
        self._checkpoint.begin_making(made.since_ns)
        self._lease.update(lambda record: replace(record, made=made))
        self._watch(made)

    def _remember(self, writes: Iterable[Write]) -> None:
        new, unsure = [], {}
        for write in writes:
            if Mutation.FromString(write.mutation).HasField("insert"):
                new.append(write.key)
            else:
                unsure[key_bytes(key_of(write.key))] = write.key
        there = self._rpc.lookup([key_of(key) for key in unsure])
        new += [key for canonical, key in unsure.items() if canonical not in there]
        if not new:
            return
        if self.is_made is None:
            self._note(Made(known_in=self._checkpoint.status().file_id))
        self._checkpoint.remember_made(new)
