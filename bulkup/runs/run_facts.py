"""What is known about a run, read from its folder: for its page, `bulkup report`, `bulkup serve`.

Nothing is written, and Datastore is not asked. Of the undo log, only the beginning is read. Time
and memory are bounded, except that all failures are read in order to group them.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

from bulkup.core.clock import Clock
from bulkup.core.errors import StateError
from bulkup.core.events import Report, WouldChange
from bulkup.core.run_facts import ChainLink, Incident, RunFacts, RunnerFacts
from bulkup.engine.options import Options
from bulkup.engine.reports import stored_report
from bulkup.runs.changes import first_changes
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.checkpoint_copy import is_copy, was_alive
from bulkup.state.display import is_alive, resume_command, retry_command, state_text
from bulkup.state.files import CHECKPOINT_NAME
from bulkup.state.range_folders import range_folders
from bulkup.state.ranges_seen import ranges_seen, with_seen
from bulkup.state.run_log_reader import LogEntry, read_log
from bulkup.state.steering import read_steering
from bulkup.state.timeline import read_timeline
from bulkup.state.undo_files import keeps_images

MOST_CHANGES = 12
"""How many samples of the run's changes are shown."""
ALIKE = 3
"""How many samples may change the same properties in the same way."""
LOOKED_AT = 300
"""How many writes the samples are chosen from."""
MOST_FAILURES = 50
MOST_INCIDENTS = 200
MOST_LINKS = 100
"""How many runs of a chain are looked at in each direction."""


def run_facts(folder: Path, report: Report | None = None) -> RunFacts:
    """What the folder knows about a run, which may be in progress.

    `report`: the report of the runner that has just ended, which knows more; None: it is read from
    the folder, too. If the timeline or the undo log is damaged, only its own facts are missing.
    Raises StateError for a checkpoint that cannot be read.
    """
    try:
        with closing(Checkpoint.open(folder, check=False)) as checkpoint:
            runners = checkpoint.runners()
            if report is None:
                report = _with_last(shown_report(checkpoint, folder.parent), runners)
            changes, note = _changes(checkpoint)
            run_info = checkpoint.run_info
    except sqlite3.DatabaseError as error:
        raise StateError(
            f"the checkpoint in {str(folder)!r} is damaged ({error}); move the folder away"
        ) from error
    return RunFacts(
        report=report,
        read_at=Clock().now(),
        runners=runners,
        samples=read_timeline(folder),
        changes=changes,
        changes_total=report.counts.writes,
        changes_note=note,
        chain=tuple(_chain(folder, report)),
        incidents=tuple(_incidents(folder)),
        source_path=run_info.source_path,
        checksum=run_info.checksum,
    )


def facts_of_end(folder: Path, report: Report) -> RunFacts:
    """The facts of a runner that has just ended with this report, or of work in several namespaces,
    which has no checkpoint. If the folder has nothing to read, only the report is used."""
    if not report.spaces:
        try:
            return run_facts(folder, report)
        except StateError:
            pass  # code that needs the checkpoint reports this; here it is only shown
    return RunFacts(report, Clock().now())


def shown_report(checkpoint: Checkpoint, state_dir: Path, *, shown: int = MOST_FAILURES) -> Report:
    """The report of a run for display, at any time. `state_dir`: as the user has typed it."""
    run_info = checkpoint.run_info
    tuned = read_steering(checkpoint.folder).tuning.stored()
    words = Options().or_as(checkpoint.status().asked).words(but=tuned)
    report = stored_report(
        checkpoint,
        next_command=resume_command(run_info.run_id, state_dir, words),
        retry_command=retry_command(run_info, state_dir),
        shown=shown,
    )
    if not report.state.is_over:
        seen = with_seen(ranges_seen(checkpoint.folder), report.counts, report.total)
        if seen is not None:
            report = replace(report, counts=seen.counts, total=seen.entities, ranges=seen)
    alive = is_alive(checkpoint)
    if is_copy(checkpoint.folder):
        report = replace(report, next_command="", state_file="")
        alive = None if alive is None else was_alive(checkpoint.folder)
    # A run whose process is alive has no next command: resuming it would be refused.
    return replace(report, alive=alive, next_command="" if alive else report.next_command)


def _with_last(report: Report, runners: Sequence[RunnerFacts]) -> Report:
    """The report with what only its last runner knew."""
    if not runners:
        return report
    last = runners[-1]
    return replace(report, retries=last.retries, operations=last.operations, warnings=last.warnings)


def _changes(checkpoint: Checkpoint) -> tuple[tuple[WouldChange, ...], str]:
    if not checkpoint.counts().writes:
        return (), ""
    folder = checkpoint.folder
    if not any(keeps_images(one) for one in (folder, *range_folders(folder))):
        return (), "The run has kept no before-images, so what it changed is not known."
    try:
        return tuple(islice(_samples(folder), MOST_CHANGES)), ""
    except StateError as error:
        return (), error.message


def _samples(folder: Path) -> Iterator[WouldChange]:
    """The first changes of each kind: a run may treat entities in several ways."""
    seen: Counter[tuple[object, ...]] = Counter()
    for change in islice(first_changes(folder), LOOKED_AT):
        properties = ((one.name, one.before is None, one.after is None) for one in change.changes)
        kind = (change.action, *properties)
        seen[kind] += 1
        if seen[kind] <= ALIKE:
            yield change


def _incidents(folder: Path) -> Iterator[Incident]:
    """The last incidents in the run's log."""
    entries = (entry for entry in read_log(folder) if entry.kind in _INCIDENTS)
    for entry in deque(entries, MOST_INCIDENTS):
        yield Incident(entry.at, _INCIDENTS[entry.kind](entry), entry.text("by"))


def _released(entry: LogEntry) -> str:
    held_s = entry.fields.get("held_s")
    return f"went on after {held_s:.0f} s" if isinstance(held_s, (int, float)) else "went on"


_INCIDENTS: Mapping[str, Callable[[LogEntry], str]] = {
    "steered": lambda entry: entry.text("message") or entry.text("verb"),
    "held": lambda entry: f"held: {entry.text('why')}",
    "released": _released,
}


def _chain(folder: Path, report: Report) -> Iterator[ChainLink]:
    """The runs of the chain, from the first on, as far as this state directory knows them."""
    if not (report.predecessor or report.successor):
        return
    first, _, number = report.run_id.partition("+")
    this = int(number or 0)
    for position in range(max(0, this - MOST_LINKS), this + MOST_LINKS):
        run_id = f"{first}+{position}" if position else first
        is_known = position <= this or run_id == report.successor
        if not is_known and not (folder.with_name(run_id) / CHECKPOINT_NAME).exists():
            return
        yield _link(folder.with_name(run_id), report)


def _link(folder: Path, report: Report) -> ChainLink:
    if folder.name == report.run_id:
        state = "killed" if report.alive is False else report.state.value
        return ChainLink(report.run_id, report.updater, state, report.counts, is_this=True)
    try:
        with closing(Checkpoint.open(folder, check=False)) as checkpoint:
            return ChainLink(
                folder.name,
                checkpoint.run_info.updater,
                state_text(checkpoint),
                checkpoint.counts(),
            )
    except (StateError, sqlite3.DatabaseError):
        return ChainLink(folder.name)
