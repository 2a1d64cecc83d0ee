"""What all built-in updaters have in common."""

from __future__ import annotations

from google.cloud.datastore import Entity

from bulkup.authoring.base_updaters import BulkDelete, BulkPut, SelectionUpdater
from bulkup.authoring.param import param
from bulkup.transforms.transform import Transform, checked_kind


class BuiltIn(SelectionUpdater):
    """An updater for the entities that the user selects. A subclass may set the kind, and its
    parameters, as class attributes: `kind = "Person"`."""

    idempotent = True

    kind: str | None = param(None, help="the kind to handle, where --kind does not say it")

    def check_kind(self) -> None:
        checked_kind("kind", self.handled_kind)


class Change(BuiltIn):
    """Applies a transform to each entity."""

    def __init__(self) -> None:
        self._transform = self.transform()

    def transform(self) -> Transform:
        """The transform to apply. Raises UsageError for parameters that make no sense."""
        raise NotImplementedError

    def handle_entity(self, entity: Entity) -> None:
        self.put(self._transform(entity))

    def is_done(self, entity: Entity) -> bool:
        return self._transform.is_done(entity)


class BulkPutKind(BuiltIn, BulkPut):
    """Put every entity again as it is, so that its index entries are written again."""

    idempotent = False


class BulkDeleteKind(BuiltIn, BulkDelete):
    """Delete every entity of the kind."""
