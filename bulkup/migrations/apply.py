"""Apply the pending migrations one after the other. Stop at the first that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from bulkup.core.errors import BulkupError, Exit, NotFoundError, StopAskedError
from bulkup.core.events import Event, Report, Warned, WarningKind
from bulkup.core.model import RunState
from bulkup.datastore.containment import contained
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explained
from bulkup.datastore.target import Target
from bulkup.migrations.folder import MigrationFolder
from bulkup.migrations.lock import migrate_lock
from bulkup.migrations.manual import accept_changed
from bulkup.migrations.preview import Preview, preview_each
from bulkup.migrations.record import load_migration, record_of
from bulkup.migrations.status import FolderStatus, MigrationEntry, unnumbered
from bulkup.runs.context import RunContext
from bulkup.runs.ended import report_unheard_run
from bulkup.runs.execute import acquire_and_execute
from bulkup.runs.gate import open_gate
from bulkup.runs.housekeeping import sweep_markers
from bulkup.runs.limits import RunLimits
from bulkup.runs.missing_kind import check_kind
from bulkup.runs.plan_check import with_plan
from bulkup.runs.prepare import PreparedRun, prepare_on
from bulkup.state.lease import Lease
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger


@dataclass(frozen=True)
class Selection:
    """Which migrations of a folder to apply."""

    folder: MigrationFolder
    up_to: str | None = None
    only: str | None = None
    accept_changed: Sequence[str] = ()
    """Names of changed migrations whose change the user accepts."""
    params: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The parameters of each migration, by its name."""


@dataclass(frozen=True)
class NextMigration:
    """A migration is about to be started or resumed."""

    name: str
    remaining: int
    """Migrations to apply, this one included."""


@dataclass(frozen=True)
class MigrateHooks:
    """Callbacks for events while migrations are applied."""

    confirm: Callable[[], None] = lambda: None
    """Called before the first change; may raise."""
    on_next: Callable[[NextMigration], None] = lambda _: None
    on_report: Callable[[Report], None] = lambda _: None
    on_preview: Callable[[str, str, Preview], None] = lambda *_: None
    """Called in a dry run after each migration, with the namespace and the migration's name."""


@dataclass(frozen=True)
class MigrateResult:
    """What one `migrate` did on one target."""

    exit_code: Exit
    applied: tuple[str, ...] = ()
    """The migrations that this command applied, in order."""
    stopped_at: str | None = None
    """The migration that failed or was interrupted."""
    reason: str | None = None
    left: tuple[str, ...] = ()
    """The migrations that are still to be applied, in order."""
    reports: tuple[tuple[str, Report], ...] = ()
    """Pairs of a migration's name and its report."""
    dry_run: bool = False
    """True: the migrations in `left` were previewed."""
    error: BulkupError | None = None
    """The error that ended the command after others had been applied. It was not reported yet;
    `reason` has its message."""


