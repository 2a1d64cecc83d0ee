"""`bulkup migrate --dry-run`: handle the entities of each pending migration, and write nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bulkup.core.errors import BulkupError, Exit, StopAskedError
from bulkup.core.events import Report, Warned, WarningKind
from bulkup.datastore.containment import contained
from bulkup.datastore.target import Target
from bulkup.migrations.record import load_migration
from bulkup.migrations.status import MigrationEntry
from bulkup.runs.context import RunContext
from bulkup.runs.execute import execute_dry_run
from bulkup.runs.missing_kind import check_kind
from bulkup.runs.prepare import prepare_on

Preview = Report | BulkupError
"""What would happen, or why the migration cannot run."""

Params = Mapping[str, Mapping[str, str]]
"""The parameters of each migration, by its name."""


def preview_each(
    target: Target,
    entries: Sequence[MigrationEntry],
    params: Params,
    context: RunContext,
    on_preview: Callable[[MigrationEntry, Preview], None],
) -> Exit:
    """Preview all migrations, even if one fails. Each is previewed on the current data, without the
    changes of those before it. Returns the worst exit code.

    Raises StopAskedError.
    """
    worst = Exit.DONE
    with context.stop.listening():
        for entry in entries:
            context.stop.raise_if_asked()
            try:
                preview: Preview = _preview(target, entry, params.get(entry.name, {}), context)
            except StopAskedError:
                raise
            except BulkupError as error:
                preview = error
            on_preview(entry, preview)
            worst = worse_of(worst, preview.exit_code)
            if isinstance(preview, Report) and preview.exit_code in (Exit.SIGINT, Exit.SIGTERM):
                break
    return worst


def _preview(
    target: Target, entry: MigrationEntry, params: Mapping[str, str], context: RunContext
) -> Report:
    with (
        contained(context.containment(target)),
        prepare_on(target, load_migration(entry, params), context) as prepared,
    ):
        if entry.record is None:
            check_kind(prepared)
        else:
            message = (
                f"{entry.name} has started; without --dry-run it resumes after the "
                f"{entry.record.counts.handled:,} entities that are done"
            )
            prepared.warnings.append(Warned(message, WarningKind.UNFINISHED_RUN))
        return execute_dry_run(prepared, prepared.new_run_info(None, prepared.identity))


def worse_of(one: Exit, other: Exit) -> Exit:
    """The worse of two exit codes. DONE is best, then DONE_WITH_FAILURES; all others are equally
    bad, and the first one wins."""
    rank = {Exit.DONE: 0, Exit.DONE_WITH_FAILURES: 1}
    return other if rank.get(other, 2) > rank.get(one, 2) else one
