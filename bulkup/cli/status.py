"""bulkup status"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from bulkup.cli import options
from bulkup.cli.namespaces import namespaces, pattern_of
from bulkup.core.errors import Exit

if TYPE_CHECKING:
    from bulkup.migrations.status import FolderStatus, MigrationEntry

LOG_WIDTH = 160
"""Columns of the table where there is no terminal that has a width."""


@click.command("status")
@options.migrations
@click.option("--check", is_flag=True, help="Exit with 4 when something is pending or wrong.")
@options.target
@namespaces
@options.local
@options.json_lines
def command(**given: Any) -> int:
    """Show which migrations in DIR (default: updaters) are applied, pending, running, wrong.

    Writes nothing.
    """
    import time

    from bulkup.migrations.connect import open_ledger
    from bulkup.migrations.folder import read_folder
    from bulkup.migrations.status import FolderStatus
    from bulkup.runs.target import TargetOptions

    pattern = pattern_of(given)
    if pattern is not None:
        return _status_each(given, pattern)
    folder = read_folder(given["folder"])
    where = TargetOptions(given["project"], given["database"], given["namespace"], given["local"])
    with open_ledger(where) as (ledger, target):
        plan = FolderStatus(folder, ledger.migrations(), target, time.time())
    if given["json"]:
        for row in plan.entries:
            click.echo(json.dumps(_fact(row)))
        click.echo(json.dumps({"type": "status", "done": plan.all_applied}))
    else:
        _print(plan, str(target))
    return Exit.PENDING if given["check"] and not plan.all_applied else Exit.DONE


def _status_each(given: dict[str, Any], pattern: str) -> int:
    """The same over namespaces: done when everything is applied in each."""
    import time
    from dataclasses import replace

    from bulkup.migrations.connect import open_connection
    from bulkup.migrations.folder import read_folder
    from bulkup.migrations.status import FolderStatus
    from bulkup.namespaces.find import match_namespaces
    from bulkup.runs.target import TargetOptions
    from bulkup.state.run_records import Ledger

    folder = read_folder(given["folder"])
    plans: dict[str, FolderStatus] = {}
    with open_connection(
        TargetOptions(given["project"], given["database"], None, given["local"])
    ) as (rpc, info):
        info = replace(info, namespace="")
        for namespace in match_namespaces(rpc, pattern):
            there = replace(info, namespace=namespace)
            plans[namespace] = FolderStatus(
                folder, Ledger(rpc, there).migrations(), there, time.time()
            )
    done = all(plan.all_applied for plan in plans.values())
    if given["json"]:
        for namespace, plan in plans.items():
            for row in plan.entries:
                click.echo(json.dumps({**_fact(row), "namespace": namespace}))
        fact = {"namespaces": {name: plan.all_applied for name, plan in plans.items()}}
        click.echo(json.dumps({"type": "status", "done": done, **fact}))
    else:
        _print_each(plans, str(info))
    return Exit.PENDING if given["check"] and not done else Exit.DONE


def _fact(row: MigrationEntry) -> dict[str, Any]:
    from dataclasses import asdict

    fact: dict[str, Any] = {
        "type": "migration",
        "name": row.name,
        "standing": row.status.value,
        "path": str(row.file.path) if row.file else "",
        "code": row.file.code if row.file else "",
    }
    record = row.record
    if record is None:
        return fact
    counts = {**asdict(record.counts), "writes": record.counts.writes}
    holder, migration = record.lease.holder, record.migration
    assert migration is not None
    return fact | {
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
        "counts": counts,
        "applied_code": migration.code,
        "bulkup_version": migration.origin.version,
        "ci_job": migration.origin.ci_job,
        "git_commit": migration.origin.git_commit,
    }


def _iso(unix: int) -> str | None:
    from datetime import datetime, timezone

    from bulkup.report.text import iso

    return iso(datetime.fromtimestamp(unix, timezone.utc)) if unix else None


def _print(plan: FolderStatus, target: str) -> None:
    from bulkup.report.text import clean, plural

    click.echo(f"Migrations on {clean(target)}")
    if not plan.entries:
        click.echo("There are none.")
        return
    _table(_TITLES, map(_cells, plan.entries))
    open_ = [row for row in plan.entries if row.needs_applying]
    wrong = [r for r in plan.entries if not r.needs_applying and r.status.value != "applied"]
    if plan.all_applied:
        click.echo("Everything is applied.")
    else:
        click.echo(f"{plural(len(open_), 'migration')} to apply, {len(wrong)} wrong.")


def _print_each(plans: dict[str, FolderStatus], target: str) -> None:
    """What is not as it should be, by namespace; the others have a line each."""
    from bulkup.report.namespace_grid import namespace_name
    from bulkup.report.text import clean, plural

    click.echo(f"Migrations in {plural(len(plans), 'namespace')} of {clean(target)}")
    if not plans:
        click.echo("There are none with data.")
        return
    rows: list[tuple[str, ...]] = []
    for namespace, plan in plans.items():
        if plan.all_applied:
            said = f"all {len(plan.entries):,}"
            rows.append((namespace_name(namespace), said, "applied", *("" for _ in _TITLES[2:])))
        open_ = (row for row in plan.entries if row.status.value != "applied")
        rows += [(namespace_name(namespace), *_cells(row)) for row in open_]
    _table(("Namespace", *_TITLES), rows)
    left = [namespace for namespace, plan in plans.items() if not plan.all_applied]
    if left:
        click.echo(f"{plural(len(left), 'namespace')} of {len(plans):,} not up to date.")
    else:
        click.echo("Everything is applied.")


_TITLES = ("Migration", "State", "Handled", "Who", "When", "")


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from bulkup.report.text import clean

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in titles:
        right = title == "Handled"
        table.add_column(title, justify="right" if right else "left", no_wrap=title != "")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    console.print(table)


def _cells(row: MigrationEntry) -> tuple[str, ...]:
    from datetime import datetime, timezone

    from bulkup.migrations.status import MigrationStatus
    from bulkup.report.text import moment

    record = row.record
    if record is None:
        return row.name, row.status.value, "", "", "", ""
    holder = record.lease.holder
    if row.status is MigrationStatus.RUNNING or not record.ended:
        when = f"since {moment(datetime.fromisoformat(record.run_info.created))}"
    else:
        when = moment(datetime.fromtimestamp(record.ended, timezone.utc))
    notes = {
        MigrationStatus.CHANGED: "changed after it was applied",
        MigrationStatus.MISSING: "its file is missing"
        + ("" if record.state.is_over else f"; it is {record.state.value} and not finished"),
        MigrationStatus.RUNNING: f"process {holder.pid}" if holder else "",
        MigrationStatus.FAILED: record.reason or "",
        MigrationStatus.INTERRUPTED: record.reason or "its runner was killed",
    }
    note = notes.get(row.status, "")
    marked = record.migration.marked if record.migration else None
    if marked:
        note = f"{note}; {marked}" if note else marked
    who = holder.who if holder else ""
    return row.name, row.status.value, f"{record.counts.handled:,}", who, when, note
