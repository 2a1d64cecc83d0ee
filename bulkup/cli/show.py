"""bulkup show"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.bundles import run_or_bundle
from bulkup.cli.options import Json, StateDir
from bulkup.cli.tables import console
from bulkup.cli.values import completed
from bulkup.core.records import group_of

if TYPE_CHECKING:
    from bulkup.core.events import Report
    from bulkup.report.summary_model import Summary
    from bulkup.state.checkpoint import Checkpoint


@dataclass(frozen=True)
class ShowArgs:
    run: Annotated[str | None, click.Argument(["run"], shell_complete=completed, required=False)]
    failed_keys: Annotated[
        bool,
        click.Option(
            ["--failed-keys"], is_flag=True, help="Print only the keys that failed, one per line."
        ),
    ]
    changes: Annotated[
        bool,
        click.Option(
            ["--changes"], is_flag=True, help="Print what it has changed, property by property."
        ),
    ]
    key: Annotated[
        str | None,
        click.Option(
            ["--key"],
            metavar="KEY",
            help="With --changes: only what it has changed in this entity, \"Key('City', 5)\".",
        ),
    ]
    state_dir: StateDir
    json: Json


@verb(
    "show",
    ShowArgs,
    examples=(
        ("bulkup show", "the run that was worked on last"),
        ("bulkup show RUN --changes", "each entity, before and after"),
    ),
)
def command(args: ShowArgs) -> None:
    """Show one run: its report, all failures, and its log.

    RUN is a run id, an unambiguous prefix of one, the id of a group of runs, one in each namespace,
    or a file of `bulkup bundle`. Without RUN: the run that was worked on last.
    """
    with run_or_bundle(args) as given:
        _show(given)


def _show(args: ShowArgs) -> None:
    from bulkup.state.files import find_latest, find_run, group_folders

    if args.key is not None and not args.changes:
        raise click.UsageError("--key goes with --changes")
    if args.changes and args.failed_keys:
        raise click.UsageError("--changes and --failed-keys cannot be used together")
    latest = find_latest(args.state_dir) if args.run is None else None
    group_id = group_of(latest.name) if latest is not None else args.run
    of_group = group_folders(args.state_dir, group_id) if group_id else []
    if args.failed_keys:
        _print_failed_keys(of_group or [latest or find_run(args.state_dir, args.run or "")], args)
    elif args.changes:
        _print_changes(of_group or [latest or find_run(args.state_dir, args.run or "")], args)
    elif group_id and of_group:
        _show_group(group_id, of_group, args)
    else:
        _show_run(latest or find_run(args.state_dir, args.run or ""), args)


def _print_failed_keys(folders: Sequence[Path], args: ShowArgs) -> None:
    """Print the keys as they are read: there may be a million."""
    from contextlib import closing

    from bulkup.core.typed_key import typed_key
    from bulkup.report.json_lines import stdout_lines
    from bulkup.report.text import clean, plural
    from bulkup.state.checkpoint import Checkpoint

    lines = stdout_lines() if args.json else None
    unnamed = 0
    for folder in sorted(folders):
        with closing(Checkpoint.open(folder)) as checkpoint:
            run_id = checkpoint.run_info.run_id
            for key in checkpoint.failed_keys():
                if lines is None:
                    click.echo(clean(key, len(key)))
                else:
                    fields = {"run_id": run_id, "key": key, "typed_key": typed_key(key)}
                    lines.write("failed_key", fields)
            unnamed += checkpoint.unnamed()
    if unnamed:
        click.echo(f"{plural(unnamed, 'more failure')}: not named here, nor in Datastore", err=True)


def _print_changes(folders: Sequence[Path], args: ShowArgs) -> None:
    """Print the changes as they are read: there may be a million."""
    from contextlib import closing

    from bulkup.core.changes import change_fields
    from bulkup.report.change_lines import change_lines
    from bulkup.report.json_lines import stdout_lines
    from bulkup.report.text import clean
    from bulkup.runs.changes import changes_of
    from bulkup.state.checkpoint import Checkpoint

    lines = stdout_lines() if args.json else None
    terminal, found = console(), 0
    for folder in sorted(folders):
        with closing(Checkpoint.open(folder)) as checkpoint:
            run_id = checkpoint.run_info.run_id
            for change in changes_of(checkpoint, args.key):
                found += 1
                if lines is None:
                    for line in change_lines(change, is_done=True):
                        terminal.print(line, soft_wrap=True)
                else:
                    lines.run_id = run_id
                    lines.write("change", change_fields(change))
    if not found:
        what = "nothing" if args.key is None else f"nothing in {args.key}"
        click.echo(clean(f"{run_id} has changed {what}."), err=True)


def _show_run(folder: Path, args: ShowArgs) -> None:
    from bulkup.runs.run_facts import shown_report
    from bulkup.state.checkpoint import Checkpoint

    checkpoint = Checkpoint.open(folder)
    try:
        report = shown_report(checkpoint, args.state_dir)
        if args.json:
            _print_json(report, checkpoint)
        else:
            _print(report, checkpoint)
    finally:
        checkpoint.close()


def _show_group(group_id: str, folders: Sequence[Path], args: ShowArgs) -> None:
    from bulkup.namespaces.stored import stored_group
    from bulkup.report import summarize
    from bulkup.state.display import resume_command

    command = resume_command(group_id, args.state_dir)
    report = stored_group(group_id, folders, next_command=command)
    if args.json:
        from bulkup.report.json_fields import namespaces_fields, summary_fields
        from bulkup.report.json_lines import stdout_lines

        fields = {**summary_fields(report), **namespaces_fields(report)}
        stdout_lines().write("group", fields, at=report.ended)
    else:
        _print_summary(summarize(report))


def _print_summary(summary: Summary) -> None:
    """As at the end of the run: styled and wrapped on a terminal only."""
    from bulkup.cli.tables import console
    from bulkup.report.summary_terminal import print_summary
    from bulkup.report.summary_text import summary_text

    out = console()
    if out.is_terminal:
        print_summary(out, summary)
    else:
        click.echo(summary_text(summary), nl=False)


def _print_json(report: Report, checkpoint: Checkpoint) -> None:
    from bulkup.report.json_fields import failure_fields, summary_fields, time_of
    from bulkup.report.json_lines import stdout_lines

    lines = stdout_lines()
    lines.run_id = report.run_id
    max_failures = checkpoint.status().max_failures
    for position, failure in enumerate(checkpoint.failures(), 1):
        limits = {"failed": position, "max_failures": max_failures}
        fields = {**failure_fields(failure), **limits}
        lines.write("failure", fields, at=time_of(failure))
    for line in checkpoint.log_lines():
        lines.write("log", {"line": line}, at=time_of(line))
    lines.write("summary", summary_fields(report), at=report.ended)


def _print(report: Report, checkpoint: Checkpoint) -> None:
    """Print the summary, and below it the failures and log lines it has no room for."""
    from bulkup.report.summary_model import summarize, what_failed
    from bulkup.report.text import clean, plural

    summary = summarize(report)
    shown, summary_label = summary.failures, summary.next_label
    summary = replace(summary, failures_rest=None, log_lines=(), log_rest=None, next_command=None)
    _print_summary(summary)
    if any(lines.count > 1 for lines in shown) or report.other_failures:
        click.echo("\nEach failure")
        for failure in checkpoint.failures():
            click.echo(f"  {clean(failure.key)}: {what_failed(failure)}")
    if unnamed := checkpoint.unnamed():
        click.echo(f"  {plural(unnamed, 'more failure')}: not named here, nor in Datastore")
    if report.log_total:
        click.echo("\nLog")
        for line in checkpoint.log_lines():
            click.echo(f"  {clean(line)}")
    if undo := _undo_line(checkpoint, report):
        click.echo(f"\n{clean(undo)}")
    if report.next_command:
        click.echo(f"\n{summary_label}: {clean(report.next_command)}")


def _undo_line(checkpoint: Checkpoint, report: Report) -> str:
    """Whether the run is undone, or how long it can be undone; empty if it cannot be."""
    from bulkup.report.text import run_command, size
    from bulkup.state.undo_files import undo_bytes

    status, run_id = checkpoint.status(), checkpoint.run_info.run_id
    if status.undone_by is not None:
        return f"{'Partly undone' if status.partly else 'Undone'} by {status.undone_by}"
    if status.brought_back_by is not None:
        return f"Undone, and brought back by {status.brought_back_by}"
    if not (kept := undo_bytes(checkpoint.folder)):
        return ""
    command = run_command("undo", run_id, report.state_file)
    return f"Undo with `{command}` until its folder is deleted (undo log: {size(kept)})"
