"""The run of a migration: its updater, and the run record to start or resume."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from bulkup.authoring.loader import load
from bulkup.authoring.named_successors import follow
from bulkup.core.errors import MismatchError
from bulkup.core.events import Warned, WarningKind
from bulkup.core.model import RunState
from bulkup.core.origin import origin_of
from bulkup.core.visible import assignment
from bulkup.migrations.status import MigrationEntry, run_id_of
from bulkup.runs.prepare import LoadedUpdater, PreparedRun, load_updater, with_parameters
from bulkup.runs.successor import check_same_successor
from bulkup.state.markers import Markers
from bulkup.state.record import MigrationInfo, RunRecord


def load_migration(entry: MigrationEntry, params: Mapping[str, str]) -> LoadedUpdater:
    """The updater in the migration's file, or the successor that its chain has reached.

    A migration that has started keeps its parameters: giving others raises MismatchError. Raises
    BulkupError.
    """
    assert entry.file is not None
    path = entry.file.path
    if entry.record is None:
        return load_updater(str(path), params, prefix=f"{entry.name}:")
    links, recorded = entry.record.chain.links, entry.record.run_info.params
    spec = follow(load(str(path)), links) if links else str(path)
    loaded = load_updater(spec, recorded)
    if params and not links:
        _check_same_params(entry, loaded, params)
    return loaded


def _check_same_params(
    entry: MigrationEntry, loaded: LoadedUpdater, params: Mapping[str, str]
) -> None:
    """Check that `params`, however they are typed, are those that the migration was started with.
    Raises MismatchError."""
    given = with_parameters(loaded.source, {**loaded.params, **params}, prefix=f"{entry.name}:")
    for name, value in given.params.items():
        if loaded.params[name] != value:
            raise MismatchError(
                f"{entry.name} was started with {assignment(name, loaded.params[name])}, not with "
                f"{assignment(name, value)}; continue it as it was started, or apply it from the "
                f"start: bulkup mark {entry.name} --pending"
            )


def record_of(entry: MigrationEntry, prepared: PreparedRun) -> RunRecord:
    """The record to execute: the unfinished one, or a new one for this attempt.

    Raises MismatchError, CallError.
    """
    assert entry.file is not None
    record = entry.record
    started_as = record.migration if record is not None else None
    name = started_as.first_name if started_as is not None else entry.name
    # Use the class's name and not its path, which may differ between machines.
    identity = f"{name}/{prepared.query.identity(prepared.source.name, prepared.params)}"
    former = started_as.former if started_as is not None else ()
    migration = MigrationInfo(
        entry.name, entry.file.code, origin=origin_of(os.environ), former=former
    )
    if record is not None:
        _check_same(entry, record, prepared, identity)
        marked = started_as.marked if started_as is not None else None
        return replace(record, migration=replace(migration, marked=marked))
    # If a record was deleted by hand, its claim is still there. This call removes it, because it
    # would block this migration forever.
    prepared.ledger.unfinished_before_start(identity)
    return RunRecord(
        prepared.new_run_info(_unused_run_id(entry, prepared), identity),
        RunState.RUNNING,
        migration=migration,
    )


def _check_same(
    entry: MigrationEntry, record: RunRecord, prepared: PreparedRun, identity: str
) -> None:
    assert entry.file is not None
    if record.chain.links:
        check_same_successor(prepared, record)
        return
    if record.run_info.identity != identity:
        raise MismatchError(
            f"{entry.name} was started with another query, class or parameters than it has now; "
            f"restore them, or apply it from the start: bulkup mark {entry.name} --pending"
        )
    is_changed = record.migration is None or record.migration.code != entry.file.code
    if is_changed and record.layout.shards:  # else every entity is done
        message = (
            f"{entry.name} has changed since it was started; the remaining entities get the new "
            "code"
        )
        prepared.warnings.append(Warned(message, WarningKind.CODE_CHANGED))


def _unused_run_id(entry: MigrationEntry, prepared: PreparedRun) -> str:
    """The next run id without leftover markers. If the record of an unfinished run was deleted by
    hand, its markers are still there, and would refuse the commits of any other run with that
    id."""
    target, attempt = prepared.target.info, entry.attempt
    while True:
        run_id = run_id_of(entry.name, target, attempt)
        has_markers = Markers(prepared.rpc, target.namespace, run_id).exist()
        # Markers with a record belong to another process that was faster. Then the insert of our
        # record is refused.
        if not has_markers or prepared.ledger.read(run_id) is not None:
            return run_id
        attempt += 1
