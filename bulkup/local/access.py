"""A file of the embedded Datastore, as `load` and `dump` use it."""

from __future__ import annotations

import os
import signal
import sqlite3
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import grpc

from bulkup.core.closing import Closing
from bulkup.core.errors import StateError, UsageError
from bulkup.local import messages as m
from bulkup.local.encoding import Partition
from bulkup.local.service import Service
from bulkup.local.status import RpcError
from bulkup.local.storage import Storage

_ALLOCATED_FROM = 1 << 52
"""The embedded Datastore allocates ids from here on."""


class ReadableFile(Closing):
    """One partition of a file, for reading; a context manager."""

    is_shared = False
    """Whether others may write to the file while it is being read."""

    def __init__(self, place: Partition) -> None:
        self.place = place

    @abstractmethod
    def _answer(self, method: str, request: Any) -> bytes:
        """The serialized response to a read call."""

    def _check_partition(self) -> None:
        """Check the partition with an empty read. If it is not valid, close and raise
        UsageError."""
        try:
            list(self.entities("", limit=0))
        except RpcError as error:
            self.close()
            raise UsageError(error.message) from error
        except BaseException:
            self.close()
            raise

    def count(self, kind: str, namespace: str | None = None) -> int:
        """The number of entities of a kind, or of all kinds if `kind` is empty. `namespace`, if
        given, replaces the partition's."""
        request = self._request(m.RunAggregationQueryRequest, namespace)
        query = request.aggregation_query
        query.nested_query.CopyFrom(_query(kind))
        query.aggregations.add(alias="n").count.SetInParent()
        raw = self._answer("RunAggregationQuery", request)
        answer = m.RunAggregationQueryResponse.FromString(raw)
        found = answer.batch.aggregation_results[0].aggregate_properties["n"]
        return int(found.integer_value)

    def count_all(self, kinds: Sequence[str], namespaces: Sequence[str]) -> int:
        """The number of entities in several kinds and namespaces; an empty sequence means all."""
        return sum(
            self.count(kind, namespace)
            for namespace in namespaces or ("", *self.names("__namespace__"))
            for kind in kinds or ("",)
        )

    def entities(self, kind: str, *, limit: int | None = None) -> Iterator[Any]:
        """Entity messages in key order, read page by page; of all kinds when `kind` is empty."""
        return self._read(kind, self.place.namespace, m.ReadOptions(), limit)

    def everything(self, kinds: Sequence[str], namespaces: Sequence[str]) -> Iterator[Any]:
        """Like `entities`, for several kinds and namespaces, one after another, all read as of the
        same time. An empty sequence means all."""
        options = m.ReadOptions()
        for namespace in namespaces or ("", *self.names("__namespace__")):
            for kind in kinds or ("",):
                yield from self._read(kind, namespace, options)

    def _read(
        self, kind: str, namespace: str, options: Any, limit: int | None = None
    ) -> Iterator[Any]:
        """Read at the time in `options`. If it has none and the file is shared, the first page sets
        it."""
        request = self._request(m.RunQueryRequest, namespace)
        request.query.CopyFrom(_query(kind))
        request.read_options.CopyFrom(options)
        if limit is not None:
            request.query.limit.value = limit
        while True:
            raw = self._answer("RunQuery", request)
            batch = m.RunQueryResponse.FromString(raw).batch
            for result in batch.entity_results:
                yield result.entity
            if self.is_shared and batch.HasField("read_time"):
                options.read_time.CopyFrom(batch.read_time)
                request.read_options.CopyFrom(options)
            if batch.more_results != m.QueryResultBatch.NOT_FINISHED:
                return
            request.query.start_cursor = batch.end_cursor
            if limit is not None:
                request.query.limit.value -= len(batch.entity_results)

    def names(self, what: str) -> list[str]:
        """The names of all `__kind__` (in this namespace) or `__namespace__` entities, without the
        default namespace, which has no name."""
        found = (one.key.path[-1] for one in self.entities(what))
        return [element.name for element in found if element.name]

    def _request(self, kind: Any, namespace: str | None = None) -> Any:
        request = kind(project_id=self.place.project, database_id=self.place.database)
        place = request.partition_id
        place.project_id, place.database_id, place.namespace_id = self.place
        if namespace is not None:
            place.namespace_id = namespace
        return request


class LocalFile(ReadableFile):
    """One partition of a file that this process opens without a server. The file stays locked until
    `close`.

    Raises StateError when the file cannot be opened, UsageError when the partition is not valid.
    """

    def __init__(self, path: str | os.PathLike[str], place: Partition) -> None:
        super().__init__(place)
        self._storage = Storage(os.fspath(path), may_defer=False)
        self._service = Service(self._storage)
        self._check_partition()

    def close(self) -> None:
        self._storage.close()

    def _answer(self, method: str, request: Any) -> bytes:
        calls = {
            "RunQuery": self._service.run_query,
            "RunAggregationQuery": self._service.run_aggregation_query,
        }
        return self._call(calls[method], request)

    def put(self, entities: Sequence[Any]) -> None:
        """Write all entities or none. Incomplete keys get ids.

        Raises RpcError with INVALID_ARGUMENT when one cannot be stored, StateError when the file
        cannot be written.
        """
        self._reserve(entities)
        request = m.CommitRequest(
            project_id=self.place.project,
            database_id=self.place.database,
            mode=m.CommitRequest.TRANSACTIONAL,
            mutations=[m.Mutation(upsert=entity) for entity in entities],
        )
        request.single_use_transaction.read_write.SetInParent()
        self._call(self._service.commit, request)
        if self._storage.wants_checkpoint.is_set():
            self._storage.checkpoint()

    def _reserve(self, entities: Sequence[Any]) -> None:
        """Reserve ids that another file may have allocated, so that this one never allocates
        them."""
        keys = [e.key for e in entities if e.key.path and e.key.path[-1].id >= _ALLOCATED_FROM]
        if not keys:
            return
        request = m.ReserveIdsRequest(
            project_id=self.place.project, database_id=self.place.database, keys=keys
        )
        self._call(self._service.reserve_ids, request)

    def _call(self, method: Any, request: Any) -> bytes:
        try:
            # An interrupted call would leave its SQLite transaction open.
            with uninterrupted():
                return bytes(method(request.SerializeToString()))
        except RpcError as error:
            if error.code is grpc.StatusCode.INVALID_ARGUMENT:
                raise
            raise StateError(f"{self._storage.path} cannot be used: {error.message}") from error
        except sqlite3.Error as error:
            raise StateError(
                f"{self._storage.path} cannot be used ({error}); check that the disk is not full"
            ) from error


class OpenFile(LocalFile):
    """One partition of a file that this process already has open; `close` leaves the file open."""

    def __init__(self, storage: Storage, place: Partition) -> None:
        ReadableFile.__init__(self, place)
        self._storage = storage
        self._service = Service(storage)
        self._check_partition()

    def close(self) -> None: ...


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the block ends."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _query(kind: str) -> Any:
    query = m.Query()
    if kind:
        query.kind.add(name=kind)
    return query
