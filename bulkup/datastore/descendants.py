"""Reads the descendants of an entity, as they are stored, for a handler that writes them."""

from __future__ import annotations

from collections.abc import Callable

from google.cloud.datastore import Client, Entity, Key

from bulkup.datastore.keys import key_bytes, key_to_pb
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.messages import AND, Operator, Pb, QueryPb
from bulkup.datastore.reads import kind_mark
from bulkup.datastore.user_client import UserClient


def request_descendants(
    client: Client, key: Key, at_most: int, *, may_be_unwritten: bool = True
) -> Callable[[], list[Entity]]:
    """Request the descendants of a key, without the entity itself. The function that is returned
    waits for them. If there are more than `at_most`, it returns one more than that.

    These reads guard what the handler writes, as reads by key do.
    `may_be_unwritten`: earlier handlers of the run may have written some descendants, so pending
    batches are committed first. That costs a commit for each call of the handler.
    A client that is not a run's, as in a unit test, runs the query as the official client does.
    Waiting raises CallError.
    """
    if not isinstance(client, UserClient):
        query = client.query(ancestor=key)
        query.key_filter(key, ">")
        return lambda: list(query.fetch(limit=at_most + 1))
    reads, pb, namespace = client.reads, _query_below(key, at_most + 1), key.namespace or ""
    if reads is not None and may_be_unwritten:
        reads.note(kind_mark(""), 0)
    rpc = client._rpc
    first_page = rpc.run_query(pb, namespace)

    def wait() -> list[Entity]:
        found = list[Entity]()
        for result in rpc.results_from(first_page, pb, namespace):
            if reads is not None:
                reads.note(key_bytes(result.entity.key), result.version, result.entity)
            found.append(LazyEntity(result.entity, result.version))
            if len(found) > at_most:
                break
        return found

    return wait


def _query_below(key: Key, page: int) -> Pb:
    pb, raw_key = QueryPb(), key_to_pb(key)
    pb.limit.value = page
    pb.filter.composite_filter.op = AND
    for operator in ("HAS_ANCESTOR", "GREATER_THAN"):
        part = pb.filter.composite_filter.filters.add().property_filter
        part.property.name = "__key__"
        part.op = Operator[operator]
        part.value.key_value.CopyFrom(raw_key)
    return pb
