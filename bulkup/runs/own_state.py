"""Binds runs to the checkpoint that alone can resume them, and refuses them elsewhere.

Markers record how far a scan has come. That is not enough if a changed property moves an entity
within the scan, or if the run makes entities that its scan meets. For such runs, the checkpoint
also remembers keys.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

from bulkup.core.errors import StateError
from bulkup.engine.scan import QueryPlan
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.record import RunRecord


def bound_to(checkpoint: Checkpoint, record: RunRecord, query: QueryPlan) -> RunRecord:
    """The record, bound to this checkpoint if the run needs that and no runner elsewhere has begun
    it."""
    if not query.ranged or record.layout.moved_in or _is_late(checkpoint, record):
        return record
    file_id = checkpoint.status().file_id
    return replace(record, layout=replace(record.layout, moved_in=file_id))


def check_own_state(checkpoint: Checkpoint, record: RunRecord, query: QueryPlan) -> None:
    """Check that the run may continue with this checkpoint. Raises StateError if not, and then
    removes a checkpoint that was never used."""
    try:
        _check(checkpoint, record, query)
    except StateError:
        if not checkpoint.status().runners:
            shutil.rmtree(checkpoint.folder)
        raise


def _check(checkpoint: Checkpoint, record: RunRecord, query: QueryPlan) -> None:
    if not record.layout.shards:
        return  # no entity is left to be read
    known_in, made = record.layout.moved_in, record.made
    if known_in:
        is_here = known_in == checkpoint.status().file_id
    else:  # earlier versions bound a run only once they saw it move an entity
        is_here = not (query.ranged and _is_late(checkpoint, record))
    if not is_here:
        names = ", ".join(sorted(query.ranged))
        why = f"its query orders or ranges on {names}, so entities that change there are read again"
        raise StateError(_refusal(record, why, "which entities are done"))
    if made.known_in is not None and made.known_in != checkpoint.status().file_id:
        why = (
            "it makes entities that its own query finds, and Datastore does not say here when an "
            "entity was created"
        )
        raise StateError(_refusal(record, why, "which entities it made"))
    if made.record_ns and record.created_ns not in (0, made.record_ns):
        raise StateError(
            f"run {record.run_info.run_id} cannot be resumed in a copy of its Datastore: all "
            "entities were created anew there, so bulkup cannot tell which of them the run made. "
            f"To handle all entities, {_new_run(record)}"
        )


def _is_late(checkpoint: Checkpoint, record: RunRecord) -> bool:
    """Whether another runner has begun the run, and this checkpoint has never had a runner."""
    return record.lease.generation > 0 and not checkpoint.status().generation


def _refusal(record: RunRecord, reason: str, known: str) -> str:
    holder, run_id = record.lease.holder, record.run_info.run_id
    who = holder.who if holder else "another process"
    return (
        f"run {run_id} cannot be resumed here: {reason}, and only the state directory of {who} "
        f"knows {known}; resume it there, or {_new_run(record)}, which handles all entities again, "
        "also those that are done"
    )


def _new_run(record: RunRecord) -> str:
    if record.migration is not None:
        return f"mark it as pending (bulkup mark {record.migration.name} --pending)"
    return "start a new run (--new)"
