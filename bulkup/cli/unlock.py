"""bulkup unlock"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from bulkup.cli import options
from bulkup.core.errors import Exit, UsageError

if TYPE_CHECKING:
    from bulkup.state.record import RunRecord


@click.command("unlock")
@click.argument("run")
@options.target
@options.local
@options.yes
def command(**given: Any) -> int:
    """Free RUN (a run id, or a migration's name) when its runner is dead for certain.

    A dead runner's run is free by itself after a minute. What a runner does that lives after all
    is refused from then on; nothing is written twice.
    """
    import time

    from bulkup.migrations.connect import open_ledger
    from bulkup.migrations.manual import find_held, holder_has_died, unlock
    from bulkup.report.text import clean
    from bulkup.runs.target import TargetOptions

    def sure(record: RunRecord) -> bool:
        who = record.lease.holder
        assert who is not None
        click.echo(
            clean(
                f"{record.run_info.run_id} is held by {who.who}, process {who.pid}, last heard of "
                f"{_ago(record, time.time())}."
            )
            + (" That process of this machine has ended." if holder_has_died(record) else ""),
            err=True,
        )
        if given["yes"]:
            return True
        if not sys.stdin.isatty():
            raise UsageError("nobody is here to answer whether it is dead; --yes says so")
        return click.confirm("Is it dead for certain?", err=True)

    where = TargetOptions(given["project"], given["database"], given["namespace"], given["local"])
    with open_ledger(where) as (ledger, _):
        held = find_held(ledger, given["run"], time.time())
        if not unlock(ledger, held, confirm=sure):
            click.echo("Nothing was changed.", err=True)
            return Exit.FAILED
    click.echo(f"{clean(held[0].run_info.run_id)} is free.")
    return Exit.DONE


def _ago(record: RunRecord, now: float) -> str:
    from bulkup.report.text import duration

    return f"{duration(record.lease.heard_ago_s(now))} ago"
