"""The progress of a run in words, for plain lines and for the live view. Does without rich, which
is slow to import."""

from __future__ import annotations

from dataclasses import asdict

from bulkup.core.events import FailureGroup, Progress
from bulkup.core.vitals import Phase, Vitals
from bulkup.report.summary_rows import others, writes
from bulkup.report.text import clean, duration, per_second, plural

WAITING_LIMIT = 300
PACE_LIMIT = 100
LONGEST_ESTIMATE_S = 30 * 86400.0
"""A longer estimate is useless, so it is not shown."""
TIME_AFTER_S = 5.0
"""Shares of less time than this fluctuate, and say nothing yet."""


def progress_line(progress: Progress, *, dry_run: bool, verifies: bool = False) -> str:
    """`12,345 of 34,006 (36%), 1,234/s, 18 s left, 12,345 written, 0 failed` and the rate limit."""
    done = done_parts(progress, dry_run=dry_run, verifies=verifies, retries=True)
    line = ", ".join((*moving(progress, rate=True), *done)) + rate_limiter(progress)
    if why := waiting(progress):
        line += f"; {why}"
    return line


def status_line(progress: Progress, *, dry_run: bool, verifies: bool = False) -> str:
    """The same with commits, retries and time shares, for a status request."""
    parts = [progress_line(progress, dry_run=dry_run, verifies=verifies)]
    vitals = progress.vitals
    if vitals is not None:
        parts += [f"commits: {commits(vitals)}"] if vitals.in_flight_limit else []
        parts += [f"sent again: {trouble(vitals)}"] if trouble(vitals) else []
        parts += [f"time: {time_shares(vitals)}"] if time_shares(vitals) else []
    return "; ".join(parts)


# --- parts ---


def handled_by_now(progress: Progress) -> int:
    return max(progress.handled, progress.counts.handled)


def stands_still(progress: Progress) -> bool:
    vitals = progress.vitals
    is_held = vitals is not None and vitals.phase in (Phase.PAUSED, Phase.HELD)
    return is_held or bool(progress.waiting)


def waiting(progress: Progress) -> str:
    """`waiting: UNAVAILABLE, ...`, `waiting for localhost:8081, 7 s` or `paused: ...`; empty while
    the run works."""
    vitals = progress.vitals
    if vitals is not None and vitals.phase in (Phase.PAUSED, Phase.HELD):
        why = clean(vitals.why, WAITING_LIMIT)
        phase = vitals.phase.value
        if not why or why.startswith(phase):  # `paused by ann@host`
            return why or phase
        return f"{phase}: {why}"
    if not progress.waiting:
        return ""
    shown = clean(progress.waiting, WAITING_LIMIT)
    return shown if shown.startswith("waiting for ") else f"waiting: {shown}"


def moving(progress: Progress, *, rate: bool) -> list[str]:
    """`12,345 of 34,006 (36%)`, `1,234/s` and `18 s left`; without an estimate, the time so far."""
    handled, total = handled_by_now(progress), progress.total
    parts = [f"{handled:,} handled"]
    if total:
        parts = [f"{handled:,} of {total:,} ({min(handled * 100 // total, 100)}%)"]
    if rate:
        parts.append(per_second(progress.rate))
    # While nothing moves, the last rate is out of date, and an estimate based on it is wrong.
    left = (total or 0) - handled
    is_known = left > 0 and left < progress.rate * LONGEST_ESTIMATE_S
    if is_known and not stands_still(progress):
        parts.append(f"{duration(round(left / progress.rate))} left")
    else:
        parts.append(f"{duration(round(progress.elapsed_s))} so far")
    return parts


def done_parts(progress: Progress, *, dry_run: bool, verifies: bool, retries: bool) -> list[str]:
    """`12,345 written`, `0 failed`, `2 retries`."""
    counts = progress.counts
    parts = [
        writes(counts.written, counts.deleted, dry_run=dry_run),
        f"{counts.failed:,} failed",
    ]
    if verifies:
        parts = [f"{counts.failed:,} not done"]
    if besides := others(counts, dry_run=dry_run):
        parts.append(besides)
    if progress.retries and retries:
        parts.append(plural(progress.retries, "retry", "retries"))
    return parts


def rate_limiter(progress: Progress) -> str:
    return f"; {clean(progress.rate_limit, PACE_LIMIT)}" if progress.rate_limit else ""


def commits(vitals: Vitals) -> str:
    """`4 of 8 in flight, median 12 ms, p99 85 ms, up to 500 entities each`."""
    parts = [f"{vitals.in_flight:,} of {vitals.in_flight_limit:,} in flight"]
    named = (("median", vitals.latency_median_s), ("p99", vitals.latency_p99_s))
    parts += [f"{name} {_short(seconds)}" for name, seconds in named if seconds is not None]
    if vitals.batch_size:
        parts.append(f"up to {plural(vitals.batch_size, 'entity', 'entities')} each")
    return ", ".join(parts)


def _short(seconds: float) -> str:
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.00095 else "under 1 ms"
    return duration(seconds)


def trouble(vitals: Vitals) -> str:
    """`3 × Commit: UNAVAILABLE; handled again: 2 conflicts`."""
    kinds = sorted(vitals.retries_by.items(), key=lambda kind: -kind[1])
    parts = [", ".join(f"{count:,} × {clean(kind)}" for kind, count in kinds)]
    if vitals.conflicts:
        parts.append(f"handled again: {plural(vitals.conflicts, 'conflict')}")
    return "; ".join(part for part in parts if part)


def time_shares(vitals: Vitals) -> str:
    """`handling 61%, committing 24%, reading 15%`."""
    spent = {name.removesuffix("_s"): seconds for name, seconds in asdict(vitals.waits).items()}
    whole = sum(spent.values())
    if whole < TIME_AFTER_S:
        return ""
    shares = sorted(((s / whole, name) for name, s in spent.items()), reverse=True)
    return ", ".join(f"{name} {share:.0%}" for share, name in shares if share >= 0.005)


def failure_group(group: FailureGroup) -> str:
    """`3 × ValueError: no latitude (add.py:8 in handle_entity)`."""
    place = group.place.rpartition("/")[2]  # the report has the folder, too
    place = f" ({clean(place)})" if place else ""
    return f"{group.count:,} × {clean(group.error)}{place}"
