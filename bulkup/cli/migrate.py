"""bulkup migrate"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.confirm import confirm
from bulkup.cli.engine_args import EngineArgs
from bulkup.cli.migration_params import params_of_migrations
from bulkup.cli.named_target import asks_for_approval
from bulkup.cli.options import (
    AllowEmpty,
    FolderArgs,
    Gate,
    MaxDrift,
    NamespacesArgs,
    OutputArgs,
    StateDir,
    TargetArgs,
    Wait,
    Yes,
    begins_with_dry_pass,
    state_dir_words,
    typed_words,
)
from bulkup.cli.session import Session
from bulkup.cli.values import Assignment, completed
from bulkup.core.events import GroupStarted, Warned, WarningKind

if TYPE_CHECKING:
    from bulkup.core.events import Event, Listener, Report
    from bulkup.core.steering import Tuning
    from bulkup.datastore.target import Target
    from bulkup.engine.steered import CarriedSteering
    from bulkup.migrations.apply import (
        MigrateHooks,
        MigrateResult,
        NextMigration,
        Selection,
    )
    from bulkup.migrations.preview import Preview
    from bulkup.namespaces.migrate_all import MigrateAllResult
    from bulkup.runs.context import RunContext


@dataclass(frozen=True)
class MigrateArgs:
    folder: FolderArgs
    to: Annotated[
        str | None,
        click.Option(
            ["--to"],
            metavar="NAME",
            shell_complete=completed,
            help="Apply migrations up to and including NAME.",
        ),
    ]
    only: Annotated[
        str | None,
        click.Option(["--only"], metavar="NAME", shell_complete=completed, help="Apply only NAME."),
    ]
    accept_changed: Annotated[
        tuple[str, ...],
        click.Option(
            ["--accept-changed"],
            metavar="NAME",
            shell_complete=completed,
            multiple=True,
            help="Accept that NAME was changed after it was applied.",
        ),
    ]
    dry_run: Annotated[
        bool,
        click.Option(
            ["-n", "--dry-run"],
            is_flag=True,
            help="Show what each pending migration would change (-v: every change); write nothing.",
        ),
    ]
    param: Annotated[
        tuple[str, ...],
        click.Option(
            ["-p", "--param"],
            type=Assignment(),
            multiple=True,
            metavar="NAME:PARAM=VALUE",
            help="Set parameter PARAM of migration NAME.",
        ),
    ]
    target: TargetArgs
    namespaces: NamespacesArgs
    engine: EngineArgs
    gate: Gate
    max_drift: MaxDrift
    allow_empty: AllowEmpty
    wait: Wait
    state_dir: StateDir
    yes: Yes
    output: OutputArgs

    def same_command(self, tuning: Tuning) -> str:
        """The command that continues, with the current tuning."""
        words = ["bulkup", "migrate", str(self.folder.path)]
        for assignment in self.param:
            words += ["-p", assignment]
        words += self.namespaces.words()
        words += self.target.words()
        words += typed_words(to=self.to, only=self.only)
        words += self.engine.options(max_drift=self.max_drift).tuned(tuning).words()
        words += typed_words(gate=self.gate)
        words += ["--allow-empty"] if self.allow_empty else []
        words += state_dir_words(self.state_dir)
        return shlex.join(words)


@verb(
    "migrate",
    MigrateArgs,
    examples=(
        ("bulkup migrate --target prod", "apply what is pending"),
        ("bulkup migrate --to 0002_price_to_cents", "up to and including one"),
    ),
)
def command(args: MigrateArgs) -> int:
    """Apply the pending migrations of a folder, in the order of their file names.

    DIR is the folder, by default updaters. Each file in it whose name begins with digits
    (0001_add_name.py) holds one updater, and its name is the name of the migration. Other files are
    helpers.

    --dry-run previews all of them on the data as it is now, one line for each.

    Stops at the first migration that fails. An interrupted migration resumes where it was, from any
    machine. Each namespace has its own record of what is applied.
    """
    pattern = args.namespaces.pattern(args.target)
    from bulkup.engine.steered import CarriedSteering

    carried = CarriedSteering()

    def same_command() -> str:
        return args.same_command(carried.steering.tuning)

    with Session(args.output, same_command) as session:
        context = _context(args, session, carried)
        if pattern is None:
            result = _migrate(args, context, session)
            return _show(result, args, session, same_command())
        of_all = _migrate_all(args, pattern, context, session)
        return _show_all(of_all, args, session, same_command())


def _migrate(args: MigrateArgs, context: RunContext, session: Session) -> MigrateResult:
    from bulkup.migrations.apply import Migrator
    from bulkup.runs.open_to_run import open_to_run
    from bulkup.runs.target import ignored_emulator

    options = args.target.options()
    with open_to_run(options, context) as target:
        if warning := ignored_emulator(options):
            session.printer(Warned(warning))
        hooks = _hooks(args, target, session, say_saved=True)
        return Migrator(target, _selection(args), context, hooks).run()


def _migrate_all(
    args: MigrateArgs, pattern: str, context: RunContext, session: Session
) -> MigrateAllResult:
    from bulkup.cli.migrate_result import sentence_of
    from bulkup.namespaces.migrate_all import AllNamespacesMigrator
    from bulkup.report.namespace_grid import namespace_name
    from bulkup.runs.open_to_run import open_to_run
    from bulkup.runs.target import ignored_emulator

    def on_result(namespace: str, result: MigrateResult) -> None:
        if args.output.shows_progress and not result.dry_run:
            same_command = args.same_command(context.carried.steering.tuning)
            line = f"{namespace_name(namespace)}: {sentence_of(result, same_command)}"
            click.echo(line, err=True)

    options = args.target.options()
    with open_to_run(options, context) as target:
        if warning := ignored_emulator(options):
            session.printer(Warned(warning))
        hooks = _hooks(args, target, session, say_saved=False)
        selection = _selection(args)
        migrator = AllNamespacesMigrator(target, pattern, selection, context, hooks, on_result)
        return migrator.run()


def _selection(args: MigrateArgs) -> Selection:
    """Raises BulkupError for a folder that is not valid."""
    from bulkup.migrations.apply import Selection
    from bulkup.migrations.folder import read_folder

    folder = read_folder(args.folder.path)
    params = params_of_migrations(args.param, folder.names, is_default=not args.folder.is_typed)
    return Selection(folder, args.to, args.only, args.accept_changed, params)


def _context(args: MigrateArgs, session: Session, carried: CarriedSteering) -> RunContext:
    from bulkup.runs.context import RunContext

    return RunContext(
        args.engine.options(dry_run=args.dry_run, max_drift=args.max_drift),
        args.state_dir,
        _listener(args, session),
        args.wait,
        resume_command=session.resume_command,
        carried=carried,
        owns_process=True,
        reports_itself=True,
        allow_empty=args.allow_empty,
        gate=begins_with_dry_pass(args.gate),
        asks_for_approval=asks_for_approval,
    )


def _listener(args: MigrateArgs, session: Session) -> Listener:
    """In a dry run, one line per migration is enough, unless --json or -v asks for more."""
    if not args.dry_run or args.output.json or args.output.verbose:
        return session.printer

    def listener(event: Event) -> None:
        if isinstance(event, GroupStarted) or (
            isinstance(event, Warned) and event.kind is not WarningKind.EMPTY_QUERY
        ):
            session.printer(event)

    return listener


def _hooks(args: MigrateArgs, target: Target, session: Session, *, say_saved: bool) -> MigrateHooks:
    from bulkup.cli.migrate_result import preview_line
    from bulkup.migrations.apply import MigrateHooks
    from bulkup.report.namespace_grid import namespace_name
    from bulkup.report.text import clean

    def on_next(migration: NextMigration) -> None:
        if args.output.shows_progress:
            more = f", {migration.remaining - 1} more after it" if migration.remaining > 1 else ""
            click.echo(f"Migration {clean(migration.name)}{more}", err=True)

    def on_report(report: Report) -> None:
        if not report.state_file:
            return  # a dry pass that was not clean has left no folder
        session.save(report, Path(report.state_file).parent, say_so=say_saved)
        session.reported(report, Path(report.state_file).parent)

    def on_preview(namespace: str, name: str, preview: Preview) -> None:
        if not args.output.json:
            place = "" if say_saved else f"{namespace_name(namespace)}: "
            click.echo(place + preview_line(name, preview))

    return MigrateHooks(
        confirm=lambda: confirm("Apply migrations", target, yes=args.yes),
        on_next=on_next,
        on_report=on_report,
        on_preview=on_preview,
    )


def _show(result: MigrateResult, args: MigrateArgs, session: Session, same_command: str) -> int:
    from bulkup.cli.migrate_result import sentence_of, to_json

    if result.error is not None:
        session.error(result.error)
    sentence = sentence_of(result, same_command)
    if args.output.json:
        session.json_line("migrate", to_json(result, same_command))
    session.printer.close()  # until now, standard output was the printer's
    if not args.output.json:
        click.echo(sentence)
    if session.page is not None:
        for name, report in result.reports:
            session.page.report(report, name)
        started = [name for name, _ in result.reports]
        later = [(name, None) for name in result.left if name not in started]
        session.page.migrations([*result.reports, *later], sentence)
    return result.exit_code


def _show_all(
    result: MigrateAllResult, args: MigrateArgs, session: Session, same_command: str
) -> int:
    from bulkup.cli.migrate_result import all_to_json, grid_of, sentence_of_all
    from bulkup.report.namespace_grid import DEFAULT, grid_lines

    sentence = sentence_of_all(result, same_command)
    if args.output.json:
        session.json_line("group", all_to_json(result, same_command))
    session.printer.close()
    if not args.output.json:
        for line in grid_lines(grid_of(result)) if result.namespaces else ():
            click.echo(line)
        click.echo(sentence)
    if session.page is not None:
        rows = []
        for namespace, one in result.results:
            for migration, report in one.reports:
                title = f"{namespace or DEFAULT}: {migration}"
                rows.append((title, report))
                if report.exit_code:
                    session.page.report(report, title)
        session.page.migrations(rows, sentence)
    return result.exit_code
