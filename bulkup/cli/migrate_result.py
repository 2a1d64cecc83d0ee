"""The result of `bulkup migrate`: as JSON, as a sentence, and as a table of namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bulkup.core.errors import BulkupError
from bulkup.core.model import RunState
from bulkup.report.namespace_grid import NOTE_LIMIT, Grid, namespace_name, namespace_names
from bulkup.report.text import clean, plural

if TYPE_CHECKING:
    from bulkup.migrations.apply import MigrateResult
    from bulkup.migrations.preview import Preview
    from bulkup.namespaces.migrate_all import MigrateAllResult


def preview_line(name: str, preview: Preview) -> str:
    """What a migration would do, in one line."""
    name = clean(name)
    if isinstance(preview, BulkupError):
        return f"{name}: cannot run: {clean(preview.message)}"
    counts = preview.counts
    parts = [f"{counts.puts:,} would be written"]
    if counts.deletes:
        parts.append(f"{counts.deletes:,} deleted")
    if counts.unchanged:
        parts.append(f"{counts.unchanged:,} unchanged")
    if counts.failed:
        error = f" ({clean(preview.failures[0].error, NOTE_LIMIT)})" if preview.failures else ""
        parts.append(f"{counts.failed:,} would fail{error}")
    handled = plural(counts.handled, "entity", "entities")
    line = f"{name}: {handled}, {', '.join(parts)}"
    if preview.state is RunState.FINISHED:
        return line
    why = preview.reason.removeprefix("stopped ")
    return f"{line}; it would stop: {clean(why, NOTE_LIMIT)}"


def to_json(result: MigrateResult, same_command: str) -> dict[str, Any]:
    """The fields of a `migrate` line."""
    is_left, would_stop = result.left or result.reason, result.dry_run and result.exit_code
    return {
        "applied": result.applied,
        "stopped_at": result.stopped_at or "",
        "reason": result.reason or "",
        "left": result.left,
        "exit_code": int(result.exit_code),
        "next_steps": [same_command] if is_left and not would_stop else [],
        **({"dry_run": True} if result.dry_run else {}),
    }


def sentence_of(result: MigrateResult, same_command: str) -> str:
    """The result in a sentence. Clean, like everything that this file returns except JSON."""
    if result.dry_run and result.left:
        left = plural(len(result.left), "migration")
        each = (
            ", each previewed without the changes of those before it"
            if len(result.left) > 1
            else ""
        )
        return f"{left} to apply{each}; nothing was written.{_apply(result, same_command)}"
    applied = f"{plural(len(result.applied), 'migration')} applied"
    reason = "" if result.error is not None else clean(result.reason or "")
    continued = f"Continue with: {clean(same_command)}"
    if result.left:
        where = f", stopped at {clean(result.stopped_at)}" if result.stopped_at else ""
        why = f": {reason}" if reason else ""
        return f"{applied}, {len(result.left)} left{where}{why}. {continued}"
    if reason:
        return f"{applied}; {reason}. {continued}"
    return f"{applied}, none left." if result.applied else "Nothing is pending."


def _apply(result: MigrateResult | MigrateAllResult, same_command: str) -> str:
    """How to apply the migrations; empty if the dry run has found what would stop them."""
    return "" if result.exit_code else f" Apply with: {clean(same_command)}"


def all_to_json(result: MigrateAllResult, same_command: str) -> dict[str, Any]:
    """The fields of a `group` line."""
    is_left = result.stopped_at is not None or result.pending or result.appeared
    would_stop = result.exit_code and any(one.dry_run for _, one in result.results)
    return {
        # One command continues all of them: it is in `next_steps` below.
        "namespaces": [
            {**to_json(one, ""), "type": "namespace", "namespace": namespace, "next_steps": []}
            for namespace, one in result.results
        ],
        "stopped_at": result.stopped_at,
        "reason": result.reason or "",
        "pending": result.pending,
        "appeared": result.appeared,
        "exit_code": int(result.exit_code),
        "next_steps": [same_command] if is_left and not would_stop else [],
    }


def sentence_of_all(result: MigrateAllResult, same_command: str) -> str:
    applied = sum(len(one.applied) for _, one in result.results)
    sentence = (
        f"{plural(applied, 'migration')} applied in {plural(len(result.namespaces), 'namespace')}"
    )
    pending, command = namespace_names(result.pending), clean(same_command)
    if any(one.dry_run and one.left for _, one in result.results):
        return (
            f"Migrations are to be applied in {pending}; nothing was written."
            f"{_apply(result, same_command)}"
        )
    if result.stopped_at is not None:
        reason = f": {clean(result.reason)}" if result.reason else ""
        return (
            f"{sentence}, stopped{reason}. Migrations are left in {pending}. "
            f"Continue with: {command}"
        )
    if result.pending:
        sentence += f"; migrations are left in {pending}"
    if result.appeared:
        return (
            f"{sentence}. Namespaces that appeared during the run and were not processed: "
            f"{namespace_names(result.appeared)}. Apply there too with: {command}"
        )
    return f"{sentence}." if applied or result.pending else "Nothing is pending."


def grid_of(result: MigrateAllResult) -> Grid:
    """A row for each namespace."""
    results = dict(result.results)
    rows = []
    for namespace in result.namespaces:
        one = results.get(namespace)
        if one is None:
            rows.append((namespace_name(namespace), "not begun", "", "", ""))
            continue
        state = "stopped" if namespace == result.stopped_at else "done"
        note = ": ".join(part for part in (one.stopped_at, one.reason) if part)
        applied, left = f"{len(one.applied):,}", f"{len(one.left):,}"
        rows.append((namespace_name(namespace), state, applied, left, clean(note, NOTE_LIMIT)))
    head = ("Namespace", "State", "Applied", "Left", "")
    return Grid(head, tuple(rows), frozenset({2, 3}))
