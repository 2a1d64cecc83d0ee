"""The client that an updater gets: the official one, which also notes its reads.

Whatever a handler reads with it guards what the handler writes, by key: a put or delete is applied
only if nobody has changed the entity meanwhile, and a put of a missing entity only if it is still
missing.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from google.cloud.datastore import Client, Entity, Key

from bulkup.core.stop import refuse_in_fork
from bulkup.datastore.async_lookups import AsyncLookups
from bulkup.datastore.google_private import copy_of, datastore_api
from bulkup.datastore.keys import key_bytes, key_to_pb
from bulkup.datastore.lazy_entity import LazyEntity, has_come_to_nothing
from bulkup.datastore.reads import ABSENT, Reads, WatchedApi
from bulkup.datastore.rpc import Rpc

C = TypeVar("C", bound="UserClient")

_OPTIONS = "deferred", "transaction", "eventual", "retry", "timeout", "read_time"
"""The arguments of the official `get_multi` after `missing`, in its order."""


class UserClient(Client):  # type: ignore[misc]
    """An official client that notes what is read while a handler runs."""

    _rpc: Rpc
    _lookups: AsyncLookups | None = None
    _updater: Callable[[], Any] = staticmethod(lambda: None)
    """Returns the updater that this client belongs to. A weak reference, because the updater holds
    the client."""

    @classmethod
    def over(cls: type[C], rpc: Rpc, client: Client) -> C:
        """Create one for the same target as `client`."""
        copy = copy_of(client, cls)
        copy._rpc = rpc
        return copy

    def note_reads_of(self, updater: Any) -> None:
        """Note what the handler of this updater reads, if its sink wants it."""
        self._updater = weakref.ref(updater)

    @property
    def reads(self) -> Reads | None:
        """Where reads are noted; None if no handler is running."""
        updater = self._updater()
        sink = None if updater is None else updater._open_sink
        return None if sink is None else sink.reads

    @property
    def _datastore_api(self) -> Any:
        return self._watched_api()

    def _watched_api(self) -> Any:
        refuse_in_fork()
        api, reads = datastore_api(self), self.reads
        return api if reads is None else WatchedApi(api, reads)

    def get_multi(
        self, keys: Iterable[Key], missing: Any = None, *more: Any, **options: Any
    ) -> list[Entity]:
        """Like the official method, which is used if more than keys and `missing` is given.

        Entities that the handler has put or deleted in the same call are returned as they will be,
        except in a transaction or at a `read_time`. Raises CallError.
        """
        if missing is not None and missing != []:
            raise ValueError("missing must be None or an empty list")
        keys = list(keys)
        options.update(zip(_OPTIONS, more, strict=False))
        in_transaction = options.get("transaction") or self.current_transaction is not None
        written: Mapping[bytes, LazyEntity | None] = {}
        if not in_transaction and options.get("read_time") is None:
            written = self._written(keys)
        rest = [key for key in keys if _identity(key) not in written] if written else keys
        if in_transaction or any(value not in (None, False) for value in options.values()):
            found: list[Entity] = super().get_multi(rest, missing=missing, **options)
        else:
            found = self._lookup(rest, missing)
        return _merged(keys, found, written, missing) if written else found

    def get_in_order(self, keys: Sequence[Key]) -> list[Entity | None]:
        """What `Updater.get` returns. Raises CallError."""
        wanted = self._wanted(keys)
        written, known, rest = self._at_hand(wanted)
        if rest:
            self._count_request()
            found = self._rpc.lookup([*rest.values()])
            known.update((id_, found.get(id_)) for id_ in rest)
        return self._in_order(keys, written, known, rest)

    async def aget_in_order(self, keys: Sequence[Key]) -> list[Entity | None]:
        """Like `get_in_order`, without blocking the event loop."""
        wanted = self._wanted(keys)
        written, known, rest = self._at_hand(wanted)
        if rest:
            if self._lookups is None:
                self._lookups = AsyncLookups(self._rpc)
            known.update(await self._lookups.read(rest))
        return self._in_order(keys, written, known, rest)

    def _at_hand(
        self, wanted: dict[bytes, tuple[Key, Any]]
    ) -> tuple[Mapping[bytes, LazyEntity | None], dict[bytes, Any], dict[bytes, Any]]:
        """Divide the wanted keys: what is about to be written, what is known, what to look up."""
        reads = self.reads
        written = self._written([key for key, _ in wanted.values()])
        left = {id_: pb for id_, (_, pb) in wanted.items() if id_ not in written}
        cache = None if reads is None else reads.cache
        known = {} if cache is None else cache.known(left)
        return written, known, {id_: pb for id_, pb in left.items() if id_ not in known}

    def _in_order(
        self,
        keys: Sequence[Key],
        written: Mapping[bytes, LazyEntity | None],
        known: Mapping[bytes, Any],
        asked: Mapping[bytes, Any],
    ) -> list[Entity | None]:
        reads = self.reads
        entities: dict[bytes, Entity | None] = dict(written)
        for id_, result in known.items():
            version = ABSENT if result is None else result.version
            entity = None if result is None else LazyEntity(result.entity, version)
            entities[id_] = entity
            if reads is not None:
                reads.note(id_, version, None if result is None else result.entity)
                if reads.cache is not None and id_ in asked:
                    reads.cache.store(id_, result)
        return [entities[_identity(key)] for key in keys]

    def _wanted(self, keys: Sequence[Key]) -> dict[bytes, tuple[Key, Any]]:
        if any(key.project != self.project for key in keys):
            raise ValueError("Keys do not match project")
        return {key_bytes(pb): (key, pb) for key in keys for pb in [key_to_pb(key)]}

    def _lookup(self, keys: list[Key], missing: Any) -> list[Entity]:
        wanted = self._wanted(keys)
        self._count_request()
        results = self._rpc.lookup([pb for _, pb in wanted.values()])
        if missing is not None:
            missing.extend(Entity(key) for id_, (key, _) in wanted.items() if id_ not in results)
        reads = self.reads
        if reads is not None:
            for id_ in wanted:
                if id_ in results:
                    reads.note(id_, results[id_].version, results[id_].entity)
                else:
                    reads.note(id_, ABSENT)
        return [LazyEntity(results[i].entity, results[i].version) for i in wanted if i in results]

    def _count_request(self) -> None:
        if (reads := self.reads) is not None:
            reads.requests += 1

    def _written(self, keys: list[Key]) -> Mapping[bytes, LazyEntity | None]:
        """Those of the keys that are about to be written; None for a delete."""
        reads = self.reads
        if reads is None:
            return {}
        found: dict[bytes, LazyEntity | None] = {}
        for key in map(_identity, keys):
            written = reads.written(key)
            if written is None:
                continue
            found[key] = entity = None if written.entity is None else LazyEntity(written.entity)
            if not written.in_this_call:
                reads.note(key, ABSENT if entity is None else 0)
            elif entity is not None:
                has_come_to_nothing(entity)  # it is not what is stored, so putting it is a write
        return found


def _identity(key: Key) -> bytes:
    return key_bytes(key_to_pb(key))


def _merged(
    keys: list[Key],
    found: list[Entity],
    written: Mapping[bytes, LazyEntity | None],
    missing: Any,
) -> list[Entity]:
    """What was read and what is about to be written, in the order of the keys."""
    entities: dict[bytes, Entity | None] = {_identity(entity.key): entity for entity in found}
    entities.update(written)
    wanted = {_identity(key): key for key in keys}
    if missing is not None:
        missing.extend(Entity(key) for id_, key in wanted.items() if written.get(id_, key) is None)
    return [entities[id_] for id_ in wanted if entities.get(id_) is not None]


INSTEAD = "in a function, return what to write, and in a class, use self.put and self.delete"


class WriteInDryRunError(RuntimeError):
    """The updater used its client to write where it may only read."""


class _ReadOnlyApi:
    def __init__(self, api: Any, why: str) -> None:
        self._api = api
        self._why = why

    def __getattr__(self, name: str) -> Any:
        if name == "commit":
            raise WriteInDryRunError(self._why)
        return getattr(self._api, name)


class ReadOnlyClient(UserClient):
    """A client that refuses to commit, for a dry run."""

    _why = (
        "this is a dry run, so the updater cannot write through its client; "
        f"{INSTEAD}, which a dry run shows and a run guards"
    )

    @property
    def _datastore_api(self) -> Any:
        return _ReadOnlyApi(self._watched_api(), self._why)


class CheckClient(ReadOnlyClient):
    """A client that refuses to commit, for an updater's `check_before` and `check_after`."""

    _why = "a check only reads, so it cannot write through its client"
