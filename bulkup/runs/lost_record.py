"""A run whose record is gone from Datastore, while its folder here says that it is unfinished.

Either somebody deleted the record by hand, and the run can be resumed from the folder. Or somebody
else has finished the run (`--no-record` then removes its record) or has worked on it since. Then
the folder is stale: what it calls unfinished is done. Only Datastore can tell which.
"""

from __future__ import annotations

from dataclasses import replace

from bulkup.core.errors import Exit, NotFoundError, StateError
from bulkup.core.model import Counts, RunState
from bulkup.core.records import Shard
from bulkup.runs.prepare import PreparedRun
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import RANGES_NAME
from bulkup.state.markers import Markers
from bulkup.state.record import Layout, LeaseTerms, RunRecord
from bulkup.state.run_records import Claim


def record_again(prepared: PreparedRun, checkpoint: Checkpoint) -> RunRecord:
    """A new record for the run of the checkpoint, whose record is gone.

    Raises NotFoundError when the run is not known to be unfinished, CallError.
    """
    run_id = checkpoint.run_info.run_id
    if (checkpoint.folder / RANGES_NAME).exists():
        raise StateError(
            f"run {run_id} cannot be resumed: its record is gone from Datastore, and only that "
            "says which of its ranges are done; start a new run (--new), which handles all "
            "entities again, also those that are done"
        )
    claim = prepared.ledger.read_claim(checkpoint.run_info.identity)
    reason = _why_stale(prepared, checkpoint, claim)
    if reason:
        checkpoint.end_work(RunState.ABANDONED, reason, Exit.DONE, clean=True)
        raise NotFoundError(
            f"run {run_id} cannot be resumed from {str(checkpoint.folder)!r}: {reason}; repeat "
            "`bulkup run UPDATER`, which resumes an unfinished run of this work and otherwise "
            "starts a new one"
        )
    # The claim stays: without it, a late copy of the run's start would bring the first record back.
    return replace(_record_from(checkpoint), claim_version=claim.version if claim else 0)


def _why_stale(prepared: PreparedRun, checkpoint: Checkpoint, claim: Claim | None) -> str:
    """Why the folder must not be relied on; empty if the run is unfinished and the folder is up to
    date."""
    run_info = checkpoint.run_info
    if claim is not None and claim.run_id != run_info.run_id:
        return f"its record is gone, and run {claim.run_id} has taken its place"
    markers = list(Markers(prepared.rpc, run_info.target.namespace, run_info.run_id).of_run())
    # The end of the run removes the claim, and the last marker is removed before the record.
    if claim is None and not markers and _has_begun(prepared, checkpoint):
        return "its record is gone, so somebody else has finished it (--no-record) or deleted it"
    never_used = checkpoint.next_shard()
    current = {shard.id for shard in checkpoint.shards()}
    for marker in markers:
        # A runner that takes over a run fences its shards, and makes new ones.
        if marker.shard >= never_used or (marker.fence and marker.shard in current):
            return "its record is gone, and another process has worked on the run since"
    return ""


def _has_begun(prepared: PreparedRun, checkpoint: Checkpoint) -> bool:
    """Whether the run's record was ever written. Its first process may have been killed before
    that."""
    run_info = checkpoint.run_info
    if checkpoint.status().generation:
        return True
    # Only a run that keeps no record loses it, and its start wrote the seal. Ids sort by time.
    return (prepared.ledger.sealed_for(run_info.identity) or "") >= run_info.run_id


def _record_from(checkpoint: Checkpoint) -> RunRecord:
    shards = checkpoint.shards()
    if not shards and not checkpoint.status().generation:
        shards = [Shard(1)]  # not begun; once begun, no shards left means done
    in_shards = Counts()
    for shard in shards:
        in_shards = in_shards + checkpoint.counts_of(shard.id)
    return RunRecord(
        checkpoint.run_info,
        RunState.RUNNING,
        made=checkpoint.made(),
        gate=checkpoint.status().gate,
        plan=checkpoint.status().plan,
        lease=LeaseTerms(generation=checkpoint.status().generation),
        layout=Layout(
            shards=tuple(shard.unbegun for shard in shards),
            next_shard=max(checkpoint.next_shard(), *(shard.id + 1 for shard in shards), 2),
            settled=checkpoint.done() - in_shards,
        ),
    )
