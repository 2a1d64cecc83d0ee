"""Finds the run to be steered from an id: in a chain or a group, the run that is in progress."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from bulkup.core.errors import NotFoundError, StateError
from bulkup.core.model import RunState, TargetInfo
from bulkup.core.records import next_id
from bulkup.datastore.rpc import Rpc
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import CHECKPOINT_NAME, RunLock, find_run, group_folders
from bulkup.state.groups import Group
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger


@dataclass(frozen=True)
class Ledgers:
    """The ledgers of a target's namespaces."""

    rpc: Rpc
    target: TargetInfo

    def of(self, namespace: str | None = None) -> Ledger:
        """The ledger of a namespace; None: that of the target's own namespace."""
        space = self.target.namespace if namespace is None else namespace
        return Ledger(self.rpc, replace(self.target, namespace=space))


def in_group(ledgers: Ledgers, group: Group) -> tuple[Ledger, RunRecord]:
    """The run of a group that has begun and is not over. Raises NotFoundError if there is none."""
    for namespace in group.namespaces:
        ledger = ledgers.of(namespace)
        record = current(ledger, ledger.read(group.run_id(namespace)))
        if record is not None and not record.state.is_over:
            return ledger, record
    raise NotFoundError(
        f"no run of group {group.group_id} is worked on now; `bulkup resume {group.group_id}` "
        "continues the group"
    )


def current(ledger: Ledger, record: RunRecord | None) -> RunRecord | None:
    """The unfinished run of a chain, starting at this one; the last run if all are finished."""
    while record is not None and record.state is RunState.FINISHED:
        following = ledger.read(next_id(record.run_info.run_id))
        if following is None:
            break
        record = following
    return record


def folder_of(state_dir: Path, name: str) -> Path | None:
    """The folder of the run that is meant; None if it is not in this state directory.

    Raises UsageError when the name matches several runs.
    """
    if folders := group_folders(state_dir, name):
        return max(folders, key=_liveliness)
    try:
        folder = find_run(state_dir, name)
    except NotFoundError:
        return None
    while (successor := _successor_of(folder)) is not None:
        folder = successor
    return folder


def _successor_of(folder: Path) -> Path | None:
    try:
        with closing(Checkpoint.open(folder, check=False)) as checkpoint:
            status = checkpoint.status()
    except (StateError, sqlite3.DatabaseError):
        return None
    if status.state is not RunState.FINISHED or not status.successor:
        return None
    successor = folder.with_name(status.successor)
    return successor if (successor / CHECKPOINT_NAME).exists() else None


def _liveliness(folder: Path) -> tuple[bool, bool, int]:
    """Ranks the runs of a group: first one that is in progress, then one that is not over, then the
    one that was changed last."""
    try:
        with closing(Checkpoint.open(folder, check=False)) as checkpoint:
            is_open = not checkpoint.status().state.is_over
    except (StateError, sqlite3.DatabaseError):
        is_open = False
    changed = (folder / CHECKPOINT_NAME).stat().st_mtime_ns
    return RunLock(folder).is_held(), is_open, changed
