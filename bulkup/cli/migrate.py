"""bulkup migrate"""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bulkup.cli import options
from bulkup.cli.namespaces import namespaces, pattern_of, words_of
from bulkup.core.errors import BulkupError, Exit

if TYPE_CHECKING:
    from bulkup.core.events import Report
    from bulkup.datastore.target import Target
    from bulkup.migrations.apply import MigrateHooks, MigrateResult, NextMigration, Selection
    from bulkup.report import Printer
    from bulkup.runs.context import RunContext


@click.command("migrate")
@options.migrations
@click.option("--to", metavar="NAME", help="Apply up to this one, and no further.")
@click.option("--only", metavar="NAME", help="Apply this one alone.")
@click.option(
    "--accept-changed", metavar="NAME", multiple=True,
    help="It was changed after it was applied, and that is all right.",
)  # fmt: skip
@options.target
@namespaces
@options.local
@options.working
@options.wait
@options.state_dir
@options.yes
@options.json_lines
@options.verbosity
def command(**given: Any) -> int:
    """Apply the migrations in DIR (default: updaters) that are pending, in the order of their
    file names.

    Each file holds one updater; its name is what it is known by. Stops at the first that fails.
    One that was interrupted goes on where it was, from any machine. Each namespace has a ledger of
    its own.
    """
    from bulkup.report import github_page, make_printer

    if given["to"] and given["only"]:
        raise click.UsageError("--to and --only exclude each other")
    pattern = pattern_of(given)
    with github_page(os.environ) as page:
        with make_printer(
            json=given["json"], quiet=given["quiet"], verbose=given["verbose"]
        ) as printer:
            try:
                if pattern is not None:
                    from bulkup.cli.migrate_all import migrate_each, tell_spaces

                    outcomes = migrate_each(given, pattern, printer)
                else:
                    outcome = _migrate(given, printer)
            except BulkupError as error:
                printer.error(error)
                if page is not None:
                    page.error(error)
                return error.exit_code
            except KeyboardInterrupt:
                printer.error(
                    BulkupError(f"stopped at once; nothing is lost: {again(given)} goes on")
                )
                return Exit.SIGINT
        if pattern is not None:
            tell_spaces(given, outcomes, page)
            return outcomes.exit_code
        said = said_of(outcome, given)
        click.echo(json.dumps(fact(outcome)) if given["json"] else said)
        if page is not None:
            for name, report in outcome.reports:
                page.report(report, name)
            begun = [name for name, _ in outcome.reports]
            later = [(name, None) for name in outcome.left if name not in begun]
            page.migrations([*outcome.reports, *later], said)
    return outcome.exit_code


def _migrate(given: dict[str, Any], printer: Printer) -> MigrateResult:
    from dataclasses import replace

    from bulkup.migrations.apply import Migrator
    from bulkup.report import save_report, summarize
    from bulkup.runs.target import TargetOptions, open_target

    def on_report(report: Report) -> None:
        printer.delivered(save_report(summarize(report), Path(report.state_file).parent))

    where = TargetOptions(given["project"], given["database"], given["namespace"], given["local"])
    with open_target(where) as target:
        hooks = replace(hooks_of(given, target), on_report=on_report)
        return Migrator(target, selection_of(given), context_of(given, printer), hooks).run()


def selection_of(given: dict[str, Any]) -> Selection:
    """Raises BulkupError for a folder that is not valid."""
    from bulkup.migrations.apply import Selection
    from bulkup.migrations.folder import read_folder

    return Selection(
        read_folder(given["folder"]), given["to"], given["only"], given["accept_changed"]
    )


def context_of(given: dict[str, Any], printer: Printer) -> RunContext:
    from bulkup.cli.session import options_of
    from bulkup.runs.context import RunContext

    return RunContext(
        options_of(given), given["state_dir"], printer, given["wait"], resume_command=again(given)
    )


def hooks_of(given: dict[str, Any], target: Target) -> MigrateHooks:
    from bulkup.cli.session import confirm_target
    from bulkup.migrations.apply import MigrateHooks

    def on_next(migration: NextMigration) -> None:
        if not given["quiet"] and not given["json"]:
            more = f", {migration.remaining - 1} more after it" if migration.remaining > 1 else ""
            click.echo(f"Migration {migration.name}{more}", err=True)

    return MigrateHooks(
        confirm=lambda: confirm_target("Apply migrations", target, given), on_next=on_next
    )


def again(given: dict[str, Any]) -> str:
    """The command that goes on, with what says where."""
    words = ["bulkup", "migrate", str(given["folder"])]
    words += words_of(given, ("project", "database", "namespace", "local", "to", "only"))
    return shlex.join(words)


def fact(outcome: MigrateResult) -> dict[str, Any]:
    return {
        "type": "migrate",
        "applied": outcome.applied,
        "stopped_at": outcome.stopped_at or "",
        "reason": outcome.reason or "",
        "left": outcome.left,
        "exit_code": int(outcome.exit_code),
    }


def said_of(outcome: MigrateResult, given: dict[str, Any]) -> str:
    from bulkup.report.text import clean, plural

    applied = plural(len(outcome.applied), "migration")
    if outcome.left:
        return (
            f"{applied} applied, {len(outcome.left)} left"
            + (f", stopped at {outcome.stopped_at}" if outcome.stopped_at else "")
            + (f": {clean(outcome.reason)}" if outcome.reason else "")
            + f". Continue with: {clean(again(given))}"
        )
    if outcome.reason:
        return f"{applied} applied; {clean(outcome.reason)}. Go on with: {clean(again(given))}"
    return f"{applied} applied, none left." if outcome.applied else "Nothing is pending."
