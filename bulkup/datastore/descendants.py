"""Reads the descendants of an entity, as they are stored, for a handler that writes them."""

from __future__ import annotations

from google.cloud.datastore import Client, Entity, Key

from bulkup.datastore.keys import key_bytes, key_to_pb
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.messages import AND, Operator, Pb, QueryPb
from bulkup.datastore.reads import kind_mark
from bulkup.datastore.user_client import UserClient


def descendants(
    client: Client, key: Key, at_most: int, *, may_be_unwritten: bool = True
) -> list[Entity]:
    """The descendants of a key, without the entity itself; of more than `at_most`, one more.

    What is read guards what the handler writes, as if it had read it by key.
    `may_be_unwritten`: earlier handlers of the run may have written some, so the batches that are
    not committed yet are committed first. That costs a commit for each entity.
    A client that is not a run's, as in a unit test, runs the query as the official one does.
    Raises CallError.
    """
    if not isinstance(client, UserClient):
        query = client.query(ancestor=key)
        query.key_filter(key, ">")
        return list(query.fetch(limit=at_most + 1))
    reads = client.reads
    if reads is not None and may_be_unwritten:
        reads.note(kind_mark(""), 0)
    pb, found = _query_below(key, at_most + 1), list[Entity]()
    for result in client._rpc.results(pb, key.namespace or ""):
        if reads is not None:
            reads.note(key_bytes(result.entity.key), result.version, result.entity)
        found.append(LazyEntity(result.entity, result.version))
        if len(found) > at_most:
            break
    return found


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
