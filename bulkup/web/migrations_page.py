"""The page of the migrations in a folder, with their state in a target's ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from bulkup.migrations.status import FolderStatus, MigrationEntry, MigrationStatus, moved
from bulkup.report.text import plural
from bulkup.web.board import Board
from bulkup.web.regions import Region, region
from bulkup.web.render import render

NOT_ASKED = (
    "Which migrations are applied is in Datastore, which is not asked. For that, end bulkup serve "
    "and start it with --all and the options that name a target."
)


@dataclass(frozen=True)
class Row:
    name: str
    state: str
    run_id: str = ""
    handled: int | None = None
    who: str = ""
    when: datetime | None = None
    note: str = ""


def migrations_regions(board: Board, base: str, *, wait_s: float = 0.0) -> dict[str, Region]:
    view = board.ledger(wait_s=wait_s)
    if view is None:
        return _regions(base, [NOT_ASKED])
    lines = [f"Datastore could not be read: {view.error}"] if view.error else []
    if view.target is None:
        return _regions(base, lines or ["Reading the ledger."])
    status = view.migrations
    if status is None:
        return _regions(base, [*lines, f"The folder of migrations: {view.folder_error}"])
    lines += [
        f"{moved(status, entry)}."
        for entry in status.entries
        if entry.is_gone or entry.status is MigrationStatus.RENAMED
    ]
    return _regions(base, lines, status)


def _regions(
    base: str, lines: Sequence[str], status: FolderStatus | None = None
) -> dict[str, Region]:
    rows = [] if status is None else [_row(entry) for entry in status.entries]
    if status is not None and not rows:
        lines = [*lines, f"There are no migrations in {str(status.folder.path)!r}."]
    html = render(
        "migrations_region.html",
        base=base,
        lines=lines,
        rows=rows,
        caption=f"Migrations on {status.target}" if status else "",
        verdict=_verdict(status) if status else "",
    )
    return {"migrations": region(html)}


def _verdict(status: FolderStatus) -> str:
    if status.all_applied:
        return "Everything is applied."
    to_apply = sum(entry.needs_applying for entry in status.entries)
    wrong = sum(
        not entry.needs_applying and entry.status is not MigrationStatus.APPLIED
        for entry in status.entries
    )
    return f"{plural(to_apply, 'migration')} to apply, {wrong} wrong."


def _row(entry: MigrationEntry) -> Row:
    record = entry.record
    if record is None:
        return Row(entry.name, entry.status.value)
    started = datetime.fromisoformat(record.run_info.created)
    ended = datetime.fromtimestamp(record.ended, timezone.utc) if record.ended else None
    holder, migration = record.lease.holder, record.migration
    is_running = entry.status is MigrationStatus.RUNNING
    return Row(
        entry.name,
        entry.status.value,
        record.run_info.run_id,
        record.counts.handled,
        holder.who if holder else "",
        started if is_running or ended is None else ended,
        "; ".join(filter(None, _notes(entry, migration.marked if migration else None))),
    )


def _notes(entry: MigrationEntry, marked: str | None) -> Sequence[str | None]:
    record = entry.record
    has_stopped = entry.status in (MigrationStatus.FAILED, MigrationStatus.INTERRUPTED)
    reason = (record.reason or "its process was killed") if has_stopped and record else None
    same_code = f"{entry.same_code[0]} has its code" if entry.same_code else None
    return reason, same_code, marked
