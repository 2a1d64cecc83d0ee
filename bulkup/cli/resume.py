"""bulkup resume"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.confirm import confirm
from bulkup.cli.options import (
    EngineArgs,
    MailArgs,
    OutputArgs,
    Params,
    StateDir,
    TargetArgs,
    Wait,
    Yes,
)
from bulkup.cli.session import RunSession


@dataclass(frozen=True)
class ResumeArgs:
    run: Annotated[str | None, click.Argument(["run"], required=False)]
    param: Params
    target: TargetArgs
    engine: EngineArgs
    wait: Wait
    mail: MailArgs
    state_dir: StateDir
    yes: Yes
    output: OutputArgs


@verb("resume", ResumeArgs)
def command(args: ResumeArgs) -> int:
    """Resume RUN, or the latest unfinished run.

    The updater, its parameters and the target are those the run was started with. Options that name
    them again only check that they are the same. The options for speed and failures are those of
    the last start or resume, unless given again.
    """
    with RunSession(args.output, args.mail, args.state_dir) as session:
        from bulkup.authoring.parameters import parse_assignments
        from bulkup.runs.resume import open_unfinished, prepare_resume, resume

        context = session.context(args.engine.options(), args.wait)
        params = parse_assignments(args.param)
        with (
            open_unfinished(args.run, context) as checkpoint,
            prepare_resume(checkpoint, args.target.options(), params, context) as prepared,
        ):
            confirm(f"Run {prepared.source.name}", prepared.target, yes=args.yes)
            return resume(prepared, checkpoint).exit_code
