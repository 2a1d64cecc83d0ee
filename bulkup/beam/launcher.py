"""`bulkup run UPDATER --on beam`: plan the ranges, have a Beam runner work on them, end the run.

The runner's own status is not trusted. When it ends or fails, or hangs after the last range, the
records in Datastore say whether the run is finished.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    PipelineOptions,
    StandardOptions,
    _BeamArgumentParser,
)
from apache_beam.runners.runner import create_runner

from bulkup.beam.work import WorkOnRanges
from bulkup.beam.workers import workers
from bulkup.core.errors import Exit, StopAskedError, UsageError
from bulkup.core.events import Event, Progress, Report, Warned
from bulkup.core.model import RangesSeen
from bulkup.core.user_traceback import error_line
from bulkup.core.vitals import ShardVitals, Vitals
from bulkup.datastore.call_error import CallError
from bulkup.engine.progress import ProgressTracker
from bulkup.runs.launch import RangesState, begin, conclude, look, range_ids, work_of
from bulkup.runs.prepare import PreparedRun
from bulkup.state.display import command_on, resume_command
from bulkup.state.ranges_seen import note_seen
from bulkup.state.record import LOOK_EVERY_S, RunRecord

RUNNERS = {"DaskRunner": "apache_beam.runners.dask.dask_runner.DaskRunner"}
"""Beam's own runners that it does not find by name."""

TAKE_OTHERS = ("portable", "flink", "spark", "samza", "prism")
"""Parts of the names of runners whose job server accepts options that Beam itself does not know."""

READS_PER_S = 5
"""Each progress check reads the records of all ranges. This rate keeps that small, compared with
what a run writes."""

SLOWEST_LOOK_S = 60.0

HANGS_AFTER_S = 30.0
"""How long to wait for the runner to end after the last range is finished, or after Datastore was
given up (`--retry-for`). Beam's own runner, with several processes, waits forever for one that was
killed."""

ENDS_WITHIN_S = 20.0
"""How long a runner in this process may take to end its pipeline after Ctrl-C."""


def run_on_beam(
    prepared: PreparedRun, runner_args: Sequence[str], *, ranges: int | None, fresh: bool
) -> Report:
    """Begin a run, or find the unfinished run of the same work. Have its ranges worked on by the
    runner that `runner_args` (Beam's own options) name, end the run, and return its report.

    Raises BulkupError when the run cannot begin, StopAskedError when the command was interrupted.
    """
    options = pipeline_options(runner_args)
    begun = begin(prepared, ranges=ranges, fresh=fresh)
    if isinstance(begun, Report):
        return begun
    ids = range_ids(prepared, begun)
    pipeline = beam.Pipeline(options=options)
    _ = pipeline | "Ranges" >> beam.Create(ids) | "Apply" >> WorkOnRanges(work_of(prepared, begun))
    job = _Job(pipeline)
    with prepared.context.stop.listening():
        _Watch(prepared, begun, job).until_done()
    if job.error is not None:
        prepared.context.listener(Warned(f"the Beam runner has failed: {job.error}"))
    return conclude(prepared, begun)


def pipeline_options(runner_args: Sequence[str]) -> PipelineOptions:
    """Parse Beam's options, as typed after `--`. Raises UsageError, also for an option or a runner
    that Beam does not know: Beam would ignore a mistyped option, or use another runner."""
    try:
        options = PipelineOptions(list(runner_args))
        standard = options.view_as(StandardOptions)
        standard.runner = RUNNERS.get(standard.runner or "", standard.runner)
        _check_runner(standard.runner)  # also imports the runner, and with it the runner's options
        unknown = _unknown(runner_args)
    except SystemExit:  # argparse has printed why
        raise UsageError(
            "Beam does not accept the options after `--`; the lines above say why"
        ) from None
    if unknown and not any(word in (standard.runner or "").lower() for word in TAKE_OTHERS):
        raise UsageError(f"Beam does not know {unknown[0]!r}, which comes after `--`")
    if "DaskRunner" in (standard.runner or ""):
        # Its default puts 128 ranges, usually all of them, into one task.
        from apache_beam.runners.dask.dask_runner import DaskOptions

        dask = options.view_as(DaskOptions)
        if dask.npartitions is None and dask.partition_size is None:
            dask.partition_size = 1
    return options


def _check_runner(name: str | None) -> None:
    """Raises UsageError."""
    try:
        create_runner(name or StandardOptions.DEFAULT_RUNNER)
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        raise UsageError(f"Beam has no runner {name!r} here: {error_line(error)}") from None


def _unknown(runner_args: Sequence[str]) -> list[str]:
    """The words that Beam itself does not know. Raises SystemExit for a value that Beam refuses."""
    parser = _BeamArgumentParser(allow_abbrev=False)
    for known in {str(one): one for one in PipelineOptions.__subclasses__()}.values():
        known._add_argparse_args(parser)
    return [word for word in parser.parse_known_args(list(runner_args))[1] if word != "--"]


