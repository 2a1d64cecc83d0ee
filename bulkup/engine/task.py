"""What an execution is given: what to do and where, the run it holds, and its surroundings."""

from __future__ import annotations

from dataclasses import dataclass

from bulkup.authoring.updater import Updater
from bulkup.core.clock import Clock
from bulkup.core.events import Listener
from bulkup.core.records import RunInfo
from bulkup.core.stop import StopRequest
from bulkup.datastore.rpc import Rpc
from bulkup.engine.final_hook import BeginSuccessor
from bulkup.engine.options import Options
from bulkup.engine.scan import QueryPlan
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger


@dataclass(frozen=True)
class Task:
    """What a run does, and where."""

    updater: Updater
    query: QueryPlan
    rpc: Rpc
    run_info: RunInfo
    entity_bytes: int = 0
    """Expected size of an entity; 0: unknown."""
    nothing_there: str | None = None
    """What is there instead, when the kind of the query was found to hold nothing at all."""


@dataclass(frozen=True)
class TakenRun:
    """A run that this process holds. A dry run has none: it leaves no trace."""

    checkpoint: Checkpoint
    ledger: Ledger
    record: RunRecord
    """The run record, whose holder is this process."""
    next_command: str
    """How to resume the run."""
    begin_successor: BeginSuccessor
    state_file: str = ""
    """The checkpoint's path, as it is shown."""


@dataclass(frozen=True)
class Surroundings:
    """How the runner works, and who it reports to and listens to."""

    options: Options
    listener: Listener
    stop: StopRequest
    clock: Clock
