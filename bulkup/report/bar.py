"""The bar of a run's progress, and the lines around it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from bulkup.core.events import Progress
from bulkup.report.progress_text import (
    done_parts,
    handled_by_now,
    moving,
    rate_limiter,
    stands_still,
    waiting,
)

MIN_BAR = 8
"""Columns. A shorter bar says nothing."""


def bar_line(progress: Progress, title: str, width: int, *, ascii_only: bool) -> Text:
    """The title, the bar, the progress and, unless another line shows it, the rate."""
    line = Text(title, "bold")
    line.truncate(24 if width >= 100 else 16, overflow="ellipsis")
    said = ", ".join(moving(progress, rate=progress.vitals is None))
    room = width - line.cell_len - len(said) - 2
    line.append(" ")
    if room >= MIN_BAR:
        line.append_text(_bar(progress, room, ascii_only=ascii_only)).append(" ")
    line.append(said, "not bold")
    return line


def _bar(progress: Progress, width: int, *, ascii_only: bool) -> Text:
    """The progress bar. Without a total, when the server cannot count, it only moves back and
    forth."""
    handled, total = handled_by_now(progress), progress.total
    if not total:
        return _pulse(width, progress.elapsed_s, ascii_only=ascii_only)
    colour = "yellow" if stands_still(progress) else "green" if handled >= total else "cyan"
    return bar(handled / total, width, colour, ascii_only=ascii_only)


def bar(share: float | None, width: int, colour: str = "cyan", *, ascii_only: bool = False) -> Text:
    """A one-line bar; dotted if `share` is not known."""
    if share is None:
        return Text(("." if ascii_only else "┄") * width, "dim not bold")
    full, half, rest = ("=", "-", "-") if ascii_only else ("━", "╸", "─")
    halves = max(0, min(2 * width, int(share * 2 * width)))
    done = full * (halves // 2) + half * (halves % 2)
    return Text.assemble((done, f"not bold {colour}"), (rest * (width - len(done)), "dim not bold"))


def _pulse(width: int, elapsed_s: float, *, ascii_only: bool) -> Text:
    """A short segment that moves from one end of the bar to the other and back."""
    piece = max(2, width // 5)
    way = max(1, width - piece)
    at = int(elapsed_s * 3) % (2 * way)
    at = min(at, 2 * way - at)
    full, rest = ("=", ".") if ascii_only else ("━", "┄")
    dim = "dim not bold"
    return Text.assemble(
        (rest * at, dim), (full * piece, "not bold cyan"), (rest * (width - at - piece), dim)
    )


def done_line(progress: Progress, *, dry_run: bool, verifies: bool) -> Text:
    """What was done so far. Includes retries and the rate limit unless other lines show them."""
    is_alone = progress.vitals is None
    parts = done_parts(progress, dry_run=dry_run, verifies=verifies, retries=is_alone)
    line = Text("  " + ", ".join(parts))
    if is_alone:
        line.append(rate_limiter(progress), "dim")
    if progress.counts.failed:
        line.highlight_regex(r"[\d,]+ (failed|not done)", "bold red")
    return line


def compact_lines(
    progress: Progress, width: int, *, verifies: bool, room: int, ascii_only: bool
) -> Iterator[Text]:
    """For a narrow terminal: the bar, then one fact per line; at most `room` lines in all."""
    handled, total = handled_by_now(progress), progress.total
    share = f" {min(handled * 100 // total, 100)}%" if total else ""
    yield _bar(progress, max(1, width - len(share)), ascii_only=ascii_only).append(share)
    facts = moving(progress, rate=True)
    facts.append(f"{progress.counts.failed:,} {'not done' if verifies else 'failed'}")
    if why := waiting(progress):
        facts.insert(1, why)
    yield from map(Text, facts[: room - 1])
