"""One pass of a rehearsal, in a process of its own: does on a copy what `bulkup run` or
`bulkup migrate` does, and reports how it went."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bulkup.authoring.updater import Updater
from bulkup.core.errors import BulkupError, Exit
from bulkup.core.events import (
    AlreadyDone,
    Event,
    Progress,
    Report,
    RunEnded,
    RunStarted,
    Warned,
    WarningKind,
)
from bulkup.core.model import Counts
from bulkup.core.operations import Operations
from bulkup.core.records import predecessor_of
from bulkup.core.rehearsal import RehearsedRun
from bulkup.datastore.containment import contained
from bulkup.datastore.rpc_errors import explained
from bulkup.datastore.target import Target, resolve
from bulkup.engine.checks import has_check
from bulkup.migrations.apply import MigrateHooks, Migrator
from bulkup.migrations.apply import Selection as Migrations
from bulkup.migrations.folder import read_folder
from bulkup.migrations.status import FolderStatus
from bulkup.rehearsal.work import (
    Ended,
    Job,
    Message,
    MigrateJob,
    Pending,
    Progressed,
    Refusal,
    UpdaterJob,
)
from bulkup.runs.context import RunContext
from bulkup.runs.open_to_run import open_to_run
from bulkup.runs.prepare import load_updater, prepare_on
from bulkup.runs.start import start
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger

_ORPHANED = 1
_SHOWN_LINES = 20


def main() -> None:
    """Run one pass. The argument is the descriptor of a socket to the rehearsal."""
    os.umask(0o077)
    os.set_inheritable(int(sys.argv[1]), False)
    connection: Connection[Message, Job] = Connection(int(sys.argv[1]))
    sys.argv[1:] = []
    job = connection.recv()
    threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
    _Pass(job, connection).work()


def _end_with_parent(connection: Connection[Any, Any]) -> None:
    """End this process when the rehearsal ends. Until then, the rehearsal sends nothing more."""
    try:
        connection.recv()
    except (EOFError, OSError):
        if os.getpgid(0) == os.getpid():  # with everything the updater started
            os.killpg(0, signal.SIGKILL)
        os._exit(_ORPHANED)


class _Pass:
    def __init__(self, job: Job, connection: Connection[Any, Any]) -> None:
        self._job = job
        self._connection = connection
        self._context = RunContext(
            job.options,
            Path(job.state_dir),
            self._listen,
            allow_empty=job.allow_empty,
            owns_process=True,
            reports_itself=True,
            typed=frozenset(),
        )
        self._reports: list[Report] = []
        self._earlier: list[RehearsedRun] = []
        self._done: AlreadyDone | None = None
        self._warned: list[str] = []
        """Includes warnings that are in no report, such as those about user code outside a run."""
        self._queries: dict[str, str] = {}
        """The query of each run, by run id."""
        self._checks: dict[str, bool] = {}
        self._claims_idempotent: bool | None = None
        self._target: Target | None = None

    def _listen(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._connection.send(Progressed(event.counts.handled, event.total))
        elif isinstance(event, RunStarted):
            self._queries[event.run_id] = event.query
        elif isinstance(event, Warned) and event.kind is not WarningKind.WAITING:
            self._warned.append(event.message)
        elif isinstance(event, AlreadyDone):
            self._done = event
        elif isinstance(event, RunEnded):
            self._reports.append(event.report)

    def work(self) -> None:
        refusal = None
        try:
            with self._open() as target:
                self._target = target
                job = self._job.work
                if isinstance(job, UpdaterJob) and job.only_load:
                    self._load(job, target)
                elif isinstance(job, UpdaterJob):
                    self._run(job, target)
                elif job.up_to is None:
                    self._connection.send(self._pending(job, target))
                    return
                else:
                    refusal = self._migrate(job, target)
                self._find_predecessors(target)
        except BulkupError as error:
            refusal = Refusal.of(error, self._named)
        self._connection.send(self._ended(refusal))

    @contextmanager
    def _open(self) -> Iterator[Target]:
        options = self._job.target
        if not self._job.address:
            with open_to_run(options, self._context) as target:
                yield target
            return
        yield resolve(
            options.project, options.database, options.namespace,
            local=options.local or "", address=self._job.address,
        )  # fmt: skip

    def _load(self, job: UpdaterJob, target: Target) -> None:
        with contained(self._context.containment(target)):
            load_updater(job.spec, job.params, job.selection).create()

    def _run(self, job: UpdaterJob, target: Target) -> None:
        with (
            contained(self._context.containment(target)),
            prepare_on(
                target, load_updater(job.spec, job.params, job.selection), self._context
            ) as prepared,
        ):
            self._look_at(prepared.updater)
            report = start(prepared, fresh=job.fresh)
        if self._reports:
            return
        if self._done is not None:  # `once`: nothing was done
            message = (
                f"run {self._done.run_id} has finished this work before, and the updater says "
                "once = True, so a run does nothing"
            )
            report = replace(report, counts=Counts(), failure_groups=(), warnings=(message,))
        self._reports.append(report)

    def _look_at(self, updater: Updater) -> None:
        self._claims_idempotent = updater.idempotent
        self._checks = {name: has_check(updater, name) for name in ("check_before", "check_after")}

    def _pending(self, job: MigrateJob, target: Target) -> Pending:
        with closing(self._context.connect(target)) as rpc, explained(rpc):
            records = Ledger(rpc, target.info).migrations()
            now = self._context.by_server_time(rpc).clock.unix()
            status = FolderStatus(read_folder(Path(job.folder)), records, target.info, now)
            status.check_consistent()
            entries = status.to_apply()
        found = []
        for entry in entries:
            assert entry.file is not None
            found.append((entry.name, str(entry.file.path), job.params.get(entry.name, {})))
        return Pending(tuple(found), target.info)

    def _migrate(self, job: MigrateJob, target: Target) -> Refusal | None:
        selection = Migrations(read_folder(Path(job.folder)), up_to=job.up_to, params=job.params)
        result = Migrator(target, selection, self._context, MigrateHooks()).run()
        if result.error is not None:
            return Refusal.of(result.error, self._named)
        if result.exit_code and not self._reports:
            return Refusal(
                "BulkupError", self._named(result.reason or ""), "", (), result.exit_code
            )
        return None

    def _named(self, text: str) -> str:
        """Replace the name of the copy, which the user cannot open, by that of the data."""
        copy = self._job.target.local
        return text.replace(copy, self._job.source) if copy else text

    def _find_predecessors(self, target: Target) -> None:
        """Find the runs of a chain that ended in earlier processes, which were killed."""
        if not (self._reports and self._reports[0].predecessor):
            return
        with closing(self._context.connect(target)) as rpc, explained(rpc):
            ledger, run_id = Ledger(rpc, target.info), self._reports[0].predecessor
            while run_id and (record := ledger.read(run_id)) is not None:
                self._earlier.insert(0, _of_record(record))
                run_id = predecessor_of(run_id)

    def _ended(self, refusal: Refusal | None) -> Ended:
        counted = [one.operations.counted for one in self._reports if one.operations is not None]
        operations = Operations(
            sum(one.reads for one in counted),
            sum(one.writes for one in counted),
            sum(one.deletes for one in counted),
        )
        return Ended(
            (*self._earlier, *(self._shown(one, self._checks) for one in self._reports)),
            operations,
            None if self._target is None else self._target.info,
            self._claims_idempotent,
            refusal,
        )

    def _shown(self, report: Report, checks: Mapping[str, bool]) -> RehearsedRun:
        is_first = report is self._reports[0]
        return RehearsedRun(
            updater=report.updater,
            description=report.description,
            params=dict(report.params),
            query=self._queries.get(report.run_id, ""),
            selection=report.selection,
            state=report.state,
            reason=self._named(report.reason),
            exit_code=report.exit_code,
            counts=report.counts,
            elapsed_s=report.elapsed_s,
            runners=report.runners,
            max_failures=report.max_failures,
            failure_groups=report.failure_groups,
            other_failures=report.other_failures,
            warnings=self._warnings(report),
            log_lines=tuple(map(str, report.log_lines[:_SHOWN_LINES])),
            log_total=report.log_total,
            check_before=is_first and checks.get("check_before", False),
            check_after=is_first and checks.get("check_after", False),
        )

    def _warnings(self, report: Report) -> tuple[str, ...]:
        reported = {str(warning) for one in self._reports for warning in one.warnings}
        others = [one for one in self._warned if one not in reported]
        own = map(str, report.warnings)
        return tuple(
            dict.fromkeys(map(self._named, [*own, *(others if report is self._reports[0] else ())]))
        )


def _of_record(record: RunRecord) -> RehearsedRun:
    """What the run record says about a run."""
    info = record.run_info
    failed = Exit.DONE_WITH_FAILURES if record.counts.failed else Exit.DONE
    return RehearsedRun(
        updater=info.updater,
        description=info.description,
        params=dict(info.params),
        query="",
        selection=info.selection,
        state=record.state,
        reason=record.reason or "",
        exit_code=failed,
        counts=record.counts,
        elapsed_s=0.0,
        runners=0,
        max_failures=None,
    )
