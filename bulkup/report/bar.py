"""The progress of a run: as a bar of two lines, and as one plain line."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bulkup.core.events import Progress
from bulkup.report.summary_rows import others, writes
from bulkup.report.text import clean, duration, per_second, plural

WAITING_LIMIT = 300
PACE_LIMIT = 100
LONGEST_ESTIMATE_S = 30 * 86400.0
"""A longer estimate is useless, so it is not shown."""


def progress_bar(
    progress: Progress, title: str, *, dry_run: bool, verifies: bool = False
) -> RenderableType:
    """The bar, how far and how fast; below it what was written, the rate limit, and the call that
    is waited for.

    Where the server cannot count the entities, the bar pulses instead of promising an end.
    """
    handled, total = _handled(progress), progress.total
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=24)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True)
    grid.add_row(
        Text(title, "bold"),
        ProgressBar(
            total=total or None,
            completed=min(handled, total or 0),
            pulse=not total,
            animation_time=progress.elapsed_s,
            # Not rich's default red, which looks like an alarm.
            complete_style="cyan",
            finished_style="green",
            pulse_style="cyan",
        ),
        Text(", ".join(_moving(progress))),
    )
    second = Text(
        "  " + ", ".join(_done(progress, dry_run, verifies)), no_wrap=True, overflow="ellipsis"
    )
    second.append(_rate_limiter(progress), "dim")
    if progress.counts.failed:
        second.highlight_regex(r"[\d,]+ (failed|not done)", "bold red")
    if not progress.waiting:
        return Group(grid, second)
    waiting = Text(f"  {_waiting(progress.waiting)}", "yellow")
    waiting.no_wrap, waiting.overflow = True, "ellipsis"
    return Group(grid, second, waiting)


def progress_line(progress: Progress, *, dry_run: bool, verifies: bool = False) -> str:
    """`12,345 of 34,006 (36%), 1,234/s, 18 s left, 12,345 written, 0 failed` and the limit."""
    parts = *_moving(progress), *_done(progress, dry_run, verifies)
    line = ", ".join(parts) + _rate_limiter(progress)
    if progress.waiting:
        line += f"; {_waiting(progress.waiting)}"
    return line


def _handled(progress: Progress) -> int:
    return max(progress.handled, progress.counts.handled)


def _waiting(why: str) -> str:
    """`waiting: UNAVAILABLE, ...` or `waiting for localhost:8081, 7 s`."""
    shown = clean(why, WAITING_LIMIT)
    return shown if shown.startswith(("waiting for ", "paused by ")) else f"waiting: {shown}"


def _moving(progress: Progress) -> list[str]:
    handled, total = _handled(progress), progress.total
    parts = [f"{handled:,} handled"]
    if total:
        parts = [f"{handled:,} of {total:,} ({min(handled * 100 // total, 100)}%)"]
    parts.append(per_second(progress.rate))
    # While a call is retried the last rate is out of date, and an estimate made of it is wrong.
    left = (total or 0) - handled
    if left > 0 and left < progress.rate * LONGEST_ESTIMATE_S and not progress.waiting:
        parts.append(f"{duration(round(left / progress.rate))} left")
    else:
        parts.append(f"{duration(round(progress.elapsed_s))} so far")
    return parts


def _done(progress: Progress, dry_run: bool, verifies: bool) -> list[str]:
    counts = progress.counts
    parts = [
        writes(counts.written, counts.deleted, dry_run=dry_run),
        f"{counts.failed:,} failed",
    ]
    if verifies:
        parts = [f"{counts.failed:,} not done"]
    if besides := others(counts, dry_run=dry_run):
        parts.append(besides)
    if progress.retries:
        parts.append(plural(progress.retries, "retry", "retries"))
    return parts


def _rate_limiter(progress: Progress) -> str:
    return f"; {clean(progress.rate_limit, PACE_LIMIT)}" if progress.rate_limit else ""
