"""Requests assembled from bytes: building them as one message would copy every entity again."""

from __future__ import annotations

from functools import lru_cache

from bulkup.datastore.messages import CommitRequest, Mutation, QueryResultBatchPb
from bulkup.datastore.reads import ABSENT

_MUTATIONS: int = CommitRequest.MUTATIONS_FIELD_NUMBER
_RESULTS: int = QueryResultBatchPb.ENTITY_RESULTS_FIELD_NUMBER
_UPDATE: int = Mutation.UPDATE_FIELD_NUMBER
_UPSERT: int = Mutation.UPSERT_FIELD_NUMBER
_INSERT: int = Mutation.INSERT_FIELD_NUMBER

_STRATEGY: bytes = Mutation(conflict_resolution_strategy=Mutation.FAIL).SerializeToString()
_last_guard = (0, b"")


@lru_cache(maxsize=16384)
def frame(number: int, length: int) -> bytes:
    """The header of an embedded message: the field's tag and the message's length."""
    framed = bytearray([number << 3 | 2])
    while length > 127:
        framed.append(length & 127 | 128)
        length >>= 7
    framed.append(length)
    return bytes(framed)


def put_mutation(entity: bytes, version: int) -> bytes:
    """Serialize the Mutation that writes a serialized entity.

    With a version it is an update, which fails unless the entity still has that version. With
    ABSENT it is an insert, which fails if the entity exists. With 0 it is an upsert.
    """
    if version <= 0:
        return frame(_INSERT if version == ABSENT else _UPSERT, len(entity)) + entity
    last, guard = _last_guard
    if version != last:
        guard = _guard(version)
    return b"".join((frame(_UPDATE, len(entity)), entity, guard))


def _guard(version: int) -> bytes:
    # Cached for the next entity: neighbours were often written by one commit, at one version.
    global _last_guard
    mutation = Mutation()
    mutation.base_version = version
    guard: bytes = mutation.SerializeToString() + _STRATEGY
    _last_guard = version, guard
    return guard


def page_batch(results: list[bytes]) -> bytes:
    """Serialize a QueryResultBatch that holds these serialized EntityResults and nothing else."""
    parts: list[bytes] = []
    for result in results:
        parts += frame(_RESULTS, len(result)), result
    return b"".join(parts)


def commit_request(head: bytes, mutations: list[bytes]) -> bytes:
    """Add serialized mutations to `head`, a serialized CommitRequest without any."""
    parts = [head]
    for mutation in mutations:
        parts += (frame(_MUTATIONS, len(mutation)), mutation)
    return b"".join(parts)
