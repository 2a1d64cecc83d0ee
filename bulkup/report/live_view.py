"""What is drawn on a terminal while a run works: a bar, and below it how the run is doing.

    AddFullName ━━━━━━━━━━━━━━━╸──────────────────────── 12,345 of 34,006 (36%), 18 s left
      12,345 written, 3 failed
      rate    ▁▂▅▆▇▇▇▆▆▇█▇▇▇▆▇▇ 1,234/s; ramp-up 1,500/s, next step in 3:10
      commits 4 of 8 in flight, median 12 ms, p99 85 ms, up to 500 entities each
      time    handling 61%, committing 24%, reading 15%
      resent  3 × Commit: UNAVAILABLE; 2 conflicts
      shards  2 in progress, 4 waiting
                 1 ━━━━━━━━━━──────  62%    12,013     2 ━━━━────────────  25%     4,800
      failed  3 × ValueError: no latitude (add.py:8 in handle_entity)

Empty rows are left out. If the terminal has few lines, so are the least important rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from bulkup.core.events import Failure, FailureGroup, Progress
from bulkup.core.failure_groups import FailureGroups
from bulkup.core.vitals import Vitals
from bulkup.report.bar import bar_line, compact_lines, done_line
from bulkup.report.progress_text import commits, failure_group, time_shares, trouble, waiting
from bulkup.report.rate_history import RateHistory, sparkline
from bulkup.report.shard_bars import shard_rows, shards_line
from bulkup.report.status import Work
from bulkup.report.text import clean, per_second

NARROW = 60
"""With fewer columns, a row has one fact."""
WIDE = 140
"""From this width on, two rows share a line."""
MOST_ROWS = 16
"""Even on a tall terminal: what is printed above must stay in sight."""
LATEST_GROUPS = 3
_LABEL = 8
_INDENT = "  "
_LONGEST_LINE = 300


class Row(NamedTuple):
    weight: int
    """Rows with the lowest weight are left out first."""
    text: Text


class LiveView:
    """`handled`: entities that were handled before this runner began."""

    def __init__(self, work: Work, handled: int = 0) -> None:
        self._work = work
        self._rates = RateHistory(handled)
        self._failures = FailureGroups()

    def failed(self, failure: Failure) -> None:
        self._failures.add(failure)

    def saw(self, progress: Progress) -> Frame:
        """Take in a progress event, and return the frame to draw."""
        self._rates.add(progress.elapsed_s, max(progress.handled, progress.counts.handled))
        return Frame(progress, self._work, self._rates, self._failures.latest_first(LATEST_GROUPS))


@dataclass(frozen=True)
class Frame:
    """Draws itself at the size that the terminal has at that moment."""

    progress: Progress
    work: Work
    rates: RateHistory
    failures: tuple[FailureGroup, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        room = max(2, min(MOST_ROWS, console.size.height - 2))
        for line in self._lines(width, room, ascii_only=options.ascii_only):
            line.truncate(width, overflow="ellipsis")
            line.no_wrap = True
            yield line

    def _lines(self, width: int, room: int, *, ascii_only: bool) -> Iterator[Text]:
        progress, work = self.progress, self.work
        if width < NARROW:
            yield from compact_lines(
                progress, width, verifies=work.verifies, room=room, ascii_only=ascii_only
            )
            return
        yield bar_line(progress, work.title, width, ascii_only=ascii_only)
        rows = [*self._rows(width, room - 1, ascii_only=ascii_only)]
        for row in _most_important(rows, room - 1):
            yield row.text

    def _rows(self, width: int, room: int, *, ascii_only: bool) -> Iterator[Row]:
        progress, vitals = self.progress, self.progress.vitals
        yield Row(9, done_line(progress, dry_run=self.work.dry_run, verifies=self.work.verifies))
        if vitals is not None:
            facts = list(self._facts(vitals, width, ascii_only=ascii_only))
            yield from _beside(facts, width) if width >= WIDE else facts
        for number, group in enumerate(self.failures):
            weight, label = (1, "") if number else (6, "failed")
            yield Row(weight, _labelled(label, failure_group(group)))
        if vitals is not None and len(vitals.shards) + vitals.shards_waiting > 1:
            yield Row(3, _labelled("shards", shards_line(vitals)))
            left = room - 6 - len(self.failures)
            inner = width - len(_INDENT)
            for line in shard_rows(vitals, inner, most=left, ascii_only=ascii_only):
                yield Row(2, Text(_INDENT).append_text(line))
        if why := waiting(progress):
            yield Row(10, Text(f"{_INDENT}{why}", "yellow"))

    def _facts(self, vitals: Vitals, width: int, *, ascii_only: bool) -> Iterator[Row]:
        room = (width // 2 if width >= WIDE else width) - len(_INDENT) - _LABEL
        yield Row(8, _labelled("rate", self._rate(room, ascii_only=ascii_only)))
        if vitals.in_flight_limit:
            yield Row(7, _labelled("commits", commits(vitals)))
        if resent := trouble(vitals):
            yield Row(5, _labelled("resent", resent))
        if time := time_shares(vitals):
            yield Row(4, _labelled("time", time))

    def _rate(self, room: int, *, ascii_only: bool) -> str:
        said = per_second(self.progress.rate)
        if self.progress.rate_limit:
            said += f"; {clean(self.progress.rate_limit, _LONGEST_LINE)}"
        cells = min(max(room - len(said) - 1, 0), 100)
        if cells < 8:
            return said
        line = sparkline(self.rates.rates(cells), ascii_only=ascii_only)
        return f"{line} {said}" if line else said


def _most_important(rows: list[Row], room: int) -> list[Row]:
    while len(rows) > room:
        least = min(row.weight for row in rows)
        last = max(number for number, row in enumerate(rows) if row.weight == least)
        del rows[last]
    return rows


def _beside(rows: Iterable[Row], width: int) -> Iterator[Row]:
    """Two rows side by side, each with half of the width."""
    half = width // 2
    waiting: Row | None = None
    for row in rows:
        if waiting is None:
            waiting = row
            continue
        waiting.text.truncate(half - 1, overflow="ellipsis", pad=True)
        both = waiting.text.append(" ").append_text(row.text)
        yield Row(max(waiting.weight, row.weight), both)
        waiting = None
    if waiting is not None:
        yield waiting


def _labelled(label: str, text: str) -> Text:
    return Text.assemble(_INDENT, (f"{label:<{_LABEL}}", "dim"), text[:_LONGEST_LINE])
