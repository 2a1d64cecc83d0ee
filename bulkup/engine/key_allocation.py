"""Ids for the new entities of a commit, allocated before the commit so that a retry writes the
same entities."""

from __future__ import annotations

from collections.abc import Sequence

from bulkup.core.model import Failure
from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_bytes
from bulkup.datastore.messages import Mutation
from bulkup.datastore.rpc import Rpc
from bulkup.engine.handled import Handled

ALLOCATED_PER_CALL = 500
"""Handled entities per AllocateIds call; few of them create more than one new entity."""


def allocate_ids(rpc: Rpc, items: Sequence[Handled]) -> list[Failure]:
    """Complete the keys of new entities.

    An entity whose handler made a key that the server refuses becomes a failure; returns these
    failures. Raises CallError when the server does not answer.
    """
    waiting = [item for item in items if item.incomplete]
    for start in range(0, len(waiting), ALLOCATED_PER_CALL):
        chunk = waiting[start : start + ALLOCATED_PER_CALL]
        try:
            _allocate(rpc, chunk)
        except CallError as error:
            if not error.is_invalid:
                raise
            _allocate_one_by_one(rpc, chunk)
    return [item.failure for item in waiting if item.failure]


def _allocate_one_by_one(rpc: Rpc, items: Sequence[Handled]) -> None:
    """Used when a key of the call was refused, because the answer does not say which one."""
    for item in items:
        try:
            _allocate(rpc, [item])
        except CallError as error:
            if not error.is_invalid:
                raise
            item.fail("write", refusal(error))


def _allocate(rpc: Rpc, items: Sequence[Handled]) -> None:
    writes = [w for item in items for w in item.writes if w.incomplete]
    mutations = [Mutation.FromString(w.mutation) for w in writes]
    keys = rpc.allocate_ids([mutation.insert.key for mutation in mutations])
    for write, mutation, key in zip(writes, mutations, keys, strict=True):
        mutation.insert.key.CopyFrom(key)
        write.mutation = mutation.SerializeToString()
        write.key = key_bytes(key)
        write.incomplete = False
    for item in items:
        item.incomplete = False


def refusal(error: CallError) -> str:
    """Why the server refused an entity, on one line."""
    return f"{error.code_name}: {' '.join(error.details[:500].split())}"
