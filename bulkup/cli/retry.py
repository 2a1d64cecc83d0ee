"""bulkup retry"""

from __future__ import annotations

from dataclasses import dataclass

from bulkup.cli.args import verb
from bulkup.cli.confirm import confirm
from bulkup.cli.engine_args import EngineArgs
from bulkup.cli.options import (
    DryRun,
    KeysFrom,
    MailArgs,
    OutputArgs,
    RunName,
    StateDir,
    TargetArgs,
    Trace,
    Wait,
    Yes,
)
from bulkup.cli.session import RunSession
from bulkup.core.errors import UsageError
from bulkup.core.events import NothingToRetry, Warned


@dataclass(frozen=True)
class RetryArgs:
    run: RunName
    dry_run: DryRun
    keys_from: KeysFrom
    target: TargetArgs
    engine: EngineArgs
    wait: Wait
    trace: Trace
    mail: MailArgs
    state_dir: StateDir
    yes: Yes
    output: OutputArgs


@verb(
    "retry",
    RetryArgs,
    examples=(
        ("bulkup retry -n RUN", "preview, after the updater was fixed"),
        ("bulkup retry RUN", "handle the failed entities again"),
    ),
)
def command(args: RetryArgs) -> int:
    """Handle the failed entities of RUN again, after the updater was fixed.

    RUN is the id of a finished run, or an unambiguous prefix of one. Its updater, with the code it
    has now, its parameters and its target are used again. Entities that succeed leave RUN's list
    of failures; those that fail again stay, with their new error. An entity that was deleted, or no
    longer matches the query, counts as vanished.

    A retry is a run of its own, with a report of its own. The same command resumes it.
    """
    from bulkup.runs.which_run import RETRY
    from bulkup.state.files import group_folders

    if args.run is None:
        raise RETRY.missing(args.state_dir)
    if group_folders(args.state_dir, args.run):
        raise UsageError(
            f"{args.run} is a group of runs, one in each namespace; retry one at a time, for "
            f"example `bulkup retry {args.run}@NAMESPACE`"
        )
    with RunSession(args.output, args.mail, args.state_dir, trace=args.trace) as session:
        from bulkup.runs.retry import open_to_retry, prepare_retry, retry

        context = session.context(args.engine.options(dry_run=args.dry_run), args.wait)
        with open_to_retry(args.run, context) as checkpoint:
            if args.keys_from is None:
                unnamed = checkpoint.unnamed()
                _warn_of_unnamed(unnamed, session)
                if not checkpoint.has_failures_to_retry():
                    run_info = checkpoint.run_info
                    nothing = NothingToRetry(run_info.run_id, run_info.updater, unnamed)
                    session.listen(nothing)
                    return nothing.exit_code
            options = args.target.options()
            with prepare_retry(checkpoint, options, context, keys_from=args.keys_from) as prepared:
                if not args.dry_run:
                    confirm(f"Retry {prepared.source.name}", prepared.target, yes=args.yes)
                return retry(prepared, checkpoint).exit_code


def _warn_of_unnamed(unnamed: int, session: RunSession) -> None:
    from bulkup.report.text import plural

    if unnamed:
        session.listen(
            Warned(
                f"{plural(unnamed, 'failed entity', 'failed entities')} cannot be retried: the "
                "state directory that names what failed is lost"
            )
        )
