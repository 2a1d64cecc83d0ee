"""Begin and conclude a run that is cut into ranges; who works on them in between is up to others.

begun = begin(prepared, ranges=64)      # plans, or finds the unfinished run of the same work
if isinstance(begun, RunRecord):
    work = work_of(prepared, begun)     # for RangeWorkers, anywhere
    ...                                 # they work; meanwhile `look` says how far they are
    report = conclude(prepared, begun)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bulkup.core.events import Report
from bulkup.core.model import Counts
from bulkup.runs.ranges.unit import RangedWork
from bulkup.state.record import RunRecord

if TYPE_CHECKING:
    from bulkup.runs.prepare import PreparedRun


@dataclass(frozen=True)
class RangesState:
    """How far the ranges of a run are, as Datastore knows it."""

    finished: int
    total: int
    counts: Counts
    holders: Sequence[str]
    """Who works on a range now: user@host, one for each."""
    stop: str = ""
    """Why the run was stopped, a sentence without its end; empty: it was not."""


def begin(
    prepared: PreparedRun, *, ranges: int | None = None, fresh: bool = False
) -> RunRecord | Report:
    """Cut a run into ranges, or find the unfinished run of the same work, which becomes a ranged one
    if it is none. `ranges`: about how many; None: as the query's size suggests.

    A report: there is nothing left to do. Raises BulkupError: a query that cannot be cut, an updater
    that moves what its query ranges on, `--local` (use a server that others reach), and what
    `start` raises.
    """
    raise NotImplementedError


def work_of(prepared: PreparedRun, record: RunRecord) -> RangedWork:
    """What workers elsewhere need. Raises UsageError when no other process can load the updater."""
    raise NotImplementedError


def range_ids(prepared: PreparedRun, record: RunRecord) -> list[str]:
    """All ranges of the run by now, in the order of their keys. Raises CallError."""
    raise NotImplementedError


def look(prepared: PreparedRun, record: RunRecord) -> RangesState:
    """How far the run is. Raises CallError."""
    raise NotImplementedError


def conclude(prepared: PreparedRun, record: RunRecord) -> Report:
    """End the run if its ranges cover the query and each is finished: calls `check_after` and
    `finish`, begins the successor, delivers the report.

    Otherwise the report says what is left, with exit code 1 (or that of what has stopped the run)
    and the command that resumes it. Success comes from the records alone.
    """
    raise NotImplementedError
