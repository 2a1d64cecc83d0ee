"""For programs: one JSON object per line on stdout, and nothing else there.

Every line is ASCII (everything else is escaped, so no line can harm a terminal) and has `type` and
`time`. Times are ISO 8601 in UTC with milliseconds (`2026-01-02T03:04:05.678Z`), durations are
seconds. Strings are exact: not shortened, not cleaned. Fields are added over time, never renamed or
removed. Ignore fields and types you do not know.

    start      format (1), run_id, updater, description, target, params, dry_run, resumed,
               already (counts), total, state_file
    progress   run_id, counts, total, elapsed_s, rate, retries, waiting, pace (for people; may
               change); at most one a second
    retry      run_id, call, error, attempt, wait_s, left_s
    failure    run_id, key, step, error, traceback, failed, max_failures (-1: no limit)
    log        run_id, line
    warning    run_id, message
    change     run_id, key, action (put, delete), changes: [{name, before, after}]; dry runs only
    summary    run_id, updater, description, target, params, dry_run, state, success, reason,
               exit_code, counts, total, started, ended, elapsed_s, retries, failures (the first:
               [{key, step, error, traceback}]; counts.failed says how many there are),
               log_lines (the first), log_total, warnings, state_file, next_command, runners,
               max_failures (-1: no limit, null: not known), predecessor, successor (ids of runs of
               its chain, or ""), headline (for people; may change)
    namespaces group_id, title, target, pattern, namespaces, dry_run, resumed: what follows, up to
               `group`, is about these namespaces, one after another (`target.namespace` of
               start and summary says which)
    group      the end of that: the fields of summary, with sums as counts and the group's id as
               run_id; namespaces: [{namespace, run_id, state, counts, exit_code, note}], with the
               additional state "not begun"; appeared: namespaces that appeared during the run and
               were not processed
    delivery   channel (file, mail), ok, message: what became of the report
    error      message, details, exit_code: the command ended without a summary

    target     {project, database, namespace, emulator, local}; "" is the default
    counts     handled = written + deleted + unchanged + left_alone + vanished + failed (entities of
               the query); changed_not_written (among these); other_written, other_deleted
               (entities that handlers wrote besides); conflicts; puts = written + other_written,
               deletes = deleted + other_deleted, writes = puts + deletes. In a dry run: what
               would be written. docs/counts.md defines each
    state      running, finished, failed, stopped, interrupted
    total      null where the server cannot count; before/after: null where there is no value

With `-q` there are start, failure, warning, summary, namespaces, group, delivery and error. All
failures are printed as they happen, and all changes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, TextIO

from bulkup.core.errors import BulkupError
from bulkup.core.events import (
    Counts,
    EntityFailed,
    Event,
    GroupEnded,
    GroupStarted,
    Logged,
    Progress,
    Report,
    Retrying,
    RunEnded,
    RunStarted,
    Warned,
    WouldChange,
)
from bulkup.report.printer import Delivery, Handlers, Printer
from bulkup.report.stream import Stream, replace_std
from bulkup.report.summary_wording import headline_of
from bulkup.report.text import clean, clean_block, iso

FORMAT = 1
PROGRESS_EVERY_S = 1.0


class JsonPrinter(Printer):
    """Until it is closed, what an updater prints to `sys.stdout` goes to `err`."""

    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        *,
        quiet: bool,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._err = Stream(err)
        self._out = Stream(out, self._out_lost)
        self._clock, self._now = clock, now
        self._progress_at = -math.inf
        self._run_id = ""
        self._replaced = replace_std(out, self._err, err, self._err)
        self._handlers: Handlers = {
            EntityFailed: self._failed,
            Warned: lambda event: self._emit("warning", {"message": event.message}),
            RunStarted: self._started,
            RunEnded: self._ended,
            GroupStarted: self._group_started,
            GroupEnded: self._group_ended,
        }
        if not quiet:
            self._handlers = {
                **self._handlers,
                Progress: self._progress,
                WouldChange: lambda event: self._emit("change", asdict(event)),
                Retrying: lambda event: self._emit("retry", asdict(event)),
                Logged: lambda event: self._emit("log", asdict(event)),
            }

    def __call__(self, event: Event) -> None:
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def close(self) -> None:
        self._replaced.close()
        self._out.flush()
        self._err.flush()

    def delivered(self, delivery: Delivery) -> None:
        self._emit("delivery", asdict(delivery))
        if not delivery.ok:
            self._err.line(delivery.message)

    def error(self, error: BulkupError) -> None:
        fields = {"message": error.message, "details": error.details}
        self._emit("error", {**fields, "exit_code": int(error.exit_code)})
        self._err.line(f"Error: {clean(error.message)}")
        for line in clean_block(error.details):
            self._err.line(f"  {line}")

    def _started(self, event: RunStarted) -> None:
        self._run_id = event.run_id
        self._emit("start", {"format": FORMAT, **_start(event)})

    def _ended(self, event: RunEnded) -> None:
        self._run_id = event.report.run_id
        self._emit("summary", summary(event.report))

    def _group_started(self, event: GroupStarted) -> None:
        self._run_id = event.group_id
        self._emit("namespaces", asdict(event))

    def _group_ended(self, event: GroupEnded) -> None:
        self._run_id = event.report.run_id
        self._emit("group", {**summary(event.report), **_namespaces(event.report)})

    def _failed(self, event: EntityFailed) -> None:
        limits = {"failed": event.failed, "max_failures": event.max_failures}
        self._emit("failure", {**asdict(event.failure), **limits})

    def _progress(self, event: Progress) -> None:
        now = self._clock()
        if now - self._progress_at < PROGRESS_EVERY_S:
            return
        self._progress_at = now
        fields = {
            "counts": _counts(event.counts),
            "total": event.total,
            "elapsed_s": event.elapsed_s,
            "rate": event.rate,
            "retries": event.retries,
            "waiting": event.waiting or "",
            "pace": event.rate_limit or "",
        }
        self._emit("progress", fields)

    def _emit(self, kind: str, fields: Mapping[str, Any]) -> None:
        head = {"type": kind, "time": iso(self._now()), "run_id": self._run_id}
        self._out.line(json.dumps(_finite({**head, **fields}), allow_nan=False))

    def _out_lost(self, why: str) -> None:
        self._err.line(f"Warning: stdout is lost ({clean(why)}); the run continues.")


def summary(report: Report) -> dict[str, Any]:
    """The fields of a `summary` line, ready for `json.dumps`."""
    return {
        "run_id": report.run_id,
        "updater": report.updater,
        "description": report.description,
        "target": asdict(report.target),
        "params": dict(report.params),
        "dry_run": report.dry_run,
        "state": report.state.value,
        "success": report.success,
        "reason": report.reason,
        "exit_code": int(report.exit_code),
        "counts": _counts(report.counts),
        "total": report.total,
        "started": iso(report.started),
        "ended": iso(report.ended),
        "elapsed_s": report.elapsed_s,
        "retries": report.retries,
        "failures": [asdict(failure) for failure in report.failures],
        "log_lines": list(report.log_lines),
        "log_total": report.log_total,
        "warnings": list(report.warnings),
        "state_file": report.state_file,
        "next_command": report.next_command,
        "runners": report.runners,
        "max_failures": report.max_failures,
        "predecessor": report.predecessor,
        "successor": report.successor,
        "headline": headline_of(report),
    }


def _namespaces(report: Report) -> dict[str, Any]:
    return {
        "namespaces": [
            {
                "namespace": space.namespace,
                "run_id": space.run_id,
                "state": space.state.value if space.state is not None else "not begun",
                "counts": _counts(space.counts),
                "exit_code": int(space.exit_code),
                "note": space.note,
            }
            for space in report.spaces
        ],
        "appeared": list(report.appeared),
    }


def _start(event: RunStarted) -> dict[str, Any]:
    return {
        "run_id": event.run_id,
        "updater": event.updater,
        "description": event.description,
        "target": asdict(event.target),
        "params": dict(event.params),
        "dry_run": event.dry_run,
        "resumed": event.resumed,
        "already": _counts(event.already),
        "total": event.total,
        "state_file": event.state_file,
    }


def _counts(counts: Counts) -> dict[str, int]:
    return counts.named()


def _finite(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no infinity, and Python's `Infinity` is an error everywhere else."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in fields.items()
    }