class Migrator:
    """One `migrate` on one target.

    `limits`: the limits of a command that migrates several targets. None: the limits in the options
    are for this target alone.
    """

    def __init__(
        self,
        target: Target,
        selection: Selection,
        context: RunContext,
        hooks: MigrateHooks,
        limits: RunLimits | None = None,
    ) -> None:
        self._target = target
        self._selection = selection
        self._context = context
        self._hooks = hooks
        self._limits = limits or RunLimits(context.options, context.clock)
        self._applied: list[str] = []
        self._reports: list[tuple[str, Report]] = []
        self._exit_code = Exit.DONE
        self._records: list[RunRecord] = []
        self._pending: set[str] = set()
        """Names of the migrations that were to be applied when this command began."""

    def run(self) -> MigrateResult:
        """Apply the selected migrations. With nothing to do this costs one query.

        Raises BulkupError when it cannot start. Once a migration has been worked on, the result
        says how it ended.
        """
        with closing(self._context.connect(self._target)) as rpc:
            self._context = self._context.by_server_time(rpc)
            try:
                with explained(rpc):
                    return self._run(rpc)
            except StopAskedError as asked:
                return self._result(asked.exit_code, reason=asked.message)

    def _run(self, rpc: Rpc) -> MigrateResult:
        ledger = Ledger(rpc, self._target.info)
        status = self._status(ledger)
        if status.folder.updaters_without_number and not status.holds_unnumbered_only:
            warning = Warned(unnumbered(status.folder), WarningKind.NO_NUMBER)
            self._context.listener(warning)
        if self._context.options.dry_run:
            return self._preview(status)
        if self._selection.accept_changed:
            accept_changed(ledger, status, self._selection.accept_changed)
            status = self._status(ledger)
        self._report_unheard(ledger)
        entries = self._to_apply(status)
        self._pending = {entry.name for entry in entries}
        if not entries:
            return self._result(self._exit_code)
        self._check_loadable(entries)
        self._check_approved(status)
        self._hooks.confirm()
        with (
            self._context.stop.listening(),
            migrate_lock(rpc, self._target.info, self._context) as lock,
        ):
            sweep_markers(ledger, rpc, ledger.to_sweep())
            return self._apply_all(ledger, lock)

    def _check_approved(self, status: FolderStatus) -> None:
        """Check, before anything is written, that the first migration has an approved plan if the
        target asks for one. Raises ApprovalError."""
        entry = self._to_apply(status)[0]
        if entry.record is None and self._context.asks_for_approval(self._target.info) is not None:
            with self._prepared(entry, self._context) as prepared:
                run_info = prepared.new_run_info(None, prepared.identity)
                with_plan(prepared, RunRecord(run_info, RunState.RUNNING))

    def _preview(self, status: FolderStatus) -> MigrateResult:
        status.check_consistent(accepted=self._selection.accept_changed)
        entries = status.to_apply(self._selection.up_to, self._selection.only)

        def on_preview(entry: MigrationEntry, preview: Preview) -> None:
            if isinstance(preview, Report):
                self._reports.append((entry.name, preview))
            self._hooks.on_preview(self._target.info.namespace, entry.name, preview)

        exit_code = preview_each(
            self._target, entries, self._selection.params, self._context, on_preview
        )
        return replace(self._result(exit_code, left=entries), dry_run=True)

    def _status(self, ledger: Ledger) -> FolderStatus:
        # Read the records before the clock: the answer also brings the server's time.
        self._records = ledger.migrations()
        now = self._context.clock.unix()
        return FolderStatus(self._selection.folder, self._records, self._target.info, now)

    def _report_unheard(self, ledger: Ledger) -> None:
        """Report applied migrations whose process was killed before it could report them."""
        for record in self._records:
            if record.state is not RunState.FINISHED or record.migration is None:
                continue
            report = report_unheard_run(self._context, ledger, record)
            if report is not None:
                self._reports.append((record.migration.name, report))
                self._hooks.on_report(report)
                self._exit_code = max(self._exit_code, report.exit_code)

    def _check_loadable(self, entries: Sequence[MigrationEntry]) -> None:
        """Load all migrations before the first write. Otherwise a missing parameter, or a file that
        cannot be imported, would stop the command between two migrations. Raises BulkupError."""
        with contained(self._context.containment(self._target)):
            for entry in entries:
                load_migration(entry, self._selection.params.get(entry.name, {}))

    def _to_apply(self, status: FolderStatus) -> list[MigrationEntry]:
        status.check_consistent()
        return status.to_apply(self._selection.up_to, self._selection.only)

    def _apply_all(self, ledger: Ledger, lock: Lease) -> MigrateResult:
        lost: str | None = None
        while True:
            # Read again each time: a migration may have been applied or marked meanwhile.
            entries = self._to_apply(self._status(ledger))
            if not entries:
                self._report_applied_elsewhere()
                return self._result(self._exit_code)
            self._context.stop.raise_if_asked()
            limit = self._limits.reached()
            if limit is not None:
                return self._result(Exit.LIMIT, reason=limit, left=entries)
            entry = entries[0]
            # A successful update proves that the lock is still ours, however long this process was
            # paused before it.
            lock.update(partial(replace, reason=f"applying {entry.name}"))
            self._hooks.on_next(NextMigration(entry.name, len(entries)))
            try:
                report = self._apply(entry, lock)
            except NotFoundError:
                if lost == entry.name:
                    raise
                lost = entry.name  # another process has just ended it: read its status again
                continue
            except StopAskedError:
                raise
            except BulkupError as error:
                if not self._reports:
                    raise
                return self._result(
                    error.exit_code,
                    stopped_at=entry.name,
                    reason=error.message,
                    left=entries,
                    error=error,
                )
            result = self._after(entries, report)
            if result is not None:
                return result

    def _report_applied_elsewhere(self) -> None:
        """Report what another process applied while this one waited. If entities failed there, the
        exit code says so."""
        applied: dict[str, str] = {}
        for record in self._records:
            migration, holder = record.migration, record.lease.holder
            if migration is None or migration.name not in self._pending - {*self._applied}:
                continue
            if record.state is not RunState.FINISHED or migration.marked is not None:
                continue
            applied[migration.name] = holder.who if holder else "another process"
            if record.counts.failed:
                self._exit_code = max(self._exit_code, Exit.DONE_WITH_FAILURES)
        for name, who in sorted(applied.items()):
            message = f"{name} was applied by {who} in the meantime"
            self._context.listener(Warned(message, WarningKind.FINISHED_MEANWHILE))

    def _after(self, entries: Sequence[MigrationEntry], report: Report) -> MigrateResult | None:
        """Record the report of the first entry. Returns the result if nothing more may be
        applied."""
        name = entries[0].name
        self._reports.append((name, report))
        self._hooks.on_report(report)
        if report.state is not RunState.FINISHED:
            return self._result(
                report.exit_code or Exit.FAILED,
                stopped_at=name,
                reason=self._limits.reached() or report.reason,
                left=entries,
            )
        if not report.successor:  # otherwise the migration continues with its successor
            self._applied.append(name)
        self._exit_code = max(self._exit_code, report.exit_code)
        return None

    def _result(
        self,
        exit_code: Exit,
        *,
        stopped_at: str | None = None,
        reason: str | None = None,
        left: Sequence[MigrationEntry] = (),
        error: BulkupError | None = None,
    ) -> MigrateResult:
        return MigrateResult(
            exit_code,
            tuple(self._applied),
            stopped_at,
            reason,
            tuple(entry.name for entry in left),
            tuple(self._reports),
            error=error,
        )

    def _apply(self, entry: MigrationEntry, lock: Lease) -> Report:
        with self._prepared(entry, self._context_of(entry, lock)) as prepared:
            if entry.record is None:
                check_kind(prepared)
            opened = open_gate(prepared, record_of(entry, prepared))
            if isinstance(opened, Report):
                return opened
            return acquire_and_execute(prepared, opened)

    @contextmanager
    def _prepared(self, entry: MigrationEntry, context: RunContext) -> Iterator[PreparedRun]:
        params = self._selection.params.get(entry.name, {})
        with (
            contained(context.containment(self._target)),
            prepare_on(self._target, load_migration(entry, params), context) as prepared,
        ):
            yield prepared

    def _context_of(self, entry: MigrationEntry, lock: Lease) -> RunContext:
        """The context of one migration's run. It renews the lock, and its limits are what is left
        of the command's limits."""
        context = self._context

        def listener(event: Event) -> None:
            # The engine sends an event at least once a second, whatever it waits for.
            lock.tick()
            self._limits.observe(event)
            context.listener(event)

        def sleep(seconds: float) -> None:
            context.clock.sleep(seconds)
            lock.tick()

        wait_s = context.wait_s
        if entry.record is not None:
            # We hold the lock, so the process that holds this run is most likely dead. Wait until
            # its lease has expired.
            wait_s = max(wait_s, entry.record.lease.until - context.clock.unix() + 1)
        return replace(
            context,
            options=self._limits.remaining(),
            listener=listener,
            wait_s=wait_s,
            clock=replace(context.clock, sleep=sleep),
        )
