"""What a command cleans up in Datastore before its own work: markers, runs replaced by `--new`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from bulkup.core.model import RunState
from bulkup.datastore.rpc import Rpc
from bulkup.runs.prepare import PreparedRun
from bulkup.state.holder import this_process
from bulkup.state.lease import take
from bulkup.state.markers import LATE_COPY_S, Markers
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger, RecordMovedOn


def sweep_markers(ledger: Ledger, rpc: Rpc, records: Iterable[RunRecord]) -> None:
    """Delete the markers that interrupted runs had to leave behind.

    `records` come from `Ledger.to_sweep`. Raises CallError.
    """
    for record in list(records):
        markers = Markers(rpc, record.run_info.target.namespace, record.run_info.run_id)
        markers.remove_all()
        if record.keep:
            with suppress(RecordMovedOn):  # another process swept it at the same time
                ledger.write(replace(record, layout=replace(record.layout, sweep_at=0)))
        else:
            ledger.remove(record)


def abandon(prepared: PreparedRun, record: RunRecord) -> None:
    """End an unfinished run where it is. What it wrote stays.

    Raises HeldError, NotFoundError, CallError.
    """
    context = prepared.context
    held = take(prepared.ledger, record, this_process(), clock=context.clock, stop=context.stop)
    now = int(context.clock.unix())
    prepared.ledger.write(
        replace(
            held,
            state=RunState.ABANDONED,
            reason="replaced by a new run (--new)",
            ended=now,
            lease=replace(held.lease, until=0),
            layout=replace(held.layout, sweep_at=int(now + LATE_COPY_S) + 1),
        ),
        over=True,
    )
