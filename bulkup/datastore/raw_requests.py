"""Requests put together from bytes, where a message of them all would copy every entity again."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from google.cloud.datastore_v1.types import datastore as types
from google.cloud.datastore_v1.types import query as query_types

Mutation: Any = types.Mutation.pb()
CommitRequest: Any = types.CommitRequest.pb()


def _number(message: Any, field: str) -> int:
    number: int = message.DESCRIPTOR.fields_by_name[field].number
    return number


_MUTATIONS = _number(CommitRequest, "mutations")
_RESULTS = _number(query_types.QueryResultBatch.pb(), "entity_results")
_UPDATE = _number(Mutation, "update")
_UPSERT = _number(Mutation, "upsert")

_STRATEGY: bytes = Mutation(conflict_resolution_strategy=Mutation.FAIL).SerializeToString()
_last_guard = (0, b"")


@lru_cache(maxsize=16384)
def frame(number: int, length: int) -> bytes:
    """What stands before a message of so many bytes in a field: its tag and the length."""
    framed = bytearray([number << 3 | 2])
    while length > 127:
        framed.append(length & 127 | 128)
        length >>= 7
    framed.append(length)
    return bytes(framed)


def put_mutation(entity: bytes, version: int) -> bytes:
    """The serialized Mutation that stores a serialized entity: if it is there and still has that
    version; with version 0 in any case."""
    if not version:
        return frame(_UPSERT, len(entity)) + entity
    last, guard = _last_guard
    if version != last:
        guard = _guard(version)
    return b"".join((frame(_UPDATE, len(entity)), entity, guard))


def _guard(version: int) -> bytes:
    """Kept for the next entity: neighbours were often written in one commit, with one version."""
    global _last_guard
    mutation = Mutation()
    mutation.base_version = version
    guard: bytes = mutation.SerializeToString() + _STRATEGY
    _last_guard = version, guard
    return guard


def page_batch(results: list[bytes]) -> bytes:
    """A serialized QueryResultBatch of serialized EntityResults, and nothing else."""
    parts: list[bytes] = []
    for result in results:
        parts += frame(_RESULTS, len(result)), result
    return b"".join(parts)


def commit_request(head: bytes, mutations: list[bytes]) -> bytes:
    """A serialized CommitRequest: one without mutations, and these."""
    parts = [head]
    for mutation in mutations:
        parts += (frame(_MUTATIONS, len(mutation)), mutation)
    return b"".join(parts)
