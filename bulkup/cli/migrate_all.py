"""`bulkup migrate` over namespaces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bulkup.cli.migrate import again, context_of, fact, hooks_of, said_of, selection_of

if TYPE_CHECKING:
    from bulkup.core.events import Report
    from bulkup.migrations.apply import MigrateResult
    from bulkup.namespaces.migrate_all import MigrateAllResult
    from bulkup.report import GitHubPage, Printer
    from bulkup.report.namespace_grid import Grid


def migrate_each(given: dict[str, Any], pattern: str, printer: Printer) -> MigrateAllResult:
    """Apply in every namespace that fits; a line for each as it ends. Raises BulkupError."""
    from dataclasses import replace

    from bulkup.namespaces.migrate_all import AllNamespacesMigrator
    from bulkup.report import save_report, summarize
    from bulkup.report.namespace_grid import namespace_name
    from bulkup.runs.target import TargetOptions, open_target

    def on_report(report: Report) -> None:
        delivery = save_report(summarize(report), Path(report.state_file).parent)
        if not delivery.ok:
            printer.delivered(delivery)

    def on_outcome(namespace: str, outcome: MigrateResult) -> None:
        if not given["json"] and not given["quiet"]:
            click.echo(f"{namespace_name(namespace)}: {said_of(outcome, given)}", err=True)

    with open_target(
        TargetOptions(given["project"], given["database"], None, given["local"])
    ) as target:
        return AllNamespacesMigrator(
            target,
            pattern,
            selection_of(given),
            context_of(given, printer),
            replace(hooks_of(given, target), on_report=on_report),
            on_outcome,
        ).run()


def tell_spaces(given: dict[str, Any], outcome: MigrateAllResult, page: GitHubPage | None) -> None:
    """Print the end: a table of the namespaces, or one JSON object."""
    from bulkup.report.namespace_grid import grid_lines

    said = _said(given, outcome)
    if given["json"]:
        click.echo(json.dumps(_fact(outcome)))
    else:
        for line in grid_lines(_grid(outcome)) if outcome.namespaces else ():
            click.echo(line)
        click.echo(said)
    if page is None:
        return
    rows = []
    for namespace, one in outcome.results:
        for migration, report in one.reports:
            title = f"{namespace or '(default)'}: {migration}"
            rows.append((title, report))
            if report.exit_code:
                page.report(report, title)
    page.migrations(rows, said)


def _fact(outcome: MigrateAllResult) -> dict[str, Any]:
    return {
        "type": "group",
        "namespaces": [
            {**fact(one), "type": "namespace", "namespace": namespace}
            for namespace, one in outcome.results
        ],
        "stopped_at": outcome.stopped_at,
        "reason": outcome.reason or "",
        "pending": outcome.pending,
        "appeared": outcome.appeared,
        "exit_code": int(outcome.exit_code),
    }


def _said(given: dict[str, Any], outcome: MigrateAllResult) -> str:
    from bulkup.report.namespace_grid import namespace_names
    from bulkup.report.text import clean, plural

    applied = sum(len(one.applied) for _, one in outcome.results)
    said = (
        f"{plural(applied, 'migration')} applied in {plural(len(outcome.namespaces), 'namespace')}"
    )
    if outcome.stopped_at is not None:
        reason = f": {clean(outcome.reason)}" if outcome.reason else ""
        return (
            f"{said}, stopped{reason}. Something is left in {namespace_names(outcome.pending)}. "
            f"Continue with: {clean(again(given))}"
        )
    if outcome.pending:
        said += f"; something is left in {namespace_names(outcome.pending)}"
    if outcome.appeared:
        return (
            f"{said}. New since the beginning, and not done: {namespace_names(outcome.appeared)}. "
            f"Apply there too with: {clean(again(given))}"
        )
    return f"{said}." if applied or outcome.pending else "Nothing is pending."


def _grid(outcome: MigrateAllResult) -> Grid:
    from bulkup.report.namespace_grid import Grid, namespace_name
    from bulkup.report.text import clean

    done = dict(outcome.results)
    rows = []
    for namespace in outcome.namespaces:
        one = done.get(namespace)
        if one is None:
            rows.append((namespace_name(namespace), "not begun", "", "", ""))
            continue
        state = "stopped" if namespace == outcome.stopped_at else "done"
        note = f"{one.stopped_at}: {one.reason}" if one.stopped_at else one.reason or ""
        counts = f"{len(one.applied):,}", f"{len(one.left):,}"
        rows.append((namespace_name(namespace), state, *counts, clean(note, 200)))
    head = ("Namespace", "State", "Applied", "Left", "")
    return Grid(head, tuple(rows), frozenset({2, 3}))
