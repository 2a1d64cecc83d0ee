"""Changes to which properties are indexed."""

from __future__ import annotations

from dataclasses import dataclass

from google.cloud.datastore import Entity

from bulkup.transforms.transform import Transform, checked_names


@dataclass(frozen=True)
class _SetIndexed(Transform):
    names: tuple[str, ...]
    indexed: bool

    def __call__(self, entity: Entity) -> Entity:
        if self.is_done(entity):
            return entity
        excluded = entity.exclude_from_indexes
        for name in self._wrong(entity):
            if self.indexed:
                excluded.discard(name)
            else:
                excluded.add(name)
        return entity

    def is_done(self, entity: Entity) -> bool:
        return not self._wrong(entity)

    def _wrong(self, entity: Entity) -> list[str]:
        excluded = entity.exclude_from_indexes
        return [
            name
            for name in self.names
            # Datastore keeps the flag of an array on its elements, so an empty one has none.
            if name in entity and (name in excluded) is self.indexed and entity[name] != []
        ]


def index(*names: str) -> Transform:
    """Index properties, where they are there. An indexed string has at most 1,500 bytes: an entity
    with a longer one fails."""
    return _SetIndexed(checked_names("properties", names), True)


def unindex(*names: str) -> Transform:
    """Exclude properties from all indexes, where they are there."""
    return _SetIndexed(checked_names("properties", names), False)
