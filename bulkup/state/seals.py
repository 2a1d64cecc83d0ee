"""Seals: what keeps a late copy of an insert from undoing a removal.

A copy of a commit may arrive long after the commit was applied and answered. The copy of an update
is harmless, because the version it requires has passed. The copy of an insert is refused as long as
the entity is there, but it brings back an entity that was removed meanwhile: an ended group, or the
record of a run that left none, which the next command would take for unfinished work.

So a commit that inserts an entity which bulkup removes later also writes a seal, whose key is
derived from the work. The seal is never removed, and every write of it requires the version that
was read. Each copy of the commit requires that version too, and only the first one finds it.
"""

from __future__ import annotations

from typing import Any

from bulkup.core.model import TargetInfo
from bulkup.datastore.messages import EntityPb, Mutation, Pb
from bulkup.datastore.rpc import Rpc
from bulkup.state.kinds import SEAL_KIND
from bulkup.state.raw_entities import own_key, write_properties


def seal_key(target: TargetInfo, work: str) -> Pb:
    """The key of the seal of a piece of work, by the work's identity."""
    return own_key(target, SEAL_KIND, work)


def sealed(rpc: Rpc, key: Pb, sealed_for: str) -> Any:
    """Read a seal, and return the mutation that lets the commit it belongs to apply only once.

    `sealed_for`: the id of the run or group that the commit starts. It differs each time, so each
    write changes the seal's version. Raises CallError.
    """
    version = 0
    for result in rpc.lookup([key]).values():
        version = result.version
    entity = EntityPb(key=key)
    write_properties(entity, {"for": sealed_for})
    return guarded_write(entity, version)


def guarded_write(entity: Pb, version: int) -> Any:
    """The mutation that writes an entity over the version that was read; 0: there was none."""
    if not version:
        return Mutation(insert=entity)
    return Mutation(update=entity, base_version=version, conflict_resolution_strategy=Mutation.FAIL)


def guarded_delete(key: Pb, version: int) -> Any:
    """The mutation that removes an entity only in the version that was read. Without the version, a
    late copy would remove an entity that has taken its place."""
    return Mutation(delete=key, base_version=version, conflict_resolution_strategy=Mutation.FAIL)
