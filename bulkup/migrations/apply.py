"""Applies what is pending, one migration after the other; stops at the first that fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from bulkup.authoring.successors import locate
from bulkup.core.clock import Clock
from bulkup.core.errors import Exit, MismatchError, NotFoundError, StopAskedError
from bulkup.core.events import Event, Listener, Report, Warned, WarningKind
from bulkup.core.model import RunState
from bulkup.core.stop import StopRequest
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explained
from bulkup.datastore.target import Target
from bulkup.engine.options import Options
from bulkup.migrations.folder import Migration
from bulkup.migrations.lock import locked
from bulkup.migrations.manual import accept
from bulkup.migrations.origin import origin_of
from bulkup.migrations.plan import Plan, Row, run_id_of
from bulkup.runs.execute import sweep, work_on
from bulkup.runs.limits import RunLimits
from bulkup.runs.prepare import PreparedRun, RunContext, prepare_on, task_of
from bulkup.runs.successor import same_work
from bulkup.state.lease import Lease
from bulkup.state.markers import Markers
from bulkup.state.record import MigrationInfo, RunRecord
from bulkup.state.run_records import Ledger


@dataclass(frozen=True)
class Step:
    """A migration is about to be applied, or goes on."""

    name: str
    left: int
    """Migrations to apply, this one included."""


@dataclass(frozen=True)
class Outcome:
    """What one `migrate` did."""

    exit_code: Exit
    applied: tuple[str, ...] = ()
    """By this runner, in order."""
    stopped_at: str = ""
    """The migration that failed or was interrupted."""
    reason: str = ""
    left: tuple[str, ...] = ()
    """What was asked for and is not applied yet, in order."""
    reports: tuple[tuple[str, Report], ...] = ()
    """By the migrations' names."""


