"""The page of all runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from bulkup.core.records import group_of
from bulkup.report.text import plural, utc_now
from bulkup.runs.listing import DamagedRun, ListedRun
from bulkup.web.board import Board, Overview
from bulkup.web.regions import Region, region
from bulkup.web.render import render

MOST_ROWS = 200
"""How many runs are shown, the latest ones; a search finds the others."""


@dataclass(frozen=True)
class Row:
    run_id: str
    state: str
    updater: str = ""
    note: str = ""
    started: datetime | None = None
    took_s: float | None = None
    handled: int | None = None
    total: int | None = None
    failed: int = 0
    target: str = ""
    elsewhere: str = ""

    @property
    def group(self) -> str:
        """The id of its group, empty if it has none. A search for this id shows the runs of the
        group."""
        return group_of(self.run_id) or ""


def runs_regions(board: Board, base: str, words: str, *, wait_s: float = 0.0) -> dict[str, Region]:
    """`words`: all of these must occur in a run; if empty, all runs are shown."""
    overview = board.overview(wait_s=wait_s)
    now = utc_now()
    rows = [_row(run, now) for run in overview.runs]
    found = [row for row in rows if _matches(row, words)]
    shown = found[:MOST_ROWS]
    left = len(found) - len(shown)
    html = render(
        "runs_region.html",
        base=base,
        rows=shown,
        count=plural(len(found), "run") + (", the latest first" if len(found) > 1 else ""),
        more=f"{plural(left, 'older run')} not shown; find one by its name or id." if left else "",
        nothing=_nothing(board, words),
        ledger_error=_ledger_error(overview),
    )
    return {"runs": region(html)}


def _nothing(board: Board, words: str) -> str:
    if words:
        return f"No run matches {words!r:.200}."
    return f"There are no runs in {str(board.state_dir)!r}. `bulkup run` starts one."


def _ledger_error(overview: Overview) -> str:
    ledger = overview.ledger
    if ledger is None:
        return ""
    if ledger.error:
        return f"Datastore could not be read: {ledger.error}"
    return "" if ledger.target is not None else "Reading the runs that Datastore knows of."


def _matches(row: Row, words: str) -> bool:
    text = " ".join((row.run_id, row.updater, row.state, row.target, row.note)).casefold()
    return all(word in text for word in words.casefold().split())


def _row(run: ListedRun | DamagedRun, now: datetime) -> Row:
    if isinstance(run, DamagedRun):
        return Row(run.run_id, "damaged", note=run.error)
    elsewhere = "" if run.is_here else f"by {run.who or 'another process'}, not in this folder"
    return Row(
        run.run_info.run_id,
        run.shown_state,
        run.run_info.updater,
        "; ".join(_notes(run)),
        run.started,
        run.took_s(now),
        run.counts.handled,
        None if run.shown_state in ("finished", "marked applied") else run.total,
        run.counts.failed,
        str(run.run_info.target),
        elsewhere,
    )


def _notes(run: ListedRun) -> Sequence[str]:
    notes = []
    if run.run_info.retry_of:
        notes.append(f"retry of {run.run_info.retry_of}")
    if run.undone_by:
        notes.append(f"{'partly ' if run.undone_partly else ''}undone by {run.undone_by}")
    if run.successor:
        notes.append(f"then {run.successor}")
    if run.retried_by:
        notes.append(f"retried by {', '.join(run.retried_by)}")
    if run.marked:
        notes.append(run.marked)
    return notes
