"""bulkup run"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bulkup.cli import options
from bulkup.cli.namespaces import namespaces, pattern_of, run_each

if TYPE_CHECKING:
    from bulkup.core.events import Listener, Report


@click.command("run")
@click.argument("updater")
@options.params
@click.option("-n", "--dry-run", is_flag=True, help="Show what would change; write nothing.")
@options.target
@namespaces
@click.option(
    "--local", type=click.Path(dir_okay=False), metavar="FILE",
    help="Use the embedded Datastore in FILE instead.",
)  # fmt: skip
@options.working
@click.option("--new", is_flag=True, help="Start over, though such a run is unfinished there.")
@options.wait
@click.option("--no-record", is_flag=True, help="Remove the run record when the run has finished.")
@options.mail
@options.state_dir
@options.yes
@options.json_lines
@options.verbosity
def command(**given: Any) -> int:
    """Run UPDATER over every entity of its query.

    UPDATER is path/to/file.py, path/to/file.py:Name or package.module:Name.

    Over several namespaces each has a run of its own; the same command goes on where it was. It
    stops at the first that does not finish, with its exit code; else it is 3 when entities failed.

    Ctrl-C stops after what is under way; `bulkup resume` goes on, whatever stopped a run.
    """
    from bulkup.cli.session import confirm, options_of, work

    pattern = pattern_of(given)

    def begin(listener: Listener) -> Report:
        if pattern is not None:
            return run_each(given, pattern, listener)
        from bulkup.authoring.parameters import parse_assignments
        from bulkup.runs.context import RunContext
        from bulkup.runs.prepare import prepare
        from bulkup.runs.start import start
        from bulkup.runs.target import TargetOptions

        dry_run = given["dry_run"]
        where = TargetOptions(
            given["project"], given["database"], given["namespace"], given["local"]
        )
        params = parse_assignments(given["param"])
        opts = options_of(given, dry_run=dry_run)
        context = RunContext(opts, given["state_dir"], listener, given["wait"])
        with prepare(given["updater"], params, where, context) as prepared:
            if not dry_run:
                confirm(prepared, given)
            return start(prepared, fresh=given["new"], keep_record=not given["no_record"])

    return work(given, begin)
