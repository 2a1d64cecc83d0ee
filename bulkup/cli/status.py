"""bulkup status"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any

import click

from bulkup.cli.args import verb
from bulkup.cli.options import FolderArgs, Json, NamespacesArgs, TargetArgs
from bulkup.cli.watch_status import watch
from bulkup.core.errors import Exit

if TYPE_CHECKING:
    from bulkup.migrations.status import FolderStatus, MigrationEntry, MigrationStatus
    from bulkup.state.record import RunRecord

LOG_WIDTH = 160
"""Columns of the table where standard output is not a terminal."""


@dataclass(frozen=True)
class StatusArgs:
    folder: FolderArgs
    check: Annotated[
        bool,
        click.Option(
            ["--check"], is_flag=True, help="Exit with 4 when a migration is pending or wrong."
        ),
    ]
    watch: Annotated[
        bool,
        click.Option(["--watch"], is_flag=True, help="Look again every 2 seconds, until Ctrl-C."),
    ]
    target: TargetArgs
    namespaces: NamespacesArgs
    json: Json


@verb(
    "status",
    StatusArgs,
    examples=(
        ("bulkup status", "what is applied, and what is pending"),
        ("bulkup status --check", "a gate for deployments: exits with 4 if any is not applied"),
    ),
)
def command(args: StatusArgs) -> int:
    """Show which migrations in DIR (default: updaters) are applied, pending, running or wrong.

    A migration is wrong if its file was changed after it was applied, or is missing. Files whose
    names do not begin with digits are not migrations. Writes nothing.

    With --watch, the table is drawn again when something has changed; with --json, each line that
    has changed is printed. Ctrl-C ends it with exit code 0.
    """
    if args.watch and args.check:
        raise click.UsageError("--watch and --check cannot be used together")
    pattern = args.namespaces.pattern(args.target)
    if args.watch:
        return watch(lambda: _look(args, pattern), _lines, _print_look, json=args.json)
    look = _look(args, pattern)
    if args.json:
        from bulkup.report.json_lines import stdout_lines

        lines = stdout_lines()
        for kind, fields in _lines(look):
            lines.write(kind, fields)
    else:
        _print_look(look)
    return Exit.PENDING if args.check and not look.all_applied else Exit.DONE


@dataclass(frozen=True)
class _Look:
    """The state of a folder of migrations at one moment."""

    statuses: Mapping[str, FolderStatus]
    """By namespace."""
    target: str
    in_many: bool
    """Whether several namespaces were asked for, even if only one was found."""

    @property
    def all_applied(self) -> bool:
        return all(status.all_applied for status in self.statuses.values())


def _look(args: StatusArgs, pattern: str | None) -> _Look:
    from bulkup.migrations.connect import open_connection, open_ledger
    from bulkup.migrations.folder import read_folder
    from bulkup.migrations.status import FolderStatus
    from bulkup.namespaces.find import match_namespaces
    from bulkup.state.run_records import Ledger

    folder = read_folder(args.folder.path, "bulkup status DIR")
    if pattern is None:
        with open_ledger(args.target.options(), only_reads=True) as (ledger, target):
            now = ledger.server_time.now()
            status = FolderStatus(folder, ledger.migrations(), target, now)
        return _Look({target.namespace: status}, str(target), False)
    statuses: dict[str, FolderStatus] = {}
    with open_connection(args.target.options(), only_reads=True) as (rpc, info):
        info = replace(info, namespace="")
        for namespace in match_namespaces(rpc, pattern):
            target = replace(info, namespace=namespace)
            records = Ledger(rpc, target).migrations()
            statuses[namespace] = FolderStatus(folder, records, target, rpc.server_time.now())
    return _Look(statuses, str(info), True)


def _lines(look: _Look) -> list[tuple[str, dict[str, Any]]]:
    """The lines of --json: their types and fields."""
    lines: list[tuple[str, dict[str, Any]]] = []
    for namespace, status in look.statuses.items():
        beside = {"namespace": namespace} if look.in_many else {}
        lines += [("migration", {**_to_json(entry), **beside}) for entry in status.entries]
    end: dict[str, Any] = {"done": look.all_applied}
    if look.in_many:
        end["namespaces"] = {name: one.all_applied for name, one in look.statuses.items()}
    return [*lines, ("status", {**end, **_left_out(*look.statuses.values())})]


def _print_look(look: _Look) -> None:
    if look.in_many:
        _print_all(look.statuses, look.target)
        return
    for status in look.statuses.values():
        _print(status, look.target)


def _to_json(entry: MigrationEntry) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": entry.name,
        "standing": entry.status.value,
        "path": str(entry.file.path) if entry.file else "",
        "code": entry.file.code if entry.file else "",
    }
    if entry.same_code:
        fields["same_code"] = entry.same_code
    return fields if entry.record is None else {**fields, **_record_to_json(entry.record)}


def _left_out(*statuses: FolderStatus) -> dict[str, Any]:
    """The updaters that are not migrations, if there are any."""
    names = {name for status in statuses for name in status.folder.updaters_without_number}
    return {"updaters_without_number": sorted(names)} if names else {}


def _record_to_json(record: RunRecord) -> dict[str, Any]:
    from bulkup.report.json_fields import counts_fields
    from bulkup.report.text import iso

    holder, migration = record.lease.holder, record.migration
    assert migration is not None
    return {
        "run_id": record.run_info.run_id,
        "updater": record.run_info.updater,
        "state": record.state.value,
        "reason": record.reason or "",
        "who": holder.who if holder else "",
        "marked": migration.marked or "",
        "started": iso(datetime.fromisoformat(record.run_info.created)),
        "ended": iso(ended) if (ended := record.ended_at()) else None,
        "lease_until": _iso(record.lease.until),
        "params": record.run_info.params,
        "counts": counts_fields(record.counts),
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
    from bulkup.migrations.status import moved
    from bulkup.report.text import clean, plural

    click.echo(f"Migrations on {clean(target)}")
    if not status.entries:
        click.echo("There are none.")
        _print_left_out(status)
        return
    rows = map(_cells, status.entries)
    print_table(console(LOG_WIDTH), _TITLES, rows, numbers=("Handled",), wraps=("",))
    _print_left_out(status)
    if status.all_applied:
        click.echo("Everything is applied.")
        return
    for entry in status.entries:
        if entry.is_gone or entry.status.value == "renamed":
            click.echo(clean(f"{moved(status, entry)}."))
    failed = sum(entry.status.value == "failed" for entry in status.entries)
    to_apply = sum(entry.needs_applying for entry in status.entries) - failed
    wrong = sum(not e.needs_applying and e.status.value != "applied" for e in status.entries)
    how_many_failed = f" {failed} failed," if failed else ""
    click.echo(f"{plural(to_apply, 'migration')} to apply,{how_many_failed} {wrong} wrong.")


def _print_left_out(*statuses: FolderStatus) -> None:
    from bulkup.migrations.status import unnumbered
    from bulkup.report.text import clean

    for sentence in {unnumbered(s.folder) for s in statuses if s.folder.updaters_without_number}:
        click.echo(clean(f"{sentence}."))


def _print_all(statuses: Mapping[str, FolderStatus], target: str) -> None:
    """Print, by namespace, what is not applied. A namespace where everything is applied has one
    row."""
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
    _print_left_out(*statuses.values())
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
    if entry.status is MigrationStatus.RENAMED:
        later = record.migration.name if record.migration else ""
        return entry.name, entry.status.value, "", "", "", f"in the ledger it is {later}"
    if entry.status is MigrationStatus.RUNNING or not record.ended:
        when = f"since {moment(datetime.fromisoformat(record.run_info.created))}"
    else:
        when = moment(datetime.fromtimestamp(record.ended, timezone.utc))
    holder, migration = record.lease.holder, record.migration
    same_code = f"{entry.same_code[0]} has its code" if entry.same_code else None
    marked = migration.marked if migration else None
    notes = (_note(entry.status, record), same_code, marked)
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

    if status is MigrationStatus.APPLIED and record.migration and not record.migration.marked:
        counts_of_all = not record.chain.links
        return "matched 0" if counts_of_all and not record.counts.handled else None
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
