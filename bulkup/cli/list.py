"""bulkup list"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import click

from bulkup.cli.args import verb
from bulkup.cli.options import Json, StateDir, TargetArgs, given_options
from bulkup.core.visible import assignment

if TYPE_CHECKING:
    from bulkup.runs.listing import DamagedRun, ListedRun


@dataclass(frozen=True)
class ListArgs:
    all: Annotated[
        bool,
        click.Option(
            ["--all"],
            is_flag=True,
            help="Also list the runs that Datastore knows of, whoever started them.",
        ),
    ]
    target: TargetArgs
    state_dir: StateDir
    json: Json


@verb(
    "list",
    ListArgs,
    examples=(
        ("bulkup list", "the runs of this state directory"),
        ("bulkup list --all --target prod", "and all that Datastore knows of"),
    ),
)
def command(args: ListArgs) -> None:
    """List the runs in the state directory, the latest first.

    With --all, also list the runs that Datastore knows of: those started on other machines, and
    those whose state directory is lost. All states are then those in Datastore. The options that
    name a target need --all. Writes nothing.
    """
    from bulkup.report.text import utc_now
    from bulkup.runs.listing import runs_here, runs_on

    if not args.all and (given := given_options(TargetArgs)):
        raise click.UsageError(f"{given[0]} goes with --all, which asks Datastore for its runs")
    runs = runs_here(args.state_dir)
    where = repr(str(args.state_dir))
    if args.all:
        from bulkup.migrations.connect import open_ledger
        from bulkup.migrations.lock import LOCK_ID

        with open_ledger(args.target.options(), only_reads=True) as (ledger, target):
            records = [r for r in ledger.all_records() if r.run_info.run_id != LOCK_ID]
            runs = runs_on(target, records, runs, ledger.server_time.now())
        where += f", nor on {target}"
    if args.json:
        from bulkup.report.json_lines import stdout_lines

        lines = stdout_lines()
        for run in runs:
            lines.write("run", _to_json(run, utc_now()))
    elif runs:
        for line in _lines(runs, utc_now()):
            click.echo(line)
    else:
        from bulkup.report.text import clean

        click.echo(clean(f"No runs in {where}."), err=True)


def _to_json(run: ListedRun | DamagedRun, now: datetime) -> dict[str, Any]:
    from bulkup.core.records import predecessor_of
    from bulkup.report.json_fields import counts_fields
    from bulkup.report.text import iso
    from bulkup.runs.listing import DamagedRun

    if isinstance(run, DamagedRun):
        return {"run_id": run.run_id, "state": "damaged", "error": run.error}
    info, counts = run.run_info, run.counts
    return {
        "run_id": info.run_id,
        "updater": info.updater,
        "state": run.state,
        "handled": counts.handled,
        "written": counts.reconciled().written,
        "deleted": counts.reconciled().deleted,
        "failed": counts.failed,
        "counts": counts_fields(counts),
        "total": run.total,
        "started": iso(run.started),
        "ended": iso(run.ended) if run.ended else None,
        "elapsed_s": run.took_s(now),
        "target": str(info.target),
        "params": info.params,
        "who": run.who,
        "marked": run.marked,
        "undone_by": run.undone_by,
        "undone_partly": run.undone_partly,
        "undo_bytes": run.undo_bytes,
        "is_here": run.is_here,
        "predecessor": predecessor_of(info.run_id),
        "successor": run.successor or "",
        "retry_of": info.retry_of,
        "retried_by": list(run.retried_by),
        "retried": run.retried,
        "paused_by": run.paused_by,
        "ranges": run.ranges,
        "ranges_finished": run.ranges_finished,
    }


_TITLES = ("Run", "State", "Started", "Took", "Handled")


def _lines(runs: Sequence[ListedRun | DamagedRun], now: datetime) -> list[str]:
    """One line of aligned cells per run, followed by what 80 columns have no room for."""
    from bulkup.cli.tables import console
    from bulkup.report.text import clean

    width = console().width
    rows = [_TITLES, *(tuple(clean(cell) for cell in _cells(run, now)) for run in runs)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_TITLES))]
    lines = []
    for row, run in zip(rows, [None, *runs], strict=True):
        cells = [cell.ljust(size) for cell, size in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
        if run is not None:
            more = textwrap.TextWrapper(width, initial_indent="  ", subsequent_indent="    ")
            lines += more.wrap(clean(_more(run)))
    return lines


def _cells(run: ListedRun | DamagedRun, now: datetime) -> tuple[str, ...]:
    from bulkup.report.text import duration
    from bulkup.runs.listing import DamagedRun

    if isinstance(run, DamagedRun):
        return run.run_id, "damaged", "", "", ""
    took_s, handled = run.took_s(now), f"{run.counts.handled:,}"
    if run.total and run.shown_state not in ("finished", "marked applied"):
        handled += f" ({min(run.counts.handled * 100 // run.total, 100)}%)"
    return (
        run.run_info.run_id,
        run.shown_state,
        _day_and_time(run.started, now),
        "" if took_s is None else duration(took_s),
        handled,
    )


def _day_and_time(when: datetime, now: datetime) -> str:
    """`28 Nov 20:38` in UTC; `28 Nov 2025` in another year."""
    return f"{when:%d %b %H:%M}" if when.year == now.year else f"{when:%d %b %Y}"


def _more(run: ListedRun | DamagedRun) -> str:
    from bulkup.report.text import size
    from bulkup.runs.listing import DamagedRun

    if isinstance(run, DamagedRun):
        return run.error
    info = run.run_info
    parts = [f"{info.updater} on {info.target}"]
    if run.counts.failed:
        since = f" ({run.retried:,} handled since)" if run.retried else ""
        parts.append(f"{run.counts.failed:,} failed{since}")
    if info.retry_of:
        parts.append(f"retry of {info.retry_of}")
    if info.params:
        parts.append(", ".join(assignment(name, value) for name, value in info.params.items()))
    if run.ranges:
        parts.append(f"{run.ranges_finished:,} of {run.ranges:,} ranges finished")
    if run.undone_by:
        partly = "partly " if run.undone_partly else ""
        parts.append(f"{partly}undone by {run.undone_by}")
    if run.undo_bytes:
        parts.append(f"undo log {size(run.undo_bytes)}")
    if run.marked:
        parts.append(run.marked)
    if run.paused_by:
        parts.append(f"paused by {run.paused_by}")
    if run.successor:
        parts.append(f"then {run.successor}")
    if run.retried_by:
        parts.append(f"retried by {', '.join(run.retried_by)}")
    if not run.is_here:
        parts.append(f"by {run.who or 'another process'}, not in this state directory")
    return "; ".join(parts)
