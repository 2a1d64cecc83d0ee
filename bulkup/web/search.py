"""Finds failures, log lines and other events of a run by words in them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path

from bulkup.report.log_text import log_sentence
from bulkup.report.summary_model import what_failed
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.run_log_reader import read_log

MOST_HITS = 200
MOST_S = 3.0
"""Seconds to search: a run may have a million failures. Then what was found so far is shown."""
_TOLD_ELSEWHERE = ("failure", "log")
"""Kinds that the log is not searched for: the checkpoint has all of them."""


@dataclass(frozen=True)
class Hit:
    at: datetime | None
    kind: str
    text: str
    details: str = ""
    """A traceback."""


@dataclass(frozen=True)
class Found:
    hits: tuple[Hit, ...]
    is_complete: bool
    """False if the search stopped early, so that there may be more."""


def search(folder: Path, words: str, kind: str = "") -> Found:
    """Entries that contain all the words, ignoring case. `kind`: `failure`, `log`, or any other
    kind of event; empty: all kinds. Raises StateError, sqlite3.DatabaseError."""
    wanted = words.casefold().split()
    until = time.monotonic() + MOST_S
    hits: list[Hit] = []
    with closing(Checkpoint.open(folder, check=False)) as checkpoint:
        for hit in chain(_of_checkpoint(checkpoint, kind), _of_log(folder, kind)):
            text = f"{hit.kind} {hit.text} {hit.details}".casefold()
            if all(word in text for word in wanted):
                hits.append(hit)
            if len(hits) >= MOST_HITS or time.monotonic() > until:
                return Found(_in_order(hits), is_complete=False)
    return Found(_in_order(hits), is_complete=True)


def _in_order(hits: Iterable[Hit]) -> tuple[Hit, ...]:
    beginning = datetime.fromtimestamp(0, timezone.utc)
    return tuple(sorted(hits, key=lambda hit: hit.at or beginning))


def _of_checkpoint(checkpoint: Checkpoint, kind: str) -> Iterator[Hit]:
    if kind in ("", "failure"):
        for failure in checkpoint.failures():
            text = f"{failure.key}: {what_failed(failure)}"
            yield Hit(_moment(failure.at), "failure", text, failure.traceback)
    if kind in ("", "log"):
        for line in checkpoint.log_lines():
            yield Hit(_moment(line.at), "log", line)


def _of_log(folder: Path, kind: str) -> Iterator[Hit]:
    for entry in read_log(folder):
        if entry.kind not in _TOLD_ELSEWHERE and kind in ("", entry.kind):
            yield Hit(_moment(entry.at), entry.kind, log_sentence(entry))


def _moment(at: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(at, timezone.utc) if at else None
    except (OverflowError, ValueError, OSError):
        return None