class _Job:
    """Runs the pipeline in its own thread, because some runners do all their work inside `run`."""

    def __init__(self, pipeline: Any) -> None:
        self.error: str | None = None
        self.name = ""
        """Name of the job if a service runs it without this process; otherwise empty."""
        self._pipeline = pipeline
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="bulkup-beam", daemon=True).start()

    def _run(self) -> None:
        try:
            result = self._pipeline.run()
            self.name = _job_name(result)
            result.wait_until_finish()
        except BaseException as error:  # whatever a runner raises; reported by `run_on_beam`
            self.error = error_line(error)
        finally:
            self._ended.set()

    def wait(self, seconds: float) -> bool:
        """Wait up to this long for the pipeline to end. Returns whether it has ended."""
        return self._ended.wait(seconds)


def _job_name(result: Any) -> str:
    """The name of the job if a service runs it without this process. Empty if the pipeline needs
    this process, as with Beam's own runner and Dask."""
    job_id = getattr(result, "job_id", None) or getattr(result, "_job_id", None) or ""
    return str(job_id() if callable(job_id) else job_id)


class _Watch:
    """Shows the run's progress while the pipeline works."""

    def __init__(self, prepared: PreparedRun, begun: RunRecord, job: _Job) -> None:
        self._prepared = prepared
        self._begun = begun
        self._job = job
        self._clock = prepared.context.clock
        self._state = RangesState(0, 0, begun.counts, begun.total, ())
        self._next_look = self._clock.monotonic()
        self._finished_at: float | None = None
        self._lost_at: float | None = None
        """When a call failed after it had been retried for `--retry-for`; None if calls are
        answered. Meanwhile, calls are sent only once."""
        self._retry_policy = prepared.rpc.retry_policy
        self._progress = ProgressTracker(self._listen, self._clock, begun.counts)
        self._progress.total = begun.total

    def until_done(self) -> None:
        """Return when the pipeline has ended, or is not worth waiting for.

        Raises StopAskedError.
        """
        while not self._job.wait(0.25):
            if self._prepared.context.stop.is_asked:
                self._leave()
                return
            if self._clock.monotonic() >= self._next_look:
                self._look()
            self._progress.tick()
            stop = self._prepared.context.stop
            if not stop.is_asked and (why := self._why_leave()):
                message = f"{why}, but the Beam runner does not end; left alone"
                self._prepared.context.listener(Warned(message))
                return

    def _look(self) -> None:
        try:
            self._state = state = look(self._prepared, self._begun)
        except CallError as error:  # reported by the next look or at the end
            if error.worth_another_try and self._lost_at is None:
                self._lost_at = self._clock.monotonic()
                self._prepared.rpc.try_once()  # it was already retried for `--retry-for`
            return
        finally:
            every_s = min(max(LOOK_EVERY_S, self._state.total / READS_PER_S), SLOWEST_LOOK_S)
            self._next_look = self._clock.monotonic() + every_s
        if self._lost_at is not None:
            self._lost_at = None
            self._prepared.rpc.retry_policy = self._retry_policy
        self._progress.counts, self._progress.total = state.counts, state.entities
        seen = RangesSeen(
            state.finished, state.total, state.counts, state.entities, int(self._clock.unix())
        )
        note_seen(self._prepared.context.state_dir / self._begun.run_info.run_id, seen)
        if state.total and state.finished == state.total and self._finished_at is None:
            self._finished_at = self._clock.monotonic()

    def _why_leave(self) -> str:
        """Why there is nothing left to wait for; empty if there is something."""
        since = self._clock.monotonic() - HANGS_AFTER_S
        if self._finished_at is not None and self._finished_at < since:
            return "all ranges are finished"
        if self._lost_at is not None and self._lost_at < since:
            return "Datastore has stopped answering"
        return ""

    def _listen(self, event: Event) -> None:
        if isinstance(event, Progress):
            state = self._state
            waiting = state.total - state.finished - len(state.holders)
            vitals = Vitals(
                shards=tuple(ShardVitals(i, 0) for i, _ in enumerate(state.holders, 1)),
                shards_waiting=max(waiting, 0),
                shards_done=state.finished,
            )
            event = replace(event, vitals=vitals)
        self._prepared.context.listener(event)

    def _leave(self) -> None:
        """Leave after Ctrl-C. A pipeline elsewhere keeps running; one in this process is ended.

        Raises StopAskedError.
        """
        stop, run_id = self._prepared.context.stop, self._begun.run_info.run_id
        state_dir = self._prepared.context.typed_state_dir
        code = Exit.SIGTERM if stop.signal is not None and stop.signal == 15 else Exit.SIGINT
        if not self._job.name:
            workers.stop("interrupted")
            self._job.wait(ENDS_WITHIN_S)
            continued = resume_command(run_id, state_dir)
            raise StopAskedError(
                f"run {run_id} is interrupted; workers in other processes finish at most their "
                "range, and what is done is kept; continue with the same command, or on this "
                f"machine alone with: {continued}",
                code,
                next_steps=[continued],
            )
        steps = [command_on(verb, run_id, state_dir) for verb in ("show", "cancel", "resume")]
        raise StopAskedError(
            f"detached: job {self._job.name} keeps running, and works on run {run_id}; `bulkup "
            "list --all` with its target says how far it is, "
            f"`{steps[0]}` what this machine has seen; `{steps[1]}` cancels it, and once the job "
            f"is done `{steps[2]}` ends the run",
            code,
            next_steps=steps,
        )
