"""Runs a user's code in an ndb context that sends its calls through the updater's client.

What a handler reads with ndb guards what it writes, as with `self.client`: both use the same client
for the run's own target. What it writes with ndb outside a transaction (`person.put()`,
`key.delete()`) is queued as with `self.put` and `self.delete`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from google.cloud.datastore import helpers
from google.cloud.ndb import context as ndb_context

from bulkup.authoring.ndb_private import context_state, datastore_api, message_of

if TYPE_CHECKING:
    from google.cloud.datastore import Client, Entity, Key

    from bulkup.authoring.updater import Updater

MAX_READ = 1000
"""How many entities, and keys, are remembered per call. A handler that reads more may stream."""


class NdbReads:
    """What the running handler call has read with ndb."""

    def __init__(self) -> None:
        self.entities: dict[Key, Entity] = {}
        self.found: set[bytes] = set()
        """Serialized keys of the entities that queries found."""

    def clear(self) -> None:
        self.entities.clear()
        self.found.clear()

    def note(self, entity: Entity) -> None:
        if len(self.entities) < MAX_READ:
            self.entities[entity.key] = entity

    def note_found(self, response: Any) -> None:
        for result in response.batch.entity_results:
            if len(self.found) < MAX_READ:
                self.found.add(message_of(result.entity.key).SerializeToString())

    def entity_of(self, key: Key, client: Client) -> Entity | None:
        """The stored entity of a key, if this call has read it; otherwise None."""
        entity = self.entities.get(key)
        if entity is None and _serialized(key) in self.found:
            for entity in client.get_multi([key]):
                self.note(entity)
        return self.entities.get(key)


class NdbClient:
    """The parts of a client that ndb needs. `write` is called with each entity that ndb puts."""

    def __init__(
        self, updater: Updater[Any], reads: NdbReads, write: Callable[[Entity], Entity]
    ) -> None:
        self._updater = updater
        self.project = updater.client.project
        self.namespace = updater.client.namespace
        self.database = updater.client.database or None
        self.stub = _Stub(updater, reads, write)


class _Stub:
    """The calls of Datastore's gRPC service, as ndb makes them; each is answered at once."""

    def __init__(
        self, updater: Updater[Any], reads: NdbReads, write: Callable[[Entity], Entity]
    ) -> None:
        self._updater = updater
        self._reads = reads
        self._write = write

    def __getattr__(self, name: str) -> Any:
        own = vars(type(self)).get(f"_{name}")

        def answer(request: Any) -> Any:
            return self._send(name, request) if own is None else own(self, request)

        def future(request: Any, **_: Any) -> Future[Any]:
            done: Future[Any] = Future()
            try:
                done.set_result(answer(request))
            except Exception as error:
                done.set_exception(error)
            return done

        return SimpleNamespace(future=future)

    def _send(self, name: str, request: Any) -> Any:
        # Here bulkup's client adds its guards, and refuses the writes of a dry run.
        return getattr(datastore_api(self._updater.client), name)(request=request)

    def _lookup(self, request: Any) -> Any:
        message = message_of(request)
        if message.HasField("read_options") and message.read_options.ByteSize():
            return self._send("lookup", request)  # in a transaction, for example
        keys = {helpers.key_from_protobuf(key): key for key in request.keys}
        found, missing = [], dict(keys)
        for entity in self._updater.client.get_multi(list(keys)):
            self._reads.note(entity)
            answer = helpers.entity_to_protobuf(entity)
            message_of(answer).key.CopyFrom(message_of(missing.pop(entity.key)))
            found.append(SimpleNamespace(entity=answer))
        return SimpleNamespace(
            found=found,
            missing=[SimpleNamespace(entity=SimpleNamespace(key=key)) for key in missing.values()],
            deferred=[],
        )

    def _run_query(self, request: Any) -> Any:
        response = self._send("run_query", request)
        self._reads.note_found(response)
        return response

    def _commit(self, request: Any) -> Any:
        updater = self._updater
        if request.transaction or updater._open_sink is None:
            return self._send("commit", request)
        results = []
        for mutation in request.mutations:
            key = None
            if message_of(mutation).HasField("delete"):
                updater.delete(helpers.key_from_protobuf(mutation.delete))
            else:
                entity = helpers.entity_from_protobuf(message_of(mutation.upsert))
                is_new = entity.key.is_partial
                entity = self._write(entity)
                updater.put(entity)
                key = entity.key.to_protobuf() if is_new else None
            results.append(SimpleNamespace(key=key or SimpleNamespace(path=())))
        return SimpleNamespace(mutation_results=results)


def _serialized(key: Key) -> bytes:
    data: bytes = message_of(key.to_protobuf()).SerializeToString()
    return data


@contextmanager
def ndb_context_of(client: NdbClient) -> Iterator[Any]:
    """Enter a new context, even inside one of the program's own: that may have another target."""
    before = context_state.context, context_state.toplevel_context
    context_state.context = context_state.toplevel_context = None
    try:
        context = ndb_context.Context(client)
        with context.use():
            yield context
    finally:
        context_state.context, context_state.toplevel_context = before


def run_pending(context: Any) -> None:
    """Send the calls that `put_async` and the like have begun."""
    context.eventloop.run()


def forget(context: Any) -> None:
    """Leave nothing of one handler call for the next: drop its cached reads, and the calls that a
    failed handler began without waiting for them."""
    context.cache.clear()
    context.batches.clear()
    context.eventloop.clear()
