"""`bulkup rehearse`: run an updater in full on a copy of real data, and report what it does."""

from __future__ import annotations

import math
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bulkup.authoring.loader import check_is_there as check_updater_is_there
from bulkup.core.clock import Clock
from bulkup.core.errors import Exit, StopAskedError
from bulkup.core.model import TargetInfo
from bulkup.core.operations import Operations
from bulkup.core.plan import Bill, Estimate, Forecast
from bulkup.core.rehearsal import (
    CrashPass,
    Effect,
    Rehearsal,
    RehearsedOn,
    RehearsedRun,
    RehearsedWork,
    SecondRun,
)
from bulkup.core.stop import StopRequest
from bulkup.core.version import __version__
from bulkup.engine.batches import MAX_BATCH_SIZE
from bulkup.engine.compare.effect import Tally
from bulkup.local.file_diff import changes, counted, settle
from bulkup.local.snapshot import copy_at_rest, remove_copy, snapshot
from bulkup.rehearsal.crashing import Crashing
from bulkup.rehearsal.loading import check_loads
from bulkup.rehearsal.process import run_pass
from bulkup.rehearsal.request import Migrations, Request, Step, Updater
from bulkup.rehearsal.room import check_room, room_in
from bulkup.rehearsal.work import (
    Ended,
    Job,
    Message,
    MigrateJob,
    Pending,
    Progressed,
    UpdaterJob,
)
from bulkup.rehearsal.workplace import workplace
from bulkup.runs.plan import forecast
from bulkup.runs.prices import bill
from bulkup.runs.target import check_is_there
from bulkup.state.kinds import OWN_KINDS

_CHECKED_EVERY = 1000
"""Entities compared between two checks for a request to stop."""


def rehearse(
    request: Request,
    on_step: Callable[[Step], None] = lambda _: None,
    *,
    stop: StopRequest | None = None,
) -> Rehearsal:
    """Rehearse on a copy of the data. The copy is removed before this returns; the data that it was
    made from is not changed.

    Raises BulkupError if nothing could be run, for example because the updater cannot be loaded.
    Later errors are in the rehearsal.
    """
    stop = stop or StopRequest()
    with stop.listening(), _hangup_as_sigterm(), workplace() as folder, room_in(folder):
        return _Rehearsing(request, on_step, stop, folder).rehearse()


@contextmanager
def _hangup_as_sigterm() -> Iterator[None]:
    """Treat SIGHUP as SIGTERM: otherwise a closed terminal would end this process at once, and its
    copies would stay."""
    is_default = signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    if not is_default or threading.current_thread() is not threading.main_thread():
        yield  # under nohup, for example
        return
    signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


