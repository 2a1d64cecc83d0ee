"""For programs: one JSON object per line on stdout, and nothing else there.

Every line is ASCII (everything else is escaped, so no line can harm a terminal) and has `type`,
`version` (1), `time` and `run_id`. Times are ISO 8601 in UTC with milliseconds
(`2026-01-02T03:04:05.678Z`), durations are seconds. Strings are exact: not shortened, not cleaned.
Fields are added over time, never renamed or removed. Ignore fields and types you do not know.
`schema.json` describes the lines of all commands, docs/json.md explains them.

    start      format (= version), run_id, updater, description, target, params, dry_run, resumed,
               already (counts), total, state_file, verifies (of `bulkup verify`); gate (true):
               this is the dry pass of --gate clean
    gate       passed, counts, elapsed_s, checked_before: the dry pass was clean, and the run begins
    progress   run_id, handled, counts, total, elapsed_s, rate, retries, waiting, pace (for people;
               may change), vitals (how a run is doing: phase, commits in flight and their latency,
               retries, what it waited for, shards); at most one a second
    retry      run_id, call, error, attempt, wait_s, left_s
    failure    run_id, key, typed_key, step, error, traceback, failed, max_failures (-1: no limit)
    finding    key, typed_key, step, error, traceback, found, young: an entity that
               `bulkup verify` has found not done
    log        run_id, line
    steered    verb, state, by, asked_at, max_rate, in_flight, batch_size, message: somebody has
               paused, continued, cancelled or tuned the run
    held       why, until: a health check fails, or it is outside the run's window
    released   held_s: the run works again
    warning    run_id, message, kind
    change     run_id, key, typed_key, action (put, delete), changes: [{name, before, after}], for
               people, and shortened; values: the same, as values; dry runs only
    end        of `bulkup logs`: a process has ended its work on the run; state, reason, exit_code,
               counts, total, elapsed_s, retries, successor
    summary    run_id, updater, description, target, params, dry_run, state, success, reason,
               exit_code, counts, total, started, ended, elapsed_s, retries, failures (the first:
               [{key, typed_key, step, error, traceback}]; counts.failed says how many there are),
               failure_groups (all of them by error: [{count, step, error, place, keys (the first),
               typed_keys, traceback}]), other_failures (those with further errors),
               log_lines (the first), log_total, warnings, state_file, next_steps (commands, ready
               for a shell), next_command (the first of them, or ""), runners,
               max_failures (-1: no limit, null: not known), predecessor, successor (ids of runs of
               its chain, or ""), retry_of (id of the run whose failed entities it handles again,
               or ""), retried_by (ids of the runs that do that for this one), retried (how many
               of counts.failed they have handled), passes (of --until-clean: how much each has
               written, this one last; else []), headline (for people; may change); gate (with
               --gate clean; the fields of a gate line: if not passed, the summary is of the dry
               pass); plan (of a run with a plan: plan_id, max_drift, drift, approved_by, approved);
               operations; verification (of `bulkup verify`, whose failures are the entities that
               are not done)
    namespaces group_id, title, target, pattern, namespaces, dry_run, resumed: what follows, up to
               `group`, is about these namespaces, one after another (`target.namespace` of
               start and summary says which)
    group      the end of the group: the fields of summary, with sums as counts and the group's id
               as run_id; namespaces: [{namespace, run_id, state, counts, exit_code, note}], with
               the additional state "not begun"; appeared: namespaces that appeared during the run
               and were not processed
    already_done  run_id (of the run that did the work before), updater, ended, ago_s, who, counts,
               exit_code: with `--once` there was nothing to do; no start and no summary follow
    nothing_to_retry  run_id, updater, unnamed, exit_code: the run that was to be retried names no
               failed entity; no start and no summary follow
    plan       what `bulkup plan` predicts (docs/plan.md); no summary follows
    delivery   channel (file, mail, webhook), ok, message: how the report was delivered
    error      message, details, exit_code, next_steps: the command ended without a summary

    target     {project, database, namespace, emulator, local}; "" is the default
    counts     handled = written + deleted + unchanged + left_alone + vanished + failed: each entity
               of the query is one of these; changed_not_written (some of them); other_written,
               other_deleted (entities that handlers wrote besides); conflicts. In a dry run: what
               would be written. docs/counts.md defines each. Deprecated: puts (written +
               other_written), deletes (deleted + other_deleted), writes (their sum)
    typed_key  {path: [[kind, id or name], ...], namespace}; null if the key cannot be read
    value      {"integerValue": "5"}: the form of the REST API, as `bulkup local dump --lossless`
    operations {predicted, counted}: {reads, writes, deletes, index_updates}, of this process
    state      running, finished, failed, stopped, interrupted, abandoned
    total      null where the server cannot count; before/after: null where there is no value

With `-q` there are start, failure, finding, warning, steered, held, released, already_done,
nothing_to_retry, summary, namespaces, group, delivery and error. All failures are printed as they
happen, and all changes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, TextIO

from bulkup.core.changes import change_fields
from bulkup.core.errors import BulkupError
from bulkup.core.events import (
    AlreadyDone,
    EntityFailed,
    Event,
    Found,
    GatePassed,
    GroupEnded,
    GroupStarted,
    Held,
    Logged,
    NothingToRetry,
    Planned,
    Progress,
    Released,
    Retrying,
    RunEnded,
    RunStarted,
    Steered,
    Warned,
    WouldChange,
)
from bulkup.core.plan_json import plan_fields
from bulkup.report.json_fields import (
    already_done_fields,
    failure_fields,
    gate_fields,
    held_fields,
    namespaces_fields,
    progress_fields,
    selection_fields,
    start_fields,
    steered_fields,
    summary_fields,
    time_of,
)
from bulkup.report.json_lines import VERSION, JsonLines
from bulkup.report.printer import Delivery, Handlers, Printer
from bulkup.report.status import Status
from bulkup.report.stdout import is_process_stdout, keep_stdout, kept_stdout
from bulkup.report.stream import Stream, replace_std
from bulkup.report.text import clean, clean_block

PROGRESS_EVERY_S = 1.0


class JsonPrinter(Printer):
    """Until it is closed, everything that an updater writes to standard output goes to `err`."""

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
        self._clock = clock
        self._progress_at = -math.inf
        self._group_id = ""
        self._is_between_runs = False
        self._status = Status(clock, now)
        self._replaced = replace_std(out, self._err, err, self._err)
        if out is sys.__stdout__ and (kept_stdout() is not None or is_process_stdout(out)):
            is_ours = kept_stdout() is None  # otherwise the command keeps it for longer
            kept = keep_stdout()
            if is_ours:
                self._replaced.callback(kept.release)
            out = kept.stream
        self.lines = JsonLines(Stream(out, self._out_lost), now)
        self._write = self.lines.write
        self._handlers: Handlers = {
            EntityFailed: self._failed,
            Found: self._found,
            Warned: self._warned,
            RunStarted: self._started,
            RunEnded: self._ended,
            GroupStarted: self._group_started,
            GroupEnded: self._group_ended,
            AlreadyDone: self._already_done,
            NothingToRetry: self._nothing_to_retry,
            GatePassed: lambda event: self._write("gate", gate_fields(event.result)),
            Planned: lambda event: self._write("plan", plan_fields(event.plan)),
            Steered: lambda event: self._write("steered", steered_fields(event)),
            Held: lambda event: self._write("held", held_fields(event)),
            Released: lambda event: self._write("released", asdict(event)),
        }
        if not quiet:
            self._handlers = {
                **self._handlers,
                Progress: self._progress,
                WouldChange: lambda event: self._write("change", change_fields(event)),
                Retrying: lambda event: self._write("retry", asdict(event)),
                Logged: self._logged,
            }

    def __call__(self, event: Event) -> None:
        self._status.see(event)
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def status(self) -> None:
        self._err.line(self._status.line())

    def line(self, kind: str, fields: Mapping[str, Any]) -> None:
        self.lines.write(kind, {"run_id": "", **fields})

    def close(self) -> None:
        self._replaced.close()
        self._err.flush()

    def delivered(self, delivery: Delivery) -> None:
        self._write("delivery", asdict(delivery))
        if not delivery.ok:
            self._err.line(delivery.message)

    def error(self, error: BulkupError) -> None:
        if self._is_between_runs:  # the error is not about the run that has ended
            self.lines.run_id = self._group_id
        self.lines.error(error)
        self._err.line(f"Error: {clean(error.message)}")
        for line in clean_block(error.details):
            self._err.line(f"  {line}")

    def _started(self, event: RunStarted) -> None:
        self.lines.run_id, self._is_between_runs = event.run_id, False
        self._write("start", {"format": VERSION, **start_fields(event)})

    def _ended(self, event: RunEnded) -> None:
        self.lines.run_id, self._is_between_runs = event.report.run_id, True
        self._write("summary", summary_fields(event.report))

    def _group_started(self, event: GroupStarted) -> None:
        self.lines.run_id = self._group_id = event.group_id
        fields = asdict(event)
        del fields["selection"]
        self._write("namespaces", {**fields, **selection_fields(event.selection)})

    def _group_ended(self, event: GroupEnded) -> None:
        self.lines.run_id = event.report.run_id
        fields = {**summary_fields(event.report), **namespaces_fields(event.report)}
        self._write("group", fields)

    def _warned(self, event: Warned) -> None:
        self._write("warning", {"message": event.message, "kind": event.kind.value})

    def _already_done(self, event: AlreadyDone) -> None:
        self.lines.run_id = event.run_id
        self._write("already_done", already_done_fields(event))

    def _nothing_to_retry(self, event: NothingToRetry) -> None:
        self.lines.run_id = event.run_id
        fields = {"updater": event.updater, "unnamed": event.unnamed}
        self._write("nothing_to_retry", {**fields, "exit_code": int(event.exit_code)})

    def _logged(self, event: Logged) -> None:
        self._write("log", {"line": event.line}, at=time_of(event.line))

    def _failed(self, event: EntityFailed) -> None:
        limits = {"failed": event.failed, "max_failures": event.max_failures}
        fields = {**failure_fields(event.failure), **limits}
        self._write("failure", fields, at=time_of(event.failure))

    def _found(self, event: Found) -> None:
        fields = {**failure_fields(event.failure), "found": event.found, "young": event.young}
        self._write("finding", fields, at=time_of(event.failure))

    def _progress(self, event: Progress) -> None:
        now = self._clock()
        if now - self._progress_at < PROGRESS_EVERY_S:
            return
        self._progress_at = now
        self._write("progress", progress_fields(event))

    def _out_lost(self, why: str) -> None:
        self._err.line(f"Warning: stdout is lost ({clean(why)}); the run continues.")
