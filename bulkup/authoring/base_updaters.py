"""Updaters to derive from: they have the handler, or what `--kind` selects as their query."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulkup.authoring.updater import Updater

if TYPE_CHECKING:
    from google.cloud.datastore import Entity, Query


class BulkPut(Updater):
    """Put every entity of the query again, changed or not (to rebuild indexes, for example)."""

    rewrite_unchanged = True

    def handle_entity(self, entity: Entity, /) -> None:
        self.put(entity)


class BulkDelete(Updater):
    """Delete every entity of the query.

    A keys-only query is cheaper, but its deletes are not guarded: keys come without versions, so an
    entity that somebody changes meanwhile is deleted too.
    """

    def handle_entity(self, entity: Entity, /) -> None:
        self.delete(entity)


class SelectionUpdater(Updater):
    """Base class of updaters without a query of their own: they handle what the user selects with
    `--kind`, and perhaps `--ancestor` and `--where`."""

    kind: str | None = None
    """The kind to handle, where the class or a parameter says it; None: `--kind` does."""
    selected_kind = ""
    """The kind that was selected with `--kind`; the run sets it."""

    @property
    def handled_kind(self) -> str:
        """Empty: none was given."""
        return self.kind or self.selected_kind

    @property
    def has_kind(self) -> bool:
        """Whether it has a query without a selection."""
        return bool(self.kind) or type(self).get_query is not SelectionUpdater.get_query

    def get_query(self) -> Query:
        return self.client.query(kind=self.handled_kind or None)

    def check_kind(self) -> None:
        """Raise UsageError for a kind that makes no sense for it."""
