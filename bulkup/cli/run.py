"""bulkup run"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.confirm import confirm, confirm_again
from bulkup.cli.engine_args import EngineArgs
from bulkup.cli.on_beam import On, RunnerArgs, check_on_beam
from bulkup.cli.options import (
    AllowEmpty,
    DryRun,
    Gate,
    KeysFrom,
    MailArgs,
    MaxDrift,
    NamespacesArgs,
    OutputArgs,
    Params,
    StateDir,
    TargetArgs,
    Trace,
    Wait,
    Yes,
    begins_with_dry_pass,
    state_dir_words,
    typed_words,
)
from bulkup.cli.selecting import SelectionArgs
from bulkup.cli.session import RunSession
from bulkup.cli.values import completed
from bulkup.core.errors import NoTargetError
from bulkup.core.events import Warned

if TYPE_CHECKING:
    from bulkup.core.events import Report
    from bulkup.core.steering import Tuning
    from bulkup.runs.context import RunContext
    from bulkup.runs.plan_file import PlanFile


@dataclass(frozen=True)
class RunArgs:
    updater: Annotated[str, click.Argument(["updater"], shell_complete=completed)]
    runner_args: RunnerArgs
    dry_run: DryRun
    selection: SelectionArgs
    keys_from: KeysFrom
    param: Params
    target: TargetArgs
    namespaces: NamespacesArgs
    engine: EngineArgs
    new: Annotated[
        bool,
        click.Option(["--new"], is_flag=True, help="Start a new run even if one is unfinished."),
    ]
    once: Annotated[
        bool,
        click.Option(
            ["--once"],
            is_flag=True,
            help="Do nothing if a run has finished the same work (same source, parameters and "
            "query).",
        ),
    ]
    gate: Gate
    plan: Annotated[
        Path | None,
        click.Option(
            ["--plan"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            help="Carry out the plan in FILE (`bulkup plan --out FILE`): refuse to start if "
            "anything has changed since, and stop if the run differs from the plan.",
        ),
    ]
    max_drift: MaxDrift
    until_clean: Annotated[
        bool,
        click.Option(
            ["--until-clean"],
            is_flag=True,
            help="Repeat the run until a pass has nothing to write, for entities that others "
            "create or change while it works. For updaters with idempotent = True or is_done.",
        ),
    ]
    ranges: Annotated[
        int | None,
        click.Option(
            ["--ranges"],
            type=click.IntRange(1, 10_000),
            metavar="N",
            help="Cut the run into about N ranges of keys. The same command, here or on other "
            "machines, joins and shares the work.",
        ),
    ]
    allow_empty: AllowEmpty
    wait: Wait
    no_record: Annotated[
        bool,
        click.Option(
            ["--no-record"], is_flag=True, help="Delete the run record when the run has finished."
        ),
    ]
    verify: Annotated[
        bool,
        click.Option(
            ["--verify"],
            is_flag=True,
            help="When the run has finished, verify that every entity is done (bulkup verify).",
        ),
    ]
    trace: Trace
    on: On
    mail: MailArgs
    state_dir: StateDir
    yes: Yes
    output: OutputArgs


@verb(
    "run",
    RunArgs,
    examples=(
        ("bulkup run -n full_name.py", "preview: shows what would change"),
        ("bulkup run full_name.py --target prod -p sep=-", "run it, with a parameter"),
    ),
)
def command(args: RunArgs) -> int:
    """Run UPDATER over every entity of its query.

    UPDATER is path/to/file.py, path/to/file.py:Name, package.module:Name, or the name of a built-in
    one, which needs --kind (`bulkup updaters` lists them).

    With several namespaces, each has a run of its own. The command stops at the first that fails,
    with its exit code; otherwise it exits with 3 if entities failed. The same command continues
    where it stopped.

    With --keys-from, a list of keys takes the place of the query: every entity in it is handled,
    whether or not it matches the query's filters. Only the query's kind and namespace still apply.
    A key without an entity counts as vanished.

    If the same work was finished before, you are asked on a terminal, and warned elsewhere. With
    --once, the command does nothing in that case, so a CI job can be repeated however its last
    attempt ended.

    With --until-clean, further passes follow, each a run of its own, until one has nothing to
    write: at most 10, and each has to write less than the one before, or the command exits with 4.
    If the server tells when entities were changed, a pass skips those that have not changed since
    the previous pass began.

    With --ranges, several processes work on one run: start the same command, or `bulkup resume`,
    as often as you like, also on other machines. They share --max-rate and --max-failures. Whoever
    finds all ranges finished ends the run.

    With --on beam, the workers of an Apache Beam pipeline do the work; Beam's own options come
    after `--`, such as --runner=DataflowRunner. Ctrl-C then leaves the pipeline running.

    Ctrl-C finishes the commits in flight and saves. Whatever stopped a run, `bulkup resume`
    continues it.
    """
    if args.new and args.once:
        raise click.UsageError("--new and --once cannot be used together")
    if args.verify and args.namespaces.pattern(args.target) is not None:
        raise click.UsageError(
            "--verify cannot be used with several namespaces; verify each with "
            "`bulkup verify UPDATER --namespace NAME`"
        )
    check_on_beam(args.on, args.runner_args, _given(args))
    pattern = args.namespaces.pattern(args.target)
    resume_command = None if pattern is None else partial(_same_command, args)
    with RunSession(
        args.output, args.mail, args.state_dir, resume_command, trace=args.trace
    ) as session:
        options = args.engine.options(dry_run=args.dry_run, max_drift=args.max_drift)
        context = session.context(options, args.wait)
        context = replace(
            context,
            allow_empty=args.allow_empty,
            once=args.once,
            gate=begins_with_dry_pass(args.gate),
            plan=_plan(args, pattern),
            until_clean=args.until_clean,
            on_done=lambda done: confirm_again(done, yes=args.yes or args.dry_run),
        )
        if args.ranges is not None and (pattern is not None or args.dry_run or args.no_record):
            raise click.UsageError(
                "--ranges cannot be used with several namespaces, --dry-run or --no-record"
            )
        if pattern is not None:
            return _run_in_namespaces(args, pattern, context).exit_code

        from bulkup.authoring.parameters import parse_assignments
        from bulkup.runs.key_input import keys_from_file
        from bulkup.runs.prepare import prepare
        from bulkup.runs.start import Cutting, start
        from bulkup.runs.verify import check_verifiable, verify_after

        params = parse_assignments(args.param)
        keys = keys_from_file(args.keys_from) if args.keys_from is not None else None
        with _planned_target_named(args, context.plan), prepare(
            args.updater, params, args.target.options(), context,
            selection=args.selection.selection(), keys=keys,
        ) as prepared:  # fmt: skip
            if not args.dry_run:
                query = prepared.shown_query
                over = f" over {query}" if query else ""
                confirm(f"Run {prepared.source.name}{over}", prepared.target, yes=args.yes)
            if args.verify:
                check_verifiable(prepared)
            if args.on is not None:
                from bulkup.beam.launcher import run_on_beam

                report = run_on_beam(prepared, args.runner_args, ranges=args.ranges, fresh=args.new)
            else:
                cutting = Cutting(args.ranges) if args.ranges is not None else None
                report = start(
                    prepared, fresh=args.new, keep_record=not args.no_record, cutting=cutting
                )
            if args.verify and report.success:
                return verify_after(prepared).exit_code or report.exit_code
            return report.exit_code


def _given(args: RunArgs) -> dict[str, bool]:
    """For each option that cannot be used with Beam, whether it was given."""
    return {
        "--local": args.target.local is not None,
        "--dry-run": args.dry_run,
        "--all-namespaces": args.namespaces.all_namespaces,
        "--namespaces": args.namespaces.namespaces is not None,
        "--keys-from": args.keys_from is not None,
        "--until-clean": args.until_clean,
        "--limit": args.engine.limit is not None,
        "--max-time": args.engine.max_time is not None,
        "--processes": args.engine.processes > 1,
        "--health-url": args.engine.health_url is not None,
        "--health-cmd": args.engine.health_cmd is not None,
        "--no-record": args.no_record,
        "--trace": args.trace is not None,
    }


def _plan(args: RunArgs, pattern: str | None) -> PlanFile | None:
    """Raises UsageError."""
    if args.plan is None:
        return None
    from bulkup.runs.plan_file import read_plan

    if pattern is not None:
        raise click.UsageError(
            "--plan cannot be used with several namespaces: a plan is for one; run it with "
            "--namespace NAME"
        )
    return read_plan(args.plan)


@contextmanager
def _planned_target_named(args: RunArgs, plan: PlanFile | None) -> Iterator[None]:
    """If no target was named, say in the error on which file or emulator the plan was made."""
    try:
        yield
    except NoTargetError as error:
        options = args.target.options()
        if plan is None or options.local or plan.plan.work.target.is_real:
            raise
        target = plan.plan.work.target
        how = f"set DATASTORE_EMULATOR_HOST={target.emulator} and add --project {target.project}"
        if target.local:
            how = f"add {shlex.join(['--local', target.local])}"
        raise NoTargetError(f"{str(plan.path)!r} is a plan for {target}; {how}") from error


def _run_in_namespaces(args: RunArgs, pattern: str, context: RunContext) -> Report:
    from bulkup.authoring.parameters import parse_assignments
    from bulkup.namespaces.group_run import run_in_namespaces
    from bulkup.report.namespace_grid import namespace_names
    from bulkup.runs.prepare import open_and_load
    from bulkup.runs.target import ignored_emulator

    if args.no_record:
        raise click.UsageError(
            "--no-record cannot be used with several namespaces: only the run records tell which "
            "are done"
        )
    params = parse_assignments(args.param)
    options = args.target.options()
    ignored = ignored_emulator(options)
    selection = args.selection.selection()
    with open_and_load(args.updater, params, options, context, selection=selection) as opened:
        target, loaded, _ = opened
        if ignored:
            context.listener(Warned(ignored))

        def ask(namespaces: Sequence[str]) -> None:
            where = f"in {len(namespaces)} namespaces ({namespace_names(namespaces)})"
            where += f", only {selection}," if selection else ""
            confirm(f"Run {loaded.source.name} {where}", target, yes=args.yes)

        return run_in_namespaces(loaded, target, pattern, context, fresh=args.new, confirm=ask)


def _same_command(args: RunArgs, tuning: Tuning) -> str:
    """The command that continues in the namespaces that are left, with the current tuning."""
    words = ["bulkup", "run", args.updater]
    for assignment in args.param:
        words += ["-p", assignment]
    words += args.selection.selection().words()
    words += args.namespaces.words()
    words += args.target.words()
    words += args.engine.options(max_drift=args.max_drift).tuned(tuning).words()
    words += args.mail.words()
    words += ["--once"] if args.once else []
    words += typed_words(gate=args.gate)
    words += ["--until-clean"] if args.until_clean else []
    words += ["--allow-empty"] if args.allow_empty else []
    words += state_dir_words(args.state_dir)
    return shlex.join(words)
