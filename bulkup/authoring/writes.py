"""The writes that an updater may ask for while it handles an entity, and the sink for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.cloud.datastore import Entity, Key

NOTHING: Any = object()


class WriteSink:
    """Takes an updater's writes and log lines while it handles one entity."""

    own: Any = NOTHING
    """The handled entity. It is written most often, and `put` does not have to check it."""

    may_change_after_put = True
    """The handler may still run after a put of the entity. False once a function
    has returned it (not while a generator runs)."""

    reads: Any = None
    """Where the updater's client records what the handler reads (`datastore/reads.py`)."""

    serves_many = False
    """True if several calls run at once; `for_caller` tells them apart."""

    is_shared = False
    """A handler has started threads, so each put, delete and log is checked for its thread."""

    on_share: Callable[[], None] = staticmethod(lambda: None)

    def share(self) -> None:
        self.is_shared = True
        self.on_share()

    def put(self, entity: Entity) -> None:
        raise NotImplementedError

    def delete(self, key: Key) -> None:
        raise NotImplementedError

    def delete_own(self) -> None:
        self.delete(key_to_delete(self.own))

    def log(self, line: str) -> None:
        raise NotImplementedError

    def for_caller(self) -> WriteSink:
        """The sink of the call that runs on this thread or task. Raises RuntimeError if none."""
        return self

    def owned_by(self, owner: Any) -> WriteSink:
        """The sink for what is written together with this entity. Raises ValueError."""
        raise ValueError(
            "owner= is for handle_batch: what handle_entity writes belongs to the entity that it "
            "was given"
        )

    def fail(self, entity: Any, error: BaseException | str) -> None:
        """Let an entity of a batch fail. Raises TypeError where a handler raises instead."""
        raise TypeError("fail is for handle_batch; in handle_entity, raise the error")


@dataclass(frozen=True)
class Delete:
    """Deletions that a function updater returns; made by `bulkup.delete`."""

    keys: tuple[Key, ...] | None
    """None for the handled entity."""


class Remove:
    """The type of REMOVE. Copies and pickles as itself."""

    def __repr__(self) -> str:
        return "bulkup.REMOVE"

    def __reduce__(self) -> str:
        return "REMOVE"


REMOVE: Any = Remove()
"""In a dict that a function updater returns: `{"nickname": bulkup.REMOVE}` removes the property."""


def apply_patch(entity: Entity, patch: Mapping[Any, Any]) -> None:
    """Change the properties that a patch names, and keep all others and all index flags.

    A value replaces the whole property, even if both are nested entities.
    """
    for name, value in patch.items():
        if value is not REMOVE:
            entity[name] = value
        elif name in entity:
            del entity[name]


def key_to_delete(entity_or_key: Any) -> Key:
    """The complete key of an entity, or the key itself. Raises TypeError for anything else."""
    from google.cloud.datastore import Entity, Key

    if isinstance(entity_or_key, Entity):
        if entity_or_key.key is None:
            raise TypeError("cannot delete an entity that has no key")
        entity_or_key = entity_or_key.key
    if not isinstance(entity_or_key, Key):
        raise TypeError(f"cannot delete a {type(entity_or_key).__name__}; give an Entity or a Key")
    if entity_or_key.is_partial:
        raise TypeError("cannot delete by an incomplete key")
    return entity_or_key


def put_others(sink: WriteSink, item: Any) -> None:
    """Put one or several entities other than the handled one. Raises TypeError for a non-Entity."""
    from google.cloud.datastore import Entity

    for entity in flat(item):
        if not isinstance(entity, Entity):
            raise TypeError(f"put takes entities, not a {type(entity).__name__}{_made_of(entity)}")
        if entity.key is None:
            raise TypeError("cannot put an entity that has no key")
        sink.put(entity)


def _made_of(item: Any) -> str:
    """Advice on what to write for something that is not an Entity; may be empty."""
    from google.cloud.datastore import Key

    if isinstance(item, dict):
        return "; make one: `entity = Entity(self.client.key(kind, id))`, then `entity.update(...)`"
    if isinstance(item, Key):
        return "; put the entity that has this key, or call self.delete(key)"
    return ""


def flat(item: Any) -> Iterable[Any]:
    """The items of a collection, or the single item. An Entity, though iterable, is one item."""
    if isinstance(item, (list, tuple, set, frozenset, Iterator)):
        return item
    return (item,)
