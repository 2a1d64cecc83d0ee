"""A bar for each shard in progress, several side by side."""

from __future__ import annotations

from rich.text import Text

from bulkup.core.vitals import ShardVitals, Vitals
from bulkup.report.bar import bar
from bulkup.report.text import plural

CELL = 36
"""Columns per shard; 80 columns have room for two."""
MOST_ROWS = 4
_GAP = 2
_BAR = 16


def shards_line(vitals: Vitals) -> str:
    """`8 in progress, 3 waiting, 20 done`."""
    counts = (
        (len(vitals.shards), "in progress"),
        (vitals.shards_waiting, "waiting"),
        (vitals.shards_done, "done"),
    )
    return ", ".join(f"{count:,} {what}" for count, what in counts if count)


def shard_rows(vitals: Vitals, width: int, *, most: int, ascii_only: bool) -> list[Text]:
    """At most `most` rows. Shards that do not fit are added up in the last row."""
    columns = max(1, (width + _GAP) // (CELL + _GAP))
    rows = min(most, MOST_ROWS)
    if rows < 1:
        return []
    shown, rest = vitals.shards, vitals.shards[:0]
    if len(shown) > rows * columns:
        if rows == 1:
            return [_rest(shown)]
        room = (rows - 1) * columns
        shown, rest = shown[:room], shown[room:]
    cells = [_cell(shard, ascii_only) for shard in shown]
    lines = [
        Text(" " * _GAP).join(cells[at : at + columns]) for at in range(0, len(cells), columns)
    ]
    return [*lines, _rest(rest)] if rest else lines


def _rest(shards: tuple[ShardVitals, ...]) -> Text:
    handled = sum(shard.handled for shard in shards)
    return Text(f"and {plural(len(shards), 'more shard')}, {handled:,} handled in them", "dim")


def _cell(shard: ShardVitals, ascii_only: bool) -> Text:
    """`  12 ━━━━━━━━━━━━━━━━ 62%      12,013`, always CELL columns wide."""
    line = Text(f"{shard.id:>4} ")
    line.append_text(bar(shard.share, _BAR, ascii_only=ascii_only))
    share = "" if shard.share is None else f"{int(shard.share * 100)}%"
    line.append(f"{share:>5}{shard.handled:>10,}")
    line.truncate(CELL)
    return line
