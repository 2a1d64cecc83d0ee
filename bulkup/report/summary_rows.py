"""The table of a summary: names and values."""

from __future__ import annotations

from datetime import datetime, timezone

from bulkup.core.errors import Exit
from bulkup.core.events import Counts, GateResult, Report, RunState
from bulkup.core.visible import assignment
from bulkup.report.text import clean, moment, per_second, plural
from bulkup.report.verification_wording import verified_rows

EXIT_MEANINGS = {
    Exit.DONE: "done",
    Exit.FAILED: "failed",
    Exit.USAGE: "wrong usage",
    Exit.DONE_WITH_FAILURES: "done, but some entities failed",
    Exit.PENDING: "something is pending or wrong",
    Exit.NOT_FOUND: "not found",
    Exit.HELD: "held by another runner",
    Exit.CANCELLED: "cancelled",
    Exit.LIMIT: "stopped at a limit",
    Exit.SIGINT: "interrupted",
    Exit.SIGTERM: "terminated",
}


def rows_of(report: Report) -> list[tuple[str, str]]:
    """Only the rows that have a value."""
    counted = _count_rows(report) if report.verification is None else verified_rows(report)
    rows = (*counted, *_run_rows(report))
    return [(name, value) for name, value in rows if value]


def _count_rows(report: Report) -> list[tuple[str, str | None]]:
    counts = report.counts.reconciled()
    handled = f"{counts.handled:,}"
    if report.total and report.state is not RunState.FINISHED:
        share = min(counts.handled / report.total, 1)
        handled += f" of {report.total:,} ({int(share * 100)}%)"
    if report.not_done:
        all_of_them = report.not_done >= counts.handled
        handled += f", {'none' if all_of_them else f'{counts.handled - report.not_done:,}'} done"
    return [
        ("Handled", handled),
        ("Would write" if report.dry_run else "Written", f"{counts.written:,}"),
        ("Would delete" if report.dry_run else "Deleted", _if_any(counts.deleted)),
        ("Unchanged", _if_any(counts.unchanged, "(returned unchanged; no write needed)")),
        ("Left alone", _if_any(counts.left_alone, "(the updater did not put or delete these)")),
        ("Vanished", _if_any(counts.vanished, "(deleted by others during the run; not failures)")),
        ("Failed", _failed(report)),
        ("Not written", _if_any(counts.unwritten, "(changed by the updater and not put after it)")),
        ("Others", _others(counts, dry_run=report.dry_run)),
        (
            "Conflicts",
            _if_any(counts.conflicts, "(changed by others during the run; handled again)"),
        ),
        ("Retries", f"{plural(report.retries, 'call')} sent again" if report.retries else None),
        ("Operations", _operations(report)),
        ("Ranges", _ranges(report)),
    ]


def _ranges(report: Report) -> str | None:
    """`12 of 64 finished (added up 2026-11-29 09:00:15 UTC)`."""
    seen = report.ranges
    if seen is None or not seen.total:
        return None
    added_up = moment(datetime.fromtimestamp(seen.at, timezone.utc)) if seen.at else ""
    return f"{seen.finished:,} of {seen.total:,} finished" + (
        f" (counts of all processes, added up {added_up})" if added_up else ""
    )


def _others(counts: Counts, *, dry_run: bool) -> str | None:
    besides = others(counts, dry_run=dry_run)
    if besides and counts.deleted and counts.other_puts:
        besides += " (one with a new key counts as deleted, and as written here)"
    return besides


def _operations(report: Report) -> str | None:
    if report.operations is None or report.dry_run:
        return None
    counted, predicted = report.operations.counted, report.operations.predicted
    parts = [
        f"{getattr(counted, name):,} {name} ({getattr(predicted, name):,} predicted)"
        for name in ("reads", "writes", "deletes")
        if getattr(counted, name) or getattr(predicted, name)
    ]
    if counted.index_updates is not None:
        parts.append(f"{counted.index_updates:,} index updates")
    return ", ".join(parts) + (" by this process" if report.runners > 1 else "")


def _failed(report: Report) -> str:
    since = f" ({report.retried:,} handled since, by retries)" if report.retried else ""
    return f"{report.counts.failed:,}{since}"


def _if_any(count: int, meaning: str = "") -> str | None:
    return f"{count:,} {meaning}".rstrip() if count else None


