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
    """What is there instead, if the query's kind was found to have no entities at all."""

    def why_empty(self, counts: Counts) -> str | None:
        """What to report if the run has met no entity; None if it has met some."""
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
    """How to resume the run, with its tuning at that time."""
    begin_successor: BeginSuccessor
    retry_command: str = ""
    """How to handle its failed entities again, once it is finished."""
    why_not_clean: Callable[[Counts], str] = lambda _: ""
    """Why no further pass follows although this one has written (`--until-clean`); empty if one
    follows or none is needed."""
    continue_command: str = ""
    """How to continue the run once it is paused."""
    state_file: str = ""
    """The checkpoint's path, as it is shown."""
    role: RangeRole | None = None
    """For a range of a larger run: its role in that run. None if this is a whole run."""
    steered_in: Path | None = None
    """The folder where that larger run is steered; None: the checkpoint's own folder."""
    began: float | None = None
    """When the work on the run's ranges began, if all of them are finished, by this process's
    monotonic clock; None if the work begins now."""


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
    """None if nobody traces the run."""
