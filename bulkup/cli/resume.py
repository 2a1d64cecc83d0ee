"""bulkup resume"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bulkup.cli import options

if TYPE_CHECKING:
    from bulkup.core.events import Listener, Report


@click.command("resume")
@click.argument("run", required=False)
@options.params
@options.target
@click.option(
    "--local", type=click.Path(dir_okay=False), metavar="FILE",
    help="The embedded Datastore the run is on.",
)  # fmt: skip
@options.working
@options.wait
@options.mail
@options.state_dir
@options.yes
@options.json_lines
@options.verbosity
def command(**given: Any) -> int:
    """Go on with RUN, or with the latest run that did not finish.

    The updater, its parameters and the target are those the run began with; naming them again
    only makes sure that they are the same. How fast it may go and how many entities may fail is as
    it was for the runner before, unless said otherwise.
    """
    from bulkup.cli.session import confirm, options_of, work

    def begin(listener: Listener) -> Report:
        from bulkup.authoring.parameters import parse_assignments
        from bulkup.runs.context import RunContext
        from bulkup.runs.resume import open_unfinished, prepare_resume, resume
        from bulkup.runs.target import TargetOptions

        where = TargetOptions(
            given["project"], given["database"], given["namespace"], given["local"]
        )
        params = parse_assignments(given["param"])
        context = RunContext(options_of(given), given["state_dir"], listener, given["wait"])
        with (
            open_unfinished(given["run"], context) as checkpoint,
            prepare_resume(checkpoint, where, params, context) as prepared,
        ):
            confirm(prepared, given)
            return resume(prepared, checkpoint)

    return work(given, begin)