def others(counts: Counts, *, dry_run: bool) -> str | None:
    """What handlers wrote besides the entity they were given; None: nothing."""
    if not (counts.other_puts or counts.other_deletes):
        return None
    return f"{writes(counts.other_puts, counts.other_deletes, dry_run=dry_run)} besides these"


def writes(written: int, deleted: int, *, dry_run: bool) -> str:
    """`34,006 written, 5 deleted`."""
    parts = []
    if written or not deleted:
        parts.append(f"would write {written:,}" if dry_run else f"{written:,} written")
    if deleted:
        parts.append(f"would delete {deleted:,}" if dry_run else f"{deleted:,} deleted")
    return ", ".join(parts)


def gate_passed(gate: GateResult) -> str:
    """`clean: a dry pass of 7 entities would write 7, 0 failed; check_before holds`."""
    counts = gate.counts
    entities = plural(counts.handled, "entity", "entities")
    would = writes(counts.written, counts.deleted, dry_run=True)
    besides = others(counts, dry_run=True)
    checked = "; check_before holds" if gate.checked else ""
    return (
        f"clean: a dry pass of {entities} {would}, {f'{besides}, ' if besides else ''}0 failed"
        f"{checked}"
    )


def _run_rows(report: Report) -> list[tuple[str, str | None]]:
    about = f" · {report.description}" if report.description else ""
    params = ", ".join([clean(assignment(name, value)) for name, value in report.params.items()])
    is_running, resumed = report.state is RunState.RUNNING, report.runners > 1
    ended_badly = report.exit_code is not Exit.DONE and not is_running
    return [
        ("Rate", _rate(report)),
        ("Started", moment(report.started)),
        ("Ended", None if is_running else moment(report.ended)),
        ("Resumed", plural(report.runners - 1, "time") if resumed else None),
        ("Gate", _gate(report)),
        ("Plan", _plan(report)),
        ("Updater", clean(f"{report.updater}{about}")),
        ("Target", clean(str(report.target))),
        ("Namespaces", _namespaces(report) if report.spaces else None),
        ("Parameters", params),
        ("Selection", clean(str(report.selection))),
        ("Group" if report.spaces else "Run", clean(report.run_id)),
        ("After run", clean(report.predecessor) if report.predecessor else None),
        ("Then run", clean(report.successor) if report.successor else None),
        ("Pass", _pass(report)),
        ("Retry of", clean(report.retry_of) if report.retry_of else None),
        ("Retried by", ", ".join(map(clean, report.retried_by)) or None),
        ("Run state", clean(report.state_file) if report.state_file else None),
        ("Exit code", _exit(report.exit_code) if ended_badly else None),
    ]


def _gate(report: Report) -> str | None:
    if report.gate is None or not report.gate.passed:
        return None
    again = "; not repeated on resume" if report.runners > 1 else ""
    return gate_passed(report.gate) + again


def _plan(report: Report) -> str | None:
    plan = report.plan
    if plan is None:
        return None
    kept = "as predicted"
    if plan.drift:  # if the drift stopped the run, the summary says more above
        kept = "drifts" if report.state is RunState.STOPPED else f"drifts: {plan.drift}"
    elif report.state is not RunState.FINISHED:
        kept += " so far"
    approved = ""
    if plan.approved_by:
        when = datetime.fromtimestamp(plan.approved_at, timezone.utc)
        approved = f"; approved by {plan.approved_by}, {moment(when)}"
    return clean(f"{plan.plan_id}: {kept}{approved}")


def _pass(report: Report) -> str | None:
    """`3 of --until-clean (the passes wrote 120, 3, 0)`."""
    if report.passes is None:
        return None
    written = ", ".join(f"{count:,}" for count in (*report.passes, report.counts.writes))
    number = len(report.passes) + 1
    wrote = "the passes wrote" if report.passes else "it wrote"
    return f"{number} of --until-clean ({wrote} {written})"


def _namespaces(report: Report) -> str:
    count = len(report.spaces)
    over = sum(1 for space in report.spaces if space.state is not None and space.state.is_over)
    return f"{count:,}" if over in (0, count) else f"{over:,} of {count:,} done"


def _rate(report: Report) -> str | None:
    """None where it would mislead: the time is only this runner's, the counts are those of all."""
    if report.runners > 1 or report.elapsed_s < 1 or report.spaces or report.ranges:
        return None
    return f"{per_second(report.counts.handled / report.elapsed_s)} on average"


def _exit(code: Exit) -> str:
    return f"{int(code)} ({EXIT_MEANINGS[code]})"
