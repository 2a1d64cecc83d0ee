"""The page of one run: the sections of its report, and the form that steers it."""

from __future__ import annotations

import sqlite3
from urllib.parse import quote

from bulkup.core.errors import BulkupError, StateError
from bulkup.core.model import RunState
from bulkup.core.run_facts import RunFacts
from bulkup.core.vitals import Phase
from bulkup.report.page import render_sections
from bulkup.report.text import utc_now
from bulkup.runs.listing import DamagedRun, ListedRun
from bulkup.runs.run_facts import run_facts
from bulkup.state.display import KILLED
from bulkup.web.board import Board
from bulkup.web.regions import Region, region
from bulkup.web.render import render
from bulkup.web.search import search

KINDS = {
    "": "everything", "failure": "failures", "log": "log lines", "warning": "warnings",
    "retry": "retries", "steered": "steering",
}  # fmt: skip
"""Kinds of entries that a search can be limited to."""


class RunPage:
    """One run of a board. `base` and `form_token` are for its links and forms."""

    def __init__(self, board: Board, run_id: str, base: str, form_token: str) -> None:
        self._board = board
        self._run_id = run_id
        self._action = f"{base}/runs/{quote(run_id, safe='')}"
        self._base = base
        self._form_token = form_token

    def regions(self, *, wait_s: float = 0.0) -> dict[str, Region]:
        """The regions in the order of the page. Raises NotFoundError."""
        folder = self._board.folder_of(self._run_id)
        if folder is None:
            return self._of_record(self._board.run(self._run_id, wait_s=wait_s))
        try:
            facts = run_facts(folder)
        except StateError as error:
            return {"notice": notice(error.message)}
        sections = {name: region(html) for name, html in render_sections(facts).items()}
        over = facts.report.state.is_over
        return {
            "notice": region(""),
            "now": _now(facts),
            "steering": region("") if over else self._steering(facts),
            **sections,
        }

    def _steering(self, facts: RunFacts) -> Region:
        last = facts.samples[-1] if facts.samples else None
        said = "" if facts.report.alive else "No process of this machine works on it now."
        # If a process works on the run, the page shows further up that it is paused.
        return self._form(
            said, shows_pause=not facts.report.alive, batch_size=last.batch_size if last else 0
        )

    def _form(self, said: str, *, shows_pause: bool, batch_size: int = 0) -> Region:
        steering = self._board.steering(self._run_id)
        told = [said] if said else []
        if steering.is_paused and shows_pause:
            told.append(f"Paused by {steering.by}." if steering.by else "Paused.")
        if steering.tuning:
            told.append(f"Tuned to {steering.tuning}.")
        html = render(
            "steering.html",
            action=self._action,
            form_token=self._form_token,
            said=" ".join(told),
            is_paused=steering.is_paused,
            max_rate=steering.tuning.max_rate or "",
            in_flight=steering.tuning.in_flight or "",
            batch_size=steering.tuning.batch_size or batch_size or "",
        )
        return region(html)

    def _of_record(self, run: ListedRun | DamagedRun) -> dict[str, Region]:
        if isinstance(run, DamagedRun):
            return {"notice": notice(run.error)}
        took_s = run.took_s(utc_now())
        facts = region(render("elsewhere.html", base=self._base, run=run, took_s=took_s))
        over = run.state != KILLED and RunState(run.state).is_over
        steering = region("") if over else self._form("", shows_pause=True)
        return {"notice": region(""), "facts": facts, "steering": steering}

    def found(self, words: str, kind: str) -> str:
        """What a search has found, as HTML; empty if nothing was searched for."""
        folder = self._board.folder_of(self._run_id)
        if folder is None or not (words or kind):
            return ""
        try:
            found = search(folder, words, kind)
        except (BulkupError, sqlite3.DatabaseError) as error:
            return str(notice(str(error)).html)
        return render("found.html", found=found)


def notice(message: str) -> Region:
    """A message at the top of the page, in place of what cannot be shown."""
    return region(render("notice.html", message=message))


def _now(facts: RunFacts) -> Region:
    """How far the run has got and what it is doing now; empty if no process works on it."""
    if facts.report.alive is not True:
        return region("")
    last = facts.samples[-1] if facts.samples else None
    counts, total = facts.report.counts, facts.report.total
    handled = max(counts.handled, last.handled if last else 0)
    rate = last.rate if last is not None and last.phase is Phase.WORKING else 0.0
    left_s = (total - handled) / rate if total is not None and total > handled and rate else None
    return region(render("now.html", last=last, handled=handled, total=total, left_s=left_s))
