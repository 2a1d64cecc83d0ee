"""Base classes of updaters: with a ready-made handler, or with a query that `--kind` selects."""

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
    """Base class of updaters without a query of their own. They handle the entities that the user
    selects with `--kind`, optionally narrowed by `--ancestor` and `--where`."""

    kind: str | None = None
    """The kind to handle, if the class or a parameter sets it; None if `--kind` does."""
    selected_kind = ""
    """The kind selected with `--kind`; set by the run."""

    @property
    def handled_kind(self) -> str:
        """The kind to handle; empty if none was given."""
        return self.kind or self.selected_kind

    @property
    def has_kind(self) -> bool:
        """Whether the updater has a query even without `--kind`."""
        return bool(self.kind) or type(self).get_query is not SelectionUpdater.get_query

    def get_query(self) -> Query:
        return self.client.query(kind=self.handled_kind or None)

    def check_kind(self) -> None:
        """Raise UsageError for a kind that makes no sense for this updater."""
