"""What all built-in updaters have in common."""

from __future__ import annotations

from google.cloud.datastore import Entity, Query

from bulkup.authoring.param import param
from bulkup.authoring.updater import BulkDelete, BulkPut, Updater
from bulkup.core.errors import UsageError
from bulkup.transforms.transform import Transform


class BuiltIn(Updater):
    """An updater for the entities of one kind, which a parameter names.

    A subclass may set parameters as class attributes: `kind = "Person"`.
    """

    idempotent = True

    kind: str | None = param(None, help="the kind of the entities")

    def get_query(self) -> Query:
        if not self.kind:
            raise UsageError("no kind was given; say which entities to handle: -p kind=Person")
        return self.client.query(kind=self.kind)


class Change(BuiltIn):
    """Applies a transform to each entity."""

    def __init__(self) -> None:
        self._transform = self.transform()

    def transform(self) -> Transform:
        """Raises UsageError for parameters that make no sense."""
        raise NotImplementedError

    def handle_entity(self, entity: Entity) -> None:
        self.put(self._transform(entity))

    def is_done(self, entity: Entity) -> bool:
        return self._transform.is_done(entity)


class PutAgain(BuiltIn, BulkPut):
    """Put every entity again as it is, so that its index entries are written again."""

    idempotent = False


class DeleteAll(BuiltIn, BulkDelete):
    """Delete every entity of the kind."""
