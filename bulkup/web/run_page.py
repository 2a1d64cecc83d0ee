"""The page of one run."""

from __future__ import annotations

import sqlite3
from typing import Any

from bulkup.core.errors import BulkupError, StateError
from bulkup.core.run_facts import RunFacts
from bulkup.report import summarize
from bulkup.report.text import utc_now
from bulkup.runs.listing import DamagedRun, ListedRun
from bulkup.runs.run_facts import run_facts
from bulkup.web.board import Board
from bulkup.web.regions import Region, region
from bulkup.web.render import render
from bulkup.web.search import search

KINDS = ("failure", "log", "warning", "retry", "steered")
"""What a search may be narrowed to."""


def run_regions(board: Board, base: str, run_id: str, *, wait_s: float = 0.0) -> dict[str, Region]:
    """Raises NotFoundError."""
    folder = board.folder_of(run_id)
    if folder is None:
        return {"facts": _of_record(board.run(run_id, wait_s=wait_s), base)}
    try:
        facts = run_facts(folder)
    except StateError as error:
        return {"facts": region(render("damaged.html", error=error.message))}
    return {
        "state": region(render("state.html", **_state(facts))),
        "facts": region(render("facts.html", base=base, summary=summarize(facts.report))),
    }


def _state(facts: RunFacts) -> dict[str, Any]:
    report = facts.report
    state = "killed" if report.alive is False else report.state.value
    last = facts.samples[-1] if facts.samples and report.alive else None
    end = utc_now() if report.alive else report.ended
    return {
        "report": report,
        "state": last.phase.value if last and last.phase.value != "working" else state,
        "why": last.why if last else report.reason,
        "last": last,
        "handled": max(report.counts.handled, last.handled if last else 0),
        "took_s": (end - report.started).total_seconds(),
    }


def _of_record(run: ListedRun | DamagedRun, base: str) -> Region:
    if isinstance(run, DamagedRun):
        return region(render("damaged.html", error=run.error))
    return region(render("elsewhere.html", base=base, run=run, took_s=run.took_s(utc_now())))


def search_html(board: Board, run_id: str, words: str, kind: str) -> str:
    """What was found, as HTML; empty: nothing was asked for."""
    folder = board.folder_of(run_id)
    if folder is None or not (words or kind):
        return ""
    try:
        found = search(folder, words, kind)
    except (BulkupError, sqlite3.DatabaseError) as error:
        return render("damaged.html", error=str(error))
    return render("found.html", found=found)
