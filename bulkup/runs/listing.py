"""The runs of a state directory, and those that Datastore knows of."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from bulkup.core.errors import StateError
from bulkup.core.model import Counts, RunState, TargetInfo
from bulkup.core.records import RunInfo, next_id
from bulkup.core.steering import Steering
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.display import KILLED, state_text
from bulkup.state.files import run_folders
from bulkup.state.holder import has_died
from bulkup.state.ranges_seen import ranges_seen, with_seen
from bulkup.state.record import RunRecord
from bulkup.state.steering import read_steering
from bulkup.state.undo_files import undo_bytes


@dataclass(frozen=True)
class ListedRun:
    """A run whose checkpoint or record can be read."""

    run_info: RunInfo
    state: str
    """A value of `RunState`, or `killed`."""
    counts: Counts
    total: int | None
    """How many entities the query found at the start; None: not known."""
    ended: datetime | None
    """When its last runner ended; None if the runner is still working, or was killed."""
    successor: str | None
    who: str | None
    """user@host of the last runner; None: this run is known from its checkpoint alone."""
    is_here: bool = True
    """Whether its folder is in this state directory."""
    undone_by: str = ""
    """The id of the run that has put back what this one changed; empty: none."""
    undone_partly: bool = False
    """The run in `undone_by` has not put back everything."""
    undo_bytes: int = 0
    """The size of its undo log in this state directory."""
    retried_by: tuple[str, ...] = ()
    """The runs that have handled failed entities of this one again."""
    retried: int = 0
    """How many of its failed entities the runs in `retried_by` have handled."""
    marked: str = ""
    """For a migration: how `bulkup mark` changed it, and who did that."""
    paused_by: str = ""
    """user@host of the user who paused the run, if it is not over; empty if it is not paused."""

    ranges: int = 0
    """How many ranges a run is cut into; 0 if it is not cut, or if only its folder is known and
    does not say."""
    ranges_finished: int = 0

    @property
    def shown_state(self) -> str:
        """The state as it is displayed. A migration that was marked pending or renamed is not shown
        as abandoned, because nobody gave it up."""
        if self.marked and self.state == RunState.ABANDONED.value:
            return "marked pending" if "pending by" in self.marked else "renamed"
        return "marked applied" if "applied by" in self.marked else self.state

    @property
    def started(self) -> datetime:
        return datetime.fromisoformat(self.run_info.created)

    def took_s(self, now: datetime) -> float | None:
        """Seconds from its start to its end, or until now. None if that is not known, as for a
        migration whose `ended` is the time it was marked."""
        if self.shown_state != self.state:
            return None
        if self.ended is not None:
            return (self.ended - self.started).total_seconds()
        if self.state == RunState.RUNNING.value:
            return (now - self.started).total_seconds()
        return None


@dataclass(frozen=True)
class DamagedRun:
    """A run whose checkpoint cannot be read."""

    run_id: str
    error: str


def runs_here(state_dir: Path) -> list[ListedRun | DamagedRun]:
    """The runs of a state directory as their checkpoints know them, the latest first."""
    return latest_first(map(run_in, run_folders(state_dir)))


def latest_first(runs: Iterable[ListedRun | DamagedRun]) -> list[ListedRun | DamagedRun]:
    return sorted(runs, key=_sort_key, reverse=True)


def run_in(folder: Path) -> ListedRun | DamagedRun:
    """The run in a folder as its checkpoint knows it."""
    try:
        with closing(Checkpoint.open(folder, check=False)) as checkpoint:
            status, state = checkpoint.status(), state_text(checkpoint)
            at_work = state == RunState.RUNNING.value
            ended = None if at_work or state == KILLED else status.ended
            counts, total = checkpoint.counts(), status.total
            seen = None if status.state.is_over else ranges_seen(folder)
            seen = with_seen(seen, counts, total)
            if seen is not None:
                counts, total = seen.counts, seen.entities
            return ListedRun(
                checkpoint.run_info,
                state,
                counts,
                total,
                datetime.fromisoformat(ended) if ended else None,
                status.successor,
                who=None,
                undone_by=status.undone_by or "",
                undone_partly=status.partly,
                undo_bytes=undo_bytes(folder),
                retried_by=tuple(checkpoint.retries()),
                retried=checkpoint.retried(),
                paused_by=_paused_by(read_steering(folder), status.state),
                ranges=seen.total if seen is not None else 0,
                ranges_finished=seen.finished if seen is not None else 0,
            )
    except StateError as error:
        return DamagedRun(folder.name, error.message)
    except sqlite3.DatabaseError as error:
        return DamagedRun(folder.name, f"the checkpoint in {str(folder)!r} is damaged ({error})")


def runs_on(
    target: TargetInfo,
    records: Iterable[RunRecord],
    here: Iterable[ListedRun | DamagedRun],
    now: float,
) -> list[ListedRun | DamagedRun]:
    """The runs in a target's records and in a state directory, the latest first.

    If both know a run, its state is the one in the record: somebody may have continued the run
    elsewhere. `now`: the server's time.
    """
    merged: dict[tuple[str, str], ListedRun | DamagedRun] = {}
    for run in here:
        started = run.run_info.created if isinstance(run, ListedRun) else ""
        name = run.run_info.run_id if isinstance(run, ListedRun) else run.run_id
        merged[name, started] = run
    records = list(records)
    ids = {record.run_info.run_id for record in records}
    for record in records:
        place = record.run_info.run_id, record.run_info.created
        local = merged.get(place)
        if isinstance(local, ListedRun) and local.run_info.target != target:
            continue  # the target is a copy of the Datastore of this run
        successor = next_id(record.run_info.run_id)
        listed = _of_record(record, now, successor if successor in ids else None)
        if isinstance(local, ListedRun):
            # A record has the counts of the last lease renewal.
            counts = max(local.counts, listed.counts, key=lambda counts: counts.handled)
            known = local if local.undone_by else listed
            listed = replace(
                listed, counts=counts, is_here=True,
                undone_by=known.undone_by, undone_partly=known.undone_partly,
                undo_bytes=local.undo_bytes,
                retried_by=local.retried_by, retried=local.retried,
            )  # fmt: skip
        merged[place] = listed
    # Run ids sort by start time, except those made from names.
    return latest_first(merged.values())


def _of_record(record: RunRecord, now: float, successor: str | None) -> ListedRun:
    holder = record.lease.holder
    state = record.state.value
    if record.state is RunState.RUNNING:
        alive = record.lease.is_held(now) and holder is not None and not has_died(holder)
        state = state if alive else KILLED
    return ListedRun(
        record.run_info,
        state,
        record.counts,
        record.total,
        None if record.state is RunState.RUNNING else record.ended_at(),
        successor,
        holder.who if holder else None,
        is_here=False,
        undone_by=record.undone_by,
        undone_partly=record.undone_partly,
        marked=(record.migration.marked or "") if record.migration is not None else "",
        paused_by=_paused_by(record.steering, record.state),
        ranges=record.ranges.total if record.ranges is not None else 0,
        ranges_finished=record.ranges.finished if record.ranges is not None else 0,
    )


def _paused_by(steering: Steering, state: RunState) -> str:
    return steering.by if steering.is_paused and not state.is_over else ""


def _sort_key(run: ListedRun | DamagedRun) -> tuple[str, str]:
    if isinstance(run, DamagedRun):
        return run.run_id, run.run_id
    return run.run_info.created.replace("-", "").replace("T", "-"), run.run_info.run_id