class _Rehearsing:
    def __init__(
        self, request: Request, on_step: Callable[[Step], None], stop: StopRequest, folder: Path
    ) -> None:
        self._request = request
        self._on_step = on_step
        self._stop = stop
        self._folder = folder
        self._clock = Clock()
        self._passes = 0
        self._title = ""
        self._target = TargetInfo(request.target.project or "local")

    def check(self) -> None:
        """Raises StopAskedError."""
        if self._stop.signal is not None:
            code = Exit(128 + self._stop.signal)
            raise StopAskedError(
                f"interrupted by {self._stop.signal.name}; nothing but copies was written, and "
                "they are removed",
                code,
            )

    def rehearse(self) -> Rehearsal:
        created, began = self._clock.now(), self._clock.monotonic()
        base = self._folder / "base"
        left_out = self._fill(base)
        settle(base)
        kinds, size = counted(base, OWN_KINDS), base.stat().st_size
        works: list[RehearsedWork] = []
        request, what = self._request, self._request.what
        if isinstance(what, Updater):
            job = UpdaterJob(what.spec, what.params, what.selection)
            works.append(self._work(base, job, "", job)[0])
            left: tuple[str, ...] = ()
        else:
            left = self._migrations(base, what, works)
        return Rehearsal(
            RehearsedOn(
                request.source,
                request.fill is not None,
                replace(self._target, local="", emulator=""),
                tuple(kinds),
                size,
                request.sample,
                left_out,
            ),
            created,
            __version__,
            self._clock.monotonic() - began,
            tuple(works),
            isinstance(what, Migrations),
            what.folder if isinstance(what, Migrations) else "",
            left,
        )

    def _fill(self, base: Path) -> tuple[str, ...]:
        def watch(title: str, done: int, total: int | None) -> None:
            self.check()
            self._on_step(Step(title, done, total))

        what = self._request.what
        if isinstance(what, Updater):
            check_updater_is_there(what.spec)
        if self._request.fill is not None:
            if isinstance(what, Updater):  # loading an export may take hours
                self._check_loads(base, what)
            return self._request.fill(base, watch)
        check_is_there(self._request.source)
        self._on_step(Step("Copy the file"))
        snapshot(Path(self._request.source), base, self.check)
        return ()

    def _check_loads(self, base: Path, what: Updater) -> None:
        self._begin(f"Load {what.spec}")
        job = UpdaterJob(what.spec, what.params, what.selection, only_load=True)
        check_loads(
            lambda address: replace(self._job(base, job), address=address),
            lambda job: run_pass(job, self._folder / "log", self._heard, self.check),
        )

    # --- migrations ---

    def _migrations(
        self, base: Path, what: Migrations, works: list[RehearsedWork]
    ) -> tuple[str, ...]:
        """Rehearse what is pending; returns the migrations that were not reached."""
        pending = self._pass(base, MigrateJob(what.folder, None, what.params), "Read the ledger")
        assert isinstance(pending, Pending)
        self._target = pending.target
        names = [name for name, _, _ in pending.migrations]
        for number, (name, path, params) in enumerate(pending.migrations, start=1):
            again = UpdaterJob(path, params)
            work, after = self._work(base, MigrateJob(what.folder, name, what.params), name, again)
            works.append(work)
            if after is None:
                return tuple(names[number:])
            remove_copy(base)
            base = after
        return ()

    # --- one work ---

    def _work(
        self, base: Path, job: UpdaterJob | MigrateJob, name: str, again: UpdaterJob
    ) -> tuple[RehearsedWork, Path | None]:
        """Rehearse on copies of `base`; also returns the copy as the work left it, None if the work
        did not finish. `again`: the same work as an updater. Raises BulkupError if nothing was
        run."""
        after = self._copy(base, "run")
        title = name or (job.spec if isinstance(job, UpdaterJob) else "")
        ended = self._pass(after, job, f"Run {title}")
        assert isinstance(ended, Ended)
        if ended.target is not None:
            self._target = ended.target
        if ended.refusal is not None and not ended.runs:
            if not name:
                raise ended.refusal.error()
            refused = RehearsedWork(
                name, (), Effect(), None, None, None,
                error=ended.refusal.message, error_code=ended.refusal.exit_code,
            )  # fmt: skip
            return refused, None
        settle(after)
        work = RehearsedWork(
            name or ended.runs[0].updater,
            ended.runs,
            self._effect(base, after),
            self._bill(ended.operations),
            _forecast(ended.runs),
            ended.claims_idempotent,
            error=ended.refusal.message if ended.refusal is not None else "",
            error_code=ended.refusal.exit_code if ended.refusal is not None else Exit.DONE,
            may_be_empty=self._request.allow_empty,
        )
        if not work.finished:
            return replace(work, forecast=None), None
        if work.found_nothing:  # nothing could go wrong in the other passes
            return work, after
        if self._request.second:
            work = self._with_second(work, after, again)
        if self._request.kills:
            work = replace(work, crash=self._crash(base, after, job, work.runs))
        return work, after

    def _with_second(self, work: RehearsedWork, after: Path, again: UpdaterJob) -> RehearsedWork:
        twice = self._copy(after, "second")
        ended = self._pass(twice, replace(again, fresh=True), f"Second run of {work.name}")
        assert isinstance(ended, Ended)
        settle(twice)
        error = ended.refusal.message if ended.refusal is not None else ""
        second = SecondRun(ended.runs, self._effect(after, twice), error)
        remove_copy(twice)
        claims = ended.claims_idempotent
        return replace(
            work,
            second=second,
            claims_idempotent=work.claims_idempotent if claims is None else claims,
        )

    def _crash(
        self,
        base: Path,
        after: Path,
        job: UpdaterJob | MigrateJob,
        runs: tuple[RehearsedRun, ...],
    ) -> CrashPass | None:
        handled = sum(run.counts.handled for run in runs)
        kills = self._request.kills
        size = min(max(1, math.ceil(handled / (3 * kills))), MAX_BATCH_SIZE)
        crashing = Crashing(
            base,
            after,
            runs,
            copy=self._copy,
            run=lambda path: self._pass(path, job, "Run once more, to compare"),
            check=self.check,
            on_process=lambda number: self._begin(f"Crash pass, process {number}"),
        )
        path = self._copy(base, "crash")
        crash_job = self._job(path, job, batch_size=size)
        try:
            crash = crashing.crash(path, crash_job, kills, self._folder / "log", self._heard)
            if crash is not None:
                check_room(self._folder, crash.unlike, *(run.reason for run in crash.runs))
            return crash
        finally:
            shutil.rmtree(crash_job.state_dir, ignore_errors=True)

    def _begin(self, title: str) -> None:
        self.check()
        self._title = title
        self._on_step(Step(title))

    def _effect(self, before: Path, after: Path) -> Effect:
        tally = Tally()
        self._title = "Compare"
        for number, (one, other) in enumerate(changes(before, after, OWN_KINDS)):
            if number % _CHECKED_EVERY == 0:
                self.check()
                self._on_step(Step(self._title, number))
            tally.add(one, other)
        return tally.effect()

    def _bill(self, operations: Operations) -> Bill:
        exact = Estimate.exact
        return bill(
            self._request.prices,
            reads=exact(operations.reads),
            writes=exact(operations.writes),
            deletes=exact(operations.deletes),
            small=exact(0),
        )

    # --- passes ---

    def _copy(self, path: Path, name: str) -> Path:
        self._passes += 1
        to = self._folder / f"{name}-{self._passes}"
        copy_at_rest(path, to, self.check)
        return to

    def _job(
        self, path: Path, work: UpdaterJob | MigrateJob, *, batch_size: int | None = None
    ) -> Job:
        self._passes += 1
        options = self._request.options
        if batch_size is not None:
            # One commit at a time, so that no other commit is applied despite the kill.
            size = min(batch_size, options.batch_size)
            options = replace(options, batch_size=size, in_flight=1, shards=1)
        return Job(
            work,
            replace(self._request.target, local=str(path)),
            str(self._folder / f"state-{self._passes}"),
            options,
            self._request.source,
            # In a second run there may be nothing left to find.
            allow_empty=self._request.allow_empty or getattr(work, "fresh", False),
        )

    def _pass(self, path: Path, work: UpdaterJob | MigrateJob, title: str) -> Ended | Pending:
        self._begin(title)
        job = self._job(path, work)
        try:
            ended = run_pass(job, self._folder / "log", self._heard, self.check)
            if isinstance(ended, Ended):
                refused = ended.refusal.message if ended.refusal is not None else ""
                check_room(self._folder, refused, *(run.reason for run in ended.runs))
            return ended
        finally:
            # Before-images may be as large as the data.
            shutil.rmtree(job.state_dir, ignore_errors=True)

    def _heard(self, message: Message) -> None:
        if isinstance(message, Progressed):
            self._on_step(Step(self._title, message.handled, message.total))


def _forecast(runs: tuple[RehearsedRun, ...]) -> Forecast | None:
    """The forecast for the same work on a real project, which needs a ramp-up."""
    handled = sum(run.counts.handled for run in runs)
    elapsed_s = sum(run.elapsed_s for run in runs)
    if not handled or elapsed_s <= 0:
        return None
    return forecast(handled, handled / elapsed_s, ramps=True)
