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
    from bulkup.migrations.plan import Plan, Row

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

    from bulkup.migrations.connect import connected
    from bulkup.migrations.folder import read_folder
    from bulkup.migrations.plan import Plan
    from bulkup.runs.prepare import TargetOptions

    pattern = pattern_of(given)
    if pattern is not None:
        return _status_each(given, pattern)
    folder = read_folder(given["folder"])
    where = TargetOptions(given["project"], given["database"], given["namespace"], given["local"])
    with connected(where) as (ledger, target):
        plan = Plan(folder, ledger.migrations(), target, time.time())
    if given["json"]:
        for row in plan.rows:
            click.echo(json.dumps(_fact(row)))
        click.echo(json.dumps({"type": "status", "done": plan.is_done}))
    else:
        _print(plan, str(target))
    return Exit.PENDING if given["check"] and not plan.is_done else Exit.DONE


def _status_each(given: dict[str, Any], pattern: str) -> int:
    """The same over namespaces: done when everything is applied in each."""
    import time
    from dataclasses import replace

    from bulkup.migrations.connect import connected_rpc
    from bulkup.migrations.folder import read_folder
    from bulkup.migrations.plan import Plan
    from bulkup.namespaces.find import fitting
    from bulkup.runs.prepare import TargetOptions
    from bulkup.state.run_records import Ledger

    folder = read_folder(given["folder"])
    plans: dict[str, Plan] = {}
    with connected_rpc(
        TargetOptions(given["project"], given["database"], None, given["local"])
    ) as (rpc, info):
        info = replace(info, namespace="")
        for namespace in fitting(rpc, pattern):
            there = replace(info, namespace=namespace)
            plans[namespace] = Plan(folder, Ledger(rpc, there).migrations(), there, time.time())
    done = all(plan.is_done for plan in plans.values())
    if given["json"]:
        for namespace, plan in plans.items():
            for row in plan.rows:
                click.echo(json.dumps({**_fact(row), "namespace": namespace}))
        fact = {"namespaces": {name: plan.is_done for name, plan in plans.items()}}
        click.echo(json.dumps({"type": "status", "done": done, **fact}))
    else:
        _print_each(plans, str(info))
    return Exit.PENDING if given["check"] and not done else Exit.DONE


def _fact(row: Row) -> dict[str, Any]:
    from dataclasses import asdict

    fact: dict[str, Any] = {
        "type": "migration",
        "name": row.name,
        "standing": row.standing.value,
        "path": str(row.migration.path) if row.migration else "",
        "code": row.migration.code if row.migration else "",
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


def _print(plan: Plan, target: str) -> None:
    from bulkup.report.text import clean, plural

    click.echo(f"Migrations on {clean(target)}")
    if not plan.rows:
        click.echo("There are none.")
        return
    _table(_TITLES, map(_cells, plan.rows))
    open_ = [row for row in plan.rows if row.is_to_do]
    wrong = [r for r in plan.rows if not r.is_to_do and r.standing.value != "applied"]
    if plan.is_done:
        click.echo("Everything is applied.")
    else:
        click.echo(f"{plural(len(open_), 'migration')} to apply, {len(wrong)} wrong.")


def _print_each(plans: dict[str, Plan], target: str) -> None:
    """What is not as it should be, by namespace; the others have a line each."""
    from bulkup.report.namespace_grid import namespace_name
    from bulkup.report.text import clean, plural

    click.echo(f"Migrations in {plural(len(plans), 'namespace')} of {clean(target)}")
    if not plans:
        click.echo("There are none with data.")
        return
    rows: list[tuple[str, ...]] = []
    for namespace, plan in plans.items():
        if plan.is_done:
            said = f"all {len(plan.rows):,}"
            rows.append((namespace_name(namespace), said, "applied", *("" for _ in _TITLES[2:])))
        open_ = (row for row in plan.rows if row.standing.value != "applied")
        rows += [(namespace_name(namespace), *_cells(row)) for row in open_]
    _table(("Namespace", *_TITLES), rows)
    left = [namespace for namespace, plan in plans.items() if not plan.is_done]
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


def _cells(row: Row) -> tuple[str, ...]:
    from datetime import datetime, timezone

    from bulkup.migrations.plan import Standing
    from bulkup.report.text import moment

    record = row.record
    if record is None:
        return row.name, row.standing.value, "", "", "", ""
    holder = record.lease.holder
    if row.standing is Standing.RUNNING or not record.ended:
        when = f"since {moment(datetime.fromisoformat(record.run_info.created))}"
    else:
        when = moment(datetime.fromtimestamp(record.ended, timezone.utc))
    notes = {
        Standing.CHANGED: "changed after it was applied",
        Standing.MISSING: "its file is missing"
        + ("" if record.state.is_over else f"; it is {record.state.value} and not finished"),
        Standing.RUNNING: f"process {holder.pid}" if holder else "",
        Standing.FAILED: record.reason or "",
        Standing.INTERRUPTED: record.reason or "its runner was killed",
    }
    note = notes.get(row.standing, "")
    marked = record.migration.marked if record.migration else None
    if marked:
        note = f"{note}; {marked}" if note else marked
    who = holder.who if holder else ""
    return row.name, row.standing.value, f"{record.counts.handled:,}", who, when, note
