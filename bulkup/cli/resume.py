"""bulkup resume"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.confirm import confirm
from bulkup.cli.engine_args import EngineArgs
from bulkup.cli.options import (
    MailArgs,
    MaxDrift,
    OutputArgs,
    Params,
    StateDir,
    TargetArgs,
    Trace,
    Wait,
    Yes,
)
from bulkup.cli.session import RunSession
from bulkup.cli.values import completed

if TYPE_CHECKING:
    from bulkup.core.events import Report
    from bulkup.runs.context import RunContext


@dataclass(frozen=True)
class ResumeArgs:
    run: Annotated[str | None, click.Argument(["run"], shell_complete=completed, required=False)]
    param: Params
    target: TargetArgs
    engine: EngineArgs
    max_drift: MaxDrift
    wait: Wait
    trace: Trace
    mail: MailArgs
    state_dir: StateDir
    yes: Yes
    output: OutputArgs


@verb(
    "resume",
    ResumeArgs,
    examples=(
        ("bulkup resume", "the latest unfinished run"),
        ("bulkup resume RUN --max-failures 10", "continue even if entities fail"),
    ),
)
def command(args: ResumeArgs) -> int:
    """Resume RUN, or the latest unfinished run.

    RUN is a run id, an unambiguous prefix of one, or the id of a group of runs, one in each
    namespace.

    The updater, its parameters and the target are those the run was started with. Options that name
    them again only check that they are the same. The options for speed and failures are those of
    the last start or resume, unless given again. Those for mail and the webhook
    are not kept; give them again.
    """
    with RunSession(args.output, args.mail, args.state_dir, trace=args.trace) as session:
        from bulkup.authoring.parameters import parse_assignments
        from bulkup.runs.ended import report_stored
        from bulkup.runs.resume import (
            needs_no_datastore,
            open_unfinished,
            prepare_resume,
            resume,
        )
        from bulkup.state.files import group_folders

        context = session.context(args.engine.options(max_drift=args.max_drift), args.wait)
        params = parse_assignments(args.param)
        if args.run and (folders := group_folders(context.state_dir, args.run)):
            return _resume_group(args.run, folders, args, context, params).exit_code
        with open_unfinished(args.run, context) as checkpoint:
            if needs_no_datastore(checkpoint):
                return report_stored(context, checkpoint).exit_code
            options = args.target.options()
            with prepare_resume(checkpoint, options, params, context) as prepared:
                query = prepared.shown_query
                over = f" over {query}" if query else ""
                confirm(f"Run {prepared.source.name}{over}", prepared.target, yes=args.yes)
                return resume(prepared, checkpoint).exit_code


def _resume_group(
    group_id: str,
    folders: Sequence[Path],
    args: ResumeArgs,
    context: RunContext,
    params: Mapping[str, str],
) -> Report:
    """Continue in the namespaces that are left. The updater, its parameters and the target are read
    from the group's checkpoints here."""
    from bulkup.namespaces.group_run import resume_group
    from bulkup.namespaces.stored import group_info
    from bulkup.runs.prepare import open_and_load
    from bulkup.runs.resume import check_same_params
    from bulkup.runs.target import options_for

    run_info = group_info(folders)
    check_same_params(run_info, params)
    options = replace(options_for(run_info, args.target.options()), namespace="")
    with open_and_load(
        run_info.spec, run_info.params, options, context, selection=run_info.selection
    ) as (target, loaded, _):
        confirm(f"Run {loaded.source.name} in the namespaces of {group_id}", target, yes=args.yes)
        return resume_group(loaded, target, group_id, context)
