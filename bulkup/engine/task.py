"""What an execution is given: what to do and where, the run it holds, and its surroundings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bulkup.authoring.updater import Updater
from bulkup.core.clock import Clock
from bulkup.core.events import Listener
from bulkup.core.model import Counts
from bulkup.core.records import RunInfo
from bulkup.core.spans import Observer
from bulkup.core.stop import StopRequest
from bulkup.datastore.rpc import Rpc
from bulkup.engine.final_hook import BeginSuccessor
from bulkup.engine.options import Options
from bulkup.engine.range_role import RangeRole
from bulkup.engine.scan import QueryPlan
from bulkup.engine.steered import CarriedSteering
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger

NOTHING_FOUND = (
    "the query found no entities: check the kind's name, the filters and the target (project, "
    "database, namespace)"
)
NONE_THERE = (
    "none of the keys has an entity that the updater is for: check the keys and the target "
    "(project, database, namespace)"
)


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

    def why_empty(self, counts: Counts) -> str | None:
        """What to tell of a run that has met no entity; None: it has met some."""
        if self.query.is_repeated:
            return None
        if self.query.digest:
            return NONE_THERE if counts.vanished == counts.handled else None
        return None if counts.handled else self.nothing_there or NOTHING_FOUND


@dataclass(frozen=True)
class TakenRun:
    """A run that this process holds. A dry run has none: it leaves no trace."""

    checkpoint: Checkpoint
    ledger: Ledger
    record: RunRecord
    """The run record, whose holder is this process."""
    next_command: Callable[[], str]
    """How to resume the run, as it is tuned by then."""
    begin_successor: BeginSuccessor
    retry_command: str = ""
    """How to handle its failed entities again, once it is finished."""
    why_not_clean: Callable[[Counts], str] = lambda _: ""
    """Why no further pass follows although this one has written (`--until-clean`); empty: one
    follows, or none need."""
    continue_command: str = ""
    """How to continue the run once it is paused."""
    state_file: str = ""
    """The checkpoint's path, as it is shown."""
    role: RangeRole | None = None
    """This is a range of a larger run, whose part in it this is; None: it is a run."""
    steered_in: Path | None = None
    """The folder of that run; None: the checkpoint's own folder."""
    began: float | None = None
    """When the work on the run's ranges began, of which all are finished, by this process's
    monotonic clock; None: the work begins now."""


@dataclass(frozen=True)
class Surroundings:
    """How the runner works, and who it reports to and listens to."""

    options: Options
    listener: Listener
    stop: StopRequest
    clock: Clock
    carried: CarriedSteering = field(default_factory=CarriedSteering)
    """Shared by the runs of a command."""
    observer: Observer | None = None
    """None: nobody traces the run."""