@dataclass
class Migrator:
    """One `migrate`: everything it was asked for. `again`: the command that goes on."""

    target: Target
    folder: Sequence[Migration]
    options: Options
    state_dir: Path
    listener: Listener
    to: str | None = None
    only: str | None = None
    accepted: Sequence[str] = ()
    """Names of changed migrations whose change is accepted."""
    wait_s: float = 0.0
    again: str = "bulkup migrate"
    confirm: Callable[[], None] = lambda: None
    """Called before anything is applied; may raise."""
    on_step: Callable[[Step], None] = lambda _: None
    on_report: Callable[[Report], None] = lambda _: None
    clock: Clock = field(default_factory=Clock)
    stop: StopRequest = field(default_factory=StopRequest)
    allowance: RunLimits | None = None
    """Of a command that does more than this; None: the options are for this alone."""

    def __post_init__(self) -> None:
        self._allowance = self.allowance or RunLimits(self.options, self.clock)
        self._applied: list[str] = []
        self._reports: list[tuple[str, Report]] = []
        self._code = Exit.DONE

    def run(self) -> Outcome:
        """Apply. With nothing to do it costs one query and writes nothing.

        Raises BulkupError for whatever keeps it from working; what became of a migration that
        was begun is in the outcome.
        """
        rpc = Rpc(
            self.target.client,
            retry_policy=RetryPolicy(self.options.retry_for_s, stopping_s=self.stop.seconds),
            sleep=self.clock.sleep,
            monotonic=self.clock.monotonic,
        )
        try:
            with explained(rpc):
                return self._run(rpc)
        except StopAskedError as asked:
            return self._outcome(asked.exit_code, reason=asked.message)
        finally:
            rpc.close()

    def _run(self, rpc: Rpc) -> Outcome:
        info = self.target.info
        ledger = Ledger(rpc, info)
        plan = self._plan(ledger)
        accept(ledger, plan, self.accepted)
        if self.accepted:
            plan = self._plan(ledger)
        plan.check()
        if not plan.to_do(self.to, self.only):
            return Outcome(Exit.DONE)
        self.confirm()
        with (
            self.stop.listening(),
            locked(
                rpc,
                info,
                wait_s=self.wait_s,
                on_wait=lambda text: self.listener(Warned(text, WarningKind.WAITING)),
                stop=self.stop,
                clock=self.clock,
            ) as lock,
        ):
            sweep(ledger, rpc, ledger.to_sweep(self.clock.unix()))
            return self._apply_all(ledger, lock)

    def _plan(self, ledger: Ledger) -> Plan:
        return Plan(self.folder, ledger.migrations(), self.target.info, self.clock.unix())

    def _apply_all(self, ledger: Ledger, lock: Lease) -> Outcome:
        lost = ""
        while True:
            # Anew each time: somebody may have applied or marked one meanwhile.
            plan = self._plan(ledger)
            plan.check()
            rows = plan.to_do(self.to, self.only)
            if not rows:
                return self._outcome(self._code)
            self.stop.raise_if_asked()
            used_up = self._allowance.used_up
            if used_up:
                return self._outcome(Exit.LIMIT, reason=used_up, left=[r.name for r in rows])
            row = rows[0]
            # Also makes sure, after whatever pause, that the lock is still ours.
            reason = f"applying {row.name}"
            lock.update(partial(replace, reason=reason))
            self.on_step(Step(row.name, len(rows)))
            try:
                report = self._apply(row, lock)
            except NotFoundError:
                if lost == row.name:
                    raise
                lost = row.name  # somebody has just ended it: look again
                continue
            self._reports.append((row.name, report))
            self.on_report(report)
            if report.state is not RunState.FINISHED:
                return self._outcome(
                    report.exit_code or Exit.FAILED,
                    stopped_at=row.name,
                    reason=self._allowance.used_up or report.reason,
                    left=[r.name for r in rows],
                )
            if not report.successor:  # otherwise it goes on with that
                self._applied.append(row.name)
            if report.exit_code is Exit.FAILED:
                return self._outcome(
                    Exit.FAILED,
                    stopped_at=row.name,
                    reason="it is applied, but its finish failed; see its report",
                    left=[r.name for r in rows[1:]],
                )
            self._code = report.exit_code or self._code

    def _outcome(
        self, code: Exit, *, stopped_at: str = "", reason: str = "", left: Sequence[str] = ()
    ) -> Outcome:
        applied, reports = tuple(self._applied), tuple(self._reports)
        return Outcome(code, applied, stopped_at, reason, tuple(left), reports)

    def _apply(self, row: Row, lock: Lease) -> Report:
        def listening(event: Event) -> None:
            # The engine speaks at least once a second, whatever it waits for.
            lock.tick()
            self._allowance.hear(event)
            self.listener(event)

        def pausing(seconds: float) -> None:
            self.clock.sleep(seconds)
            lock.tick()

        assert row.migration is not None
        migration = row.migration
        began = row.record.run_info if row.record is not None else None
        spec = str(migration.path)
        if row.record is not None and row.record.chain.links:
            spec = locate(row.record.chain.links, str(migration.path.parent))
        wait_s = self.wait_s
        if row.record is not None:
            # The lock is ours, so whoever holds this is most likely dead: let its lease run out.
            wait_s = max(wait_s, row.record.lease.until - self.clock.unix() + 1)
        with prepare_on(
            self.target,
            task_of(spec, began.params if began is not None else {}),
            stop=self.stop,
            retry_for_s=self.options.retry_for_s,
            clock=self.clock,
        ) as prepared:
            with explained(prepared.rpc):
                record = self._record(row, migration, prepared)
                if not record.version:
                    # A claim whose record was deleted by hand would keep it out for ever.
                    Ledger(prepared.rpc, self.target.info).unfinished(record.run_info.identity)
            context = RunContext(
                self._allowance.left(),
                self.state_dir,
                listening,
                wait_s,
                replace(self.clock, sleep=pausing),
                again=self.again,
            )
            return work_on(prepared, record, context)

    def _unused_id(self, row: Row, rpc: Rpc) -> str:
        """Where somebody has deleted the record of a run that was under way, its markers are
        still there, and refuse the commits of another run of that id."""
        info, attempt = self.target.info, row.attempt
        ledger = Ledger(rpc, info)
        while True:
            run_id = run_id_of(row.name, info, attempt)
            left = Markers(rpc, info.namespace, run_id).all_keys()
            # With its record they are another runner's, who was faster: the insert is refused.
            if not left or ledger.read(run_id) is not None:
                return run_id
            attempt += 1

    def _record(self, row: Row, migration: Migration, prepared: PreparedRun) -> RunRecord:
        """The record to work on: the one there is, or the first of this attempt."""
        # By the class's name, not by a path, which is another one on each machine.
        identity = (
            f"{migration.name}/{prepared.query.identity(prepared.source.name, prepared.params)}"
        )
        origin = origin_of(os.environ)
        was = row.record
        if was is not None and was.chain.links:
            same_work(prepared, was)
        elif was is not None:
            if was.run_info.identity != identity:
                raise MismatchError(
                    f"{row.name} was begun with another query, class or parameters than it has "
                    f"now: restore these, or start it over: bulkup mark {row.name} --pending"
                )
            if was.migration is None or was.migration.code != migration.code:
                message = (
                    f"{row.name} has changed since it was begun; entities handled from now on "
                    "get the new code"
                )
                prepared.warnings.append(Warned(message, WarningKind.CODE_CHANGED))
        info = MigrationInfo(row.name, migration.code, origin=origin)
        if was is not None:
            marked = was.migration.marked if was.migration else None
            return replace(was, migration=replace(info, marked=marked))
        return RunRecord(
            prepared.run_info(self._unused_id(row, prepared.rpc), identity, self.clock),
            RunState.RUNNING,
            migration=info,
        )
