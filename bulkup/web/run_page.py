"""The page of one run: the sections of its report, and what steers it."""

from __future__ import annotations

import sqlite3
from urllib.parse import quote

from bulkup.core.errors import BulkupError, StateError
from bulkup.report.page import render_sections
from bulkup.report.text import utc_now
from bulkup.runs.listing import DamagedRun, ListedRun
from bulkup.runs.run_facts import run_facts
from bulkup.web.board import Board
from bulkup.web.regions import Region, region
from bulkup.web.render import render
from bulkup.web.search import search

KINDS = {
    "": "everything", "failure": "failures", "log": "log lines", "warning": "warnings",
    "retry": "retries", "steered": "steering",
}  # fmt: skip
"""What a search may be narrowed to."""


class RunPage:
    """One run of a board. `base` and `form_token` are for its links and forms."""

    def __init__(self, board: Board, run_id: str, base: str, form_token: str) -> None:
        self._board = board
        self._run_id = run_id
        self._action = f"{base}/runs/{quote(run_id, safe='')}"
        self._base = base
        self._form_token = form_token

    def regions(self, *, wait_s: float = 0.0) -> dict[str, Region]:
        """In the order of the page. Raises NotFoundError."""
        folder = self._board.folder_of(self._run_id)
        if folder is None:
            return self._of_record(self._board.run(self._run_id, wait_s=wait_s))
        try:
            facts = run_facts(folder)
        except StateError as error:
            return {"facts": region(render("damaged.html", error=error.message))}
        return {name: region(html) for name, html in render_sections(facts).items()}

    def _of_record(self, run: ListedRun | DamagedRun) -> dict[str, Region]:
        if isinstance(run, DamagedRun):
            return {"facts": region(render("damaged.html", error=run.error))}
        took_s = run.took_s(utc_now())
        return {"facts": region(render("elsewhere.html", base=self._base, run=run, took_s=took_s))}

    def found(self, words: str, kind: str) -> str:
        """What a search has found, as HTML; empty: nothing was asked for."""
        folder = self._board.folder_of(self._run_id)
        if folder is None or not (words or kind):
            return ""
        try:
            found = search(folder, words, kind)
        except (BulkupError, sqlite3.DatabaseError) as error:
            return render("damaged.html", error=str(error))
        return render("found.html", found=found)
