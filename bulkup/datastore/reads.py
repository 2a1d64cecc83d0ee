"""What a handler has read through its client: the versions that guard what it writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bulkup.datastore.keys import key_of
from bulkup.datastore.messages import FULL, Pb
from bulkup.datastore.read_cache import ReadCache

MAX_MESSAGES = 1000
"""How many messages are kept. A handler that reads more in one call may be streaming a large
query."""

ABSENT = -1
"""Used in place of a version if there was no such entity. A put is then an insert."""


class Written(NamedTuple):
    """An uncommitted write. A read by key returns it, not what is stored."""

    entity: Pb | None
    """The Entity message; None: deleted."""
    in_this_call: bool
    """Written by the handler call that is running; otherwise by an earlier one of a dry run."""


class Reads:
    """What the handler call that is running has read, by serialized key.

    The threads of a handler share it.
    """

    def __init__(self) -> None:
        self.versions: dict[bytes, int] = {}
        """ABSENT: there was no such entity. 0: it exists, but its version is not known. Queries
        also note the `kind_mark` of their kind, because a write may change their results."""
        self.messages: dict[bytes, Pb] = {}
        """The Entity messages of these versions, if they are kept."""
        self.keeps_messages = False
        self.cache: ReadCache | None = None
        """The cache for `Updater.get`; None if each call asks the server."""
        self.on_commit: Callable[[], None] | None = None
        """Called before the handler writes through its client, on the thread that writes."""
        self.on_committed: Callable[[list[tuple[bytes, int]]], None] = lambda versions: None
        """Called with the keys that the handler has written through its client, and their new
        versions."""
        self.requests = 0
        """How many read requests were sent and waited for."""
        self.commits_itself = False
        """The handler has written through its client after reading. It would write again if it were
        called again."""
        self._historic: set[bytes] = set()
        """Transactions that read the past."""

    def written(self, key: bytes) -> Written | None:
        """The put or delete of a key that is not stored yet; None if there is none."""
        raise NotImplementedError

    def clear(self) -> None:
        self.versions.clear()
        self.messages.clear()
        self._historic.clear()

    def note(self, key: bytes, version: int, message: Pb | None = None) -> None:
        # The first of several reads counts. If the entity has changed in between, the handler has
        # seen two states of it, and the older guard makes sure that it is called again.
        if not self.versions.get(key):
            self.versions[key] = version
            if self.keeps_messages and message is not None and len(self.messages) < MAX_MESSAGES:
                self.messages[key] = message

    def note_lookup(self, response: Pb, options: Pb | None) -> None:
        """Note what a LookupResponse found and missed."""
        if self._reads_the_past(response, options):
            return
        for result in response.found:
            key = result.entity.key.SerializeToString(deterministic=True)
            self.note(key, result.version, result.entity)
        for result in response.missing:
            self.note(result.entity.key.SerializeToString(deterministic=True), ABSENT)

    def note_query(self, response: Pb, options: Pb | None, query: Pb | None) -> None:
        """Note what a query found. Keys-only and projection results may have no version;
        aggregations have no keys. `query` is None if it may be of any kind."""
        if self._reads_the_past(response, options):
            return
        self.note(kind_mark(query.kind[0].name if query is not None and query.kind else ""), 0)
        if response.DESCRIPTOR.name != "RunQueryResponse":
            return
        is_whole = response.batch.entity_result_type == FULL
        for result in response.batch.entity_results:
            key = result.entity.key.SerializeToString(deterministic=True)
            self.note(key, result.version, result.entity if is_whole else None)

    def note_begun(self, transaction: bytes, options: Pb | None) -> None:
        """Note a new transaction. `options`: its TransactionOptions."""
        if options is not None and options.read_only.HasField("read_time"):
            self._historic.add(transaction)

    def _reads_the_past(self, response: Pb, options: Pb | None) -> bool:
        """Whether this is a read of the past. An entity read at a `read_time` guards nothing,
        because its version is always an old one."""
        if options is None:
            return False
        if options.HasField("read_time"):
            return True
        if options.HasField("new_transaction"):
            self.note_begun(response.transaction, options.new_transaction)
        return (options.transaction or response.transaction) in self._historic


def kind_mark(kind: str) -> bytes:
    """Stands for all keys of a kind, or of all kinds (""). It can be mixed with serialized keys,
    because they never begin with its first byte."""
    return b"\0" + kind.encode()


def marks_of(key: bytes) -> tuple[bytes, bytes, bytes]:
    """A serialized key, and the marks of the queries that may find it."""
    return key, kind_mark(key_of(key).path[-1].kind), kind_mark("")


class WatchedApi:
    """The official client's API object. Notes its reads, and reports its writes to `Reads`."""

    def __init__(self, api: Any, reads: Reads) -> None:
        self._api = api
        self._reads = reads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    def lookup(self, request: Any, **options: Any) -> Any:
        self._reads.requests += 1
        response = self._api.lookup(request=request, **options)
        self._reads.note_lookup(_raw(response), _part(request, "read_options"))
        return response

    def run_query(self, request: Any, **options: Any) -> Any:
        self._reads.requests += 1
        response = self._api.run_query(request=request, **options)
        query = _part(request, "query")
        self._reads.note_query(_raw(response), _part(request, "read_options"), query)
        return response

    def run_aggregation_query(self, request: Any, **options: Any) -> Any:
        self._reads.requests += 1
        response = self._api.run_aggregation_query(request=request, **options)
        aggregation = _part(request, "aggregation_query")
        query = None if aggregation is None else aggregation.nested_query
        self._reads.note_query(_raw(response), _part(request, "read_options"), query)
        return response

    def commit(self, request: Any, **options: Any) -> Any:
        reads = self._reads
        reads.commits_itself = reads.commits_itself or bool(reads.versions)
        if reads.on_commit is not None:
            reads.on_commit()
        response = self._api.commit(request=request, **options)
        reads.on_committed(_written(request, _raw(response)))
        return response

    def begin_transaction(self, request: Any, **options: Any) -> Any:
        response = self._api.begin_transaction(request=request, **options)
        self._reads.note_begun(response.transaction, _part(request, "transaction_options"))
        return response


def _written(request: Any, response: Any) -> list[tuple[bytes, int]]:
    """The keys of a CommitRequest, without those that the server completes, and their versions."""
    mutations = request["mutations"] if isinstance(request, dict) else request.mutations
    written = []
    for mutation, result in zip(map(_raw, mutations), response.mutation_results, strict=True):
        key = getattr(mutation, mutation.WhichOneof("operation"))
        key = getattr(key, "key", key)
        if key.path[-1].WhichOneof("id_type"):
            written.append((key.SerializeToString(deterministic=True), result.version))
    return written


def _raw(message: Any) -> Any:
    """The upb message inside a proto-plus one."""
    return getattr(message, "_pb", message)


def _part(request: Any, name: str) -> Any:
    """A message inside a request, which the official client builds as a dict; None if missing."""
    part = request.get(name) if isinstance(request, dict) else getattr(request, name)
    return None if part is None else _raw(part)
