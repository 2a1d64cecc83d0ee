"""bulkup status"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

import click

from bulkup.cli.args import verb
from bulkup.cli.options import Json, MigrationsFolder, NamespacesArgs, TargetArgs
from bulkup.core.errors import Exit

if TYPE_CHECKING:
    from bulkup.migrations.status import FolderStatus, MigrationEntry, MigrationStatus
    from bulkup.state.record import RunRecord

LOG_WIDTH = 160
"""Columns of the table where standard output is not a terminal."""


@dataclass(frozen=True)
class StatusArgs:
    folder: MigrationsFolder
    check: Annotated[
        bool,
        click.Option(
            ["--check"], is_flag=True, help="Exit with 4 when a migration is pending or wrong."
        ),
    ]
    target: TargetArgs
    namespaces: NamespacesArgs
    json: Json


@verb("status", StatusArgs)
def command(args: StatusArgs) -> int:
    """Show which migrations in DIR (default: updaters) are applied, pending, running or wrong.

    A migration is wrong if its file was changed after it was applied, or is missing.
    Writes nothing.
    """
    pattern = args.namespaces.pattern(args.target)
    all_applied = _show(args) if pattern is None else _show_all(args, pattern)
    return Exit.PENDING if args.check and not all_applied else Exit.DONE


def _show(args: StatusArgs) -> bool:
    """Whether everything is applied."""
    from bulkup.migrations.connect import open_ledger
    from bulkup.migrations.folder import read_folder
    from bulkup.migrations.status import FolderStatus

    folder = read_folder(args.folder)
    with open_ledger(args.target.options()) as (ledger, target):
        status = FolderStatus(folder, ledger.migrations(), target, ledger.server_time.now())
    if args.json:
        for entry in status.entries:
            click.echo(json.dumps(_to_json(entry)))
        click.echo(json.dumps({"type": "status", "done": status.all_applied}))
    else:
        _print(status, str(target))
    return status.all_applied


def _show_all(args: StatusArgs, pattern: str) -> bool:
    """Whether everything is applied in each namespace."""
    from bulkup.migrations.connect import open_connection
    from bulkup.migrations.folder import read_folder
    from bulkup.migrations.status import FolderStatus
    from bulkup.namespaces.find import match_namespaces
    from bulkup.state.run_records import Ledger

    folder = read_folder(args.folder)
    statuses: dict[str, FolderStatus] = {}
    with open_connection(args.target.options()) as (rpc, info):
        info = replace(info, namespace="")
        for namespace in match_namespaces(rpc, pattern):
            target = replace(info, namespace=namespace)
            records = Ledger(rpc, target).migrations()
            now = rpc.server_time.now()
            statuses[namespace] = FolderStatus(folder, records, target, now)
    all_applied = all(status.all_applied for status in statuses.values())
    if args.json:
        for namespace, status in statuses.items():
            for entry in status.entries:
                click.echo(json.dumps({**_to_json(entry), "namespace": namespace}))
        namespaces = {name: status.all_applied for name, status in statuses.items()}
        click.echo(json.dumps({"type": "status", "done": all_applied, "namespaces": namespaces}))
    else:
        _print_all(statuses, str(info))
    return all_applied


def _to_json(entry: MigrationEntry) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "type": "migration",
        "name": entry.name,
        "standing": entry.status.value,
        "path": str(entry.file.path) if entry.file else "",
        "code": entry.file.code if entry.file else "",
    }
    return fields if entry.record is None else {**fields, **_record_to_json(entry.record)}


def _record_to_json(record: RunRecord) -> dict[str, Any]:
    holder, migration = record.lease.holder, record.migration
    assert migration is not None
    return {
        "run_id": record.run_info.run_id,
        "updater": record.run_info.updater,
        "state": record.state.value,
        "reason": record.reason or "",
        "who": holder.who if holder else "",
        "marked": migration.marked or "",
        "started": record.run_info.created,
        "ended": _iso(record.ended),
        "lease_until": _iso(record.lease.until),
        "params": record.run_info.params,
        "counts": record.counts.named(),
        "applied_code": migration.code,
        "bulkup_version": migration.origin.version,
        "ci_job": migration.origin.ci_job,
        "git_commit": migration.origin.git_commit,
    }


def _iso(unix: int) -> str | None:
    from bulkup.report.text import iso

    return iso(datetime.fromtimestamp(unix, timezone.utc)) if unix else None


_TITLES = ("Migration", "State", "Handled", "Who", "When", "")


def _print(status: FolderStatus, target: str) -> None:
    from bulkup.cli.tables import console, print_table
    from bulkup.report.text import clean, plural

    click.echo(f"Migrations on {clean(target)}")
    if not status.entries:
        click.echo("There are none.")
        return
    rows = map(_cells, status.entries)
    print_table(console(LOG_WIDTH), _TITLES, rows, numbers=("Handled",), wraps=("",))
    if status.all_applied:
        click.echo("Everything is applied.")
        return
    to_apply = sum(entry.needs_applying for entry in status.entries)
    wrong = sum(not e.needs_applying and e.status.value != "applied" for e in status.entries)
    click.echo(f"{plural(to_apply, 'migration')} to apply, {wrong} wrong.")


def _print_all(statuses: dict[str, FolderStatus], target: str) -> None:
    """Print by namespace what is not applied; a namespace where everything is has one row."""
    from bulkup.cli.tables import console, print_table
    from bulkup.report.namespace_grid import namespace_name
    from bulkup.report.text import clean, plural

    click.echo(f"Migrations in {plural(len(statuses), 'namespace')} of {clean(target)}")
    if not statuses:
        click.echo("No namespace has data.")
        return
    rows: list[tuple[str, ...]] = []
    for namespace, status in statuses.items():
        name = namespace_name(namespace)
        if status.all_applied:
            rows.append((name, f"all {len(status.entries):,}", "applied", "", "", "", ""))
        else:
            unapplied = (e for e in status.entries if e.status.value != "applied")
            rows += [(name, *_cells(entry)) for entry in unapplied]
    titles = ("Namespace", *_TITLES)
    print_table(console(LOG_WIDTH), titles, rows, numbers=("Handled",), wraps=("",))
    left = sum(not status.all_applied for status in statuses.values())
    if left:
        click.echo(f"{plural(left, 'namespace')} of {len(statuses):,} not up to date.")
    else:
        click.echo("Everything is applied.")


def _cells(entry: MigrationEntry) -> tuple[str, ...]:
    from bulkup.migrations.status import MigrationStatus
    from bulkup.report.text import moment

    record = entry.record
    if record is None:
        return entry.name, entry.status.value, "", "", "", ""
    if entry.status is MigrationStatus.RUNNING or not record.ended:
        when = f"since {moment(datetime.fromisoformat(record.run_info.created))}"
    else:
        when = moment(datetime.fromtimestamp(record.ended, timezone.utc))
    holder, migration = record.lease.holder, record.migration
    notes = (_note(entry.status, record), migration.marked if migration else None)
    return (
        entry.name,
        entry.status.value,
        f"{record.counts.handled:,}",
        holder.who if holder else "",
        when,
        "; ".join(note for note in notes if note),
    )


def _note(status: MigrationStatus, record: RunRecord) -> str | None:
    from bulkup.migrations.status import MigrationStatus

    if status is MigrationStatus.CHANGED:
        return "changed after it was applied"
    if status is MigrationStatus.MISSING:
        left = "" if record.state.is_over else f"; it is {record.state.value} and not finished"
        return f"its file is missing{left}"
    if status is MigrationStatus.RUNNING:
        holder = record.lease.holder
        return f"process {holder.pid}" if holder else None
    if status is MigrationStatus.FAILED:
        return record.reason
    if status is MigrationStatus.INTERRUPTED:
        return record.reason or "its process was killed"
    return None
